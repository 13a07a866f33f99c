//! What others change of our tables.

use std::io::{PipeWriter, Write};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;

use crate::live::{Agent, Live, PATIENCE};
use crate::manifests::{pod, policy};

/// Where others can change them.
fn open() -> (Live, Agent) {
    let mut live = Live::new(&["--own-tables", "never"]);
    live.replace("policy.yaml", &policy("p", &mut super::life::random(7)));
    let agent = live.started();
    (live, agent)
}

fn repairs(live: &Live) -> u64 {
    let status = live.run(&["status", "-o", "json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    status["drift"]["repairs"].as_u64().unwrap()
}

/// Somebody changes our tables, and they are repaired, counted and reported.
fn is_repaired(change: &str) {
    let (mut live, agent) = open();
    let wanted = live.wanted();
    assert_eq!(repairs(&live), 0);
    live.world.node.nft(change).unwrap();
    live.until("the tables are repaired", &agent, |live| {
        let found = live.world.nftables.read().unwrap();
        found.unknown.is_empty() && crate::live::sorted(found.ruleset) == wanted
    });
    live.until("the repair is counted", &agent, |live| repairs(live) == 1);
    live.until("who did it is written", &agent, |_| {
        agent.log().contains("nft")
    });
}

#[test]
fn a_flushed_ruleset_is_repaired() {
    is_repaired("flush ruleset");
}

#[test]
fn a_deleted_table_is_repaired() {
    is_repaired("delete table inet picket");
}

#[test]
fn a_deleted_base_chain_is_repaired() {
    is_repaired("delete chain inet picket ingress");
}

#[test]
fn a_flushed_chain_is_repaired() {
    is_repaired("flush chain inet picket ingress");
}

#[test]
fn a_changed_element_is_repaired() {
    is_repaired("delete element inet picket local4 { 10.0.0.4 }");
}

#[test]
fn an_added_element_is_repaired() {
    is_repaired("add element inet picket local6 { fd00::99 }");
}

#[test]
fn an_added_rule_is_repaired() {
    is_repaired("insert rule inet picket ingress limit rate 5/second accept");
}

#[test]
fn an_added_rule_of_our_shape_is_repaired() {
    is_repaired("insert rule inet picket ingress accept");
}

#[test]
fn a_sleeping_table_is_repaired() {
    is_repaired("add table inet picket { flags dormant; }");
}

#[test]
fn who_flushes_in_a_loop_meets_backoff_and_an_alarm() {
    let (mut live, agent) = open();
    let end = Instant::now() + Duration::from_secs(20);
    let mut flushes = 0;
    live.until("there is an alarm", &agent, |live| {
        live.world.node.nft("flush ruleset").unwrap();
        flushes += 1;
        assert!(
            Instant::now() < end,
            "no alarm after {flushes}: {}",
            agent.log()
        );
        let status = live.run(&["status", "-o", "json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        status["drift"]["alarm"] == true
    });
    live.quiet(&agent);
}

/// An agent is killed, the next one can not read its files, and somebody flushes.
fn is_kept_before_the_first_state(arguments: &[&str]) {
    let mut live = Live::new(arguments);
    live.replace("policy.yaml", &policy("p", &mut super::life::random(7)));
    live.started().kill();
    let wanted = live.wanted();
    std::fs::write(live.path("broken.yaml"), "kind: [").unwrap();
    let agent = live.start();
    live.until("it can not read its files", &agent, |_| {
        agent
            .log()
            .contains("nothing is applied until this is mended")
    });
    live.world.node.nft("flush ruleset").unwrap();
    live.until("what was in force is in force", &agent, |live| {
        live.held() == wanted
    });
    assert_eq!(live.get("/readyz").map(|(status, _)| status), Some(503));
    // And then it goes on from there.
    std::fs::remove_file(live.path("broken.yaml")).unwrap();
    live.remove("policy.yaml");
    live.quiet(&agent);
}

#[test]
fn what_a_killed_agent_left_is_repaired_before_the_next_one_has_a_state() {
    is_kept_before_the_first_state(&["--own-tables", "never"]);
}

#[test]
fn what_a_killed_agent_left_belongs_to_the_next_one_before_it_has_a_state() {
    is_kept_before_the_first_state(&[]);
}

#[test]
fn owned_tables_can_neither_be_flushed_nor_changed() {
    let mut live = Live::new(&[]);
    let agent = live.started();
    let held = live.held();
    live.under_flood(|live| {
        for _ in 0..20 {
            // Not ours, but everything else: so the witness counts in a table of its own, which is made again.
            assert!(live.world.node.nft("delete table inet picket").is_err());
            assert!(
                live.world
                    .node
                    .nft("flush chain inet picket ingress")
                    .is_err()
            );
            assert!(
                live.world
                    .node
                    .nft("insert rule inet picket ingress accept")
                    .is_err()
            );
        }
    });
    live.world.node.nft("flush ruleset").unwrap();
    assert!(live.held() == held);
    assert_eq!(repairs(&live), 0);
    drop(agent);
}

/// Until there is room for nothing more.
fn fill(pipe: &mut PipeWriter) {
    fcntl(&*pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while pipe.write(b".").is_ok() {}
    fcntl(&*pipe, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let mut live = Live::new(&["--own-tables", "never"]);
    let (nobody, mut pipe) = std::io::pipe().unwrap();
    fill(&mut pipe);
    let mut agent = live.start_by(|command| {
        command.stderr(pipe);
    });
    live.quiet(&agent);
    live.world.node.nft("flush ruleset").unwrap();
    live.quiet(&agent);
    live.replace("pod.yaml", &pod("b", "one"));
    live.replace("policy.yaml", &policy("p", &mut super::life::random(8)));
    live.quiet(&agent);
    agent.signal(Signal::SIGTERM);
    let deadline = Instant::now() + PATIENCE;
    while !agent.has_ended() {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(agent.wait(), Some(0));
    drop(nobody);
}
