//! Selectors that find nobody.

use policy_compiler::cover::selects;
use policy_compiler::model::{
    NAMESPACE_NAME_LABEL, NamespaceScope, NetworkPolicy, Peer, Requirement,
};

use super::code::{Code, Severity};
use super::facts::Facts;
use super::finding::Finding;

pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !facts.has_pods {
        return findings;
    }
    for (policy, _) in facts.policies() {
        findings.extend(subjects(facts, policy));
    }
    for peer in facts.peers() {
        findings.extend(peer_of(facts, peer.rule.policy, peer.peer, peer.field()));
    }
    findings
}

fn subjects(facts: &Facts<'_>, policy: &NetworkPolicy) -> Option<Finding> {
    if !facts.selected(policy).is_empty() {
        return None;
    }
    let namespace = &policy.id.namespace;
    let selector = &policy.selector;
    let live: Vec<_> = facts.live_in(namespace).collect();
    let host: Vec<_> = live
        .iter()
        .filter(|pod| selector.matches(&pod.labels))
        .collect();
    let (severity, code, message) = if let Some(pod) = host.first() {
        let message = format!(
            "selects only hostNetwork pods: {}{}",
            pod.id,
            more(host.len())
        );
        (Severity::Warning, Code::OnlyHostNetwork, message)
    } else if live.is_empty() {
        let message = format!("selects no pod: namespace {namespace} has none in the input");
        (Severity::Hint, Code::SelectsNoPod, message)
    } else {
        let message = format!("selects no pod: none of namespace {namespace} matches {selector}");
        (Severity::Warning, Code::SelectsNoPod, message)
    };
    Some(facts.finding(severity, code, &policy.id, "spec.podSelector", message))
}

fn peer_of(
    facts: &Facts<'_>,
    policy: &NetworkPolicy,
    peer: &Peer,
    field: String,
) -> Option<Finding> {
    let Peer::Pods { namespaces, .. } = peer else {
        return None;
    };
    if !facts.matched(peer).is_empty() {
        return None;
    }
    let cluster = facts.cluster;
    let live = || cluster.pods.values().filter(|pod| !pod.phase.is_terminal());
    let host: Vec<_> = live().filter(|pod| selects(cluster, peer, pod)).collect();
    if let Some(pod) = host.first() {
        let message = format!(
            "matches only hostNetwork pods: {}{}",
            pod.id,
            more(host.len())
        );
        let code = Code::OnlyHostNetwork;
        return Some(facts.finding(Severity::Warning, code, &policy.id, field, message));
    }
    let in_scope = |name: &String| match namespaces {
        NamespaceScope::Own(own) => own == name,
        NamespaceScope::Matching(selector) => cluster
            .namespace_labels(name)
            .is_some_and(|labels| selector.matches(labels)),
    };
    let found: Vec<_> = cluster
        .namespaces
        .keys()
        .filter(|name| in_scope(name))
        .collect();
    // What other repositories deploy is not in the input: of that nothing is known.
    let (severity, reason) = if found.is_empty() {
        (Severity::Hint, "; no namespace in the input does")
    } else if !live().any(|pod| in_scope(&pod.id.namespace)) {
        (
            Severity::Hint,
            "; those namespaces have no pods in the input",
        )
    } else if !is_complete(facts, namespaces) {
        (Severity::Hint, "; a namespace that is not in the input may")
    } else {
        (Severity::Warning, "")
    };
    let message = format!("matches nothing: {peer}{reason}");
    Some(facts.finding(
        severity,
        Code::PeerMatchesNothing,
        &policy.id,
        field,
        message,
    ))
}

/// Whether the input holds every namespace that can be meant: those that are given by name, or a whole cluster's.
fn is_complete(facts: &Facts<'_>, namespaces: &NamespaceScope) -> bool {
    let NamespaceScope::Matching(selector) = namespaces else {
        return true;
    };
    let given = &facts.cluster.namespaces;
    let by_name = selector.requirements().any(|requirement| {
        matches!(requirement, Requirement::In(key, names)
            if key == NAMESPACE_NAME_LABEL && names.iter().all(|name| given.contains_key(name)))
    });
    by_name || given.contains_key("kube-system")
}

fn more(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        _ => format!(" and {} more", count - 1),
    }
}
