//! Link-local addresses, which no plugin says.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use support::agent::{Agent, Manner};
use support::{Container, Node, Output, stdin};

const MAC: &str = "02:00:00:00:00:07";
/// The one that is made of it (RFC 4291, appendix A).
const OF_MAC: &str = "fe80::ff:fe00:7";

/// A routed pod, whose link-local addresses are made anew once these settings are in force.
fn pod_with(
    node: &Node,
    name: &str,
    address: &str,
    settings: &[(&str, &str)],
) -> (Container, String) {
    let (pod, result) = node.pod(name, address);
    let batch = format!("link set eth0 down\nlink set eth0 address {MAC}\n");
    pod.network.ip_batch(&batch).unwrap();
    for (key, value) in settings {
        let path = format!("/proc/sys/net/ipv6/conf/eth0/{key}");
        pod.network.run(|| fs::write(path, value)).unwrap().unwrap();
    }
    pod.network.ip(&["link", "set", "eth0", "up"]).unwrap();
    (pod, result)
}

fn add(node: &Node, pod: &Container, result: &str) -> Output {
    node.picket("ADD", pod, &stdin("1.0.0", "", result))
}

/// What is noted down of a pod, without the address that the plugin before said.
fn recorded(node: &Node, pod: &Container) -> BTreeSet<IpAddr> {
    let mut addresses = node.record(pod, "eth0").unwrap().addresses;
    addresses.retain(|address| address.is_ipv6());
    addresses
}

#[test]
fn addresses_are_those_that_the_interface_has_however_they_were_made() {
    let tentative = [("accept_dad", "1"), ("dad_transmits", "100")];
    for (name, settings, expected) in [
        ("of-mac", &[][..], Some(OF_MAC)),
        // `IN6_ADDR_GEN_MODE_RANDOM`, as one that is made of a secret.
        ("random", &[("addr_gen_mode", "3")], None),
        ("tentative", &tentative, Some(OF_MAC)),
    ] {
        let node = Node::new(&format!("link-local-{name}"));
        let _agent = Agent::start(&node, Manner::Healthy);
        let (pod, result) = pod_with(&node, "web-0", "10.1.0.7", settings);
        assert_eq!(add(&node, &pod, &result).done(), result);
        let has = pod.link_local("eth0");
        assert_eq!(recorded(&node, &pod), has.iter().copied().collect());
        assert_eq!(has.len(), 1, "{name}");
        let is_of_mac = has[0] == OF_MAC.parse::<IpAddr>().unwrap();
        assert_eq!(is_of_mac, expected.is_some(), "{name}");
        let listed = pod.network.ip(&["address", "show", "tentative"]).unwrap();
        assert_eq!(listed.contains(OF_MAC), name == "tentative", "{listed}");
    }
}

#[test]
fn all_of_them_are_noted_down_or_none_where_there_is_none() {
    let node = Node::new("link-local-count");
    let _agent = Agent::start(&node, Manner::Healthy);
    let (pod, result) = pod_with(&node, "web-0", "10.1.0.7", &[]);
    let second = "address add fe80::7/64 dev eth0 nodad\n";
    pod.network.ip_batch(second).unwrap();
    add(&node, &pod, &result).done();
    let expected = [OF_MAC, "fe80::7"].map(|address| address.parse().unwrap());
    assert_eq!(recorded(&node, &pod), expected.into());
    let (pod, result) = pod_with(&node, "web-1", "10.1.0.8", &[("disable_ipv6", "1")]);
    add(&node, &pod, &result).done();
    assert_eq!(recorded(&node, &pod), [].into());
}

#[test]
fn one_that_another_pod_has_is_left_out_and_that_is_told() {
    let node = Node::new("link-local-shared");
    let _agent = Agent::start(&node, Manner::Healthy);
    let of_mac = BTreeSet::from([OF_MAC.parse::<IpAddr>().unwrap()]);
    let (first, result) = pod_with(&node, "web-0", "10.1.0.7", &[]);
    // Its own is none of another's, also the second time.
    for _ in 0..2 {
        let added = add(&node, &first, &result);
        assert_eq!(added.stderr, "");
        added.done();
        assert_eq!(recorded(&node, &first), of_mac);
    }
    let (second, result) = pod_with(&node, "web-1", "10.1.0.8", &[]);
    let added = add(&node, &second, &result);
    let told = format!("its link-local address {OF_MAC} is also that of pod default/web-0");
    assert!(added.stderr.contains(&told), "{}", added.stderr);
    added.done();
    assert_eq!(recorded(&node, &second), [].into());
    // The namespace of the first is gone, and its record not yet.
    drop(first);
    add(&node, &second, &result).done();
    assert_eq!(recorded(&node, &second), of_mac);
}

#[test]
fn one_that_the_node_has_too_is_noted_down() {
    let node = Node::new("link-local-node");
    let _agent = Agent::start(&node, Manner::Healthy);
    let (pod, result) = pod_with(&node, "web-0", "10.1.0.7", &[]);
    let address = format!("{OF_MAC}/64");
    let args = ["address", "add", &address, "dev", "h-web-0", "nodad"];
    node.network.ip(&args).unwrap();
    add(&node, &pod, &result).done();
    assert_eq!(recorded(&node, &pod), [OF_MAC.parse().unwrap()].into());
}
