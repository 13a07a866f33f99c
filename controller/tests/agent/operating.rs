//! What an operator sees of the agent: health, metrics and logs.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

use controller::agent::server::DEFAULT_BIND;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::life::random;
use crate::live::{Agent, Live};
use crate::manifests::{self, policy};

const FULL: &str = "picket_sync_duration_seconds_count{type=\"full\"}";
const PARTIAL: &str = "picket_sync_duration_seconds_count{type=\"partial\"}";

fn ok(text: &str) -> Option<(u16, String)> {
    Some((200, text.to_owned()))
}

#[test]
fn readiness_waits_for_the_first_apply_and_liveness_for_nothing() {
    let mut live = Live::new(&[]);
    fs::write(live.path("broken.yaml"), "kind: [").unwrap();
    let agent = live.start();
    live.until("the reason is told", &agent, |live| {
        let answer = live.get("/readyz");
        answer.is_some_and(|(status, why)| status == 503 && why.contains("broken.yaml"))
    });
    assert_eq!(live.get("/healthz"), ok("ok\n"));
    assert_eq!(live.metric("picket_ready"), 0.0);
    fs::remove_file(live.path("broken.yaml")).unwrap();
    live.until("it is ready", &agent, |live| {
        live.get("/readyz") == ok("ready\n")
    });
    assert!(live.held() == live.wanted());
    // What breaks later takes nothing away: what was in force is in force.
    fs::write(live.path("base.yaml"), "kind: [").unwrap();
    live.until("the problem is counted", &agent, |live| {
        live.metric("picket_source_problems") == 1.0
    });
    assert_eq!(live.get("/healthz"), ok("ok\n"));
    assert_eq!(live.get("/readyz"), ok("ready\n"));
}

#[test]
fn metrics_count_what_has_happened() {
    let mut live = Live::new(&["--own-tables", "never"]);
    let agent = live.started();
    let becomes = |live: &mut Live, name: &str, number: f64| {
        live.until(&format!("{name} is {number}"), &agent, |live| {
            live.metric(name) == number
        });
    };
    becomes(&mut live, FULL, 1.0);
    let policies = "picket_policy_programming_duration_seconds_count";
    let pods = "picket_pod_programming_duration_seconds_count";
    let before = [PARTIAL, policies, pods].map(|name| live.metric(name));
    live.replace("pod.yaml", &manifests::pod("b", "one"));
    becomes(&mut live, pods, before[2] + 1.0);
    live.replace("policy.yaml", &policy("p", &mut random(21)));
    becomes(&mut live, policies, before[1] + 1.0);
    assert_eq!(live.metric(pods), before[2] + 1.0);
    assert_eq!(live.metric(PARTIAL), before[0] + 2.0);
    assert_eq!(live.metric("picket_drift_repairs_total"), 0.0);
    live.world.node.nft("flush ruleset").unwrap();
    becomes(&mut live, "picket_drift_repairs_total", 1.0);
    // A repair is no sync.
    assert_eq!(live.metric(PARTIAL), before[0] + 2.0);
    assert_eq!(live.metric(FULL), 1.0);
}

#[test]
fn what_is_dropped_is_counted_by_why_whatever_becomes_of_the_rules() {
    let dropped = |live: &Live, of: &str, by: (&str, &str)| {
        let (direction, reason) = by;
        live.metric(&format!(
            "picket_dropped_{of}_total{{direction=\"{direction}\",reason=\"{reason}\"}}"
        ))
    };
    let mut live = Live::new(&["--own-tables", "never"]);
    let agent = live.started();
    let by_policy = ("ingress", "policy");
    assert_eq!(dropped(&live, "packets", by_policy), 0.0);
    let flood = live.start_flood();
    let mut random = random(23);
    for _ in 0..5 {
        live.replace("policy.yaml", &policy("p", &mut random));
        live.quiet(&agent);
    }
    agent.kill();
    let agent = live.started();
    drop(flood);
    let counts = live.world.counts();
    assert!(counts.denied > 0, "{counts:?}");
    live.until("each of them is counted once", &agent, |live| {
        dropped(live, "packets", by_policy) == counts.denied as f64
    });
    // The least that a packet is: headers of IPv4 and UDP.
    assert!(dropped(&live, "bytes", by_policy) >= 28.0 * counts.denied as f64);
    for other in [
        ("egress", "policy"),
        ("egress", "closed"),
        ("ingress", "closed"),
        ("any", "revoked"),
        ("any", "guard"),
    ] {
        assert_eq!(dropped(&live, "packets", other), 0.0, "{other:?}");
        assert_eq!(dropped(&live, "bytes", other), 0.0, "{other:?}");
    }
    // With the tables the counters begin anew.
    live.world.node.nft("flush ruleset").unwrap();
    live.quiet(&agent);
    assert_eq!(dropped(&live, "packets", by_policy), 0.0);
}

#[test]
fn a_port_of_somebody_else_hinders_no_enforcement() {
    let mut live = Live::new(&[]);
    let bind = || TcpListener::bind(DEFAULT_BIND).unwrap();
    let other = live.world.node.run(bind).unwrap();
    let agent = live.started();
    live.replace("policy.yaml", &policy("p", &mut random(22)));
    live.quiet(&agent);
    live.until("the port is named", &agent, |_| {
        agent
            .log()
            .contains("10491 for health and metrics cannot be opened")
    });
    drop(other);
    live.until("it answers", &agent, |live| {
        live.get("/readyz") == ok("ready\n")
    });
}

/// How many lines of the log have this.
fn lines(agent: &Agent, text: &str) -> usize {
    let log = agent.log();
    log.lines().filter(|line| line.contains(text)).count()
}

/// What comes and goes is written, and then after one second, two, four, eight.
fn assert_is_written_less_often(agent: &Agent) {
    for text in ["what was in force stays in force", "mended"] {
        let count = lines(agent, text);
        assert!((1..10).contains(&count), "{count}: {}", agent.log());
    }
    assert!(lines(agent, "over and over") > 0, "{}", agent.log());
}

#[test]
fn a_file_that_stays_broken_is_reported_once() {
    let mut live = Live::new(&[]);
    let agent = live.started();
    for _ in 0..200 {
        fs::write(live.path(".broken"), "kind: [").unwrap();
        fs::rename(live.path(".broken"), live.path("broken.yaml")).unwrap();
    }
    live.until("it is reported", &agent, |_| {
        lines(&agent, "broken.yaml") > 0
    });
    // Later than all of that.
    live.replace("policy.yaml", &policy("p", &mut random(23)));
    live.quiet(&agent);
    assert_eq!(lines(&agent, "stays in force"), 1, "{}", agent.log());
}

#[test]
fn a_file_that_breaks_and_is_mended_over_and_over_is_not_reported_each_time() {
    let mut live = Live::new(&[]);
    let agent = live.started();
    for _ in 0..50 {
        fs::write(live.path("flaps.yaml"), "kind: [").unwrap();
        live.until("it is seen", &agent, |live| {
            live.metric("picket_source_problems") == 1.0
        });
        fs::write(
            live.path("flaps.yaml"),
            "kind: Namespace\napiVersion: v1\nmetadata: {name: other}\n",
        )
        .unwrap();
        live.until("it is mended", &agent, |live| {
            live.metric("picket_source_problems") == 0.0
        });
    }
    assert_is_written_less_often(&agent);
}

#[test]
fn a_folder_that_comes_and_goes_is_not_reported_each_time_and_what_it_said_stays_in_force() {
    let mut live = Live::new(&[]);
    let agent = live.started();
    let (held, folder) = (live.held(), live.manifests.path().to_owned());
    let aside = folder.with_extension("aside");
    live.under_flood(|live| {
        for _ in 0..30 {
            fs::rename(&folder, &aside).unwrap();
            live.until("it is missed", &agent, |live| {
                live.metric("picket_source_problems") == 1.0
            });
            assert!(live.held() == held);
            fs::rename(&aside, &folder).unwrap();
            live.until("it is there again", &agent, |live| {
                live.metric("picket_source_problems") == 0.0
            });
        }
    });
    assert_is_written_less_often(&agent);
}

#[test]
fn who_flushes_in_a_loop_does_not_fill_the_log() {
    let mut live = Live::new(&["--own-tables", "never"]);
    let agent = live.started();
    for flush in 1..=14 {
        live.world.node.nft("flush ruleset").unwrap();
        live.until("it is repaired", &agent, |live| {
            live.metric("picket_drift_repairs_total") >= f64::from(flush)
        });
    }
    // The first, some of those that were repaired at once, and the alarm.
    let count = lines(&agent, "changed");
    assert!((2..10).contains(&count), "{}", agent.log());
    assert_eq!(
        lines(&agent, "are changed over and over"),
        1,
        "{}",
        agent.log()
    );
}

#[test]
fn each_line_of_a_log_in_json_is_an_object_with_the_keys() {
    let mut live = Live::new(&[
        "--own-tables",
        "never",
        "--log-format",
        "json",
        "--log-level",
        "debug",
    ]);
    let mut agent = live.started();
    live.replace("pod.yaml", &manifests::pod("b", "one"));
    live.replace("policy.yaml", &policy("p", &mut random(24)));
    live.quiet(&agent);
    fs::write(live.path("broken.yaml"), "kind: [").unwrap();
    live.until("it is reported", &agent, |_| {
        lines(&agent, "broken.yaml") > 0
    });
    live.world.node.nft("flush ruleset").unwrap();
    live.until("it is repaired", &agent, |_| lines(&agent, "repaired") > 0);
    let mut second = live.start();
    assert_eq!(second.wait(), Some(2));
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    let text = agent.log() + &second.log();
    let (mut levels, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["timestamp", "level", "target", "message"] {
            assert!(line[key].is_string(), "{key}: {line}");
        }
        levels.insert(line["level"].as_str().unwrap().to_owned());
        keys.extend(line.as_object().unwrap().keys().cloned());
    }
    for level in ["ERROR", "WARN", "INFO", "DEBUG"] {
        assert!(levels.contains(level), "{levels:?}");
    }
    for key in ["ns", "pod", "policy", "node"] {
        assert!(keys.contains(key), "{keys:?}");
    }
}

/// A pod of another node, in a namespace of its own.
fn far_pod(index: usize, group: usize) -> String {
    let (high, low) = (index / 250, index % 250 + 1);
    format!(
        "apiVersion: v1\nkind: Pod\n\
         metadata: {{name: p{index}, namespace: far, labels: {{group: g{group}}}}}\n\
         spec: {{nodeName: n2, containers: [{{name: c}}]}}\n\
         status: {{phase: Running, podIP: 10.9.{high}.{low}, podIPs: [{{ip: 10.9.{high}.{low}}}]}}\n"
    )
}

/// Makes each burst of those work for the kernel.
const SELECTS_FAR: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: from-far, namespace: x}
spec:
  podSelector: {matchLabels: {app: c}}
  ingress:
  - from: [{namespaceSelector: {}, podSelector: {matchLabels: {group: g1}}}]
";

#[test]
fn a_change_in_a_big_folder_comes_through_while_others_come_in_bursts() {
    const FILES: usize = 2000;
    const BURST: usize = 100;
    let mut live = Live::new(&[]);
    live.replace("policy.yaml", SELECTS_FAR);
    live.replace("pod-c.yaml", &manifests::pod("c", "one"));
    for index in 0..FILES {
        live.replace(&format!("far-{index}.yaml"), &far_pod(index, 0));
    }
    let agent = live.started();
    let before = live.metric(PARTIAL);
    let mut written = 0;
    let mut burst = |live: &mut Live| {
        for index in written..written + BURST {
            let (index, round) = (index % FILES, index / FILES);
            let file = format!("far-{index}.yaml");
            live.replace(&file, &far_pod(index, 1 - round % 2));
        }
        written += BURST;
    };
    for last in 12..22 {
        burst(&mut live);
        let address = format!("10.0.0.{last}");
        let pod = manifests::pod("b", "one").replace("10.0.0.2", &address);
        live.replace("pod-b.yaml", &pod);
        live.until("the pod's address is in force", &agent, |live| {
            burst(live);
            let set = live.world.node.nft("list set inet picket local4").unwrap();
            set.contains(&address)
        });
    }
    live.quiet(&agent);
    let syncs = live.metric(PARTIAL) - before;
    assert!(syncs * 5.0 < written as f64, "{syncs} for {written}");
}
