//! Cluster state to the rules of one node.

mod peers;

use std::collections::{BTreeMap, BTreeSet};

use self::peers::PeerTable;
use crate::ir::{
    Action, Class, LocalPod, Match, NodeIr, PeerMatch, PortsMatch, Rule, Tier, TierKind,
};
use crate::model::{
    Cluster, Direction, NamespacedName, NetworkPolicy, Peers, Pod, PolicyPort, PortMatch, PortName,
    PortRange, PortRanges, Ports, Protocol, Rule as PolicyRule,
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

    let mut table = PeerTable::default();
    for plan in plans.values() {
        plan.register_peers(&mut table);
    }
    let table = table.resolve(cluster, namer);

    let readable: Vec<_> = plans
        .iter()
        .map(|(identity, plan)| (plan.readable(), identity.as_str()))
        .collect();
    let names = namer.name(readable.iter().map(|(text, id)| (text.as_str(), *id)));
    let classes = plans
        .iter()
        .map(|(identity, plan)| (names[identity.as_str()].clone(), plan.class(&table)))
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
        .filter(move |pod| pod.is_on_pod_network() && pod.node.as_deref() == Some(node))
}

/// The numbers behind the named ports of a class's ingress rules.
type ResolvedPorts = BTreeMap<(PortName, Protocol), BTreeSet<u16>>;

/// A class before its peers have names.
struct ClassPlan<'a> {
    direction: Direction,
    policies: Vec<&'a NetworkPolicy>,
    ports: ResolvedPorts,
}

impl<'a> ClassPlan<'a> {
    /// The plan for a pod; none if nothing isolates it in this direction.
    fn of(cluster: &'a Cluster, pod: &Pod, direction: Direction) -> Option<Self> {
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
    fn closed(direction: Direction) -> Self {
        Self {
            direction,
            policies: Vec::new(),
            ports: ResolvedPorts::new(),
        }
    }

    /// What makes two pods share the class: never the content of rules, so that an edit keeps the name.
    fn identity(&self) -> String {
        let mut identity = self.direction.to_string();
        for policy in &self.policies {
            identity.push_str(&format!("|{}", policy.id));
        }
        for ((name, protocol), numbers) in &self.ports {
            identity.push_str(&format!("|{name}/{protocol}={numbers:?}"));
        }
        identity
    }

    fn readable(&self) -> String {
        self.policies
            .first()
            .map_or_else(|| "closed".to_owned(), |policy| policy.id.to_string())
    }

    fn rules(&self) -> impl Iterator<Item = (&'a NetworkPolicy, &'a PolicyRule)> {
        self.policies.iter().flat_map(|policy| {
            let rules = policy.rules(self.direction).unwrap_or_default();
            rules.iter().map(move |rule| (*policy, rule))
        })
    }

    fn register_peers(&self, table: &mut PeerTable) {
        for (_, rule) in self.rules() {
            for peer in peers(rule) {
                if numbers(rule, &self.ports).is_some()
                    && let Some(peer) = peer
                {
                    table.add_peer(peer);
                }
                for (name, protocol) in self.peer_named_ports(rule) {
                    table.add_named_port(peer, name, protocol);
                }
            }
        }
    }

    /// Named ports that each destination resolves for itself: those of egress rules.
    fn peer_named_ports<'r>(&self, rule: &'r PolicyRule) -> BTreeSet<(&'r str, Protocol)> {
        if self.direction == Direction::Ingress {
            return BTreeSet::new();
        }
        policy_ports(rule)
            .filter_map(|port| match &port.port {
                PortMatch::Named(name) => Some((name.as_str(), port.protocol)),
                _ => None,
            })
            .collect()
    }

    fn class(&self, table: &peers::Resolved) -> Class {
        let mut rules: Vec<Rule> = Vec::new();
        let mut index: BTreeMap<Match, usize> = BTreeMap::new();
        for (policy, rule) in self.rules() {
            for matches in self.matches(rule, table) {
                // Rules of one tier that all accept commute, so equal ones merge.
                let at = *index.entry(matches.clone()).or_insert_with(|| {
                    rules.push(Rule {
                        action: Action::Accept,
                        matches,
                        policies: BTreeSet::new(),
                    });
                    rules.len() - 1
                });
                rules[at].policies.insert(policy.id.clone());
            }
        }
        Class {
            direction: self.direction,
            policies: self.policies.iter().map(|p| p.id.clone()).collect(),
            tiers: vec![Tier {
                kind: TierKind::NetworkPolicy,
                rules,
                // NetworkPolicy decides finally for the pods that it isolates.
                default: Action::Deny,
            }],
        }
    }

    fn matches(&self, rule: &PolicyRule, table: &peers::Resolved) -> Vec<Match> {
        let mut matches = Vec::new();
        for peer in peers(rule) {
            if let Some(ports) = numbers(rule, &self.ports) {
                matches.push(Match {
                    peer: peer.map_or(PeerMatch::Any, |p| PeerMatch::Set(table.peer_name(p))),
                    ports,
                });
            }
            for (name, protocol) in self.peer_named_ports(rule) {
                let set = table.named_port_name(peer, name, protocol);
                matches.push(Match {
                    peer: PeerMatch::NamedPorts(set),
                    ports: PortsMatch::Any,
                });
            }
        }
        matches
    }
}

fn policy_ports(rule: &PolicyRule) -> impl Iterator<Item = &PolicyPort> {
    match &rule.ports {
        Ports::Any => &[],
        Ports::Of(ports) => ports.as_slice(),
    }
    .iter()
}

/// The rule's peers; one `None` stands for every peer.
fn peers(rule: &PolicyRule) -> Vec<Option<&crate::model::Peer>> {
    match &rule.peers {
        Peers::Any => vec![None],
        Peers::Of(peers) => peers.iter().map(Some).collect(),
    }
}

/// The rule's ports that are numbers, names among them where `resolved` knows them. None if no number is left:
/// such a rule matches nothing, which must not be mistaken for matching every port.
fn numbers(rule: &PolicyRule, resolved: &ResolvedPorts) -> Option<PortsMatch> {
    let Ports::Of(ports) = &rule.ports else {
        return Some(PortsMatch::Any);
    };
    let mut by_protocol: BTreeMap<Protocol, PortRanges> = BTreeMap::new();
    let mut add = |protocol, range| by_protocol.entry(protocol).or_default().insert(range);
    for port in ports {
        match &port.port {
            PortMatch::All => add(port.protocol, PortRange::ALL),
            PortMatch::Range(range) => add(port.protocol, *range),
            PortMatch::Named(name) => {
                let numbers = resolved.get(&(name.clone(), port.protocol));
                for number in numbers.into_iter().flatten() {
                    add(port.protocol, PortRange::single(*number));
                }
            }
        }
    }
    (!by_protocol.is_empty()).then_some(PortsMatch::Of(by_protocol))
}
