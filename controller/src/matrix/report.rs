//! The matrix as a value: what `picket matrix -o json` prints, and what text and page are made of.

use std::collections::BTreeMap;

use policy_compiler::evaluate::NodeEgress;
use policy_compiler::model::{Cluster, Family, NamespacedName};
use policy_compiler::reach::{Allowed, Side};
use schemars::JsonSchema;
use serde::Serialize;

use super::fold::{Folded, Passage, fold};
use super::label::Labels;
use crate::flow::FamilyName;
use crate::source::ObjectRef;

/// Who reaches whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    /// Whether pods that are isolated for egress may reach their own node.
    pub node_egress: NodeEgressReport,
    /// The only port that was asked about, `TCP 5432` or `ICMP`; absent if all were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Ends that reach others, and that others reach. Pods by namespace and name, then nodes, then outside addresses.
    pub ends: Vec<End>,
    /// What may pass, by source and destination in the order of `ends`. There is no cell between two ends of which
    /// none is a pod, for no policy has a say there; nor from a pod to itself, which is always allowed.
    pub cells: Vec<Cell>,
    /// Pods that are in no end, and why; sentences.
    pub notes: Vec<String>,
}

/// Own-node egress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeEgressReport {
    /// Always allowed.
    Allow,
    /// As policies say.
    Policy,
}

/// Pods, nodes or addresses that no cell tells apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct End {
    /// What it is called, `shop/web (12 pods)`; unique.
    pub name: String,
    /// What it is.
    pub kind: EndKind,
    /// The namespace of pods; absent for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The workloads of the pods, by name; empty for pods of none and for others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadPods>,
    /// Pods as `NAMESPACE/NAME`, nodes by name, addresses as networks or `FIRST-LAST`; in order. Empty: every address
    /// that is not of another end.
    pub members: Vec<String>,
}

/// What an end consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndKind {
    /// Pods of one namespace.
    Pods,
    /// Nodes, and the hostNetwork pods on them. As seen by pods of other nodes, if there are any.
    Nodes,
    /// Addresses that are nobody's in the cluster.
    Outside,
}

/// How much of a workload an end has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WorkloadPods {
    /// `Deployment`, say.
    pub kind: String,
    /// Its name; the namespace is the end's.
    pub name: String,
    /// How many of its pods are in this end.
    pub pods: usize,
    /// How many pods it has.
    pub of: usize,
}

/// What may pass from one end to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Cell {
    /// The name of the source.
    pub from: String,
    /// The name of the destination.
    pub to: String,
    /// In a word.
    pub verdict: CellVerdict,
    /// What may pass and why: one entry if it is the same for all families that both ends have, else one per family.
    pub ways: Vec<FamilyWay>,
    /// The positions of source and destination in `ends`.
    #[serde(skip)]
    pub position: (usize, usize),
}

/// A cell in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CellVerdict {
    /// Everything that was asked about may pass.
    Allow,
    /// Some ports may, or some families.
    Some,
    /// Nothing may.
    Deny,
    /// The ends have no address family in common.
    NoFamily,
}

/// What may pass over some families.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FamilyWay {
    /// Over which.
    pub families: Vec<FamilyName>,
    /// What both sides allow, `{"TCP": ["80", "443-445"], "ICMP": true}`: no key, nothing of that protocol. `ICMP`
    /// stands for every protocol without ports too.
    pub allowed: Allowed,
    /// The source's side.
    pub egress: Side,
    /// The destination's side.
    pub ingress: Side,
}

/// The matrix of a cluster. `workloads` says what each pod belongs to.
pub fn report(
    cluster: &Cluster,
    workloads: &BTreeMap<NamespacedName, ObjectRef>,
    node_egress: NodeEgress,
) -> Report {
    let folded = fold(cluster, node_egress);
    let described = Labels::new(cluster, workloads, &folded.ends).describe(&folded.ends);
    let mut order: Vec<usize> = (0..described.len()).collect();
    order.sort_by_key(|end| {
        let end = &described[*end];
        // What is not named comes last.
        (end.kind as u8, end.members.is_empty(), &end.name)
    });
    // Addresses of a family that no pod has.
    order.retain(|end| {
        let reached = |from: usize, to: usize| {
            !matches!(
                folded.cells[from][to],
                Passage::NoPod | Passage::Ways([None, None])
            )
        };
        described[*end].kind == EndKind::Pods
            || (0..described.len()).any(|other| reached(*end, other))
    });
    let mut cells = Vec::new();
    for (row, from) in order.iter().enumerate() {
        for (column, to) in order.iter().enumerate() {
            let Passage::Ways(by_family) = folded.cells[*from][*to] else {
                continue;
            };
            let ways = family_ways(&folded, by_family);
            cells.push(Cell {
                from: described[*from].name.clone(),
                to: described[*to].name.clone(),
                verdict: verdict(&ways, Allowed::is_everything),
                ways,
                position: (row, column),
            });
        }
    }
    Report {
        node_egress: match node_egress {
            NodeEgress::Allow => NodeEgressReport::Allow,
            NodeEgress::Policy => NodeEgressReport::Policy,
        },
        port: None,
        ends: order.iter().map(|end| described[*end].clone()).collect(),
        cells,
        notes: notes(cluster),
    }
}

fn family_ways(folded: &Folded, by_family: [Option<usize>; 2]) -> Vec<FamilyWay> {
    let mut ways: Vec<(usize, Vec<FamilyName>)> = Vec::new();
    for (family, way) in Family::ALL.into_iter().zip(by_family) {
        let family = match family {
            Family::Ipv4 => FamilyName::Ipv4,
            Family::Ipv6 => FamilyName::Ipv6,
        };
        match way {
            Some(way) if ways.last().is_some_and(|(known, _)| *known == way) => {
                if let Some((_, families)) = ways.last_mut() {
                    families.push(family);
                }
            }
            Some(way) => ways.push((way, vec![family])),
            None => {}
        }
    }
    let ways = ways.into_iter().map(|(way, families)| {
        let way = &folded.ways[way];
        FamilyWay {
            families,
            allowed: way.allowed.clone(),
            egress: way.egress.clone(),
            ingress: way.ingress.clone(),
        }
    });
    ways.collect()
}

/// `is_all` says whether everything that was asked about is allowed.
pub(super) fn verdict(ways: &[FamilyWay], is_all: impl Fn(&Allowed) -> bool) -> CellVerdict {
    if ways.is_empty() {
        CellVerdict::NoFamily
    } else if ways.iter().all(|way| is_all(&way.allowed)) {
        CellVerdict::Allow
    } else if ways.iter().all(|way| way.allowed.is_nothing()) {
        CellVerdict::Deny
    } else {
        CellVerdict::Some
    }
}

/// Pods without an end of their own.
fn notes(cluster: &Cluster) -> Vec<String> {
    let (mut ended, mut on_host, mut without) = (Vec::new(), Vec::new(), Vec::new());
    for pod in cluster.pods.values() {
        if pod.phase.is_terminal() {
            ended.push(pod.id.to_string());
        } else if pod.host_network {
            on_host.push(pod.id.to_string());
        } else if cluster.addresses_of(pod).next().is_none() {
            without.push(pod.id.to_string());
        }
    }
    let kinds = [
        (
            ended,
            "has ended and is nobody",
            "have ended and are nobody",
        ),
        (
            on_host,
            "has its node's network and counts as the node",
            "have their node's network and count as the node",
        ),
        (
            without,
            "has no address of its own",
            "have no address of their own",
        ),
    ];
    let of_kind = |(pods, one, many): (Vec<String>, &str, &str)| match pods.as_slice() {
        [] => None,
        [pod] => Some(format!("{pod} {one}.")),
        [first, second] => Some(format!("{first} and {second} {many}.")),
        [first, second, ..] => Some(format!(
            "{} pods {many}: {first}, {second} and {} more.",
            pods.len(),
            pods.len() - 2
        )),
    };
    kinds.into_iter().filter_map(of_kind).collect()
}
