//! Names of groups of ends, by workload.

mod address;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::model::{AddressRanges, Cluster, IpBlock, NamespacedName, Owner};
use policy_compiler::reach::{Group, Outside};

pub(crate) use self::address::name as addresses;
use crate::source::ObjectRef;

/// All ends of a comparison or a table, and the workloads of their pods.
pub struct Ends<'a> {
    workloads: &'a BTreeMap<NamespacedName, ObjectRef>,
    /// The pods of each namespace, by workload or by their own name.
    pods: BTreeMap<&'a str, BTreeMap<String, usize>>,
    nodes: usize,
    outside: usize,
    /// The ipBlocks that divide the outside addresses.
    blocks: Vec<IpBlock>,
}

impl<'a> Ends<'a> {
    /// Of these groups.
    pub fn new(groups: &'a [Group], workloads: &'a BTreeMap<NamespacedName, ObjectRef>) -> Self {
        let mut ends = Self {
            workloads,
            pods: BTreeMap::new(),
            nodes: 0,
            outside: 0,
            blocks: Vec::new(),
        };
        for group in groups {
            match group {
                Group::Pods(pods) => {
                    for id in pods {
                        let name = ends.workload(id);
                        let namespace = ends.pods.entry(&id.namespace).or_default();
                        *namespace.entry(name).or_default() += 1;
                    }
                }
                Group::Nodes(nodes) => ends.nodes += nodes.len(),
                Group::Outside(outside) => {
                    ends.outside += 1;
                    ends.blocks.extend(outside.blocks.iter().cloned());
                }
            }
        }
        ends.blocks.sort_unstable();
        ends.blocks.dedup();
        ends
    }

    fn workload(&self, id: &NamespacedName) -> String {
        let workload = self.workloads.get(id);
        let name = workload.and_then(|workload| workload.name.clone());
        name.unwrap_or_else(|| id.name.clone())
    }

    /// Names that together stand for the groups: `shop/web (14 pods)`, `shop/web (3 of 14 pods)`,
    /// `every pod of shop (20)`, `node n1`, `every outside address`.
    pub fn names(&self, groups: &[Group]) -> Vec<String> {
        let mut pods: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
        let mut nodes: Vec<&str> = Vec::new();
        let mut outside: Vec<&Outside> = Vec::new();
        for group in groups {
            match group {
                Group::Pods(ids) => {
                    for id in ids {
                        let namespace = pods.entry(&id.namespace).or_default();
                        *namespace.entry(self.workload(id)).or_default() += 1;
                    }
                }
                Group::Nodes(names) => nodes.extend(names.iter().map(String::as_str)),
                Group::Outside(group) => outside.push(group),
            }
        }
        let mut names = Vec::new();
        for (namespace, workloads) in &pods {
            names.extend(self.names_in(namespace, workloads));
        }
        if nodes.len() == self.nodes && nodes.len() > 1 {
            names.push(format!("every node ({})", nodes.len()));
        } else {
            names.extend(nodes.iter().map(|node| format!("node {node}")));
        }
        if outside.len() == self.outside && outside.len() > 1 {
            names.push("every outside address".to_owned());
        } else {
            names.extend(
                outside
                    .into_iter()
                    .map(|outside| self.outside_name(outside)),
            );
        }
        names
    }

    fn outside_name(&self, outside: &Outside) -> String {
        if outside.blocks.is_empty() {
            "any other address".to_owned()
        } else {
            addresses(&outside.addresses, &self.blocks)
        }
    }

    fn names_in(&self, namespace: &str, workloads: &BTreeMap<String, usize>) -> Vec<String> {
        let all = self.pods.get(namespace);
        if all == Some(workloads) && workloads.len() > 1 {
            let count: usize = workloads.values().sum();
            return vec![format!("every pod of {namespace} ({count})")];
        }
        let name = |(workload, count): (&String, &usize)| {
            let total = all.and_then(|all| all.get(workload)).unwrap_or(count);
            match (*count, *total) {
                (1, 1) => format!("{namespace}/{workload}"),
                (count, total) if count == total => {
                    format!("{namespace}/{workload} ({count} pods)")
                }
                (count, total) => format!("{namespace}/{workload} ({count} of {total} pods)"),
            }
        };
        workloads.iter().map(name).collect()
    }
}

/// Whose an address is, as `picket explain` takes it.
pub fn asked_name(cluster: &Cluster, address: IpAddr) -> String {
    match cluster.owner(address) {
        Owner::Pod(pod) => pod.id.to_string(),
        Owner::Node(node) => format!("node/{node}"),
        Owner::External => address.to_string(),
    }
}

/// The nodes of groups, in order.
pub fn nodes_of(groups: &[Group]) -> BTreeSet<String> {
    let nodes = groups.iter().filter_map(|group| match group {
        Group::Nodes(nodes) => Some(nodes),
        Group::Pods(_) | Group::Outside(_) => None,
    });
    nodes.flatten().cloned().collect()
}

/// The outside addresses of groups.
pub fn addresses_of(groups: &[Group]) -> AddressRanges {
    let addresses = groups.iter().filter_map(|group| match group {
        Group::Outside(outside) => Some(&outside.addresses),
        Group::Pods(_) | Group::Nodes(_) => None,
    });
    addresses.flat_map(AddressRanges::iter).copied().collect()
}

/// The pods of groups, in order.
pub fn pods_of(groups: &[Group]) -> BTreeSet<NamespacedName> {
    let pods = groups.iter().filter_map(|group| match group {
        Group::Pods(pods) => Some(pods),
        Group::Nodes(_) | Group::Outside(_) => None,
    });
    pods.flatten().cloned().collect()
}
