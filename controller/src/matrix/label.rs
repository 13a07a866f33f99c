//! What an end is called: by workloads rather than pods.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::model::{AddressRanges, Cluster, IpBlock, NamespacedName};
use policy_compiler::reach::Group;

use super::report::{End, EndKind, WorkloadPods};
use crate::ends::addresses;
use crate::source::{ObjectRef, OneLine};

/// More names than this are only counted.
const SHOWN: usize = 3;

/// What is needed to name ends.
pub(super) struct Labels<'a> {
    workloads: &'a BTreeMap<NamespacedName, ObjectRef>,
    /// How many pods of each workload are an end of packets.
    sizes: BTreeMap<&'a ObjectRef, usize>,
    blocks: Vec<IpBlock>,
}

impl<'a> Labels<'a> {
    pub(super) fn new(
        cluster: &Cluster,
        workloads: &'a BTreeMap<NamespacedName, ObjectRef>,
        ends: &[Vec<Group>],
    ) -> Self {
        let mut sizes = BTreeMap::new();
        for (pod, workload) in workloads {
            let pod = cluster.pods.get(pod);
            if pod.is_some_and(|pod| cluster.addresses_of(pod).next().is_some()) {
                *sizes.entry(workload).or_default() += 1;
            }
        }
        let outside = ends.iter().flatten().filter_map(|group| match group {
            Group::Outside(outside) => Some(&outside.blocks),
            _ => None,
        });
        let blocks: BTreeSet<IpBlock> = outside.flatten().cloned().collect();
        Self {
            workloads,
            sizes,
            blocks: blocks.into_iter().collect(),
        }
    }

    /// Describes each end. Names are unique.
    pub(super) fn describe(&self, ends: &[Vec<Group>]) -> Vec<End> {
        let mut described: Vec<End> = ends.iter().map(|groups| self.end(groups)).collect();
        let mut holders: BTreeMap<String, usize> = BTreeMap::new();
        for end in &described {
            *holders.entry(end.name.clone()).or_default() += 1;
        }
        for end in &mut described {
            // No two ends have a pod in common.
            if holders[&end.name] > 1
                && let Some(member) = end.members.first()
            {
                end.name = format!("{} with {member}", end.name);
            }
        }
        described
    }

    fn end(&self, groups: &[Group]) -> End {
        let mut pods = Vec::new();
        let mut nodes = Vec::new();
        let mut ranges = Vec::new();
        let mut is_rest = false;
        for group in groups {
            match group {
                Group::Pods(members) => pods.extend(members.iter().cloned()),
                Group::Nodes(members) => nodes.extend(members.iter().cloned()),
                Group::Outside(outside) => {
                    is_rest |= outside.blocks.is_empty();
                    ranges.extend(outside.addresses.iter().copied());
                }
            }
        }
        pods.sort_unstable();
        nodes.sort_unstable();
        if let Some(first) = pods.first() {
            return self.pods(first.namespace.clone(), &pods);
        }
        let plain = |kind, name, members| End {
            name,
            kind,
            namespace: None,
            workloads: Vec::new(),
            members,
        };
        if !nodes.is_empty() {
            let name = match nodes.as_slice() {
                [node] => format!("node {node}"),
                _ => format!("nodes {}", shown(&nodes)),
            };
            return plain(EndKind::Nodes, name, nodes);
        }
        if is_rest {
            let name = "any other address".to_owned();
            return plain(EndKind::Outside, name, Vec::new());
        }
        let ranges: AddressRanges = ranges.into_iter().collect();
        let members = ranges.iter().map(ToString::to_string).collect();
        let name = addresses(&ranges, &self.blocks);
        plain(EndKind::Outside, name, members)
    }

    fn pods(&self, namespace: String, pods: &[NamespacedName]) -> End {
        let mut counts: BTreeMap<&ObjectRef, usize> = BTreeMap::new();
        let mut alone = Vec::new();
        for pod in pods {
            match self.workloads.get(pod) {
                Some(workload) => *counts.entry(workload).or_default() += 1,
                None => alone.push(pod.name.clone()),
            }
        }
        let mut workloads: Vec<WorkloadPods> = counts
            .into_iter()
            .map(|(workload, pods)| WorkloadPods {
                kind: workload.kind.clone(),
                name: workload.name.clone().unwrap_or_default(),
                pods,
                of: self.sizes.get(workload).copied().unwrap_or(pods),
            })
            .collect();
        workloads.sort_by(|a, b| (&a.name, &a.kind).cmp(&(&b.name, &b.kind)));
        // Nobody checks the names of owners.
        let plain = |workload: &WorkloadPods| OneLine(&workload.name).to_string();
        let named = match (workloads.as_slice(), alone.as_slice()) {
            ([one], []) if one.pods < one.of => {
                format!("{} ({} of {} pods)", plain(one), one.pods, one.of)
            }
            ([one], []) if one.pods > 1 => format!("{} ({} pods)", plain(one), one.pods),
            ([one], []) => plain(one),
            ([], [one]) => one.clone(),
            _ => {
                let names = workloads.iter().map(|workload| {
                    if workload.pods < workload.of {
                        format!("{} ({} of {})", plain(workload), workload.pods, workload.of)
                    } else {
                        plain(workload)
                    }
                });
                let names: Vec<String> = names.chain(alone).collect();
                format!("{} ({} pods)", shown(&names), pods.len())
            }
        };
        End {
            name: format!("{namespace}/{named}"),
            kind: EndKind::Pods,
            namespace: Some(namespace),
            workloads,
            members: pods.iter().map(ToString::to_string).collect(),
        }
    }
}

fn shown(names: &[String]) -> String {
    match names.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}
