//! Whatever bytes come as manifests or flows: no panic, no overflow of the stack, memory in proportion to the input,
//! and every error says where.
//!
//! `PICKET_FUZZ_INPUTS` says how many inputs are tried, `PICKET_FUZZ_SEED` which. One test, since memory is counted
//! for the whole process.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod fuzz {
    pub(crate) mod attacks;
    pub(crate) mod mutate;
}
#[path = "../../policy-compiler/tests/support/random.rs"]
mod random;
mod support;
#[path = "support/tokens.rs"]
mod tokens;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use controller::flow::{Answer, read_lines};
use controller::{cluster, source};
use fuzz::attacks::attacks;
use fuzz::mutate::{mutated, one_of};
use peak_alloc::PeakAlloc;
use policy_compiler::compile::compile;
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::lower::{Options, lower};
use policy_compiler::validate;
use random::Random;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// As many as take some seconds.
const INPUTS: u64 = 15_000;

/// Bytes of memory for a byte of input. A value of one character takes as many as its tokens and its place in a list;
/// the most that was seen is 485.
const PER_BYTE: usize = 600;
/// What aliases may add to that; the most that was seen is 53 MB.
const AT_LEAST: usize = 96 << 20;
/// The same for inputs without aliases.
const AT_LEAST_WITHOUT_ALIASES: usize = 1 << 20;

fn variable(name: &str, default: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(default, |text| text.parse().expect("a number"))
}

/// Manifests as YAML and as JSON, and flows.
struct Corpus {
    manifests: Vec<Vec<u8>>,
    flows: Vec<Vec<u8>>,
}

impl Corpus {
    fn read() -> Self {
        let mut corpus = Self {
            manifests: vec![include_bytes!("source_properties.yaml").to_vec()],
            flows: Vec::new(),
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for folder in ["testdata", "examples"] {
            corpus.add(&root.join(folder));
        }
        for manifests in corpus.manifests.clone() {
            let loaded = source::load_bytes([("x.yaml", manifests.as_slice())]).unwrap();
            let objects = loaded.objects.iter().map(|sourced| json(&sourced.object));
            corpus
                .manifests
                .push(objects.collect::<String>().into_bytes());
        }
        corpus
    }

    /// In the order of names, so that a seed means the same everywhere.
    fn add(&mut self, path: &Path) {
        if path.is_dir() {
            let entries = fs::read_dir(path).unwrap();
            let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            // Values of a chart are no manifests.
            paths.retain(|path| !path.ends_with("chart"));
            paths.sort();
            return paths.iter().for_each(|path| self.add(path));
        }
        let name = path.file_name().unwrap().to_string_lossy();
        if name.ends_with(".yaml") {
            self.manifests.push(fs::read(path).unwrap());
        } else if name == "flows.jsonl" {
            self.flows.push(fs::read(path).unwrap());
        }
    }
}

fn json(object: &policy_compiler::api::Object) -> String {
    let mut value = serde_json::to_value(object).unwrap();
    let version = match object.kind() {
        "NetworkPolicy" => "networking.k8s.io/v1",
        _ => "v1",
    };
    value["apiVersion"] = version.into();
    value.to_string() + "\n"
}

/// Reads the manifests, and does with them what the commands do. An error must say in which file it is.
fn manifests(name: &str, bytes: &[u8]) {
    let loaded = match source::load_bytes([(name, bytes)]) {
        Ok(loaded) => loaded,
        Err(errors) => {
            assert!(!errors.problems().is_empty());
            let text = errors.to_string();
            let mut lines = text.lines();
            assert!(lines.all(|line| line.starts_with(name) || line.contains(" more problems")));
            for problem in errors.problems() {
                // A field is one of an object.
                assert!(
                    problem.field.is_none() || problem.object.is_some(),
                    "{problem}"
                );
            }
            return;
        }
    };
    match cluster::build(&loaded, validate::Options::default()) {
        Ok(cluster) => {
            for node in cluster.nodes.keys().take(2) {
                drop(lower(&compile(&cluster, node), &Options::default()));
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.lines().all(|line| line.starts_with(name)), "{text}");
        }
    }
}

fn flows(bytes: &[u8], cluster: &policy_compiler::model::Cluster) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match read_lines(text) {
        Ok(questions) => {
            for question in &questions {
                drop(Answer::to(cluster, question, NodeEgress::Allow));
            }
        }
        Err(error) => {
            let text = error.to_string();
            let line = text.split(':').next().and_then(|line| line.parse().ok());
            assert_eq!(line, Some(error.line), "{text}");
        }
    }
}

/// Does it, and fails with the input if it panics or takes too much memory. Returns how long it took, and the bytes
/// that it took for each byte of the input.
fn bounded(what: &str, bytes: &[u8], work: impl FnOnce()) -> (Duration, usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(work));
    let (taken, time) = (MEMORY.peak_usage().saturating_sub(before), start.elapsed());
    let at_least = match bytes.contains(&b'*') {
        true => AT_LEAST,
        false => AT_LEAST_WITHOUT_ALIASES,
    };
    let is_bounded = taken <= bytes.len() * PER_BYTE + at_least;
    if result.is_err() || !is_bounded {
        let shown: String = bytes.escape_ascii().map(char::from).take(4000).collect();
        panic!("{what}: {} bytes took {taken}: {shown}", bytes.len());
    }
    (time, taken / bytes.len().max(1))
}

#[test]
fn no_input_makes_it_panic_or_take_more_memory_than_in_proportion() {
    // A thread like any other, with the stack that threads have.
    let thread = std::thread::spawn(|| {
        let corpus = Corpus::read();
        let mut worst = Worst::default();
        for (name, bytes) in attacks() {
            for file in ["x.yaml", "x.json"] {
                let cost = bounded(&name, &bytes, || manifests(file, &bytes));
                worst.add(&format!("{name} as {file}"), cost);
            }
        }
        let small = support::cases()
            .swap_remove(0)
            .read("cluster.yaml")
            .into_bytes();
        for end in 0..small.len() {
            bounded("cut off", &small[..end], || {
                manifests("x.yaml", &small[..end])
            });
        }
        println!("made to cost much: {worst:?}");
        mutants(&corpus);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What cost most.
#[derive(Debug, Default)]
struct Worst {
    time: (Duration, String),
    per_byte: (usize, String),
}

impl Worst {
    fn add(&mut self, what: &str, (time, per_byte): (Duration, usize)) {
        if time > self.time.0 {
            self.time = (time, what.to_owned());
        }
        if per_byte > self.per_byte.0 {
            self.per_byte = (per_byte, what.to_owned());
        }
    }
}

fn mutants(corpus: &Corpus) {
    let inputs = variable("PICKET_FUZZ_INPUTS", INPUTS);
    let seed = variable("PICKET_FUZZ_SEED", 1);
    let cluster = support::cases().swap_remove(0).cluster().unwrap();
    let mut worst = Worst::default();
    for number in 0..inputs {
        // Each number is an input of its own, whatever came before.
        let mut random = Random(seed.wrapping_mul(0x1000_0000_01b3) ^ number);
        let what = format!("input {number} of seed {seed}");
        let cost = if random.below(8) == 0 {
            let bytes = mutated(&mut random, &corpus.flows);
            bounded(&what, &bytes, || flows(&bytes, &cluster))
        } else {
            let bytes = mutated(&mut random, &corpus.manifests);
            let file = one_of(&mut random, &["x.yaml", "x.yaml", "x.json"]);
            bounded(&what, &bytes, || manifests(file, &bytes))
        };
        worst.add(&what, cost);
    }
    println!("{inputs} inputs of seed {seed}: {worst:?}");
}
