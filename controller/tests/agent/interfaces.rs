//! Interfaces that the plugin records: they pass nothing before what their pods may do is in force, and pods that have one
//! keep their isolation when their objects go.

use std::io::{BufReader, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path as FilePath;
use std::time::{Duration, Instant};

use cni_chain::attachment::{Attachment, AttachmentId, Path, PodIdentity, Records};
use cni_chain::protocol::{self, Answer, Request};
use cni_chain::quarantine::{self, ACTIVE, QUARANTINE};
use kernel::{Link, Links, Nftables};
use policy_compiler::lower::knows;
use testbed::Place;

use super::world::{CLOSED, Family, TIGHT, address};
use super::{Pods, until};
use crate::live::{Agent, PATIENCE};

#[path = "dumps.rs"]
mod dumps;

/// After so long nobody answers any more: once and again TCP has asked by then.
pub(super) const UNANSWERED: Duration = Duration::from_millis(1500);

/// A request that waits for longer than anything takes.
pub(super) const LONG: u64 = 60_000;

pub(super) struct Node {
    pub(super) pods: Pods,
    records: Records,
    links: Links,
    nftables: Nftables,
}

impl Node {
    pub(super) fn new() -> Self {
        let pods = Pods::new();
        let node = pods.world.node();
        let links = node.run(Links::open).unwrap().unwrap();
        let nftables = node.run(Nftables::open).unwrap().unwrap();
        let records = Records::new(pods.run_dir.path());
        Self {
            pods,
            records,
            links,
            nftables,
        }
    }

    /// The node's end of a pod's interface.
    fn link(&mut self, pod: &str) -> Option<Link> {
        let name = &self.pods.world.testbed.attachment(pod).unwrap().interface;
        self.links.by_name(name).unwrap()
    }

    fn group(&mut self, pod: &str) -> u32 {
        self.link(pod).unwrap().group
    }

    /// What the plugin does before it asks.
    fn record(&mut self, pod: &str, uid: &str, addresses: &[IpAddr]) -> AttachmentId {
        let link = self.link(pod).unwrap();
        let id = AttachmentId::new(&format!("container-{pod}-{uid}"), "eth0").unwrap();
        let attachment = Attachment {
            id: id.clone(),
            network: "pods".to_owned(),
            netns: format!("/var/run/netns/{pod}"),
            netns_inode: 1,
            pod: PodIdentity {
                namespace: "t".to_owned(),
                name: pod.to_owned(),
                uid: Some(uid.to_owned()),
            },
            addresses: addresses.iter().copied().collect(),
            routes: false,
            path: Path::Routed {
                host: link.name.clone(),
                index: link.index,
            },
        };
        self.records.write(&attachment).unwrap();
        if link.group == 0 {
            self.links.set_group(&link, QUARANTINE).unwrap();
        }
        id
    }

    /// Whether a pod answers another on a port that is closed where policy is tight: nobody listens there, which it says.
    pub(super) fn reaches(&self, family: Family, from: &str, to: &str) -> bool {
        let from = Place::Pod(from.to_owned());
        let from = self.pods.world.testbed.namespace(&from).unwrap();
        let to = SocketAddr::new(address(to, family), CLOSED);
        let connect = || TcpStream::connect_timeout(&to, UNANSWERED);
        match from.run(connect).unwrap() {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => true,
            Err(error) if error.kind() == ErrorKind::TimedOut => false,
            Err(error) => panic!("{to}: {error}"),
        }
    }

    fn knows(&mut self, address: IpAddr) -> bool {
        knows(&self.nftables.read().unwrap().ruleset, address)
    }

    fn ask(&self, request: &Request) -> Answer {
        ask(self.pods.run_dir.path(), request)
    }

    pub(super) fn attach(&self, id: &AttachmentId, wait_milliseconds: u64) -> Answer {
        self.ask(&Request::Attach {
            id: id.clone(),
            wait_milliseconds,
        })
    }

    /// Requests that were answered so, or the seconds until they were.
    fn answered(&self, part: &str, command: &str, result: &str) -> f64 {
        let labels = format!("{{command=\"{command}\",result=\"{result}\"}}");
        let name = format!("picket_cni_request_duration_seconds_{part}{labels}");
        self.pods.metric(&name)
    }

    fn status(&self) -> String {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_picket"));
        command
            .arg("status")
            .arg("--run-dir")
            .arg(self.pods.run_dir.path());
        let output = self.pods.world.node().run(|| command.output());
        String::from_utf8(output.unwrap().unwrap().stdout).unwrap()
    }

    /// The pod's object, as its kubelet has made it so far.
    pub(super) fn list(&self, pod: &str, uid: &str, addresses: &[IpAddr]) {
        let ips: Vec<_> = addresses
            .iter()
            .map(|ip| format!("{{ip: \"{ip}\"}}"))
            .collect();
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: t, name: {pod}, uid: {uid}, labels: {{app: {pod}}}}}\n\
             spec: {{nodeName: n1, containers: [{{name: c, image: registry.example/c:1}}]}}\n\
             status: {{phase: Running, podIPs: [{}]}}\n",
            ips.join(", ")
        );
        self.pods.replace(&format!("{pod}.yaml"), &text);
    }
}

fn ask(run_dir: &FilePath, request: &Request) -> Answer {
    let mut stream = connect(&protocol::socket(run_dir));
    stream.write_all(&protocol::line(request).unwrap()).unwrap();
    protocol::read(BufReader::new(stream)).unwrap()
}

/// Another thread than the one that has everything in force listens, and may be later.
fn connect(socket: &FilePath) -> UnixStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn both(pod: &str) -> [IpAddr; 2] {
    Family::ALL.map(|family| address(pod, family))
}

/// The pod `b` with its interface, let pass.
fn attached() -> (Node, Agent, AttachmentId) {
    let mut node = Node::new();
    let agent = node.pods.start(&[]);
    node.list("b", "one", &[]);
    let id = node.record("b", "one", &both("b"));
    assert_eq!(node.attach(&id, LONG), Answer::Ready, "{}", agent.log());
    assert_eq!(node.group("b"), ACTIVE);
    (node, agent, id)
}

#[test]
fn an_interface_passes_when_its_pod_is_known_and_its_addresses_are_closed_to_what_is_forbidden() {
    let mut node = Node::new();
    node.pods.remove("b.yaml");
    node.pods.replace("policy.yaml", TIGHT);
    let agent = node.pods.start(&[]);
    let id = node.record("b", "one", &both("b"));
    let Answer::NotYet { details, .. } = node.attach(&id, 300) else {
        panic!("nobody knows the pod");
    };
    assert!(details.contains("no Pod t/b with the UID one"), "{details}");
    // One of its name that is another does not help.
    node.list("b", "zero", &both("b"));
    until("the other is in force", &agent, || node.knows(both("b")[0]));
    let Answer::NotYet { details, .. } = node.attach(&id, 300) else {
        panic!("another pod is known");
    };
    assert!(details.contains("has the UID zero"), "{details}");
    assert_eq!(node.group("b"), QUARANTINE);
    // Its status says nothing of addresses yet.
    node.list("b", "one", &[]);
    assert_eq!(node.attach(&id, LONG), Answer::Ready, "{}", agent.log());
    assert_eq!(node.group("b"), ACTIVE);
    assert_eq!(node.ask(&Request::Check { id }), Answer::Ready);
    for family in Family::ALL {
        assert!(!node.reaches(family, "a", "b"));
        node.pods.stream(family, ("a", "b")).assert_lost_nothing();
    }
    assert_eq!(node.pods.metric("picket_unattached_endpoints"), 1.0);
    assert_eq!(node.answered("count", "add", "not-yet"), 2.0);
    assert!(node.answered("sum", "add", "not-yet") > 0.6, "two waits");
    for command in ["add", "check"] {
        assert_eq!(node.answered("count", command, "ready"), 1.0);
    }
}

#[test]
fn a_pod_whose_object_goes_is_isolated_until_its_interface_goes() {
    let (mut node, agent, _) = attached();
    assert!(node.reaches(Family::V4, "a", "b"));
    node.pods.replace("policy.yaml", TIGHT);
    let synced = "picket_pod_programming_duration_seconds_count";
    let before = node.pods.metric(synced);
    node.pods.remove("b.yaml");
    until("it is known that its object is gone", &agent, || {
        node.pods.metric(synced) > before
    });
    for family in Family::ALL {
        assert!(node.knows(address("b", family)));
        assert!(!node.reaches(family, "a", "b"));
    }
    let link = node.link("b").unwrap().name;
    node.pods
        .world
        .node()
        .ip_batch(&format!("link del {link}\n"))
        .unwrap();
    until("it is forgotten", &agent, || {
        !node.knows(both("b")[0]) && !node.knows(both("b")[1])
    });
    assert!(node.records.list().unwrap().0.is_empty());
}

#[test]
fn an_interface_that_comes_into_quarantine_after_its_record_was_seen_is_let_out_when_it_is_asked_about()
 {
    let (mut node, agent, id) = attached();
    for _ in 0..20 {
        assert_eq!(node.ask(&Request::Check { id: id.clone() }), Answer::Ready);
        let link = node.link("b").unwrap();
        node.links.set_group(&link, QUARANTINE).unwrap();
        assert_eq!(node.attach(&id, LONG), Answer::Ready, "{}", agent.log());
        assert_eq!(node.group("b"), ACTIVE);
    }
}

#[test]
fn an_interface_whose_pod_was_made_anew_under_its_name_passes_nothing_any_more() {
    let (mut node, agent, _) = attached();
    node.list("b", "two", &[]);
    until("it is in quarantine", &agent, || {
        node.group("b") == QUARANTINE
    });
    // The rules follow, when nothing comes from it any more.
    until("its address is closed", &agent, || {
        let ruleset = node.nftables.read().unwrap().ruleset;
        let mut chains = ruleset.tables.iter().flat_map(|table| &table.chains);
        chains.any(|chain| chain.name == "ingress6_newcomers")
    });
    // Also where the group is somebody else's, it has no more than the rules say.
    let link = node.link("b").unwrap();
    node.links.set_group(&link, 0).unwrap();
    for family in Family::ALL {
        assert!(!node.reaches(family, "a", "b"));
    }
    node.links.set_group(&link, QUARANTINE).unwrap();
    node.list("b", "one", &[]);
    until("it passes again", &agent, || node.group("b") == ACTIVE);
}

#[test]
fn an_address_of_the_node_or_of_another_interface_is_refused() {
    let (mut node, _agent, _) = attached();
    node.list("a", "one", &[]);
    for (taken, why) in [
        (both("b")[0], "another interface"),
        (both("n1")[0], "address of the node"),
    ] {
        let id = node.record("a", "one", &[taken]);
        let Answer::Refused { code, message, .. } = node.attach(&id, LONG) else {
            panic!("{taken} is taken");
        };
        assert_eq!(code, 7);
        assert!(message.contains(why), "{message}");
        assert_eq!(node.group("a"), QUARANTINE);
        let status = node.status();
        assert!(
            status.contains("t/a: passes nothing") && status.contains(why),
            "{status}"
        );
        node.records.remove(&id).unwrap();
    }
    assert_eq!(node.group("b"), ACTIVE);
    let id = node.record("a", "one", &both("a"));
    assert_eq!(node.attach(&id, LONG), Answer::Ready);
}

#[test]
fn an_interface_without_an_address_passes_nothing_as_no_policy_could_be_enforced_on_it() {
    let (mut node, _agent, _) = attached();
    node.list("a", "one", &both("a"));
    let id = node.record("a", "one", &[]);
    let Answer::NotYet { details, .. } = node.attach(&id, 300) else {
        panic!("it has no address");
    };
    assert!(details.contains("it has no address"), "{details}");
    assert_eq!(node.group("a"), QUARANTINE);
}

#[test]
fn quarantine_is_made_again_when_others_flush_the_ruleset() {
    let (node, agent, _) = attached();
    let namespace = node.pods.world.node();
    let mut nftables = namespace.run(Nftables::open).unwrap().unwrap();
    for _ in 0..3 {
        until("it is there", &agent, || {
            quarantine::is_there(&mut nftables).unwrap()
        });
        namespace.nft("flush ruleset").unwrap();
    }
    until("it is there", &agent, || {
        quarantine::is_there(&mut nftables).unwrap()
    });
}

#[test]
fn an_agent_that_is_killed_and_started_leaves_interfaces_as_they_are() {
    let (mut node, agent, id) = attached();
    agent.kill();
    assert_eq!(node.group("b"), ACTIVE);
    let waits = node.record("a", "new", &both("a"));
    node.list("a", "new", &[]);
    let agent = node.pods.start(&[]);
    assert_eq!(
        node.ask(&Request::Attach {
            id,
            wait_milliseconds: LONG
        }),
        Answer::Ready
    );
    assert_eq!(node.attach(&waits, LONG), Answer::Ready, "{}", agent.log());
    assert!(!agent.log().contains("into quarantine"), "{}", agent.log());
    assert_eq!(node.group("a"), ACTIVE);
}

#[test]
fn what_is_no_request_harms_nobody() {
    let (node, _agent, id) = attached();
    let socket = protocol::socket(node.pods.run_dir.path());
    let long = vec![b'x'; protocol::LINE_LIMIT + 100];
    // Those that never say anything, more than are answered at once.
    let silent: Vec<_> = (0..100).map(|_| connect(&socket)).collect();
    for garbage in [&b"{}\n"[..], b"\n", b"\xff\xfe\n", b"{\"version\":1,\"request\":\"attach\",\"containerId\":\"../x\",\"interface\":\"e\",\"waitMilliseconds\":1}\n", &long] {
        let mut stream = connect(&socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be closed before all is written.
        let _ = stream.write_all(garbage);
        if let Ok(answer) = protocol::read::<Answer>(BufReader::new(stream)) {
            assert!(matches!(answer, Answer::Refused { code: 6, .. }), "{answer:?}");
        }
    }
    assert_eq!(node.attach(&id, LONG), Answer::Ready);
    assert_eq!(node.ask(&Request::Status), Answer::Ready);
    drop(silent);
    let nobody = AttachmentId::new("nobody", "eth0").unwrap();
    assert!(matches!(
        node.attach(&nobody, LONG),
        Answer::Refused { code: 3, .. }
    ));
    assert_eq!(node.ask(&Request::Detach { id: nobody }), Answer::Gone);
    assert_eq!(node.answered("count", "add", "refused"), 1.0);
    assert_eq!(node.answered("count", "del", "ready"), 1.0);
}

#[test]
fn a_pod_sends_from_its_own_addresses_alone() {
    let (mut node, _agent, _) = attached();
    let link = node.link("b").unwrap().name;
    let ruleset = node.nftables.read().unwrap().ruleset;
    let inet = ruleset
        .tables
        .iter()
        .find(|table| table.sets.contains_key("pairs4"))
        .unwrap();
    let pairs = format!("{:?}", inet.sets["pairs4"].elements);
    assert!(
        pairs.contains(&link) && pairs.contains("10.1.0.12"),
        "{pairs}"
    );
    assert!(!pairs.contains("10.1.0.11"), "{pairs}");
}
