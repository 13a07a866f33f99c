//! What can be built, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use common::*;
use testbed::Outcome::Passed;
use testbed::frames::Capture;
use testbed::{
    Error, Network, NodeSpec, Place, PodSpec, Probe, Protocol, Testbed, Topology, TopologyError,
};

/// Nodes `n0`, `n1`, ... with one address each, and pods `p0`, `p1`, ... on them in turn.
fn made_of(network: Network, nodes: &[&str], pods: &[&str], externals: &[&str]) -> Topology {
    let node = |(index, address): (usize, &&str)| NodeSpec {
        name: format!("n{index}"),
        addresses: address
            .split_whitespace()
            .map(|address| address.parse().unwrap())
            .collect(),
    };
    let pod = |(index, address): (usize, &&str)| PodSpec {
        name: format!("p{index}"),
        node: format!("n{}", index % nodes.len()),
        addresses: address
            .split_whitespace()
            .map(|address| address.parse().unwrap())
            .collect(),
    };
    Topology {
        network,
        nodes: nodes.iter().enumerate().map(node).collect(),
        pods: pods.iter().enumerate().map(pod).collect(),
        externals: externals
            .iter()
            .map(|address| address.parse().unwrap())
            .collect(),
    }
}

/// Probes between every two addresses of one family, over UDP and ICMP.
fn everyone_to_everyone(topology: &Topology) -> Vec<Probe> {
    let nodes = topology.nodes.iter().flat_map(|node| {
        node.addresses
            .iter()
            .map(|&ip| (Place::Node(node.name.clone()), ip))
    });
    let pods = topology.pods.iter().flat_map(|pod| {
        pod.addresses
            .iter()
            .map(|net| (Place::Pod(pod.name.clone()), net.addr()))
    });
    let externals = topology.externals.iter().map(|&ip| (Place::External, ip));
    let ends: Vec<(Place, IpAddr)> = nodes.chain(pods).chain(externals).collect();
    let pairs = ends
        .iter()
        .flat_map(|from| ends.iter().map(move |to| (from, to)));
    pairs
        .filter(|(from, to)| from.1.is_ipv4() == to.1.is_ipv4())
        .flat_map(|(from, to)| {
            [(Protocol::Udp, 53), (Protocol::Icmp, 0)].map(|(protocol, port)| Probe {
                from: from.0.clone(),
                source: from.1,
                to: to.0.clone(),
                destination: to.1,
                protocol,
                port,
                listen: None,
                expect: None,
            })
        })
        .collect()
}

#[track_caller]
fn assert_everyone_reaches_everyone(topology: &Topology) {
    let testbed = build(topology);
    assert_all(&testbed, everyone_to_everyone(topology), Passed);
}

fn refusal(topology: &Topology) -> TopologyError {
    match Testbed::build(topology) {
        Err(Error::Topology(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn single_addresses_of_every_kind_are_reachable() {
    let pods = [
        "10.0.0.0/32 fd00::/128",
        "10.0.0.255/32 2001:db8::ffff/128",
        "192.168.0.1/32 fc00::1/128",
        "169.254.1.1/32 fec0::1/128",
        "198.51.100.7/32 2606:4700::1111/128",
        "240.0.0.1/32 64:ff9b::a00:1/128",
        "100.64.0.1/32 fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
        "8.8.8.8/32 2001:db8::1/128",
        "169.254.1.2/32",
        "fd12:3456:789a::1/128",
    ];
    for network in NETWORKS {
        let nodes = ["172.16.0.1 2001:db8:1::1", "1.1.1.1 fd00::1"];
        let topology = made_of(
            network,
            &nodes,
            &pods,
            &["203.0.113.9", "2001:db8:9::9", "10.0.0.1", "fd00::2"],
        );
        assert_everyone_reaches_everyone(&topology);
    }
}

#[test]
fn overlapping_subnets_of_bridged_pods_are_reachable_wherever_their_members_are() {
    let pods = [
        "10.0.0.1/8 fd00::1/16",
        "10.0.0.2/8 fd00::2/16",
        "10.0.1.3/24 fd00::1:3/112",
        "10.0.1.4/24 fd00::1:4/112",
        "10.0.1.5/32 fd00::1:5/128",
        "10.0.1.255/25 fd00::/64",
        "10.0.1.6/31 fd00::6/127",
        "10.0.1.7/31 fd00::7/127",
        "10.0.1.6/31 fd00::6/127",
    ];
    let nodes = ["10.0.0.3 fd00::3", "192.168.0.1 fd99::1"];
    // The last repeats one on purpose: it is refused, and without it everything works.
    let topology = made_of(Network::Bridged, &nodes, &pods, &[]);
    assert!(matches!(
        refusal(&topology),
        TopologyError::DuplicateAddress { .. }
    ));
    assert_everyone_reaches_everyone(&made_of(
        Network::Bridged,
        &nodes,
        &pods[..8],
        &["10.0.1.9", "fd00::9"],
    ));
}

#[test]
fn a_subnet_without_a_free_address_has_no_gateway_in_it_and_works() {
    let pods = ["10.0.0.0/31", "192.0.2.1/32", "10.0.0.1/31"];
    assert_everyone_reaches_everyone(&made_of(
        Network::Bridged,
        &["192.168.0.1", "192.168.0.2"],
        &pods,
        &[],
    ));
}

#[test]
fn a_cluster_of_one_family_works() {
    for network in NETWORKS {
        assert_everyone_reaches_everyone(&made_of(
            network,
            &["192.168.0.1"],
            &["10.0.0.9/24", "10.0.0.8/24"],
            &["8.8.8.8"],
        ));
        assert_everyone_reaches_everyone(&made_of(
            network,
            &["fd00::1"],
            &["fd00:1::9/64", "fd00:1::8/64"],
            &["2001:db8::1"],
        ));
    }
}

#[test]
fn nodes_without_pods_and_pods_without_addresses_can_be_built() {
    for network in NETWORKS {
        build(&made_of(network, &["192.168.0.1", ""], &["", "", ""], &[]));
        build(&made_of(network, &["192.168.0.1"], &[], &[]));
        build(&made_of(network, &[], &[], &["8.8.8.8"]));
    }
}

#[test]
fn pods_of_a_bridge_reach_each_other_at_layer_2_and_its_frames_pass_the_inet_hooks() {
    let testbed = cluster(Network::Bridged);
    let attachment = testbed.attachment("a1").unwrap();
    assert_eq!(attachment.bridge.as_deref(), Some("br0"));
    assert_eq!(
        attachment.gateways,
        [
            "10.1.0.1".parse::<IpAddr>().unwrap(),
            "fd00:a::1".parse().unwrap()
        ]
    );
    let other = testbed.attachment("a2").unwrap();
    let namespace = testbed.namespace(&node("a")).unwrap();
    let rules = format!(
        "table bridge test {{
           counter bridged {{ }}
           chain c {{
             type filter hook forward priority 0
             iifname {} oifname {} ether saddr {} ether daddr {} icmp type echo-request counter name bridged
           }}
         }}
         table inet test {{
           counter routed {{ }}
           chain c {{
             type filter hook forward priority 0
             iifname br0 oifname br0 icmp type echo-request counter name routed
           }}
         }}",
        attachment.interface, other.interface, attachment.mac, other.mac
    );
    namespace.nft(&rules).unwrap();
    // The bridge's own flags count, where the host's setting is off.
    let off = || std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
    namespace.run(off).unwrap().unwrap();
    assert_all(
        &testbed,
        vec![ask(pod("a1"), pod("a2"), Protocol::Icmp, Family::V4)],
        Passed,
    );
    let counted = namespace.nft("list counters").unwrap();
    assert_eq!(counted.matches("packets 1 ").count(), 2, "{counted}");
}

#[test]
fn frames_between_two_pods_are_not_flooded_to_a_third() {
    let mut topology = topology(Network::Bridged);
    topology.pods[2].node = "a".to_owned();
    let testbed = build(&topology);
    let b1 = testbed.namespace(&pod("b1")).unwrap();
    let [mac1, mac2] = ["a1", "a2"].map(|name| testbed.attachment(name).unwrap().mac);
    let rules = format!(
        "table netdev t {{
           counter seen {{ }}
           chain c {{
             type filter hook ingress device eth0 priority 0
             ether daddr {{ {mac1}, {mac2} }} counter name seen
           }}
         }}"
    );
    b1.nft(&rules).unwrap();
    // What the bridge has learned, from listener reports, may age out; what it was told stays.
    let namespace = testbed.namespace(&node("a")).unwrap();
    namespace
        .ip(&["link", "set", "br0", "type", "bridge", "fdb_flush"])
        .unwrap();
    assert_all(&testbed, ask_all(&pod("a1"), &pod("a2")), Passed);
    assert!(b1.nft("list counters").unwrap().contains("packets 0 "));
}

#[test]
fn a_pod_without_traffic_is_silent_but_for_multicast_listener_reports() {
    for network in NETWORKS {
        let testbed = cluster(network);
        let interface = &testbed.attachment("a1").unwrap().interface;
        let mut capture = Capture::new(testbed.namespace(&node("a")).unwrap(), interface).unwrap();
        capture
            .arrives(b"nothing has this token", Duration::from_millis(300))
            .unwrap();
        // An IPv6 header, a hop-by-hop header of 8 bytes, and ICMPv6 type 143 (RFC 3810 section 5.2).
        let is_report = |frame: &&Vec<u8>| frame.get(14 + 48) == Some(&143);
        let noise: Vec<_> = capture
            .frames()
            .iter()
            .filter(|frame| !is_report(frame))
            .collect();
        assert!(noise.is_empty(), "{noise:02x?}");
        // What was sent before the capture began.
        let count = || std::fs::read_to_string("/proc/thread-self/net/snmp6");
        let counters = testbed
            .namespace(&pod("a1"))
            .unwrap()
            .run(count)
            .unwrap()
            .unwrap();
        for name in [
            "Icmp6OutRouterSolicits",
            "Icmp6OutNeighborSolicits",
            "Icmp6OutNeighborAdvertisements",
        ] {
            let line = counters
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap();
            assert_eq!(line.split_whitespace().last(), Some("0"), "{line}");
        }
    }
}

#[test]
fn addresses_that_no_interface_could_have_are_refused_with_the_reason() {
    for (address, reason) in [
        ("0.0.0.1", "no source address"),
        ("127.0.0.1", "never leaves its host"),
        ("224.0.0.1", "not a unicast address"),
        ("255.255.255.255", "not a unicast address"),
        ("::1", "never leaves its host"),
        ("ff02::1", "not a unicast address"),
        ("fe80::1", "not routed"),
        ("::ffff:10.0.0.1", "IPv4 address in it"),
    ] {
        let error =
            refusal(&made_of(Network::Routed, &["192.168.0.1"], &[], &[address])).to_string();
        assert!(
            error.starts_with(&format!("outside cannot have the address {address}: ")),
            "{error}"
        );
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn names_and_addresses_that_are_there_twice_are_refused() {
    let good = topology(Network::Routed);
    let mut topology = good.clone();
    topology.externals.push("10.1.0.11".parse().unwrap());
    assert_eq!(
        refusal(&topology).to_string(),
        "10.1.0.11 belongs to pod a1 and to outside"
    );
    let mut topology = good.clone();
    topology.pods[1].name = "a1".to_owned();
    assert_eq!(refusal(&topology).to_string(), "pod a1 is there twice");
    let mut topology = good.clone();
    topology.nodes[1].name = "a".to_owned();
    assert_eq!(refusal(&topology).to_string(), "node a is there twice");
    let mut topology = good;
    topology.pods[1].node = "c".to_owned();
    assert_eq!(
        refusal(&topology).to_string(),
        "pod a2 is on node c, which does not exist"
    );
}

#[test]
fn names_are_free_text() {
    let mut topology = topology(Network::Routed);
    let long =
        "a namespace/with spaces; $(and) \n everything else that is no interface name".to_owned();
    topology.nodes[0].name.clone_from(&long);
    for pod in &mut topology.pods {
        pod.node.clone_from(&long);
        pod.name = format!("{long} {}", pod.name);
    }
    assert_everyone_reaches_everyone(&topology);
}

#[test]
fn a_hundred_pods_are_built_within_seconds() {
    for network in NETWORKS {
        let pods: Vec<String> = (0..100)
            .map(|index| format!("10.0.{index}.9/24 fd00:{index:x}::9/64"))
            .collect();
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        let topology = made_of(
            network,
            &["192.168.0.1", "192.168.0.2", "192.168.0.3"],
            &pods,
            &[],
        );
        let start = Instant::now();
        let testbed = build(&topology);
        println!("{network:?}: {:?}", start.elapsed());
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{:?}",
            start.elapsed()
        );
        let probes: Vec<Probe> = everyone_to_everyone(&topology)
            .into_iter()
            .step_by(17)
            .collect();
        assert_all(&testbed, probes, Passed);
    }
}
