//! Interfaces whose packets do not pass their node: the pod's policies are in force in its own network namespace.
//!
//! `a` and `b` have a macvlan each on the same link, besides the interfaces that their node routes.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use cni_chain::attachment::{Attachment, AttachmentId, Path, PodIdentity, Records};
use cni_chain::protocol::Answer;
use cni_chain::quarantine::{self, ACTIVE, QUARANTINE};
use kernel::{Links, Nftables};
use testbed::{Namespace, Place};

use super::interfaces::{LONG, Node, UNANSWERED};
use super::until;
use super::world::{CLOSED, TIGHT, TIGHT_EGRESS};
use crate::live::{Agent, PATIENCE};

const INTERFACE: &str = "net1";

/// No policy.
const LOOSE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: t}\n";

fn addresses(pod: &str) -> [IpAddr; 2] {
    let host = match pod {
        "a" => 11,
        _ => 12,
    };
    [
        IpAddr::from([10, 9, 0, host]),
        IpAddr::from([0xfd00, 9, 0, 0, 0, 0, 0, u16::from(host)]),
    ]
}

fn namespace<'a>(node: &'a Node, pod: &str) -> &'a Namespace {
    let place = Place::Pod(pod.to_owned());
    node.pods.world.testbed.namespace(&place).unwrap()
}

/// A node on which `a` and `b` have macvlans.
fn node() -> Node {
    let node = Node::new();
    let host = node.pods.world.node();
    host.ip_batch(
        "link add lan0 type veth peer name lan1\nlink set lan0 up\nlink set lan1 up\n\
         link add mva link lan0 type macvlan mode bridge\nlink add mvb link lan0 type macvlan mode bridge\n",
    )
    .unwrap();
    for pod in ["a", "b"] {
        let inside = namespace(&node, pod);
        host.ip(&["link", "set", &format!("mv{pod}"), "netns", &path(inside)])
            .unwrap();
        let [four, six] = addresses(pod);
        inside
            .ip_batch(&format!(
                "link set mv{pod} name {INTERFACE}\nlink set {INTERFACE} up\n\
                 addr add {four}/24 dev {INTERFACE}\naddr add {six}/64 dev {INTERFACE} nodad\n"
            ))
            .unwrap();
    }
    node
}

fn path(namespace: &Namespace) -> String {
    let fd = namespace.as_fd().as_raw_fd();
    format!("/proc/{}/fd/{fd}", std::process::id())
}

fn id(uid: &str) -> AttachmentId {
    AttachmentId::new(&format!("container-b-{uid}"), INTERFACE).unwrap()
}

/// What the plugin does for `b` before it asks.
fn record(node: &Node, uid: &str) -> AttachmentId {
    let inside = namespace(node, "b");
    let attachment = Attachment {
        id: id(uid),
        network: "lan".to_owned(),
        netns: path(inside),
        netns_inode: inside.inode().unwrap(),
        pod: PodIdentity {
            namespace: "t".to_owned(),
            name: "b".to_owned(),
            uid: Some(uid.to_owned()),
        },
        addresses: addresses("b").into(),
        routes: false,
        path: bypass(inside),
    };
    Records::new(node.pods.run_dir.path())
        .write(&attachment)
        .unwrap();
    let mut links = inside.run(Links::open).unwrap().unwrap();
    let mut nftables = inside.run(Nftables::open).unwrap().unwrap();
    quarantine::ensure(&mut nftables).unwrap();
    let link = links.by_name(INTERFACE).unwrap().unwrap();
    if link.group == 0 {
        links.set_group(&link, QUARANTINE).unwrap();
    }
    attachment.id
}

fn bypass(inside: &Namespace) -> Path {
    let mut links = inside.run(Links::open).unwrap().unwrap();
    Path::Bypass {
        link: "macvlan".to_owned(),
        index: links.by_name(INTERFACE).unwrap().unwrap().index,
    }
}

fn group(node: &Node) -> u32 {
    let mut links = namespace(node, "b").run(Links::open).unwrap().unwrap();
    links.by_name(INTERFACE).unwrap().unwrap().group
}

/// Whether one answers the other's macvlan on a port that is closed where policy is tight.
fn reaches(node: &Node, from: &str, to: &str) -> [bool; 2] {
    addresses(to).map(|address| {
        let to = SocketAddr::new(address, CLOSED);
        let connect = || TcpStream::connect_timeout(&to, UNANSWERED);
        match namespace(node, from).run(connect).unwrap() {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => true,
            Err(error) if error.kind() == ErrorKind::TimedOut => false,
            Err(error) => panic!("{to}: {error}"),
        }
    })
}

/// `b` with its macvlan, let pass.
fn attached(policy: &str) -> (Node, Agent) {
    let node = node();
    node.pods.replace("policy.yaml", policy);
    let agent = node.pods.start(&[]);
    node.list("b", "one", &[]);
    let id = record(&node, "one");
    assert_eq!(node.attach(&id, LONG), Answer::Ready, "{}", agent.log());
    (node, agent)
}

#[test]
fn it_passes_nothing_before_its_pod_is_known_and_then_what_the_pods_policies_allow() {
    let node = node();
    node.pods.remove("b.yaml");
    let agent = node.pods.start(&[]);
    let id = record(&node, "one");
    let Answer::NotYet { details, .. } = node.attach(&id, 300) else {
        panic!("nobody knows the pod");
    };
    assert!(details.contains("no Pod t/b with the UID one"), "{details}");
    assert_eq!(group(&node), QUARANTINE);
    assert_eq!(reaches(&node, "a", "b"), [false; 2]);
    node.list("b", "one", &[]);
    assert_eq!(node.attach(&id, LONG), Answer::Ready, "{}", agent.log());
    assert_eq!(group(&node), ACTIVE);
    assert_eq!(reaches(&node, "a", "b"), [true; 2]);
    assert_eq!(reaches(&node, "b", "a"), [true; 2]);
    node.pods.replace("policy.yaml", TIGHT);
    until("ingress is closed", &agent, || {
        reaches(&node, "a", "b") == [false; 2]
    });
    assert_eq!(reaches(&node, "b", "a"), [true; 2]);
    // Of `a` to everybody: its macvlan is not recorded, and so is not enforced.
    let egress = TIGHT_EGRESS
        .replace("app: a", "app: b")
        .replace("a-egress", "b-egress");
    node.pods.replace("policy.yaml", &egress);
    until("egress is closed", &agent, || {
        reaches(&node, "b", "a") == [false; 2]
    });
    assert_eq!(reaches(&node, "a", "b"), [true; 2]);
}

#[test]
fn a_connection_that_is_open_follows_the_policies() {
    let (node, agent) = attached(LOOSE);
    for address in addresses("b") {
        let listen = || TcpListener::bind((address, CLOSED)).unwrap();
        let listener = namespace(&node, "b").run(listen).unwrap();
        let connect = || TcpStream::connect((address, CLOSED)).unwrap();
        let mut client = namespace(&node, "a").run(connect).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(UNANSWERED)).unwrap();
        let passes = |client: &mut TcpStream, server: &mut TcpStream| {
            client.write_all(b"x").unwrap();
            match server.read(&mut [0]) {
                Ok(1) => true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                other => panic!("{other:?}"),
            }
        };
        assert!(passes(&mut client, &mut server));
        node.pods.replace("policy.yaml", TIGHT);
        until("it is cut", &agent, || !passes(&mut client, &mut server));
        assert!(!passes(&mut client, &mut server));
        node.pods.replace("policy.yaml", LOOSE);
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(passes(&mut client, &mut server), "it goes on");
    }
}

#[test]
fn what_others_do_in_its_namespace_is_repaired() {
    let (node, agent) = attached(TIGHT);
    let inside = namespace(&node, "b");
    let mut nftables = inside.run(Nftables::open).unwrap().unwrap();
    let whole = nftables.read().unwrap().ruleset;
    assert!(!whole.tables.is_empty());
    for change in [
        "flush ruleset",
        "flush table inet picket",
        "delete map inet picket ingress4",
        "add rule inet picket arriving accept\nadd chain inet picket mine { type filter hook input priority -10; }",
    ] {
        // What is refused changes nothing: the map is in use.
        let changed = inside.nft(change).is_ok();
        assert!(changed || change.starts_with("delete map"), "{change}");
        until(&format!("{change} is repaired"), &agent, || {
            let found = nftables.read().unwrap();
            found.unknown.is_empty()
                && found.ruleset == whole
                && quarantine::is_there(&mut nftables).unwrap()
        });
    }
    assert_eq!(reaches(&node, "a", "b"), [false; 2]);
    assert_eq!(group(&node), ACTIVE);
}

#[test]
fn rules_stay_when_the_agent_is_killed_and_the_next_one_finds_them() {
    let (node, agent) = attached(TIGHT);
    agent.kill();
    assert_eq!(reaches(&node, "a", "b"), [false; 2]);
    node.pods.replace("policy.yaml", LOOSE);
    let agent = node.pods.start(&[]);
    assert_eq!(node.attach(&id("one"), LONG), Answer::Ready);
    assert!(!agent.log().contains("into quarantine"), "{}", agent.log());
    until("it is open", &agent, || {
        reaches(&node, "a", "b") == [true; 2]
    });
}

#[test]
fn its_pod_made_anew_under_its_name_takes_everything_away_and_another_interface_of_it_is_its_own() {
    let (node, agent) = attached(LOOSE);
    node.list("b", "two", &[]);
    until("it is in quarantine", &agent, || group(&node) == QUARANTINE);
    assert_eq!(reaches(&node, "a", "b"), [false; 2]);
    assert_eq!(reaches(&node, "b", "a"), [false; 2]);
    // What its node routes is not held by it.
    assert!(node.reaches(super::world::Family::V4, "a", "b"));
    node.list("b", "one", &[]);
    until("it passes again", &agent, || group(&node) == ACTIVE);
    assert_eq!(reaches(&node, "a", "b"), [true; 2]);
}

#[test]
fn a_namespace_that_is_another_by_now_is_not_touched() {
    let node = node();
    let agent = node.pods.start(&[]);
    node.list("b", "one", &[]);
    let other = namespace(&node, "a");
    let attachment = Attachment {
        id: id("one"),
        network: "lan".to_owned(),
        netns: path(other),
        netns_inode: namespace(&node, "b").inode().unwrap(),
        pod: PodIdentity {
            namespace: "t".to_owned(),
            name: "b".to_owned(),
            uid: Some("one".to_owned()),
        },
        addresses: addresses("b").into(),
        routes: false,
        path: bypass(other),
    };
    let records = Records::new(node.pods.run_dir.path());
    records.write(&attachment).unwrap();
    let answer = node.attach(&attachment.id, 2000);
    assert!(!matches!(answer, Answer::Ready), "{answer:?}");
    let mut nftables = other.run(Nftables::open).unwrap().unwrap();
    assert!(
        nftables.read().unwrap().ruleset.tables.is_empty(),
        "{}",
        agent.log()
    );
}

#[test]
fn a_pod_sends_from_no_other_address() {
    let (node, agent) = attached(LOOSE);
    let inside = namespace(&node, "b");
    inside
        .ip(&["addr", "add", "10.9.0.99/24", "dev", INTERFACE])
        .unwrap();
    let [to, _] = addresses("a");
    let listen = || UdpSocket::bind((to, CLOSED)).unwrap();
    let listener = namespace(&node, "a").run(listen).unwrap();
    listener.set_read_timeout(Some(UNANSWERED)).unwrap();
    let arrives = |source: &str| {
        let bind = || UdpSocket::bind((source, 0)).unwrap();
        let socket = inside.run(bind).unwrap();
        // One that is dropped as it leaves is told of.
        let _ = socket.send_to(source.as_bytes(), (to, CLOSED));
        let mut buffer = [0; 64];
        listener
            .recv(&mut buffer)
            .is_ok_and(|length| &buffer[..length] == source.as_bytes())
    };
    assert!(arrives("10.9.0.12"), "{}", agent.log());
    assert!(!arrives("10.9.0.99"));
}

fn cleanup(node: &Node) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_picket"));
    command.arg("cleanup").arg("--run-dir");
    command.arg(node.pods.run_dir.path());
    let output = node.pods.world.node().run(|| command.output()).unwrap();
    output.unwrap()
}

/// As in a container without the folder in which the runtime names namespaces.
#[test]
fn cleanup_that_sees_no_namespaces_says_so_and_the_next_one_finds_them() {
    let (node, agent) = attached(TIGHT);
    drop(agent);
    let records = Records::new(node.pods.run_dir.path());
    let (attachments, _) = records.list().unwrap();
    for attachment in &attachments {
        let netns = "/run/picket-is-not-here/netns/b".to_owned();
        let elsewhere = Attachment {
            netns,
            ..attachment.clone()
        };
        records.write(&elsewhere).unwrap();
    }
    let output = cleanup(&node);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("/run/picket-is-not-here/netns/b"), "{said}");
    assert!(said.contains("call it again"), "{said}");
    let inside = namespace(&node, "b");
    assert_ne!(inside.nft("list ruleset").unwrap(), "");
    for attachment in &attachments {
        records.write(attachment).unwrap();
    }
    let output = cleanup(&node);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(inside.nft("list ruleset").unwrap(), "");
}

#[test]
fn cleanup_leaves_nothing_in_the_pods_namespace() {
    let (node, agent) = attached(TIGHT);
    drop(agent);
    let output = cleanup(&node);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("in the network namespaces of 1 pods"),
        "{said}"
    );
    let inside = namespace(&node, "b");
    assert_eq!(inside.nft("list ruleset").unwrap(), "");
    assert_eq!(group(&node), 0);
    assert_eq!(reaches(&node, "a", "b"), [true; 2]);
}

#[test]
fn a_device_that_comes_back_from_a_pod_is_not_held_in_quarantine() {
    let node = node();
    let agent = node.pods.start(&[]);
    let host = node.pods.world.node();
    let mut links = host.run(Links::open).unwrap().unwrap();
    // One that no pod's end can be.
    host.ip_batch("link add mvc link lan0 type macvlan\nlink set mvc up\n")
        .unwrap();
    let link = links.by_name("mvc").unwrap().unwrap();
    links.set_group(&link, QUARANTINE).unwrap();
    until("it is out of quarantine", &agent, || {
        links.by_name("mvc").unwrap().unwrap().group == 0
    });
}
