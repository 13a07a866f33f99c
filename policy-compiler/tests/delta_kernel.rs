//! The kernel takes every transaction of a plan, and ends with what a fresh load of the new ruleset gives.

#![allow(clippy::unwrap_used)]

#[path = "support/anonymous.rs"]
mod anonymous;
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::collections::BTreeMap;

use policy_compiler::delta::delta;
use policy_compiler::lower::{Options, lower};
use policy_compiler::render;
use policy_compiler::ruleset::Ruleset;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use testbed::Namespace;

/// Loads texts one after the other in a new network namespace, and lists what is there then.
fn load(texts: &[String]) -> BTreeMap<String, Vec<String>> {
    let namespace = Namespace::new().unwrap();
    for text in texts {
        if let Err(error) = namespace.nft(text) {
            panic!("{error}\n{text}");
        }
    }
    objects(&namespace.nft("list ruleset").unwrap())
}

/// Sets and chains by table and name: their order is of no account.
fn objects(list: &str) -> BTreeMap<String, Vec<String>> {
    let (mut objects, mut table, mut name) = (BTreeMap::new(), String::new(), String::new());
    for line in list.lines() {
        if line.starts_with("table") {
            table = line.to_owned();
        } else if line.starts_with("\t") && !line.starts_with("\t\t") && line.ends_with('{') {
            name = format!("{table} {line}");
        }
        let lines: &mut Vec<String> = objects.entry(format!("{table} {name}")).or_default();
        // Elements are listed in the order of the hash.
        let mut words: Vec<_> = line
            .trim()
            .trim_start_matches("elements = {")
            .split(", ")
            .collect();
        for word in &mut words {
            *word = word.trim_matches(|c: char| ", {}".contains(c));
        }
        lines.extend(
            words
                .into_iter()
                .map(str::to_owned)
                .filter(|word| !word.is_empty()),
        );
    }
    for (name, lines) in &mut objects {
        if !name.contains("chain ") {
            lines.sort();
        }
    }
    objects
}

#[test]
fn the_kernel_takes_every_plan_and_ends_with_the_new_ruleset() {
    let mut runner = TestRunner::deterministic();
    let strategy = (support::cluster(), support::cluster());
    for case in 0..16 {
        let (one, mut other) = strategy.new_tree(&mut runner).unwrap().current();
        // The same policies with other rules, and other pods.
        let policies: Vec<_> = other.policies.values().cloned().collect();
        for (mut policy, old) in policies.into_iter().zip(one.policies.values()) {
            policy.selector = old.selector.clone();
            other.add_policy(policy);
        }
        let [one, other] = [&one, &other].map(|cluster| {
            lower(
                &support::compile_all(cluster)[support::NODES[0]],
                &Options::default(),
            )
        });
        // Every other time without stable names: sets of ranges change in place.
        let stable = case % 2 == 0;
        let [one, other] = [one, other].map(|ruleset| match stable {
            true => ruleset,
            false => anonymous::anonymous(ruleset, case % 4 == 1),
        });
        let rulesets = [Ruleset::default(), one, other.clone(), Ruleset::default()];
        let mut texts = Vec::new();
        let mut ends = Vec::new();
        for pair in rulesets.windows(2) {
            let plan = delta(&pair[0], &pair[1], 0);
            texts.extend(plan.transactions.iter().map(render::transaction));
            ends.push(texts.len());
        }
        let end = load(&texts[..ends[1]]);
        assert!(!end.is_empty());
        assert_eq!(end, load(&[render::text(&other)]));
        assert!(load(&texts).is_empty());
    }
}
