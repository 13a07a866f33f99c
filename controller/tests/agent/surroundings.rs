//! What is around the agent is not as it should be: the disk, the clock, the tables that it finds, another agent.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use kernel::Links;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::life::random;
use crate::live::{Agent, Folder, Live};
use crate::manifests::{self, policy};

/// Files that take the place of all that an agent would make.
const EMPTY: [&str; 4] = ["one", "two", "three", "four"];

/// Puts a disk without a free byte, on which no file can be made, at the path, for this thread and its children only.
fn mount_full_disk(path: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let nothing = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing).unwrap();
    let size = Some("size=4k,nr_inodes=6,mode=700");
    mount(nothing, path, Some("tmpfs"), MsFlags::empty(), size).unwrap();
    for empty in EMPTY {
        fs::write(path.join(empty), "").unwrap();
    }
    let full = fs::write(path.join("full"), [0; 8192]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
}

#[test]
fn a_full_disk_and_a_log_that_takes_nothing_hinder_nothing() {
    let mut live = Live::new(&["--log-level", "debug"]);
    let run_dir = live.run_dir.path().to_owned();
    let mut agent = live.start_by(|command| {
        mount_full_disk(&run_dir);
        command.stderr(File::options().write(true).open("/dev/full").unwrap());
    });
    live.quiet(&agent);
    let mut random = random(11);
    for round in 0..5 {
        live.replace(
            "policy.yaml",
            &policy(&format!("p{}", round % 3), &mut random),
        );
        live.quiet(&agent);
    }
    assert_eq!(live.get("/readyz"), Some((200, "ready\n".to_owned())));
    assert!(!agent.has_ended());
    // Once there is room, what it could not make is made.
    let seen = agent.root().join(run_dir.strip_prefix("/").unwrap());
    for file in EMPTY.iter().chain(&["full"]) {
        fs::remove_file(seen.join(file)).unwrap();
    }
    live.until("there is all of it", &agent, |_| {
        let made = ["agent.sock", "cni.sock", "attachments", "ready"];
        made.iter().all(|file| seen.join(file).exists())
    });
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(run_dir.to_str().unwrap()), "{mounts}");
}

/// Lets the clock of a process be set while it runs (`libfaketime`), but not the one that only goes on.
struct Clock(Folder);

impl Clock {
    fn new() -> Self {
        let clock = Self(Folder::new("clock"));
        clock.set("+0");
        clock
    }

    /// So far from the real time.
    fn set(&self, offset: &str) {
        let beside = self.0.path().join("new");
        fs::write(&beside, offset).unwrap();
        fs::rename(beside, self.0.path().join("offset")).unwrap();
    }

    fn give(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", self.0.path().join("offset"))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }
}

/// Debian and Ubuntu have it in a folder named after the machine, such as `x86_64-linux-gnu`.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap();
    let mut libraries = folders.map(|folder| {
        let folder = folder.unwrap().path();
        folder.join("faketime/libfaketimeMT.so.1")
    });
    let found = libraries.find(|library| library.exists());
    found.expect("libfaketime is missing: ./setup installs it")
}

const YEAR: f64 = 365.0 * 86_400.0;

/// Years between the last success as the agent knows it and now.
fn years_ahead(live: &Live) -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let success = live.metric("picket_sync_last_success_timestamp_seconds");
    (success - now.unwrap().as_secs_f64()) / YEAR
}

#[test]
fn a_clock_that_jumps_years_forth_and_back_changes_nothing() {
    let mut live = Live::new(&["--own-tables", "never"]);
    let clock = Clock::new();
    let agent = live.start_by(|command| clock.give(command));
    live.until("it is ready", &agent, |live| {
        live.get("/readyz").is_some_and(|(status, _)| status == 200)
    });
    let mut random = random(12);
    let mut flushes = 0.0;
    for (round, years) in [30.0_f64, -40.0, 10.0, -20.0].into_iter().enumerate() {
        clock.set(&format!("{years:+}y"));
        live.replace("policy.yaml", &policy(&format!("p{round}"), &mut random));
        live.quiet(&agent);
        live.until("the clock has jumped for it too", &agent, |live| {
            (years_ahead(live) - years).abs() < 1.0
        });
        // After the first ten, repairs wait for a while; in this while the clock jumps again.
        for _ in 0..4 {
            live.world.node.nft("flush ruleset").unwrap();
            clock.set(&format!("{:+}y", -years));
            live.quiet(&agent);
            flushes += 1.0;
            live.until("the repair is counted", &agent, |live| {
                live.metric("picket_drift_repairs_total") >= flushes
            });
        }
    }
    assert!(live.metric("picket_drift_alarm") > 0.0);
}

/// With pods and a policy beside what always holds.
fn live(arguments: &[&str]) -> Live {
    let mut live = Live::new(arguments);
    for name in manifests::CHANGING {
        live.replace(&format!("pod-{name}.yaml"), &manifests::pod(name, "one"));
    }
    live.replace("policy.yaml", &policy("p", &mut random(13)));
    live
}

/// Whether others can change our tables, by a change that opens nothing.
fn is_owned(live: &Live) -> bool {
    let change = "add element inet picket local6 { fd00::99 }";
    live.world.node.nft(change).is_err()
}

#[test]
fn tables_of_an_agent_that_owned_none_are_swung_over_under_fire_and_back() {
    let mut live = live(&["--own-tables", "never"]);
    let agent = live.started();
    assert!(!is_owned(&live));
    agent.kill();
    live.under_flood(|live| {
        live.arguments.clear();
        let agent = live.started();
        assert!(is_owned(live));
        agent.kill();
        live.arguments = vec!["--own-tables".to_owned(), "never".to_owned()];
        let agent = live.started();
        assert!(!is_owned(live));
        // What was changed for the question is repaired.
        live.quiet(&agent);
    });
}

/// An agent of the same node that has a run directory of its own.
fn elsewhere(live: &mut Live) -> (Agent, Folder) {
    let own = std::mem::replace(&mut live.run_dir, Folder::new("run"));
    let agent = live.start();
    let other = std::mem::replace(&mut live.run_dir, own);
    (agent, other)
}

/// A second agent of the node, with these arguments, refuses since the tables belong to the first, which goes on.
fn second_refuses(arguments: &[&str]) {
    let mut live = live(&[]);
    let agent = live.started();
    live.under_flood(|live| {
        live.arguments = arguments.iter().map(|&text| text.to_owned()).collect();
        let (mut second, _run_dir) = elsewhere(live);
        assert_eq!(second.wait(), Some(2), "{}", second.log());
        let log = second.log();
        assert!(log.contains("another agent"), "{log}");
        live.replace("policy.yaml", &policy("q", &mut random(14)));
        live.quiet(&agent);
        let tables = live.world.node.nft("list tables").unwrap();
        assert!(!tables.contains("picket-next"), "{tables}\n{log}");
    });
}

#[test]
fn an_agent_with_another_run_directory_refuses_since_the_tables_belong_to_the_first() {
    second_refuses(&[]);
}

#[test]
fn an_agent_that_would_own_no_tables_refuses_where_they_belong_to_another() {
    second_refuses(&["--own-tables", "never"]);
}

#[test]
fn a_bridge_that_comes_later_is_set_and_so_is_one_of_which_others_clear_the_flags() {
    let mut live = Live::new(&["--bridge", "br9", "--set-bridge-netfilter"]);
    let agent = live.start();
    live.until("it is ready", &agent, |live| {
        live.get("/readyz").is_some_and(|(status, _)| status == 200)
    });
    let says_so = |live: &Live| {
        let status = live.run(&["status"]);
        String::from_utf8(status.stdout)
            .unwrap()
            .contains("br9 was named as a bridge that carries pods, and is not there")
    };
    assert!(says_so(&live));
    let flags = |live: &Live| {
        let mut links = live.world.node.run(Links::open).unwrap().unwrap();
        let bridge = links.by_name("br9").unwrap().unwrap().bridge.unwrap();
        let netfilter = bridge.netfilter.unwrap();
        (netfilter.ipv4, netfilter.ipv6)
    };
    for change in [
        "link add br9 type bridge",
        "link set br9 type bridge nf_call_iptables 0",
        "link set br9 type bridge nf_call_iptables 0 nf_call_ip6tables 0",
    ] {
        live.world.node.ip_batch(&format!("{change}\n")).unwrap();
        live.until("its packets pass our rules", &agent, |live| {
            flags(live) == (true, true)
        });
    }
    live.until("nothing is said of it any more", &agent, |live| {
        !says_so(live)
    });
    assert!(
        agent.log().contains("br9 now hands packets"),
        "{}",
        agent.log()
    );
}
