//! Cluster state to the rules of one node.

pub(crate) mod peers;
pub(crate) mod rules;

use std::collections::{BTreeMap, BTreeSet};

use self::rules::{Matches, NamedMatch, policy_ports};
use crate::ir::{Action, Class, LocalPod, NodeIr, Rule, Tier, TierKind};
use crate::model::{
    Cluster, Direction, NamespacedName, NetworkPolicy, Pod, PolicyId, PortMatch, PortName, Protocol,
};
use crate::name::Namer;

/// Compiles what `node` has to enforce. A node without pods has empty rules; so has one that does not exist.
pub fn compile(cluster: &Cluster, node: &str) -> NodeIr {
    compile_with(cluster, node, Namer::default())
}

/// As [`compile`], with a namer of the caller's.
pub fn compile_with(cluster: &Cluster, node: &str, namer: Namer) -> NodeIr {
    compile_closed(cluster, node, &BTreeSet::new(), namer)
}

/// As [`compile_with`], with pods that are closed: a class without rules in both directions, whatever policies
/// select them, which are not looked at. A namespace over its [budget](crate::budget) gives its last accepted
/// policies in `cluster`, and here its pods of which none were accepted.
pub fn compile_closed(
    cluster: &Cluster,
    node: &str,
    closed: &BTreeSet<NamespacedName>,
    namer: Namer,
) -> NodeIr {
    let mut plans: BTreeMap<String, ClassPlan<'_>> = BTreeMap::new();
    let mut pods = Vec::new();
    for pod in local_pods(cluster, node) {
        let addresses: Vec<_> = cluster.addresses_of(pod).collect();
        if addresses.is_empty() {
            continue;
        }
        let mut class = |direction| {
            let plan = if closed.contains(&pod.id) {
                ClassPlan::closed(direction)
            } else {
                ClassPlan::of(cluster, pod, direction)?
            };
            let identity = plan.identity();
            plans.entry(identity.clone()).or_insert(plan);
            Some(identity)
        };
        let (egress, ingress) = (class(Direction::Egress), class(Direction::Ingress));
        pods.push((pod, addresses, egress, ingress));
    }

    let mut matches = Matches::default();
    let rules: Vec<_> = plans
        .values()
        .map(|plan| plan.rules(&mut matches))
        .collect();
    let table = matches.peers().resolve(cluster, namer);
    let matches = matches.named(|key| table.name_of(key));

    let readable: Vec<_> = plans
        .iter()
        .map(|(identity, plan)| (plan.readable(), identity.as_str()))
        .collect();
    let names = namer.name(readable.iter().map(|(text, id)| (text.as_str(), *id)));
    let classes = plans
        .iter()
        .zip(rules)
        .map(|((identity, plan), rules)| {
            let class = plan.class(rules, &matches);
            (names[identity.as_str()].clone(), class)
        })
        .collect();
    let name_of = |identity: Option<String>| identity.map(|id| names[id.as_str()].clone());
    NodeIr {
        node: node.to_owned(),
        pods: pods
            .into_iter()
            .map(|(pod, addresses, egress, ingress)| {
                let local = LocalPod {
                    addresses,
                    egress: name_of(egress),
                    ingress: name_of(ingress),
                };
                (pod.id.to_string(), local)
            })
            .collect(),
        classes,
        peers: table.peers,
        named_ports: table.named_ports,
    }
}

fn local_pods<'a>(cluster: &'a Cluster, node: &'a str) -> impl Iterator<Item = &'a Pod> {
    cluster
        .pods
        .values()
        .filter(move |pod: &&Pod| pod.is_on_pod_network() && pod.node.as_deref() == Some(node))
}

/// The numbers behind the named ports of a class's ingress rules.
type ResolvedPorts = BTreeMap<(PortName, Protocol), BTreeSet<u16>>;

/// A class before its peers have names.
pub(crate) struct ClassPlan<'a> {
    direction: Direction,
    pub(crate) policies: Vec<&'a NetworkPolicy>,
    ports: ResolvedPorts,
}

impl<'a> ClassPlan<'a> {
    /// The plan for a pod; none if nothing isolates it in this direction.
    pub(crate) fn of(cluster: &'a Cluster, pod: &Pod, direction: Direction) -> Option<Self> {
        let policies: Vec<_> = cluster
            .policies_in(&pod.id.namespace)
            .filter(|policy| {
                policy.rules(direction).is_some() && policy.selector.matches(&pod.labels)
            })
            .collect();
        if policies.is_empty() {
            return None;
        }
        let mut ports = ResolvedPorts::new();
        if direction == Direction::Ingress {
            let rules = policies.iter().flat_map(|policy| policy.rules(direction));
            for port in rules.flatten().flat_map(policy_ports) {
                if let PortMatch::Named(name) = &port.port {
                    let numbers = pod.numbers_of(name, port.protocol).collect();
                    ports.insert((name.clone(), port.protocol), numbers);
                }
            }
        }
        Some(Self {
            direction,
            policies,
            ports,
        })
    }

    /// The plan for a closed pod: nothing selects it, and nothing is allowed.
    pub(crate) fn closed(direction: Direction) -> Self {
        Self {
            direction,
            policies: Vec::new(),
            ports: ResolvedPorts::new(),
        }
    }

    /// What makes two pods share the class: never the content of rules, so that an edit keeps the name.
    pub(crate) fn identity(&self) -> String {
        let mut identity = self.direction.to_string();
        for policy in &self.policies {
            identity.push_str(&format!("|{}", policy.id));
        }
        for ((name, protocol), numbers) in &self.ports {
            identity.push_str(&format!("|{name}/{protocol}={numbers:?}"));
        }
        identity
    }

    pub(crate) fn readable(&self) -> String {
        self.policies
            .first()
            .map_or_else(|| "closed".to_owned(), |policy| policy.id.to_string())
    }

    /// The class's rules: a match by its number, and the policies that ask for it.
    pub(crate) fn rules(&self, matches: &mut Matches<'a>) -> Vec<(usize, Vec<&'a PolicyId>)> {
        let mut rules: Vec<(usize, Vec<_>)> = Vec::new();
        let mut index: BTreeMap<usize, usize> = BTreeMap::new();
        for policy in &self.policies {
            for rule in policy.rules(self.direction).unwrap_or_default() {
                for number in matches.of(rule, self.direction, &self.ports).iter() {
                    // Rules of one tier that all accept commute, so equal ones merge.
                    let at = *index.entry(*number).or_insert_with(|| {
                        rules.push((*number, Vec::new()));
                        rules.len() - 1
                    });
                    let policies = &mut rules[at].1;
                    // Policies come in order, so one that has the rule twice comes twice in a row.
                    if policies.last() != Some(&&policy.id) {
                        policies.push(&policy.id);
                    }
                }
            }
        }
        rules
    }

    pub(crate) fn class(
        &self,
        rules: Vec<(usize, Vec<&PolicyId>)>,
        matches: &[NamedMatch],
    ) -> Class {
        let rules = rules.into_iter().map(|(number, policies)| Rule {
            action: Action::Accept,
            matches: matches[number].to_match(),
            policies: policies.into_iter().cloned().collect(),
        });
        Class {
            direction: self.direction,
            policies: self.policies.iter().map(|p| p.id.clone()).collect(),
            tiers: vec![Tier {
                kind: TierKind::NetworkPolicy,
                rules: rules.collect(),
                // NetworkPolicy decides finally for the pods that it isolates.
                default: Action::Deny,
            }],
        }
    }
}
