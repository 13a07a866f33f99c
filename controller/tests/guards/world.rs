//! A small cluster, and the rules of its first node in all the ways in which they can be made.
//!
//! ```text
//!           x: 203.0.113.9
//!     n1 ───┴─── n2
//!   a b c e      r        b is isolated for ingress, e for egress; a, c and r are open
//! ```

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::{Mutex, OnceLock};

use controller::verify::compiled;
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::lower::{Attachment, Bridges, Options};
use policy_compiler::model::{Cluster, InterfaceName, NamespacedName};
use policy_compiler::render;
use policy_compiler::ruleset::{Rule, Ruleset};
use testbed::frames::FrameSender;
use testbed::{Mac, Namespace, Network, NodeSpec, Place, PodSpec, Testbed, Topology};

use crate::support;

pub(super) const NETWORKS: [Network; 2] = [Network::Bridged, Network::Routed];

/// The bridge of node `n1`, if its pods are bridged.
pub(super) const BRIDGE: &str = "br0";

/// The broadcast address of the pods' subnet on node `n1`.
pub(super) const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 255);

const NODES: [(&str, &str, &str); 2] = [
    ("n1", "192.168.7.1", "fd00:7::1"),
    ("n2", "192.168.7.2", "fd00:7::2"),
];

const PODS: [(&str, &str, &str, &str); 5] = [
    ("a", "n1", "10.1.0.11", "fd00:a::11"),
    ("b", "n1", "10.1.0.12", "fd00:a::12"),
    ("c", "n1", "10.1.0.13", "fd00:a::13"),
    ("e", "n1", "10.1.0.14", "fd00:a::14"),
    ("r", "n2", "10.2.0.11", "fd00:b::11"),
];

const OUTSIDE: (&str, &str) = ("203.0.113.9", "2001:db8:9::9");

/// Port 80 is open everywhere, so that whatever is sent there after an attack proves that the attack was dropped.
const POLICIES: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: t, name: b-ingress}
spec:
  podSelector: {matchLabels: {app: b}}
  policyTypes: [Ingress]
  ingress:
  - ports: [{port: 80}, {port: 80, protocol: UDP}]
  - from: [{podSelector: {matchLabels: {app: c}}}]
    ports: [{port: 82}, {port: 82, protocol: UDP}]
  - from: [{ipBlock: {cidr: 203.0.113.9/32}}, {ipBlock: {cidr: \"2001:db8:9::9/128\"}}]
    ports: [{port: 83}, {port: 83, protocol: UDP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: t, name: e-egress}
spec:
  podSelector: {matchLabels: {app: e}}
  policyTypes: [Egress]
  egress:
  - ports: [{port: 80}, {port: 80, protocol: UDP}]
";

/// What the rules may know of the interfaces of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The interface of each pod.
    Ports,
    /// The interfaces of isolated pods: the others were there before the plugin was.
    IsolatedPorts,
    /// Which bridge the pods are on; none where they are routed.
    Bridge,
    /// Nothing.
    Nothing,
    /// The interface of each pod, and that its link-local address is the pod's.
    LinkLocal,
    /// The interfaces of all pods but `c`, and the link-local addresses of `b` and `e`.
    SomeLinkLocal,
}

impl Known {
    /// What was known before link-local addresses were.
    pub(super) const ALL: [Known; 4] = [
        Known::Ports,
        Known::IsolatedPorts,
        Known::Bridge,
        Known::Nothing,
    ];

    /// Whether what only travels inside a bridge is guarded at the ports, and not on the whole bridge.
    pub(super) fn guards_ports(self) -> bool {
        !matches!(self, Known::Bridge | Known::Nothing)
    }

    /// Whether the rules have the interface of this pod.
    fn has(self, pod: &str) -> bool {
        match self {
            Known::Ports | Known::LinkLocal => true,
            Known::IsolatedPorts => pod == "b" || pod == "e",
            Known::SomeLinkLocal => pod != "c",
            Known::Bridge | Known::Nothing => false,
        }
    }

    /// Whether the rules know this pod by its link-local address.
    fn has_link_local(self, pod: &str) -> bool {
        match self {
            Known::LinkLocal => true,
            Known::SomeLinkLocal => pod == "b" || pod == "e",
            _ => false,
        }
    }
}

/// The families of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stack {
    Dual,
    Ipv4Only,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Family; 2] = [Family::V4, Family::V6];
}

pub(super) struct World {
    pub(super) testbed: Testbed,
    pub(super) network: Network,
    cluster: Cluster,
    /// What sends frames, once opened.
    pub(super) senders: Mutex<HashMap<Place, FrameSender>>,
    /// The Ethernet addresses of the outside's link to node `n1`, from there on.
    pub(super) outside: OnceLock<(Mac, Mac)>,
}

pub(super) fn pod(name: &str) -> Place {
    Place::Pod(format!("t/{name}"))
}

pub(super) fn node(name: &str) -> Place {
    Place::Node(name.to_owned())
}

/// The address of a place.
pub(super) fn address(place: &Place, family: Family) -> IpAddr {
    let (v4, v6) = match place {
        Place::Node(name) => {
            let found = NODES.iter().find(|node| node.0 == name);
            found.map(|node| (node.1, node.2)).unwrap()
        }
        Place::Pod(name) => {
            let found = PODS
                .iter()
                .find(|pod| name.strip_prefix("t/") == Some(pod.0));
            found.map(|pod| (pod.2, pod.3)).unwrap()
        }
        Place::External => OUTSIDE,
    };
    match family {
        Family::V4 => v4.parse().unwrap(),
        Family::V6 => v6.parse().unwrap(),
    }
}

impl World {
    /// The cluster without any rules yet.
    pub(super) fn new(network: Network) -> World {
        World::with(network, Stack::Dual)
    }

    pub(super) fn with(network: Network, stack: Stack) -> World {
        let testbed = Testbed::build(&topology(network, stack)).unwrap_or_else(|error| {
            panic!("{error}\nThese tests need root, or: unshare --user --map-root-user cargo test")
        });
        let cluster = support::load(&manifests(stack)).unwrap();
        let world = World {
            testbed,
            network,
            cluster,
            senders: Mutex::default(),
            outside: OnceLock::new(),
        };
        if network == Network::Bridged {
            world.complete_bridge();
        }
        world
    }

    /// What a CNI's bridge has and the testbed spares itself: its subnet's broadcast address, and neighbours that
    /// were heard of.
    fn complete_bridge(&self) {
        let broadcast =
            format!("route replace broadcast {BROADCAST} dev {BRIDGE} table local scope link\n");
        let neighbour = |name| {
            let attachment = self.testbed.attachment(&format!("t/{name}")).unwrap();
            let (address, mac) = (attachment.link_local, attachment.mac);
            format!("neigh replace {address} lladdr {mac} dev {BRIDGE} nud permanent\n")
        };
        let lines: String = ["a", "b", "c", "e"].into_iter().map(neighbour).collect();
        self.namespace(&node("n1"))
            .ip_batch(&(broadcast + &lines))
            .unwrap();
    }

    pub(super) fn namespace(&self, place: &Place) -> &Namespace {
        self.testbed.namespace(place).unwrap()
    }

    /// How a pod is attached.
    pub(super) fn attachment(&self, name: &str) -> &testbed::Attachment {
        self.testbed.attachment(&format!("t/{name}")).unwrap()
    }

    pub(super) fn link_local(&self, name: &str) -> Ipv6Addr {
        self.attachment(name).link_local
    }

    /// The Ethernet address of an interface.
    pub(super) fn mac(&self, place: &Place, interface: &str) -> Mac {
        let shown = self
            .namespace(place)
            .ip(&["-o", "link", "show", "dev", interface])
            .unwrap();
        let text = shown
            .split("link/ether ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        let mut bytes = text
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).unwrap());
        Mac([(); 6].map(|()| bytes.next().unwrap()))
    }

    /// Loads the rules of node `n1`, in place of those before, and forgets all connections.
    pub(super) fn load(&self, known: Known, node_egress: NodeEgress) {
        self.load_edited(known, node_egress, |_| {});
    }

    /// The same, but connections go on.
    pub(super) fn reload(&self, known: Known, node_egress: NodeEgress) {
        self.reload_edited(known, node_egress, |_| {});
    }

    /// The same as [`World::load`], without the rules that have one of these comments. Each comment is on some rule.
    pub(super) fn load_without(&self, known: Known, node_egress: NodeEgress, guards: &[&str]) {
        self.load_edited(known, node_egress, |ruleset| remove(ruleset, guards));
    }

    /// The same, but connections go on.
    pub(super) fn reload_without(&self, known: Known, node_egress: NodeEgress, guards: &[&str]) {
        self.reload_edited(known, node_egress, |ruleset| remove(ruleset, guards));
    }

    /// The same as [`World::load`], after a change of the rules.
    pub(super) fn load_edited(
        &self,
        known: Known,
        node_egress: NodeEgress,
        edit: impl FnOnce(&mut Ruleset),
    ) {
        self.reload_edited(known, node_egress, edit);
        self.testbed.forget_connections().unwrap();
    }

    fn reload_edited(
        &self,
        known: Known,
        node_egress: NodeEgress,
        edit: impl FnOnce(&mut Ruleset),
    ) {
        let mut cluster = self.cluster.clone();
        for (name, node, ..) in PODS.iter().filter(|pod| known.has_link_local(pod.0)) {
            let mut pod = cluster.pods[&NamespacedName::new("t", *name)].clone();
            pod.addresses.push(self.link_local(name).into());
            (*node == "n1").then(|| cluster.add_pod(pod));
        }
        let mut ruleset = compiled(&cluster, "n1", &self.options(known, node_egress));
        edit(&mut ruleset);
        self.replace(&render::text(&ruleset));
    }

    /// Takes the rules of node `n1` away, and forgets all connections.
    pub(super) fn unload(&self) {
        self.replace("");
        self.testbed.forget_connections().unwrap();
    }

    fn replace(&self, text: &str) {
        let removal = ["inet", "bridge"]
            .map(|family| format!("table {family} picket\ndelete table {family} picket\n"));
        self.namespace(&node("n1"))
            .nft(&(removal.concat() + text))
            .unwrap();
    }

    fn options(&self, known: Known, node_egress: NodeEgress) -> Options {
        let on_node = PODS.iter().filter(|pod| pod.1 == "n1" && known.has(pod.0));
        let attachments: BTreeMap<_, _> = on_node
            .map(|pod| {
                let attachment = self.attachment(pod.0);
                let interface = InterfaceName::new(&attachment.interface).unwrap();
                let bridged = attachment.bridge.is_some();
                let addresses = None;
                let attachment = Attachment {
                    interface,
                    bridged,
                    addresses,
                    routes: false,
                };
                (format!("t/{}", pod.0), vec![attachment])
            })
            .collect();
        let bridges = match (known, self.network) {
            (Known::Nothing, _) => Bridges::Any,
            (_, Network::Routed) => Bridges::Named([].into()),
            (_, Network::Bridged) => Bridges::Named([InterfaceName::new(BRIDGE).unwrap()].into()),
        };
        Options {
            node_egress,
            bridges,
            attachments,
            ..Options::default()
        }
    }
}

pub(super) fn rules(ruleset: &Ruleset) -> impl Iterator<Item = &Rule> {
    let chains = ruleset.tables.iter().flat_map(|table| &table.chains);
    chains.flat_map(|chain| &chain.rules)
}

/// Takes the rules away that have one of these comments. Each comment is on some rule.
fn remove(ruleset: &mut Ruleset, guards: &[&str]) {
    for guard in guards {
        let is_guard = |rule: &Rule| rule.comment.as_deref() == Some(guard);
        let before = rules(ruleset).filter(|rule| is_guard(rule)).count();
        assert!(before > 0, "no rule has the comment {guard:?}");
        let chains = ruleset
            .tables
            .iter_mut()
            .flat_map(|table| &mut table.chains);
        chains.for_each(|chain| Arc::make_mut(chain).rules.retain(|rule| !is_guard(rule)));
    }
}

fn topology(network: Network, stack: Stack) -> Topology {
    let nodes = NODES.map(|(name, v4, v6)| NodeSpec {
        name: name.to_owned(),
        addresses: vec![v4.parse().unwrap(), v6.parse().unwrap()],
    });
    let pods = PODS.map(|(name, node, v4, v6)| {
        let mut addresses = vec![format!("{v4}/24").parse().unwrap()];
        if stack == Stack::Dual {
            addresses.push(format!("{v6}/64").parse().unwrap());
        }
        PodSpec {
            name: format!("t/{name}"),
            node: node.to_owned(),
            addresses,
        }
    });
    Topology {
        network,
        nodes: nodes.to_vec(),
        pods: pods.to_vec(),
        externals: vec![OUTSIDE.0.parse().unwrap(), OUTSIDE.1.parse().unwrap()],
    }
}

fn manifests(stack: Stack) -> String {
    let mut objects = vec!["apiVersion: v1\nkind: Namespace\nmetadata: {name: t}\n".to_owned()];
    objects.extend(NODES.map(|(name, v4, v6)| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nstatus: {{addresses: \
             [{{type: InternalIP, address: {v4}}}, {{type: InternalIP, address: \"{v6}\"}}]}}\n"
        )
    }));
    objects.extend(PODS.map(|(name, node, v4, v6)| {
        let second = match stack {
            Stack::Dual => format!(", {{ip: \"{v6}\"}}"),
            Stack::Ipv4Only => String::new(),
        };
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: t, name: {name}, labels: {{app: {name}}}}}\n\
             spec: {{nodeName: {node}, containers: [{{name: app, image: registry.example/app:1}}]}}\n\
             status: {{phase: Running, podIP: {v4}, podIPs: [{{ip: {v4}}}{second}]}}\n"
        )
    }));
    objects.push(POLICIES.to_owned());
    objects.join("---\n")
}
