//! `picket cleanup` leaves nothing of picket, and everything else.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "support/program.rs"]
mod program;

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use cni_chain::quarantine::{self, ACTIVE, QUARANTINE};
use controller::agent::alone::Alone;
use controller::agent::rundir::RunDir;
use controller::{cluster, source};
use kernel::conntrack::{Conntrack, Filter, MarkChange};
use kernel::{Links, Nftables};
use nix::sys::signal::Signal;
use policy_compiler::compile::compile;
use policy_compiler::lower::{Options, lower};
use policy_compiler::ruleset::Ruleset;
use policy_compiler::validate;
use program::{SHOP, end_first_process, exits, first_process, picket, text};
use testbed::Namespace;

const BIT: u32 = 0x10_0000;

/// Another program's tables, marks and names.
const FOREIGN: &str = "
add table inet other
add set inet other s { type ipv4_addr; elements = { 10.0.0.1 }; }
add chain inet other forward { type filter hook forward priority -6; policy accept; }
add rule inet other forward ip saddr @s counter accept
add table ip nat
add chain ip nat postrouting { type nat hook postrouting priority 100; }
add table inet picket-mine
";

/// What a version swing, another version, or somebody by hand may leave.
const LEFT: &str = "
add table inet picket-next
add chain inet picket-next forward { type filter hook forward priority -6; policy accept; }
add table ip picket
add chain ip picket forward { type filter hook forward priority 0; policy drop; }
add rule inet picket egress limit rate 5/second drop
add table netdev picket
add chain netdev picket lo { type filter hook ingress device lo priority 0; }
";

fn folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    env::temp_dir().join(format!("picket-cleanup-{}-{count}", process::id()))
}

fn namespace() -> Namespace {
    let namespace = Namespace::new().expect("these tests need root");
    namespace.ip(&["link", "set", "lo", "up"]).unwrap();
    namespace
}

/// The rules of a node of the example.
fn ruleset() -> Ruleset {
    let mut stdin: &[u8] = &[];
    let loaded = source::load_beside(&[], None, &[PathBuf::from(SHOP)], &mut stdin).unwrap();
    let cluster = cluster::build(&loaded, validate::Options::default());
    let cluster = cluster.unwrap_or_else(|errors| panic!("{errors}"));
    let node = cluster.nodes.keys().next().unwrap();
    let ruleset = lower(&compile(&cluster, node), &Options::default());
    assert!(ruleset.tables[0].chains.len() > 4);
    ruleset
}

fn load(namespace: &Namespace) {
    let mut nftables = namespace.run(Nftables::open).unwrap().unwrap();
    nftables.load(&ruleset(), None).unwrap();
}

fn clean(namespace: &Namespace, run_dir: &Path) -> Output {
    let run_dir = run_dir.to_str().unwrap();
    namespace
        .run(|| picket(&["cleanup", "--run-dir", run_dir], ""))
        .unwrap()
}

fn listed(namespace: &Namespace) -> String {
    namespace.nft("list ruleset").unwrap()
}

/// Marks of all connections, in order.
fn marks(namespace: &Namespace) -> Vec<u32> {
    let mut conntrack = namespace.run(Conntrack::open).unwrap().unwrap();
    let mut marks = Vec::new();
    conntrack
        .dump(&Filter::default(), |entry| marks.push(entry.mark))
        .unwrap();
    marks.sort_unstable();
    marks
}

/// Connections over loopback, tracked since a rule asks for it, each with a mark of its own.
fn connect(namespace: &Namespace, wanted: &[u32]) {
    namespace
        .nft("add table inet track\nadd chain inet track out { type filter hook output priority 0; }\n\
              add rule inet track out ct state new counter")
        .unwrap();
    let mut conntrack = namespace.run(Conntrack::open).unwrap().unwrap();
    for (index, mark) in wanted.iter().enumerate() {
        let port = 9000 + u16::try_from(index).unwrap();
        namespace
            .run(|| {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.send_to(b"x", ("127.0.0.1", port)).unwrap();
            })
            .unwrap();
        let mut of = Vec::new();
        let mut filter = Filter::default();
        filter.original.destination_port = Some(port);
        conntrack
            .dump(&filter, |entry| of.push(entry.connection()))
            .unwrap();
        assert_eq!(of.len(), 1, "one connection to {port}");
        let set = of
            .into_iter()
            .map(|connection| (connection, MarkChange::new(*mark, !0)));
        conntrack.change_marks(set).unwrap();
    }
}

#[test]
fn all_of_ours_goes_and_all_of_others_stays() {
    let (namespace, run_dir) = (namespace(), folder());
    namespace.nft(FOREIGN).unwrap();
    connect(&namespace, &[BIT, BIT | 0x4000, 0x4000, 0]);
    let before = listed(&namespace);
    load(&namespace);
    namespace.nft(LEFT).unwrap();
    // As a killed agent and the plugin leave it.
    let held = RunDir::take(&run_dir).unwrap();
    drop(UnixListener::bind(held.socket()).unwrap());
    drop(UnixListener::bind(run_dir.join("cni.sock")).unwrap());
    fs::create_dir(run_dir.join("attachments")).unwrap();
    fs::write(run_dir.join("attachments/one-eth0.json"), "{}").unwrap();
    fs::write(run_dir.join("ready"), "").unwrap();
    drop(held);
    let mut links = namespace.run(Links::open).unwrap().unwrap();
    namespace
        .ip_batch(
            "link add pod1 type veth peer name pod2\nlink add pod3 type veth peer name pod4\n",
        )
        .unwrap();
    for (name, group, alias) in [
        ("pod1", QUARANTINE, "picket:x/a"),
        ("pod2", ACTIVE, "picket:x/b"),
        ("pod3", 7, "theirs"),
    ] {
        let link = links.by_name(name).unwrap().unwrap();
        links.set_group(&link, group).unwrap();
        links.set_alias(&link, alias).unwrap();
    }
    let mut nftables = namespace.run(Nftables::open).unwrap().unwrap();
    quarantine::ensure(&mut nftables).unwrap();
    let output = clean(&namespace, &run_dir);
    exits(&output, 0);
    let expected = "\
removed table inet picket
removed table inet picket-next
removed table ip picket
removed table netdev picket
cleared the bit of 2 connections
let go of 2 interfaces of pods
removed table inet picket-quarantine
removed table bridge picket-quarantine
";
    assert_eq!(text(&output.stdout), expected);
    let mut tags = |name: &str| {
        let link = links.by_name(name).unwrap().unwrap();
        (link.group, link.alias)
    };
    assert_eq!((tags("pod1"), tags("pod2")), ((0, None), (0, None)));
    assert_eq!(tags("pod3"), (7, Some("theirs".to_owned())));
    assert_eq!(text(&output.stderr), "");
    assert_eq!(listed(&namespace), before);
    assert_eq!(marks(&namespace), [0, 0, 0x4000, 0x4000]);
    assert!(!run_dir.exists());
}

#[test]
fn where_there_is_nothing_it_says_so_and_changes_nothing() {
    let (namespace, run_dir) = (namespace(), folder());
    namespace.nft(FOREIGN).unwrap();
    let mut nftables = namespace.run(Nftables::open).unwrap().unwrap();
    let generation = nftables.generation().unwrap();
    for _ in 0..2 {
        let output = clean(&namespace, &run_dir);
        exits(&output, 0);
        assert_eq!(text(&output.stdout), "there was nothing of picket\n");
    }
    assert_eq!(nftables.generation().unwrap(), generation);
    assert!(!run_dir.exists());
}

#[test]
fn it_refuses_while_an_agent_runs() {
    let (namespace, run_dir) = (namespace(), folder());
    load(&namespace);
    let before = listed(&namespace);
    let agent = RunDir::take(&run_dir).unwrap();
    let output = clean(&namespace, &run_dir);
    exits(&output, 2);
    let pid = format!("process {} has it: stop it first", process::id());
    assert!(
        text(&output.stderr).contains(&pid),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(text(&output.stdout), "");
    assert_eq!(listed(&namespace), before);
    drop(agent);
    exits(&clean(&namespace, &run_dir), 0);
    assert_eq!(listed(&namespace), "");
}

/// Both of an agent's locks are waited for: an agent with another directory has the other one.
#[test]
fn it_waits_for_an_agent_to_end_if_it_may() {
    let (namespace, run_dir) = (namespace(), folder());
    load(&namespace);
    let path = run_dir.to_str().unwrap();
    let held = RunDir::take(&run_dir).unwrap();
    let output = namespace
        .run(|| picket(&["cleanup", "--run-dir", path, "--wait", "200ms"], ""))
        .unwrap();
    exits(&output, 2);
    assert!(text(&output.stderr).contains("stop it first"));
    assert_ne!(listed(&namespace), "");

    let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
    command.args(["cleanup", "--run-dir", path, "--wait", "1h"]);
    command.stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = namespace.run(|| command.spawn()).unwrap().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = said.next().unwrap().unwrap();
    assert!(line.contains("waiting for it to end"), "{line}");
    let alone = namespace.run(Alone::take).unwrap().unwrap();
    drop(held);
    // It has the directory now and then, and waits for the other lock.
    let other = folder();
    let again = clean(&namespace, &other);
    exits(&again, 2);
    assert!(text(&again.stderr).contains("has this network namespace"));
    fs::remove_dir(&other).unwrap();
    assert_ne!(listed(&namespace), "");
    assert!(child.try_wait().unwrap().is_none());
    drop(alone);
    assert!(child.wait().unwrap().success());
    assert_eq!(listed(&namespace), "");
}

/// A node may be drained, or the pod deleted, while it waits.
#[test]
fn a_signal_ends_the_wait_of_the_first_process_of_a_container() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let (namespace, run_dir) = (namespace(), folder());
        load(&namespace);
        let before = listed(&namespace);
        let held = RunDir::take(&run_dir).unwrap();
        let mut command = first_process();
        command.args(["cleanup", "--wait", "1h", "--run-dir"]);
        command.arg(&run_dir).stderr(Stdio::piped());
        let mut child = namespace.run(|| command.spawn()).unwrap().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = said.next().unwrap().unwrap();
        assert!(line.contains("waiting for it to end"), "{line}");
        assert_eq!(end_first_process(&mut child, signal), Some(code));
        let line = said.next().unwrap().unwrap();
        let end = format!("nothing was removed: told to end by {signal}");
        assert!(
            line.starts_with("error: ") && line.ends_with(&end),
            "{line}"
        );
        assert_eq!(listed(&namespace), before);
        drop(held);
        fs::remove_dir_all(&run_dir).unwrap();
    }
}

#[test]
fn another_bit_is_cleared_if_it_is_named() {
    let (namespace, run_dir) = (namespace(), folder());
    connect(&namespace, &[0x8000 | BIT, 0x8000]);
    let run_dir = run_dir.to_str().unwrap();
    let arguments = ["cleanup", "--run-dir", run_dir, "--mark-bit", "0x8000"];
    let output = namespace.run(|| picket(&arguments, "")).unwrap();
    exits(&output, 0);
    assert_eq!(marks(&namespace), [0, BIT]);
}

#[test]
fn what_cannot_be_removed_is_named_and_the_rest_goes() {
    let (namespace, run_dir) = (namespace(), folder());
    load(&namespace);
    fs::create_dir_all(&run_dir).unwrap();
    fs::write(run_dir.join("notes"), "").unwrap();
    let output = clean(&namespace, &run_dir);
    exits(&output, 2);
    let said = text(&output.stderr);
    assert!(
        said.contains(run_dir.to_str().unwrap()) && said.contains("not empty"),
        "{said}"
    );
    assert_eq!(listed(&namespace), "");
    fs::remove_dir_all(&run_dir).unwrap();
}

/// Packets that are allowed go on through rules that come and go. They are judged in output and input over loopback,
/// from an address that is a known pod's: without the order, some would meet an emptied map and the drop behind it.
#[test]
fn no_allowed_packet_is_lost() {
    let (namespace, run_dir) = (namespace(), folder());
    // Every packet is judged, allowed by a set, and dropped if that is found empty.
    let rules = "
add table inet picket
add set inet picket allowed { type ipv4_addr; elements = { 127.0.0.1 }; }
add chain inet picket class
add rule inet picket class ip saddr @allowed accept
add rule inet picket class drop
add map inet picket egress4 { type ipv4_addr : verdict; elements = { 127.0.0.1 : goto class }; }
add chain inet picket input { type filter hook input priority -6; policy accept; }
add rule inet picket input ip saddr vmap @egress4
add rule inet picket input ip saddr 127.0.0.1 drop
";
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            namespace
                .run(|| {
                    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
                    receiver
                        .set_read_timeout(Some(Duration::from_secs(10)))
                        .unwrap();
                    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
                    sender.connect(receiver.local_addr().unwrap()).unwrap();
                    let (mut sent, mut buffer) = (0_u64, [0; 8]);
                    while !done.load(Ordering::Relaxed) {
                        sender.send(&sent.to_be_bytes()).unwrap();
                        let came = receiver.recv(&mut buffer);
                        assert!(came.is_ok(), "packet {sent} was lost: {came:?}");
                        assert_eq!(buffer, sent.to_be_bytes());
                        sent += 1;
                    }
                    sent
                })
                .unwrap()
        });
        let end = Instant::now() + Duration::from_secs(60);
        for _ in 0..30 {
            if flood.is_finished() || Instant::now() > end {
                break;
            }
            namespace.nft(rules).unwrap();
            let output = clean(&namespace, &run_dir);
            exits(&output, 0);
        }
        done.store(true, Ordering::Relaxed);
        let sent = flood.join().unwrap();
        assert!(sent > 1000, "{sent}");
    });
    assert_eq!(listed(&namespace), "");
}
