//! At the end of networks of real runtimes, with a stand-in for the agent.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::fs;
use std::io::{BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use cni_chain::attachment::{self, Attachment, Records};
use cni_chain::protocol::{self, Answer, Request};
use cni_chain::quarantine::ACTIVE;
use kernel::Links;
use runtimes::{Container, Kind, Network, Plugin, Pod, Runtimes};
use serde_json::{Value, json};

/// How long what comes about by itself may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

const RUN_DIR: &str = "/run/picket";

/// The node's addresses in the network.
const GATEWAYS: [&str; 2] = ["10.20.0.1", "fd00:20::1"];

/// What is counted has passed the quarantine.
const WITNESS: &str = "
table inet witness {
  counter v4 {}
  counter v6 {}
  chain c {
    type filter hook prerouting priority -200
    icmp type echo-request counter name v4
    icmpv6 type echo-request counter name v6
  }
}
table bridge witness {
  counter v4 {}
  counter v6 {}
  chain c {
    type filter hook prerouting priority -200
    ether type ip icmp type echo-request counter name v4
    ether type ip6 icmpv6 type echo-request counter name v6
  }
}";

/// What an agent enforces in these tests: nobody reaches the node over IPv4.
const POLICY: &str = "
table inet enforced {
  chain c {
    type filter hook prerouting priority -300
    iifgroup 770702 ip daddr 10.20.0.1 drop
    iifname pods ip daddr 10.20.0.1 drop
  }
}";

struct Node {
    runtimes: Runtimes,
    network: Network,
}

impl Node {
    #[track_caller]
    fn start(kind: Kind, keys: &Value) -> Node {
        let network = Network {
            name: "pods".to_owned(),
            kind,
            subnets: ["10.20.0.0/24", "fd00:20::/64"]
                .map(|subnet| subnet.parse().unwrap())
                .into(),
        };
        let plugin = Plugin {
            program: PathBuf::from(env!("CARGO_BIN_EXE_picket-cni")),
            configuration: keys.as_object().unwrap().clone(),
        };
        let runtimes = Runtimes::start(std::slice::from_ref(&network), &plugin);
        let runtimes = runtimes.unwrap_or_else(|error| panic!("{error}"));
        runtimes.node().network().nft(WITNESS).unwrap();
        Node { runtimes, network }
    }

    fn run_pod(&self) -> Result<Pod<'_>, runtimes::Error> {
        let containerd = self.runtimes.containerd();
        containerd.run_pod("shop", "web-0", "6d1c", &self.network)
    }

    fn run_dir(&self) -> PathBuf {
        self.runtimes.node().path(RUN_DIR)
    }

    fn records(&self) -> Vec<Attachment> {
        let (records, errors) = Records::new(&self.run_dir()).list().unwrap();
        assert!(errors.is_empty(), "{errors:?}");
        records
    }

    /// Requests for an echo that came out of pods, over IPv4 and IPv6.
    fn passed(&self) -> [u64; 2] {
        let said = self.runtimes.node().network().nft("list counters").unwrap();
        let count = |name: &str| {
            let counters = said
                .split("counter ")
                .filter(|counter| counter.starts_with(name));
            let packets = counters.map(|counter| {
                let packets = counter.split("packets ").nth(1).unwrap();
                packets.split(' ').next().unwrap().parse::<u64>().unwrap()
            });
            packets.sum()
        };
        [count("v4"), count("v6")]
    }

    /// What host-local has given to somebody.
    fn leases(&self) -> usize {
        let folder = self.runtimes.node().path("/var/lib/cni/networks/pods");
        let names = fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name());
        let is_address = |name: &str| name.parse::<std::net::IpAddr>().is_ok();
        names
            .filter(|name| is_address(name.to_str().unwrap()))
            .count()
    }

    /// Puts into force what is there, and what comes when the gate lets it. Ends with the test's process.
    fn agent(&self, gate: Option<Receiver<()>>) -> Receiver<Request> {
        fs::create_dir_all(self.run_dir()).unwrap();
        let listener = UnixListener::bind(protocol::socket(&self.run_dir())).unwrap();
        let network = self.runtimes.node().network();
        network.nft(POLICY).unwrap();
        let mut links = network.run(Links::open).unwrap().unwrap();
        self.records()
            .iter()
            .for_each(|record| activate(&mut links, record));
        let records = Records::new(&self.run_dir());
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(
                    &stream.unwrap(),
                    &records,
                    &mut links,
                    gate.as_ref(),
                    &sender,
                );
            }
        });
        requests
    }
}

fn serve(
    mut stream: &UnixStream,
    records: &Records,
    links: &mut Links,
    gate: Option<&Receiver<()>>,
    requests: &Sender<Request>,
) {
    let request: Request = protocol::read(BufReader::new(stream)).unwrap();
    let _ = requests.send(request.clone());
    let answer = match request {
        Request::Attach { id, .. } => {
            if let Some(gate) = gate {
                gate.recv().unwrap();
            }
            activate(links, &records.read(&id).unwrap().unwrap());
            Answer::Ready
        }
        Request::Detach { .. } => Answer::Gone,
        _ => Answer::Ready,
    };
    stream.write_all(&protocol::line(&answer).unwrap()).unwrap();
}

fn activate(links: &mut Links, record: &Attachment) {
    let link = links
        .by_index(record.path.index().unwrap())
        .unwrap()
        .unwrap();
    links.set_group(&link, ACTIVE).unwrap();
}

/// A container whose first instructions are pings of the node, and how many came back over each family.
fn first_packets<'a>(pod: &Pod<'a>) -> (Container<'a>, [&'static str; 2]) {
    let script = r#"for node in $0 $1; do
        case "$(ping -c 2 -W 3 $node)" in
            *" 0% packet loss"*) echo all $node;;
            *" 100% packet loss"*) echo none $node;;
            *) echo some $node;;
        esac &
    done; wait; echo end; exec sleep 1000"#;
    let [v4, v6] = GATEWAYS;
    let container = pod
        .create_container("c", &["sh", "-c", script, v4, v6])
        .unwrap();
    eventually("both have an outcome", || {
        pod.log("c").unwrap().contains("F end")
    });
    let log = pod.log("c").unwrap();
    let passed = GATEWAYS.map(|node| {
        let said = |word: &&str| log.contains(&format!("{word} {node}\n"));
        ["all", "none", "some"].into_iter().find(said).unwrap()
    });
    (container, passed)
}

#[track_caller]
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn a_pod_in_quarantine_sends_nothing(kind: Kind) {
    let keys = json!({"onAgentUnavailable": "quarantine", "timeoutSeconds": 1});
    let node = Node::start(kind, &keys);
    let pod = node.run_pod().unwrap();
    let (container, passed) = first_packets(&pod);
    assert_eq!((passed, node.passed()), (["none"; 2], [0; 2]));
    node.agent(None);
    let ping = |to| {
        container
            .exec(&["ping", "-c", "1", "-W", "2", to])
            .unwrap()
            .code
    };
    // The policy, and not the quarantine.
    assert_ne!(ping(GATEWAYS[0]), 0);
    assert_eq!(ping(GATEWAYS[1]), 0);
    assert_ne!(node.passed()[1], 0, "it is counted");
}

#[test]
fn a_routed_pod_in_quarantine_sends_nothing_until_there_is_an_agent() {
    a_pod_in_quarantine_sends_nothing(Kind::Ptp);
}

#[test]
fn a_pod_on_a_bridge_in_quarantine_sends_nothing_until_there_is_an_agent() {
    a_pod_in_quarantine_sends_nothing(Kind::Bridge);
}

fn the_first_packet_meets_the_policy(kind: Kind) {
    let node = Node::start(kind, &json!({}));
    let (open, gate) = channel();
    let requests = node.agent(Some(gate));
    let pod = std::thread::scope(|scope| {
        let pod = scope.spawn(|| node.run_pod().unwrap());
        let request = requests.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(request, Request::Attach { .. }), "{request:?}");
        assert!(!pod.is_finished());
        open.send(()).unwrap();
        pod.join().unwrap()
    });
    let [record] = &node.records()[..] else {
        panic!("{:?}", node.records());
    };
    assert_eq!(record.id.container_id(), pod.id());
    assert_eq!(record.pod.uid.as_deref(), Some("6d1c"));
    let mut addresses = record.addresses.clone();
    addresses.retain(|address| !attachment::is_link_local(*address));
    let expected = pod.status().unwrap().addresses;
    assert_eq!(addresses, expected.into_iter().collect());
    assert_eq!(record.addresses.len(), addresses.len() + 1);
    let is_bridged = matches!(record.path, attachment::Path::Bridged { .. });
    assert_eq!(is_bridged, kind == Kind::Bridge);

    let (_, passed) = first_packets(&pod);
    assert_eq!(passed, ["none", "all"]);

    pod.stop().unwrap();
    assert_eq!(node.records(), []);
    pod.remove().unwrap();
    let after: Vec<_> = requests.try_iter().collect();
    assert!(
        after
            .iter()
            .all(|request| matches!(request, Request::Detach { .. })),
        "{after:?}"
    );
    assert_eq!((after.is_empty(), node.leases()), (false, 0));
}

#[test]
fn the_first_packet_of_a_routed_pod_meets_the_policy() {
    the_first_packet_meets_the_policy(Kind::Ptp);
}

#[test]
fn the_first_packet_of_a_pod_on_a_bridge_meets_the_policy() {
    the_first_packet_meets_the_policy(Kind::Bridge);
}

#[test]
fn without_an_agent_a_pod_does_not_start_and_leaves_nothing() {
    let node = Node::start(Kind::Bridge, &json!({"timeoutSeconds": 1}));
    for _ in 0..2 {
        let error = node.run_pod().unwrap_err().to_string();
        assert!(
            error.contains("plugin type=\"picket-cni\" failed (add)"),
            "{error}"
        );
        assert!(error.contains("cni.sock"), "{error}");
        assert_eq!((node.records().len(), node.leases()), (0, 0));
    }
    node.agent(None);
    node.run_pod().unwrap();
}

#[test]
fn a_container_of_podman_is_no_pod_and_needs_no_agent() {
    let node = Node::start(Kind::Bridge, &json!({"timeoutSeconds": 1}));
    let podman = node.runtimes.podman();
    podman
        .run("web", &node.network, &["sleep", "1000"])
        .unwrap();
    for address in GATEWAYS {
        let output = podman
            .exec("web", &["ping", "-c", "1", "-W", "5", address])
            .unwrap();
        assert_eq!(output.code, 0, "{output:?}");
    }
    assert!(!Path::new(&node.run_dir()).join("attachments").exists());
    let output = podman.rm("web").unwrap();
    assert_eq!((output.code, node.leases()), (0, 0), "{output:?}");
}
