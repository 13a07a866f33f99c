//! Changes are heard of, whoever makes them; lost ones are told to be lost.

use std::time::{Duration, Instant};

use kernel::{Link, LinkEvent, LinkWatch};
use testbed::Namespace;

use crate::{hand_over, link, links, namespace, prepared};

/// Far more than it takes: the kernel tells of a change before the program that made it ends.
const LONG: Duration = Duration::from_secs(10);

fn watch(namespace: &Namespace, buffer: usize) -> LinkWatch {
    namespace.run(|| LinkWatch::open(buffer)).unwrap().unwrap()
}

/// Hears until `enough` holds of all that was heard.
fn hear(watch: &mut LinkWatch, enough: impl Fn(&[LinkEvent]) -> bool) -> Vec<LinkEvent> {
    let deadline = Instant::now() + LONG;
    let mut all = Vec::new();
    while !enough(&all) {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "{all:?}");
        all.extend(watch.wait(left).unwrap());
    }
    all
}

fn is(name: &str, what: impl Fn(&Link) -> bool) -> impl Fn(&[LinkEvent]) -> bool {
    move |all| {
        let found = |event: &LinkEvent| matches!(event, LinkEvent::Link(link) if link.name == name && what(link));
        all.iter().any(found)
    }
}

fn gone(name: &str) -> impl Fn(&[LinkEvent]) -> bool {
    move |all| {
        all.iter()
            .any(|event| matches!(event, LinkEvent::Gone(link) if link.name == name))
    }
}

#[test]
fn every_change_of_a_link_is_heard() {
    let node = namespace();
    let mut watch = watch(&node, 1 << 20);
    assert_eq!(watch.wait(Duration::ZERO).unwrap(), []);
    let mut links = links(&node);
    let ip = |words: &str| node.ip(&words.split(' ').collect::<Vec<_>>()).unwrap();
    ip("link add left type veth peer name right");
    hear(&mut watch, |all| {
        is("left", |_| true)(all) && is("right", |_| true)(all)
    });
    let of = link(&mut links, "left");
    ip("link set left up");
    hear(&mut watch, is("left", |link| link.up));
    links.set_group(&of, 78).unwrap();
    hear(&mut watch, is("left", |link| link.group == 78));
    links.set_alias(&of, "picket:x/y").unwrap();
    hear(
        &mut watch,
        is("left", |link| link.alias.as_deref() == Some("picket:x/y")),
    );
    ip("link set left down");
    ip("link set left name c");
    hear(
        &mut watch,
        is("c", |link| link.index == of.index && !link.up),
    );
    ip("link delete c");
    hear(&mut watch, |all| gone("c")(all) && gone("right")(all));
}

#[test]
fn a_port_that_leaves_its_bridge_is_not_gone() {
    let node = prepared("link add br0 type bridge\nlink add left type veth peer name right");
    let mut watch = watch(&node, 1 << 20);
    let bridge = link(&mut links(&node), "br0").index;
    node.ip(&["link", "set", "left", "master", "br0"]).unwrap();
    let port = |link: &Link| link.master.is_some_and(|m| m.bridge && m.index == bridge);
    hear(&mut watch, is("left", port));
    node.ip(&["link", "set", "left", "nomaster"]).unwrap();
    let events = hear(&mut watch, is("left", |link| link.master.is_none()));
    assert!(!gone("left")(&events), "{events:?}");
    node.ip(&["link", "delete", "left"]).unwrap();
    let events = hear(&mut watch, |all| gone("left")(all) && gone("right")(all));
    let of = |event: &&LinkEvent| matches!(event, LinkEvent::Gone(link) if link.name == "left");
    assert_eq!(events.iter().filter(of).count(), 1, "{events:?}");
}

#[test]
fn a_link_that_moves_to_another_namespace_is_gone() {
    let (node, pod) = (
        prepared("link add left type veth peer name right"),
        namespace(),
    );
    let (mut here, mut there) = (watch(&node, 1 << 20), watch(&pod, 1 << 20));
    hand_over(&node, "left", &pod, "eth0");
    hear(&mut here, gone("left"));
    hear(&mut there, is("eth0", |_| true));
}

#[test]
fn addresses_that_come_and_go_are_heard() {
    let node = prepared("link add left type veth peer name right\nlink set left up");
    let index = link(&mut links(&node), "left").index;
    let mut watch = watch(&node, 1 << 20);
    for address in ["10.0.0.1/24", "fd00::1/64"] {
        let ip = address.split('/').next().unwrap();
        let same =
            |found: &kernel::LinkAddress| found.link == index && found.address.to_string() == ip;
        node.ip(&["address", "add", address, "dev", "left"])
            .unwrap();
        hear(&mut watch, |all| {
            all.iter()
                .any(|e| matches!(e, LinkEvent::Address(found) if same(found)))
        });
        node.ip(&["address", "delete", address, "dev", "left"])
            .unwrap();
        hear(&mut watch, |all| {
            all.iter()
                .any(|e| matches!(e, LinkEvent::AddressGone(found) if same(found)))
        });
    }
}

#[test]
fn lost_events_are_an_event() {
    // Of most changes of a link that is down the kernel tells nobody.
    let node = prepared("link add left type veth peer name right\nlink set left up");
    let mut watch = watch(&node, 1);
    let mut links = links(&node);
    let of = link(&mut links, "left");
    for group in 1..100 {
        links.set_group(&of, group).unwrap();
    }
    let events = hear(&mut watch, |all| all.contains(&LinkEvent::Overrun));
    assert!(events.len() < 99, "{}", events.len());
    // And it goes on.
    links.set_group(&of, 500).unwrap();
    hear(&mut watch, is("left", |link| link.group == 500));
}
