//! A namespace over its budget: it is found before anything is compiled, its pods are closed, and nobody else's rules
//! change by a byte.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy_compiler::budget::{Budgets, Resource, check, check_all, pods_of};
use policy_compiler::compile::{compile, compile_closed};
use policy_compiler::evaluate::Verdict;
use policy_compiler::ir::NodeIr;
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::{
    Cluster, ContainerPort, Direction, Family, LabelSelector, NamespacedName, NetworkPolicy, Node,
    Owner, Peers, Phase, Pod, PolicyPort, PortMatch, PortRange, Ports, Presence, Protocol, Rule,
};
use policy_compiler::name::Namer;
use policy_compiler::render;
use policy_compiler::ruleset::{Chain, Operand, Statement, Table, Verdict as RuleVerdict};
use proptest::prelude::*;

/// The namespace that is over its budget in these tests.
const HOSTILE: &str = "x";

/// The cluster with only those policies.
fn with_policies(cluster: &Cluster, keep: impl Fn(&NetworkPolicy) -> bool) -> Cluster {
    let mut cluster = cluster.clone();
    cluster.policies.retain(|_, policy| keep(policy));
    cluster
}

fn closed(cluster: &Cluster, node: &str, pods: &BTreeSet<NamespacedName>) -> NodeIr {
    compile_closed(cluster, node, pods, Namer::default())
}

fn any_cluster() -> impl Strategy<Value = Cluster> {
    prop_oneof![support::cluster(), support::crowded_cluster()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn policies_of_closed_pods_change_nobody_elses_rules(cluster in any_cluster()) {
        let without = with_policies(&cluster, |policy| policy.id.namespace != HOSTILE);
        for node in support::NODES {
            let pods = pods_of(&cluster, node, &[HOSTILE.to_owned()]);
            let ir = closed(&cluster, node, &pods);
            prop_assert_eq!(&ir, &closed(&without, node, &pods));
            let text = |ir| render::text(&lower(ir, &Options::default()));
            prop_assert_eq!(text(&ir), text(&closed(&without, node, &pods)));
            others_are_equal(&ir, &compile(&without, node))?;
        }
    }

    #[test]
    fn closed_pods_send_and_receive_nothing_and_closing_opens_nothing(
        cluster in any_cluster(),
        // Some pods of a namespace, as where others keep what was in force.
        some in prop::bool::ANY,
    ) {
        for (node, open) in support::compile_all(&cluster) {
            let mut pods = pods_of(&cluster, node, &[HOSTILE.to_owned()]);
            if some {
                pods.pop_first();
            }
            let ir = closed(&cluster, node, &pods);
            for connection in support::connections() {
                let ends = [connection.source, connection.destination];
                let is_closed = |address| matches!(cluster.owner(address), Owner::Pod(pod) if pods.contains(&pod.id));
                let verdict = ir.judge(connection);
                if ends.into_iter().any(is_closed) {
                    prop_assert_eq!(verdict, Verdict::Deny, "{:?}", connection);
                } else {
                    prop_assert_eq!(verdict, open.judge(connection), "{:?}", connection);
                }
            }
        }
    }

    /// Of one namespace alone, so that everything on the node is its.
    #[test]
    fn what_is_compiled_is_never_more_than_what_was_counted(cluster in any_cluster()) {
        let cluster = with_policies(&cluster, |policy| policy.id.namespace == HOSTILE);
        for node in support::NODES {
            let ir = compile(&cluster, node);
            for (resource, needed) in needed(&ir) {
                let Some(less) = needed.checked_sub(1) else { continue };
                let mut budgets = Budgets::default();
                budgets.set(resource, less);
                let exceeded = check(&cluster, node, &budgets);
                let found = exceeded.get(HOSTILE).map(|e| (e.resource, e.found >= needed));
                prop_assert_eq!(found, Some((resource, true)), "{} {}", needed, resource);
            }
        }
    }
}

/// Pods of other namespaces have the same addresses, classes, rules and sets in both.
fn others_are_equal(ir: &NodeIr, without: &NodeIr) -> Result<(), TestCaseError> {
    let others = |ir: &NodeIr| -> BTreeMap<_, _> {
        let pods = ir.pods.clone().into_iter();
        pods.filter(|(pod, _)| !pod.starts_with(&format!("{HOSTILE}/")))
            .collect()
    };
    prop_assert_eq!(others(ir), others(without));
    let classes = |ir: &NodeIr| {
        let mut classes = ir.classes.clone();
        classes.retain(|_, class| !class.policies.is_empty());
        classes
    };
    prop_assert_eq!(classes(ir), classes(without));
    prop_assert_eq!(&ir.peers, &without.peers);
    prop_assert_eq!(&ir.named_ports, &without.named_ports);
    let [table, expected] = [ir, without].map(|ir| lower(ir, &Options::default()).tables.remove(0));
    let elements = |table: &Table| -> Vec<_> {
        let maps = table.maps.iter();
        let elements = maps.flat_map(|(name, map)| map.elements.iter().map(move |e| (name, e)));
        elements
            .filter(|(_, (_, element))| !element.comment.starts_with(&format!("{HOSTILE}/")))
            .map(|(name, (key, element))| (name.clone(), key.clone(), element.clone()))
            .collect()
    };
    prop_assert_eq!(elements(&table), elements(&expected));
    // Base chains and guards depend on whether any pod of the node is isolated.
    let is_class = |chain: &&Arc<Chain>| chain.base.is_none() && chain.name.contains("gress");
    for chain in expected.chains.iter().filter(is_class) {
        prop_assert!(table.chains.contains(chain), "{}", chain.name);
    }
    for (name, set) in &expected.sets {
        let is_peers = name.starts_with("peer") || name.starts_with("ports");
        prop_assert!(!is_peers || table.sets.get(name) == Some(set), "{name}");
    }
    Ok(())
}

/// What there is in the rules, of each resource that can be counted there.
fn needed(ir: &NodeIr) -> Vec<(Resource, usize)> {
    let ruleset = lower(ir, &Options::default());
    let table = &ruleset.tables[0];
    let of_family = |family: Family| {
        let digit = if family == Family::Ipv4 { '4' } else { '6' };
        let prefixes = [Direction::Egress, Direction::Ingress].map(|d| format!("{d}{digit}_"));
        let chains = table.chains.iter();
        chains.filter(move |chain| prefixes.iter().any(|p| chain.name.starts_with(p)))
    };
    let rules = |family| {
        // All but the default at the end.
        let rules = of_family(family).map(|chain| chain.rules.len() - 1);
        rules.sum::<usize>()
    };
    let ports = |family| {
        let rules = of_family(family).flat_map(|chain| &chain.rules);
        let operands = rules.flat_map(|rule| &rule.matches).map(|m| &m.operand);
        let values = operands.map(|operand| match operand {
            Operand::Values(values) => values.len(),
            Operand::Set(_) => 0,
        });
        values.sum::<usize>()
    };
    let of_pods = |name: &str| {
        ["local", "self", "strict"]
            .iter()
            .any(|p| name.starts_with(p))
    };
    let sets = table.sets.iter().filter(|(name, _)| !of_pods(name));
    let elements = sets
        .map(|(_, set)| {
            set.elements
                .iter()
                .filter(|e| e.len() == set.key.len())
                .count()
        })
        .sum();
    let most = |count: &dyn Fn(Family) -> usize| {
        let families = Family::ALL.map(count);
        families[0].max(families[1])
    };
    vec![
        (Resource::Classes, ir.classes.len()),
        (Resource::Rules, most(&rules)),
        (Resource::Ports, most(&ports)),
        (Resource::Elements, elements),
    ]
}

fn pod(namespace: &str, name: &str, host: u8) -> Pod {
    Pod {
        id: NamespacedName::new(namespace, name),
        labels: Default::default(),
        node: Some("n1".into()),
        host_network: false,
        phase: Phase::Running,
        uid: None,
        presence: Presence::Listed,
        terminating: false,
        addresses: vec![std::net::Ipv4Addr::new(10, 0, 0, host).into()],
        ports: [].into(),
    }
}

/// Isolates all of its namespace, and allows nothing.
fn deny(namespace: &str, name: &str) -> NetworkPolicy {
    NetworkPolicy {
        id: NamespacedName::new(namespace, name),
        selector: LabelSelector::default(),
        ingress: Some(vec![]),
        egress: None,
    }
}

fn two_namespaces() -> Cluster {
    let any = Rule {
        peers: Peers::Any,
        ports: Ports::Any,
    };
    let mut large = deny("x", "large");
    large.ingress = Some(vec![any; 5]);
    let node = |name: &str| Node {
        name: name.into(),
        addresses: BTreeSet::new(),
        pod_cidrs: vec![],
    };
    Cluster::new(
        [],
        [node("n1"), node("n2")],
        [pod("x", "a", 1), pod("y", "b", 2)],
        [deny("x", "small"), large, deny("y", "small")],
    )
}

#[test]
fn who_is_over_budget_is_told_by_namespace_policy_and_remedy() {
    let budgets = Budgets {
        rules: 5,
        ..Budgets::default()
    };
    let exceeded = check_all(&two_namespaces(), &budgets);
    let texts: Vec<_> = exceeded.iter().map(ToString::to_string).collect();
    let expected = "Namespace x: its policies need at least 6 rules on node n1, and its budget is 5; most for \
        x/large (5), x/small (1): write fewer policies for the same pods, and fewer peers in them, or raise the budget";
    assert_eq!(texts, [expected]);
}

#[test]
fn at_its_budget_a_namespace_is_compiled() {
    let budgets = Budgets {
        rules: 6,
        ..Budgets::default()
    };
    assert_eq!(check_all(&two_namespaces(), &budgets), []);
}

#[test]
fn a_name_that_a_pod_gives_to_several_ports_counts_as_all_of_them() {
    let mut named = pod("x", "a", 1);
    let port = |number| ContainerPort {
        name: Some("dns".into()),
        protocol: Protocol::Tcp,
        port: number,
    };
    named.ports = [1, 3, 5].map(port).into();
    let port = |port| PolicyPort {
        protocol: Protocol::Tcp,
        port,
    };
    let range = PortRange::single(9);
    let ports = vec![
        port(PortMatch::Named("dns".into())),
        port(PortMatch::Range(range)),
    ];
    let mut policy = deny("x", "dns");
    policy.ingress = Some(vec![Rule {
        peers: Peers::Any,
        ports: Ports::Of(ports),
    }]);
    let mut cluster = two_namespaces();
    cluster = Cluster::new([], cluster.nodes.into_values(), [named], [policy]);
    let with = |ports| Budgets {
        ports,
        ..Budgets::default()
    };
    assert_eq!(check_all(&cluster, &with(4)), []);
    let [exceeded] = check_all(&cluster, &with(3)).try_into().unwrap();
    assert_eq!((exceeded.resource, exceeded.found), (Resource::Ports, 4));
}

#[test]
fn a_node_without_pods_of_the_namespace_is_not_concerned() {
    let budgets = Budgets {
        rules: 0,
        ..Budgets::default()
    };
    let cluster = two_namespaces();
    assert!(check(&cluster, "n2", &budgets).is_empty());
    let on_node: Vec<_> = check(&cluster, "n1", &budgets).into_keys().collect();
    assert_eq!(on_node, ["x", "y"]);
}

#[test]
fn a_closed_class_says_what_it_is() {
    let cluster = two_namespaces();
    let pods = pods_of(&cluster, "n1", &["x".to_owned()]);
    let ruleset = lower(&closed(&cluster, "n1", &pods), &Options::default());
    let mut chains = ruleset.tables[0].chains.iter();
    let chain = chains.find(|chain| chain.name.starts_with("egress4_closed_"));
    let rules = &chain.unwrap().rules;
    let text = "egress closed: the namespace is over its budget";
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0].comment.as_deref(), Some(text));
    assert!(matches!(
        rules[0].statement,
        Statement::Verdict(RuleVerdict::Drop)
    ));
}
