//! The evaluator, the rules of the nodes and the kernel's rulesets say the same of every connection, and the kernel
//! takes every ruleset.
//!
//! `PICKET_AGREEMENT_CLUSTERS` says how many clusters are tried, `PICKET_AGREEMENT_SEED` which. A failure is shrunk,
//! and printed as manifests that make a golden case.

#![allow(clippy::unwrap_used)]

#[path = "support/guards.rs"]
mod guards;
#[path = "support/interactions.rs"]
mod interactions;
#[path = "support/manifests.rs"]
mod manifests;
#[path = "support/network.rs"]
mod network;
#[path = "support/owners.rs"]
mod owners;
#[path = "support/parts.rs"]
mod parts;
#[path = "support/random.rs"]
mod random;
#[path = "support/three_ways.rs"]
mod three_ways;
#[path = "support/walk/mod.rs"]
mod walk;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use kernel::{Nftables, Operation};
use policy_compiler::ruleset::{Ruleset, TableFamily};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use testbed::Namespace;

use three_ways::Counts;

/// As many as take half a minute on two cores.
const CLUSTERS: u64 = 6_000;

fn variable(name: &str, default: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(default, |text| text.parse().expect("a number"))
}

/// The kernel's nftables in a namespace, which holds one ruleset after the other.
struct Kernel {
    nftables: Nftables,
    // The socket stays in it.
    _namespace: Namespace,
}

impl Kernel {
    fn new() -> Self {
        let namespace = Namespace::new().expect("this test needs root");
        Self {
            nftables: namespace.run(Nftables::open).unwrap().unwrap(),
            _namespace: namespace,
        }
    }

    /// Loads the ruleset in place of the one before.
    fn load(&mut self, ruleset: &Ruleset) -> Result<(), kernel::Error> {
        let families = [TableFamily::Inet, TableFamily::Bridge];
        let mut operations: Vec<_> = families
            .into_iter()
            .flat_map(|family| {
                [
                    Operation::EnsureTable(family),
                    Operation::DeleteTable(family),
                ]
            })
            .collect();
        operations.extend(kernel::load(ruleset));
        self.nftables.apply(&operations, None)
    }
}

/// Tries the cluster of this number.
fn one(seed: u64, number: u64, kernel: &RefCell<Kernel>, counts: &RefCell<Counts>) {
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
    let result = runner.run(&three_ways::world(), |world| {
        let load = |ruleset: &Ruleset| {
            let loaded = kernel.borrow_mut().load(ruleset);
            loaded.map_err(|error| format!("the kernel refuses it: {error}"))
        };
        let found = three_ways::check(&world, &load);
        let found = found.map_err(TestCaseError::fail)?;
        counts.borrow_mut().add(found);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, world)) => panic!(
            "cluster {number} of seed {seed}: {reason}\n{}\n{}",
            manifests::manifests(&world.cluster),
            world.setting()
        ),
        Err(error) => panic!("cluster {number} of seed {seed}: {error}"),
    }
}

#[test]
fn the_evaluator_the_rules_and_the_kernel_agree() {
    let clusters = variable("PICKET_AGREEMENT_CLUSTERS", CLUSTERS);
    let seed = variable("PICKET_AGREEMENT_SEED", 1);
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    // Half of the time goes by waiting for the kernel.
    let threads = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    let start = Instant::now();
    let work = || {
        let (kernel, counts) = (RefCell::new(Kernel::new()), RefCell::default());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= clusters || failed.load(Ordering::Relaxed) {
                return counts.into_inner();
            }
            let guard = FailOnPanic(&failed);
            one(seed, number, &kernel, &counts);
            std::mem::forget(guard);
        }
    };
    let counts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut all = Counts::default();
        for thread in threads {
            match thread.join() {
                Ok(counts) => all.add(counts),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    println!(
        "{clusters} clusters of seed {seed} in {:?}: {counts:?}",
        start.elapsed()
    );
    // Neither side may be rare, else nothing is shown.
    assert!(counts.allowed > counts.flows / 5 && counts.denied > counts.flows / 5);
    assert!(counts.rulesets >= clusters);
}

/// Stops the other threads when this one panics.
struct FailOnPanic<'a>(&'a AtomicBool);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
