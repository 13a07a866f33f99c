//! The flows that are verified when none are named: for each policy its allowed and its denied side.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::evaluate::{Decision, NodeEgress, Reason, Verdict, evaluate};
use policy_compiler::model::{
    Cluster, Direction, Family, Labels, NamespacedName, NetworkPolicy, Owner, Peer, Peers, Pod,
};

use super::edges::{self, Target};
use crate::flow::{End, FamilyName, Question, resolve};

/// Pods of each kind that a policy is tried with.
const PODS_OF_A_KIND: usize = 4;

/// Chooses flows that show each policy's allowed and denied side, at the edges of its rules. The choice depends on
/// nothing but the cluster.
pub fn sample(cluster: &Cluster, node_egress: NodeEgress) -> Vec<Question> {
    let mut chosen = Chosen {
        cluster,
        node_egress,
        buckets: BTreeSet::new(),
        questions: BTreeMap::new(),
    };
    for policy in cluster.policies.values() {
        let targets = edges::targets(cluster, edges::rules(policy));
        let others = others(cluster, policy);
        for subject in subjects(cluster, policy) {
            for other in &others {
                for target in &targets {
                    chosen.consider(policy, &subject, other, *target);
                    chosen.consider(policy, other, &subject, *target);
                }
            }
        }
    }
    if cluster.policies.is_empty() {
        chosen.unpoliced();
    }
    chosen
        .questions
        .into_values()
        .enumerate()
        .map(|(index, mut question)| {
            question.id = Some((index + 1).into());
            question
        })
        .collect()
}

fn end(pod: &Pod) -> End {
    End::Pod(pod.id.clone())
}

/// Pods that can be an end of a flow.
fn reachable(cluster: &Cluster) -> impl Iterator<Item = &Pod> {
    let has_address = |pod: &&Pod| pod.host_network || cluster.addresses_of(pod).next().is_some();
    let pods = cluster.pods.values().filter(|pod| !pod.phase.is_terminal());
    pods.filter(has_address)
}

/// Pods that the policy selects, on different nodes if possible, and one of its namespace that it does not.
fn subjects(cluster: &Cluster, policy: &NetworkPolicy) -> Vec<End> {
    let of_namespace = reachable(cluster).filter(|pod| pod.id.namespace == policy.id.namespace);
    let (selected, others): (Vec<_>, Vec<_>) =
        of_namespace.partition(|pod| policy.selector.matches(&pod.labels));
    let mut subjects = spread(&selected);
    subjects.extend(others.first().map(|pod| end(pod)));
    subjects
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

/// Ends to try the policy with: pods that match each of its peers and pods that match none, in its namespace and
/// in others, nodes, and addresses at the edges of its blocks.
fn others(cluster: &Cluster, policy: &NetworkPolicy) -> BTreeSet<End> {
    let mut others = BTreeSet::new();
    let peers = edges::rules(policy).flat_map(|rule| match &rule.peers {
        Peers::Any => &[],
        Peers::Of(peers) => peers.as_slice(),
    });
    let mut matched: BTreeSet<&NamespacedName> = BTreeSet::new();
    for peer in peers {
        let matching: Vec<_> = reachable(cluster)
            .filter(|pod| matches(cluster, peer, pod))
            .collect();
        matched.extend(matching.iter().map(|pod| &pod.id));
        others.extend(spread(&matching));
    }
    let unmatched = reachable(cluster).filter(|pod| !matched.contains(&pod.id));
    let (own, foreign): (Vec<_>, Vec<_>) =
        unmatched.partition(|pod| pod.id.namespace == policy.id.namespace);
    others.extend(spread(&own));
    others.extend(spread(&foreign));
    let nodes = cluster
        .nodes
        .values()
        .filter(|node| !node.addresses.is_empty());
    others.extend(
        nodes
            .take(PODS_OF_A_KIND)
            .map(|node| End::Node(node.name.clone())),
    );
    others.extend(
        edges::addresses(edges::rules(policy))
            .into_iter()
            .map(End::Ip),
    );
    others
}

/// Whether the peer might mean the pod; only to choose whom to ask about.
fn matches(cluster: &Cluster, peer: &Peer, pod: &Pod) -> bool {
    use policy_compiler::model::NamespaceScope;
    match peer {
        Peer::Block(block) => pod.addresses.iter().any(|address| block.contains(*address)),
        Peer::Pods { namespaces, pods } => {
            let in_scope = match namespaces {
                NamespaceScope::Own(own) => *own == pod.id.namespace,
                NamespaceScope::Matching(selector) => cluster
                    .namespace_labels(&pod.id.namespace)
                    .is_some_and(|labels| selector.matches(labels)),
            };
            in_scope && pods.matches(&pod.labels)
        }
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
}

impl Chosen<'_> {
    fn consider(&mut self, policy: &NetworkPolicy, from: &End, to: &End, target: Target) {
        for family in [FamilyName::Ipv4, FamilyName::Ipv6] {
            let (protocol, port) = edges::port(target);
            let question = Question {
                id: None,
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
                    Owner::Pod(pod) => Kind::Pod(pod.id.namespace.clone(), pod.labels.clone()),
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
        self.questions.insert(key, question);
    }

    /// Without policies everything passes: a few pairs show it.
    fn unpoliced(&mut self) {
        let pods: Vec<_> = reachable(self.cluster).take(4).map(end).collect();
        for from in &pods {
            for to in pods.iter().filter(|to| *to != from) {
                let (protocol, port) = edges::port((crate::flow::ProtocolName::Tcp, Some(80)));
                let (from, to) = (from.clone(), to.clone());
                self.add(Question {
                    id: None,
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
