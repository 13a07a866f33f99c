//! The programs that `./setup` installs, and what helm makes of the chart.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::Folder;

/// The chart.
pub(crate) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/picket");

/// The values that it is tried with, `NAME.values.yaml`, and what comes of them, `NAME.yaml`.
pub(crate) const MATRIX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/chart");

/// Each helm that the chart is tried with, newest first: 4, the last 3 that is installed, and one as old as the oldest
/// Kubernetes that the chart is for.
pub(crate) const HELMS: [&str; 3] = ["helm", "helm-3.19", "helm-3.12"];

/// Where the release is.
pub(crate) const NAMESPACE: &str = "kube-system";

/// A program that `./setup` installs.
pub(crate) fn tool(name: &str) -> PathBuf {
    let folder = match std::env::var_os("PICKET_TOOLS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools"),
    };
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is not there: run testdata/chart/install-tools {}, as ./setup does",
        path.display(),
        folder.display()
    );
    path
}

/// One of [`HELMS`], which knows nothing of this machine's user. `home` has what it keeps.
pub(crate) fn helm(program: &str, home: &Folder) -> Command {
    let mut helm = Command::new(tool(program));
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(name, home.path().join(name));
    }
    for name in ["KUBECONFIG", "HELM_NAMESPACE", "HELM_DRIVER"] {
        helm.env_remove(name);
    }
    helm.env("HOME", home.path()).stdin(Stdio::null());
    helm
}

/// What it wrote on stdout, or else on stderr.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    said(&command.output().unwrap())
}

/// The same of a process that has ended.
pub(crate) fn said(output: &Output) -> Result<String, String> {
    let [stdout, stderr] = [&output.stdout, &output.stderr];
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    match output.status.success() {
        true => Ok(text(stdout)),
        false => Err(text(stdout) + &text(stderr)),
    }
}

/// `helm template` with more arguments.
pub(crate) fn template(arguments: &[&str]) -> Result<String, String> {
    template_by(HELMS[0], CHART, arguments)
}

/// The same by this helm, of a folder or a package.
pub(crate) fn template_by(
    program: &str,
    chart: &str,
    arguments: &[&str],
) -> Result<String, String> {
    let home = Folder::new("helm");
    let mut helm = helm(program, &home);
    helm.args(["template", "picket", chart, "--namespace", NAMESPACE]);
    run(helm.args(arguments))
}

/// The objects of `helm template` with these values.
pub(crate) fn objects(values: &[&str]) -> Vec<Value> {
    let set: Vec<_> = values.iter().flat_map(|value| ["--set", value]).collect();
    documents(&template(&set).unwrap())
}

/// The YAML documents that are something.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents.retain(|document| !document.is_null());
    documents
}

/// The one object of this kind and name.
pub(crate) fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found = objects
        .iter()
        .filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    let first = found.next().unwrap_or_else(|| panic!("no {kind} {name}"));
    assert!(found.next().is_none(), "two {kind}s {name}");
    first
}

/// Names of the matrix' values.
pub(crate) fn matrix() -> Vec<String> {
    let files = std::fs::read_dir(MATRIX).unwrap();
    let mut names: Vec<_> = files
        .filter_map(|file| {
            let name = file.unwrap().file_name().into_string().unwrap();
            Some(name.strip_suffix(".values.yaml")?.to_owned())
        })
        .collect();
    names.sort();
    assert!(names.len() > 3, "{names:?}");
    names
}

/// A file of values of the matrix.
pub(crate) fn values(name: &str) -> String {
    format!("{MATRIX}/{name}.values.yaml")
}
