//! What a namespace may cost a node, counted before anything is compiled.
//!
//! Rules grow with products: policies with the pods that they select, peers with ports, selectors with the pods of the
//! cluster. A tenant that writes a few megabytes of policies could so take the node's memory and time from everybody.
//! [`check`] counts, for each namespace with pods on the node, what compiling its policies would make and take, and
//! stops at the first limit. What it does itself is in proportion to the objects and to [`Budgets::steps`].
//!
//! A namespace that is over budget is not compiled: its pods keep what was in force, and those for which nothing was
//! are closed ([`compile_closed`](crate::compile::compile_closed)). Nobody else's rules change by a byte.
//!
//! | resource | counted, of the policies that select a pod of the node | exact |
//! |---|---|---|
//! | classes | distinct sets of policies that select a pod, in each direction | yes; an upper bound where a policy names ingress ports by name, since every port that a pod declares tells it from others |
//! | rules | peers, times protocols and egress port names, of all rules; summed over classes; a policy without rules counts as one | upper bound: equal rules of a class, and those of the other address family, are counted too |
//! | ports | peers times entries of `ports` of all rules, summed over classes | upper bound: as for rules, and ports that touch are merged |
//! | ipBlock entries | `cidr`, and each `except`, once for each time that it is written | yes |
//! | elements | for each distinct peer, the addresses of the pods that it selects, or the ranges that its block can be cut into; the same again for classes with so many rules that they are merged | upper bound: excepts that touch are merged; rules of a class that share addresses are counted for each; with [`Merging`]'s default bounds |
//! | steps | comparisons of requirements with labels, and visits of peers and their addresses for each class | upper bound |
//!
//! Both address families are counted together. Pods that share labels count as one where labels are compared.

mod class;
mod count;
mod pods;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use self::count::Count;
use self::pods::LocalPods;
pub(crate) use self::pods::{Found, SetKey, Sets};
use crate::model::{Cluster, NamespacedName, PolicyId};

#[cfg(doc)]
use crate::lower::Merging;

/// How many policies an [`Exceeded`] names.
const BLAMED: usize = 3;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Entries of ipBlocks.
    IpBlockEntries,
    /// Classes of pods.
    Classes,
    /// Rules of all classes.
    Rules,
    /// Ports of all rules.
    Ports,
    /// Elements of sets.
    Elements,
    /// Comparisons.
    Steps,
}

impl Resource {
    /// Every resource, in the order in which limits are checked.
    pub const ALL: [Resource; 6] = [
        Resource::IpBlockEntries,
        Resource::Classes,
        Resource::Rules,
        Resource::Ports,
        Resource::Elements,
        Resource::Steps,
    ];

    /// The name on the command line and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Resource::IpBlockEntries => "ipblock-entries",
            Resource::Classes => "classes",
            Resource::Rules => "rules",
            Resource::Ports => "ports",
            Resource::Elements => "elements",
            Resource::Steps => "steps",
        }
    }

    /// What its tenant can do about it.
    fn remedy(self) -> &'static str {
        match self {
            Resource::IpBlockEntries => "merge CIDRs that touch, and write fewer excepts",
            Resource::Classes => "select pods by labels that more of them share",
            Resource::Rules => "write fewer policies for the same pods, and fewer peers in them",
            Resource::Ports => "write ranges (endPort) in place of single ports",
            Resource::Elements => "select fewer pods as peers, and use fewer ranges of ports",
            Resource::Steps => "write fewer policies and peers, and shorter selectors",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The most that one namespace may need on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Entries of ipBlocks.
    pub ipblock_entries: usize,
    /// Classes.
    pub classes: usize,
    /// Rules.
    pub rules: usize,
    /// Ports.
    pub ports: usize,
    /// Elements of sets.
    pub elements: usize,
    /// Comparisons.
    pub steps: usize,
}

impl Default for Budgets {
    /// Far above what people write, and little enough that one namespace takes at most about a second of a node and
    /// some tens of megabytes of the compiler's memory:
    ///
    /// - 10,000 entries of ipBlocks: with so many intervals in a set the kernel takes 0.3 ms for a change; with
    ///   100,000 it is 20 ms.
    /// - 500 classes: 250 pods, twice what a kubelet takes by default, that all differ in both directions. With
    ///   1,000 chains the kernel takes 0.2 ms to check a new jump; with 5,000 it is 2 ms.
    /// - 20,000 rules and 50,000 ports: some megabytes of the kernel's memory.
    /// - 250,000 elements: half a second to load, and some 25 MB of the kernel's memory.
    /// - 5,000,000 steps of 20 to 100 ns, a few hundred times what a node of a cluster with 100,000 pods needs.
    fn default() -> Self {
        Self {
            ipblock_entries: 10_000,
            classes: 500,
            rules: 20_000,
            ports: 50_000,
            elements: 250_000,
            steps: 5_000_000,
        }
    }
}

impl Budgets {
    /// The limit of a resource.
    pub fn limit(&self, resource: Resource) -> usize {
        match resource {
            Resource::IpBlockEntries => self.ipblock_entries,
            Resource::Classes => self.classes,
            Resource::Rules => self.rules,
            Resource::Ports => self.ports,
            Resource::Elements => self.elements,
            Resource::Steps => self.steps,
        }
    }

    /// Sets the limit of a resource.
    pub fn set(&mut self, resource: Resource, limit: usize) {
        *match resource {
            Resource::IpBlockEntries => &mut self.ipblock_entries,
            Resource::Classes => &mut self.classes,
            Resource::Rules => &mut self.rules,
            Resource::Ports => &mut self.ports,
            Resource::Elements => &mut self.elements,
            Resource::Steps => &mut self.steps,
        } = limit;
    }
}

/// A namespace that is over its budget on a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Exceeded {
    /// The node.
    pub node: String,
    /// The namespace.
    pub namespace: String,
    /// Of what it needs too much. More may be too much: counting stops at the first.
    pub resource: Resource,
    /// The most that it may need.
    pub limit: usize,
    /// What was counted; it may need more.
    pub found: usize,
    /// The policies that need the most of it, the largest first, and how much of what was counted.
    pub policies: Vec<(PolicyId, usize)>,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            namespace,
            resource,
            limit,
            found,
            policies,
        } = self;
        write!(
            f,
            "Namespace {namespace}: its policies need at least {found} {resource} on node {node}, and its budget is {limit}"
        )?;
        for (index, (policy, needed)) in policies.iter().enumerate() {
            let before = if index == 0 { "; most for" } else { "," };
            write!(f, "{before} {policy} ({needed})")?;
        }
        write!(f, ": {}, or raise the budget", resource.remedy())
    }
}

/// The namespaces that are over budget on a node.
pub fn check(cluster: &Cluster, node: &str, budgets: &Budgets) -> BTreeMap<String, Exceeded> {
    let local = LocalPods::new(cluster, Some(node));
    exceeded(cluster, &local, budgets)
        .map(|exceeded| (exceeded.namespace.clone(), exceeded))
        .collect()
}

/// The namespaces that are over budget on any node, in order of nodes and namespaces.
pub fn check_all(cluster: &Cluster, budgets: &Budgets) -> Vec<Exceeded> {
    exceeded(cluster, &LocalPods::new(cluster, None), budgets).collect()
}

/// What was counted of one namespace on a node.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    /// What it needs too much of.
    pub(crate) exceeded: Option<Exceeded>,
    /// So many addresses of pods may come anywhere in the cluster before it may need too much.
    pub(crate) room: usize,
}

/// Counts one namespace.
pub(crate) fn count<'a>(
    cluster: &'a Cluster,
    node: &str,
    namespace: &str,
    budgets: &'a Budgets,
    sets: &mut Sets<'a>,
) -> Counted {
    let pods = pods::local_pods_in(cluster, node, namespace);
    let mut count = Count::new(cluster, namespace, budgets);
    let result = count.run(&pods, sets);
    Counted {
        exceeded: result
            .err()
            .map(|resource| count.exceeded(resource, node, namespace)),
        room: count.room(),
    }
}

fn exceeded<'a>(
    cluster: &'a Cluster,
    local: &'a LocalPods<'a>,
    budgets: &'a Budgets,
) -> impl Iterator<Item = Exceeded> {
    let mut sets = Sets::new(cluster);
    local.iter().filter_map(move |(node, namespace, pods)| {
        let mut count = Count::new(cluster, namespace, budgets);
        let resource = count.run(pods, &mut sets).err()?;
        Some(count.exceeded(resource, node, namespace))
    })
}

/// The pods of a node that are in these namespaces: those to close where nothing was in force before.
pub fn pods_of<'a>(
    cluster: &Cluster,
    node: &str,
    namespaces: impl IntoIterator<Item = &'a String>,
) -> BTreeSet<NamespacedName> {
    let namespaces: BTreeSet<_> = namespaces.into_iter().collect();
    let pods = cluster.pods.values();
    pods.filter(|pod| pod.is_on_pod_network() && pod.node.as_deref() == Some(node))
        .filter(|pod| namespaces.contains(&pod.id.namespace))
        .map(|pod| pod.id.clone())
        .collect()
}
