//! Cases, and what they are run with.

#![allow(dead_code, reason = "each test program uses a part")]

mod folder;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use controller::verify::Settings;
use controller::{cluster, source};
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::model::Cluster;
use policy_compiler::validate::Options;
use testbed::{Namespace, Network, ProbeOptions};

#[allow(unused_imports, reason = "each test program uses a part")]
pub(crate) use folder::Folder;

/// The folder of the cases.
pub(crate) const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/cases");

/// Most of a case is waiting for packets that do not come.
const AT_ONCE: usize = 4;

/// A folder of [`CASES`].
pub(crate) struct Case(PathBuf);

impl Case {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn name(&self) -> String {
        self.0
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("a case is a folder");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        entries
            .map(|entry| name(entry).to_string_lossy().into_owned())
            .collect()
    }

    pub(crate) fn read(&self, file: &str) -> String {
        let path = self.0.join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(crate) fn cluster(&self) -> Result<Cluster, String> {
        load(&self.read("cluster.yaml"))
    }
}

/// The cluster of manifests.
pub(crate) fn load(manifests: &str) -> Result<Cluster, String> {
    let loaded = source::load_bytes([("cluster.yaml", manifests.as_bytes())]);
    let loaded = loaded.map_err(|errors| errors.to_string())?;
    cluster::build(&loaded, Options::default()).map_err(|errors| errors.to_string())
}

/// Every case, by name.
pub(crate) fn cases() -> Vec<Case> {
    let entries = fs::read_dir(CASES).expect("testdata/cases is there");
    let mut cases: Vec<_> = entries
        .map(|entry| Case(entry.expect("an entry").path()))
        .collect();
    cases.sort_by_key(Case::name);
    cases
}

/// Runs the check on every case, some at once, and returns what failed, by case.
pub(crate) fn each(
    cases: &[Case],
    check: impl Fn(&Case) -> Result<(), String> + Sync,
) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = check(case) {
                        let mut failures = failures.lock().expect("no check panics");
                        failures.push(format!("{}: {error}", case.name()));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no check panics");
    failures.sort();
    failures
}

/// A form of nft's input.
pub(crate) enum Format {
    Text,
    Json,
}

/// What nft lists after it has read the input in a namespace of its own.
pub(crate) fn listed(format: Format, input: &str) -> Result<String, String> {
    let namespace = Namespace::new().map_err(|error| error.to_string())?;
    let loaded = match format {
        Format::Text => namespace.nft(input),
        Format::Json => namespace.nft_json(input),
    };
    loaded.map_err(|error| error.to_string())?;
    namespace
        .nft("list ruleset")
        .map_err(|error| error.to_string())
}

/// Settings of a verification.
pub(crate) fn settings(network: Network) -> Settings {
    Settings {
        network,
        node_egress: NodeEgress::Allow,
        probes: ProbeOptions::default(),
    }
}
