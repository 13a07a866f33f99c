//! Rulesets of random clusters are well formed: nothing is named twice, nothing that is named is missing, and no set
//! holds what the kernel refuses.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use policy_compiler::compile::compile_with;
use policy_compiler::evaluate::Verdict;
use policy_compiler::lower::{Merging, Options, lower};
use policy_compiler::model::{Cluster, Family};
use policy_compiler::name::{COMMENT_LENGTH, Namer};
use policy_compiler::render;
use policy_compiler::ruleset::{
    KeyType, Operand, Ruleset, Statement, Value, Verdict as RuleVerdict,
};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn colliding_names_never_merge_two_objects(cluster in support::cluster()) {
        for (node, ir) in support::compile_all(&cluster) {
            let colliding = compile_with(&cluster, node, Namer::with_digest_length(0));
            prop_assert_eq!(colliding.classes.len(), ir.classes.len());
            prop_assert_eq!(colliding.peers.len(), ir.peers.len());
            prop_assert_eq!(colliding.named_ports.len(), ir.named_ports.len());
            check_references(&lower(&colliding, &Options::default()))?;
            for connection in support::connections() {
                prop_assert_eq!(colliding.judge(connection), ir.judge(connection));
            }
        }
    }

    #[test]
    fn every_ruleset_is_closed_and_renders_the_same_twice(
        cluster in prop_oneof![support::cluster(), support::crowded_cluster()],
        merging in merging(),
    ) {
        let options = Options { merging, ..Options::default() };
        for ir in support::compile_all(&cluster).values() {
            let ruleset = lower(ir, &options);
            check_references(&ruleset)?;
            check_sets(&ruleset)?;
            let again = lower(&policy_compiler::compile::compile(&cluster, &ir.node), &options);
            prop_assert_eq!(render::text(&ruleset), render::text(&again));
            prop_assert_eq!(render::json(&ruleset).unwrap(), render::json(&again).unwrap());
        }
    }
}

/// From never to always, and from nothing to everything within bounds.
fn merging() -> impl Strategy<Value = Merging> {
    let above = prop_oneof![3 => Just(0), 1 => Just(3), 1 => Just(usize::MAX)];
    let elements_per_rule = prop_oneof![0..8usize, Just(1000)];
    let ranges = prop_oneof![0..40usize, Just(1000)];
    (above, elements_per_rule, ranges).prop_map(|(above, elements_per_rule, ranges)| Merging {
        above,
        elements_per_rule,
        ranges,
    })
}

/// Sets hold what the kernel accepts: ranges only where there may be some, and no two elements overlap.
fn check_sets(ruleset: &Ruleset) -> Result<(), TestCaseError> {
    for (name, set) in ruleset.tables.iter().flat_map(|table| &table.sets) {
        prop_assert!(set.comment.len() <= COMMENT_LENGTH);
        for element in &set.elements {
            prop_assert_eq!(element.len(), set.key.len());
            let mut parts = set.key.iter().zip(element);
            prop_assert!(
                parts.all(|(kind, value)| is_of(*kind, value)),
                "{name}: {element:?}"
            );
            let mut others = set.elements.iter().filter(|other| *other != element);
            prop_assert!(
                !others.any(|other| overlap(element, other)),
                "{name}: {element:?}"
            );
            let mut ranges = element.iter().filter(|value| match value {
                Value::Addresses(_) => true,
                Value::Ports(ports) => ports.first() != ports.last(),
                _ => false,
            });
            prop_assert!(
                set.interval || ranges.next().is_none(),
                "{name}: {element:?}"
            );
        }
    }
    Ok(())
}

fn is_of(kind: KeyType, value: &Value) -> bool {
    let address = match value {
        Value::Address(address) => Some(*address),
        Value::Addresses(range) => Some(range.first()),
        _ => None,
    };
    match kind {
        KeyType::Ipv4Address => address.is_some_and(|address| address.is_ipv4()),
        KeyType::Ipv6Address => address.is_some_and(|address| address.is_ipv6()),
        KeyType::Protocol => matches!(value, Value::Protocol(_)),
        KeyType::Port => matches!(value, Value::Ports(_)),
        KeyType::Interface => matches!(value, Value::Interface(_)),
    }
}

fn overlap(one: &[Value], other: &[Value]) -> bool {
    let mut parts = one.iter().zip(other);
    parts.all(|(one, other)| match (one, other) {
        (Value::Addresses(one), Value::Addresses(other)) => {
            Family::of(one.first()) == Family::of(other.first())
                && one.first() <= other.last()
                && other.first() <= one.last()
        }
        (Value::Ports(one), Value::Ports(other)) => {
            one.first() <= other.last() && other.first() <= one.last()
        }
        _ => one == other,
    })
}

/// Every name that is used is defined once, every comment fits, and every class chain ends in a verdict.
fn check_references(ruleset: &Ruleset) -> Result<(), TestCaseError> {
    for table in &ruleset.tables {
        let chains: BTreeSet<_> = table
            .chains
            .iter()
            .map(|chain| chain.name.as_str())
            .collect();
        prop_assert_eq!(chains.len(), table.chains.len(), "two chains share a name");
        let target = |verdict: &RuleVerdict| match verdict {
            RuleVerdict::Jump(chain) | RuleVerdict::Goto(chain) => chains.contains(chain.as_str()),
            _ => true,
        };
        for map in table.maps.values() {
            for element in map.elements.values() {
                prop_assert!(target(&element.verdict));
                prop_assert!(element.comment.len() <= COMMENT_LENGTH);
            }
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                for matches in &rule.matches {
                    if let Operand::Set(set) = &matches.operand {
                        let set = table.sets.get(set);
                        prop_assert!(set.is_some_and(|set| set.key.len() == matches.key.len()));
                    }
                }
                match &rule.statement {
                    Statement::Verdict(verdict) => prop_assert!(target(verdict)),
                    Statement::Reject(_) => {}
                    Statement::Lookup { map, .. } => prop_assert!(table.maps.contains_key(map)),
                }
                prop_assert!(
                    rule.comment
                        .as_ref()
                        .is_none_or(|c| c.len() <= COMMENT_LENGTH)
                );
            }
            if chain.name.starts_with("egress4_") || chain.name.starts_with("ingress4_") {
                let last = chain.rules.last().expect("a class chain has rules");
                prop_assert!(last.matches.is_empty(), "{} falls through", chain.name);
            }
        }
    }
    Ok(())
}

#[test]
fn a_node_without_pods_compiles_to_empty_rules() {
    let ir = policy_compiler::compile::compile(&Cluster::default(), "nowhere");
    assert!(ir.pods.is_empty() && ir.classes.is_empty() && ir.peers.is_empty());
    assert_eq!(ir.judge(support::connections()[0]), Verdict::Allow);
}
