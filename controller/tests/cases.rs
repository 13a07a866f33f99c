//! The cases of `testdata/cases`: every rule of NetworkPolicy as a small cluster.
//!
//! Each folder holds `cluster.yaml`, `flows.jsonl` (questions) and `expected.jsonl` (answers, written by hand from
//! the specification, never by the program), and for each node what it is told: `NODE.ir.json` and `NODE.nft`.
//! `UPDATE_GOLDEN=1 cargo test -p controller --test cases` writes the latter anew; the difference is the review.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use controller::flow::{Answer, Answered, read_lines};
use controller::verify::{Summary, compiled, table, verify};
use policy_compiler::compile::compile;
use policy_compiler::evaluate::{NodeEgress, Reason};
use policy_compiler::lower::{Options, lower};
use policy_compiler::render;
use serde_json::Value;
use support::{Format, cases, each, listed, settings};
use testbed::Network;

#[test]
fn explain_answers_what_the_specification_says() {
    let failures = each(&cases(), |case| {
        let cluster = case.cluster()?;
        let questions = read_lines(&case.read("flows.jsonl")).map_err(|error| error.to_string())?;
        let expected = case.read("expected.jsonl");
        let expected: Vec<Value> = expected
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        if questions.len() != expected.len() {
            return Err(format!(
                "{} flows, {} answers",
                questions.len(),
                expected.len()
            ));
        }
        for (question, expected) in questions.iter().zip(expected) {
            let (answer, _) = Answer::to(&cluster, question, NodeEgress::Allow);
            let is_error = matches!(answer.answered, Answered::Unaskable { .. });
            let mut answer = serde_json::to_value(answer).unwrap();
            if let Some(answer) = answer.as_object_mut() {
                answer.remove("text");
                if is_error {
                    answer.insert("error".into(), true.into());
                }
            }
            if answer != expected {
                return Err(format!("answered {answer}\nexpected {expected}"));
            }
        }
        Ok(())
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_cases_show_every_reason() {
    let expected: String = cases()
        .iter()
        .map(|case| case.read("expected.jsonl"))
        .collect();
    for reason in Reason::ALL {
        let quoted = format!("\"reason\":\"{}\"", reason.name());
        assert!(
            expected.replace(": ", ":").contains(&quoted),
            "no case shows {}",
            reason.name()
        );
    }
}

#[test]
fn what_each_node_is_told_is_the_golden_text() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let failures = each(&cases(), |case| {
        let cluster = case.cluster()?;
        let mut told = BTreeSet::new();
        for node in cluster.nodes.keys() {
            let ir = compile(&cluster, node);
            let ir_text = serde_json::to_string_pretty(&ir).unwrap() + "\n";
            let nft = render::text(&lower(&ir, &Options::default()));
            for (suffix, text) in [("ir.json", ir_text), ("nft", nft)] {
                let name = format!("{node}.{suffix}");
                if update {
                    fs::write(case.path().join(&name), &text).map_err(|e| e.to_string())?;
                } else if fs::read_to_string(case.path().join(&name)).unwrap_or_default() != text {
                    return Err(format!("{name} differs: UPDATE_GOLDEN=1 writes it anew"));
                }
                told.insert(name);
            }
        }
        for name in case.files() {
            let is_golden = name.ends_with(".nft") || name.ends_with(".ir.json");
            if is_golden && !told.contains(&name) {
                return Err(format!("{name} belongs to no node"));
            }
        }
        Ok(())
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn nft_loads_text_and_json_to_the_same_ruleset() {
    let failures = each(&cases(), |case| {
        let cluster = case.cluster()?;
        for node in cluster.nodes.keys() {
            let ruleset = lower(&compile(&cluster, node), &Options::default());
            let from_text = listed(Format::Text, &render::text(&ruleset))?;
            let json = render::json(&ruleset).unwrap().to_string();
            let from_json = listed(Format::Json, &json)?;
            // nft 1.0.6 drops the comments of sets and maps when it reads JSON.
            let own_comment = |line: &&str| !line.trim_start().starts_with("comment ");
            let without: Vec<_> = from_text.lines().filter(own_comment).collect();
            let other: Vec<_> = from_json.lines().filter(own_comment).collect();
            if without != other {
                return Err(format!("{node}: text\n{from_text}\nJSON\n{from_json}"));
            }
            if !from_text.contains("chain egress {") {
                return Err(format!("{node}: nothing was loaded: {from_text:?}"));
            }
        }
        Ok(())
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn packets_agree_when_pods_are_routed() {
    packets_agree(Network::Routed);
}

#[test]
fn packets_agree_when_pods_are_on_a_bridge() {
    packets_agree(Network::Bridged);
}

fn packets_agree(network: Network) {
    let failures = each(&cases(), |case| {
        let cluster = case.cluster()?;
        let questions = read_lines(&case.read("flows.jsonl")).map_err(|error| error.to_string())?;
        let answers = verify(
            &cluster,
            &questions,
            &settings(network),
            &compiled,
            &mut |_, _| {},
        )
        .map_err(|error| error.to_string())?;
        match Summary::of(&answers) {
            Summary {
                disagree: 0,
                allowed: 0,
                denied: 0,
                ..
            } => Err("no packet was sent".into()),
            Summary { disagree: 0, .. } => Ok(()),
            _ => Err(table(&questions, &answers)),
        }
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn there_are_cases() {
    assert!(
        Path::new(support::CASES).is_dir() && cases().len() > 100,
        "{}",
        cases().len()
    );
}
