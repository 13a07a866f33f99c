//! `picket lint`: what is found, and that nothing is where nothing is wrong.
//!
//! A folder of `testdata/lint` for each code holds `bad.yaml`, `good.yaml`, and what is said of the former in
//! `expected.txt`. `UPDATE_GOLDEN=1 cargo test -p controller --test lint` writes it anew, and `docs/lint.md`'s table.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use controller::lint::{Code, Finding, Scope, Severity, documentation, run, sarif, text};
use controller::{cluster, source};
use policy_compiler::model::Cidr;
use policy_compiler::validate::Options;
use serde_json::Value;
use support::cases;

const LINT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/lint");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/lint.md");

fn findings_with(manifests: &str, scope: &Scope<'_>) -> Vec<Finding> {
    let loaded = source::load_bytes([("cluster.yaml", manifests.as_bytes())]);
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
    let cluster = cluster::build(&loaded, Options::default()).unwrap();
    run(&loaded, &cluster, scope)
}

fn findings(manifests: &str) -> Vec<Finding> {
    findings_with(manifests, &Scope::default())
}

fn folders() -> Vec<(Code, PathBuf)> {
    let mut folders: Vec<_> = fs::read_dir(LINT)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let (code, rest) = name.split_once('-').unwrap();
            let code: Code = code.parse().unwrap();
            assert_eq!(code.name(), rest);
            (code, path)
        })
        .collect();
    folders.sort();
    folders
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

/// Compares with the file, or writes it.
fn golden(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, text).unwrap();
    }
    let there = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        there,
        text,
        "{} differs: UPDATE_GOLDEN=1 writes it anew",
        path.display()
    );
}

#[test]
fn each_code_is_found_where_it_should_be() {
    for (code, folder) in folders() {
        let found = findings(&read(&folder, "bad.yaml"));
        assert!(found.iter().any(|finding| finding.code == code), "{code:?}");
        golden(&folder.join("expected.txt"), &text(&found));
    }
}

#[test]
fn nothing_is_found_where_it_is_done_well() {
    for (code, folder) in folders() {
        assert_eq!(findings(&read(&folder, "good.yaml")), [], "{code:?}");
    }
}

#[test]
fn each_code_has_a_folder() {
    let shown: Vec<_> = folders().into_iter().map(|(code, _)| code).collect();
    assert_eq!(shown, Code::ALL);
}

#[test]
fn nothing_but_hints_is_found_in_the_recipes() {
    let cases = cases();
    let recipes: Vec<_> = cases
        .iter()
        .filter(|case| case.name().starts_with("recipe-"))
        .collect();
    assert!(recipes.len() >= 14, "{}", recipes.len());
    for recipe in recipes {
        let found = findings(&recipe.read("cluster.yaml"));
        let loud: Vec<_> = found
            .iter()
            .filter(|finding| finding.severity < Severity::Hint)
            .collect();
        assert!(loud.is_empty(), "{}: {}", recipe.name(), text(&found));
    }
}

#[test]
fn the_order_of_the_objects_changes_no_finding() {
    for (_, folder) in folders() {
        let manifests = read(&folder, "bad.yaml");
        let mut documents: Vec<_> = manifests.split("---\n").collect();
        documents.reverse();
        let facts = |manifests: &str| -> BTreeSet<_> {
            let found = findings(manifests).into_iter();
            found
                .map(|f| (f.code, f.severity, f.object, f.field, f.message))
                .collect()
        };
        assert_eq!(facts(&manifests), facts(&documents.join("---\n")));
    }
}

#[test]
fn codes_are_selected_and_ignored() {
    let (_, folder) = folders().swap_remove(12);
    let manifests = read(&folder, "bad.yaml");
    let only = |select: &[Code], ignore: &[Code]| {
        let scope = Scope {
            select,
            ignore,
            ..Scope::default()
        };
        findings_with(&manifests, &scope).len()
    };
    assert_eq!(only(&[Code::DnsForgotten], &[]), 2);
    assert_eq!(only(&[Code::SelectsNoPod], &[]), 0);
    assert_eq!(only(&[], &[Code::DnsForgotten]), 0);
}

const SILENCED: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: x}
---
apiVersion: v1
kind: Pod
metadata: {namespace: x, name: a}
spec: {containers: [{name: app, image: i}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  namespace: x
  name: one
  annotations: {picket.io/lint-ignore: 'P001, dns-forgotten', example.org/other: kept by others}
spec: {podSelector: {matchLabels: {app: nobody}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: x, name: two}
spec: {podSelector: {matchLabels: {app: nobody-else}}}
";

#[test]
fn an_annotation_silences_one_policy() {
    let found = findings(SILENCED);
    let names: Vec<_> = found
        .iter()
        .filter_map(|f| f.object.as_ref()?.name.clone())
        .collect();
    assert_eq!(names, ["two"], "{}", text(&found));
}

#[test]
fn a_range_of_services_can_be_given() {
    let manifests = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: out}
spec: {podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.96.1.0/24}}]}]}
";
    let ranges = [Cidr::parse_strict("10.96.0.0/12").unwrap()];
    let scope = Scope {
        service_cidrs: &ranges,
        ..Scope::default()
    };
    let codes = |found: Vec<Finding>| found.iter().map(|f| f.code).collect::<Vec<_>>();
    assert_eq!(
        codes(findings_with(manifests, &scope)),
        [Code::BlockCoversServices, Code::NoPods]
    );
    assert_eq!(codes(findings(manifests)), [Code::NoPods]);
}

#[test]
fn without_pods_what_follows_from_the_text_is_still_found() {
    let policy = |name: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec:\n  podSelector: {{matchLabels: {{app: a}}}}\n  ingress:\n  - from: [{{podSelector: {{}}}}]\n  egress: []\n"
        )
    };
    let found = findings(&format!("{}{}", policy("one"), policy("two")));
    let codes: Vec<_> = found.iter().map(|finding| finding.code).collect();
    let empty = Code::EmptyListWithoutType;
    assert_eq!(
        codes,
        [empty, empty, Code::PolicyCovered, Code::NoPods],
        "{}",
        text(&found)
    );
}

#[test]
fn of_many_alike_the_first_are_shown_and_the_others_counted() {
    let policies: String = (10..40)
        .map(|number| {
            format!(
                "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{namespace: x, name: p{number}}}\nspec: {{podSelector: {{matchLabels: {{app: none-{number}}}}}}}\n"
            )
        })
        .collect();
    let found = findings(&format!("{SILENCED}{policies}"));
    let text = text(&found);
    assert_eq!(found.len(), 31);
    assert_eq!(text.matches("Remedy").count(), 10);
    assert!(
        text.contains("... and 21 more selects-no-pod\n0 errors, 31 warnings, 0 hints\n"),
        "{text}"
    );
}

/// What the SARIF 2.1.0 schema requires and code scanning reads.
#[test]
fn sarif_has_what_its_schema_requires() {
    for (code, folder) in folders() {
        let log = sarif(&findings(&read(&folder, "bad.yaml")));
        assert_eq!(log["version"], "2.1.0");
        let run = &log["runs"][0];
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        assert_eq!(run["tool"]["driver"]["name"], "picket");
        let mut seen = BTreeSet::new();
        for result in run["results"].as_array().unwrap() {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(result["ruleId"], rules[index]["id"]);
            assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
            assert!(!result["message"]["text"].as_str().unwrap().is_empty());
            let prints = result["partialFingerprints"].as_object().unwrap();
            assert!(prints.values().all(Value::is_string));
            assert!(
                seen.insert(result["partialFingerprints"].to_string()),
                "{code:?}: twice {prints:?}"
            );
            // Code scanning takes no result without a place.
            assert_ne!(result["locations"], Value::Array(vec![]));
            for location in result["locations"].as_array().unwrap() {
                let physical = &location["physicalLocation"];
                assert_eq!(physical["artifactLocation"]["uri"], "cluster.yaml");
                assert!(physical["region"]["startLine"].as_u64().unwrap() >= 1);
            }
        }
        assert!(!seen.is_empty());
    }
}

#[test]
fn the_document_lists_every_code_as_the_program_has_it() {
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let (head, _) = document.split_once("## Codes\n").unwrap();
    golden(
        Path::new(DOCUMENT),
        &format!("{head}## Codes\n{}", documentation()),
    );
}
