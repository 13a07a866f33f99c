//! Ports that no destination has.

use policy_compiler::model::{
    Direction, NetworkPolicy, Peer, Peers, Pod, PolicyPort, PortMatch, Ports, Rule,
};

use super::code::{Code, Severity};
use super::facts::Facts;
use super::finding::Finding;

pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for written in facts.rules() {
        let (policy, rule, direction) = (written.policy, written.rule, written.direction);
        let Ports::Of(ports) = &rule.ports else {
            continue;
        };
        let destinations = destinations(facts, policy, rule, direction);
        for (item, port) in ports.iter().enumerate() {
            let found = match &port.port {
                PortMatch::Named(name) if destinations.is_empty() => {
                    of_nobody(facts, rule, direction, name)
                }
                _ if destinations.is_empty() => None,
                PortMatch::Named(_) => named(port, &destinations),
                PortMatch::Range(_) if is_known(rule, direction) => undeclared(port, &destinations),
                _ => None,
            };
            if let Some((severity, code, message)) = found {
                let field = format!("{}.ports[{item}].port", written.field());
                findings.push(facts.finding(severity, code, &policy.id, field, message));
            }
        }
    }
    findings
}

type Found = Option<(Severity, Code, String)>;

/// The pods on which ports are looked up.
fn destinations<'a>(
    facts: &Facts<'a>,
    policy: &NetworkPolicy,
    rule: &Rule,
    direction: Direction,
) -> Vec<&'a Pod> {
    match (direction, &rule.peers) {
        (Direction::Ingress, _) => facts.selected(policy),
        (Direction::Egress, Peers::Any) => {
            let pods = facts.cluster.pods.values();
            pods.filter(|pod| pod.is_on_pod_network()).collect()
        }
        (Direction::Egress, Peers::Of(peers)) => {
            peers.iter().flat_map(|peer| facts.matched(peer)).collect()
        }
    }
}

/// Whether every destination is a pod: of others the ports are not known.
fn is_known(rule: &Rule, direction: Direction) -> bool {
    direction == Direction::Ingress
        || matches!(&rule.peers, Peers::Of(peers) if peers.iter().all(|peer| matches!(peer, Peer::Pods { .. })))
}

/// A name for addresses outside of the cluster. Of selectors that find nobody others tell.
fn of_nobody(facts: &Facts<'_>, rule: &Rule, direction: Direction, name: &str) -> Found {
    let Peers::Of(peers) = &rule.peers else {
        return None;
    };
    let is_outside = peers.iter().all(|peer| matches!(peer, Peer::Block(_)));
    if direction == Direction::Ingress || !is_outside || !facts.has_pods {
        return None;
    }
    let message = format!(
        "no destination has a port named {name}: only pods have names for ports, and none of the input is in the ipBlock"
    );
    Some((Severity::Warning, Code::NamedPortNowhere, message))
}

fn named(port: &PolicyPort, destinations: &[&Pod]) -> Found {
    let PortMatch::Named(name) = &port.port else {
        return None;
    };
    let protocol = port.protocol;
    let has = |pod: &&Pod| pod.numbers_of(name, protocol).next().is_some();
    if destinations.iter().any(has) {
        return None;
    }
    let declared = destinations.iter().flat_map(|pod| pod.ports.iter());
    let other = declared
        .filter(|declared| declared.name.as_ref() == Some(name))
        .map(|declared| declared.protocol)
        .min();
    let hint = other.map_or_else(String::new, |other| format!("; it is there with {other}"));
    let pods = some(destinations);
    let message = format!("no destination has a {protocol} port named {name}{hint} ({pods})");
    Some((Severity::Warning, Code::NamedPortNowhere, message))
}

/// Containers need not declare their ports, so only pods that declare some say anything.
fn undeclared(port: &PolicyPort, destinations: &[&Pod]) -> Found {
    let PortMatch::Range(range) = &port.port else {
        return None;
    };
    let is_declared = |pod: &Pod| {
        let mut ports = pod.ports.iter();
        ports.any(|own| own.protocol == port.protocol && range.contains(own.port))
    };
    let is_open = |pod: &&Pod| pod.ports.is_empty() || is_declared(pod);
    if destinations.iter().any(is_open) {
        return None;
    }
    let (protocol, pods) = (port.protocol, some(destinations));
    let message = format!("no container of the destinations declares {protocol} {range} ({pods})");
    Some((Severity::Hint, Code::PortNotDeclared, message))
}

/// The first pod, and how many more there are.
fn some(pods: &[&Pod]) -> String {
    let names: std::collections::BTreeSet<_> = pods.iter().map(|pod| &pod.id).collect();
    match names.first() {
        Some(first) if names.len() > 1 => format!("{first} and {} more", names.len() - 1),
        Some(first) => first.to_string(),
        None => String::new(),
    }
}
