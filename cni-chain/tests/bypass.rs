//! Interfaces whose packets no rule of the node sees, held in the pod's own network namespace.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

use std::net::IpAddr;

use cni_chain::attachment::Path;
use cni_chain::quarantine::{ACTIVE, QUARANTINE, is_there};
use serde_json::{Value, json};
use support::agent::{Agent, Manner};
use support::chain::{Network, addresses, main_plugin};
use support::packets::{arrives, knows, watch};
use support::{Container, Node, Output, eventually, stdin};
use testbed::Namespace;

/// The addresses of the host behind the uplink, in the networks of the macvlan.
const OUTSIDE: [&str; 2] = ["10.99.0.99", "fd99::99"];

const ALIAS: Option<&str> = Some("picket:default/web-0");

fn macvlan(node: &Node, keys: Value) -> Network {
    Network::new("1.0.0", main_plugin("macvlan", node), keys)
}

fn set_group(pod: &Container, interface: &str, group: u32) {
    let link = pod.link(interface);
    pod.inside().links.set_group(&link, group).unwrap();
}

/// The ways between a pod and the host outside.
struct Ways<'a> {
    pod: &'a Container,
    outside: &'a Namespace,
    addresses: Vec<IpAddr>,
}

impl<'a> Ways<'a> {
    fn new(pod: &'a Container, interface: &str, outside: &'a Namespace, result: &str) -> Self {
        eventually("no duplicates of its addresses are found", || {
            let link = pod.link(interface);
            let addresses = pod.inside().links.addresses_of(link.index).unwrap();
            !addresses.iter().any(|of| of.flags.is_tentative())
        });
        let addresses = addresses(result);
        assert_eq!(addresses.len(), 2);
        Self {
            pod,
            outside,
            addresses,
        }
    }

    /// Each way and family on which something arrives.
    fn open(&self) -> Vec<(IpAddr, IpAddr)> {
        let mut open = Vec::new();
        for (own, other) in self.addresses.iter().zip(OUTSIDE) {
            let other = other.parse().unwrap();
            let inside = (&self.pod.network, *own);
            let outside = (self.outside, other);
            for (from, to) in [(inside, outside), (outside, inside)] {
                if arrives(&self.pod.network, from, to) {
                    open.push((from.1, to.1));
                }
            }
        }
        open
    }
}

#[test]
fn a_macvlan_is_held_inside_its_pod_and_its_uplink_is_never_tagged() {
    let node = Node::new("macvlan");
    let _outside = node.uplink(OUTSIDE);
    let pod = Container::new("web-0");
    let network = macvlan(&node, json!({}));
    let agent = Agent::start(&node, Manner::Healthy);
    let added = network.add(&node, &pod, "net1");
    let [result, before] = added.done();
    assert_eq!(result, before, "byte for byte");
    let own = pod.link("net1");
    assert_eq!((own.group, own.alias.as_deref()), (ACTIVE, ALIAS));
    let record = node.record(&pod, "net1").unwrap();
    let (link, index) = ("macvlan".into(), own.index);
    assert_eq!(record.path, Path::Bypass { link, index });
    let expected = addresses(result).into_iter().chain(pod.link_local("net1"));
    assert_eq!(record.addresses, expected.collect());
    assert_eq!(record.addresses.len(), 3);
    network.check(&node, &pod, "net1", result);
    // As if the agent were not done, or somebody had undone it.
    set_group(&pod, "net1", QUARANTINE);
    let check = pod.environment("CHECK", "net1");
    let input = stdin("1.0.0", "", result);
    node.call("picket-cni", &check, input.as_bytes())
        .fails(101, "in group 770701");
    drop(agent);
    network.del(&node, &pod, "net1", Some(result));
    assert_eq!(node.record(&pod, "net1"), None);
    assert!(pod.inside().links.by_name("net1").unwrap().is_none());
    let uplink = node.links().by_name("uplink").unwrap().unwrap();
    assert_eq!((uplink.group, uplink.alias), (0, None));
    assert_eq!(node.network.nft("list ruleset").unwrap(), "");
}

#[test]
fn without_an_agent_nothing_passes_a_macvlan_until_it_is_let_out() {
    for mode in ["quarantine", "block"] {
        let node = Node::new(&format!("macvlan-{mode}"));
        let outside = node.uplink(OUTSIDE);
        let pod = Container::new("web-0");
        watch(&pod.network);
        let network = macvlan(&node, json!({"onAgentUnavailable": mode}));
        let added = network.add(&node, &pod, "net1");
        let result = match mode {
            "block" => {
                let failed = added.failed.as_ref().expect("no agent");
                failed.fails(11, "the policies of the pod are not in force");
                &added.results[0]
            }
            _ => added.done()[0],
        };
        assert_eq!(pod.link("net1").group, QUARANTINE);
        let ways = Ways::new(&pod, "net1", &outside, result);
        assert_eq!(ways.open(), [], "{mode}");
        // But the neighbour is found.
        for own in &ways.addresses {
            eventually("resolved", || knows(&outside, *own));
        }
        set_group(&pod, "net1", ACTIVE);
        assert_eq!(ways.open().len(), 4, "{mode}");
        set_group(&pod, "net1", QUARANTINE);
        assert_eq!(ways.open(), [], "{mode}");
        network.del(&node, &pod, "net1", None);
        assert_eq!(node.record(&pod, "net1"), None);
    }
}

#[test]
fn without_an_agent_a_macvlan_passes_if_that_is_asked_for() {
    let node = Node::new("macvlan-allow");
    let outside = node.uplink(OUTSIDE);
    let pod = Container::new("web-0");
    watch(&pod.network);
    let added = macvlan(&node, json!({"onAgentUnavailable": "allow"})).add(&node, &pod, "net1");
    assert_eq!(pod.link("net1").group, 0);
    let ways = Ways::new(&pod, "net1", &outside, added.done()[0]);
    assert_eq!(ways.open().len(), 4);
}

#[test]
fn add_again_is_as_add_once_and_makes_the_quarantine_again() {
    let node = Node::new("macvlan-twice");
    let _outside = node.uplink(OUTSIDE);
    let pod = Container::new("web-0");
    let agent = Agent::start(&node, Manner::Healthy);
    let added = macvlan(&node, json!({})).add(&node, &pod, "net1");
    let result = added.done()[0];
    let record = node.record(&pod, "net1");
    let again = |mode: &str| -> Output {
        let keys = format!(r#","timeoutSeconds":1,"onAgentUnavailable":"{mode}""#);
        let input = stdin("1.0.0", &keys, result);
        let environment = pod.environment("ADD", "net1");
        node.call("picket-cni", &environment, input.as_bytes())
    };
    assert_eq!(again("block").done(), result);
    assert_eq!(node.record(&pod, "net1"), record);
    assert_eq!(pod.link("net1").group, ACTIVE);
    drop(agent);
    pod.network.nft("flush ruleset").unwrap();
    assert_eq!(again("quarantine").done(), result);
    assert_eq!(node.record(&pod, "net1"), record);
    assert_eq!(pod.link("net1").group, QUARANTINE);
    assert!(is_there(&mut pod.inside().nftables).unwrap());
}

#[test]
fn interfaces_of_a_pod_are_held_each_for_itself() {
    let node = Node::new("macvlan-beside");
    let outside = node.uplink(OUTSIDE);
    let (pod, other) = (Container::new("web-0"), Container::new("web-1"));
    watch(&pod.network);
    watch(&node.network);
    let agent = Agent::start(&node, Manner::Healthy);
    let bridge = Network::new("1.0.0", main_plugin("bridge", &node), json!({}));
    let [first, of_other] = [&pod, &other].map(|pod| bridge.add(&node, pod, "eth0"));
    drop(agent);
    let mut network = macvlan(&node, json!({"onAgentUnavailable": "quarantine"}));
    network.name = "storage".into();
    let second = network.add(&node, &pod, "net1");
    let ways = Ways::new(&pod, "net1", &outside, second.done()[0]);
    let on_bridge = || {
        let ends = addresses(first.done()[0]).into_iter();
        let ends = ends.zip(addresses(of_other.done()[0]));
        let passes = |(from, to)| {
            let (from, to) = ((&pod.network, from), (&other.network, to));
            arrives(&node.network, from, to) && arrives(&node.network, to, from)
        };
        ends.map(passes).collect::<Vec<_>>()
    };
    assert_eq!((ways.open(), on_bridge()), (vec![], vec![true; 2]));
    set_group(&pod, "net1", ACTIVE);
    let host = node.host_end(&pod, "eth0");
    node.links().set_group(&host, QUARANTINE).unwrap();
    assert_eq!((ways.open().len(), on_bridge()), (4, vec![false; 2]));
    assert_eq!(pod.link("eth0").group, 0, "it is held on the node");
    // The first stays when the second goes.
    network.del(&node, &pod, "net1", Some(second.done()[0]));
    assert!(node.record(&pod, "eth0").is_some() && node.record(&pod, "net1").is_none());
}

/// A pod whose interface of some kind was made by hand.
fn pod_with(node: &Node, kind: &str) -> Container {
    let pod = Container::new("web-0");
    let path = pod.path();
    let batch = format!("link add eth0 link uplink netns {path} type {kind}\n");
    node.network.ip_batch(&batch).unwrap();
    pod
}

#[test]
fn a_group_of_somebody_else_inside_is_left_alone_and_is_no_quarantine() {
    let node = Node::new("macvlan-foreign");
    let _outside = node.uplink(OUTSIDE);
    let pod = pod_with(&node, "macvlan");
    set_group(&pod, "eth0", 7);
    let add = |mode: &str| {
        let keys = format!(r#","timeoutSeconds":1,"onAgentUnavailable":"{mode}""#);
        node.picket("ADD", &pod, &stdin("1.0.0", &keys, "{}"))
    };
    let output = add("quarantine");
    output.fails(11, "can not be in quarantine");
    let said = "group 7, which is somebody else's";
    assert!(output.stderr.contains(said), "{}", output.stderr);
    add("allow").done();
    node.picket("DEL", &pod, &stdin("1.0.0", "", "{}")).done();
    assert_eq!((pod.link("eth0").group, pod.link("eth0").alias), (7, None));
}

#[test]
fn an_interface_whose_packets_pass_no_rules_at_all_is_refused() {
    let node = Node::new("macvtap");
    let _outside = node.uplink(OUTSIDE);
    let pod = pod_with(&node, "macvtap");
    for mode in ["block", "allow"] {
        let keys = format!(r#","timeoutSeconds":1,"onAgentUnavailable":"{mode}""#);
        node.picket("ADD", &pod, &stdin("1.0.0", &keys, "{}"))
            .fails(7, "no rule sees the packets of a macvtap interface");
    }
    assert_eq!(
        (node.record(&pod, "eth0"), pod.link("eth0").group),
        (None, 0)
    );
}

#[test]
fn a_device_that_is_moved_back_to_the_node_is_not_in_quarantine_there() {
    let node = Node::new("device");
    let pod = Container::new("web-0");
    // A device as others: the kernel names no kind, and this one is in each namespace.
    let call = |verb: &str, input: &str| {
        let environment = pod.environment(verb, "lo");
        node.call("picket-cni", &environment, input.as_bytes())
            .done()
    };
    let keys = r#","timeoutSeconds":1,"onAgentUnavailable":"quarantine""#;
    call("ADD", &stdin("1.0.0", keys, "{}"));
    let (link, index) = ("device".into(), 1);
    let record = node.record(&pod, "lo").unwrap();
    assert_eq!(record.path, Path::Bypass { link, index });
    let device = pod.link("lo");
    assert_eq!((device.group, device.alias.as_deref()), (QUARANTINE, ALIAS));
    call("DEL", &stdin("1.0.0", "", "{}"));
    let device = pod.link("lo");
    let alias = device.alias.unwrap_or_default();
    assert_eq!((device.group, alias.as_str()), (0, ""));
}
