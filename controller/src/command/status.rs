//! `picket status` and `picket dump`

use std::io::{self, BufWriter, Write};

use super::Outcome;
use crate::agent::server::client::Client;
use crate::agent::server::protocol::Kind;
use crate::agent::status::Status;
use crate::cli::{self, Dump, Dumped, Output};

pub(super) fn run(arguments: &cli::Status) -> anyhow::Result<Outcome> {
    let mut client = Client::connect(&arguments.run_dir.run_dir)?;
    let status: Status = client.ask(Kind::Status, None)?;
    let mut out = BufWriter::new(io::stdout().lock());
    match arguments.output {
        Output::Text => write!(out, "{status}")?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, &status)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(if status.well {
        Outcome::Done
    } else {
        Outcome::Findings
    })
}

pub(super) fn dump(arguments: &Dump) -> anyhow::Result<Outcome> {
    let mut client = Client::connect(&arguments.run_dir.run_dir)?;
    let kind = match arguments.what {
        Dumped::Objects => Kind::Objects,
        Dumped::Attachments => Kind::Attachments,
        Dumped::Rules => Kind::Rules,
    };
    let text: String = client.ask(kind, None)?;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        writeln!(out)?;
    }
    out.flush()?;
    Ok(Outcome::Done)
}
