//! `picket lint`

use std::io::{self, BufWriter, Write};

use super::{Outcome, load_with_source};
use crate::cli::{Lint, LintOutput};
use crate::lint::{self, Scope, json, sarif, text};

pub(super) fn run(arguments: &Lint) -> anyhow::Result<Outcome> {
    let (loaded, cluster) = load_with_source(&arguments.input)?;
    for unknown in lint::unknown_ignores(&loaded) {
        writeln!(io::stderr(), "note: {unknown}")?;
    }
    let scope = Scope {
        select: &arguments.select,
        ignore: &arguments.ignore,
        service_cidrs: &arguments.service_cidrs,
        budgets: arguments.budget.budgets(),
    };
    let findings = lint::run(&loaded, &cluster, &scope);
    let mut out = BufWriter::new(io::stdout().lock());
    match arguments.output {
        LintOutput::Text => write!(out, "{}", text(&findings))?,
        LintOutput::Json => {
            for finding in &findings {
                serde_json::to_writer(&mut out, &json(finding))?;
                writeln!(out)?;
            }
        }
        LintOutput::Sarif => {
            serde_json::to_writer_pretty(&mut out, &sarif(&findings))?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    let mut severities = findings.iter().map(|finding| finding.severity);
    if severities.any(|severity| arguments.fail_on.includes(severity)) {
        Ok(Outcome::Findings)
    } else {
        Ok(Outcome::Done)
    }
}
