//! Measures building and probing: `scale [routed|bridged] NODES PODS`.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use testbed::{
    Network, NodeSpec, Outcome, Place, PodSpec, Probe, ProbeOptions, Protocol, Testbed, Topology,
    probe,
};

/// Drops everything but pings.
const RULES: &str = "
table inet picket_scale {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    meta l4proto { icmp, icmpv6 } accept
  }
}";

fn main() -> Result<(), Box<dyn Error>> {
    println!("privileges: {:?}", testbed::enter()?);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default| {
        arguments
            .get(index)
            .map_or(Ok(default), |text| text.parse::<u32>())
    };
    let network = if arguments.first().is_some_and(|kind| kind == "bridged") {
        Network::Bridged
    } else {
        Network::Routed
    };
    let (nodes, pods) = (number(1, 3)?, number(2, 100)?);
    let v4 = |base: u32, index: u32| IpAddr::from(Ipv4Addr::from_bits(base + index));
    let v6 = |kind: u32, index: u32| -> Result<IpAddr, _> {
        format!("fd00:{kind}::{:x}", index + 1).parse()
    };

    let mut topology = Topology {
        network,
        nodes: Vec::new(),
        pods: Vec::new(),
        externals: Vec::new(),
    };
    for node in 0..nodes {
        let addresses = vec![v4(0xc0a8_0001, node), v6(1, node)?];
        topology.nodes.push(NodeSpec {
            name: format!("node-{node}"),
            addresses,
        });
    }
    for pod in 0..pods {
        let addresses = vec![v4(0x0a00_0001, pod).into(), v6(2, pod)?.into()];
        topology.pods.push(PodSpec {
            name: format!("pod-{pod}"),
            node: format!("node-{}", pod % nodes),
            addresses,
        });
    }
    let start = Instant::now();
    let testbed = Testbed::build(&topology)?;
    println!(
        "built {nodes} nodes and {pods} pods in {:?}",
        start.elapsed()
    );

    let mut probes = Vec::new();
    for (from, to) in (0..pods).flat_map(|from| (0..pods).map(move |to| (from, to))) {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Icmp] {
            let (source, destination) = if (from + to) % 2 == 0 {
                (v4(0x0a00_0001, from), v4(0x0a00_0001, to))
            } else {
                (v6(2, from)?, v6(2, to)?)
            };
            probes.push(Probe {
                from: Place::Pod(format!("pod-{from}")),
                source,
                to: Place::Pod(format!("pod-{to}")),
                destination,
                protocol,
                port: if protocol == Protocol::Icmp { 0 } else { 80 },
                listen: None,
                expect: None,
            });
        }
    }
    for round in 0..2 {
        let start = Instant::now();
        let outcomes = probe(
            &testbed,
            &probes,
            &ProbeOptions::default(),
            &AtomicBool::new(false),
            &mut |_, _| {},
        )?;
        let passed = outcomes
            .iter()
            .filter(|&&outcome| outcome == Outcome::Passed)
            .count();
        println!(
            "round {round}: {passed} of {} passed in {:?}",
            probes.len(),
            start.elapsed()
        );
        if round == 0 {
            for node in &topology.nodes {
                let place = Place::Node(node.name.clone());
                let namespace = testbed.namespace(&place).ok_or("no such node")?;
                namespace.nft(RULES)?;
            }
        }
    }
    let start = Instant::now();
    testbed.forget_connections()?;
    println!("forgot connections in {:?}", start.elapsed());
    let start = Instant::now();
    drop(testbed);
    println!("dropped in {:?}", start.elapsed());
    Ok(())
}
