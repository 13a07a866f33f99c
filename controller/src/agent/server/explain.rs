//! Questions about flows, answered by what is in force.

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy_compiler::evaluate::{Decision, NodeEgress, Reason, Verdict, evaluate};
use policy_compiler::model::{Direction, Owner, Pod};
use schemars::JsonSchema;
use serde::Serialize;

use crate::agent::snapshot::Snapshot;
use crate::agent::status::unready;
use crate::flow::{Answer, Answered, Question};

/// An answer line of `picket explain --live`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LiveAnswer {
    /// What the objects say.
    #[serde(flatten)]
    pub answer: Answer,
    /// What the agent has in force; absent if the flow cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force: Option<InForce>,
}

/// What an agent has in force of a flow.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct InForce {
    /// The agent's node. Only its pods' side of a flow is judged there.
    pub node: String,
    /// The generation of nftables.
    pub generation: u32,
    /// Whether a packet passes; null if nothing was applied since the agent started, when what was in force before stays
    /// so. Of pods on other nodes it is taken that their agents have the same in force.
    pub verdict: Option<Verdict>,
    /// Why it is not what the objects say, and what else has to be known; sentences.
    pub notes: Vec<String>,
    /// All of it in words.
    pub text: String,
}

impl LiveAnswer {
    /// Answers a question.
    pub fn to(snapshot: &Snapshot, question: &Question) -> Self {
        let (answer, asked) = Answer::to(&snapshot.cluster, question, snapshot.node_egress);
        let ends = asked.map(|asked| asked.connection);
        let in_force = match (&answer.answered, ends) {
            (Answered::Evaluated { evaluation, .. }, Some(connection)) => {
                let forced = evaluate(&snapshot.effective, connection, snapshot.node_egress);
                let ends = [connection.source, connection.destination];
                let [source, destination] = ends.map(|address| pod(snapshot, address));
                let itself = forced.egress.reason == Reason::ToItself;
                let closed = !itself
                    && (source
                        .is_some_and(|pod| closes(snapshot, pod, Direction::Egress, ends[1]))
                        || destination
                            .is_some_and(|pod| closes(snapshot, pod, Direction::Ingress, ends[0])));
                let denied = closed || forced.verdict == Verdict::Deny;
                let verdict = if denied {
                    Verdict::Deny
                } else {
                    Verdict::Allow
                };
                let decisions = [
                    &evaluation.egress,
                    &evaluation.ingress,
                    &forced.egress,
                    &forced.ingress,
                ];
                let mut in_force = InForce {
                    node: snapshot.node.clone(),
                    generation: snapshot.generation,
                    verdict: snapshot.ready.then_some(verdict),
                    notes: notes(snapshot, &decisions, [source, destination]),
                    text: String::new(),
                };
                in_force.text = in_force.words();
                Some(in_force)
            }
            _ => None,
        };
        Self { answer, in_force }
    }
}

fn pod(snapshot: &Snapshot, address: IpAddr) -> Option<&Pod> {
    match snapshot.effective.owner(address) {
        Owner::Pod(pod) => Some(pod),
        Owner::Node(_) | Owner::External => None,
    }
}

/// Whether the pod is closed for the other end, which is not itself: its own node reaches it, and is reached by the
/// own-node egress switch ([`compile_closed`](policy_compiler::compile::compile_closed)).
fn closes(snapshot: &Snapshot, pod: &Pod, direction: Direction, other: IpAddr) -> bool {
    let own_node = match snapshot.effective.owner(other) {
        Owner::Node(name) => pod.node.as_deref() == Some(name),
        Owner::Pod(_) | Owner::External => false,
    };
    let exempt = direction == Direction::Ingress || snapshot.node_egress == NodeEgress::Allow;
    snapshot.closed.contains(&pod.id) && !(own_node && exempt)
}

fn notes(snapshot: &Snapshot, decisions: &[&Decision; 4], ends: [Option<&Pod>; 2]) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(unready(snapshot).map(|why| format!("{why}; what was in force before stays so")));
    let is_local = |pod: &Pod| pod.node.as_deref() == Some(snapshot.node.as_str());
    let ends: Vec<_> = ends.into_iter().flatten().collect();
    if !ends.iter().any(|pod| is_local(pod)) {
        notes.push(format!(
            "neither end is a pod of node {}: other agents judge this flow",
            snapshot.node
        ));
    }
    for pod in ends.iter().filter(|pod| snapshot.closed.contains(&pod.id)) {
        let why = snapshot.exceeded.get(&pod.id.namespace);
        let why = why
            .map(|exceeded| format!(": {exceeded}"))
            .unwrap_or_default();
        notes.push(format!(
            "{} is closed: it sends and receives nothing, but for its own node{why}",
            pod.id
        ));
    }
    for pod in ends
        .iter()
        .filter(|pod| !snapshot.closed.contains(&pod.id) && is_local(pod))
    {
        if let Some(exceeded) = snapshot.exceeded.get(&pod.id.namespace) {
            notes.push(format!(
                "for {} the policies stay in force that were before its namespace came over its budget: {exceeded}",
                pod.id
            ));
        }
    }
    if !snapshot.unprotected.is_empty() {
        let open: Vec<_> = snapshot
            .unprotected
            .iter()
            .map(ToString::to_string)
            .collect();
        notes.push(format!("nothing is enforced for {}", open.join(", ")));
    }
    let policies: BTreeSet<_> = decisions
        .iter()
        .flat_map(|decision| &decision.policies)
        .collect();
    for policy in policies {
        if let Some(error) = snapshot.refused.get(policy) {
            notes.push(format!("{policy} isolates its pods and allows nothing, since the kernel refused its rules: {error}"));
        }
    }
    if let Some(failure) = snapshot.failure.as_ref().filter(|_| snapshot.ready) {
        notes.push(format!(
            "the last change was not applied, and what was in force before stays so: {failure}"
        ));
    }
    if snapshot.drift_alarm {
        notes.push(
            "somebody changes our tables over and over: what is in force may be gone at times"
                .to_owned(),
        );
    }
    notes
}

impl InForce {
    /// A sentence, and a line for each note.
    fn words(&self) -> String {
        let Self {
            node, generation, ..
        } = self;
        let verdict = match self.verdict {
            Some(Verdict::Allow) => "allowed",
            Some(Verdict::Deny) => "denied",
            None => "not known",
        };
        let mut words = format!("In force on node {node} (generation {generation}): {verdict}.");
        for note in &self.notes {
            words.push_str("\n  note: ");
            words.push_str(note);
        }
        words
    }
}
