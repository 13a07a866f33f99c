//! Bugs put into the compiler on purpose: `verify` finds each of them with the flows that it chooses itself.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::verify::{Compiler, Summary, compiled, sample, table, verify};
use policy_compiler::compile::compile;
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::ir::{Action, NodeIr, PeerMatch, PeerMembers, PortsMatch};
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::{
    AddressRanges, Cluster, Direction, IpBlock, LabelSelector, NamespaceScope, NetworkPolicy, Peer,
    Peers, Phase, PortMatch, PortRange, PortRanges, Ports, Protocol, Requirement, Rule,
};
use policy_compiler::ruleset::{Rule as NftRule, Ruleset, Statement, Verdict};
use support::{CASES, load, settings};
use testbed::Network;

/// Verifies a case with this compiler, and expects disagreements where the real one has none.
#[track_caller]
fn found(case: &str, network: Network, broken: Compiler<'_>) {
    let manifests = std::fs::read_to_string(format!("{CASES}/{case}/cluster.yaml")).unwrap();
    let cluster = load(&manifests).unwrap();
    let questions = sample(&cluster, NodeEgress::Allow).questions;
    let run = |compiler: Compiler<'_>| {
        let answers = verify(
            &cluster,
            &questions,
            &settings(network),
            compiler,
            &mut |_, _| {},
        );
        let answers = answers.unwrap();
        (Summary::of(&answers), table(&questions, &answers))
    };
    let (sound, text) = run(&compiled);
    assert_eq!(sound.disagree, 0, "without the bug:\n{text}");
    assert!(
        sound.allowed > 0 && sound.denied > 0,
        "a side is missing:\n{text}"
    );
    let (summary, text) = run(broken);
    assert!(summary.disagree > 0, "the bug was not found:\n{text}");
}

/// A compiler that reads other policies than there are.
fn reads(change: impl Fn(&mut NetworkPolicy)) -> impl Fn(&Cluster, &str, &Options) -> Ruleset {
    move |cluster, node, options| {
        let mut policies: Vec<_> = cluster.policies.values().cloned().collect();
        policies.iter_mut().for_each(&change);
        let pods = cluster.pods.values().cloned();
        let changed = Cluster::new(
            cluster.namespaces.values().cloned(),
            cluster.nodes.values().cloned(),
            pods,
            policies,
        );
        compiled(&changed, node, options)
    }
}

fn rules_of(policy: &mut NetworkPolicy) -> impl Iterator<Item = &mut Rule> {
    policy
        .ingress
        .iter_mut()
        .chain(policy.egress.iter_mut())
        .flatten()
}

fn peers_of(policy: &mut NetworkPolicy) -> impl Iterator<Item = &mut Peer> {
    rules_of(policy).flat_map(|rule| match &mut rule.peers {
        Peers::Any => [].iter_mut(),
        Peers::Of(peers) => peers.iter_mut(),
    })
}

fn ports_of(
    policy: &mut NetworkPolicy,
) -> impl Iterator<Item = &mut policy_compiler::model::PolicyPort> {
    rules_of(policy).flat_map(|rule| match &mut rule.ports {
        Ports::Any => [].iter_mut(),
        Ports::Of(ports) => ports.iter_mut(),
    })
}

/// A compiler whose result is changed before it is lowered.
fn makes(change: impl Fn(&mut NodeIr)) -> impl Fn(&Cluster, &str, &Options) -> Ruleset {
    move |cluster, node, options| {
        let mut ir = compile(cluster, node);
        change(&mut ir);
        lower(&ir, options)
    }
}

fn ir_rules(ir: &mut NodeIr) -> impl Iterator<Item = &mut policy_compiler::ir::Rule> {
    let tiers = ir.classes.values_mut().flat_map(|class| &mut class.tiers);
    tiers.flat_map(|tier| &mut tier.rules)
}

/// A compiler whose ruleset is changed.
fn lowers(change: impl Fn(&mut Ruleset)) -> impl Fn(&Cluster, &str, &Options) -> Ruleset {
    move |cluster, node, options| {
        let mut ruleset = compiled(cluster, node, options);
        change(&mut ruleset);
        ruleset
    }
}

#[test]
fn an_except_that_is_forgotten() {
    let forget = reads(|policy| {
        for peer in peers_of(policy) {
            if let Peer::Block(block) = peer {
                *block = IpBlock::new(block.cidr(), vec![]).unwrap();
            }
        }
    });
    found("ipblock-except", Network::Routed, &forget);
}

#[test]
fn an_except_that_also_closes_the_addresses_of_other_peers() {
    let close = |cluster: &Cluster, node: &str, options: &Options| {
        let mut policies: Vec<_> = cluster.policies.values().cloned().collect();
        let excepts: Vec<_> = policies
            .iter_mut()
            .flat_map(peers_of)
            .flat_map(|peer| match peer {
                Peer::Block(block) => block.except().to_vec(),
                Peer::Pods { .. } => vec![],
            })
            .collect();
        let mut ir = compile(cluster, node);
        for peer in ir.peers.values_mut() {
            if let PeerMembers::Block(ranges) = &mut peer.members {
                *ranges = ranges.minus(&AddressRanges::union(&excepts));
            }
        }
        lower(&ir, options)
    };
    found(
        "ipblock-except-reopened-by-another-item",
        Network::Routed,
        &close,
    );
}

#[test]
fn a_cross_product_of_addresses_and_named_ports() {
    let product = makes(|ir| {
        for ports in ir.named_ports.values_mut() {
            let members: Vec<_> = ports.members.iter().copied().collect();
            for (address, ..) in &members {
                ports.members.extend(
                    members
                        .iter()
                        .map(|(_, protocol, port)| (*address, *protocol, *port)),
                );
            }
        }
    });
    found(
        "named-port-egress-different-numbers",
        Network::Routed,
        &product,
    );
}

#[test]
fn a_cross_product_of_the_selected_pods_numbers() {
    // All pods share the class of the first, whatever their ports' numbers.
    let share = makes(|ir| {
        let mut numbers: BTreeMap<Protocol, PortRanges> = BTreeMap::new();
        for rule in ir_rules(ir) {
            if let PortsMatch::Of(ports) = &rule.matches.ports {
                for (protocol, ranges) in ports {
                    let all = numbers.entry(*protocol).or_default();
                    ranges.iter().for_each(|range| all.insert(range));
                }
            }
        }
        for rule in ir_rules(ir) {
            rule.matches.ports = PortsMatch::Of(numbers.clone());
        }
    });
    found(
        "named-port-ingress-different-numbers",
        Network::Routed,
        &share,
    );
}

#[test]
fn a_name_that_is_not_found_and_matches_every_port() {
    // The case's policy names `http`, which is 8080 where it is found, and 443.
    let open = makes(|ir| {
        for rule in ir_rules(ir) {
            let is_found = matches!(&rule.matches.ports, PortsMatch::Of(ports)
                if ports.values().any(|ranges| ranges.contains(8080)));
            if !is_found {
                rule.matches.ports = PortsMatch::Any;
            }
        }
    });
    found("named-port-not-found", Network::Routed, &open);
}

#[test]
fn a_family_that_is_forgotten() {
    let forget = lowers(|ruleset| {
        for table in &mut ruleset.tables {
            for name in ["egress6", "ingress6"] {
                for map in table.maps.get_mut(name).into_iter().map(Arc::make_mut) {
                    let keys: Vec<_> = map.elements.keys().cloned().collect();
                    for key in &keys {
                        map.elements[key].verdict = Verdict::Accept;
                    }
                }
            }
        }
    });
    found("pods-dual-stack", Network::Routed, &forget);
    found("pods-dual-stack", Network::Bridged, &forget);
}

#[test]
fn a_direction_that_is_forgotten() {
    for (direction, case) in [
        (Direction::Egress, "types-egress-only"),
        (Direction::Ingress, "types-ingress-only"),
    ] {
        let forget = reads(|policy| match direction {
            Direction::Egress => policy.egress = None,
            Direction::Ingress => policy.ingress = None,
        });
        found(case, Network::Routed, &forget);
    }
}

#[test]
fn a_class_that_does_not_end_in_a_drop() {
    let open = makes(|ir| {
        let tiers = ir.classes.values_mut().flat_map(|class| &mut class.tiers);
        tiers.for_each(|tier| tier.default = Action::Accept);
    });
    found("recipe-02-limit-traffic-to-an-app", Network::Bridged, &open);
}

#[test]
fn a_pod_selector_that_selects_in_every_namespace() {
    let wide = reads(|policy| {
        for peer in peers_of(policy) {
            if let Peer::Pods { namespaces, .. } = peer {
                *namespaces = NamespaceScope::Matching(LabelSelector::default());
            }
        }
    });
    found("selector-pod-own-namespace-only", Network::Routed, &wide);
}

#[test]
fn an_empty_namespace_selector_that_means_everybody() {
    let everybody = reads(|policy| rules_of(policy).for_each(|rule| rule.peers = Peers::Any));
    found(
        "selector-empty-namespace-is-not-everybody",
        Network::Routed,
        &everybody,
    );
}

#[test]
fn both_selectors_read_as_either() {
    let either = reads(|policy| {
        for rule in rules_of(policy) {
            let Peers::Of(peers) = &mut rule.peers else {
                continue;
            };
            let split = peers.drain(..).flat_map(|peer| match peer {
                Peer::Pods { namespaces, pods } => vec![
                    Peer::Pods {
                        namespaces,
                        pods: LabelSelector::default(),
                    },
                    Peer::Pods {
                        namespaces: NamespaceScope::Matching(LabelSelector::default()),
                        pods,
                    },
                ],
                block => vec![block],
            });
            rule.peers = Peers::Of(split.collect());
        }
    });
    found("selector-both-in-one-item", Network::Routed, &either);
}

#[test]
fn a_not_in_that_wants_the_key() {
    let wanting = |selector: &LabelSelector| {
        let requirements = selector
            .requirements()
            .flat_map(|requirement| match requirement {
                Requirement::NotIn(key, _) => {
                    vec![requirement.clone(), Requirement::Exists(key.clone())]
                }
                other => vec![other.clone()],
            });
        LabelSelector::new(requirements)
    };
    let strict = reads(|policy| {
        policy.selector = wanting(&policy.selector);
        for peer in peers_of(policy) {
            if let Peer::Pods { pods, .. } = peer {
                *pods = wanting(pods);
            }
        }
    });
    found("selector-not-in", Network::Routed, &strict);
}

#[test]
fn an_end_port_that_is_ignored() {
    let first_only = reads(|policy| {
        for port in ports_of(policy) {
            if let PortMatch::Range(range) = &mut port.port {
                *range = PortRange::single(range.first());
            }
        }
    });
    found("rules-end-port", Network::Routed, &first_only);
}

#[test]
fn sctp_that_is_read_as_tcp() {
    let tcp = reads(|policy| {
        for port in ports_of(policy).filter(|port| port.protocol == Protocol::Sctp) {
            port.protocol = Protocol::Tcp;
        }
    });
    found("protocol-sctp-rule-isolates", Network::Routed, &tcp);
}

#[test]
fn a_protocol_that_is_ignored() {
    let both = reads(|policy| {
        for rule in rules_of(policy) {
            let Ports::Of(ports) = &mut rule.ports else {
                continue;
            };
            for protocol in Protocol::ALL {
                let mut more = ports.clone();
                more.iter_mut().for_each(|port| port.protocol = protocol);
                ports.extend(more);
            }
            ports.sort();
            ports.dedup();
        }
    });
    found("protocol-udp-is-not-tcp", Network::Routed, &both);
}

#[test]
fn icmp_that_passes_a_rule_with_ports() {
    let open = makes(|ir| ir_rules(ir).for_each(|rule| rule.matches.ports = PortsMatch::Any));
    found(
        "protocol-icmp-needs-a-rule-without-ports",
        Network::Routed,
        &open,
    );
}

#[test]
fn ports_that_are_forgotten_or_peers_that_are() {
    let no_peers = makes(|ir| ir_rules(ir).for_each(|rule| rule.matches.peer = PeerMatch::Any));
    let no_ports = makes(|ir| ir_rules(ir).for_each(|rule| rule.matches.ports = PortsMatch::Any));
    found("rules-ports-and-peers", Network::Routed, &no_peers);
    found("rules-ports-and-peers", Network::Routed, &no_ports);
}

#[test]
fn only_the_first_policy_of_a_pod_counts() {
    let first = makes(|ir| {
        for class in ir.classes.values_mut() {
            let first = class.policies[0].clone();
            for tier in &mut class.tiers {
                tier.rules
                    .retain(|rule| rule.policies == BTreeSet::from([first.clone()]));
            }
        }
    });
    found("policies-two-add-up", Network::Routed, &first);
}

/// A compiler that takes pods for others than they are.
fn sees(
    change: impl Fn(&mut policy_compiler::model::Pod),
) -> impl Fn(&Cluster, &str, &Options) -> Ruleset {
    move |cluster, node, options| {
        let mut pods: Vec<_> = cluster.pods.values().cloned().collect();
        pods.iter_mut().for_each(&change);
        let changed = Cluster::new(
            cluster.namespaces.values().cloned(),
            cluster.nodes.values().cloned(),
            pods,
            cluster.policies.values().cloned(),
        );
        compiled(&changed, node, options)
    }
}

#[test]
fn a_terminating_pod_that_is_no_longer_isolated() {
    let forget = sees(|pod| {
        if pod.terminating {
            pod.phase = Phase::Failed;
        }
    });
    found("pods-terminating-still-count", Network::Routed, &forget);
}

#[test]
fn a_pending_pod_that_is_no_peer() {
    let forget = sees(|pod| {
        if pod.phase == Phase::Pending {
            pod.phase = Phase::Failed;
        }
    });
    found("pods-pending-with-an-address", Network::Routed, &forget);
}

/// Drops the rules that the predicate finds from every base chain.
fn without(predicate: impl Fn(&NftRule) -> bool) -> impl Fn(&Cluster, &str, &Options) -> Ruleset {
    lowers(move |ruleset| {
        for table in &mut ruleset.tables {
            for chain in &mut table.chains {
                Arc::make_mut(chain).rules.retain(|rule| !predicate(rule));
            }
        }
    })
}

#[test]
fn a_node_that_cannot_reach_its_own_pods() {
    let is_exemption = |rule: &NftRule| rule.comment.as_deref() == Some("this node to its pods");
    // Without the exemption the output chain still accepts what no map knows: it must also be judged.
    let judge = without(is_exemption);
    found("node-own-node-reaches-its-pods", Network::Routed, &judge);
}

#[test]
fn a_map_that_is_not_asked() {
    for (map, case) in [
        ("egress4", "types-egress-only"),
        ("ingress4", "types-ingress-only"),
    ] {
        let unasked = without(|rule| {
            let asks =
                matches!(&rule.statement, Statement::Lookup { map: asked, .. } if asked == map);
            let closes = rule.comment.as_deref() == Some("pod without a class");
            asks || closes
        });
        found(case, Network::Routed, &unasked);
    }
}
