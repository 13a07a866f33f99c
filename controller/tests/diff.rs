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
                if let Some(family) = flows["family"].as_str() {
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
    for arguments in [
        ["diff", "-", "-"].as_slice(),
        &["diff", &new, &cluster, "-f", "-"],
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
