//! Answers.

use policy_compiler::evaluate::{
    Connection, Decision, Evaluation, NodeEgress, Reason, Verdict, evaluate,
};
use policy_compiler::model::{Cluster, Direction, Owner};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Asked, Id, Question, resolve};

/// An answer line.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Answer {
    /// The question's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The answer, or why there is none.
    #[serde(flatten)]
    pub answered: Answered,
}

/// What an answer line says.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Answered {
    /// The verdict of both directions.
    Evaluated {
        /// Verdicts and reasons.
        #[serde(flatten)]
        evaluation: Evaluation,
        /// What a packet did, where one was sent.
        #[serde(skip_serializing_if = "Option::is_none")]
        packet: Option<Verdict>,
        /// The answer in a sentence.
        text: String,
    },
    /// The flow cannot be asked.
    Unaskable {
        /// Why.
        error: String,
    },
}

impl Answer {
    /// Answers a question by the specification.
    pub fn to(
        cluster: &Cluster,
        question: &Question,
        node_egress: NodeEgress,
    ) -> (Self, Option<Asked>) {
        let asked = resolve(cluster, question);
        let answered = match &asked {
            Ok(asked) => {
                let evaluation = evaluate(cluster, asked.connection, node_egress);
                let text = describe(cluster, asked, &evaluation);
                Answered::Evaluated {
                    evaluation,
                    packet: None,
                    text,
                }
            }
            Err(error) => Answered::Unaskable {
                error: error.clone(),
            },
        };
        let answer = Self {
            id: question.id.clone(),
            answered,
        };
        (answer, asked.ok())
    }
}

/// The answer in sentences.
pub fn describe(cluster: &Cluster, asked: &Asked, evaluation: &Evaluation) -> String {
    let Asked {
        question,
        connection,
    } = asked;
    let verb = match evaluation.verdict {
        Verdict::Allow => "is allowed",
        Verdict::Deny => "is denied",
    };
    let egress = side(cluster, *connection, Direction::Egress, &evaluation.egress);
    let ingress = side(
        cluster,
        *connection,
        Direction::Ingress,
        &evaluation.ingress,
    );
    format!(
        "{} -> {} {} {verb}. Egress: {egress}. Ingress: {ingress}.",
        question.from, question.to, connection.transport
    )
}

fn side(
    cluster: &Cluster,
    connection: Connection,
    direction: Direction,
    decision: &Decision,
) -> String {
    let (subject, other) = match direction {
        Direction::Egress => (connection.source, connection.destination),
        Direction::Ingress => (connection.destination, connection.source),
    };
    let name = |address| match cluster.owner(address) {
        Owner::Pod(pod) => pod.id.to_string(),
        Owner::Node(node) => format!("node {node}"),
        Owner::External => format!("{address}"),
    };
    let (subject, other) = (name(subject), name(other));
    let policies = || {
        let names: Vec<_> = decision.policies.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    match decision.reason {
        Reason::NotAPod => format!("allowed, {subject} is not a pod that policies select"),
        Reason::ToItself => format!("allowed, {subject} may always reach itself"),
        Reason::NotIsolated => format!("allowed, no policy isolates {subject} for {direction}"),
        Reason::OwnNode => format!("allowed, {other} is the own node of {subject}"),
        Reason::RuleMatches => format!("allowed by {}", policies()),
        Reason::NoRuleMatches => format!(
            "denied, {subject} is isolated by {} and no rule allows {other} on {}",
            policies(),
            connection.transport
        ),
    }
}
