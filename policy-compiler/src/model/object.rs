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

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Namespace and name.
    pub id: NamespacedName,
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
    /// Its addresses, at most one per family.
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
    /// Whether the pod is on the network as itself: it has not ended, and does not hide behind its node.
    pub fn is_on_pod_network(&self) -> bool {
        !self.host_network && !self.phase.is_terminal()
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
