//! The state of a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Labels, Namespace, NamespacedName, NetworkPolicy, Node, Pod, PolicyId};

/// The objects of a cluster, and whose each address is.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Namespaces by name. A pod whose namespace is absent matches no namespace selector.
    pub namespaces: BTreeMap<String, Namespace>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// Pods.
    pub pods: BTreeMap<NamespacedName, Pod>,
    /// NetworkPolicies.
    pub policies: BTreeMap<PolicyId, NetworkPolicy>,
    owners: BTreeMap<IpAddr, OwnerKey>,
    /// Addresses that more than one object claims. There are few, and of others nobody has to look up the owner.
    contested: BTreeSet<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum OwnerKey {
    Node(String),
    Pod(NamespacedName),
}

/// Whose an address is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// A node's, or that of a hostNetwork pod on it.
    Node(&'a str),
    /// A pod's.
    Pod(&'a Pod),
    /// Nobody's in the cluster.
    External,
}

impl Cluster {
    /// The cluster of these objects. A later object replaces an earlier one of its name.
    pub fn new(
        namespaces: impl IntoIterator<Item = Namespace>,
        nodes: impl IntoIterator<Item = Node>,
        pods: impl IntoIterator<Item = Pod>,
        policies: impl IntoIterator<Item = NetworkPolicy>,
    ) -> Self {
        let mut cluster = Self {
            namespaces: namespaces
                .into_iter()
                .map(|namespace| (namespace.name.clone(), namespace))
                .collect(),
            nodes: nodes
                .into_iter()
                .map(|node| (node.name.clone(), node))
                .collect(),
            pods: pods.into_iter().map(|pod| (pod.id.clone(), pod)).collect(),
            policies: policies
                .into_iter()
                .map(|policy| (policy.id.clone(), policy))
                .collect(),
            owners: BTreeMap::new(),
            contested: BTreeSet::new(),
        };
        (cluster.owners, cluster.contested) = owners(&cluster);
        cluster
    }

    /// Whose the address is. Of several live pods that claim one address, one owns it: a pod that is not being
    /// deleted before one that is, a running one before others, then by name. A node's address is the node's.
    pub fn owner(&self, address: IpAddr) -> Owner<'_> {
        match self.owners.get(&address) {
            Some(OwnerKey::Node(name)) => Owner::Node(name),
            Some(OwnerKey::Pod(id)) => self.pods.get(id).map_or(Owner::External, Owner::Pod),
            None => Owner::External,
        }
    }

    /// The addresses that a pod of the cluster owns, in order of family.
    pub fn addresses_of<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = IpAddr> + 'a {
        let mut addresses: Vec<_> = self.owned_by(pod).collect();
        addresses.sort_unstable();
        addresses.into_iter()
    }

    /// As [`Cluster::addresses_of`], in the order of the pod's object.
    pub(crate) fn owned_by<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = IpAddr> + 'a {
        let owns = |address: &IpAddr| match self.contested.contains(address) {
            true => matches!(self.owner(*address), Owner::Pod(owner) if owner.id == pod.id),
            false => pod.is_on_pod_network(),
        };
        pod.addresses.iter().copied().filter(owns)
    }

    /// The policies of a namespace, in order.
    pub fn policies_in(&self, namespace: &str) -> impl Iterator<Item = &NetworkPolicy> + use<'_> {
        let namespace = namespace.to_owned();
        let from = NamespacedName::new(namespace.clone(), "");
        let policies = self.policies.range(from..).map(|(_, policy)| policy);
        policies.take_while(move |policy| policy.id.namespace == namespace)
    }

    /// The labels of a namespace, if it is known.
    pub fn namespace_labels(&self, name: &str) -> Option<&Labels> {
        self.namespaces.get(name).map(|namespace| &namespace.labels)
    }
}

/// Whose each address is, and which addresses more than one object claims.
fn owners(cluster: &Cluster) -> (BTreeMap<IpAddr, OwnerKey>, BTreeSet<IpAddr>) {
    let mut owners = BTreeMap::new();
    let mut contested = BTreeSet::new();
    let mut claim = |address: IpAddr, owner| {
        if owners.insert(address, owner).is_some() {
            contested.insert(address);
        }
    };
    let mut pods: Vec<_> = cluster
        .pods
        .values()
        .filter(|pod| pod.is_on_pod_network())
        .collect();
    // The best claim comes last and stays.
    pods.sort_by_key(|pod| std::cmp::Reverse((pod.terminating, pod.phase, &pod.id)));
    for pod in pods {
        for address in &pod.addresses {
            claim(*address, OwnerKey::Pod(pod.id.clone()));
        }
    }
    for pod in cluster.pods.values().filter(|pod| pod.host_network) {
        // A hostNetwork pod has its node's addresses, also those that the Node object does not list.
        if let Some(node) = pod.node.as_ref().filter(|_| !pod.phase.is_terminal()) {
            for address in &pod.addresses {
                claim(*address, OwnerKey::Node(node.clone()));
            }
        }
    }
    for node in cluster.nodes.values() {
        for address in &node.addresses {
            claim(*address, OwnerKey::Node(node.name.clone()));
        }
    }
    (owners, contested)
}
