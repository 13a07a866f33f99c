//! A node with pods, its rules in the kernel, and what revokes beside them, as the agent has them.
//!
//! ```text
//!     n1 ─────── n2         10.96.0.1 and fd00:96::1 are a Service of b, by rules of somebody else
//!   a   b         r
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use controller::agent::revoke::{Handle, Judged, Options, Revoker, Scope, Status, Ticket};
use controller::verify::compiled;
use kernel::conntrack::{Conntrack, Entry, Filter};
use kernel::{Generation, Nftables};
use policy_compiler::delta::delta;
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::lower::{self, RevokedBit};
use policy_compiler::model::Cluster;
use policy_compiler::ruleset::Ruleset;
use testbed::{Namespace, Network, NodeSpec, Place, PodSpec, Testbed, Topology};

use crate::support;

/// How long something that must come about may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Open in every policy here.
pub(super) const OPEN: u16 = 80;
/// So is this, and the one after it.
pub(super) const ALSO_OPEN: u16 = 82;
/// Closed where policy is tight.
pub(super) const CLOSED: u16 = 81;

pub(super) const BIT: u32 = 0x10_0000;

const NODES: [(&str, &str, &str); 2] = [
    ("n1", "192.168.7.1", "fd00:7::1"),
    ("n2", "192.168.7.2", "fd00:7::2"),
];
const PODS: [(&str, &str, &str, &str); 3] = [
    ("a", "n1", "10.1.0.11", "fd00:a::11"),
    ("b", "n1", "10.1.0.12", "fd00:a::12"),
    ("r", "n2", "10.2.0.11", "fd00:b::11"),
];

/// Has connections tracked where there are no rules of ours, and is the Service.
const OTHERS: &str = "
table inet others {
  chain forward {
    type filter hook forward priority 300
    ct state new counter
  }
  chain prerouting {
    type nat hook prerouting priority dstnat
    ip daddr 10.96.0.1 meta l4proto { tcp, udp } th dport 7080 dnat ip to 10.1.0.12:80
    ip daddr 10.96.0.1 meta l4proto { tcp, udp } th dport 7081 dnat ip to 10.1.0.12:81
    ip6 daddr fd00:96::1 meta l4proto { tcp, udp } th dport 7080 dnat ip6 to [fd00:a::12]:80
    ip6 daddr fd00:96::1 meta l4proto { tcp, udp } th dport 7081 dnat ip6 to [fd00:a::12]:81
  }
}";

/// `b` may be asked everything.
pub(super) const LOOSE: &str = "";
/// `b` may be asked on [`OPEN`] and [`ALSO_OPEN`].
pub(super) const TIGHT: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: t, name: b-ingress}
spec:
  podSelector: {matchLabels: {app: b}}
  policyTypes: [Ingress]
  ingress:
  - ports: [{port: 80, protocol: UDP}, {port: 82, endPort: 83, protocol: UDP}]
";
/// `a` may ask on [`OPEN`] and [`ALSO_OPEN`].
pub(super) const TIGHT_EGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: t, name: a-egress}
spec:
  podSelector: {matchLabels: {app: a}}
  policyTypes: [Egress]
  egress:
  - ports: [{port: 80, protocol: UDP}, {port: 82, endPort: 83, protocol: UDP}]
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Family; 2] = [Family::V4, Family::V6];

    pub(super) fn of(self, v4: &str, v6: &str) -> IpAddr {
        match self {
            Family::V4 => v4.parse().unwrap(),
            Family::V6 => v6.parse().unwrap(),
        }
    }
}

/// The address of a pod or a node.
pub(super) fn address(name: &str, family: Family) -> IpAddr {
    let nodes = NODES.iter().map(|node| (node.0, node.1, node.2));
    let mut all = nodes.chain(PODS.iter().map(|pod| (pod.0, pod.2, pod.3)));
    let (_, v4, v6) = all.find(|(of, ..)| *of == name).unwrap();
    family.of(v4, v6)
}

/// The Service's address.
pub(super) fn service(family: Family) -> IpAddr {
    family.of("10.96.0.1", "fd00:96::1")
}

pub(super) struct World {
    pub(super) testbed: Testbed,
    nftables: Nftables,
    /// What is in force.
    ruleset: Ruleset,
    pub(super) node_egress: NodeEgress,
    revoker: Option<(Revoker, Receiver<Status>, Status)>,
}

impl World {
    /// Without rules of ours, and nothing revokes yet.
    pub(super) fn new() -> World {
        let nodes = NODES.map(|(name, v4, v6)| NodeSpec {
            name: name.to_owned(),
            addresses: vec![v4.parse().unwrap(), v6.parse().unwrap()],
        });
        let pods = PODS.map(|(name, node, v4, v6)| PodSpec {
            name: name.to_owned(),
            node: node.to_owned(),
            addresses: vec![
                format!("{v4}/24").parse().unwrap(),
                format!("{v6}/64").parse().unwrap(),
            ],
        });
        let topology = Topology {
            network: Network::Routed,
            nodes: nodes.to_vec(),
            pods: pods.to_vec(),
            externals: Vec::new(),
        };
        let testbed = Testbed::build(&topology).expect("these tests need root");
        let node = testbed.namespace(&Place::Node("n1".to_owned())).unwrap();
        node.nft(OTHERS).unwrap();
        let nftables = node.run(Nftables::open).unwrap().unwrap();
        World {
            testbed,
            nftables,
            ruleset: Ruleset { tables: Vec::new() },
            node_egress: NodeEgress::Allow,
            revoker: None,
        }
    }

    /// With something that revokes.
    pub(super) fn revoking(options: Options) -> World {
        let mut world = World::new();
        world.start(options);
        world
    }

    pub(super) fn start(&mut self, options: Options) {
        let (sender, receiver) = channel();
        let report = move |status: &Status| {
            // Nobody listens any more when a test ends.
            let _ = sender.send(status.clone());
        };
        let started = self.node().run(|| Revoker::start(options, report));
        self.revoker = Some((started.unwrap().unwrap(), receiver, Status::default()));
    }

    /// Ends what revokes. Returns what was done until then.
    pub(super) fn end(&mut self) -> Status {
        let (revoker, receiver, last) = self.revoker.take().unwrap();
        drop(revoker);
        receiver.try_iter().last().unwrap_or(last)
    }

    pub(super) fn node(&self) -> &Namespace {
        self.namespace("n1")
    }

    pub(super) fn namespace(&self, name: &str) -> &Namespace {
        let pod = Place::Pod(name.to_owned());
        let node = Place::Node(name.to_owned());
        let found = self.testbed.namespace(&pod);
        found.or_else(|| self.testbed.namespace(&node)).unwrap()
    }

    pub(super) fn handle(&self) -> Handle {
        self.revoker.as_ref().unwrap().0.handle()
    }

    /// What was done so far.
    pub(super) fn status(&mut self) -> Status {
        let (_, receiver, last) = self.revoker.as_mut().unwrap();
        *last = receiver.try_iter().last().unwrap_or(last.clone());
        last.clone()
    }

    /// Waits until what was done is as it is to be.
    #[track_caller]
    pub(super) fn await_status(&mut self, is: impl Fn(&Status) -> bool) -> Status {
        let (_, receiver, last) = self.revoker.as_mut().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !is(last) {
            let left = deadline.saturating_duration_since(Instant::now());
            *last = receiver
                .recv_timeout(left)
                .unwrap_or_else(|error| panic!("{error}: {last:?}"));
        }
        last.clone()
    }

    /// The rules follow the policies, and connections are judged once by them.
    #[track_caller]
    pub(super) fn commit(&mut self, policies: &str) -> Ticket {
        self.commit_pods(policies, &["a", "b", "r"])
    }

    /// The same, with the pods that have an address being these, `b`'s perhaps another's.
    #[track_caller]
    pub(super) fn commit_pods(&mut self, policies: &str, pods: &[&str]) -> Ticket {
        let cluster = cluster(policies, pods);
        let hold = self.handle().hold();
        self.load(&cluster);
        let ticket = self.judge(&cluster, Scope::All);
        drop(hold);
        self.await_status(|status| status.judged >= ticket);
        ticket
    }

    /// Until nothing is left to change.
    #[track_caller]
    pub(super) fn settle(&mut self, ticket: Ticket) -> Status {
        self.await_status(|status| status.settled >= ticket)
    }

    /// Asks for judgement by the cluster.
    pub(super) fn judge(&self, cluster: &Cluster, scope: Scope) -> Ticket {
        self.handle().judge(self.judged(cluster), scope)
    }

    pub(super) fn judged(&self, cluster: &Cluster) -> Judged {
        Judged {
            cluster: Arc::new(cluster.clone()),
            node: "n1".into(),
            node_egress: self.node_egress,
            closed: Arc::new(BTreeSet::new()),
            revoked: RevokedBit::default(),
        }
    }

    /// Puts the cluster's rules in force, in the order that leaks nothing.
    pub(super) fn load(&mut self, cluster: &Cluster) {
        let options = lower::Options {
            node_egress: self.node_egress,
            ..lower::Options::default()
        };
        let wanted = compiled(cluster, "n1", &options);
        let Generation(generation) = self.nftables.generation().unwrap();
        let plan = delta(&self.ruleset, &wanted, generation);
        self.nftables.execute(&plan, None).unwrap();
        self.ruleset = wanted;
    }

    pub(super) fn conntrack(&self) -> Conntrack {
        self.node().run(Conntrack::open).unwrap().unwrap()
    }

    /// The entries of connections to a port, as forward saw them.
    pub(super) fn entries(&self, port: u16) -> Vec<Entry> {
        let mut entries = Vec::new();
        let each = |entry: Entry| {
            let ports = entry.forwarded().transport.ports();
            if ports.is_some_and(|ports| ports.destination == port) {
                entries.push(entry);
            }
        };
        self.conntrack().dump(&Filter::default(), each).unwrap();
        entries
    }

    /// The marks of connections to a port.
    pub(super) fn marks(&self, port: u16) -> Vec<u32> {
        let entries = self.entries(port);
        entries.iter().map(|entry| entry.mark).collect()
    }
}

/// The cluster with these policies, and pods with the names and addresses of [`PODS`]; `new` has `b`'s.
pub(super) fn cluster(policies: &str, pods: &[&str]) -> Cluster {
    let mut objects = vec![nodes()];
    objects.extend(pods.iter().map(|name| pod(name)));
    if !policies.is_empty() {
        objects.push(policies.to_owned());
    }
    support::load(&objects.join("---\n")).unwrap()
}

/// The namespace of the pods, and the nodes.
pub(super) fn nodes() -> String {
    let mut objects = vec!["apiVersion: v1\nkind: Namespace\nmetadata: {name: t}\n".to_owned()];
    objects.extend(NODES.map(|(name, v4, v6)| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nstatus: {{addresses: \
             [{{type: InternalIP, address: {v4}}}, {{type: InternalIP, address: \"{v6}\"}}]}}\n"
        )
    }));
    objects.join("---\n")
}

/// A pod as [`cluster`] has it.
pub(super) fn pod(name: &str) -> String {
    let like = if name == "new" { "b" } else { name };
    let (_, node, v4, v6) = PODS.iter().find(|pod| pod.0 == like).unwrap();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: t, name: {name}, labels: {{app: {name}}}}}\n\
         spec: {{nodeName: {node}, containers: [{{name: app, image: registry.example/app:1}}]}}\n\
         status: {{phase: Running, podIP: {v4}, podIPs: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]}}\n"
    )
}

/// Waits until something holds.
#[track_caller]
pub(super) fn await_that(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come about");
        std::thread::sleep(Duration::from_millis(2));
    }
}
