//! The ends that a policy is tried with.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::model::{
    Cluster, NamespaceScope, NamespacedName, NetworkPolicy, Peer, Peers, Pod,
};

use super::edges;
use crate::flow::End;

/// Pods of each kind that a policy is tried with.
const PODS_OF_A_KIND: usize = 4;

/// Pods that are looked at to find different ones.
const LOOKED_AT: usize = 256;

/// Nodes that a policy is tried with.
const NODES: usize = 2;

/// The pods that can be an end of a flow.
pub(super) struct Ends<'a> {
    cluster: &'a Cluster,
    by_namespace: BTreeMap<&'a str, Vec<&'a Pod>>,
}

impl<'a> Ends<'a> {
    /// Every live pod that has an address.
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        let mut by_namespace: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
        for pod in cluster.pods.values().filter(|pod| !pod.phase.is_terminal()) {
            if pod.host_network || cluster.addresses_of(pod).next().is_some() {
                by_namespace.entry(&pod.id.namespace).or_default().push(pod);
            }
        }
        Self {
            cluster,
            by_namespace,
        }
    }

    /// Leaves only these pods.
    pub(super) fn retain(&mut self, kept: &BTreeSet<NamespacedName>) {
        for pods in self.by_namespace.values_mut() {
            pods.retain(|pod| kept.contains(&pod.id));
        }
    }

    /// All pods, by namespace.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a Pod> {
        self.by_namespace.values().flatten().copied()
    }

    fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &'a Pod> {
        let pods = self.by_namespace.get(namespace);
        pods.into_iter().flatten().copied()
    }

    /// Pods that the policy selects, and one of its namespace that it does not.
    pub(super) fn subjects(&self, policy: &NetworkPolicy) -> Vec<End> {
        let (selected, others): (Vec<_>, Vec<_>) = self
            .in_namespace(&policy.id.namespace)
            .partition(|pod| policy.selector.matches(&pod.labels));
        let mut subjects = spread(&selected);
        subjects.extend(others.first().map(|pod| end(pod)));
        subjects
    }

    /// Ends to try the policy with: pods that match each of its peers and pods that match none, in its namespace
    /// and in others, nodes, and addresses at the edges of its blocks.
    pub(super) fn others(&self, policy: &NetworkPolicy) -> BTreeSet<End> {
        let mut others = BTreeSet::new();
        let peers = edges::rules(policy).flat_map(|rule| match &rule.peers {
            Peers::Any => &[],
            Peers::Of(peers) => peers.as_slice(),
        });
        let mut matched: BTreeSet<&NamespacedName> = BTreeSet::new();
        for peer in peers {
            let matching = self.all().filter(|pod| self.matches(peer, pod));
            let matching: Vec<_> = matching.take(LOOKED_AT).collect();
            matched.extend(matching.iter().map(|pod| &pod.id));
            others.extend(spread(&matching));
        }
        let is_own = |pod: &&Pod| pod.id.namespace == policy.id.namespace;
        let unmatched = |pod: &&Pod| !matched.contains(&pod.id);
        let own = self.all().filter(is_own).filter(unmatched);
        others.extend(spread(&own.take(LOOKED_AT).collect::<Vec<_>>()));
        let foreign = self.all().filter(|pod| !is_own(pod)).filter(unmatched);
        others.extend(spread(&foreign.take(LOOKED_AT).collect::<Vec<_>>()));
        let nodes = self
            .cluster
            .nodes
            .values()
            .filter(|node| !node.addresses.is_empty());
        others.extend(nodes.take(NODES).map(|node| End::Node(node.name.clone())));
        let addresses = edges::addresses(edges::rules(policy));
        others.extend(addresses.into_iter().map(End::Ip));
        others
    }

    /// Whether the peer might mean the pod; only to choose whom to ask about.
    fn matches(&self, peer: &Peer, pod: &Pod) -> bool {
        match peer {
            Peer::Block(block) => pod.addresses.iter().any(|address| block.contains(*address)),
            Peer::Pods { namespaces, pods } => {
                let in_scope = match namespaces {
                    NamespaceScope::Own(own) => *own == pod.id.namespace,
                    NamespaceScope::Matching(selector) => self
                        .cluster
                        .namespace_labels(&pod.id.namespace)
                        .is_some_and(|labels| selector.matches(labels)),
                };
                in_scope && pods.matches(&pod.labels)
            }
        }
    }
}

pub(super) fn end(pod: &Pod) -> End {
    End::Pod(pod.id.clone())
}

/// At most [`PODS_OF_A_KIND`], with different labels and on different nodes if possible: selectors tell pods apart
/// by labels, and rules are made per node.
fn spread(pods: &[&Pod]) -> Vec<End> {
    let mut labels = BTreeSet::new();
    let mut nodes = BTreeSet::new();
    let mut ranked = Vec::with_capacity(pods.len());
    for pod in pods {
        let (new_labels, new_node) = (labels.insert(&pod.labels), nodes.insert(&pod.node));
        ranked.push((!new_labels, !new_node, &pod.id));
    }
    ranked.sort_unstable();
    let chosen = ranked.into_iter().take(PODS_OF_A_KIND);
    chosen.map(|(.., id)| End::Pod(id.clone())).collect()
}
