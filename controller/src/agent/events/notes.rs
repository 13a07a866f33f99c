//! What there is to say of a snapshot.

use std::collections::BTreeMap;

use policy_compiler::model::{NetworkPolicy, Pod, PolicyId};

use crate::agent::snapshot::Snapshot;
use crate::agent::status::local_pods;

/// Why a policy is not in force as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// The kernel refused its rules.
    Refused,
    /// The policies of its namespace need more than its budget.
    OverBudget,
}

impl Reason {
    /// Its name in the API.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Refused => "Refused",
            Self::OverBudget => "OverBudget",
        }
    }
}

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subject {
    /// The policy.
    pub policy: PolicyId,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is to be said. Only policies that select a pod of this node count: each node speaks for its own pods.
pub(super) fn notes(snapshot: &Snapshot) -> BTreeMap<Subject, String> {
    if snapshot.refused.is_empty() && snapshot.exceeded.is_empty() {
        return BTreeMap::new();
    }
    let mut local: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for pod in local_pods(snapshot) {
        local.entry(&pod.id.namespace).or_default().push(pod);
    }
    let selects_local = |policy: &&NetworkPolicy| {
        let mut pods = local
            .get(policy.id.namespace.as_str())
            .into_iter()
            .flatten();
        pods.any(|pod| policy.selector.matches(&pod.labels))
    };
    let subject = |policy: &NetworkPolicy, reason| Subject {
        policy: policy.id.clone(),
        reason,
    };
    let (cluster, node) = (&snapshot.cluster, &snapshot.node);
    let refused = snapshot.refused.iter().filter_map(|(id, words)| {
        let policy = cluster.policies.get(id).filter(selects_local)?;
        let note = format!(
            "Node {node}: the kernel refused the rules of this policy, which isolates the pods that it selects there and allows nothing: {words}"
        );
        Some((subject(policy, Reason::Refused), note))
    });
    let exceeded = snapshot.exceeded.iter().flat_map(|(namespace, exceeded)| {
        let policies = cluster.policies_in(namespace).filter(selects_local);
        let note = exceeded.to_string();
        policies.map(move |policy| (subject(policy, Reason::OverBudget), note.clone()))
    });
    refused.chain(exceeded).collect()
}
