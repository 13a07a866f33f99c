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
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use kernel::{Nftables, Operation};
use policy_compiler::ruleset::{Ruleset, TableFamily};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use testbed::Namespace;

use three_ways::Counts;

/// As many as take a minute on two cores.
const CLUSTERS: u64 = 8_000;

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

/// Tries the cluster of this number. One that disagrees is shrunk.
fn one(seed: u64, number: u64, kernel: &RefCell<Kernel>) -> Result<Counts, String> {
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
    let counts = RefCell::new(Counts::default());
    let result = runner.run(&three_ways::world(), |world| {
        let load = |ruleset: &Ruleset| {
            let loaded = kernel.borrow_mut().load(ruleset);
            loaded.map_err(|error| format!("the kernel refuses it: {error}"))
        };
        let found = three_ways::check(&world, &load);
        *counts.borrow_mut() = found.map_err(TestCaseError::fail)?;
        Ok(())
    });
    match result {
        Ok(()) => Ok(counts.into_inner()),
        Err(TestError::Fail(reason, world)) => Err(format!(
            "cluster {number} of seed {seed}: {reason}\n{}\n{}",
            manifests::manifests(&world.cluster),
            world.setting()
        )),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_evaluator_the_rules_and_the_kernel_agree() {
    let clusters = variable("PICKET_AGREEMENT_CLUSTERS", CLUSTERS);
    let seed = variable("PICKET_AGREEMENT_SEED", 1);
    // Much of the time goes by waiting for the kernel, which ends many waits at once.
    let threads = 4 * std::thread::available_parallelism().map_or(1, usize::from);
    let (next, start) = (AtomicU64::new(0), Instant::now());
    let (counts, failure) = (Mutex::new(Counts::default()), Mutex::new(None));
    let work = || {
        let kernel = RefCell::new(Kernel::new());
        while failure.lock().unwrap().is_none() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= clusters {
                return;
            }
            match one(seed, number, &kernel) {
                Ok(found) => counts.lock().unwrap().add(found),
                Err(error) => *failure.lock().unwrap() = Some(error),
            }
        }
    };
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    if let Some(failure) = failure.into_inner().unwrap() {
        panic!("{failure}");
    }
    let (counts, time) = (counts.into_inner().unwrap(), start.elapsed());
    println!("{clusters} clusters of seed {seed} in {time:?}: {counts:?}");
    // Neither side may be rare, else nothing is shown.
    assert!(counts.allowed > counts.flows / 6 && counts.denied > counts.flows / 6);
    assert!(counts.rulesets >= clusters);
}
