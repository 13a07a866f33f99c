//! Start, stop, crash and upgrade.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::live::Live;
use crate::manifests::{self, NODE, policy};

/// Numbers that are the same each time.
pub(crate) fn random(seed: u64) -> impl FnMut(u32) -> u32 {
    // xorshift64*, Vigna 2016.
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    move |below| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as u32 % below.max(1)
    }
}

fn pods(live: &mut Live) {
    for (index, name) in manifests::CHANGING.iter().enumerate() {
        let group = if index % 2 == 0 { "one" } else { "two" };
        live.replace(&format!("pod-{name}.yaml"), &manifests::pod(name, group));
    }
}

#[test]
fn the_first_start_applies_everything_and_changes_follow() {
    let mut live = Live::new(&[]);
    let agent = live.started();
    pods(&mut live);
    let mut random = random(1);
    for round in 0..10 {
        live.replace(
            "policy.yaml",
            &policy(&format!("p{}", round % 3), &mut random),
        );
        live.quiet(&agent);
    }
    live.remove("policy.yaml");
    live.quiet(&agent);
}

#[test]
fn a_kill_at_any_moment_opens_nothing_and_the_next_start_goes_on_from_there() {
    let mut live = Live::new(&[]);
    pods(&mut live);
    let agent = live.started();
    agent.kill();
    live.under_flood(|live| {
        let mut random = random(2);
        for round in 0..15 {
            let agent = live.start();
            live.replace(
                "policy.yaml",
                &policy(&format!("p{}", round % 3), &mut random),
            );
            let pause = Duration::from_micros(u64::from(random(60_000)));
            let until = Instant::now() + pause;
            // At any moment: that of the start, of a plan, or of nothing.
            while Instant::now() < until {
                std::thread::yield_now();
            }
            agent.kill();
        }
        live.started();
    });
}

#[test]
fn sigterm_ends_the_agent_and_leaves_the_rules() {
    let mut live = Live::new(&[]);
    let mut agent = live.started();
    let before = live.held();
    live.under_flood(|live| {
        agent.signal(Signal::SIGTERM);
        assert_eq!(agent.wait(), Some(0), "{}", agent.log());
        assert!(live.held() == before);
        // The next one takes over what is there.
        let mut agent = live.started();
        agent.signal(Signal::SIGINT);
        assert_eq!(agent.wait(), Some(0), "{}", agent.log());
    });
}

#[test]
fn the_second_agent_refuses_and_the_first_goes_on() {
    let mut live = Live::new(&[]);
    let agent = live.started();
    let mut second = live.start();
    assert_eq!(second.wait(), Some(2), "{}", second.log());
    let log = second.log();
    assert!(log.contains("has it: stop it first"), "{log}");
    pods(&mut live);
    live.quiet(&agent);
}

#[test]
fn a_second_agent_with_another_directory_refuses_too() {
    let mut live = Live::new(&["--own-tables", "never"]);
    let agent = live.started();
    let first = std::mem::replace(&mut live.run_dir, crate::live::Folder::new("run"));
    let mut second = live.start();
    assert_eq!(second.wait(), Some(2), "{}", second.log());
    let log = second.log();
    assert!(log.contains("has this network namespace"), "{log}");
    let cleanup = live.run(&["cleanup"]);
    assert_eq!(cleanup.status.code(), Some(2), "{cleanup:?}");
    live.run_dir = first;
    pods(&mut live);
    live.quiet(&agent);
}

#[test]
fn cleanup_refuses_while_the_agent_runs_and_removes_everything_afterwards() {
    let mut live = Live::new(&[]);
    live.world.node.nft("add table inet neighbour").unwrap();
    let mut agent = live.started();
    let refused = live.run(&["cleanup"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    live.quiet(&agent);
    agent.signal(Signal::SIGTERM);
    agent.wait();
    let done = live.run(&["cleanup"]);
    assert!(done.status.success(), "{done:?}");
    let left = live.world.node.nft("list tables").unwrap();
    assert!(
        !left.contains("picket") && left.contains("neighbour"),
        "{left}"
    );
}

#[test]
fn tables_of_another_version_are_swung_over_under_fire() {
    let mut live = Live::new(&[]);
    // They say the same of what is always denied and allowed, in words that no version of ours has.
    live.world
        .node
        .nft(
            "add table inet picket
             add chain inet picket filter { type filter hook forward priority -7; }
             add rule inet picket filter ip daddr 10.0.0.4 th dport 80 accept
             add rule inet picket filter ip6 daddr fd00::4 th dport 80 accept
             add rule inet picket filter limit rate over 1/day burst 1 packets ip daddr 10.0.0.4 drop
             add rule inet picket filter ip daddr 10.0.0.4 drop
             add rule inet picket filter ip6 daddr fd00::4 drop
             add table ip picket
             add chain ip picket more { type filter hook forward priority -8; }
             add rule ip picket more ip daddr 10.0.0.4 th dport 9999 drop",
        )
        .unwrap();
    live.under_flood(|live| {
        let agent = live.started();
        live.until("no old table is left", &agent, |live| {
            let tables = live.world.node.nft("list tables").unwrap();
            !tables.contains("ip picket") && !tables.contains("picket-next")
        });
    });
}

#[test]
fn a_file_that_is_broken_at_the_start_keeps_the_tables_of_the_former_run() {
    let mut live = Live::new(&[]);
    pods(&mut live);
    let agent = live.started();
    agent.kill();
    let held = live.held();
    live.under_flood(|live| {
        std::fs::write(live.path("broken.yaml"), "kind: [").unwrap();
        let agent = live.start();
        live.until("the broken file is named", &agent, |_| {
            agent.log().contains("broken.yaml")
        });
        let status = live.run(&["status"]);
        assert_eq!(status.status.code(), Some(1), "{status:?}");
        assert!(live.held() == held);
        live.replace("broken.yaml", &policy("p", &mut random(3)));
        live.quiet(&agent);
    });
}

#[test]
fn a_file_that_breaks_keeps_what_it_said_in_force() {
    let mut live = Live::new(&[]);
    pods(&mut live);
    live.replace("policy.yaml", &policy("p", &mut random(4)));
    let agent = live.started();
    let held = live.held();
    live.under_flood(|live| {
        for garbage in [
            "kind: [",
            "",
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n",
        ] {
            std::fs::write(live.path("policy.yaml"), garbage).unwrap();
            // Another file's change is taken all the same, so that the broken one was seen too.
            live.until("the broken file is reported", &agent, |live| {
                let status = live.run(&["status", "-o", "json"]);
                String::from_utf8_lossy(&status.stdout).contains("policy.yaml")
            });
            assert!(live.held() == held, "{garbage:?}");
        }
        live.replace("policy.yaml", &policy("p", &mut random(5)));
        live.quiet(&agent);
    });
}

#[test]
fn what_is_in_force_is_what_compile_prints_of_the_dump() {
    let mut live = Live::new(&[]);
    pods(&mut live);
    live.replace("policy.yaml", &policy("p", &mut random(6)));
    let agent = live.started();
    let dump = live.run(&["dump", "objects"]);
    assert!(dump.status.success(), "{dump:?}");
    let file = live.run_dir.path().join("dump.json");
    std::fs::write(&file, &dump.stdout).unwrap();
    let compiled = std::process::Command::new(env!("CARGO_BIN_EXE_picket"))
        .args(["compile", "--node", NODE, "-f"])
        .arg(&file)
        .output()
        .unwrap();
    let ruleset = live.run(&["dump", "rules"]);
    assert!(compiled.status.success(), "{compiled:?}");
    assert_eq!(
        String::from_utf8_lossy(&compiled.stdout),
        String::from_utf8_lossy(&ruleset.stdout)
    );
    assert!(!ruleset.stdout.is_empty());
    agent.kill();
}
