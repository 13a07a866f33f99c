//! Namespaces over their budget, on the command line.

#![allow(clippy::unwrap_used)]

#[path = "support/program.rs"]
mod program;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use controller::budget::report;
use controller::{cluster, source};
use policy_compiler::budget::{Budgets, Resource, check_all};
use policy_compiler::validate::Options;
use program::{SHOP, exits, picket, text};

const TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata");

/// Two tenants on a node; one has a policy with three blocks.
const TENANTS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: small}
spec: {nodeName: node-1}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: large}
spec: {nodeName: node-1}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: small}
spec:
  podSelector: {}
  ingress: [{from: [{namespaceSelector: {}}], ports: [{port: 80}]}]
"#;

const LARGE: &str = r#"
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: blocks, namespace: large}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 172.16.0.0/12]}}]}]
"#;

const EXCEEDED: &str = "error: Namespace large: its policies need at least 3 ipblock-entries on node node-1, and its \
    budget is 2; most for large/blocks (3): merge CIDRs that touch, and write fewer excepts, or raise the budget\n";

fn compile(manifests: &str, more: &[&str]) -> std::process::Output {
    let arguments = ["compile", "-f", "-", "--node", "node-1"];
    picket(&[&arguments, more].concat(), manifests)
}

#[test]
fn a_namespace_over_its_budget_is_closed_in_the_printed_rules_and_named() {
    let output = compile(
        &format!("{TENANTS}{LARGE}"),
        &["--budget", "rules=9,ipblock-entries=2"],
    );
    exits(&output, 1);
    let told = text(&output.stderr);
    assert!(told.contains(EXCEEDED), "{told}");
    let closed =
        "closed in the rules of node node-1, where their pods send and receive nothing: large;";
    assert!(told.contains(closed), "{told}");
    let rules = text(&output.stdout);
    let verdict = |pod: &str| {
        let mut lines = rules
            .lines()
            .filter(|line| line.contains(&format!("\"{pod}\"")));
        lines
            .find(|line| line.contains("goto egress"))
            .map(str::to_owned)
    };
    assert!(
        verdict("large/web")
            .unwrap()
            .contains("goto egress4_closed_"),
        "{rules}"
    );
    assert_eq!(verdict("small/web"), None);
    assert!(!rules.contains("172.16.0.0"), "{rules}");

    // Nobody else has other rules than without the policy.
    let without = compile(TENANTS, &[]);
    exits(&without, 0);
    let of_others = |rules: &str| -> Vec<String> {
        let lines = rules.lines().map(str::trim);
        let lines = lines.filter(|line| line.contains("small"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(of_others(rules), of_others(text(&without.stdout)));
    assert!(of_others(rules).len() >= 3, "{rules}");
}

#[test]
fn at_its_budget_a_namespace_is_compiled_as_without_one() {
    let manifests = format!("{TENANTS}{LARGE}");
    let at = compile(&manifests, &["--budget", "ipblock-entries=3"]);
    exits(&at, 0);
    let by_default = compile(&manifests, &[]);
    assert_eq!(at.stdout, by_default.stdout);
    assert!(text(&at.stdout).contains("172.32.0.0"));
}

#[test]
fn nothing_is_verified_while_a_namespace_is_over_its_budget() {
    let manifests = format!("{TENANTS}{LARGE}");
    for output in ["text", "json"] {
        let budget = ["--budget", "ipblock-entries=2", "-o", output];
        let output = picket(&[&["verify", "-f", "-"][..], &budget].concat(), &manifests);
        exits(&output, 1);
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
        let told = text(&output.stderr);
        assert!(told.contains(EXCEEDED), "{told}");
        assert!(told.contains("error: nothing is verified: "), "{told}");
    }
}

#[test]
fn a_wrong_budget_is_bad_usage() {
    for wrong in ["rules", "rules=x", "pods=1"] {
        for command in [&["compile", "--node", "node-1"][..], &["verify"]] {
            let arguments = [command, &["-f", SHOP, "--budget", wrong]].concat();
            exits(&picket(&arguments, ""), 2);
        }
    }
}

#[test]
fn what_is_exceeded_is_reported_at_the_largest_policy() {
    let manifests = format!("{TENANTS}{LARGE}");
    let loaded = source::load_bytes([("tenants.yaml", manifests.as_bytes())]).unwrap();
    let cluster = cluster::build(&loaded, Options::default()).unwrap();
    let mut budgets = Budgets::default();
    budgets.set(Resource::IpBlockEntries, 2);
    let reports: Vec<_> = check_all(&cluster, &budgets).iter().map(report).collect();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].object.to_string(), "NetworkPolicy large/blocks");
    assert_eq!(reports[0].field, "spec");
    assert_eq!(format!("error: {}\n", reports[0].message), EXCEEDED);
}

/// Every file of manifests in the folder.
fn manifests(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("P016-over-budget") {
            // Made to be over the budget.
        } else if path.is_dir() {
            manifests(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            found.push(path);
        }
    }
}

#[test]
fn all_of_testdata_is_far_within_the_default_budgets() {
    let mut budgets = Budgets::default();
    for resource in Resource::ALL {
        budgets.set(resource, budgets.limit(resource) / 50);
    }
    let mut files = Vec::new();
    manifests(Path::new(TESTDATA), &mut files);
    files.sort();
    assert!(files.len() > 100, "{}", files.len());
    let mut checked = 0;
    for file in files {
        let loaded = source::load_into(None, std::slice::from_ref(&file), &mut io::empty());
        // Some are made to be refused.
        let Ok(loaded) = loaded else { continue };
        let Ok(cluster) = cluster::build(&loaded, Options::default()) else {
            continue;
        };
        assert_eq!(check_all(&cluster, &budgets), [], "{}", file.display());
        checked += 1;
    }
    assert!(checked > 100, "{checked}");
}
