//! Open connections between real pods follow what the files say, through the agent.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::live::{Agent, Folder, PATIENCE, get, metric};

#[path = "bypass.rs"]
mod bypass;
#[allow(dead_code, reason = "of another test program")]
#[path = "../agent_revoke/flow.rs"]
mod flow;
#[path = "interfaces.rs"]
mod interfaces;
#[allow(dead_code, reason = "of another test program")]
#[path = "../agent_revoke/world.rs"]
mod world;

use flow::{Flow, PROTOCOLS, Stream};
use world::{BIT, CLOSED, Family, OPEN, TIGHT, TIGHT_EGRESS, World, address, nodes, pod};

/// Pods, and what the agent of their node is told.
struct Pods {
    world: World,
    manifests: Folder,
    run_dir: Folder,
}

impl Pods {
    fn new() -> Self {
        let pods = Self {
            world: World::new(),
            manifests: Folder::new("manifests"),
            run_dir: Folder::new("run"),
        };
        pods.replace("nodes.yaml", &nodes());
        for name in ["a", "b", "r"] {
            pods.replace(&format!("{name}.yaml"), &pod(name));
        }
        pods
    }

    fn replace(&self, file: &str, text: &str) {
        let beside = self.manifests.path().join(".new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.manifests.path().join(file)).unwrap();
    }

    fn remove(&self, file: &str) {
        fs::remove_file(self.manifests.path().join(file)).unwrap();
    }

    /// Starts an agent, and waits until what the files say is in force.
    fn start(&self, arguments: &[&str]) -> Agent {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
        command.args(["agent", "--node", "n1"]).args(arguments);
        command.arg("--manifests").arg(self.manifests.path());
        command.arg("--run-dir").arg(self.run_dir.path());
        let agent = Agent::spawn(self.world.node(), command, |_| {});
        until("it is ready", &agent, || {
            get(self.world.node(), "/readyz").is_some_and(|(status, _)| status == 200)
        });
        agent
    }

    /// What the agent counts.
    fn metric(&self, name: &str) -> f64 {
        let (_, text) = get(self.world.node(), "/metrics").unwrap();
        metric(&text, name).unwrap()
    }

    /// Connections to a port that is closed where policy is tight, over each protocol.
    fn open(&self, family: Family, (from, to): (&str, &str)) -> [Flow; 2] {
        let ends = ends(family, (from, to), CLOSED);
        PROTOCOLS.map(|protocol| Flow::open(&self.world, protocol, ends.0, ends.1, ends.2))
    }

    /// A connection that is always allowed.
    fn stream(&self, family: Family, (from, to): (&str, &str)) -> Stream {
        let ends = ends(family, (from, to), OPEN);
        Stream::open(&self.world, ends.0, ends.1, ends.2)
    }

    /// Waits until so many connections to the closed port are cut.
    #[track_caller]
    fn until_cut(&self, agent: &Agent, count: usize) {
        until(&format!("{count} connections are cut"), agent, || {
            let marks = self.world.marks(CLOSED);
            marks.iter().filter(|mark| *mark & BIT != 0).count() == count
        });
    }
}

type Ends<'a> = ((&'a str, IpAddr), (&'a str, IpAddr, u16), SocketAddr);

fn ends<'a>(family: Family, (from, to): (&'a str, &'a str), port: u16) -> Ends<'a> {
    let at = address(to, family);
    (
        (from, address(from, family)),
        (to, at, port),
        SocketAddr::new(at, port),
    )
}

/// Less than the agent's period: what only the regular look at all connections finds is too late.
const SOON: Duration = Duration::from_secs(10);

#[track_caller]
fn until(what: &str, agent: &Agent, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON.min(PATIENCE);
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "it does not come to it that {what}:\n{}",
            agent.log()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Packets of connections that were cut.
const OF_REVOKED: &str = "picket_dropped_packets_total{direction=\"any\",reason=\"revoked\"}";

/// What a file forbids is cut, what it allows again goes on, and what it always allows loses nothing.
fn follows(policy: &str, pair: (&str, &str)) {
    for family in Family::ALL {
        let pods = Pods::new();
        let agent = pods.start(&[]);
        let stream = pods.stream(family, pair);
        let flows = pods.open(family, pair);
        for _ in 0..2 {
            pods.replace("policy.yaml", policy);
            pods.until_cut(&agent, flows.len());
            let before = pods.metric(OF_REVOKED);
            flows.iter().for_each(|flow| flow.assert_cut("forbidden"));
            assert!(pods.metric(OF_REVOKED) > before);
            pods.remove("policy.yaml");
            pods.until_cut(&agent, 0);
            flows
                .iter()
                .for_each(|flow| flow.assert_passes("allowed again"));
        }
        assert_eq!(pods.metric("picket_revoked_connections_total"), 4.0);
        stream.assert_lost_nothing();
    }
}

#[test]
fn a_file_that_tightens_ingress_cuts_open_connections_and_they_go_on_when_it_is_gone() {
    follows(TIGHT, ("a", "b"));
}

#[test]
fn a_file_that_tightens_egress_cuts_open_connections_and_they_go_on_when_it_is_gone() {
    follows(TIGHT_EGRESS, ("a", "r"));
}

#[test]
fn a_connection_from_another_node_is_cut_by_a_file_and_goes_on() {
    follows(TIGHT, ("r", "b"));
}

#[test]
fn in_mode_keep_what_a_file_forbids_goes_on_once_it_is_open() {
    for family in Family::ALL {
        let pods = Pods::new();
        let agent = pods.start(&["--revocation", "keep"]);
        let flows = pods.open(family, ("a", "b"));
        let synced = "picket_policy_programming_duration_seconds_count";
        let before = pods.metric(synced);
        pods.replace("policy.yaml", TIGHT);
        until("it is in force", &agent, || pods.metric(synced) > before);
        // Far longer than it takes to cut it in the other mode.
        let end = Instant::now() + Duration::from_millis(500);
        while Instant::now() < end {
            flows.iter().for_each(|flow| flow.assert_passes("kept"));
        }
        assert_eq!(pods.world.marks(CLOSED), [0, 0]);
        // The next agent has the other mode, and judges what it finds.
        agent.kill();
        let agent = pods.start(&[]);
        pods.until_cut(&agent, 2);
        flows.iter().for_each(|flow| flow.assert_cut("not kept"));
        agent.kill();
        let agent = pods.start(&["--revocation", "keep"]);
        pods.until_cut(&agent, 0);
        flows
            .iter()
            .for_each(|flow| flow.assert_passes("kept again"));
    }
}

#[test]
fn what_was_forbidden_while_no_agent_was_there_is_cut_by_the_next_one() {
    for family in Family::ALL {
        let pods = Pods::new();
        let agent = pods.start(&[]);
        let stream = pods.stream(family, ("a", "b"));
        let flows = pods.open(family, ("a", "b"));
        agent.kill();
        pods.replace("policy.yaml", TIGHT);
        flows
            .iter()
            .for_each(|flow| flow.assert_passes("nobody is there to cut it"));
        let agent = pods.start(&[]);
        pods.until_cut(&agent, flows.len());
        flows.iter().for_each(|flow| flow.assert_cut("judged"));
        // What was cut stays so without an agent, and goes on with one if it is allowed.
        agent.kill();
        pods.remove("policy.yaml");
        flows.iter().for_each(|flow| flow.assert_cut("still"));
        let agent = pods.start(&[]);
        pods.until_cut(&agent, 0);
        flows
            .iter()
            .for_each(|flow| flow.assert_passes("allowed by now"));
        stream.assert_lost_nothing();
    }
}

#[test]
fn what_opened_while_our_tables_were_gone_is_cut_when_they_are_repaired() {
    for family in Family::ALL {
        let pods = Pods::new();
        pods.replace("policy.yaml", TIGHT);
        let agent = pods.start(&["--own-tables", "never"]);
        let stream = pods.stream(family, ("a", "b"));
        // So that the gap is as long as the connections need.
        agent.signal(Signal::SIGSTOP);
        pods.world.node().nft("delete table inet picket").unwrap();
        let flows = pods.open(family, ("a", "b"));
        agent.signal(Signal::SIGCONT);
        pods.until_cut(&agent, flows.len());
        flows.iter().for_each(|flow| flow.assert_cut("repaired"));
        until("the repair is counted", &agent, || {
            pods.metric("picket_drift_repairs_total") == 1.0
        });
        stream.assert_lost_nothing();
    }
}

/// Another pod gets the address of `b`, and its policies judge what was open.
fn changes_owner(change: impl Fn(&Pods)) {
    for family in Family::ALL {
        let pods = Pods::new();
        // It isolates the new one only.
        pods.replace("policy.yaml", &TIGHT.replace("app: b", "app: new"));
        let agent = pods.start(&[]);
        let stream = pods.stream(family, ("a", "b"));
        let flows = pods.open(family, ("a", "b"));
        change(&pods);
        pods.until_cut(&agent, flows.len());
        flows
            .iter()
            .for_each(|flow| flow.assert_cut("of the old owner"));
        stream.assert_lost_nothing();
    }
}

#[test]
fn an_address_whose_old_pod_goes_first_is_judged_by_its_new_pods_policies() {
    changes_owner(|pods| {
        pods.remove("b.yaml");
        pods.replace("new.yaml", &pod("new"));
    });
}

#[test]
fn an_address_whose_new_pod_comes_first_is_judged_by_its_new_pods_policies() {
    changes_owner(|pods| {
        pods.replace("new.yaml", &pod("new"));
        pods.remove("b.yaml");
    });
}
