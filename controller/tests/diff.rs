//! `picket diff`: what a change opens and closes, in sentences and in JSON.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "support/program.rs"]
mod program;

use std::path::PathBuf;
use std::{env, fs};

use program::{SHOP, exits, picket, text};
use serde_json::Value;

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/diff");

fn case(name: &str, file: &str) -> String {
    format!("{CASES}/{name}/{file}")
}

fn diff(name: &str, more: &[&str]) -> std::process::Output {
    let (old, new) = (case(name, "old.yaml"), case(name, "new.yaml"));
    let cluster = case(name, "cluster.yaml");
    let common = ["diff", &old, &new, "-f", &cluster];
    picket(&[&common[..], more].concat(), "")
}

/// Compares with the golden file, or writes it.
fn golden(name: &str, file: &str, found: &str) {
    let path = PathBuf::from(case(name, file));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{}", path.display());
}

fn cases() -> Vec<String> {
    let entries = fs::read_dir(CASES).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert!(names.len() >= 6, "{names:?}");
    names
}

#[test]
fn each_case_says_what_opens_and_what_closes() {
    for name in cases() {
        let output = diff(&name, &[]);
        exits(&output, 0);
        golden(&name, "expected.txt", text(&output.stdout));
        let output = diff(&name, &["-o", "json"]);
        exits(&output, 0);
        golden(&name, "expected.json", text(&output.stdout));
    }
}

/// Each example is a flow that `explain` answers as said: one way with the old objects, the other with the new.
#[test]
fn each_example_is_what_explain_says_of_it() {
    let mut asked = 0;
    for name in cases() {
        let output = diff(&name, &["-o", "json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        for flows in report["flows"].as_array().unwrap() {
            let part = |part: &str| flows["example"][part].as_str().unwrap().to_owned();
            let (from, to, port) = (part("from"), part("to"), part("port"));
            let mut verdicts = Vec::new();
            for side in ["old.yaml", "new.yaml"] {
                let (objects, cluster) = (case(&name, side), case(&name, "cluster.yaml"));
                let mut arguments = vec!["explain", "-f", &objects, "-f", &cluster, "-o", "json"];
                arguments.extend([&from, &to, &port].map(|part| part.as_str()));
                if let Some(family) = flows["example"]["family"].as_str() {
                    arguments.extend(["--family", family]);
                }
                let output = picket(&arguments, "");
                exits(&output, 0);
                let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
                verdicts.push(answer["verdict"].as_str().unwrap().to_owned());
            }
            let expected = match flows["effect"].as_str().unwrap() {
                "closes" => ["allow", "deny"],
                "opens" => ["deny", "allow"],
                other => panic!("{other}"),
            };
            assert_eq!(verdicts, expected, "{name}: {from} {to} {port}");
            asked += 1;
        }
    }
    assert!(asked >= 10, "{asked} examples");
}

#[test]
fn the_exit_code_is_asked_for() {
    exits(&diff("policy-added", &[]), 0);
    exits(&diff("policy-added", &["--exit-code"]), 1);
    exits(&picket(&["diff", SHOP, SHOP, "--exit-code"], ""), 0);
}

#[test]
fn nothing_changes_between_a_folder_and_itself() {
    let output = picket(&["diff", SHOP, SHOP], "");
    exits(&output, 0);
    assert_eq!(text(&output.stdout), "No flow opens or closes.\n");
}

#[test]
fn one_side_may_come_from_standard_input() {
    let old = fs::read_to_string(case("policy-added", "old.yaml")).unwrap();
    let (new, cluster) = (
        case("policy-added", "new.yaml"),
        case("policy-added", "cluster.yaml"),
    );
    let output = picket(&["diff", "-", &new, "-f", &cluster], &old);
    exits(&output, 0);
    golden("policy-added", "expected.txt", text(&output.stdout));
    let common = fs::read_to_string(cluster).unwrap();
    let sides = case("policy-added", "old.yaml");
    let output = picket(&["diff", &sides, &new, "-f", "-"], &common);
    exits(&output, 0);
    golden("policy-added", "expected.txt", text(&output.stdout));
    for arguments in [
        ["diff", "-", "-"].as_slice(),
        &["diff", &new, "-", "-f", "-"],
    ] {
        let output = picket(arguments, &old);
        exits(&output, 2);
        let error = text(&output.stderr);
        assert!(
            error.contains("standard input can be given only once"),
            "{error}"
        );
    }
}

const POLICY: &str =
    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x}\n";

fn deployment(name: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: x}}\n\
         spec: {{selector: {{matchLabels: {{app: {name}}}}}, \
         template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: []}}}}}}\n"
    )
}

/// A folder with both sides.
fn sides(name: &str, old: &str, new: &str) -> [String; 2] {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("diff-{name}"));
    fs::create_dir_all(&folder).unwrap();
    [("old.yaml", old), ("new.yaml", new)].map(|(file, content)| {
        let path = folder.join(file);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    })
}

#[test]
fn what_is_made_up_for_a_pod_of_both_sides_is_the_same() {
    let node =
        |name: &str| format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n");
    let policy = format!(
        "{POLICY}spec: {{podSelector: {{}}, ingress: [{{from: [{{ipBlock: {{cidr: 10.244.0.0/24}}}}]}}]}}\n"
    );
    let old = [
        policy,
        node("n1"),
        node("n2"),
        deployment("web"),
        deployment("zed"),
    ]
    .concat();
    // They come first, and take what others had if each side were on its own.
    let new = [old.clone(), node("n0"), deployment("api")].concat();
    let [old, new] = sides("made-up", &old, &new);
    for [from, to] in [[&old, &new], [&new, &old]] {
        let output = picket(&["diff", from, to, "--exit-code"], "");
        exits(&output, 0);
        assert!(text(&output.stdout).ends_with("No flow opens or closes.\n"));
        let notes: Vec<_> = text(&output.stderr).lines().collect();
        for pod in ["web-0", "zed-0"] {
            let of_pod = format!("Pod x/{pod}:");
            let said = notes.iter().filter(|note| note.contains(&of_pod));
            assert_eq!(said.count(), 1, "{notes:?}");
        }
    }
}

#[test]
fn nothing_in_common_is_an_error_and_no_clean_bill() {
    let policy = |spec: &str| format!("{POLICY}spec: {spec}\n");
    let old = policy("{podSelector: {}}");
    let new = policy("{podSelector: {}, ingress: [{}]}");
    let [old, new] = sides("no-pods", &old, &new);
    let output = picket(&["diff", &old, &new], "");
    exits(&output, 2);
    let error = text(&output.stderr);
    assert!(
        error.contains("OLD and NEW have no pod in common"),
        "{error}"
    );
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn a_pod_that_leaves_the_pod_network_is_told_of() {
    let pod = |name: &str, spec: &str, phase: &str, ip: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: x}}\n\
             spec: {{nodeName: n1, containers: []{spec}}}\n\
             status: {{phase: {phase}, podIP: {ip}, hostIP: 172.18.0.10}}\n"
        )
    };
    let side = |spec: &str, phase: &str, ip: &str| {
        let policy = format!("{POLICY}spec: {{podSelector: {{}}}}\n");
        let pods = [
            pod("a", spec, phase, ip),
            pod("b", "", "Running", "10.1.0.2"),
        ];
        format!("{policy}{}", pods.concat())
    };
    let before = side("", "Running", "10.1.0.1");
    let host = side(", hostNetwork: true", "Running", "172.18.0.10");
    let ended = side("", "Failed", "10.1.0.1");
    for (name, after, said) in [
        (
            "host",
            host,
            "now has its node's network, where no policy applies",
        ),
        ("ended", ended, "has ended"),
    ] {
        let [old, new] = sides(name, &before, &after);
        let output = picket(&["diff", &old, &new, "--exit-code"], "");
        exits(&output, 1);
        let first =
            format!("removed pod x/a, which {said}; it was: ingress isolated by x/p; egress open");
        assert_eq!(text(&output.stdout).lines().next(), Some(first.as_str()));
        let back = picket(&["diff", &new, &old, "--exit-code"], "");
        exits(&back, 1);
        assert!(text(&back.stdout).starts_with("added   pod x/a, which had "));
    }
}

#[test]
fn what_is_assumed_of_both_sides_is_said_once() {
    let output = picket(&["diff", SHOP, SHOP], "");
    let notes: Vec<_> = text(&output.stderr).lines().collect();
    let mut once = notes.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), notes.len(), "{notes:?}");
    assert!(!notes.is_empty());
}

#[test]
fn bad_input_of_either_side_is_an_error() {
    let good = case("policy-added", "cluster.yaml");
    for sides in [["no-such-file.yaml", &good], [&good, "no-such-file.yaml"]] {
        let output = picket(&[&["diff"], &sides[..]].concat(), "");
        exits(&output, 2);
        assert!(text(&output.stderr).contains("no-such-file.yaml"));
    }
}
