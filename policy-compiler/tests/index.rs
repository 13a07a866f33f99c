//! The index gives the rules of its objects, whatever the order in which they came, and says whose connections may have
//! another verdict.
//!
//! `PICKET_INDEX_SEQUENCES` says how many random sequences are tried, `PICKET_INDEX_SEED` which. A failure is shrunk.

#![allow(clippy::unwrap_used)]

#[path = "support/sequences.rs"]
mod sequences;
mod support;

use std::collections::BTreeSet;

use policy_compiler::budget::Budgets;
use policy_compiler::compile::compile_closed;
use policy_compiler::evaluate::{Connection, Evaluation, NodeEgress, evaluate};
use policy_compiler::index::{Index, Update};
use policy_compiler::lower::lower;
use policy_compiler::model::{Cluster, NetworkPolicy, Owner, PolicyId};
use policy_compiler::render;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};

use sequences::{Case, Event, Objects, sequence};

/// As many as take half a minute on two cores.
const SEQUENCES: u64 = 3_000;

fn variable(name: &str, default: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(default, |text| text.parse().expect("a number"))
}

/// What the objects make with some policies isolated.
fn effective(objects: &Objects, isolated: &BTreeSet<PolicyId>) -> Cluster {
    let mut cluster = objects.cluster();
    for id in isolated {
        if let Some(policy) = cluster.policies.get(id).cloned() {
            cluster.add_policy(NetworkPolicy {
                ingress: policy.ingress.map(|_| Vec::new()),
                egress: policy.egress.map(|_| Vec::new()),
                ..policy
            });
        }
    }
    cluster
}

/// What the node has to do with a connection: what its own pods' sides say.
fn local_verdicts(cluster: &Cluster, node: &str, connection: Connection) -> Vec<Evaluation> {
    let is_local = |address| match cluster.owner(address) {
        Owner::Pod(pod) => pod.node.as_deref() == Some(node),
        Owner::Node(_) | Owner::External => false,
    };
    if !is_local(connection.source) && !is_local(connection.destination) {
        return Vec::new();
    }
    [NodeEgress::Allow, NodeEgress::Policy]
        .map(|node_egress| {
            let mut evaluation = evaluate(cluster, connection, node_egress);
            // What another node judges, it revokes.
            if !is_local(connection.source) {
                evaluation.egress = evaluation.ingress.clone();
            }
            if !is_local(connection.destination) {
                evaluation.ingress = evaluation.egress.clone();
            }
            evaluation.verdict = evaluation.egress.verdict.max(evaluation.ingress.verdict);
            // Who decided does not matter to the connection.
            for decision in [&mut evaluation.egress, &mut evaluation.ingress] {
                decision.policies.clear();
            }
            evaluation
        })
        .into()
}

fn is_touched(update: &Update, connection: Connection) -> bool {
    update.touched.contains(&connection.source) || update.touched.contains(&connection.destination)
}

/// Runs a sequence, and compares after each update with what is made from nothing.
fn check(case: &Case) -> Result<usize, String> {
    let connections = support::connections();
    let sample = connections.iter().step_by(7);
    let mut index = Index::with_namer(
        case.node,
        case.options.clone(),
        Budgets::default(),
        case.namer,
    );
    let mut objects = Objects::default();
    let mut isolated = BTreeSet::new();
    let mut options = case.options.clone();
    let mut before = Cluster::default();
    let mut updates = 0;
    for (number, event) in case.events.iter().enumerate() {
        match event {
            Event::Apply(object) => {
                objects.apply(object.clone());
                index.apply(object.clone());
            }
            Event::Delete(id) => {
                objects.delete(id);
                index.delete(id);
            }
            Event::Reset(all) => {
                objects = Objects::default();
                all.iter().for_each(|object| objects.apply(object.clone()));
                index.reset(all.clone());
            }
            Event::Isolate(policies) => {
                isolated.clone_from(policies);
                index.isolate(policies.clone());
            }
            Event::Attach(attachments) => {
                options.attachments.clone_from(attachments);
                index.attach(attachments.clone());
            }
            Event::Update => {
                updates += 1;
                let old = index.ruleset().clone();
                let update = index.update();
                let cluster = effective(&objects, &isolated);
                let ir = compile_closed(&cluster, case.node, &BTreeSet::new(), case.namer);
                let expected = lower(&ir, &options);
                if *index.ruleset() != expected
                    || render::text(index.ruleset()) != render::text(&expected)
                {
                    return Err(format!(
                        "after event {number}:\n{}\nis not\n{}",
                        render::text(index.ruleset()),
                        render::text(&expected)
                    ));
                }
                if update.changed != (old != expected) {
                    return Err(format!("after event {number}: {update:?}"));
                }
                for connection in sample.clone() {
                    let verdicts =
                        [&before, &cluster].map(|c| local_verdicts(c, case.node, *connection));
                    let is_same = verdicts[0] == verdicts[1] || verdicts.iter().all(Vec::is_empty);
                    if !is_same && !is_touched(&update, *connection) {
                        return Err(format!(
                            "after event {number}: {connection:?} is not touched: {verdicts:?}, {:?}",
                            update.touched
                        ));
                    }
                }
                before = cluster;
            }
        }
    }
    Ok(updates)
}

#[test]
fn after_any_sequence_of_events_the_rules_are_those_made_from_nothing() {
    let sequences = variable("PICKET_INDEX_SEQUENCES", SEQUENCES);
    let seed = variable("PICKET_INDEX_SEED", 1);
    let one = |number: u64| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        bytes[8..16].copy_from_slice(&number.to_be_bytes());
        let config = ProptestConfig {
            cases: 1,
            failure_persistence: None,
            max_shrink_iters: 20_000,
            ..ProptestConfig::default()
        };
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(config, random);
        let run = |case: Case| check(&case).map(drop).map_err(TestCaseError::fail);
        match runner.run(&sequence(), run) {
            Ok(()) => {}
            Err(TestError::Fail(reason, case)) => {
                panic!("sequence {number} of seed {seed}: {reason}\n{case:#?}")
            }
            Err(error) => panic!("{error}"),
        }
    };
    let next = std::sync::atomic::AtomicU64::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if number >= sequences {
                return;
            }
            one(number);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
}
