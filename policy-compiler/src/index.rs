//! The state of a cluster as it comes, object by object, and what one node has to enforce because of it.
//!
//! ```text
//! Object ──▶ apply, delete, reset ──▶ Cluster ──▶ update ──▶ Ruleset, and whose connections to judge again
//! ```
//!
//! One task owns it. Whatever the order in which objects come, the rules are those that [`crate::compile`] and
//! [`crate::lower`] make of the same objects from nothing, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::budget::{self, Budgets, Exceeded};
use crate::compile::compile_closed;
use crate::ir::{NodeIr, PeerMatch, PeerMembers};
use crate::lower::{Options, lower};
use crate::model::{
    Cluster, Direction, Namespace, NamespacedName, NetworkPolicy, Node, Pod, PolicyId,
};
use crate::name::Namer;
use crate::ruleset::Ruleset;

/// A valid object of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Namespace.
    Namespace(Namespace),
    /// A Node.
    Node(Node),
    /// A Pod.
    Pod(Pod),
    /// A NetworkPolicy.
    NetworkPolicy(NetworkPolicy),
}

/// What names an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectId {
    /// A Namespace.
    Namespace(String),
    /// A Node.
    Node(String),
    /// A Pod.
    Pod(NamespacedName),
    /// A NetworkPolicy.
    NetworkPolicy(PolicyId),
}

impl Object {
    /// What names it.
    pub fn id(&self) -> ObjectId {
        match self {
            Object::Namespace(object) => ObjectId::Namespace(object.name.clone()),
            Object::Node(object) => ObjectId::Node(object.name.clone()),
            Object::Pod(object) => ObjectId::Pod(object.id.clone()),
            Object::NetworkPolicy(object) => ObjectId::NetworkPolicy(object.id.clone()),
        }
    }
}

impl fmt::Display for ObjectId {
    /// `NetworkPolicy shop/allow-web`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectId::Namespace(name) => write!(f, "Namespace {name}"),
            ObjectId::Node(name) => write!(f, "Node {name}"),
            ObjectId::Pod(id) => write!(f, "Pod {id}"),
            ObjectId::NetworkPolicy(id) => write!(f, "NetworkPolicy {id}"),
        }
    }
}

/// What an [`Index::update`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Whether the ruleset is another than before.
    pub changed: bool,
    /// Addresses of which connections may have another verdict than before, or belong to somebody else: those of an
    /// end. Connections that have none of them at either end are judged as before.
    pub touched: BTreeSet<IpAddr>,
}

/// A cluster that changes, seen from one node.
#[derive(Clone, Debug)]
pub struct Index {
    node: String,
    options: Options,
    budgets: Budgets,
    cluster: Cluster,
    isolated: BTreeSet<PolicyId>,
    ir: NodeIr,
    ruleset: Ruleset,
    exceeded: BTreeMap<String, Exceeded>,
    closed: BTreeSet<NamespacedName>,
}

impl Index {
    /// An empty cluster.
    pub fn new(node: impl Into<String>, options: Options, budgets: Budgets) -> Self {
        let node = node.into();
        let cluster = Cluster::default();
        let ir = compile_closed(&cluster, &node, &BTreeSet::new(), Namer::default());
        let ruleset = lower(&ir, &options);
        Self {
            node,
            options,
            budgets,
            cluster,
            isolated: BTreeSet::new(),
            ir,
            ruleset,
            exceeded: BTreeMap::new(),
            closed: BTreeSet::new(),
        }
    }

    /// An object is there, as it is now: new, or in place of the one of its name.
    pub fn apply(&mut self, object: Object) {
        let mut objects = Objects::of(&self.cluster);
        objects.add(object);
        self.cluster = objects.cluster();
    }

    /// An object is gone. One that was not there is no error.
    pub fn delete(&mut self, id: &ObjectId) {
        let mut objects = Objects::of(&self.cluster);
        match id {
            ObjectId::Namespace(name) => drop(objects.namespaces.remove(name)),
            ObjectId::Node(name) => drop(objects.nodes.remove(name)),
            ObjectId::Pod(id) => drop(objects.pods.remove(id)),
            ObjectId::NetworkPolicy(id) => drop(objects.policies.remove(id)),
        }
        self.cluster = objects.cluster();
    }

    /// These are all objects there are.
    pub fn reset(&mut self, objects: impl IntoIterator<Item = Object>) {
        let mut all = Objects::default();
        objects.into_iter().for_each(|object| all.add(object));
        self.cluster = all.cluster();
    }

    /// The policies of which the allow rules are ignored, because the kernel did not take what came of them: they isolate
    /// the pods that they select. Those that were named before and are not any more count again.
    pub fn isolate(&mut self, policies: BTreeSet<PolicyId>) {
        self.isolated = policies;
    }

    /// Brings the rules up to date with the objects.
    pub fn update(&mut self) -> Update {
        let cluster = self.effective();
        let exceeded = budget::check(&cluster, &self.node, &self.budgets);
        let closed = budget::pods_of(&cluster, &self.node, exceeded.keys());
        let ir = compile_closed(&cluster, &self.node, &closed, Namer::default());
        let ruleset = lower(&ir, &self.options);
        let update = Update {
            changed: ruleset != self.ruleset,
            touched: touched(&self.ir, &ir),
        };
        (self.ir, self.ruleset) = (ir, ruleset);
        (self.exceeded, self.closed) = (exceeded, closed);
        update
    }

    /// What the node has to enforce, as of the last [`Index::update`].
    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// The objects.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The objects as they are enforced: policies that are isolated have no rules.
    pub fn effective(&self) -> Cluster {
        let mut objects = Objects::of(&self.cluster);
        for id in &self.isolated {
            if let Some(policy) = objects.policies.get_mut(id) {
                policy.ingress = policy.ingress.take().map(|_| Vec::new());
                policy.egress = policy.egress.take().map(|_| Vec::new());
            }
        }
        objects.cluster()
    }

    /// The policies whose rules a chain or a set of the ruleset has, by its name.
    pub fn policies_behind(&self, name: &str) -> BTreeSet<PolicyId> {
        // Names of classes and peers end in digests, so that none is a part of another by chance.
        let of_class = |(class, _): &(&String, &crate::ir::Class)| name.contains(class.as_str());
        let whole = self.ir.classes.iter().filter(of_class);
        let whole = whole.flat_map(|(_, class)| class.policies.iter().cloned());
        let rules = self.ir.classes.values().flat_map(|class| &class.tiers);
        let rules = rules.flat_map(|tier| &tier.rules);
        let naming = rules.filter(|rule| match &rule.matches.peer {
            PeerMatch::Any => false,
            PeerMatch::Set(peer) | PeerMatch::NamedPorts(peer) => name.contains(peer.as_str()),
        });
        whole
            .chain(naming.flat_map(|rule| rule.policies.iter().cloned()))
            .collect()
    }

    /// The namespaces that are over their budget, as of the last [`Index::update`].
    pub fn exceeded(&self) -> &BTreeMap<String, Exceeded> {
        &self.exceeded
    }

    /// The node's pods that send and receive nothing because their namespace is over its budget.
    pub fn closed(&self) -> &BTreeSet<NamespacedName> {
        &self.closed
    }
}

#[derive(Default)]
struct Objects {
    namespaces: BTreeMap<String, Namespace>,
    nodes: BTreeMap<String, Node>,
    pods: BTreeMap<NamespacedName, Pod>,
    policies: BTreeMap<PolicyId, NetworkPolicy>,
}

impl Objects {
    fn of(cluster: &Cluster) -> Self {
        Self {
            namespaces: cluster.namespaces.clone(),
            nodes: cluster.nodes.clone(),
            pods: cluster.pods.clone(),
            policies: cluster.policies.clone(),
        }
    }

    fn add(&mut self, object: Object) {
        match object {
            Object::Namespace(object) => {
                self.namespaces.insert(object.name.clone(), object);
            }
            Object::Node(object) => {
                self.nodes.insert(object.name.clone(), object);
            }
            Object::Pod(object) => {
                self.pods.insert(object.id.clone(), object);
            }
            Object::NetworkPolicy(object) => {
                self.policies.insert(object.id.clone(), object);
            }
        }
    }

    fn cluster(self) -> Cluster {
        Cluster::new(
            self.namespaces.into_values(),
            self.nodes.into_values(),
            self.pods.into_values(),
            self.policies.into_values(),
        )
    }
}

/// The addresses whose connections may have another verdict.
fn touched(from: &NodeIr, to: &NodeIr) -> BTreeSet<IpAddr> {
    let mut touched = BTreeSet::new();
    let ids: BTreeSet<_> = from.pods.keys().chain(to.pods.keys()).collect();
    for id in ids {
        let pods = [from.pods.get(id), to.pods.get(id)];
        let same = pods[0] == pods[1]
            && [Direction::Egress, Direction::Ingress].iter().all(|d| {
                let class = |pod: Option<&crate::ir::LocalPod>, ir: &NodeIr| {
                    let name = pod.and_then(|pod| pod.class(*d));
                    name.and_then(|name| ir.classes.get(name)).cloned()
                };
                class(pods[0], from) == class(pods[1], to)
            });
        if !same {
            let pods = pods.into_iter().flatten();
            touched.extend(pods.flat_map(|pod| pod.addresses.iter().copied()));
        }
    }
    for (name, peer) in &from.peers {
        if let (PeerMembers::Pods(old), Some(PeerMembers::Pods(new))) =
            (&peer.members, to.peers.get(name).map(|peer| &peer.members))
        {
            touched.extend(old.symmetric_difference(new));
        }
    }
    for (name, set) in &from.named_ports {
        if let Some(new) = to.named_ports.get(name) {
            let changed = set.members.symmetric_difference(&new.members);
            touched.extend(changed.map(|(address, ..)| *address));
        }
    }
    touched
}
