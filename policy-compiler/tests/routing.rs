//! Pods that may send from addresses that are not their own, on the node.

#![allow(clippy::unwrap_used)]

#[path = "support/walk/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod walk;

use std::net::IpAddr;

use policy_compiler::compile::compile;
use policy_compiler::ir::LocalPod;
use policy_compiler::lower::{Attachment, Options, lower};
use policy_compiler::model::{Cluster, InterfaceName, Protocol};
use policy_compiler::ruleset::{Hook, TableFamily};
use walk::packet::{Content, Header, Packet, SYN};
use walk::{Stop, Walk};

const OWN: &str = "10.0.0.1";
const OTHERS: &str = "10.0.0.2";
const UNKNOWN: &str = "192.0.2.1";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two pods, of which the first routes if that is said.
fn node(routes: bool, bridged: bool) -> Walk {
    let mut ir = compile(&Cluster::default(), "n1");
    let mut options = Options::default();
    for (pod, own) in [("x/a", OWN), ("x/b", OTHERS)] {
        let local = LocalPod {
            addresses: vec![address(own)],
            egress: None,
            ingress: None,
        };
        ir.pods.insert(pod.to_owned(), local);
        let attachment = Attachment {
            interface: InterfaceName::new(&pod.replace('/', "-")).unwrap(),
            bridged,
            addresses: None,
            routes: routes && pod == "x/a",
        };
        options.attachments.insert(pod.to_owned(), vec![attachment]);
    }
    Walk::new(&lower(&ir, &options))
}

fn from(source: &str) -> Packet {
    Packet::new(Content::Ip {
        source: address(source),
        destination: address("203.0.113.1"),
        hop_limit: 64,
        transport: Header::Port {
            protocol: Protocol::Tcp,
            port: 80,
            flags: SYN,
        },
    })
}

/// In by a pod's interface, and on to the uplink.
fn way(interface: &str, bridged: bool) -> Vec<Stop> {
    let stop = |family, hook, output: Option<&str>| Stop {
        family,
        hook,
        input: Some(interface.to_owned()),
        output: output.map(str::to_owned),
    };
    let family = match bridged {
        true => TableFamily::Bridge,
        false => TableFamily::Inet,
    };
    vec![
        stop(family, Hook::Prerouting, None),
        stop(TableFamily::Inet, Hook::Forward, Some("uplink")),
    ]
}

#[test]
fn only_a_pod_that_is_said_to_route_sends_from_addresses_that_are_nobodys() {
    for bridged in [false, true] {
        for (routes, interface, source, passes) in [
            (true, "x-a", OWN, true),
            (true, "x-a", UNKNOWN, true),
            (true, "x-b", UNKNOWN, false),
            (false, "x-a", UNKNOWN, false),
            (false, "x-a", OWN, true),
        ] {
            let walk = node(routes, bridged);
            let way = way(interface, bridged);
            assert_eq!(
                walk.passes(&from(source), &way),
                passes,
                "{routes} {interface} {source} {bridged}"
            );
        }
    }
}

#[test]
fn a_pod_that_routes_takes_no_other_pods_address() {
    for bridged in [false, true] {
        let mut packet = from(OTHERS);
        // Replies to it would leave by the other's interface.
        packet.return_route = false;
        assert!(!node(true, bridged).passes(&packet, &way("x-a", bridged)));
    }
}

#[test]
fn a_pod_that_routes_tags_no_frames() {
    let mut packet = from(UNKNOWN);
    packet.tagged = true;
    assert!(!node(true, true).passes(&packet, &way("x-a", true)));
}
