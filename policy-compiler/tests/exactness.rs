//! The compiler agrees with the evaluator on random clusters, connection by connection.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use policy_compiler::compile::compile_with;
use policy_compiler::evaluate::{Connection, NodeEgress, Verdict, evaluate};
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::{Cluster, Owner};
use policy_compiler::name::{COMMENT_LENGTH, Namer};
use policy_compiler::render;
use policy_compiler::ruleset::{Operand, Ruleset, Statement, Verdict as RuleVerdict};
use proptest::prelude::*;

/// What the nodes' rules let pass together. A node does not judge what it sends or receives itself.
fn compiled_verdict(cluster: &Cluster, connection: Connection) -> Verdict {
    let owners = [connection.source, connection.destination].map(|address| cluster.owner(address));
    support::compile_all(cluster)
        .iter()
        .filter(|(node, _)| !owners.contains(&Owner::Node(node)))
        .map(|(_, ir)| ir.judge(connection))
        .max()
        .unwrap_or(Verdict::Allow)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_rules_of_the_nodes_say_what_the_evaluator_says(cluster in support::cluster()) {
        let irs = support::compile_all(&cluster);
        for connection in support::connections() {
            let owners = [connection.source, connection.destination].map(|a| cluster.owner(a));
            let compiled = irs
                .iter()
                .filter(|(node, _)| !owners.contains(&Owner::Node(node)))
                .map(|(_, ir)| ir.judge(connection))
                .max()
                .unwrap_or(Verdict::Allow);
            let evaluated = evaluate(&cluster, connection, NodeEgress::Allow);
            prop_assert_eq!(compiled, evaluated.verdict, "{:?}: {:#?}", connection, evaluated);
        }
    }

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
    fn every_ruleset_is_closed_and_renders_the_same_twice(cluster in support::cluster()) {
        for ir in support::compile_all(&cluster).values() {
            let ruleset = lower(ir, &Options::default());
            check_references(&ruleset)?;
            let again = lower(&policy_compiler::compile::compile(&cluster, &ir.node), &Options::default());
            prop_assert_eq!(render::text(&ruleset), render::text(&again));
            prop_assert_eq!(render::json(&ruleset).unwrap(), render::json(&again).unwrap());
        }
    }
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
    let connection = support::connections()[0];
    assert_eq!(
        compiled_verdict(&Cluster::default(), connection),
        Verdict::Allow
    );
}
