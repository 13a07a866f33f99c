//! The state of a cluster as it comes, object by object, and what one node has to enforce because of it.
//!
//! ```text
//! Object ──▶ apply, delete, reset ──▶ Cluster ──▶ update ──▶ Ruleset, and whose connections to judge again
//! ```
//!
//! It remembers what it made, and of what: local pods and their classes (`enforced`), the peers that classes name and
//! who is in them (`peers`, found by `selectors`), the parts of the ruleset (`lowered`), and what each namespace needs of
//! its budget (`budgets`). An update compares the
//! objects with those of the update before, which share what did not change, and makes again what depends on the rest.
//!
//! One task owns it. Whatever the order in which objects come, the rules are those that [`crate::compile`] and
//! [`crate::lower`] make of the same objects from nothing, byte for byte.

mod budgets;
mod enforced;
mod intern;
mod lowered;
mod peers;
mod selectors;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use self::budgets::Ledger;
use self::enforced::{Enforced, Input, Setting};
pub use self::intern::Interner;
use crate::budget::{Budgets, Exceeded};
use crate::lower::{Attachments, Options};
use crate::model::{Cluster, Namespace, NamespacedName, NetworkPolicy, Node, Pod, PolicyId};
use crate::name::Namer;
use crate::ruleset::Ruleset;

/// A valid object of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// Two identities have the same short name.
#[derive(Clone, Copy, Debug)]
struct Collision;

/// A cluster that changes, seen from one node.
#[derive(Clone, Debug)]
pub struct Index {
    setting: Setting,
    budgets: Budgets,
    interner: Interner,
    cluster: Cluster,
    isolated: BTreeSet<PolicyId>,
    /// Of which the rules were made.
    input: Input,
    enforced: Enforced,
    ledger: Ledger,
}

impl Index {
    /// An empty cluster.
    pub fn new(node: impl Into<String>, options: Options, budgets: Budgets) -> Self {
        Self::with_namer(node, options, budgets, Namer::default())
    }

    /// As [`Index::new`], with a namer of the caller's.
    pub fn with_namer(
        node: impl Into<String>,
        options: Options,
        budgets: Budgets,
        namer: Namer,
    ) -> Self {
        let setting = Setting {
            node: node.into(),
            options,
            namer,
        };
        Self {
            enforced: Enforced::new(&setting),
            setting,
            budgets,
            interner: Interner::default(),
            cluster: Cluster::default(),
            isolated: BTreeSet::new(),
            input: Input::default(),
            ledger: Ledger::default(),
        }
    }

    /// An object is there, as it is now: new, or in place of the one of its name.
    pub fn apply(&mut self, object: Object) {
        add(&mut self.cluster, &mut self.interner, object);
    }

    /// An object is gone. One that was not there is no error.
    pub fn delete(&mut self, id: &ObjectId) {
        match id {
            ObjectId::Namespace(name) => self.cluster.remove_namespace(name),
            ObjectId::Node(name) => self.cluster.remove_node(name),
            ObjectId::Pod(id) => self.cluster.remove_pod(id),
            ObjectId::NetworkPolicy(id) => self.cluster.remove_policy(id),
        }
    }

    /// These are all objects there are.
    pub fn reset(&mut self, objects: impl IntoIterator<Item = Object>) {
        self.cluster = Cluster::default();
        for object in objects {
            add(&mut self.cluster, &mut self.interner, object);
        }
    }

    /// The policies of which the allow rules are ignored, because the kernel did not take what came of them: they isolate
    /// the pods that they select. Those that were named before and are not any more count again.
    pub fn isolate(&mut self, policies: BTreeSet<PolicyId>) {
        self.isolated = policies;
    }

    /// How the node's pods are attached to it, in place of what was known of that.
    pub fn attach(&mut self, attachments: Attachments) {
        if self.setting.options.attachments != attachments {
            self.setting.options.attachments = attachments;
            self.enforced.local_is_stale();
        }
    }

    /// Brings the rules up to date with the objects.
    pub fn update(&mut self) -> Update {
        self.enforced
            .follow_members(&self.input.cluster, &self.cluster);
        let now = (&self.input, &self.enforced);
        let input = self.ledger.input(
            &self.cluster,
            &self.isolated,
            &self.setting,
            &self.budgets,
            now,
        );
        let before = self.enforced.ruleset().clone();
        let touched = self.enforced.follow(&self.setting, &self.input, &input);
        self.input = input;
        Update {
            changed: before != *self.enforced.ruleset(),
            touched,
        }
    }

    /// What the node has to enforce, as of the last [`Index::update`].
    pub fn ruleset(&self) -> &Ruleset {
        self.enforced.ruleset()
    }

    /// The objects.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The objects as they are enforced, as of the last [`Index::update`]: policies that are isolated have no rules, and
    /// namespaces over their budget the policies that were in force before.
    pub fn effective(&self) -> Cluster {
        self.input.cluster.clone()
    }

    /// The policies whose rules a chain or a set of the ruleset has, by its name.
    pub fn policies_behind(&self, name: &str) -> BTreeSet<PolicyId> {
        self.enforced.policies_behind(name)
    }

    /// The namespaces that are over their budget, as of the last [`Index::update`].
    pub fn exceeded(&self) -> &BTreeMap<String, Exceeded> {
        self.ledger.exceeded()
    }

    /// The node's pods that send and receive nothing because their namespace is over its budget.
    pub fn closed(&self) -> &BTreeSet<NamespacedName> {
        &self.input.closed
    }
}

fn add(cluster: &mut Cluster, interner: &mut Interner, object: Object) {
    match interner.object(object) {
        Object::Namespace(object) => cluster.add_namespace(object),
        Object::Node(object) => cluster.add_node(object),
        Object::Pod(object) => cluster.add_pod(object),
        Object::NetworkPolicy(object) => cluster.add_policy(object),
    }
}
