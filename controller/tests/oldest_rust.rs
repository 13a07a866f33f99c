//! The Rust that `Cargo.toml` asks for is enough for all that is built. That no newer function of its library is called is
//! clippy's to see (`incompatible_msrv`), which every check runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::process::Command;

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Packages with the oldest Rust that each takes; nothing where it does not say.
fn packages() -> Vec<(String, Option<Vec<u64>>, bool)> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked"]);
    cargo.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = cargo.current_dir(ROOT).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    // Patch versions are left out by some.
    let version = |text: &str| {
        let parts = text.split('.').map(|part| part.parse().unwrap());
        parts.chain([0]).take(3).collect()
    };
    let packages = packages.map(|package| {
        let name = format!(
            "{} {}",
            package["name"].as_str().unwrap(),
            package["version"].as_str().unwrap()
        );
        let oldest = package["rust_version"].as_str().map(version);
        (name, oldest, package["source"].is_null())
    });
    packages.collect()
}

#[test]
fn no_package_asks_for_a_newer_rust_than_the_workspace() {
    let packages = packages();
    let (ours, others): (Vec<_>, Vec<_>) = packages.iter().partition(|(_, _, ours)| *ours);
    let (_, oldest, _) = ours[0];
    let oldest = oldest.as_ref().unwrap();
    for (name, of, _) in &ours {
        assert_eq!(of.as_ref(), Some(oldest), "{name}");
    }
    let newer = others
        .iter()
        .filter(|(_, of, _)| of.as_ref() > Some(oldest));
    let newer: Vec<_> = newer.map(|(name, of, _)| (name, of)).collect();
    assert!(newer.is_empty(), "{oldest:?}: {newer:?}");
    let say = others.iter().filter(|(_, of, _)| of.is_some()).count();
    assert!(say > 100, "{say}");
}
