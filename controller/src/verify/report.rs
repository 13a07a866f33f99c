//! What a person is shown.

use std::collections::BTreeMap;
use std::fmt::Write;

use policy_compiler::evaluate::Verdict;
use policy_compiler::model::PolicyId;

use crate::flow::{Answer, Answered, Question};

/// How many flows agreed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Flows whose packet did what the specification says, allowed.
    pub allowed: usize,
    /// Flows whose packet did what the specification says, denied.
    pub denied: usize,
    /// Flows whose packet did not.
    pub disagree: usize,
    /// Flows that could not be asked.
    pub unaskable: usize,
}

impl Summary {
    /// Counts answers.
    pub fn of(answers: &[Answer]) -> Self {
        let mut summary = Self::default();
        for answer in answers {
            match &answer.answered {
                Answered::Unaskable { .. } => summary.unaskable += 1,
                Answered::Evaluated {
                    evaluation, packet, ..
                } => match (evaluation.verdict, packet) {
                    (expected, Some(packet)) if expected != *packet => summary.disagree += 1,
                    (Verdict::Allow, _) => summary.allowed += 1,
                    (Verdict::Deny, _) => summary.denied += 1,
                },
            }
        }
        summary
    }
}

/// For each policy how many flows it allowed and how many it helped to deny.
fn policies(answers: &[Answer]) -> Vec<[String; 3]> {
    let mut counts: BTreeMap<&PolicyId, [usize; 2]> = BTreeMap::new();
    for answer in answers {
        let Answered::Evaluated { evaluation, .. } = &answer.answered else {
            continue;
        };
        for decision in [&evaluation.egress, &evaluation.ingress] {
            for policy in &decision.policies {
                let side = usize::from(decision.verdict == Verdict::Deny);
                counts.entry(policy).or_default()[side] += 1;
            }
        }
    }
    let rows = counts.into_iter();
    rows.map(|(policy, [allowed, denied])| {
        [policy.to_string(), allowed.to_string(), denied.to_string()]
    })
    .collect()
}

/// The flows as a table, disagreements with their reason below it, what each policy did, and a summary.
pub fn table(questions: &[Question], answers: &[Answer]) -> String {
    let mut rows = vec![["FROM", "TO", "PORT", "EXPECTED", "PACKET", ""].map(str::to_owned)];
    let mut details = String::new();
    for (question, answer) in questions.iter().zip(answers) {
        let (expected, packet, mark) = match &answer.answered {
            Answered::Unaskable { error } => {
                // Writing to a String can not fail.
                let _ = writeln!(details, "{} cannot be asked: {error}", question.name());
                ("-".to_owned(), "-".to_owned(), "cannot be asked")
            }
            Answered::Evaluated {
                evaluation,
                packet,
                text,
            } => {
                let agrees = packet.is_none_or(|packet| packet == evaluation.verdict);
                if !agrees {
                    let _ = writeln!(details, "DISAGREES: the packet says otherwise than: {text}");
                }
                let packet = packet.map_or_else(|| "-".to_owned(), |packet| packet.to_string());
                let mark = if agrees { "" } else { "DISAGREES" };
                (evaluation.verdict.to_string(), packet, mark)
            }
        };
        let port = match &question.port {
            Some(port) => format!("{port}/{}", question.protocol),
            None => question.protocol.to_string(),
        };
        let family = match question.family {
            Some(crate::flow::FamilyName::Ipv6) => " ipv6",
            _ => "",
        };
        rows.push([
            short(&question.from.to_string()),
            short(&question.to.to_string()),
            format!("{port}{family}"),
            expected,
            packet,
            mark.to_owned(),
        ]);
    }
    let Summary {
        allowed,
        denied,
        disagree,
        unaskable,
    } = Summary::of(answers);
    let mut text = aligned(&rows);
    text.push('\n');
    let policies = policies(answers);
    if !policies.is_empty() {
        let mut rows = vec![["POLICY", "ALLOWED", "DENIED"].map(str::to_owned)];
        rows.extend(policies);
        text.push_str(&aligned(&rows));
        text.push('\n');
    }
    if !details.is_empty() {
        text.push_str(&details);
        text.push('\n');
    }
    let agree = allowed + denied;
    let _ = write!(
        text,
        "{} flows: {agree} agree ({allowed} allowed, {denied} denied), {disagree} disagree",
        answers.len()
    );
    if unaskable > 0 {
        let _ = write!(text, ", {unaskable} cannot be asked");
    }
    text.push('\n');
    text
}

/// Names as a person writes them.
fn short(end: &str) -> String {
    let plain = end.strip_prefix("pod/").or_else(|| end.strip_prefix("ip/"));
    plain.unwrap_or(end).to_owned()
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:<width$}  "))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
