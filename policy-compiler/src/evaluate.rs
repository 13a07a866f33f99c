//! The specification as code: what NetworkPolicy says of one connection. Everything else is compared with this.
//!
//! It reads the objects and nothing that the compiler makes of them, and prefers being obvious over being fast.

mod on_node;

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{
    Cluster, Direction, NamespaceScope, NetworkPolicy, Owner, Peer, Peers, Pod, PolicyId,
    PolicyPort, PortMatch, Ports, Protocol, Rule,
};

pub use on_node::{Enforced, OnNode};

/// Whether a pod that is isolated for egress may reach its own node. The website's text says yes, the API's
/// text names no such exemption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeEgress {
    /// Always.
    #[default]
    Allow,
    /// As its policies say.
    Policy,
}

/// A connection's protocol and destination port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP, UDP or SCTP to a port.
    Port(Protocol, u16),
    /// ICMP or ICMPv6, and any other protocol without ports: only rules without `ports` match.
    Icmp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Port(protocol, port) => write!(f, "{protocol} {port}"),
            Transport::Icmp => f.write_str("ICMP"),
        }
    }
}

/// A connection as the destination pod sees it: after DNAT, before SNAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Who opens it.
    pub source: IpAddr,
    /// To whom; of the source's family.
    pub destination: IpAddr,
    /// Over what.
    pub transport: Transport,
}

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It passes.
    Allow,
    /// It is dropped.
    Deny,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
        })
    }
}

/// Why a direction was decided as it was. The list is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// This end is an external address, a node, or a hostNetwork pod: no policy applies on its side.
    NotAPod,
    /// A pod to itself: always allowed.
    #[serde(rename = "self")]
    ToItself,
    /// No policy selects the pod in this direction: allowed.
    NotIsolated,
    /// The other end is the pod's own node: always allowed for ingress, and for egress by [`NodeEgress::Allow`].
    OwnNode,
    /// A rule allows it; the policies are those with a rule that matches.
    RuleMatches,
    /// The pod is isolated and no rule matches; the policies are those that isolate it.
    NoRuleMatches,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 6] = [
        Reason::NotAPod,
        Reason::ToItself,
        Reason::NotIsolated,
        Reason::OwnNode,
        Reason::RuleMatches,
        Reason::NoRuleMatches,
    ];

    /// The reason's name in output.
    pub fn name(self) -> &'static str {
        match self {
            Reason::NotAPod => "not-a-pod",
            Reason::ToItself => "self",
            Reason::NotIsolated => "not-isolated",
            Reason::OwnNode => "own-node",
            Reason::RuleMatches => "rule-matches",
            Reason::NoRuleMatches => "no-rule-matches",
        }
    }

    /// The verdict that follows.
    pub fn verdict(self) -> Verdict {
        match self {
            Reason::NoRuleMatches => Verdict::Deny,
            _ => Verdict::Allow,
        }
    }
}

/// What one direction says, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Decision {
    /// Allow or deny.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The policies that decided, in order.
    pub policies: Vec<PolicyId>,
}

impl Decision {
    fn because(reason: Reason) -> Self {
        Self::of(reason, Vec::new())
    }

    fn of(reason: Reason, policies: Vec<PolicyId>) -> Self {
        Self {
            verdict: reason.verdict(),
            reason,
            policies,
        }
    }
}

/// What both directions say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Evaluation {
    /// Allow if both directions allow.
    pub verdict: Verdict,
    /// The source's side.
    pub egress: Decision,
    /// The destination's side.
    pub ingress: Decision,
}

/// Judges a connection. Both directions are judged always, also when the first denies.
pub fn evaluate(cluster: &Cluster, connection: Connection, node_egress: NodeEgress) -> Evaluation {
    let egress = decide(cluster, connection, Direction::Egress, node_egress);
    let ingress = decide(cluster, connection, Direction::Ingress, node_egress);
    Evaluation {
        verdict: egress.verdict.max(ingress.verdict),
        egress,
        ingress,
    }
}

fn decide(
    cluster: &Cluster,
    connection: Connection,
    direction: Direction,
    node_egress: NodeEgress,
) -> Decision {
    let (subject, other) = match direction {
        Direction::Egress => (connection.source, connection.destination),
        Direction::Ingress => (connection.destination, connection.source),
    };
    let Owner::Pod(subject) = cluster.owner(subject) else {
        return Decision::because(Reason::NotAPod);
    };
    let other = OtherEnd::at(cluster, other);
    if matches!(other.owner, Owner::Pod(pod) if pod.id == subject.id) {
        return Decision::because(Reason::ToItself);
    }
    let policies: Vec<_> = cluster
        .policies_in(&subject.id.namespace)
        .filter(|policy| selects(policy, subject) && policy.rules(direction).is_some())
        .collect();
    if policies.is_empty() {
        return Decision::because(Reason::NotIsolated);
    }
    if exempts_own_node(subject, &other, direction, node_egress) {
        return Decision::because(Reason::OwnNode);
    }
    let ids = |policies: &[&NetworkPolicy]| policies.iter().map(|p| p.id.clone()).collect();
    let allowing: Vec<_> = policies
        .iter()
        .copied()
        .filter(|policy| {
            let mut rules = policy.rules(direction).into_iter().flatten();
            rules.any(|rule| {
                allows(
                    cluster,
                    rule,
                    direction,
                    subject,
                    &other,
                    connection.transport,
                )
            })
        })
        .collect();
    if allowing.is_empty() {
        Decision::of(Reason::NoRuleMatches, ids(&policies))
    } else {
        Decision::of(Reason::RuleMatches, ids(&allowing))
    }
}

/// Whether the policy's `podSelector` selects the pod.
pub(crate) fn selects(policy: &NetworkPolicy, pod: &Pod) -> bool {
    policy.id.namespace == pod.id.namespace && policy.selector.matches(&pod.labels)
}

/// The end of a connection that is not the subject.
pub(crate) struct OtherEnd<'a> {
    pub(crate) address: IpAddr,
    pub(crate) owner: Owner<'a>,
}

impl<'a> OtherEnd<'a> {
    pub(crate) fn at(cluster: &'a Cluster, address: IpAddr) -> Self {
        Self {
            address,
            owner: cluster.owner(address),
        }
    }

    /// The pod on which a named port is resolved: a name is the destination's, whichever end the policy selects.
    pub(crate) fn named_ports_of(&self, direction: Direction, subject: &'a Pod) -> Option<&'a Pod> {
        match (direction, self.owner) {
            (Direction::Ingress, _) => Some(subject),
            (Direction::Egress, Owner::Pod(pod)) => Some(pod).filter(|pod| pod.is_peer()),
            (Direction::Egress, _) => None,
        }
    }
}

/// Whether the other end is the subject's own node, and policies do not apply between the two.
pub(crate) fn exempts_own_node(
    subject: &Pod,
    other: &OtherEnd<'_>,
    direction: Direction,
    node_egress: NodeEgress,
) -> bool {
    let exempt = direction == Direction::Ingress || node_egress == NodeEgress::Allow;
    exempt && matches!(other.owner, Owner::Node(node) if subject.node.as_deref() == Some(node))
}

fn allows(
    cluster: &Cluster,
    rule: &Rule,
    direction: Direction,
    subject: &Pod,
    other: &OtherEnd<'_>,
    transport: Transport,
) -> bool {
    let destination = other.named_ports_of(direction, subject);
    let ports = match &rule.ports {
        Ports::Any => true,
        Ports::Of(ports) => ports
            .iter()
            .any(|port| port_matches(port, destination, transport)),
    };
    peers_match(cluster, rule, other) && ports
}

/// Whether one of the rule's peers is the other end.
pub(crate) fn peers_match(cluster: &Cluster, rule: &Rule, other: &OtherEnd<'_>) -> bool {
    match &rule.peers {
        Peers::Any => true,
        Peers::Of(peers) => peers.iter().any(|peer| peer_matches(cluster, peer, other)),
    }
}

pub(crate) fn peer_matches(cluster: &Cluster, peer: &Peer, other: &OtherEnd<'_>) -> bool {
    match (peer, other.owner) {
        (Peer::Block(block), _) => block.contains(other.address),
        (Peer::Pods { namespaces, pods }, Owner::Pod(pod)) => {
            let in_namespace = match namespaces {
                NamespaceScope::Own(namespace) => pod.id.namespace == *namespace,
                NamespaceScope::Matching(selector) => cluster
                    .namespace_labels(&pod.id.namespace)
                    .is_some_and(|labels| selector.matches(labels)),
            };
            pod.is_peer() && in_namespace && pods.matches(&pod.labels)
        }
        (Peer::Pods { .. }, _) => false,
    }
}

fn port_matches(port: &PolicyPort, destination: Option<&Pod>, transport: Transport) -> bool {
    let Transport::Port(protocol, number) = transport else {
        return false;
    };
    port.protocol == protocol
        && match &port.port {
            PortMatch::All => true,
            PortMatch::Range(range) => range.contains(number),
            PortMatch::Named(name) => {
                destination.is_some_and(|pod| pod.numbers_of(name, protocol).any(|n| n == number))
            }
        }
}
