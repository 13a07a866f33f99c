//! What becomes of namespaces when their process ends, and what a user without privileges can do.
//!
//! Without libtest, whose threads would forbid a user namespace. The program starts itself again with a role.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::*;
use testbed::Outcome::{Dropped, Passed};
use testbed::{Place, Privileges};

/// Nobody, and a user on no system.
const UNPRIVILEGED: u32 = 65534;
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("role:hold") => hold(),
        Some("role:panic") => panic_inside(),
        Some("role:without-privileges") => work_without_privileges(),
        Some("role:threads") => enter_with_threads(),
        Some("--list") => {}
        _ => run_tests(
            arguments
                .iter()
                .find(|argument| !argument.starts_with("--")),
        ),
    }
}

fn run_tests(filter: Option<&String>) {
    let tests: [(&str, fn()); 6] = [
        ("nothing_is_left_after_ctrl_c", || {
            nothing_is_left_after("INT")
        }),
        ("nothing_is_left_after_kill_9", || {
            nothing_is_left_after("KILL")
        }),
        (
            "nothing_is_left_after_a_panic",
            nothing_is_left_after_a_panic,
        ),
        (
            "a_user_without_privileges_builds_loads_rules_and_probes",
            a_user_without_privileges_can_do_all_of_it,
        ),
        (
            "entering_with_threads_running_is_refused_with_the_remedy",
            entering_with_threads_is_refused,
        ),
        // Last, as it may move this process into a user namespace.
        (
            "nothing_is_left_when_a_testbed_is_dropped",
            nothing_is_left_when_a_testbed_is_dropped,
        ),
    ];
    for (name, test) in tests
        .iter()
        .filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter)))
    {
        test();
        println!("test {name} ... ok");
    }
}

/// Builds, says which namespaces there are, and waits to be killed.
fn hold() {
    testbed::enter().unwrap();
    let testbed = cluster(NETWORKS[1]);
    // Rules and connections too, as they could hold on to a namespace.
    testbed.namespace(&node("a")).unwrap().nft(RULES).unwrap();
    assert_all(&testbed, ask_all(&pod("a1"), &pod("b1")), Passed);
    print_namespaces(&testbed);
    loop {
        std::thread::park();
    }
}

fn panic_inside() {
    testbed::enter().unwrap();
    let testbed = cluster(NETWORKS[0]);
    print_namespaces(&testbed);
    let _ = testbed
        .namespace(&Place::External)
        .unwrap()
        .run(|| panic!("on purpose"));
}

fn print_namespaces(testbed: &testbed::Testbed) {
    let inodes: Vec<String> = testbed
        .namespaces()
        .map(|(_, namespace)| namespace.inode().unwrap().to_string())
        .collect();
    println!("{}", inodes.join(" "));
}

const RULES: &str = "
table inet test {
  set s { type ipv4_addr; elements = { 10.1.0.12 } }
  chain c {
    type filter hook forward priority 0
    ct state established,related accept
    ip daddr @s drop
  }
}";

fn work_without_privileges() {
    assert_eq!(testbed::enter().unwrap(), Privileges::UserNamespace);
    assert_eq!(testbed::enter().unwrap(), Privileges::Own, "once is enough");
    for network in NETWORKS {
        let testbed = cluster(network);
        testbed.namespace(&node("a")).unwrap().nft(RULES).unwrap();
        let probes = [
            ask_all(&pod("a1"), &pod("a2")),
            ask_all(&pod("b1"), &pod("a1")),
        ]
        .concat();
        let outcome = |probe: &testbed::Probe| {
            if probe.destination.to_string() == "10.1.0.12" {
                Dropped
            } else {
                Passed
            }
        };
        let expected: Vec<_> = probes
            .iter()
            .map(|probe| (probe.clone(), outcome(probe)))
            .collect();
        assert_outcomes(&testbed, &expected);
        testbed.forget_connections().unwrap();
    }
    println!("done");
}

fn enter_with_threads() {
    std::thread::scope(|scope| {
        let other = scope.spawn(std::thread::park);
        println!("{}", testbed::enter().unwrap_err());
        other.thread().unpark();
    });
}

/// This program with a role, as another process.
fn start(program: &Path, role: &str, user: Option<u32>) -> Child {
    // Who started us in the background may have us ignore SIGINT, and what we start with it.
    let mut command = Command::new("/usr/bin/env");
    command
        .arg("--default-signal=INT")
        .arg(program)
        .arg(role)
        .stdout(Stdio::piped())
        .current_dir("/")
        .env("PATH", "/nonexistent")
        .env("RUST_BACKTRACE", "0");
    // An ordinary user who runs the tests is without privileges as it is.
    if let Some(user) = user.filter(|_| nix::unistd::geteuid().is_root()) {
        command.uid(user).gid(user);
    }
    command
        .spawn()
        .expect("run these tests as root or as an ordinary user, not in a user namespace")
}

fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// The namespaces that a process with a role has made, from the line that it prints.
fn made_by(child: &mut Child) -> BTreeSet<String> {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let inodes: BTreeSet<String> = line.split_whitespace().map(str::to_owned).collect();
    assert!(
        inodes.len() > 3,
        "the helper has not built a testbed: {line:?}"
    );
    inodes
}

/// The network namespaces in which some process or thread is, or which one holds open.
fn existing_namespaces() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let entries = |path: PathBuf| {
        fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    for process in entries("/proc".into()).filter(|path| path.join("task").exists()) {
        let threads = entries(process.join("task")).map(|thread| thread.join("ns/net"));
        for link in threads.chain(entries(process.join("fd"))) {
            let target = fs::read_link(link).unwrap_or_default();
            let inode = target.to_str().and_then(|text| {
                text.strip_prefix("net:[")?
                    .strip_suffix(']')
                    .map(str::to_owned)
            });
            found.extend(inode);
        }
    }
    found
}

fn names_on_disk() -> BTreeSet<PathBuf> {
    let named = fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    named
        .chain([PathBuf::from(
            fs::read_to_string("/proc/self/mounts").unwrap(),
        )])
        .collect()
}

fn assert_gone(inodes: &BTreeSet<String>) {
    let deadline = Instant::now() + PATIENCE;
    while !existing_namespaces().is_disjoint(inodes) {
        assert!(
            Instant::now() < deadline,
            "left: {:?}",
            existing_namespaces().intersection(inodes)
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn nothing_is_left_after(signal: &str) {
    let before = names_on_disk();
    let mut child = start(&this_program(), "role:hold", None);
    let inodes = made_by(&mut child);
    assert!(
        inodes.is_subset(&existing_namespaces()),
        "the search finds what is there"
    );
    let kill = Command::new("/bin/kill")
        .args(["-s", signal, &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    assert!(!child.wait().unwrap().success());
    assert_gone(&inodes);
    assert_eq!(names_on_disk(), before);
}

fn nothing_is_left_after_a_panic() {
    let mut child = start(&this_program(), "role:panic", None);
    let inodes = made_by(&mut child);
    assert!(
        !child.wait().unwrap().success(),
        "the panic went on in the caller"
    );
    assert_gone(&inodes);
}

fn nothing_is_left_when_a_testbed_is_dropped() {
    testbed::enter().unwrap();
    let testbed = cluster(NETWORKS[0]);
    let inodes: BTreeSet<String> = testbed
        .namespaces()
        .map(|(_, namespace)| namespace.inode().unwrap().to_string())
        .collect();
    assert!(inodes.is_subset(&existing_namespaces()));
    drop(testbed);
    assert_gone(&inodes);
}

/// Where a user without privileges can run this program, which may lie in a folder that is closed to it.
fn copy_for_everyone() -> PathBuf {
    let copy = std::env::temp_dir().join(format!("testbed-processes-{}", std::process::id()));
    fs::copy(this_program(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

fn a_user_without_privileges_can_do_all_of_it() {
    let copy = copy_for_everyone();
    let output = start(&copy, "role:without-privileges", Some(UNPRIVILEGED)).wait_with_output();
    fs::remove_file(copy).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.unwrap().stdout), "done\n");
}

fn entering_with_threads_is_refused() {
    let copy = copy_for_everyone();
    let output = start(&copy, "role:threads", Some(UNPRIVILEGED)).wait_with_output();
    fs::remove_file(copy).unwrap();
    let said = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
    assert!(
        said.contains("call testbed::enter() first thing in main"),
        "{said}"
    );
}
