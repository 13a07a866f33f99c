//! Pods that may talk to others and not to a DNS server.

use std::collections::BTreeMap;

use policy_compiler::cover::selects;
use policy_compiler::model::{
    LabelSelector, NamespaceScope, NetworkPolicy, Peer, Peers, Pod, PolicyId, PortMatch, Ports,
    Protocol, Rule,
};

use super::code::{Code, Severity};
use super::facts::Facts;
use super::finding::Finding;

/// What Services forward port 53 to: 53, or 5353 where the server has no right to the former.
const NUMBERS: [u16; 2] = [53, 5353];

pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let cluster = facts.cluster;
    let mut groups: BTreeMap<Vec<&PolicyId>, (Vec<&NetworkPolicy>, Vec<&Pod>)> = BTreeMap::new();
    for pod in cluster.pods.values().filter(|pod| pod.is_on_pod_network()) {
        let policies: Vec<_> = cluster
            .policies_in(&pod.id.namespace)
            .filter(|policy| policy.egress.is_some() && policy.selector.matches(&pod.labels))
            .collect();
        let ids = policies.iter().map(|policy| &policy.id).collect();
        let (_, pods) = groups.entry(ids).or_insert((policies, Vec::new()));
        pods.push(pod);
    }
    let servers = servers(facts);
    let groups = groups.values();
    groups
        .filter_map(|(policies, pods)| forgotten(facts, &servers, policies, pods))
        .collect()
}

/// Pods that declare a DNS server's port.
fn servers<'a>(facts: &Facts<'a>) -> Vec<&'a Pod> {
    let pods = facts
        .cluster
        .pods
        .values()
        .filter(|pod| pod.is_on_pod_network());
    pods.filter(|pod| {
        let mut ports = pod.ports.iter();
        ports.any(|port| port.protocol == Protocol::Udp && NUMBERS.contains(&port.port))
    })
    .collect()
}

fn forgotten(
    facts: &Facts<'_>,
    servers: &[&Pod],
    policies: &[&NetworkPolicy],
    pods: &[&Pod],
) -> Option<Finding> {
    let rules = || {
        policies
            .iter()
            .flat_map(|policy| policy.egress.iter().flatten())
    };
    // Who may open no connection at all is meant to be so.
    let first = policies
        .iter()
        .find(|policy| policy.egress.iter().flatten().next().is_some())?;
    let allows = |protocol| rules().any(|rule| allows_dns(facts, rule, protocol, servers));
    let (udp, tcp) = (allows(Protocol::Udp), allows(Protocol::Tcp));
    if udp && tcp {
        return None;
    }
    let by_address = |rule: &Rule| matches!(&rule.peers, Peers::Of(peers) if peers.iter().all(|peer| matches!(peer, Peer::Block(_))));
    // Large answers come over TCP, and who talks to fixed addresses may need no names.
    let severity = if udp || rules().all(by_address) {
        Severity::Hint
    } else {
        Severity::Warning
    };
    let ports = match (udp, tcp) {
        (true, _) => "TCP 53",
        (_, true) => "UDP 53",
        _ => "UDP and TCP 53",
    };
    let who = match pods {
        [pod] => pod.id.to_string(),
        [pod, rest @ ..] => format!("{} and {} more", pod.id, rest.len()),
        [] => return None,
    };
    let names: Vec<_> = policies
        .iter()
        .map(|policy| policy.id.to_string())
        .collect();
    let message = format!(
        "{who} may not reach {ports} of a DNS server (isolated for egress by {})",
        names.join(", ")
    );
    Some(facts.finding(
        severity,
        Code::DnsForgotten,
        &first.id,
        "spec.egress",
        message,
    ))
}

fn allows_dns(facts: &Facts<'_>, rule: &Rule, protocol: Protocol, servers: &[&Pod]) -> bool {
    let Ports::Of(ports) = &rule.ports else {
        return may_be_server(facts, rule, servers);
    };
    ports
        .iter()
        .filter(|port| port.protocol == protocol)
        .any(|port| match &port.port {
            PortMatch::All => may_be_server(facts, rule, servers),
            // Whoever names the port means it.
            PortMatch::Named(name) => name.starts_with("dns"),
            PortMatch::Range(range) if range.first() == range.last() => {
                NUMBERS.contains(&range.first())
            }
            PortMatch::Range(range) => range.contains(53) && may_be_server(facts, rule, servers),
        })
}

/// Whether a rule for every port can mean a DNS server: one of the input; one that selectors find by the usual labels
/// if the input has none; any address.
fn may_be_server(facts: &Facts<'_>, rule: &Rule, servers: &[&Pod]) -> bool {
    let Peers::Of(peers) = &rule.peers else {
        return true;
    };
    peers.iter().any(|peer| match peer {
        Peer::Block(_) => true,
        Peer::Pods { namespaces, pods } => {
            let usual_namespace = match namespaces {
                NamespaceScope::Own(own) => own == "kube-system",
                NamespaceScope::Matching(selector) => {
                    matches_usual(selector, &[("kubernetes.io/metadata.name", "kube-system")])
                }
            };
            let usual = usual_namespace && matches_usual(pods, &[("k8s-app", "kube-dns")]);
            let is_there = |server: &&Pod| selects(facts.cluster, peer, server);
            usual || servers.iter().any(is_there)
        }
    })
}

fn matches_usual(selector: &LabelSelector, labels: &[(&str, &str)]) -> bool {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    selector.matches(&labels)
}
