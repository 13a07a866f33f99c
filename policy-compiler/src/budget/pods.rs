//! Pods by what policies can tell of them, so that those that look alike are asked once.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Cluster, LabelSelector, Labels, NamespaceScope, NamespacedName, Peer, Pod, Protocol,
};

/// A port that a pod declares, if it has a name.
pub(super) type NamedPort<'a> = (&'a str, Protocol, u16);

/// Pods of a node that have the same labels and named ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LocalPod<'a> {
    pub(super) labels: &'a Labels,
    pub(super) ports: BTreeSet<NamedPort<'a>>,
}

impl<'a> LocalPod<'a> {
    fn new(pod: &'a Pod) -> Self {
        Self {
            labels: &pod.labels,
            ports: named_ports(pod).collect(),
        }
    }
}

/// The pods of nodes, by node and namespace.
pub(super) struct LocalPods<'a>(BTreeMap<(&'a str, &'a str), BTreeSet<LocalPod<'a>>>);

impl<'a> LocalPods<'a> {
    /// Of one node, or of all.
    pub(super) fn new(cluster: &'a Cluster, only: Option<&str>) -> Self {
        let mut by_node: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for pod in cluster.pods.values().filter(|pod| pod.is_on_pod_network()) {
            let Some(node) = pod.node.as_deref() else {
                continue;
            };
            let wanted = only.is_none_or(|only| only == node);
            if wanted && cluster.addresses_of(pod).next().is_some() {
                let pods = by_node
                    .entry((node, pod.id.namespace.as_str()))
                    .or_default();
                pods.insert(LocalPod::new(pod));
            }
        }
        Self(by_node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, &BTreeSet<LocalPod<'a>>)> {
        let pods = self.0.iter();
        pods.map(|((node, namespace), pods)| (*node, *namespace, pods))
    }
}

/// The pods of one node in one namespace.
pub(super) fn local_pods_in<'a>(
    cluster: &'a Cluster,
    node: &str,
    namespace: &str,
) -> BTreeSet<LocalPod<'a>> {
    let pods = cluster.pods_in(namespace).filter(|pod| {
        let is_local = pod.is_on_pod_network() && pod.node.as_deref() == Some(node);
        is_local && cluster.addresses_of(pod).next().is_some()
    });
    pods.map(LocalPod::new).collect()
}

fn named_ports(pod: &Pod) -> impl Iterator<Item = NamedPort<'_>> {
    let ports = pod.ports.iter();
    ports.filter_map(|port| Some((port.name.as_deref()?, port.protocol, port.port)))
}

/// What is known of all pods with the same labels in a namespace.
#[derive(Default)]
struct Group<'a> {
    addresses: usize,
    /// Addresses, for each number that a pod has behind the name.
    named_ports: BTreeMap<(&'a str, Protocol), usize>,
}

/// A set by what it holds: the pods of a peer, or their ports of a name.
pub(crate) type SetKey<'a> = (Option<&'a Peer>, Option<(&'a str, Protocol)>);

/// The sizes of sets, each found out once for all namespaces and nodes.
pub(crate) struct Sets<'a> {
    cluster: &'a Cluster,
    /// What somebody knows without a look at the cluster.
    sizes: &'a dyn Fn(SetKey<'_>) -> Option<Found>,
    /// Namespaces that have pods; none before somebody asks for a set that is not known.
    pods: Option<Namespaces<'a>>,
    known: BTreeMap<SetKey<'a>, Found>,
}

/// The pods of namespaces; none before a peer selects in it.
type Namespaces<'a> = BTreeMap<&'a str, Option<BTreeMap<&'a Labels, Group<'a>>>>;

/// How many elements a set needs, and how many comparisons it takes to find out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    pub(crate) elements: usize,
    pub(crate) steps: usize,
}

impl<'a> Sets<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        Self::with_sizes(cluster, &|_| None)
    }

    /// With sizes that somebody knows.
    pub(crate) fn with_sizes(
        cluster: &'a Cluster,
        sizes: &'a dyn Fn(SetKey<'_>) -> Option<Found>,
    ) -> Self {
        Self {
            cluster,
            sizes,
            pods: None,
            known: BTreeMap::new(),
        }
    }

    /// What was found out.
    pub(crate) fn found(&self) -> impl Iterator<Item = (SetKey<'a>, Found)> {
        self.known.iter().map(|(key, found)| (*key, *found))
    }

    /// The size of a set. Stops when it took more than `most` steps.
    pub(super) fn find(&mut self, key: SetKey<'a>, most: usize) -> Found {
        if let Some(found) = self.known.get(&key) {
            return *found;
        }
        let found = (self.sizes)(key).unwrap_or_else(|| self.count(key, most));
        if found.steps <= most {
            self.known.insert(key, found);
        }
        found
    }

    /// A block's named ports are counted for all pods.
    fn count(&mut self, (peer, port): SetKey<'_>, most: usize) -> Found {
        let (scope, selector) = match (peer, port) {
            (Some(Peer::Block(block)), None) => {
                return Found {
                    // Each except can cut one range in two.
                    elements: 1 + block.except().len(),
                    steps: 1,
                };
            }
            (Some(Peer::Pods { namespaces, pods }), _) => (Some(namespaces), Some(pods)),
            (Some(Peer::Block(_)) | None, _) => (None, None),
        };
        let mut found = Found::default();
        let cluster = self.cluster;
        let pods = self.pods.get_or_insert_with(|| namespaces(cluster));
        for (namespace, groups) in pods {
            found.steps += scope.map_or(1, scope_steps);
            if found.steps > most {
                return found;
            }
            if !scope.is_none_or(|scope| is_in(cluster, namespace, scope)) {
                continue;
            }
            let groups = groups.get_or_insert_with(|| groups_of(cluster, namespace));
            for (labels, group) in groups {
                found.steps += selector.map_or(1, steps);
                if found.steps > most {
                    return found;
                }
                if selector.is_none_or(|selector| selector.matches(labels)) {
                    found.elements += match port {
                        Some(port) => group.named_ports.get(&port).copied().unwrap_or_default(),
                        None => group.addresses,
                    };
                }
            }
        }
        found
    }
}

/// Found by their first pods: most clusters have many more pods than namespaces.
fn namespaces(cluster: &Cluster) -> Namespaces<'_> {
    let mut namespaces = Namespaces::new();
    let mut from = NamespacedName::new("", "");
    while let Some((id, _)) = cluster.pods.range(from..).next() {
        namespaces.insert(&id.namespace, None);
        // No name comes between.
        from = NamespacedName::new(format!("{}\0", id.namespace), "");
    }
    namespaces
}

fn is_in(cluster: &Cluster, namespace: &str, scope: &NamespaceScope) -> bool {
    match scope {
        NamespaceScope::Own(own) => own == namespace,
        NamespaceScope::Matching(selector) => cluster
            .namespace_labels(namespace)
            .is_some_and(|labels| selector.matches(labels)),
    }
}

fn groups_of<'a>(cluster: &'a Cluster, namespace: &str) -> BTreeMap<&'a Labels, Group<'a>> {
    let mut groups: BTreeMap<_, Group<'_>> = BTreeMap::new();
    let pods = cluster.pods_in(namespace);
    for pod in pods.filter(|pod| pod.is_peer()) {
        let addresses = cluster.addresses_of(pod).count();
        if addresses > 0 {
            let group = groups.entry(pod.labels.as_ref()).or_default();
            group.addresses += addresses;
            // A number that two containers have behind the name is one.
            let ports: BTreeSet<_> = named_ports(pod).collect();
            for (name, protocol, _) in ports {
                *group.named_ports.entry((name, protocol)).or_default() += addresses;
            }
        }
    }
    groups
}

fn scope_steps(scope: &NamespaceScope) -> usize {
    match scope {
        NamespaceScope::Own(_) => 1,
        NamespaceScope::Matching(selector) => steps(selector),
    }
}

/// How many comparisons it takes to match a selector.
pub(super) fn steps(selector: &LabelSelector) -> usize {
    selector.requirements().count().max(1)
}
