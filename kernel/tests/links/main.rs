//! Links, addresses and routes of real namespaces, against what `ip -j` and `bridge -j` list of the same.

#![allow(clippy::unwrap_used)]

mod change;
mod list;
mod peers;
mod routes;
mod watch;

use std::process::Command;
use std::time::{Duration, Instant};

use kernel::{Link, Links, NetworkNamespace};
use serde_json::Value;
use testbed::Namespace;

/// A namespace of its own, or the loud end of the test.
fn namespace() -> Namespace {
    Namespace::new().expect("these tests need root")
}

/// A namespace in which `ip -batch` has run these lines.
fn prepared(lines: &str) -> Namespace {
    let namespace = namespace();
    namespace.ip_batch(lines).unwrap();
    namespace
}

fn links(namespace: &Namespace) -> Links {
    namespace.run(Links::open).unwrap().unwrap()
}

fn link(links: &mut Links, name: &str) -> Link {
    links.by_name(name).unwrap().expect(name)
}

/// The path by which child processes, and the crate under test, find a namespace.
fn path(namespace: &Namespace) -> String {
    use std::os::fd::{AsFd, AsRawFd};
    let descriptor = namespace.as_fd().as_raw_fd();
    format!("/proc/{}/fd/{descriptor}", std::process::id())
}

fn opened(namespace: &Namespace) -> NetworkNamespace {
    NetworkNamespace::open(path(namespace)).unwrap()
}

/// Puts a link in another namespace under another name.
fn hand_over(from: &Namespace, link: &str, to: &Namespace, name: &str) {
    let to = path(to);
    from.ip(&["link", "set", link, "netns", &to, "name", name])
        .unwrap();
}

/// Asks both until they say the same: links come up, and addresses become usable, some time after they were made.
fn agree<T: PartialEq + std::fmt::Debug>(
    mut found: impl FnMut() -> T,
    expected: impl Fn() -> T,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let (found, expected) = (found(), expected());
        if found == expected || Instant::now() > deadline {
            assert_eq!(found, expected);
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The document that `ip -j` or `bridge -j` prints.
fn json(namespace: &Namespace, program: &str, arguments: &[&str]) -> Vec<Value> {
    let run = || Command::new(program).args(arguments).output();
    let output = namespace.run(run).unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    match serde_json::from_slice(&output.stdout).unwrap() {
        Value::Array(all) => all,
        other => panic!("{other}"),
    }
}
