//! `picket verify`

use std::io::{self, BufWriter, Write};

use indicatif::{ProgressBar, ProgressStyle};
use policy_compiler::budget::check_all;
use policy_compiler::model::Cluster;
use testbed::ProbeOptions;

use super::{Outcome, load, name, read_flows};
use crate::budget::tell;
use crate::cli::{Output, Verify};
use crate::flow::Answer;
use crate::verify::{Sample, Settings, Summary, compiled, every_pair, sample, table, verify};

pub(super) fn run(arguments: &Verify) -> anyhow::Result<Outcome> {
    // First of all: a process with threads cannot enter a user namespace.
    testbed::enter()?;
    let settings = Settings {
        network: arguments.network.into(),
        node_egress: arguments.node_egress.node_egress.into(),
        probes: ProbeOptions::default(),
    };
    let cluster = load(&arguments.input)?;
    let exceeded = check_all(&cluster, &arguments.budget.budgets());
    if !exceeded.is_empty() {
        let consequence = "nothing is verified: a node closes the pods of a namespace that is over its budget, \
            whatever its policies say";
        tell(&exceeded, consequence)?;
        return Ok(Outcome::Findings);
    }
    let questions = match &arguments.flows {
        Some(path) => {
            let questions = read_flows(path, &arguments.input)?;
            anyhow::ensure!(
                !questions.is_empty(),
                "{}: there is no flow in it: nothing would be verified",
                name(path)
            );
            questions
        }
        None if arguments.full => every_pair(&cluster),
        None => {
            let Sample {
                questions,
                left_out,
            } = sample(&cluster, settings.node_egress);
            if let Some(first) = left_out.first().filter(|_| !questions.is_empty()) {
                writeln!(
                    io::stderr(),
                    "note: no flow of the sample shows what {} of {} policies do, {first} among them: \
                     name flows with --flows, or take every pair with --full",
                    left_out.len(),
                    cluster.policies.len()
                )?;
            }
            questions
        }
    };
    // A job that tests nothing must not pass.
    anyhow::ensure!(
        !questions.is_empty(),
        "there is nothing to verify: {}",
        missing(&cluster)
    );
    // Shown only on a terminal, by itself.
    let bar = ProgressBar::new(questions.len() as u64);
    bar.set_style(ProgressStyle::with_template(
        "{msg} {wide_bar} {pos}/{len} flows",
    )?);
    bar.set_message("building the cluster");
    let mut progress = |decided: usize, of: usize| {
        bar.set_message("sending packets");
        bar.set_length(of as u64);
        bar.set_position(decided as u64);
    };
    let answers = verify(&cluster, &questions, &settings, &compiled, &mut progress)?;
    bar.finish_and_clear();

    let mut out = BufWriter::new(io::stdout().lock());
    match arguments.output {
        Output::Json => write_lines(&mut out, &answers)?,
        Output::Text => out.write_all(table(&questions, &answers).as_bytes())?,
    }
    out.flush()?;
    Ok(outcome(Summary::of(&answers)))
}

/// Why no flow could be chosen, and the remedy.
fn missing(cluster: &Cluster) -> String {
    let pods = cluster.pods.values();
    let live = pods
        .filter(|pod| cluster.addresses_of(pod).next().is_some())
        .count();
    let policies = cluster.policies.len();
    match (live, policies) {
        (0, _) => "there is no running pod on the pod network: give the pods, or the workloads that make them, with -f"
            .to_owned(),
        (1, 0) => "there is only one running pod, and no policy: give a second pod, a policy, or flows with --flows"
            .to_owned(),
        _ => format!(
            "no flow shows what the {policies} policies do: give the pods that they select with -f, or flows with --flows"
        ),
    }
}

fn outcome(summary: Summary) -> Outcome {
    match summary {
        Summary { disagree: 1.., .. } => Outcome::Findings,
        Summary { unaskable: 1.., .. } => Outcome::Unaskable,
        _ => Outcome::Done,
    }
}

fn write_lines(out: &mut impl Write, answers: &[Answer]) -> anyhow::Result<()> {
    for answer in answers {
        serde_json::to_writer(&mut *out, answer)?;
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disagreement_is_a_finding_whatever_else_there_is() {
        let summary = |disagree, unaskable| Summary {
            allowed: 1,
            denied: 1,
            disagree,
            unaskable,
        };
        assert_eq!(outcome(summary(0, 0)), Outcome::Done);
        assert_eq!(outcome(summary(0, 1)), Outcome::Unaskable);
        assert_eq!(outcome(summary(1, 1)), Outcome::Findings);
    }
}
