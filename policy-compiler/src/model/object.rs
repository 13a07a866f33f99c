//! Pods, namespaces and nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Cidr, Family, Labels, Named, NamespacedName, PortName, Protocol};

/// The label that the API server puts on every namespace, with the namespace's name.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels, `kubernetes.io/metadata.name` among them.
    pub labels: Labels,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its InternalIP and ExternalIP addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The ranges from which its pods get their addresses.
    pub pod_cidrs: Vec<Cidr>,
}

/// A pod's phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// At least one container runs, or is starting again.
    Running,
    /// Accepted, not all containers started.
    Pending,
    /// The node does not answer.
    Unknown,
    /// All containers ended well.
    Succeeded,
    /// All containers ended, one badly.
    Failed,
}

impl Phase {
    /// Whether the pod has ended for good. Its object keeps its address, which another pod may get.
    pub fn is_terminal(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }
}

/// What tells that a pod is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Presence {
    /// Interfaces on this node, of which its addresses are. They are believed before what the status of others says: an
    /// address may be another's by now whose object is behind.
    Attached,
    /// Such interfaces alone: its object is gone or has ended for good, as after a forced deletion, while its containers
    /// may still run. Policies go on to select it, and nobody's rules find it as a peer.
    Orphaned,
    /// Its object alone.
    #[default]
    Listed,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Namespace and name.
    pub id: NamespacedName,
    /// The UID by which a container runtime knows it, if that is of interest. A static pod's is that of its manifest
    /// (annotation `kubernetes.io/config.hash`), not that of the object which mirrors it.
    pub uid: Option<Box<str>>,
    /// What tells that it is there.
    pub presence: Presence,
    /// Its labels, which pods may share.
    pub labels: Arc<Labels>,
    /// The node that it was bound to.
    pub node: Option<String>,
    /// Whether it shares its node's network: its traffic is the node's then.
    pub host_network: bool,
    /// Its phase.
    pub phase: Phase,
    /// Whether its deletion was asked for.
    pub terminating: bool,
    /// Its addresses: as its status says at most one per family, as its interfaces say any number.
    pub addresses: Vec<IpAddr>,
    /// The ports of its containers and restartable init containers, in that order. Pods may share them.
    pub ports: Arc<[ContainerPort]>,
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerPort {
    /// Its name, if it has one.
    pub name: Option<PortName>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

impl Pod {
    /// Whether the pod is on the network as itself: it has not ended, as far as can be known, and does not hide behind its
    /// node.
    pub fn is_on_pod_network(&self) -> bool {
        let is_there = self.presence != Presence::Listed || !self.phase.is_terminal();
        !self.host_network && is_there
    }

    /// Whether rules may find it as a peer.
    pub fn is_peer(&self) -> bool {
        self.is_on_pod_network() && self.presence != Presence::Orphaned
    }

    /// The numbers of the port with this name and protocol: none, or one per container that declares it.
    pub fn numbers_of<'a>(
        &'a self,
        name: &'a str,
        protocol: Protocol,
    ) -> impl Iterator<Item = u16> + 'a {
        self.ports
            .iter()
            .filter(move |port| port.protocol == protocol && port.name.as_deref() == Some(name))
            .map(|port| port.port)
    }

    /// The address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses
            .iter()
            .copied()
            .find(|address| Family::of(*address) == family)
    }
}

impl Named<String> for Namespace {
    fn name(&self) -> &String {
        &self.name
    }
}

impl Named<String> for Node {
    fn name(&self) -> &String {
        &self.name
    }
}

impl Named<NamespacedName> for Pod {
    fn name(&self) -> &NamespacedName {
        &self.id
    }
}
