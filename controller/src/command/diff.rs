//! `picket diff`

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::{Outcome, read, say};
use crate::cli::{Diff, Input, Output};
use crate::diff::compare;

pub(super) fn run(arguments: &Diff) -> anyhow::Result<Outcome> {
    let paths = [
        &[arguments.old.clone(), arguments.new.clone()],
        arguments.both.as_slice(),
    ]
    .concat();
    let stdin = paths.iter().filter(|path| *path == Path::new("-")).count();
    anyhow::ensure!(
        stdin <= 1 && !arguments.both.iter().any(|path| path == Path::new("-")),
        "standard input can be given only once: as OLD or as NEW"
    );
    let mut notes = Vec::new();
    let mut side = |path: &Path| {
        let input = Input {
            paths: [&[path.to_owned()], arguments.both.as_slice()].concat(),
            namespace: arguments.namespace.clone(),
            lenient_cidr: arguments.lenient_cidr,
        };
        read(&input, &mut notes)
    };
    let sides = side(&arguments.old).and_then(|old| Ok((old, side(&arguments.new)?)));
    // Most of what is assumed is the same on both sides.
    let mut said = BTreeSet::new();
    notes.retain(|note| said.insert(note.clone()));
    say(&notes)?;
    let ((old_source, old), (new_source, new)) = sides?;
    let mut workloads = old_source.workloads;
    workloads.extend(new_source.workloads);
    let node_egress = arguments.node_egress.node_egress.into();
    let report = compare(&old, &new, &workloads, node_egress);
    let mut out = BufWriter::new(io::stdout().lock());
    match arguments.output {
        Output::Text => write!(out, "{report}")?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    if arguments.exit_code && !report.flows.is_empty() {
        Ok(Outcome::Findings)
    } else {
        Ok(Outcome::Done)
    }
}
