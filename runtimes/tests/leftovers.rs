//! What becomes of runtimes when their process ends.
//!
//! Without libtest: the program starts itself again with a role, and as that is killed.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::*;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("role:hold") => hold(),
        Some("role:panic") => panic_inside(),
        Some("--list") => {}
        _ => run_tests(
            arguments
                .iter()
                .find(|argument| !argument.starts_with("--")),
        ),
    }
}

fn run_tests(filter: Option<&String>) {
    let tests: [(&str, fn()); 3] = [
        (
            "nothing_is_left_after_a_panic",
            nothing_is_left_after_a_panic,
        ),
        (
            "nothing_is_left_after_kill_9_but_cgroups_that_the_next_start_removes",
            only_cgroups_are_left_after_kill_9,
        ),
        (
            "the_machine_sees_nothing_of_what_runs",
            the_machine_sees_nothing_of_what_runs,
        ),
    ];
    let is_asked_for = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    for (name, test) in tests.iter().filter(|(name, _)| is_asked_for(name)) {
        test();
        println!("test {name} ... ok");
    }
}

/// Runtimes with a pod and a container, of which the namespace of processes is said.
fn running() -> Recorded {
    let recorded = Recorded::start();
    let containerd = recorded.runtimes.containerd();
    let pod = containerd
        .run_pod("shop", "web-0", "6d1c", &recorded.bridge)
        .unwrap();
    pod.create_container("c", &["sleep", "1000"]).unwrap();
    let podman = recorded.runtimes.podman();
    podman
        .run("web", &recorded.ptp, &["sleep", "1000"])
        .unwrap();
    let first = recorded.runtimes.node().path("/");
    let first = first.parent().unwrap().file_name().unwrap();
    println!("{}", first.to_str().unwrap());
    recorded
}

fn hold() {
    let _recorded = running();
    loop {
        std::thread::park();
    }
}

fn panic_inside() {
    let _recorded = running();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    panic!("on purpose");
}

/// This program in a role, and the processes in its node.
fn start(role: &str) -> (Child, BTreeSet<PathBuf>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .arg(role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .env("RUST_BACKTRACE", "0");
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(child.stdout.as_mut().unwrap());
    said.read_line(&mut line).unwrap();
    let namespace = fs::read_link(format!("/proc/{}/ns/mnt", line.trim())).unwrap();
    let processes = fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let inside = |process: &PathBuf| {
        let its = fs::read_link(process.join("ns/mnt"));
        its.is_ok_and(|its| its == namespace)
    };
    let processes: BTreeSet<_> = processes.filter(inside).collect();
    // The first, containerd, its shim, podman's conmon.
    assert!(processes.len() >= 4, "{processes:?}");
    (child, processes)
}

fn only_cgroups_are_left_after_kill_9() {
    let (mut child, processes) = start("role:hold");
    let cgroups = cgroups_of(child.id());
    assert!(!cgroups.is_empty(), "the search finds what is there");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_end(&processes);
    assert!(
        cgroups.iter().all(|cgroup| cgroup.exists()),
        "nobody removed them"
    );
    let recorded = Recorded::start();
    assert_eq!(cgroups_of(child.id()), BTreeSet::new());
    drop(recorded);
}

fn nothing_is_left_after_a_panic() {
    let (mut child, processes) = start("role:panic");
    drop(child.stdin.take());
    assert!(!child.wait().unwrap().success());
    assert_end(&processes);
    assert_eq!(cgroups_of(child.id()), BTreeSet::new());
}

fn the_machine_sees_nothing_of_what_runs() {
    let before = seen();
    let recorded = running();
    assert_eq!(seen(), before);
    drop(recorded);
    assert_eq!(seen(), before);
    assert_eq!(cgroups_of(std::process::id()), BTreeSet::new());
}

/// What this process can see of runtimes: mounts, and files in folders that they use. Others may make and mount what has
/// nothing to do with them meanwhile.
fn seen() -> BTreeSet<String> {
    let folders = [
        "/dev/shm",
        "/etc/cni",
        "/opt",
        "/run",
        "/run/netns",
        "/tmp",
        "/var/lib",
        "/var/tmp",
    ];
    let entries = |folder| fs::read_dir(folder).into_iter().flatten();
    let files = folders.into_iter().flat_map(entries);
    let files = files.map(|entry| entry.unwrap().path().display().to_string());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let all = files.chain(mounts.lines().map(str::to_owned));
    let words = ["busybox", "cni", "container", "libpod", "podman", "/netns-"];
    all.filter(|line| words.iter().any(|word| line.contains(word)))
        .collect()
}

fn assert_end(processes: &BTreeSet<PathBuf>) {
    eventually("all processes of the node end", || {
        processes.iter().all(|process| !process.exists())
    });
}

/// The cgroups of a process' runtimes, in each hierarchy.
fn cgroups_of(process: u32) -> BTreeSet<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let folders = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap();
        let folders = entries.map(|entry| entry.unwrap().path());
        folders.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let hierarchies = folders(root).into_iter().chain([root.to_owned()]);
    let name = format!("picket-runtimes-{process}-");
    let is_its = |path: &PathBuf| {
        let last = path.file_name().unwrap();
        last.to_string_lossy().starts_with(&name)
    };
    hierarchies
        .flat_map(|root| folders(&root))
        .filter(is_its)
        .collect()
}
