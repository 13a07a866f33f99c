//! The rules for a pod's own network namespace say what the specification says of its side, and nothing else passes.

#![allow(clippy::unwrap_used)]

mod support;
#[path = "support/walk/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::evaluate::{Connection, NodeEgress, Transport, Verdict, evaluate};
use policy_compiler::ir::NodeIr;
use policy_compiler::lower::{Inside, Options, close, inside, lower};
use policy_compiler::model::{Cluster, InterfaceName, NamespacedName, Protocol};
use policy_compiler::render;
use policy_compiler::ruleset::{Hook, Operand, Ruleset, Statement, TableFamily, Verdict as Final};
use proptest::prelude::*;
use walk::packet::{ACK, Content, Header, Packet, SYN, State};
use walk::{Stop, Walk};

const INTERFACE: &str = "net1";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn each_side_is_judged_as_the_specification_says(
        cluster in prop_oneof![support::cluster(), support::crowded_cluster()],
        node_egress in prop_oneof![Just(NodeEgress::Allow), Just(NodeEgress::Policy)],
    ) {
        let options = Options { node_egress, ..Options::default() };
        for (node, ir) in support::compile_all(&cluster) {
            let of_node = lower(&ir, &options);
            for pod in pods(&cluster, &ir, node) {
                let rules = inside(&of_node, &pod, node_egress, options.revoked);
                is_closed(&rules);
                let walk = Walk::new(&rules);
                for connection in support::connections() {
                    let said = evaluate(&cluster, connection, node_egress);
                    let packet = packet(connection);
                    if pod.addresses.contains(&connection.source) {
                        let passes = walk.passes(&packet, &[leaves(INTERFACE)]);
                        prop_assert_eq!(passes, said.egress.verdict == Verdict::Allow, "{:?} leaves\n{}", connection, render::text(&rules));
                    } else {
                        prop_assert!(!walk.passes(&packet, &[leaves(INTERFACE)]), "forged: {connection:?}");
                    }
                    if pod.addresses.contains(&connection.destination) {
                        let passes = walk.passes(&packet, &[arrives(INTERFACE)]);
                        prop_assert_eq!(passes, said.ingress.verdict == Verdict::Allow, "{:?} arrives\n{}", connection, render::text(&rules));
                    }
                    prop_assert!(walk.passes(&packet, &[leaves("eth0")]) && walk.passes(&packet, &[arrives("eth0")]), "not its own: {connection:?}");
                    prop_assert!(!walk.passes(&packet, &[routed(INTERFACE, "eth0")]), "in and on: {connection:?}");
                    prop_assert!(!walk.passes(&packet, &[routed("eth0", INTERFACE)]), "from others: {connection:?}");
                }
            }
        }
    }

    #[test]
    fn pods_that_are_closed_pass_nothing(cluster in support::cluster()) {
        for (node, ir) in support::compile_all(&cluster) {
            let all = pods(&cluster, &ir, node);
            let closed: BTreeMap<_, _> = all
                .iter()
                .flat_map(|pod| &pod.addresses)
                .map(|address| (*address, NamespacedName::new("x", "closed")))
                .collect();
            let of_node = close(&lower(&ir, &Options::default()), &closed);
            for pod in all {
                passes_nothing(&of_node, &pod)?;
            }
        }
    }
}

/// But with its node.
fn passes_nothing(of_node: &Ruleset, pod: &Inside) -> Result<(), TestCaseError> {
    let rules = inside(of_node, pod, NodeEgress::Allow, Options::default().revoked);
    is_closed(&rules);
    let walk = Walk::new(&rules);
    for connection in support::connections() {
        let with_node = [connection.source, connection.destination]
            .iter()
            .any(|end| pod.node.contains(end));
        if !with_node {
            let packet = packet(connection);
            let stops = [[leaves(INTERFACE)], [arrives(INTERFACE)]];
            for stop in stops {
                prop_assert!(!walk.passes(&packet, &stop), "{stop:?} {connection:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_pod_that_the_node_does_not_know_passes_nothing() {
    let pod = Inside {
        interfaces: BTreeSet::from([InterfaceName::new(INTERFACE).unwrap()]),
        addresses: BTreeSet::from([support::v4(1), support::v6(1)]),
        node: BTreeSet::new(),
        routes: false,
    };
    let nobody = lower(&empty(), &Options::default());
    passes_nothing(&nobody, &pod).unwrap();
    passes_nothing(&Ruleset { tables: vec![] }, &pod).unwrap();
}

#[test]
fn what_is_for_everybody_on_the_link_arrives_at_pods_that_nothing_isolates() {
    let multicast = |walk: &Walk| {
        let connection = Connection {
            source: support::v4(14),
            destination: "224.0.0.251".parse().unwrap(),
            transport: Transport::Port(Protocol::Udp, 5353),
        };
        walk.passes(&packet(connection), &[arrives(INTERFACE)])
    };
    let address = support::v4(1);
    let rules = |isolated: bool| {
        let mut ir = empty();
        let pod = policy_compiler::ir::LocalPod {
            addresses: vec![address],
            egress: None,
            ingress: None,
        };
        ir.pods.insert("x/a".into(), pod);
        let mut of_node = lower(&ir, &Options::default());
        if isolated {
            let closed = BTreeMap::from([(address, NamespacedName::new("x", "a"))]);
            of_node = close(&of_node, &closed);
        }
        let pod = Inside {
            interfaces: BTreeSet::from([InterfaceName::new(INTERFACE).unwrap()]),
            addresses: BTreeSet::from([address]),
            node: BTreeSet::new(),
            routes: false,
        };
        inside(
            &of_node,
            &pod,
            NodeEgress::Allow,
            Options::default().revoked,
        )
    };
    assert!(multicast(&Walk::new(&rules(false))));
    assert!(!multicast(&Walk::new(&rules(true))));
}

#[test]
fn open_connections_pass_unless_they_were_revoked_and_none_begins_without_a_syn() {
    let pod = Inside {
        interfaces: BTreeSet::from([InterfaceName::new(INTERFACE).unwrap()]),
        addresses: BTreeSet::from([support::v4(1)]),
        node: BTreeSet::new(),
        routes: false,
    };
    let revoked = Options::default().revoked;
    let closed = BTreeMap::from([(support::v4(1), NamespacedName::new("x", "a"))]);
    let of_node = close(&lower(&empty(), &Options::default()), &closed);
    let walk = Walk::new(&inside(&of_node, &pod, NodeEgress::Allow, revoked));
    let connection = Connection {
        source: support::v4(1),
        destination: support::v4(14),
        transport: Transport::Port(Protocol::Tcp, 1),
    };
    let mut packet = packet(connection);
    packet.state = State::Established;
    assert!(walk.passes(&packet, &[leaves(INTERFACE)]));
    packet.mark = revoked.bits();
    assert!(!walk.passes(&packet, &[leaves(INTERFACE)]));
    packet.mark = 0;
    packet.state = State::New;
    if let Content::Ip { transport, .. } = &mut packet.content {
        *transport = Header::Port {
            protocol: Protocol::Tcp,
            port: 1,
            flags: ACK,
        };
    }
    assert!(!walk.passes(&packet, &[leaves(INTERFACE)]));
}

#[test]
fn a_pod_that_routes_sends_from_other_addresses_and_is_judged_by_its_own() {
    let pod = Inside {
        interfaces: BTreeSet::from([InterfaceName::new(INTERFACE).unwrap()]),
        addresses: BTreeSet::from([support::v4(1)]),
        node: BTreeSet::new(),
        routes: true,
    };
    let closed = BTreeMap::from([(support::v4(1), NamespacedName::new("x", "a"))]);
    let of_node = close(&lower(&empty(), &Options::default()), &closed);
    let rules = inside(
        &of_node,
        &pod,
        NodeEgress::Allow,
        Options::default().revoked,
    );
    let walk = Walk::new(&rules);
    let from = |host: u8| Connection {
        source: support::v4(host),
        destination: support::v4(14),
        transport: Transport::Port(Protocol::Tcp, 1),
    };
    assert!(!walk.passes(&packet(from(1)), &[leaves(INTERFACE)]));
    assert!(walk.passes(&packet(from(2)), &[leaves(INTERFACE)]));
    assert!(walk.passes(&packet(from(2)), &[routed("eth0", INTERFACE)]));
}

fn empty() -> NodeIr {
    policy_compiler::compile::compile(&Cluster::default(), "n1")
}

/// The pods of a node that rules are about.
fn pods(cluster: &Cluster, ir: &NodeIr, node: &str) -> Vec<Inside> {
    let own = cluster.nodes.get(node).map(|node| node.addresses.clone());
    let inside = |pod: &policy_compiler::ir::LocalPod| Inside {
        interfaces: BTreeSet::from([InterfaceName::new(INTERFACE).unwrap()]),
        addresses: pod.addresses.iter().copied().collect(),
        node: own.clone().unwrap_or_default(),
        routes: false,
    };
    ir.pods.values().map(inside).collect()
}

fn packet(connection: Connection) -> Packet {
    let transport = match connection.transport {
        Transport::Port(protocol, port) => Header::Port {
            protocol,
            port,
            flags: SYN,
        },
        Transport::Icmp => Header::Icmp {
            kind: match connection.source {
                IpAddr::V4(_) => 8,
                IpAddr::V6(_) => 128,
            },
            checksum: 3,
        },
    };
    Packet::new(Content::Ip {
        source: connection.source,
        destination: connection.destination,
        hop_limit: 64,
        transport,
    })
}

fn leaves(interface: &str) -> Stop {
    stop(Hook::Output, None, Some(interface))
}

fn arrives(interface: &str) -> Stop {
    stop(Hook::Input, Some(interface), None)
}

fn routed(from: &str, to: &str) -> Stop {
    stop(Hook::Forward, Some(from), Some(to))
}

fn stop(hook: Hook, input: Option<&str>, output: Option<&str>) -> Stop {
    Stop {
        family: TableFamily::Inet,
        hook,
        input: input.map(str::to_owned),
        output: output.map(str::to_owned),
    }
}

/// Whatever is named is there.
fn is_closed(ruleset: &Ruleset) {
    for table in &ruleset.tables {
        let chains: BTreeSet<&str> = table
            .chains
            .iter()
            .map(|chain| chain.name.as_str())
            .collect();
        let verdicts = table
            .maps
            .values()
            .flat_map(|map| map.elements.values())
            .map(|element| &element.verdict);
        let rules = || table.chains.iter().flat_map(|chain| &chain.rules);
        let of_rules = rules().filter_map(|rule| match &rule.statement {
            Statement::Verdict(verdict) => Some(verdict),
            _ => None,
        });
        for verdict in verdicts.chain(of_rules) {
            if let Final::Goto(name) | Final::Jump(name) = verdict {
                assert!(chains.contains(name.as_str()), "{name} is missing");
            }
        }
        for matches in rules().flat_map(|rule| &rule.matches) {
            if let Operand::Set(name) = &matches.operand {
                assert!(table.sets.contains_key(name), "{name} is missing");
            }
        }
    }
}
