//! What may pass in one cluster and not in another.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::{Allowed, Group, Side, Way, between, groups, isolating};
use crate::evaluate::{NodeEgress, Reason};
use crate::model::{Cluster, Direction, Family, NamespacedName, Pod, PolicyId, Rule};

/// Connections whose verdict changes, all from the same cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whether they open or close.
    pub effect: Effect,
    /// Who opens the connections, in order.
    pub from: Vec<Group>,
    /// To whom, in order. A single pod that is on both sides is not meant to itself, which is always allowed.
    pub to: Vec<Group>,
    /// Over what.
    pub transports: Allowed,
    /// In which family; none for every family that both ends have.
    pub family: Option<Family>,
    /// The policies that make the difference, in order; none if it is the pods that are different.
    pub causes: Vec<Cause>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It was allowed and is denied.
    Closes,
    /// It was denied and is allowed.
    Opens,
}

/// A policy that makes a difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Cause {
    /// The policy.
    pub policy: PolicyId,
    /// What became of it.
    pub status: Status,
    /// In which direction it matters.
    pub direction: Direction,
    /// What it does or did.
    pub role: Role,
    /// The part of what changes that it makes.
    pub transports: Allowed,
}

/// What became of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Only the new cluster has it.
    Added,
    /// Only the old cluster has it.
    Removed,
    /// Both have it, with another content.
    Changed,
    /// Both have the same: the pods, their namespaces or their nodes are different.
    Unchanged,
}

/// What a policy does to a connection that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It isolates the pod, which nothing did.
    Isolates,
    /// It isolated the pod, which nothing does now.
    NoLongerIsolates,
    /// It allows the connection, and did not.
    Allows,
    /// It allowed the connection, and does not.
    NoLongerAllows,
}

/// What became of a policy of either cluster.
pub fn status(old: &Cluster, new: &Cluster, policy: &PolicyId) -> Status {
    match (old.policies.get(policy), new.policies.get(policy)) {
        (None, _) => Status::Added,
        (_, None) => Status::Removed,
        (Some(old), Some(new)) if old == new => Status::Unchanged,
        _ => Status::Changed,
    }
}

/// Every connection between ends of both clusters whose verdict is another in the new one. Pods that only one of
/// the clusters has are not in it.
pub fn changes(old: &Cluster, new: &Cluster, node_egress: NodeEgress) -> Vec<Change> {
    let groups = groups(&[old, new]);
    let touched: Vec<Touched> = groups
        .iter()
        .map(|group| Touched::of(group, old, new))
        .collect();
    let mut found: Found = BTreeMap::new();
    for (from, source) in groups.iter().enumerate() {
        for (to, destination) in groups.iter().enumerate() {
            if !touched[from].matters_to(&touched[to]) {
                continue;
            }
            let mut common = 0;
            let mut whats: BTreeMap<What, Vec<Family>> = BTreeMap::new();
            for family in Family::ALL {
                let way = |cluster| {
                    let (from, to) = source.pair(destination, cluster, family)?;
                    Some(between(cluster, from, to, node_egress))
                };
                let (Some(before), Some(after)) = (way(old), way(new)) else {
                    continue;
                };
                common += 1;
                for what in differences(old, new, &before, &after) {
                    whats.entry(what).or_default().push(family);
                }
            }
            for (what, families) in whats {
                let family = families
                    .first()
                    .copied()
                    .filter(|_| families.len() < common);
                found
                    .entry((what, family))
                    .or_default()
                    .entry(to)
                    .or_default()
                    .insert(from);
            }
        }
    }
    fold(&groups, found)
}

/// What is to be equal for two changes to be told as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct What {
    effect: Effect,
    transports: Allowed,
    causes: Vec<Cause>,
}

/// In which way an end is another in the new cluster.
struct Touched {
    /// As what policies say of others: its labels, ports, addresses, node, or its namespace's labels.
    itself: bool,
    /// The policies that select it for egress.
    egress: bool,
    /// The policies that select it for ingress.
    ingress: bool,
}

impl Touched {
    fn of(group: &Group, old: &Cluster, new: &Cluster) -> Self {
        let pods = match group {
            Group::Pods(pods) => pods.as_slice(),
            // Addresses of nodes decide which pods are on their own node, and which ipBlocks hold them.
            Group::Nodes(names) => {
                return Self {
                    itself: names
                        .iter()
                        .any(|name| old.nodes.get(name) != new.nodes.get(name)),
                    egress: false,
                    ingress: false,
                };
            }
            Group::Outside(_) => &[],
        };
        let differs = |direction| {
            pods.iter()
                .any(|id| rules(old, id, direction) != rules(new, id, direction))
        };
        Self {
            itself: pods.iter().any(|id| is_another(old, new, id)),
            egress: differs(Direction::Egress),
            ingress: differs(Direction::Ingress),
        }
    }

    fn matters_to(&self, to: &Self) -> bool {
        self.itself || self.egress || to.itself || to.ingress
    }
}

/// What isolates a pod in a direction, and what it allows then.
fn rules<'a>(
    cluster: &'a Cluster,
    id: &NamespacedName,
    direction: Direction,
) -> Vec<(&'a PolicyId, Option<&'a [Rule]>)> {
    let pod = cluster.pods.get(id);
    pod.into_iter()
        .flat_map(|pod| isolating(cluster, pod, direction))
        .map(|policy| (&policy.id, policy.rules(direction)))
        .collect()
}

fn is_another(old: &Cluster, new: &Cluster, id: &NamespacedName) -> bool {
    let namespace = |cluster: &Cluster| cluster.namespaces.get(&id.namespace).cloned();
    let addresses = |cluster: &Cluster| {
        let pod: Option<&Pod> = cluster.pods.get(id);
        pod.map(|pod| cluster.addresses_of(pod).collect::<Vec<_>>())
    };
    old.pods.get(id) != new.pods.get(id)
        || namespace(old) != namespace(new)
        || addresses(old) != addresses(new)
}

/// What closes and what opens between two ends, divided by cause.
fn differences(old: &Cluster, new: &Cluster, before: &Way, after: &Way) -> Vec<What> {
    let closes = before.allowed.minus(&after.allowed);
    let opens = after.allowed.minus(&before.allowed);
    [(Effect::Closes, closes), (Effect::Opens, opens)]
        .into_iter()
        .filter(|(_, transports)| !transports.is_nothing())
        .map(|(effect, transports)| {
            let sides = [
                (Direction::Egress, &before.egress, &after.egress),
                (Direction::Ingress, &before.ingress, &after.ingress),
            ];
            let mut causes: Vec<Cause> = sides
                .into_iter()
                .flat_map(|(direction, before, after)| {
                    causes(effect, &transports, before, after).into_iter().map(
                        move |(policy, role, transports)| Cause {
                            status: status(old, new, &policy),
                            policy,
                            direction,
                            role,
                            transports,
                        },
                    )
                })
                .collect();
            causes.sort_unstable();
            What {
                effect,
                transports,
                causes,
            }
        })
        .collect()
}

/// The policies that make the difference in one direction, and what each makes of it. Those that are the same before
/// and after make none.
fn causes(
    effect: Effect,
    transports: &Allowed,
    before: &Side,
    after: &Side,
) -> Vec<(PolicyId, Role, Allowed)> {
    let (denying, allowing) = match effect {
        Effect::Closes => (after, before),
        Effect::Opens => (before, after),
    };
    // What this direction has to do with it.
    let changed = transports.minus(&denying.allowed);
    if changed.is_nothing() {
        return Vec::new();
    }
    if allowing.reason == Reason::NotIsolated {
        let role = match effect {
            Effect::Closes => Role::Isolates,
            Effect::Opens => Role::NoLongerIsolates,
        };
        let isolating = denying.isolated_by.iter();
        let isolating = isolating.filter(|policy| !allowing.isolated_by.contains(policy));
        return isolating
            .map(|policy| (policy.clone(), role, changed.clone()))
            .collect();
    }
    let role = match effect {
        Effect::Closes => Role::NoLongerAllows,
        Effect::Opens => Role::Allows,
    };
    allowing
        .grants
        .iter()
        .map(|grant| {
            (
                grant.policy.clone(),
                role,
                grant.allowed.intersection(&changed),
            )
        })
        .filter(|(_, _, transports)| !transports.is_nothing())
        .collect()
}

/// By what changes: the sources of each destination.
type Found = BTreeMap<(What, Option<Family>), BTreeMap<usize, BTreeSet<usize>>>;

/// Joins the destinations of the same sources.
fn fold(groups: &[Group], found: Found) -> Vec<Change> {
    let is_single = |index: usize| matches!(&groups[index], Group::Pods(pods) if pods.len() == 1);
    let pick = |index: usize| groups[index].clone();
    let mut changes = Vec::new();
    for ((what, family), sources) in found {
        let mut joined: BTreeMap<BTreeSet<usize>, Vec<usize>> = BTreeMap::new();
        for (to, mut from) in sources {
            // What a single pod may do to itself never changes: it may be counted in where that joins more.
            if is_single(to) {
                from.insert(to);
            }
            joined.entry(from).or_default().push(to);
        }
        for (mut from, to) in joined {
            if let [only] = to[..]
                && is_single(only)
            {
                from.remove(&only);
            }
            changes.push(Change {
                effect: what.effect,
                from: from.into_iter().map(pick).collect(),
                to: to.into_iter().map(pick).collect(),
                transports: what.transports.clone(),
                family,
                causes: what.causes.clone(),
            });
        }
    }
    changes
}
