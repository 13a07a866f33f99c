//! `picket explain`

use std::io::{self, BufWriter, Write};

use super::{Outcome, load, read_flows};
use crate::cli::{Explain, Output};
use crate::flow::{Answer, Answered, End, Question, parse_port};

pub(super) fn run(arguments: &Explain) -> anyhow::Result<Outcome> {
    let questions = match (
        &arguments.flows,
        &arguments.from,
        &arguments.to,
        &arguments.port,
    ) {
        (Some(path), ..) => read_flows(path, &arguments.input)?,
        (None, Some(from), Some(to), Some(port)) => {
            let namespace = arguments.input.namespace.as_deref().unwrap_or("default");
            let end = |text: &str| End::parse_short(text, namespace).map_err(anyhow::Error::msg);
            let (protocol, port) = parse_port(port).map_err(anyhow::Error::msg)?;
            vec![Question {
                id: None,
                line: None,
                from: end(from)?,
                to: end(to)?,
                protocol,
                port,
                family: arguments.family,
            }]
        }
        // The argument parser asks for all of them.
        _ => anyhow::bail!("FROM, TO and PORT are needed, or --flows"),
    };
    let cluster = load(&arguments.input)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut unaskable = 0;
    for question in &questions {
        let node_egress = arguments.node_egress.node_egress.into();
        let (answer, _) = Answer::to(&cluster, question, node_egress);
        match (arguments.output, &answer.answered) {
            (Output::Text, Answered::Evaluated { text, .. }) => writeln!(out, "{text}")?,
            // The only flow has no answer to stand for.
            (Output::Text, Answered::Unaskable { error }) if arguments.flows.is_none() => {
                anyhow::bail!("cannot be asked: {error}");
            }
            (Output::Text, Answered::Unaskable { error }) => {
                writeln!(out, "{} cannot be asked: {error}", question.name())?;
            }
            (Output::Json, _) => {
                serde_json::to_writer(&mut out, &answer)?;
                writeln!(out)?;
            }
        }
        unaskable += usize::from(matches!(answer.answered, Answered::Unaskable { .. }));
    }
    out.flush()?;
    if unaskable == 0 {
        return Ok(Outcome::Done);
    }
    if arguments.flows.is_some() {
        let all = questions.len();
        writeln!(
            io::stderr(),
            "error: {unaskable} of {all} flows cannot be asked"
        )?;
    }
    Ok(Outcome::Unaskable)
}
