//! Behind the reference plugins, with real packets.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

use std::fs;
use std::net::IpAddr;

use cni_chain::attachment::Path;
use cni_chain::quarantine::{ACTIVE, QUARANTINE};
use serde_json::json;
use support::agent::{Agent, Manner};
use support::chain::{Network, addresses, main_plugin};
use support::packets::{arrives, knows, watch};
use support::{Container, Node, eventually};

/// How many addresses host-local has given away.
fn leased(node: &Node) -> usize {
    let network = fs::read_dir(node.state().join("k8s"));
    let names = network
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| {
            name.to_str()
                .is_some_and(|name| name.parse::<IpAddr>().is_ok())
        })
        .count()
}

#[test]
fn a_pod_on_a_bridge_and_a_routed_pod_start_run_and_stop_in_every_version() {
    for (kind, version) in [
        ("bridge", "0.3.0"),
        ("bridge", "0.3.1"),
        ("bridge", "0.4.0"),
        ("bridge", "1.0.0"),
        ("ptp", "0.3.1"),
        ("ptp", "1.0.0"),
    ] {
        let node = Node::new(&format!("{kind}-{version}"));
        let _agent = Agent::start(&node, Manner::Healthy);
        let network = Network::new(version, main_plugin(kind, &node), json!({}));
        let pod = Container::new("web-0");
        let added = network.add(&node, &pod, "eth0");
        let [result, before] = added.done();
        assert_eq!(result, before, "byte for byte");
        let host = node.host_end(&pod, "eth0");
        assert_eq!(host.group, ACTIVE);
        assert_eq!(host.alias.as_deref(), Some("picket:default/web-0"));
        let record = node.record(&pod, "eth0").unwrap();
        let expected = addresses(result).into_iter().chain(pod.link_local("eth0"));
        assert_eq!(record.addresses, expected.collect());
        assert_eq!(
            record.addresses.len(),
            3,
            "one of each family, and one of the link"
        );
        assert_eq!((record.network.as_str(), record.netns), ("k8s", pod.path()));
        assert_eq!(record.netns_inode, pod.network.inode().unwrap());
        assert_eq!(record.pod.uid.as_deref(), Some("uid-web-0"));
        let (name, index) = (host.name, host.index);
        let expected = match kind {
            "bridge" => Path::Bridged {
                host: name,
                index,
                bridge: "br0".into(),
            },
            _ => Path::Routed { host: name, index },
        };
        assert_eq!(record.path, expected);
        if version >= "0.4.0" {
            network.check(&node, &pod, "eth0", result);
        }
        network.del(&node, &pod, "eth0", Some(result));
        assert_eq!(node.record(&pod, "eth0"), None);
        assert_eq!(leased(&node), 0);
        network.del(&node, &pod, "eth0", None);
    }
}

#[test]
fn in_quarantine_nothing_passes_but_arp_and_neighbour_discovery() {
    for kind in ["bridge", "ptp"] {
        let node = Node::new(&format!("packets-{kind}"));
        watch(&node.network);
        let network = Network::new(
            "1.0.0",
            main_plugin(kind, &node),
            json!({"onAgentUnavailable": "quarantine"}),
        );
        let pods = ["web-0", "web-1"].map(Container::new);
        let agent = Agent::start(&node, Manner::Healthy);
        let active = network.add(&node, &pods[1], "eth0");
        drop(agent);
        let quarantined = network.add(&node, &pods[0], "eth0");
        let own = addresses(quarantined.done()[0]);
        let others = addresses(active.done()[0]);
        let host = node.host_end(&pods[0], "eth0");
        assert_eq!(host.group, QUARANTINE);
        let mut links = node.links();
        for (own, other) in own.iter().zip(&others) {
            let of_node = gateway(*own);
            let (zero, one, on_node) = (
                (&pods[0].network, *own),
                (&pods[1].network, *other),
                (&node.network, of_node),
            );
            for (from, to) in [(zero, one), (one, zero), (zero, on_node), (on_node, zero)] {
                assert!(
                    !arrives(&node.network, from, to),
                    "{kind} {} {}",
                    from.1,
                    to.1
                );
            }
            // Nobody else is held back.
            for (from, to) in [(one, on_node), (on_node, one)] {
                assert!(
                    arrives(&node.network, from, to),
                    "{kind} {} {}",
                    from.1,
                    to.1
                );
            }
            eventually("resolved", || {
                knows(
                    &pods[0].network,
                    if kind == "ptp" { of_node } else { *other },
                )
            });
            links.set_group(&host, ACTIVE).unwrap();
            for (from, to) in [(zero, one), (one, zero), (zero, on_node), (on_node, zero)] {
                assert!(
                    arrives(&node.network, from, to),
                    "{kind} {} {}",
                    from.1,
                    to.1
                );
            }
            links.set_group(&host, QUARANTINE).unwrap();
        }
    }
}

/// The first address of a subnet, which both plugins give to the node.
fn gateway(of: IpAddr) -> IpAddr {
    match of {
        IpAddr::V4(_) => "10.88.0.1".parse().unwrap(),
        IpAddr::V6(_) => "fd88::1".parse().unwrap(),
    }
}

#[test]
fn add_without_an_agent_fails_with_code_11_and_leaks_no_address() {
    let node = Node::new("leak");
    let network = Network::new("1.0.0", main_plugin("bridge", &node), json!({}));
    let pod = Container::new("web-0");
    for _ in 0..3 {
        let added = network.add(&node, &pod, "eth0");
        added.failed.expect("no agent").fails(11, "cni.sock");
        assert_eq!(
            node.host_end(&pod, "eth0").group,
            QUARANTINE,
            "it stays so until DEL"
        );
        network.del(&node, &pod, "eth0", None);
        assert_eq!((leased(&node), node.record(&pod, "eth0")), (0, None));
    }
}

#[test]
fn each_interface_of_a_pod_has_a_record() {
    let node = Node::new("several");
    let _agent = Agent::start(&node, Manner::Healthy);
    let first = Network::new("1.0.0", main_plugin("bridge", &node), json!({}));
    let mut second = Network::new("1.0.0", main_plugin("ptp", &node), json!({}));
    second.name = "storage".into();
    let ipam = json!({"type": "host-local", "dataDir": node.state(), "ranges": [[{"subnet": "10.99.0.0/24"}]]});
    second.plugins[0]["ipam"] = ipam;
    let pod = Container::new("web-0");
    let results = [
        first.add(&node, &pod, "eth0"),
        second.add(&node, &pod, "net1"),
    ];
    let networks = ["eth0", "net1"].map(|interface| node.record(&pod, interface).unwrap().network);
    assert_eq!(networks, ["k8s", "storage"]);
    second.del(&node, &pod, "net1", Some(results[1].done()[0]));
    assert!(node.record(&pod, "eth0").is_some() && node.record(&pod, "net1").is_none());
}

#[test]
fn it_goes_with_other_chained_plugins_before_and_behind_it() {
    let node = Node::new("chained");
    let _agent = Agent::start(&node, Manner::Healthy);
    let bandwidth = json!({"ingressRate": 8_000_000, "ingressBurst": 8_000_000, "egressRate": 8_000_000, "egressBurst": 8_000_000});
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    let others = [
        json!({"type": "firewall", "backend": "iptables"}),
        json!({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_notify": "1"}}),
        json!({"type": "portmap", "capabilities": {"portMappings": true}, "runtimeConfig": {"portMappings": ports}}),
        json!({"type": "bandwidth", "runtimeConfig": {"bandwidth": bandwidth}}),
    ];
    // Last, as it is installed, and as somebody may have moved it.
    for place in [5, 2] {
        let mut network = Network::new("1.0.0", main_plugin("bridge", &node), json!({}));
        network.plugins.splice(1..1, others.clone());
        let ours = network.plugins.pop().unwrap();
        network.plugins.insert(place, ours);
        let pod = Container::new("web-0");
        let added = network.add(&node, &pod, "eth0");
        let [result, _] = added.done();
        assert_eq!(added.results[place - 1], added.results[place]);
        let record = node.record(&pod, "eth0").unwrap();
        let host = node.host_end(&pod, "eth0");
        // The bandwidth plugin says of an interface of its own, which has the same address.
        assert_eq!(
            (record.path.host(), host.group),
            (Some(host.name.as_str()), ACTIVE)
        );
        assert_eq!(record.addresses.len(), 3);
        network.del(&node, &pod, "eth0", Some(result));
        assert_eq!(leased(&node), 0);
    }
}

#[test]
fn del_without_add_frees_what_the_main_plugin_has() {
    // The entry was added to the list while the pod was running.
    let node = Node::new("added-later");
    let mut network = Network::new("1.0.0", main_plugin("bridge", &node), json!({}));
    let ours = network.plugins.pop().unwrap();
    let pod = Container::new("web-0");
    let added = network.add(&node, &pod, "eth0");
    network.plugins.push(ours);
    network.del(
        &node,
        &pod,
        "eth0",
        added.results.last().map(String::as_str),
    );
    assert_eq!(leased(&node), 0);
}
