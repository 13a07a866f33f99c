//! What `picket status` says.

mod text;

use cni_chain::attachment::Attachment;
use jiff::Timestamp;
use policy_compiler::model::{NamespacedName, Pod};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attachments::joined::Standing;
use super::revoke;
use super::snapshot::Snapshot;

/// How an agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The node.
    pub node: String,
    /// The agent's version.
    pub version: String,
    /// Whether nothing is wrong: it is ready, and there is nothing below in `failure`, `closed`, `unprotected`, `problems`,
    /// `refused`, `over_budget`, `quarantined`, nor a drift alarm, nor a failure or an overwritten mark in `revocation`, nor in `preflight` but notes.
    pub well: bool,
    /// Whether a complete state was applied since the agent started. What was in force before stays so until then.
    pub ready: bool,
    /// Why it is not ready; null if it is.
    pub unready: Option<String>,
    /// The generation of nftables that has what is in force.
    pub generation: u32,
    /// When the kernel was last equal to the objects (RFC 3339), if it was since the start.
    #[schemars(extend("format" = "date-time"))]
    pub last_success: Option<String>,
    /// Why the last attempt to apply failed, if it did.
    pub failure: Option<String>,
    /// Pods of this node that came meanwhile, `NAMESPACE/NAME`: they send and receive nothing until the kernel takes what
    /// they need.
    pub closed: Vec<String>,
    /// Pods of this node that came meanwhile and that are open, since the kernel does not take that they be closed.
    pub unprotected: Vec<String>,
    /// Interfaces of this node's pods that pass nothing, as nobody knows what they may pass.
    #[serde(default)]
    pub quarantined: Vec<Quarantined>,
    /// How much there is.
    pub counts: Counts,
    /// Files, objects, or kinds of objects that cannot be read.
    pub problems: Vec<SourceProblem>,
    /// Policies whose rules the kernel refused.
    pub refused: Vec<Refused>,
    /// Namespaces over their budget.
    pub over_budget: Vec<OverBudget>,
    /// Others' changes of our tables.
    pub drift: Drift,
    /// Open connections that are no longer allowed.
    pub revocation: Revocation,
    /// What was found in the kernel and its surroundings, as `SEVERITY: SENTENCE`. A `note` is worth knowing, and not
    /// wrong.
    pub preflight: Vec<String>,
}

/// An interface of a pod that passes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quarantined {
    /// The pod, `NAMESPACE/NAME`; nothing of an interface of which not even the record can be read.
    pub pod: Option<String>,
    /// The interface, `CONTAINERID-NAME`.
    pub interface: Option<String>,
    /// Why, and what to do.
    pub why: String,
}

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Namespaces.
    pub namespaces: usize,
    /// Nodes.
    pub nodes: usize,
    /// Pods.
    pub pods: usize,
    /// Pods of this node that have a network of their own.
    pub local_pods: usize,
    /// NetworkPolicies.
    pub policies: usize,
}

/// A part of the source that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceProblem {
    /// Which: a file; or of an API server `KIND NAMESPACE/NAME`, the name of a kind, as `pods`, `API server`, or `rights`.
    pub of: String,
    /// What is wrong; several lines if there are several things.
    pub message: String,
    /// Whether no complete state can be had as long as it lasts. If not, what was in force of it stays.
    pub blocks: bool,
}

/// A policy whose rules the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// `NAMESPACE/NAME`. It isolates the pods that it selects, and allows nothing.
    pub policy: String,
    /// What the kernel says.
    pub error: String,
}

/// A namespace whose policies need more than its budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OverBudget {
    /// Its name.
    pub namespace: String,
    /// What it needs, which policies need the most, and the remedy.
    pub message: String,
    /// Its pods of this node that send and receive nothing because of it, `NAMESPACE/NAME`.
    pub closed: Vec<String>,
}

/// Others' changes of our tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drift {
    /// How many were repaired since the agent started.
    pub repairs: u64,
    /// Whether somebody changes them over and over.
    pub alarm: bool,
}

/// Open connections that are no longer allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revocation {
    /// How many were cut since the agent started.
    pub revoked: u64,
    /// How many of those that were cut are allowed again.
    pub relaxed: u64,
    /// Why they could not be judged the last time, if so; it is tried again.
    pub failure: Option<String>,
    /// One that goes on because somebody takes our bit off its mark with each packet, and what to do.
    pub overwritten: Option<String>,
}

impl Status {
    /// What there is to say of a snapshot, and of open connections.
    pub fn of(snapshot: &Snapshot, revoked: &revoke::Status) -> Self {
        let cluster = &snapshot.cluster;
        let problems = snapshot.problems.iter().map(|(of, problem)| SourceProblem {
            of: of.clone(),
            message: problem.message.clone(),
            blocks: problem.blocks,
        });
        let refused = snapshot.refused.iter().map(|(policy, error)| Refused {
            policy: policy.to_string(),
            error: error.clone(),
        });
        let in_namespace = |name: &str| {
            let pods = snapshot.closed.iter();
            let pods = pods.filter(|pod| pod.namespace == name);
            pods.map(NamespacedName::to_string).collect()
        };
        let over_budget = snapshot.exceeded.iter().map(|(name, exceeded)| OverBudget {
            namespace: name.clone(),
            message: exceeded.to_string(),
            closed: in_namespace(name),
        });
        let waits = |pod: &&NamespacedName| !snapshot.exceeded.contains_key(&pod.namespace);
        let closed = snapshot.closed.iter().filter(waits);
        let unprotected = snapshot.unprotected.iter();
        let success = snapshot.last_success;
        let success = success.and_then(|at| Timestamp::try_from(at).ok());
        let mut status = Self {
            node: snapshot.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            well: false,
            ready: snapshot.ready,
            unready: unready(snapshot),
            generation: snapshot.generation,
            last_success: success.map(|at| at.to_string()),
            failure: snapshot.failure.clone(),
            closed: closed.map(NamespacedName::to_string).collect(),
            unprotected: unprotected.map(NamespacedName::to_string).collect(),
            quarantined: quarantined(snapshot),
            counts: Counts {
                namespaces: cluster.namespaces.len(),
                nodes: cluster.nodes.len(),
                pods: cluster.pods.len(),
                local_pods: local_pods(snapshot).count(),
                policies: cluster.policies.len(),
            },
            problems: problems.collect(),
            refused: refused.collect(),
            over_budget: over_budget.collect(),
            drift: Drift {
                repairs: snapshot.drift_repairs,
                alarm: snapshot.drift_alarm,
            },
            revocation: Revocation {
                revoked: revoked.revoked,
                relaxed: revoked.relaxed,
                failure: revoked.failure.clone(),
                overwritten: revoked.warning(),
            },
            preflight: snapshot.preflight.clone(),
        };
        status.well = status.is_well();
        status
    }

    fn is_well(&self) -> bool {
        self.ready
            && self.failure.is_none()
            && self.closed.is_empty()
            && self.unprotected.is_empty()
            && self.quarantined.is_empty()
            && self.problems.is_empty()
            && self.refused.is_empty()
            && self.over_budget.is_empty()
            && self.preflight.iter().all(|finding| is_note(finding))
            && self.revocation.failure.is_none()
            && self.revocation.overwritten.is_none()
            && !self.drift.alarm
    }
}

/// Interfaces that are not known to be anybody's, or must not be, and records that can not be read.
fn quarantined(snapshot: &Snapshot) -> Vec<Quarantined> {
    let of = |attachment: &Attachment, why: String| Quarantined {
        pod: Some(format!(
            "{}/{}",
            attachment.pod.namespace, attachment.pod.name
        )),
        interface: Some(attachment.id.to_string()),
        why,
    };
    let unknown = snapshot.attachments.values();
    let unknown = unknown.filter_map(|standing| match standing {
        Standing::Known(_) => None,
        Standing::Unknown(attachment, why) => Some(of(attachment, why.clone())),
    });
    let refused = snapshot.attached.refused.values();
    let refused = refused.map(|refusal| {
        let why = format!("{}: {}", refusal.message, refusal.details);
        of(&refusal.attachment, why)
    });
    let unreadable = snapshot.attached.unreadable.iter();
    let unreadable = unreadable.map(|line| Quarantined {
        pod: None,
        interface: None,
        why: line.clone(),
    });
    unknown.chain(refused).chain(unreadable).collect()
}

/// Why the agent is not ready; nothing if it is.
pub(crate) fn unready(snapshot: &Snapshot) -> Option<String> {
    if snapshot.ready {
        return None;
    }
    let mut problems = snapshot.problems.iter();
    let because = match (
        &snapshot.failure,
        problems.find(|(_, problem)| problem.blocks),
    ) {
        (Some(failure), _) => failure.clone(),
        (None, Some((of, problem))) => format!("{of}: {}", problem.message),
        (None, None) => "the source has not given a complete state yet".to_owned(),
    };
    Some(format!("nothing was applied since the start: {because}"))
}

/// Whether a finding of preflight is only worth knowing.
pub(crate) fn is_note(finding: &str) -> bool {
    finding.starts_with("note: ")
}

/// The pods of the snapshot's node that have a network of their own.
pub(crate) fn local_pods(snapshot: &Snapshot) -> impl Iterator<Item = &Pod> {
    let is_local = |pod: &&Pod| pod.node.as_deref() == Some(snapshot.node.as_str());
    let pods = snapshot.cluster.pods.values();
    pods.filter(move |pod| is_local(pod) && pod.is_on_pod_network())
}
