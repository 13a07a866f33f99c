//! Changes are heard of, with who made them; lost ones are told to be lost.

use std::time::Duration;

use kernel::conntrack::{Conntrack, Event, Filter, MarkChange, Watch};
use testbed::Namespace;

use super::create::{Wanted, create};
use super::world::{Family, World, await_that, dump, say};
use crate::support;

const BIT: u32 = 0x10_0000;
const SHORT: Duration = Duration::from_millis(200);

fn watch(namespace: &Namespace, buffer: usize) -> Watch {
    let opened = namespace.run(|| Watch::open(buffer)).unwrap();
    opened.unwrap()
}

fn open(namespace: &Namespace) -> Conntrack {
    namespace.run(Conntrack::open).unwrap().unwrap()
}

fn wanted(count: u16) -> Vec<Wanted> {
    let of = |port| Wanted {
        source: ("10.0.0.1".parse().unwrap(), 10_000 + port),
        destination: ("10.0.0.2".parse().unwrap(), 80),
        protocol: 17,
        zone: 0,
        mark: 1,
    };
    (0..count).map(of).collect()
}

/// Changes the marks of all entries there are.
fn change_all(conntrack: &mut Conntrack, change: MarkChange) {
    let entries = dump(conntrack, &Filter::default());
    let changes = entries.iter().map(|entry| (entry.connection(), change));
    assert_eq!(
        conntrack.change_marks(changes).unwrap().changed,
        entries.len()
    );
}

#[test]
fn an_own_change_is_told_from_that_of_another_program() {
    let namespace = support::namespace();
    let mut watch = watch(&namespace, 1 << 20);
    create(&namespace, &wanted(1));
    // It came into being, and did not change.
    assert_eq!(watch.wait(Duration::ZERO).unwrap(), []);
    let mut both = [open(&namespace), open(&namespace)];
    assert_ne!(both[0].port(), both[1].port());
    for (which, change, mark) in [
        (0, MarkChange::set(BIT), 1 | BIT),
        (1, MarkChange::clear(BIT), 1),
        (0, MarkChange::clear(1), 0),
    ] {
        let conntrack = &mut both[which];
        change_all(conntrack, change);
        let events = watch.wait(SHORT).unwrap();
        let [Event::Updated { entry, port }] = events.as_slice() else {
            panic!("{events:?}");
        };
        assert_eq!((entry.mark, *port), (mark, conntrack.port()));
        let now = dump(conntrack, &Filter::default())[0];
        assert_eq!((entry.connection(), entry.id), (now.connection(), now.id));
    }
}

#[test]
fn a_rule_that_sets_a_mark_is_heard_and_is_nobodys_socket() {
    let world = World::new();
    let mut watch = watch(world.node(), 1 << 20);
    let (client, server) = world.datagrams(Family::V6, 90);
    say(&client, &server);
    say(&server, &client);
    let mut conntrack = world.conntrack();
    change_all(&mut conntrack, MarkChange::set(BIT));
    let rule = "table inet marker {\nchain forward {\ntype filter hook forward priority filter\n\
                udp dport 90 ct mark set meta mark\n}\n}";
    world.node().nft(rule).unwrap();
    let connection = dump(&mut conntrack, &Filter::default())[0].connection();
    watch.events().unwrap();
    say(&client, &server);
    let mut heard = Vec::new();
    await_that(|| {
        heard.extend(watch.wait(SHORT).unwrap());
        !heard.is_empty()
    });
    let rewritten = heard.iter().any(|event| {
        matches!(event, Event::Updated { entry, port: 0 }
            if entry.connection() == connection && entry.mark == 0)
    });
    assert!(rewritten, "{heard:?}");
}

#[test]
fn lost_changes_are_an_event_and_later_ones_are_heard() {
    let namespace = support::namespace();
    let mut watch = watch(&namespace, 1);
    create(&namespace, &wanted(500));
    let mut conntrack = open(&namespace);
    change_all(&mut conntrack, MarkChange::set(BIT));
    let events = watch.wait(SHORT).unwrap();
    assert!(events.contains(&Event::Overrun), "{events:?}");
    assert!(events.len() < 500, "{}", events.len());
    while !watch.events().unwrap().is_empty() {}
    namespace.forget_connections().unwrap();
    create(&namespace, &wanted(1));
    change_all(&mut conntrack, MarkChange::set(BIT));
    let events = watch.wait(SHORT).unwrap();
    assert!(
        matches!(events.as_slice(), [Event::Updated { .. }]),
        "{events:?}"
    );
}

#[test]
fn one_call_returns_some_of_many_changes_and_the_next_the_others() {
    let namespace = support::namespace();
    let mut watch = watch(&namespace, 1 << 25);
    create(&namespace, &wanted(6000));
    change_all(&mut open(&namespace), MarkChange::set(BIT));
    let first = watch.wait(SHORT).unwrap().len();
    let second = watch.wait(SHORT).unwrap().len();
    assert!(first < 6000, "{first}");
    assert_eq!(first + second, 6000);
    assert_eq!(watch.events().unwrap(), []);
}

/// The default, 2, asks whether somebody on the machine listens, in whatever namespace: other tests do now and then.
#[test]
fn whether_entries_older_than_the_watch_are_heard_of_is_for_a_setting_to_say() {
    let namespace = support::namespace();
    let set = |value: &'static str| {
        let write = || std::fs::write("/proc/sys/net/netfilter/nf_conntrack_events", value);
        namespace.run(write).unwrap().unwrap();
    };
    for (value, heard) in [("1", 1), ("0", 0)] {
        set(value);
        create(&namespace, &wanted(1));
        let mut watch = watch(&namespace, 1 << 20);
        change_all(&mut open(&namespace), MarkChange::set(BIT));
        assert_eq!(watch.wait(SHORT).unwrap().len(), heard, "{value}");
        namespace.forget_connections().unwrap();
    }
}
