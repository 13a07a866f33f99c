//! nft as a witness: what was loaded over netlink it lists as what it loaded itself, and what it loaded itself reads back
//! as the ruleset of which it was the text.

#![allow(clippy::unwrap_used)]

#[path = "../../policy-compiler/tests/support/mod.rs"]
#[allow(dead_code, reason = "of another crate's tests")]
mod clusters;
mod support;

use kernel::Generation;
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::render;
use policy_compiler::ruleset::Ruleset;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use support::{
    ATTACHED, Attached, cases, instructions, listed, loaded_by_nft, namespace, nftables, ruleset,
};

/// Loads over netlink; compares the list with nft's, and what is read with what was loaded.
fn witnessed(ruleset: &Ruleset) -> Result<(), String> {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    let text = render::text(ruleset);
    nftables
        .load(ruleset, None)
        .map_err(|error| format!("{error}\n{text}"))?;
    let by_nft = loaded_by_nft(ruleset);
    let (ours, theirs) = (listed(&namespace), listed(&by_nft));
    if ours != theirs {
        return Err(format!("netlink:\n{ours}\nnft:\n{theirs}"));
    }
    let (ours, theirs) = (instructions(&namespace), instructions(&by_nft));
    if ours != theirs {
        let only = |one: &[String], other: &[String]| -> Vec<String> {
            let missing = one.iter().filter(|line| !other.contains(line));
            missing.cloned().collect()
        };
        let (ours, theirs) = (only(&ours, &theirs), only(&theirs, &ours));
        return Err(format!("netlink only:\n{ours:#?}\nnft only:\n{theirs:#?}"));
    }
    let found = nftables.read().map_err(|error| error.to_string())?;
    if !found.unknown.is_empty() {
        return Err(format!("{:#?}\n{text}", found.unknown));
    }
    if found.ruleset != *ruleset {
        let read = render::text(&found.ruleset);
        return Err(format!("read:\n{read}\nloaded:\n{text}"));
    }
    Ok(())
}

#[test]
fn every_golden_ruleset_is_listed_as_if_nft_had_loaded_it_and_reads_back() {
    let cases = cases();
    assert!(cases.len() > 100, "{}", cases.len());
    let mut failures = Vec::new();
    let mut count = 0;
    for (name, cluster) in &cases {
        for node in cluster.nodes.keys() {
            let ruleset = ruleset(cluster, node, Attached::Unknown, NodeEgress::Allow);
            count += 1;
            if let Err(error) = witnessed(&ruleset) {
                failures.push(format!("{name} {node}: {error}"));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {count}: {}",
        failures.len(),
        failures[0]
    );
}

#[test]
fn so_is_every_way_to_attach_pods() {
    for (name, cluster) in cases().iter().step_by(9) {
        for node in cluster.nodes.keys() {
            for attached in ATTACHED {
                for egress in [NodeEgress::Allow, NodeEgress::Policy] {
                    let ruleset = ruleset(cluster, node, attached, egress);
                    let witnessed = witnessed(&ruleset);
                    assert!(
                        witnessed.is_ok(),
                        "{name} {node} {attached:?}: {}",
                        witnessed.unwrap_err()
                    );
                }
            }
        }
    }
}

#[test]
fn so_is_any_ruleset() {
    // The same on every run: what fails today fails tomorrow.
    let config = Config {
        cases: 60,
        failure_persistence: None,
        ..Config::default()
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let attached = prop::sample::select(ATTACHED.to_vec());
    // Classes with many rules have sets of a shape of their own.
    let cluster = prop_oneof![clusters::cluster(), clusters::crowded_cluster()];
    let result = runner.run(
        &(cluster, attached, any::<bool>()),
        |(cluster, attached, own)| {
            let egress = if own {
                NodeEgress::Policy
            } else {
                NodeEgress::Allow
            };
            let ruleset = ruleset(&cluster, clusters::NODES[0], attached, egress);
            witnessed(&ruleset).map_err(TestCaseError::fail)
        },
    );
    result.unwrap();
}

#[test]
fn what_nft_loads_reads_back_as_the_ruleset() {
    for (name, cluster) in cases().iter().step_by(5) {
        for node in cluster.nodes.keys() {
            for attached in [Attached::Unknown, Attached::Bridged] {
                let ruleset = ruleset(cluster, node, attached, NodeEgress::Policy);
                let namespace = namespace();
                namespace.nft(&render::text(&ruleset)).unwrap();
                let found = nftables(&namespace).read().unwrap();
                assert_eq!(found.unknown, [], "{name} {node}");
                assert_eq!(found.ruleset, ruleset, "{name} {node}");
                assert_ne!(found.generation, Generation(0));
            }
        }
    }
}
