//! `picket preflight`

use std::io::{self, BufWriter, Write};

use super::Outcome;
use crate::agent::preflight::{Options, Severity, inspect};
use crate::cli::{Output, Preflight};

pub(super) fn run(arguments: &Preflight) -> anyhow::Result<Outcome> {
    let findings = inspect(&Options {
        bridges: arguments.bridges.clone(),
        set_bridge_netfilter: arguments.set_bridge_netfilter,
        ..Options::default()
    });
    let mut out = BufWriter::new(io::stdout().lock());
    for finding in &findings {
        match arguments.output {
            Output::Text => writeln!(out, "{finding}")?,
            Output::Json => {
                serde_json::to_writer(&mut out, finding)?;
                writeln!(out)?;
            }
        }
    }
    out.flush()?;
    let mut severities = findings.iter().map(|finding| finding.severity);
    if severities.any(|severity| severity == Severity::Error) {
        Ok(Outcome::Findings)
    } else {
        Ok(Outcome::Done)
    }
}
