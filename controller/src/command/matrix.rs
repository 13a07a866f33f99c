//! `picket matrix`

use std::io::{self, BufWriter, Write};

use clap::ColorChoice;
use console::Term;
use policy_compiler::evaluate::Transport;

use super::{Outcome, load_with_source};
use crate::cli::{Matrix, MatrixOutput};
use crate::flow::{Port, ProtocolName, parse_port};
use crate::matrix::{EndPattern, Style, page, report, select, text};

/// Columns where it is not known how many there are: in a pipe or a file.
const WIDTH: usize = 120;

pub(super) fn run(arguments: &Matrix) -> anyhow::Result<Outcome> {
    let (from, to) = (patterns(&arguments.from)?, patterns(&arguments.to)?);
    let port = arguments.port.as_deref().map(transport).transpose()?;
    let (loaded, cluster) = load_with_source(&arguments.input)?;
    let node_egress = arguments.node_egress.node_egress.into();
    let mut report = report(&cluster, &loaded.workloads, node_egress);
    select(&mut report, &from, &to, port).map_err(anyhow::Error::msg)?;
    let mut out = BufWriter::new(io::stdout().lock());
    match arguments.output {
        MatrixOutput::Text => out.write_all(text(&report, style(arguments.color)).as_bytes())?,
        MatrixOutput::Json => {
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        }
        MatrixOutput::Html => out.write_all(page(&report)?.as_bytes())?,
    }
    out.flush()?;
    Ok(Outcome::Done)
}

fn patterns(texts: &[String]) -> anyhow::Result<Vec<(String, EndPattern)>> {
    let parse = |text: &String| {
        let pattern = EndPattern::parse(text).map_err(anyhow::Error::msg)?;
        Ok((text.clone(), pattern))
    };
    texts.iter().map(parse).collect()
}

fn transport(text: &str) -> anyhow::Result<Transport> {
    let (protocol, port) = parse_port(text).map_err(anyhow::Error::msg)?;
    let protocol = match protocol {
        ProtocolName::Tcp => policy_compiler::model::Protocol::Tcp,
        ProtocolName::Udp => policy_compiler::model::Protocol::Udp,
        ProtocolName::Sctp => policy_compiler::model::Protocol::Sctp,
        ProtocolName::Icmp => return Ok(Transport::Icmp),
    };
    match port {
        Some(Port::Number(port)) => Ok(Transport::Port(protocol, port)),
        _ => anyhow::bail!(
            "--port {text:?}: a name has another number on each pod: write the number, for example 80/tcp"
        ),
    }
}

fn style(color: ColorChoice) -> Style {
    let terminal = Term::stdout();
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let columns = std::env::var("COLUMNS").ok();
    let columns = columns.and_then(|columns| columns.parse().ok());
    let measured = terminal
        .size_checked()
        .map(|(_, columns)| usize::from(columns));
    Style {
        color: match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal.is_term() && !is_set("NO_COLOR") && !is_dumb,
        },
        width: measured.or(columns).unwrap_or(WIDTH),
    }
}
