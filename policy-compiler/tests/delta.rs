//! No plan leaks a packet or loses one: random transitions, followed through every mixture of old and new that a
//! packet can meet.

#![allow(clippy::unwrap_used)]

#[path = "support/anonymous.rs"]
mod anonymous;
#[path = "support/changes.rs"]
mod changes;
#[path = "support/in_flight.rs"]
mod in_flight;
mod support;
#[allow(dead_code, reason = "other tests walk whole rulesets")]
#[path = "support/walk/mod.rs"]
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use anonymous::anonymous;
use changes::{clusters, edits};
use in_flight::{Packet, Path, State, follow, sorted, verdict};
use policy_compiler::compile::compile;
use policy_compiler::delta::{Step, Transaction, delta};
use policy_compiler::evaluate::{Connection, NodeEgress, Transport};
use policy_compiler::lower::{Attachment, Bridges, Options, close, lower};
use policy_compiler::model::{Cluster, InterfaceName, Protocol, is_link_local};
use policy_compiler::ruleset::{Ruleset, Value};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// The interfaces of pods: none known, or of some; bridged or not.
fn options() -> impl Strategy<Value = Options> {
    let attachments = prop_oneof![
        2 => Just(vec![]),
        1 => vec((prop::bool::weighted(0.9), any::<bool>(), prop::bool::weighted(0.1)), 8),
    ];
    let bridges = prop_oneof![
        Just(Bridges::Any),
        Just(Bridges::Named(BTreeSet::new())),
        Just(Bridges::Named([InterfaceName::new("eth0").unwrap()].into())),
    ];
    let node_egress = prop_oneof![Just(NodeEgress::Allow), Just(NodeEgress::Policy)];
    (attachments, bridges, node_egress).prop_map(|(attachments, bridges, node_egress)| {
        let mut options = Options {
            bridges,
            node_egress,
            ..Options::default()
        };
        for (index, (known, bridged, other)) in attachments.into_iter().enumerate() {
            for namespace in ["x", "y", "z"].into_iter().filter(|_| known) {
                let name = format!("veth{}{index}", if other { "b" } else { "a" });
                let attachment = Attachment {
                    interface: InterfaceName::new(&name).unwrap(),
                    bridged,
                    addresses: None,
                    routes: false,
                };
                let pod = format!("{namespace}/pod{index}");
                options.attachments.insert(pod, vec![attachment]);
            }
        }
        options
    })
}

/// The interfaces that an address has in either ruleset, and one that nobody has.
fn interfaces(rulesets: [&Ruleset; 2]) -> BTreeMap<Value, BTreeSet<String>> {
    let mut interfaces: BTreeMap<Value, BTreeSet<String>> = BTreeMap::new();
    let tables = rulesets.into_iter().flat_map(|ruleset| &ruleset.tables);
    let sets = tables.flat_map(|table| &table.sets);
    let pairs = sets.filter(|(name, _)| name.starts_with("pairs"));
    for element in pairs.flat_map(|(_, set)| &set.elements) {
        if let [Value::Interface(name), address] = element.as_slice() {
            interfaces
                .entry(address.clone())
                .or_default()
                .insert(name.clone());
        }
    }
    interfaces
}

/// Every connection, by every interface that it could come and leave by, and some packets that guards are for.
fn packets(rulesets: [&Ruleset; 2]) -> Vec<Packet> {
    let interfaces = interfaces(rulesets);
    let outside = || "eth0".to_owned();
    let of = |address| {
        let known = interfaces.get(&Value::Address(address));
        let known = known.into_iter().flatten().cloned();
        known.chain([outside()]).collect::<Vec<_>>()
    };
    let mut packets = Vec::new();
    let mut connections = support::connections();
    let hosts: BTreeSet<_> = connections.iter().map(|c| c.source).collect();
    connections.extend(hosts.iter().map(|host| Connection {
        source: *host,
        destination: *host,
        transport: Transport::Port(Protocol::Tcp, 1),
    }));
    for connection in connections {
        let Connection {
            source,
            destination,
            transport,
        } = connection;
        for input in of(source) {
            for output in of(destination) {
                let packet = Packet {
                    source,
                    destination,
                    transport,
                    path: Path::Bridged,
                    input: input.clone(),
                    output,
                    dnat: false,
                    return_route: true,
                    bare_syn: true,
                    icmpv6: (128, 64),
                };
                let mut variant = |change: &dyn Fn(&mut Packet)| {
                    let mut packet = packet.clone();
                    change(&mut packet);
                    packets.push(packet);
                };
                variant(&|_| {});
                if transport == Transport::Icmp {
                    variant(&|packet| packet.icmpv6 = (143, 1));
                    variant(&|packet| packet.icmpv6 = (134, 255));
                }
                if transport == Transport::Port(Protocol::Tcp, 1) {
                    variant(&|packet| packet.dnat = true);
                    variant(&|packet| packet.return_route = false);
                    variant(&|packet| packet.bare_syn = false);
                    for path in [Path::Routed, Path::FromHost, Path::ToHost] {
                        variant(&|packet| packet.path = path);
                    }
                }
            }
        }
    }
    // What a pod sends to its own link-local address leaves by no interface.
    packets.retain(|packet| {
        let is_own = packet.source == packet.destination && packet.input == packet.output;
        let stays = is_own && packet.input != outside() && is_link_local(&packet.source);
        !stays || packet.path != Path::Bridged
    });
    packets
}

fn rulesets(clusters: &[Cluster; 2], options: [&Options; 2]) -> [Ruleset; 2] {
    let [from, to] = clusters;
    [(from, options[0]), (to, options[1])]
        .map(|(cluster, options)| lower(&support::compile_all(cluster)[support::NODES[0]], options))
}

/// Plans, follows the plan with all packets, and compares where it ends.
fn check(from: &Ruleset, to: &Ruleset) -> Result<(), TestCaseError> {
    let plan = delta(from, to, 7);
    prop_assert_eq!(&plan, &delta(from, to, 7));
    let packets = packets([from, to]);
    match follow(from, to, &plan.transactions, &packets) {
        Ok(end) => prop_assert_eq!(sorted(end), sorted(to.clone())),
        Err(wrong) => prop_assert!(false, "{wrong:#?}\nin the plan {:#?}", plan.transactions),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_small_change_leaks_and_loses_nothing(
        clusters in clusters(0.1),
        options in options(),
    ) {
        let [from, to] = rulesets(&clusters, [&options, &options]);
        check(&from, &to)?;
    }

    #[test]
    fn a_large_change_leaks_and_loses_nothing(
        clusters in clusters(0.6),
        one in options(),
        other in options(),
        same in any::<bool>(),
    ) {
        let other = if same { &one } else { &other };
        let [from, to] = rulesets(&clusters, [&one, other]);
        check(&from, &to)?;
    }

    #[test]
    fn an_edit_of_rules_and_labels_leaks_and_loses_nothing(clusters in edits()) {
        let options = Options::default();
        let [from, to] = rulesets(&clusters, [&options, &options]);
        check(&from, &to)?;
    }

    #[test]
    fn names_that_stand_for_something_else_leak_and_lose_nothing(
        clusters in prop_oneof![clusters(0.2), edits()],
        options in options(),
        comments in any::<bool>(),
    ) {
        let [from, to] = rulesets(&clusters, [&options, &options]);
        check(&anonymous(from, comments), &anonymous(to, comments))?;
    }

    #[test]
    fn pods_that_are_closed_in_what_is_in_force_lose_permission_and_nobody_else_does(
        clusters in clusters(0.2),
        options in options(),
        picks in vec(any::<bool>(), 24),
    ) {
        let [from, _] = rulesets(&clusters, [&options, &options]);
        // Pods that it knows, pods of other nodes, and pods that it never heard of.
        let pods = clusters[1].pods.values();
        let addresses = pods.flat_map(|pod| pod.addresses.iter().map(|a| (*a, pod.id.clone())));
        let mut picks = picks.into_iter().cycle();
        let closed: BTreeMap<_, _> = addresses.filter(|_| picks.next() == Some(true)).collect();
        let to = close(&from, &closed);
        check(&from, &to)?;
        let all = packets([&from, &to]);
        let in_place = |transaction: &Transaction| transaction.step != Step::CopyBase;
        prop_assert!(delta(&from, &to, 0).transactions.iter().all(in_place));
        prop_assert_eq!(&close(&to, &closed), &to);
        let (from, to) = (State::new(&from), State::new(&to));
        for packet in all {
            let ends = [packet.source, packet.destination];
            let (before, after) = (verdict(&from, &packet), verdict(&to, &packet));
            let is_closed = ends.iter().any(|end| closed.contains_key(end));
            // To itself, to and from its node, and what guards let through whoever it is for.
            let is_own = packet.source == packet.destination
                || packet.icmpv6 != (128, 64)
                || !matches!(packet.path, Path::Routed | Path::Bridged);
            match is_closed {
                true => prop_assert!(is_own || !after, "{packet:?} passes"),
                false => prop_assert_eq!(before, after, "{:?}", packet),
            }
        }
    }

    #[test]
    fn the_first_and_the_last_change_leak_and_lose_nothing(
        clusters in clusters(0.5),
        options in options(),
    ) {
        let [ruleset, _] = rulesets(&clusters, [&options, &options]);
        let none = Ruleset::default();
        check(&none, &ruleset)?;
        check(&ruleset, &none)?;
    }
}

#[test]
fn every_step_is_taken_and_most_changes_are_made_in_place() {
    let mut runner = TestRunner::deterministic();
    let strategy = (clusters(0.15), options());
    let (mut changes, mut beside) = (0, 0);
    let mut steps: BTreeMap<Step, u32> = BTreeMap::new();
    for count in 0..3000 {
        if count >= 600 && steps.len() == 16 {
            break;
        }
        let (clusters, options) = strategy.new_tree(&mut runner).unwrap().current();
        let [from, to] = rulesets(&clusters, [&options, &options]);
        let plan = delta(&from, &to, 0);
        changes += u32::from(!plan.transactions.is_empty());
        beside += u32::from(plan.transactions.iter().any(|t| t.step == Step::CopyBase));
        for transaction in plan.transactions {
            *steps.entry(transaction.step).or_default() += 1;
        }
    }
    println!("{changes} changes, {beside} beside, {steps:?}");
    assert_eq!(steps.len(), 16, "{steps:?}");
    assert!(
        beside * 4 < changes,
        "{beside} of {changes} are not recognised"
    );
}

#[test]
fn the_same_ruleset_needs_no_transaction() {
    let ruleset = lower(&compile(&Cluster::default(), "n1"), &Options::default());
    assert!(delta(&ruleset, &ruleset, 1).transactions.is_empty());
    let first = delta(&Ruleset::default(), &ruleset, 1);
    let steps: Vec<_> = first.transactions.iter().map(|t| t.step).collect();
    assert_eq!(steps, [Step::Create, Step::Tighten]);
}
