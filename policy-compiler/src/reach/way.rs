//! What policies allow from one address to another, and which of them.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::Allowed;
use crate::evaluate::{NodeEgress, OtherEnd, Reason, exempts_own_node, peers_match, selects};
use crate::model::{
    Cluster, Direction, NetworkPolicy, Owner, Pod, PolicyId, PortMatch, PortRange, Ports, Rule,
};

/// What may pass from one end to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Way {
    /// What both directions allow.
    pub allowed: Allowed,
    /// The source's side.
    pub egress: Side,
    /// The destination's side.
    pub ingress: Side,
}

/// What one direction allows, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Side {
    /// What it allows.
    pub allowed: Allowed,
    /// Why. With [`Reason::RuleMatches`] the rest is denied.
    pub reason: Reason,
    /// The policies that isolate the pod in this direction, in order.
    pub isolated_by: Vec<PolicyId>,
    /// What each policy with a rule that matches allows, in order.
    pub grants: Vec<Grant>,
}

/// What a policy allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Grant {
    /// The policy.
    pub policy: PolicyId,
    /// What its rules allow; never nothing.
    pub allowed: Allowed,
}

/// All connections from one address to another, as [`evaluate`](crate::evaluate::evaluate) judges each.
pub fn between(
    cluster: &Cluster,
    source: IpAddr,
    destination: IpAddr,
    node_egress: NodeEgress,
) -> Way {
    let side = |direction| side(cluster, source, destination, direction, node_egress);
    let egress = side(Direction::Egress);
    let ingress = side(Direction::Ingress);
    Way {
        allowed: egress.allowed.intersection(&ingress.allowed),
        egress,
        ingress,
    }
}

/// The policies that isolate a pod in a direction, in order.
pub fn isolating<'a>(
    cluster: &'a Cluster,
    pod: &'a Pod,
    direction: Direction,
) -> impl Iterator<Item = &'a NetworkPolicy> {
    cluster
        .policies_in(&pod.id.namespace)
        .filter(move |policy| policy.rules(direction).is_some() && selects(policy, pod))
}

fn side(
    cluster: &Cluster,
    source: IpAddr,
    destination: IpAddr,
    direction: Direction,
    node_egress: NodeEgress,
) -> Side {
    let open = |reason, isolated_by| Side {
        allowed: Allowed::everything(),
        reason,
        isolated_by,
        grants: Vec::new(),
    };
    let (subject, other) = match direction {
        Direction::Egress => (source, destination),
        Direction::Ingress => (destination, source),
    };
    let Owner::Pod(subject) = cluster.owner(subject) else {
        return open(Reason::NotAPod, Vec::new());
    };
    let other = OtherEnd::at(cluster, other);
    if matches!(other.owner, Owner::Pod(pod) if pod.id == subject.id) {
        return open(Reason::ToItself, Vec::new());
    }
    let policies: Vec<&NetworkPolicy> = isolating(cluster, subject, direction).collect();
    if policies.is_empty() {
        return open(Reason::NotIsolated, Vec::new());
    }
    let isolated_by = policies.iter().map(|policy| policy.id.clone()).collect();
    if exempts_own_node(subject, &other, direction, node_egress) {
        return open(Reason::OwnNode, isolated_by);
    }
    let destination = other.named_ports_of(direction, subject);
    let mut allowed = Allowed::default();
    let mut grants = Vec::new();
    for policy in policies {
        let granted = policy
            .rules(direction)
            .into_iter()
            .flatten()
            .filter(|rule| peers_match(cluster, rule, &other))
            .map(|rule| ports(rule, destination))
            .fold(Allowed::default(), |all, ports| all.union(&ports));
        if !granted.is_nothing() {
            allowed = allowed.union(&granted);
            grants.push(Grant {
                policy: policy.id.clone(),
                allowed: granted,
            });
        }
    }
    Side {
        reason: if grants.is_empty() {
            Reason::NoRuleMatches
        } else {
            Reason::RuleMatches
        },
        allowed,
        isolated_by,
        grants,
    }
}

/// What a rule's `ports` allow to a destination, on which its named ports are resolved.
fn ports(rule: &Rule, destination: Option<&Pod>) -> Allowed {
    let Ports::Of(ports) = &rule.ports else {
        return Allowed::everything();
    };
    let mut allowed = Allowed::default();
    for port in ports {
        let protocol = port.protocol;
        match &port.port {
            PortMatch::All => allowed.insert(protocol, PortRange::ALL),
            PortMatch::Range(range) => allowed.insert(protocol, *range),
            PortMatch::Named(name) => {
                let numbers = destination
                    .into_iter()
                    .flat_map(|pod| pod.numbers_of(name, protocol));
                for number in numbers {
                    allowed.insert(protocol, PortRange::single(number));
                }
            }
        }
    }
    allowed
}
