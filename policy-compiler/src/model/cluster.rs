//! The state of a cluster.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::{
    Labels, Namespace, NamespacedName, NetworkPolicy, Node, Objects, Pod, PolicyId, Presence,
};

/// The objects of a cluster, and whose each address is.
///
/// Copies share what is the same in them, so that a copy is cheap. Objects come and go by the methods, which keep the
/// owners of addresses.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Namespaces by name. A pod whose namespace is absent matches no namespace selector.
    pub namespaces: Objects<String, Namespace>,
    /// Nodes by name.
    pub nodes: Objects<String, Node>,
    /// Pods.
    pub pods: Objects<NamespacedName, Pod>,
    /// NetworkPolicies.
    pub policies: Objects<PolicyId, NetworkPolicy>,
    /// The best claim on each address.
    owners: OrdMap<IpAddr, Claim>,
    /// All claims on the addresses that more than one object claims, the best first. There are few.
    contested: OrdMap<IpAddr, Vec<Claim>>,
}

/// An object that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Claim {
    Node(Arc<Node>),
    /// A hostNetwork pod has its node's addresses, also those that the Node object does not list.
    Host(Arc<Pod>),
    Pod(Arc<Pod>),
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
        let mut cluster = Self::default();
        namespaces
            .into_iter()
            .for_each(|namespace| cluster.add_namespace(namespace));
        nodes.into_iter().for_each(|node| cluster.add_node(node));
        pods.into_iter().for_each(|pod| cluster.add_pod(pod));
        policies
            .into_iter()
            .for_each(|policy| cluster.add_policy(policy));
        cluster
    }

    /// Adds the namespace, in place of another of its name.
    pub fn add_namespace(&mut self, namespace: impl Into<Arc<Namespace>>) {
        let namespace = namespace.into();
        self.namespaces.insert(namespace);
    }

    /// Adds the node, in place of another of its name.
    pub fn add_node(&mut self, node: impl Into<Arc<Node>>) {
        let node = node.into();
        self.remove_node(&node.name);
        self.nodes.insert(Arc::clone(&node));
        for address in &node.addresses {
            self.claim(*address, Claim::Node(Arc::clone(&node)));
        }
    }

    /// Adds the pod, in place of another of its name.
    pub fn add_pod(&mut self, pod: impl Into<Arc<Pod>>) {
        let pod = pod.into();
        self.remove_pod(&pod.id);
        self.pods.insert(Arc::clone(&pod));
        if let Some(claim) = Claim::of(&pod) {
            for address in &pod.addresses {
                self.claim(*address, claim.clone());
            }
        }
    }

    /// Adds the policy, in place of another of its name.
    pub fn add_policy(&mut self, policy: impl Into<Arc<NetworkPolicy>>) {
        let policy = policy.into();
        self.policies.insert(policy);
    }

    /// Removes the namespace of this name, not what is in it.
    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// Removes the node of this name, not its pods.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(node) = self.nodes.remove(name) {
            for address in &node.addresses {
                self.release(*address, &Claim::Node(Arc::clone(&node)));
            }
        }
    }

    /// Removes the pod of this name.
    pub fn remove_pod(&mut self, id: &NamespacedName) {
        if let Some(pod) = self.pods.remove(id)
            && let Some(claim) = Claim::of(&pod)
        {
            for address in &pod.addresses {
                self.release(*address, &claim);
            }
        }
    }

    /// Removes the policy of this name.
    pub fn remove_policy(&mut self, id: &PolicyId) {
        self.policies.remove(id);
    }

    fn claim(&mut self, address: IpAddr, claim: Claim) {
        let Some(owner) = self.owners.get(&address) else {
            self.owners.insert(address, claim);
            return;
        };
        // An object that lists the address twice claims it once.
        if owner.rank() == claim.rank() {
            return;
        }
        let mut claims = self.contested.remove(&address);
        let claims = claims.get_or_insert_with(|| vec![owner.clone()]);
        if let Err(index) = claims.binary_search_by(|other| other.rank().cmp(&claim.rank())) {
            claims.insert(index, claim);
        }
        self.decide(address, std::mem::take(claims));
    }

    fn release(&mut self, address: IpAddr, claim: &Claim) {
        match self.contested.remove(&address) {
            Some(mut claims) => {
                claims.retain(|other| other.rank() != claim.rank());
                self.decide(address, claims);
            }
            None => drop(self.owners.remove(&address)),
        }
    }

    fn decide(&mut self, address: IpAddr, claims: Vec<Claim>) {
        if let Some(best) = claims.first() {
            self.owners.insert(address, best.clone());
        }
        if claims.len() > 1 {
            self.contested.insert(address, claims);
        }
    }

    /// Whose the address is. Of several live pods that claim one address, one owns it: a pod of which an interface is
    /// known before one that only says so, one that is not being deleted before one that is, a running one before others, then by name. A node's address is the node's.
    pub fn owner(&self, address: IpAddr) -> Owner<'_> {
        self.owners
            .get(&address)
            .map_or(Owner::External, Claim::owner)
    }

    /// The addresses whose owner is not the same object in both clusters, with the owners in this one and in the
    /// other. What they share takes no time.
    pub fn owner_changes<'a>(
        &'a self,
        other: &'a Cluster,
    ) -> impl Iterator<Item = (IpAddr, Owner<'a>, Owner<'a>)> {
        self.owners.diff(&other.owners).map(|item| match item {
            DiffItem::Add(address, new) => (*address, Owner::External, new.owner()),
            DiffItem::Update { old, new } => (*old.0, old.1.owner(), new.1.owner()),
            DiffItem::Remove(address, old) => (*address, old.owner(), Owner::External),
        })
    }

    /// The addresses that a pod of the cluster owns, in order of family.
    pub fn addresses_of<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = IpAddr> + 'a {
        let mut addresses: Vec<_> = self.owned_by(pod).collect();
        addresses.sort_unstable();
        addresses.into_iter()
    }

    /// As [`Cluster::addresses_of`], in the order of the pod's object.
    pub(crate) fn owned_by<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = IpAddr> + 'a {
        let owns = |address: &IpAddr| match self.contested.contains_key(address) {
            true => matches!(self.owner(*address), Owner::Pod(owner) if owner.id == pod.id),
            false => pod.is_on_pod_network(),
        };
        pod.addresses.iter().copied().filter(owns)
    }

    /// How many addresses belong to somebody.
    pub(crate) fn addresses(&self) -> usize {
        self.owners.len()
    }

    /// The pods of a namespace, in order.
    pub fn pods_in(&self, namespace: &str) -> impl Iterator<Item = &Pod> + use<'_> {
        let namespace = namespace.to_owned();
        let from = NamespacedName::new(namespace.clone(), "");
        let pods = self.pods.range(from..).map(|(_, pod)| pod);
        pods.take_while(move |pod| pod.id.namespace == namespace)
    }

    /// The policies of a namespace, in order.
    pub fn policies_in(&self, namespace: &str) -> impl Iterator<Item = &NetworkPolicy> + use<'_> {
        let namespace = namespace.to_owned();
        let from = NamespacedName::new(namespace.clone(), "");
        let policies = self.policies.range(from..);
        let policies = policies.map(|(_, policy)| policy);
        policies.take_while(move |policy| policy.id.namespace == namespace)
    }

    /// The labels of a namespace, if it is known.
    pub fn namespace_labels(&self, name: &str) -> Option<&Labels> {
        self.namespaces.get(name).map(|namespace| &namespace.labels)
    }
}

/// What orders claims, the best first. No two objects have the same.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank<'a> {
    Node(Reverse<&'a str>),
    Host(Reverse<&'a NamespacedName>),
    Pod(bool, bool, super::Phase, &'a NamespacedName),
}

impl Claim {
    fn of(pod: &Arc<Pod>) -> Option<Self> {
        if pod.is_on_pod_network() {
            Some(Self::Pod(Arc::clone(pod)))
        } else {
            let on_host = pod.host_network && !pod.phase.is_terminal() && pod.node.is_some();
            on_host.then(|| Self::Host(Arc::clone(pod)))
        }
    }

    fn rank(&self) -> Rank<'_> {
        match self {
            Self::Node(node) => Rank::Node(Reverse(&node.name)),
            Self::Host(pod) => Rank::Host(Reverse(&pod.id)),
            Self::Pod(pod) => {
                let is_listed = pod.presence == Presence::Listed;
                Rank::Pod(is_listed, pod.terminating, pod.phase, &pod.id)
            }
        }
    }

    fn owner(&self) -> Owner<'_> {
        match self {
            Self::Node(node) => Owner::Node(&node.name),
            Self::Host(pod) => pod.node.as_deref().map_or(Owner::External, Owner::Node),
            Self::Pod(pod) => Owner::Pod(pod),
        }
    }
}
