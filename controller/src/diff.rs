//! What a change of objects opens and closes.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::evaluate::{NodeEgress, Transport};
use policy_compiler::model::{
    AddressRanges, Cluster, Direction, Family, NamespacedName, Owner, Pod, PolicyId, Protocol,
};
use policy_compiler::reach::{
    Allowed, Cause, Change, Effect, Group, Status, changes, groups, isolating, status,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ends::{Ends, addresses_of, asked_name, nodes_of, pods_of};
use crate::source::ObjectRef;

/// The difference between two clusters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    /// Flows that close, then flows that open.
    pub flows: Vec<Flows>,
    /// Pods that are on the pod network of one side only, in order.
    pub pods: Vec<PodChange>,
    /// Policies that are not the same on both sides, in order.
    pub policies: Vec<PolicyChange>,
}

/// Flows whose verdict changes from the same cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Flows {
    /// Whether they open or close.
    pub effect: Effect,
    /// Who opens the connections.
    pub from: Side,
    /// To whom. A single pod that is on both sides is not meant to itself.
    pub to: Side,
    /// Over what.
    pub transports: Allowed,
    /// The family; absent for every family that both ends have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// One of them, as `picket explain` takes it.
    pub example: Example,
    /// The policies to blame; none if the pods, namespaces or nodes are different.
    pub causes: Vec<Cause>,
}

/// One side of flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Side {
    /// What it is called: workloads with the number of their pods, nodes, outside addresses.
    pub names: Vec<String>,
    /// Its pods.
    pub pods: Vec<NamespacedName>,
    /// Its nodes.
    pub nodes: Vec<String>,
    /// Its outside addresses, as networks or `FIRST-LAST`; those of pods and nodes among them are not meant.
    pub addresses: AddressRanges,
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Example {
    /// Who opens the connection.
    pub from: String,
    /// To whom.
    pub to: String,
    /// `5432/tcp`, or `icmp`.
    pub port: String,
    /// The family, if it is not the one that `picket explain` would take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
}

/// A pod that is on the pod network of one side only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PodChange {
    /// The pod.
    pub pod: NamespacedName,
    /// Whether it is added there or removed from there.
    pub status: Status,
    /// Where it is on the other side.
    pub elsewhere: Elsewhere,
    /// The policies that isolate it for ingress, there where it is.
    pub ingress_isolated_by: Vec<PolicyId>,
    /// The policies that isolate it for egress, there where it is.
    pub egress_isolated_by: Vec<PolicyId>,
}

/// Where a pod is that is not on the pod network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Elsewhere {
    /// There is no such pod.
    Nowhere,
    /// It has its node's network: no policy applies to it, and no selector finds it.
    HostNetwork,
    /// It has ended, and is nobody.
    Ended,
}

/// A policy that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PolicyChange {
    /// The policy.
    pub policy: PolicyId,
    /// Added, removed or changed.
    pub status: Status,
}

impl Report {
    /// Whether a flow opens or closes, those of pods that leave or enter the pod network among them.
    pub fn has_changed_flows(&self) -> bool {
        let moved = |pod: &PodChange| pod.elsewhere != Elsewhere::Nowhere;
        !self.flows.is_empty() || self.pods.iter().any(moved)
    }
}

/// Compares two clusters; workloads are those of the pods of both.
pub fn compare(
    old: &Cluster,
    new: &Cluster,
    workloads: &BTreeMap<NamespacedName, ObjectRef>,
    node_egress: NodeEgress,
) -> Report {
    let groups = groups(&[old, new]);
    let ends = Ends::new(&groups, workloads);
    let flows = changes(old, new, node_egress)
        .into_iter()
        .filter_map(|change| flows(old, new, &ends, change));
    Report {
        flows: flows.collect(),
        pods: pods(old, new),
        policies: policies(old, new),
    }
}

fn flows(old: &Cluster, new: &Cluster, ends: &Ends<'_>, change: Change) -> Option<Flows> {
    let side = |groups: &[_]| Side {
        names: ends.names(groups),
        pods: pods_of(groups).into_iter().collect(),
        nodes: nodes_of(groups).into_iter().collect(),
        addresses: addresses_of(groups),
    };
    let families = change
        .family
        .map_or(Family::ALL.to_vec(), |family| vec![family]);
    let pairs = families.iter().flat_map(|family| {
        let pairs = change.from.iter();
        let pairs = pairs.flat_map(|from| change.to.iter().map(move |to| (from, to)));
        pairs.filter_map(|(from, to)| {
            // Where one side has no addresses of the family nothing was compared.
            from.pair(to, old, *family)?;
            let ends = from.pair(to, new, *family)?;
            // A pod and itself stands for nothing here.
            let is_asked = |cluster| first_family(from, to, cluster) == Some(*family);
            let family = (!is_asked(old) || !is_asked(new)).then_some(*family);
            (ends.0 != ends.1).then_some((ends, family))
        })
    });
    let ((source, destination), family) = pairs.into_iter().next()?;
    Some(Flows {
        effect: change.effect,
        from: side(&change.from),
        to: side(&change.to),
        example: Example {
            from: asked_name(new, source),
            to: asked_name(new, destination),
            port: match example(new, destination, &change.transports)? {
                Transport::Port(protocol, port) => format!("{port}/{}", protocol.nft_name()),
                Transport::Icmp => "icmp".to_owned(),
            },
            family,
        },
        transports: change.transports,
        family: change.family,
        causes: change.causes,
    })
}

/// The family in which `picket explain` asks.
fn first_family(from: &Group, to: &Group, cluster: &Cluster) -> Option<Family> {
    let mut families = Family::ALL.into_iter();
    families.find(|family| from.pair(to, cluster, *family).is_some())
}

/// A port that the destination has, one that everybody knows, or any.
fn example(cluster: &Cluster, destination: IpAddr, transports: &Allowed) -> Option<Transport> {
    let declared = match cluster.owner(destination) {
        Owner::Pod(pod) => &*pod.ports,
        Owner::Node(_) | Owner::External => &[],
    };
    let declared = declared
        .iter()
        .map(|port| Transport::Port(port.protocol, port.port));
    let mut likely = declared.chain([Transport::Port(Protocol::Tcp, 443)]);
    likely
        .find(|transport| transports.contains(*transport))
        .or_else(|| transports.example())
}

fn pods(old: &Cluster, new: &Cluster) -> Vec<PodChange> {
    let only_in = |these: &Cluster, others: &Cluster, status| {
        let pods = these.pods.values();
        let pods = pods.filter_map(|pod| {
            let elsewhere = match others.pods.get(&pod.id) {
                None => Elsewhere::Nowhere,
                Some(other) if other.is_on_pod_network() => return None,
                Some(other) if other.phase.is_terminal() => Elsewhere::Ended,
                Some(_) => Elsewhere::HostNetwork,
            };
            pod.is_on_pod_network().then_some((pod, elsewhere))
        });
        let change = |(pod, elsewhere): (&Pod, Elsewhere)| {
            let isolated_by = |direction| {
                let policies = isolating(these, pod, direction);
                policies.map(|policy| policy.id.clone()).collect()
            };
            PodChange {
                pod: pod.id.clone(),
                status,
                elsewhere,
                ingress_isolated_by: isolated_by(Direction::Ingress),
                egress_isolated_by: isolated_by(Direction::Egress),
            }
        };
        pods.map(change).collect::<Vec<_>>()
    };
    let mut pods = only_in(old, new, Status::Removed);
    pods.extend(only_in(new, old, Status::Added));
    pods.sort_by(|a, b| a.pod.cmp(&b.pod));
    pods
}

fn policies(old: &Cluster, new: &Cluster) -> Vec<PolicyChange> {
    let all: BTreeSet<&PolicyId> = old.policies.keys().chain(new.policies.keys()).collect();
    all.into_iter()
        .map(|policy| PolicyChange {
            policy: policy.clone(),
            status: status(old, new, policy),
        })
        .filter(|change| change.status != Status::Unchanged)
        .collect()
}
