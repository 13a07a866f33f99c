//! The flows that are verified when none are named: for each policy its allowed and its denied side.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::evaluate::{Decision, NodeEgress, Reason, Verdict, evaluate};
use policy_compiler::model::{
    Cluster, Direction, Family, Labels, NamespacedName, NetworkPolicy, Owner, PolicyId,
};

use super::edges::{self, Target};
use super::ends::{Ends, end};
use crate::flow::{End, FamilyName, Id, ProtocolName, Question, resolve};

/// Flows of a sample at most, shared evenly among the policies: they take some seconds.
const FLOWS: usize = 4000;

/// Flows of a policy at least.
const FLOWS_OF_A_POLICY: usize = 16;

/// Flows that are looked at for each that is wanted, before the next policy's turn.
const LOOKED_AT: usize = 64;

/// Pods of a sample at most: each is a network namespace.
const PODS: usize = 200;

/// Flows that were chosen.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// The flows, numbered from 1.
    pub questions: Vec<Question>,
    /// Policies of which no flow shows anything: too many for one sample, or nothing that they could be tried with.
    pub left_out: BTreeSet<PolicyId>,
}

/// Chooses flows that show each policy's allowed and denied side, at the edges of its rules. The choice depends on
/// nothing but the cluster.
pub fn sample(cluster: &Cluster, node_egress: NodeEgress) -> Sample {
    let mut chosen = Chosen {
        cluster,
        node_egress,
        buckets: BTreeSet::new(),
        questions: BTreeMap::new(),
        pods: BTreeSet::new(),
        shown: BTreeSet::new(),
    };
    let mut ends = Ends::of(cluster);
    let share = (FLOWS / cluster.policies.len().max(1)).max(FLOWS_OF_A_POLICY);
    for policy in cluster.policies.values() {
        if chosen.questions.len() >= FLOWS {
            break;
        }
        chosen.show(policy, &ends, share);
        if chosen.pods.len() >= PODS {
            ends.retain(&chosen.pods);
        }
    }
    if cluster.policies.is_empty() {
        chosen.unpoliced(&ends);
    }
    let numbered = chosen.questions.into_values().zip(1..);
    let policies = cluster.policies.keys();
    Sample {
        questions: numbered
            .map(|(question, number)| Question {
                id: Some(Id::from(number)),
                ..question
            })
            .collect(),
        left_out: policies
            .filter(|id| !chosen.shown.contains(id))
            .cloned()
            .collect(),
    }
}

/// One flow of each of these is enough: what a policy says of a port (if it was asked about the port at all), a
/// family and a kind of other end.
type Bucket = (
    NamespacedName,
    Direction,
    Verdict,
    Reason,
    Option<Target>,
    Family,
    Kind,
);

/// Ends that rules cannot tell apart, but for addresses.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Pod(String, Labels),
    Node,
    External(IpAddr),
}

struct Chosen<'a> {
    cluster: &'a Cluster,
    node_egress: NodeEgress,
    buckets: BTreeSet<Bucket>,
    questions: BTreeMap<String, Question>,
    pods: BTreeSet<NamespacedName>,
    shown: BTreeSet<PolicyId>,
}

impl Chosen<'_> {
    /// Adds at most `share` flows that the policy decides, half of them allowed if there are as many.
    fn show(&mut self, policy: &NetworkPolicy, ends: &Ends<'_>, share: usize) {
        let mut left = BTreeMap::from([(Verdict::Allow, share / 2), (Verdict::Deny, share / 2)]);
        let subjects = ends.subjects(policy);
        if subjects.is_empty() {
            return;
        }
        let targets = edges::targets(ends.all(), edges::rules(policy));
        let others = ends.others(policy);
        let mut looks = share * LOOKED_AT;
        for subject in subjects {
            for other in &others {
                for target in &targets {
                    if looks == 0 || left.values().all(|left| *left == 0) {
                        return;
                    }
                    looks -= 1;
                    self.consider(policy, &subject, other, *target, &mut left);
                    self.consider(policy, other, &subject, *target, &mut left);
                }
            }
        }
    }

    fn consider(
        &mut self,
        policy: &NetworkPolicy,
        from: &End,
        to: &End,
        target: Target,
        left: &mut BTreeMap<Verdict, usize>,
    ) {
        for family in [FamilyName::Ipv4, FamilyName::Ipv6] {
            let (protocol, port) = edges::port(target);
            let question = Question {
                id: None,
                line: None,
                from: from.clone(),
                to: to.clone(),
                protocol,
                port,
                family: Some(family),
            };
            let Ok(asked) = resolve(self.cluster, &question) else {
                continue;
            };
            let evaluation = evaluate(self.cluster, asked.connection, self.node_egress);
            let Some(left) = left.get_mut(&evaluation.verdict).filter(|left| **left > 0) else {
                continue;
            };
            let mut wanted = false;
            for (direction, decision, other) in [
                (
                    Direction::Egress,
                    &evaluation.egress,
                    asked.connection.destination,
                ),
                (
                    Direction::Ingress,
                    &evaluation.ingress,
                    asked.connection.source,
                ),
            ] {
                if !concerns(policy, direction, decision) {
                    continue;
                }
                let kind = match self.cluster.owner(other) {
                    Owner::Pod(pod) => {
                        Kind::Pod(pod.id.namespace.clone(), Labels::clone(&pod.labels))
                    }
                    Owner::Node(_) => Kind::Node,
                    // Each address is there for the edge of a block that it stands at.
                    Owner::External => Kind::External(other),
                };
                wanted |= self.buckets.insert((
                    policy.id.clone(),
                    direction,
                    // Of a flow that the other side denies, the packet shows nothing of this side.
                    evaluation.verdict,
                    decision.reason,
                    (!decision.policies.is_empty()).then_some(target),
                    family.into(),
                    kind,
                ));
            }
            if wanted {
                *left -= 1;
                let decisions = [&evaluation.egress, &evaluation.ingress];
                self.shown.extend(
                    decisions
                        .into_iter()
                        .flat_map(|d| d.policies.iter().cloned()),
                );
                self.add(question);
            }
        }
    }

    fn add(&mut self, question: Question) {
        let Question {
            from,
            to,
            protocol,
            port,
            family,
            ..
        } = &question;
        let port = port.as_ref().map(ToString::to_string);
        let key = format!("{from} {to} {protocol} {port:?} {family:?}");
        for end in [from, to] {
            if let End::Pod(id) = end {
                self.pods.insert(id.clone());
            }
        }
        self.questions.insert(key, question);
    }

    /// Without policies everything passes: a few pairs show it.
    fn unpoliced(&mut self, ends: &Ends<'_>) {
        let pods: Vec<_> = ends.all().take(4).map(end).collect();
        for from in &pods {
            for to in pods.iter().filter(|to| *to != from) {
                let (protocol, port) = edges::port((ProtocolName::Tcp, Some(80)));
                let (from, to) = (from.clone(), to.clone());
                self.add(Question {
                    id: None,
                    line: None,
                    from,
                    to,
                    protocol,
                    port,
                    family: None,
                });
            }
        }
    }
}

/// Whether the decision is the policy's, or would be without it.
fn concerns(policy: &NetworkPolicy, direction: Direction, decision: &Decision) -> bool {
    decision.policies.contains(&policy.id)
        || (policy.rules(direction).is_some()
            && matches!(decision.reason, Reason::NotIsolated | Reason::OwnNode))
}
