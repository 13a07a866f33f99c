//! A small cluster for the tests, and short ways to ask about it.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
#![allow(dead_code, reason = "each test file uses some of it")]

use std::net::IpAddr;
use std::sync::atomic::AtomicBool;

use testbed::{
    Network, NodeSpec, Outcome, Place, PodSpec, Probe, ProbeOptions, Protocol, Testbed, Topology,
    probe,
};

pub(crate) const PROTOCOLS: [Protocol; 4] =
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Icmp];
pub(crate) const NETWORKS: [Network; 2] = [Network::Routed, Network::Bridged];
pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Which of its two addresses a place uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Nodes `a` and `b`; pods `a1`, `a2` and `b1` on them; two addresses outside. Dual-stack.
pub(crate) fn topology(network: Network) -> Topology {
    let node = |name: &str, v4: &str, v6: &str| NodeSpec {
        name: name.to_owned(),
        addresses: vec![v4.parse().unwrap(), v6.parse().unwrap()],
    };
    let pod = |name: &str, node: &str, v4: &str, v6: &str| PodSpec {
        name: name.to_owned(),
        node: node.to_owned(),
        addresses: vec![v4.parse().unwrap(), v6.parse().unwrap()],
    };
    Topology {
        network,
        nodes: vec![
            node("a", "192.168.7.1", "fd00:7::1"),
            node("b", "192.168.7.2", "fd00:7::2"),
        ],
        pods: vec![
            pod("a1", "a", "10.1.0.11/24", "fd00:a::11/64"),
            pod("a2", "a", "10.1.0.12/24", "fd00:a::12/64"),
            pod("b1", "b", "10.2.0.11/24", "fd00:b::11/64"),
        ],
        externals: vec![
            "203.0.113.9".parse().unwrap(),
            "2001:db8:9::9".parse().unwrap(),
        ],
    }
}

/// Builds, or fails with what to do about it.
#[track_caller]
pub(crate) fn build(topology: &Topology) -> Testbed {
    Testbed::build(topology).unwrap_or_else(|error| {
        panic!("{error}\nThese tests need root, or: unshare --user --map-root-user cargo test -p testbed")
    })
}

pub(crate) fn cluster(network: Network) -> Testbed {
    build(&topology(network))
}

pub(crate) fn pod(name: &str) -> Place {
    Place::Pod(name.to_owned())
}

pub(crate) fn node(name: &str) -> Place {
    Place::Node(name.to_owned())
}

/// The address of a place of [`topology`].
pub(crate) fn address(place: &Place, family: Family) -> IpAddr {
    let topology = topology(Network::Routed);
    let addresses: Vec<IpAddr> = match place {
        Place::Node(name) => topology
            .nodes
            .iter()
            .find(|node| node.name == *name)
            .unwrap()
            .addresses
            .clone(),
        Place::Pod(name) => {
            let pod = topology.pods.iter().find(|pod| pod.name == *name).unwrap();
            pod.addresses.iter().map(|net| net.addr()).collect()
        }
        Place::External => topology.externals,
    };
    addresses
        .into_iter()
        .find(|address| address.is_ipv4() == (family == Family::V4))
        .unwrap()
}

/// A probe between two places of [`topology`], on port 8080.
pub(crate) fn ask(from: Place, to: Place, protocol: Protocol, family: Family) -> Probe {
    Probe {
        source: address(&from, family),
        destination: address(&to, family),
        from,
        to,
        protocol,
        port: if protocol == Protocol::Icmp { 0 } else { 8080 },
        listen: None,
        expect: None,
    }
}

/// The same question over every protocol and family.
pub(crate) fn ask_all(from: &Place, to: &Place) -> Vec<Probe> {
    let families =
        |protocol| FAMILIES.map(|family| ask(from.clone(), to.clone(), protocol, family));
    PROTOCOLS.into_iter().flat_map(families).collect()
}

/// Probes with the default options.
#[track_caller]
pub(crate) fn outcomes(testbed: &Testbed, probes: &[Probe]) -> Vec<Outcome> {
    probe(
        testbed,
        probes,
        &ProbeOptions::default(),
        &AtomicBool::new(false),
        &mut |_, _| {},
    )
    .unwrap()
}

/// Asserts that each probe ends as said, all in one batch; silence where passage is expected is retried.
#[track_caller]
pub(crate) fn assert_outcomes(testbed: &Testbed, expected: &[(Probe, Outcome)]) {
    let probes: Vec<Probe> = expected
        .iter()
        .map(|(probe, outcome)| Probe {
            expect: Some(*outcome),
            ..probe.clone()
        })
        .collect();
    let wrong: Vec<String> = outcomes(testbed, &probes)
        .iter()
        .zip(expected)
        .filter(|(outcome, (_, expected))| *outcome != expected)
        .map(|(outcome, (probe, _))| {
            let Probe {
                from,
                source,
                to,
                destination,
                protocol,
                ..
            } = probe;
            format!("{outcome:?}: {protocol:?} from {from} ({source}) to {to} ({destination})")
        })
        .collect();
    assert!(wrong.is_empty(), "unexpectedly\n{}", wrong.join("\n"));
}

/// Asserts that all of these end alike.
#[track_caller]
pub(crate) fn assert_all(testbed: &Testbed, probes: Vec<Probe>, outcome: Outcome) {
    let expected: Vec<_> = probes.into_iter().map(|probe| (probe, outcome)).collect();
    assert_outcomes(testbed, &expected);
}
