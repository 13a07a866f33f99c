//! What others say of the objects: Kubernetes' own schemas, and checkov.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::golden::VERSIONS;
use crate::helm::{CHART, MATRIX, documents, matrix, run, tool};
use crate::support::Folder;

/// Kinds that are not Kubernetes' own.
const FOREIGN: [&str; 2] = ["PodMonitor", "PrometheusRule"];

/// The reasons for what checkov is not asked.
const SKIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/checkov.yaml");

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn golden(name: &str) -> String {
    format!("{MATRIX}/{name}.yaml")
}

#[test]
fn every_object_is_valid_by_the_schemas_of_the_oldest_and_the_newest_kubernetes() {
    let validate = tool("venv/bin/kubernetes-validate");
    for name in matrix() {
        let file = golden(&name);
        let known = |object: &Value| !FOREIGN.contains(&object["kind"].as_str().unwrap());
        let objects = documents(&std::fs::read_to_string(&file).unwrap());
        let expected = objects.iter().filter(|object| known(object)).count();
        for version in VERSIONS {
            let mut command = Command::new(&validate);
            command.args(["--strict", "-k", version, &file]);
            let said = run(&mut command).unwrap_or_else(|error| panic!("{name}: {error}"));
            let passed = said.lines().filter(|line| line.contains(" passed "));
            assert_eq!(passed.count(), expected, "{name}, {version}: {said}");
        }
    }
}

#[test]
fn a_field_that_kubernetes_does_not_know_is_found() {
    let folder = Folder::new("invalid");
    let text = std::fs::read_to_string(golden("default")).unwrap();
    let wrong = text.replace("hostNetwork: true", "hostNetworks: true");
    assert_ne!(text, wrong);
    let path = folder.path().join("wrong.yaml");
    std::fs::write(&path, wrong).unwrap();
    let mut command = Command::new(tool("venv/bin/kubernetes-validate"));
    let error = run(command.args(["--strict", "-k", VERSIONS[1]]).arg(path)).unwrap_err();
    assert!(error.contains("hostNetworks"), "{error}");
}

#[test]
fn the_schema_of_values_is_a_valid_one() {
    let mut command = Command::new(tool("venv/bin/check-jsonschema"));
    let schema = format!("{CHART}/values.schema.json");
    run(command.args(["--check-metaschema", &schema])).unwrap();
}

/// Each exception is one: what passes needs none.
#[test]
fn checkov_finds_what_has_a_reason_and_nothing_else() {
    let skipped = std::fs::read_to_string(SKIPPED).unwrap();
    let config: Value = serde_saphyr::from_str(&skipped).unwrap();
    let skipped: BTreeSet<_> = config["skip-check"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect();
    let mut command = Command::new(tool("venv/bin/checkov"));
    command.args(["--framework", "kubernetes", "--skip-download"]);
    command.args(["--quiet", "--compact", "--output", "json"]);
    for name in matrix() {
        command.args(["--file", &golden(&name)]);
    }
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let failed = report["results"]["failed_checks"].as_array().unwrap();
    let found: BTreeSet<_> = failed
        .iter()
        .map(|check| text(&check["check_id"]))
        .collect();
    assert_eq!(found, skipped);
    // And as a person would run it.
    let mut command = Command::new(tool("venv/bin/checkov"));
    command.args(["--config-file", SKIPPED, "--file", &golden("everything")]);
    run(&mut command).unwrap();
}
