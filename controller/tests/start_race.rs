//! Pods of a real runtime whose first instruction is to send, while the agent is well, slow, killed and started, or dead:
//! no packet reaches who must not be reached, and who may be is reached at once.
//!
//! Addresses are few, so that each is another pod's seconds later: every second pod may reach everybody.
//!
//! `PICKET_STARTS` says how many pods each test starts. With `--nocapture` those with an agent that is well print what the
//! plugin took of each start.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cni_chain::attachment::Records;
use cni_chain::protocol;
use runtimes::{Kind, Network, Plugin, Pod, Runtimes};
use serde_json::{Value, json};

/// How long what comes about by itself may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many pods each test starts, if nobody says otherwise.
const STARTS: usize = 6;

const RUN_DIR: &str = "/run/picket";
const MANIFESTS: &str = "/run/manifests";
const PLUGIN_LOG: &str = "/run/picket-cni.log";

/// Whom clients must not reach, and whom they may.
const PEERS: [&str; 2] = ["denied", "allowed"];

const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.168.7.1}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: clients}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress:
  - to: [{podSelector: {matchLabels: {app: allowed}}}]
";

fn starts() -> usize {
    std::env::var("PICKET_STARTS").map_or(STARTS, |starts| starts.parse().expect("a number"))
}

struct Node {
    runtimes: Runtimes,
    network: Network,
    agent: Mutex<Option<Child>>,
    log: PathBuf,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Node {
    #[track_caller]
    fn start(kind: Kind, keys: &Value) -> Self {
        let network = Network {
            name: "pods".to_owned(),
            kind,
            subnets: ["10.20.0.0/29", "fd00:20::/125"]
                .map(|subnet| subnet.parse().unwrap())
                .into(),
        };
        let program = Path::new(env!("CARGO_BIN_EXE_picket")).with_file_name("picket-cni");
        assert!(
            program.exists(),
            "{} is missing: cargo build -p cni-chain",
            program.display()
        );
        let plugin = Plugin {
            program,
            configuration: keys.as_object().unwrap().clone(),
        };
        let runtimes = Runtimes::start(std::slice::from_ref(&network), &plugin);
        let runtimes = runtimes.unwrap_or_else(|error| panic!("{error}"));
        let log = runtimes.node().path("/run/agent.log");
        let node = Self {
            runtimes,
            network,
            agent: Mutex::new(None),
            log,
        };
        fs::create_dir_all(node.runtimes.node().path(MANIFESTS)).unwrap();
        node.put("base", OBJECTS);
        node
    }

    fn put(&self, name: &str, text: &str) {
        let folder = self.runtimes.node().path(MANIFESTS);
        fs::write(folder.join(".new"), text).unwrap();
        fs::rename(folder.join(".new"), folder.join(format!("{name}.yaml"))).unwrap();
    }

    fn take(&self, name: &str) {
        let folder = self.runtimes.node().path(MANIFESTS);
        fs::remove_file(folder.join(format!("{name}.yaml"))).unwrap();
    }

    /// A pod's object, as it is when its kubelet asks for its sandbox: without an address.
    fn list(&self, name: &str, app: &str) {
        self.put(name, &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: {name}, uid: uid-{name}, labels: {{app: {app}}}}}\n\
             spec: {{nodeName: n1, containers: [{{name: c, image: registry.example/c:1}}]}}\nstatus: {{phase: Pending}}\n"
        ));
    }

    fn run(&self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
        command.args([
            "agent",
            "--node",
            "n1",
            "--manifests",
            MANIFESTS,
            "--run-dir",
            RUN_DIR,
        ]);
        command.stdin(Stdio::null()).stderr(
            File::options()
                .create(true)
                .append(true)
                .open(&self.log)
                .unwrap(),
        );
        *self.agent.lock().unwrap() = Some(self.runtimes.node().spawn(&mut command).unwrap());
    }

    fn kill(&self) {
        if let Some(mut agent) = self.agent.lock().unwrap().take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }

    /// How many interfaces are recorded.
    fn records(&self) -> usize {
        let records = Records::new(&self.runtimes.node().path(RUN_DIR));
        records.list().unwrap().0.len()
    }

    /// How long the plugin took for each pod but the peers.
    fn plugin_took(&self) -> Vec<Duration> {
        let log = fs::read_to_string(self.runtimes.node().path(PLUGIN_LOG)).unwrap();
        let took = log.lines().filter_map(|line| {
            let (milliseconds, _) = line.split_once("in force after ")?.1.split_once(" ms")?;
            Some(Duration::from_millis(milliseconds.parse().unwrap()))
        });
        let took: Vec<_> = took.skip(PEERS.len()).collect();
        assert_eq!(took.len(), starts(), "{log}");
        took
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn run_pod(&self, name: &str) -> Result<Pod<'_>, runtimes::Error> {
        self.runtimes
            .containerd()
            .run_pod("shop", name, &format!("uid-{name}"), &self.network)
    }

    /// Starts the agent and the pods that are asked, and counts what reaches the one that must not be.
    fn peers(&self) -> Vec<IpAddr> {
        self.run();
        let marker = protocol::ready_marker(&self.runtimes.node().path(RUN_DIR));
        eventually("the agent is ready", || marker.exists());
        let mut addresses = Vec::new();
        for peer in PEERS {
            self.list(peer, peer);
            let pod = self
                .run_pod(peer)
                .unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
            pod.create_container("c", &["sleep", "10000"]).unwrap();
            addresses.extend(pod.status().unwrap().addresses);
        }
        let [v4, v6] = [addresses[0], addresses[1]];
        let (table, hook) = match self.network.kind {
            Kind::Bridge | Kind::Ptp => ("inet", "forward priority 10".to_owned()),
            // Between macvlans packets pass no hook of the node but that of the interface below.
            Kind::Macvlan => (
                "netdev",
                format!("ingress device {} priority 10", self.network.name),
            ),
        };
        let witness = format!(
            "table {table} witness {{\n counter reached {{ }}\n chain c {{\n  type filter hook {hook}\n  \
             ip daddr {v4} counter name reached\n  ip6 daddr {v6} counter name reached\n }}\n}}"
        );
        self.runtimes.node().network().nft(&witness).unwrap();
        addresses
    }

    /// Packets that reached who must not be reached.
    fn reached(&self) -> u64 {
        let said = self.runtimes.node().network().nft("list counters").unwrap();
        // Our tables have counters too.
        let ours = said.split("counter reached {").nth(1).unwrap();
        let packets = ours.split("packets ").nth(1).unwrap();
        packets.split(' ').next().unwrap().parse().unwrap()
    }

    /// What a pod sends first, and whether it was answered: by whom it must not reach, and by whom it may, over each family.
    fn first_packets(&self, pod: &Pod<'_>, peers: &[IpAddr]) -> Vec<String> {
        let script = r#"for to in "$@"; do ping -c 1 -W 1 $to >/dev/null 2>&1 && echo "yes $to" || echo "no $to"; done; echo end; exec sleep 1000"#;
        let peers: Vec<_> = peers.iter().map(ToString::to_string).collect();
        let mut argv = vec!["sh", "-c", script, "sh"];
        argv.extend(peers.iter().map(String::as_str));
        pod.create_container("c", &argv).unwrap();
        eventually("it has asked everybody", || {
            pod.log("c").unwrap().contains("F end")
        });
        let log = pod.log("c").unwrap();
        let said = log
            .lines()
            .filter_map(|line| line.split(" F ").nth(1))
            .filter(|said| *said != "end");
        said.map(str::to_owned).collect()
    }

    /// Checks what a pod that started could send.
    fn check(&self, name: &str, pod: &Pod<'_>, peers: &[IpAddr], is_client: bool) {
        let before = self.reached();
        let said = self.first_packets(pod, peers);
        let expected = peers
            .iter()
            .enumerate()
            .map(|(at, to)| match at < 2 && is_client {
                true => format!("no {to}"),
                false => format!("yes {to}"),
            });
        assert_eq!(said, expected.collect::<Vec<_>>(), "{name}\n{}", self.log());
        let reached = self.reached() - before;
        match is_client {
            true => assert_eq!(reached, 0, "{name}"),
            false => assert!(reached > 0, "{name}"),
        }
    }

    fn end(&self, name: &str, pod: &Pod<'_>) {
        pod.stop().unwrap();
        pod.remove().unwrap();
        self.take(name);
    }
}

#[track_caller]
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts pods one after the other, and does something to the agent meanwhile. Returns how long each start took.
fn each_start(node: &Node, meanwhile: impl Fn(&Node, &str, &str)) -> Vec<Duration> {
    let peers = node.peers();
    let mut took = Vec::new();
    for number in 0..starts() {
        let (name, is_client) = (format!("pod-{number}"), number % 2 == 0);
        let app = if is_client { "client" } else { "free" };
        let start = Instant::now();
        let pod = std::thread::scope(|scope| {
            let pod = scope.spawn(|| node.run_pod(&name));
            meanwhile(node, &name, app);
            pod.join().unwrap()
        });
        took.push(start.elapsed());
        let pod = pod.unwrap_or_else(|error| panic!("{error}\n{}", node.log()));
        node.check(&name, &pod, &peers, is_client);
        node.end(&name, &pod);
    }
    assert_eq!(node.records(), PEERS.len());
    took
}

fn with_an_agent_that_is_well(kind: Kind) {
    let node = Node::start(kind, &json!({"logFile": PLUGIN_LOG}));
    // The pod's object comes before or after its sandbox is asked for, by chance.
    let starts = each_start(&node, Node::list);
    print(kind, starts, node.plugin_took());
}

/// Least, median and most.
fn spread(mut all: Vec<f64>) -> [f64; 3] {
    all.sort_by(f64::total_cmp);
    [0, all.len() / 2, all.len() - 1].map(|index| all[index])
}

/// What the plugin took of each start, and that as a part of what the start takes without it.
fn print(kind: Kind, starts: Vec<Duration>, plugin: Vec<Duration>) {
    let milliseconds = |all: &[Duration]| all.iter().map(|one| one.as_secs_f64() * 1e3).collect();
    let ratios = starts
        .iter()
        .zip(&plugin)
        .map(|(start, plugin)| plugin.as_secs_f64() / start.saturating_sub(*plugin).as_secs_f64());
    let [whole, part, ratio] = [
        milliseconds(&starts),
        milliseconds(&plugin),
        ratios.collect(),
    ]
    .map(spread);
    println!(
        "{kind:?}, {} starts, least, median and most: {whole:.0?} ms, the plugin {part:.0?} ms, of the rest {ratio:.3?}",
        starts.len()
    );
}

#[test]
fn first_packets_of_routed_pods_meet_their_policies() {
    with_an_agent_that_is_well(Kind::Ptp);
}

#[test]
fn first_packets_of_pods_on_a_bridge_meet_their_policies() {
    with_an_agent_that_is_well(Kind::Bridge);
}

#[test]
fn first_packets_of_pods_whose_packets_do_not_pass_the_node_meet_their_policies() {
    with_an_agent_that_is_well(Kind::Macvlan);
}

fn with_an_agent_that_learns_late_and_is_killed_before(kind: Kind) {
    let node = Node::start(kind, &json!({}));
    each_start(&node, |node, name, app| {
        eventually("the plugin waits", || node.records() > PEERS.len());
        node.kill();
        node.run();
        node.list(name, app);
    });
}

#[test]
fn first_packets_of_routed_pods_meet_their_policies_whose_agent_is_killed_while_they_start() {
    with_an_agent_that_learns_late_and_is_killed_before(Kind::Ptp);
}

#[test]
fn first_packets_of_pods_on_a_bridge_meet_their_policies_whose_agent_is_killed_while_they_start() {
    with_an_agent_that_learns_late_and_is_killed_before(Kind::Bridge);
}

#[test]
fn first_packets_of_pods_whose_packets_do_not_pass_the_node_meet_their_policies_whose_agent_is_killed_while_they_start()
 {
    with_an_agent_that_learns_late_and_is_killed_before(Kind::Macvlan);
}

#[test]
fn while_the_agent_is_dead_no_pod_starts_and_those_that_run_go_on() {
    let node = Node::start(Kind::Ptp, &json!({"timeoutSeconds": 1}));
    let peers = node.peers();
    node.list("before", "client");
    let before = node.run_pod("before").unwrap();
    node.kill();
    node.list("pod", "client");
    let error = node.run_pod("pod").unwrap_err().to_string();
    assert!(
        error.contains("picket-cni") && error.contains("cni.sock"),
        "{error}"
    );
    assert_eq!(node.records(), PEERS.len() + 1);
    node.check("before", &before, &peers, true);
    node.run();
    let pod = node.run_pod("pod").unwrap();
    node.check("pod", &pod, &peers, true);
}

#[test]
fn a_pod_that_starts_in_quarantine_has_its_policies_when_there_is_an_agent() {
    let keys = json!({"timeoutSeconds": 1, "onAgentUnavailable": "quarantine"});
    let node = Node::start(Kind::Bridge, &keys);
    let peers = node.peers();
    node.kill();
    node.list("pod", "client");
    let pod = node.run_pod("pod").unwrap();
    let container = pod.create_container("c", &["sleep", "1000"]).unwrap();
    let reaches = |to: &IpAddr| {
        let argv = ["ping", "-c", "1", "-W", "1", &to.to_string()];
        container.exec(&argv).unwrap().code == 0
    };
    assert_eq!((peers.iter().any(reaches), node.reached()), (false, 0));
    node.run();
    eventually("it reaches whom it may", || {
        reaches(&peers[2]) && reaches(&peers[3])
    });
    assert!(!reaches(&peers[0]) && !reaches(&peers[1]));
    assert_eq!(node.reached(), 0);
}
