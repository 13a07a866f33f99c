//! Documents say which test holds what: each of these tests exists.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            sources(&path, all);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            all.push(path);
        }
    }
}

#[test]
fn each_test_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for folder in ["cni-chain", "controller", "runtimes"] {
        sources(&root.join(folder), &mut files);
    }
    let mut tests = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let functions = text.split("fn ").skip(1);
        let names = functions.filter_map(|rest| rest.split_once("()"));
        tests.extend(names.map(|(name, _)| name.to_owned()));
    }
    let is_test = |name: &str| {
        let of_test = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        name.chars().all(of_test) && name.matches('_').count() > 2
    };
    for document in ["cni-failures.md", "cni-install.md"] {
        let text = fs::read_to_string(root.join("docs").join(document)).unwrap();
        let named: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
        let named: Vec<&str> = named.into_iter().filter(|name| is_test(name)).collect();
        assert!(named.len() > 5, "{document}: {named:?}");
        for name in named {
            assert!(
                tests.contains(name),
                "{document} names {name}, which is no test"
            );
        }
    }
}
