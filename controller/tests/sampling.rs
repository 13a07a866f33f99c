//! What `verify` chooses when no flows are named.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use controller::flow::{Answer, Answered, End};
use controller::verify::sample;
use policy_compiler::evaluate::{NodeEgress, Verdict};
use support::{cases, load};

fn pod(namespace: usize, name: usize) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{namespace: ns{namespace}, name: p{name}, labels: {{app: a{}, pod: p{name}}}}}
spec: {{nodeName: n{}, containers: [{{name: c, image: i}}]}}
status: {{phase: Running, podIPs: [{{ip: 10.1.{namespace}.{name}}}]}}
---
",
        name % 5,
        name % 7
    )
}

fn policy(namespace: usize, name: usize) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{namespace: ns{namespace}, name: q{name}}}
spec:
  podSelector: {{matchLabels: {{app: a{}}}}}
  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: a{}}}}}}}], ports: [{{port: {}}}]}}]
---
",
        name % 5,
        (name + 1) % 5,
        1000 + name
    )
}

#[test]
fn a_large_cluster_is_sampled_within_bounds_and_says_what_it_left_out() {
    let mut manifests = String::new();
    for namespace in 0..20 {
        (0..60).for_each(|name| manifests += &pod(namespace, name));
        (0..30).for_each(|name| manifests += &policy(namespace, name));
    }
    let cluster = load(&manifests).unwrap();
    let chosen = sample(&cluster, NodeEgress::Allow);
    let ends = chosen
        .questions
        .iter()
        .flat_map(|question| [&question.from, &question.to]);
    let pods: BTreeSet<_> = ends.filter(|end| matches!(end, End::Pod(_))).collect();
    assert!(pods.len() < 300, "{} pods", pods.len());
    assert!(
        (1000..=4100).contains(&chosen.questions.len()),
        "{} flows",
        chosen.questions.len()
    );
    assert!(!chosen.left_out.is_empty() && chosen.left_out.len() < cluster.policies.len());
    let again = sample(&cluster, NodeEgress::Allow);
    assert_eq!(
        (again.questions, again.left_out),
        (chosen.questions, chosen.left_out)
    );
}

#[test]
fn every_policy_of_the_cases_is_shown_on_the_sides_that_it_has() {
    for case in cases() {
        let cluster = case.cluster().unwrap();
        let chosen = sample(&cluster, NodeEgress::Allow);
        let mut sides = BTreeSet::new();
        for question in &chosen.questions {
            let (answer, _) = Answer::to(&cluster, question, NodeEgress::Allow);
            let Answered::Evaluated { evaluation, .. } = answer.answered else {
                panic!(
                    "{}: a flow of the sample cannot be asked: {question:?}",
                    case.name()
                );
            };
            for decision in [evaluation.egress, evaluation.ingress] {
                sides.extend(
                    decision
                        .policies
                        .into_iter()
                        .map(|id| (id, decision.verdict)),
                );
            }
        }
        // The hand-written answers say which sides there are.
        for line in case.read("expected.jsonl").lines() {
            let answer: serde_json::Value = serde_json::from_str(line).unwrap();
            for direction in ["egress", "ingress"] {
                let verdict = match answer[direction]["verdict"].as_str() {
                    Some("allow") => Verdict::Allow,
                    Some("deny") => Verdict::Deny,
                    _ => continue,
                };
                for id in answer[direction]["policies"].as_array().unwrap() {
                    let shown = sides
                        .iter()
                        .any(|(shown, side)| *id == shown.to_string() && *side == verdict);
                    assert!(
                        shown,
                        "{}: no flow shows that {id} says {verdict}",
                        case.name()
                    );
                }
            }
        }
    }
}
