//! `picket explain`

use std::io::{self, BufWriter, Write};

use policy_compiler::evaluate::NodeEgress;
use policy_compiler::model::Cluster;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Outcome, live, load, read_flows};
use crate::agent::server::client::Client;
use crate::agent::server::protocol::Kind;
use crate::cli::{Explain, Output};
use crate::flow::{Answer, Answered, End, Question, parse_port, write_line};

pub(super) fn run(arguments: &Explain) -> anyhow::Result<Outcome> {
    let questions = match (
        &arguments.flows,
        &arguments.from,
        &arguments.to,
        &arguments.port,
    ) {
        (Some(path), ..) => read_flows(path, &arguments.input)?,
        (None, Some(from), Some(to), Some(port)) => {
            let namespace = live::namespace(&arguments.input);
            let namespace = namespace.as_deref().unwrap_or("default");
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
    let mut answer: Answering = if arguments.live {
        let mut client = Client::connect(&arguments.run_dir.run_dir)?;
        Box::new(move |question| ask(&mut client, question))
    } else {
        let cluster = load(&arguments.input)?;
        let node_egress = arguments.node_egress.node_egress.into();
        Box::new(move |question| from_files(&cluster, node_egress, question))
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut unaskable = 0;
    for question in &questions {
        let Said { text, json } = answer(question)?;
        match (arguments.output, &text) {
            (Output::Text, Ok(text)) => writeln!(out, "{text}")?,
            // The only flow has no answer to stand for.
            (Output::Text, Err(error)) if arguments.flows.is_none() => {
                anyhow::bail!("cannot be asked: {error}");
            }
            (Output::Text, Err(error)) => {
                writeln!(out, "{} cannot be asked: {error}", question.name())?;
            }
            (Output::Json, _) => writeln!(out, "{json}")?,
        }
        unaskable += usize::from(text.is_err());
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

/// Answers a question.
type Answering = Box<dyn FnMut(&Question) -> anyhow::Result<Said>>;

/// An answer in both forms.
struct Said {
    /// Or why the flow cannot be asked.
    text: Result<String, String>,
    json: String,
}

fn from_files(
    cluster: &Cluster,
    node_egress: NodeEgress,
    question: &Question,
) -> anyhow::Result<Said> {
    let (answer, _) = Answer::to(cluster, question, node_egress);
    let json = serde_json::to_string(&answer)?;
    let text = match answer.answered {
        Answered::Evaluated { text, .. } => Ok(text),
        Answered::Unaskable { error } => Err(error),
    };
    Ok(Said { text, json })
}

/// By what the agent has.
fn ask(client: &mut Client, question: &Question) -> anyhow::Result<Said> {
    let flow = write_line(question)?;
    let answer: Box<RawValue> = client.ask(Kind::Explain, Some(flow))?;
    let told: Told = serde_json::from_str(answer.get())?;
    let text = match (told.error, told.text, told.in_force) {
        (Some(error), ..) => Err(error),
        (None, text, in_force) => {
            let texts = text.into_iter().chain(in_force.map(|told| told.text));
            Ok(texts.collect::<Vec<_>>().join("\n"))
        }
    };
    Ok(Said {
        text,
        json: answer.get().to_owned(),
    })
}

/// What is for people of a [`LiveAnswer`](crate::agent::server::LiveAnswer).
#[derive(Deserialize)]
struct Told {
    text: Option<String>,
    error: Option<String>,
    in_force: Option<ToldInForce>,
}

#[derive(Deserialize)]
struct ToldInForce {
    text: String,
}
