//! Destinations that a rule rewrites, as kube-proxy does.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use std::net::IpAddr;

use common::*;
use testbed::Outcome::{Dropped, Passed};
use testbed::{Place, Probe, Protocol};

const SERVICES: &str = "
table inet services {
  chain prerouting {
    type nat hook prerouting priority dstnat
    ip daddr 10.96.0.1 meta l4proto { tcp, udp, sctp } th dport 80 dnat ip to 10.2.0.11:8080
    ip6 daddr fd00:96::1 meta l4proto { tcp, udp, sctp } th dport 80 dnat ip6 to [fd00:b::11]:8080
    ip daddr 10.96.0.1 ip protocol icmp dnat ip to 10.2.0.11
    ip6 daddr fd00:96::1 meta l4proto icmpv6 dnat ip6 to fd00:b::11
  }
}";

/// A probe from a pod to the service whose only endpoint is `b1`, expected to arrive at `to`.
fn to_service(from: &Place, to: &Place, protocol: Protocol, family: Family) -> Probe {
    let destination: IpAddr = if family == Family::V4 {
        "10.96.0.1"
    } else {
        "fd00:96::1"
    }
    .parse()
    .unwrap();
    let probe = ask(from.clone(), to.clone(), protocol, family);
    let port = if protocol == Protocol::Icmp { 0 } else { 80 };
    Probe {
        destination,
        port,
        listen: Some((probe.destination, probe.port)),
        ..probe
    }
}

fn over_everything(from: &str, to: &str) -> Vec<Probe> {
    let over = |protocol| FAMILIES.map(|family| to_service(&pod(from), &pod(to), protocol, family));
    PROTOCOLS.into_iter().flat_map(over).collect()
}

#[test]
fn a_rewritten_request_is_answered_where_it_is_waited_for() {
    for network in NETWORKS {
        let testbed = cluster(network);
        assert_all(&testbed, over_everything("a1", "b1"), Dropped);
        for name in ["a", "b"] {
            testbed
                .namespace(&node(name))
                .unwrap()
                .nft(SERVICES)
                .unwrap();
        }
        assert_all(&testbed, over_everything("a1", "b1"), Passed);
    }
}

#[test]
fn a_request_that_is_rewritten_to_somewhere_else_has_not_passed() {
    let testbed = cluster(NETWORKS[0]);
    for name in ["a", "b"] {
        testbed
            .namespace(&node(name))
            .unwrap()
            .nft(SERVICES)
            .unwrap();
    }
    // In one batch with probes for which b1 does listen on that port; the kernel of b1 answers pings in any case.
    let elsewhere = over_everything("a1", "a2")
        .into_iter()
        .filter(|probe| probe.protocol != Protocol::Icmp);
    let right = over_everything("a1", "b1")
        .into_iter()
        .map(|probe| (probe, Passed));
    let expected: Vec<_> = elsewhere
        .map(|probe| (probe, Dropped))
        .chain(right)
        .collect();
    assert_outcomes(&testbed, &expected);
}
