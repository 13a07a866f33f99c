//! How compiling grows with the cluster: `cargo run --release -p policy-compiler --example scale`.
//!
//! What is timed is all from the cluster to the ruleset of one of its nodes. In each round the same cluster is also
//! read, and passed over plainly, and what is printed are the medians, with the middle half of the rounds. Times are of
//! this machine; ratios carry further. Memory is the most that was allocated beyond the cluster, which is the same in
//! each round. Inputs that are made to hurt come last, as ratios to a usual one.
//!
//! - The plain pass asks of each pod of the cluster which policies of its namespace select it, one after the other.
//! - Reading is serde_json's, of the same objects to [`policy_compiler::api`] types; nothing is validated.

mod cluster;
mod hostile;

use std::collections::BTreeSet;
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use cluster::{Manifests, NODE, Objects};
use peak_alloc::PeakAlloc;
use policy_compiler::compile::compile;
use policy_compiler::ir::NodeIr;
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::Cluster;
use policy_compiler::ruleset::Ruleset;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Policies and pods.
const SIZES: [(usize, usize); 5] = [
    (1, 100),
    (1_000, 10_000),
    (2_500, 25_000),
    (5_000, 50_000),
    (10_000, 100_000),
];
/// The one that others are compared with.
const USUAL: (usize, usize) = SIZES[1];
const ROUNDS: usize = 11;
/// Some take long.
const HOSTILE_ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let mut before: Option<Measured> = None;
    for (policies, pods) in SIZES {
        let input = Input::new(&Manifests::new(policies, pods))?;
        let measured = input.measure(ROUNDS)?;
        println!("{policies} policies, {pods} pods");
        println!("  {}", input.describe());
        measured.print();
        if let Some(before) = before.filter(|_| policies > 1_000) {
            let from = before.policies;
            println!(
                "  {:.2} times the input of {from} policies: {:.2} times the time, {:.2} times the memory",
                policies as f64 / from as f64,
                measured.time() / before.time(),
                measured.bytes as f64 / before.bytes as f64,
            );
        }
        before = Some(measured);
    }
    let usual = Input::new(&Manifests::new(USUAL.0, USUAL.1))?;
    println!("As ratios to {} policies, {} pods:", USUAL.0, USUAL.1);
    for (what, manifests) in hostile::cases() {
        let case = Input::new(&manifests)?;
        let mut ratios = Vec::new();
        let mut bytes = (0, 0);
        for _ in 0..HOSTILE_ROUNDS {
            let (by_usual, least) = usual.compile();
            let (by_case, most) = case.compile();
            ratios.push(by_case.as_secs_f64() / by_usual.as_secs_f64());
            bytes = (most, least);
        }
        println!("{what}: {} of JSON", mebibytes(case.json.len()));
        println!("  {}", case.describe());
        println!("  time {}", Spread::of(ratios));
        println!(
            "  memory {:.2} ({})",
            bytes.0 as f64 / bytes.1 as f64,
            mebibytes(bytes.0)
        );
    }
    Ok(())
}

struct Input {
    json: String,
    cluster: Cluster,
    /// What the cluster takes.
    bytes: usize,
}

impl Input {
    fn new(manifests: &Manifests) -> Result<Self, Box<dyn Error>> {
        let json = manifests.json();
        let objects: Objects = serde_json::from_str(&json)?;
        let before = MEMORY.current_usage();
        let cluster = objects
            .cluster()
            .map_err(|errors| format!("not valid: {errors:?}"))?;
        let bytes = MEMORY.current_usage() - before;
        Ok(Self {
            json,
            cluster,
            bytes,
        })
    }

    fn measure(&self, rounds: usize) -> Result<Measured, Box<dyn Error>> {
        let mut measured = Measured {
            policies: self.cluster.policies.len(),
            times: Vec::new(),
            to_plain: Vec::new(),
            to_reading: Vec::new(),
            bytes: 0,
        };
        for _ in 0..rounds {
            let (time, bytes) = self.compile();
            let (plain, _) = timed(|| plain_pass(&self.cluster));
            let (reading, objects) = timed(|| serde_json::from_str::<Objects>(&self.json));
            drop(objects?);
            let time = time.as_secs_f64();
            measured.times.push(time * 1e3);
            measured.to_plain.push(time / plain.as_secs_f64());
            measured.to_reading.push(time / reading.as_secs_f64());
            measured.bytes = bytes;
        }
        Ok(measured)
    }

    /// How long compiling takes, and the most memory while it runs.
    fn compile(&self) -> (Duration, usize) {
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let (time, rules) = timed(|| compiled(&self.cluster));
        drop(rules);
        (time, MEMORY.peak_usage() - before)
    }

    fn describe(&self) -> String {
        let (ir, ruleset) = compiled(&self.cluster);
        let classes = ir.classes.values();
        let policies: BTreeSet<_> = classes.flat_map(|class| &class.policies).collect();
        let rules = ruleset.tables.iter().flat_map(|table| &table.chains);
        let sets = ruleset.tables.iter().flat_map(|table| table.sets.values());
        format!(
            "cluster {}; on the node {} pods, {} policies, {} classes, {} peers; {} rules, {} elements",
            mebibytes(self.bytes),
            ir.pods.len(),
            policies.len(),
            ir.classes.len(),
            ir.peers.len() + ir.named_ports.len(),
            rules.map(|chain| chain.rules.len()).sum::<usize>(),
            sets.map(|set| set.elements.len()).sum::<usize>(),
        )
    }
}

fn compiled(cluster: &Cluster) -> (NodeIr, Ruleset) {
    let ir = compile(cluster, NODE);
    let ruleset = lower(&ir, &Options::default());
    (ir, ruleset)
}

/// How many policies select pods, counted once for each pod.
fn plain_pass(cluster: &Cluster) -> usize {
    let selecting = |pod: &policy_compiler::model::Pod| {
        let policies = cluster.policies_in(&pod.id.namespace);
        policies
            .filter(|policy| policy.selector.matches(&pod.labels))
            .count()
    };
    cluster.pods.values().map(selecting).sum()
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = black_box(work());
    (start.elapsed(), result)
}

/// Rounds of one size.
struct Measured {
    policies: usize,
    /// In milliseconds.
    times: Vec<f64>,
    to_plain: Vec<f64>,
    to_reading: Vec<f64>,
    bytes: usize,
}

impl Measured {
    fn time(&self) -> f64 {
        Spread::of(self.times.clone()).median
    }

    fn print(&self) {
        println!("  compiled in ms: {}", Spread::of(self.times.clone()));
        let plain = Spread::of(self.to_plain.clone());
        println!("  time as a ratio to the plain pass: {plain}");
        let reading = Spread::of(self.to_reading.clone());
        println!("  time as a ratio to reading the objects: {reading}");
        println!("  memory beyond the cluster: {}", mebibytes(self.bytes));
    }
}

/// The median and the middle half.
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |part: f64| values[((values.len() - 1) as f64 * part).round() as usize];
        Self {
            low: at(0.25),
            median: at(0.5),
            high: at(0.75),
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.median < 1.0 { 3 } else { 1 };
        write!(
            f,
            "{:.digits$} ({:.digits$} to {:.digits$})",
            self.median, self.low, self.high
        )
    }
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
