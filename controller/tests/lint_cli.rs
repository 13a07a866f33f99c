//! `picket lint` as a person or a CI job calls it.

#![allow(clippy::unwrap_used)]

#[path = "support/program.rs"]
mod program;

use program::{exits, picket, text};
use serde_json::Value;

const LINT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/lint");

fn lint(folder: &str, file: &str, more: &[&str]) -> std::process::Output {
    let path = format!("{LINT}/{folder}/{file}");
    let arguments = [&["lint", "-f", &path], more].concat();
    picket(&arguments, "")
}

#[test]
fn the_exit_code_is_1_from_the_given_severity_on() {
    let dns = "P013-dns-forgotten";
    exits(&lint(dns, "good.yaml", &[]), 0);
    exits(&lint(dns, "bad.yaml", &[]), 1);
    exits(&lint(dns, "bad.yaml", &["--fail-on", "error"]), 0);
    exits(&lint(dns, "bad.yaml", &["--fail-on", "never"]), 0);
    let made_up = "P014-namespace-made-up";
    exits(&lint(made_up, "bad.yaml", &[]), 0);
    exits(&lint(made_up, "bad.yaml", &["--fail-on", "hint"]), 1);
}

#[test]
fn an_unknown_code_is_bad_usage_and_the_known_are_listed() {
    let output = lint("P013-dns-forgotten", "bad.yaml", &["--ignore", "P013,P999"]);
    exits(&output, 2);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("P999") && stderr.contains("P013 dns-forgotten"),
        "{stderr}"
    );
}

#[test]
fn codes_are_taken_by_name_too() {
    exits(
        &lint(
            "P013-dns-forgotten",
            "bad.yaml",
            &["--ignore", "dns-forgotten"],
        ),
        0,
    );
}

#[test]
fn json_is_an_object_a_line() {
    let output = lint("P013-dns-forgotten", "bad.yaml", &["-o", "json"]);
    let findings: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(findings.len(), 2);
    assert_eq!(findings[0]["code"], "P013");
    assert_eq!(findings[0]["object"]["name"], "web-to-db");
    assert_eq!(findings[0]["field"], "spec.egress");
    assert!(findings[0]["line"].is_u64() && findings[0]["remedy"].is_string());
}

#[test]
fn sarif_is_one_document_also_without_findings() {
    let output = lint("P013-dns-forgotten", "good.yaml", &["-o", "sarif"]);
    exits(&output, 0);
    let log: Value = serde_json::from_str(text(&output.stdout)).unwrap();
    assert_eq!(log["runs"][0]["results"], Value::Array(vec![]));
}

#[test]
fn what_the_api_server_refuses_is_no_finding() {
    let manifest = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p}
spec: {policyTypes: [ingress]}
";
    let output = picket(&["lint", "-f", "-"], manifest);
    exits(&output, 2);
    assert!(
        text(&output.stderr).contains("spec.policyTypes[0]"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn an_annotation_with_an_unknown_code_is_told() {
    let manifest = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, annotations: {picket.io/lint-ignore: P999}}
spec: {podSelector: {}}
";
    let output = picket(&["lint", "-f", "-"], manifest);
    exits(&output, 0);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("NetworkPolicy default/p: picket.io/lint-ignore: `P999` is no code"),
        "{stderr}"
    );
}
