//! `picket diff`

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use policy_compiler::model::Cluster;

use super::{Outcome, build, live, read, say};
use crate::cli::{ClusterArg, Diff, Input, Output};
use crate::diff::compare;
use crate::kubernetes::context_namespace;
use crate::source::{self, Loaded, Note};

pub(super) fn run(arguments: &Diff) -> anyhow::Result<Outcome> {
    let mut notes = Vec::new();
    let sides = match &arguments.new {
        Some(new) => of_files(arguments, new, &mut notes),
        None => of_cluster(arguments, &mut notes),
    };
    // Most of what is assumed is the same on both sides.
    let mut said = BTreeSet::new();
    notes.retain(|note| said.insert(note.clone()));
    say(&notes)?;
    let [(old_source, old), (new_source, new)] = sides?;
    let mut workloads = old_source.workloads;
    workloads.extend(new_source.workloads);
    anyhow::ensure!(
        new.pods.values().any(|pod| old.pods.contains_key(&pod.id)),
        "OLD and NEW have no pod in common, so that nothing can be compared: give the pods of both with -f"
    );
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
    if arguments.exit_code && report.has_changed_flows() {
        Ok(Outcome::Findings)
    } else {
        Ok(Outcome::Done)
    }
}

/// What is compared.
type Sides = [(Loaded, Cluster); 2];

/// The cluster as it is, and with what files say in place of what it has.
fn of_cluster(arguments: &Diff, notes: &mut Vec<String>) -> anyhow::Result<Sides> {
    let cluster = ClusterArg {
        kubeconfig: arguments.kubeconfig.clone(),
        context: arguments.context.clone(),
    };
    let (kubeconfig, context) = (cluster.kubeconfig.as_deref(), cluster.context.as_deref());
    let namespace = arguments.namespace.clone();
    let namespace = namespace.or_else(|| context_namespace(kubeconfig, context));
    let namespace = namespace.as_deref();
    let dump = live::dump(&cluster)?;
    let old = build(live::with(&dump, namespace, &[])?, true, notes)?;
    let paths = [arguments.old.clone()];
    let new = build(live::with(&dump, namespace, &paths)?, true, notes)?;
    Ok([old, new])
}

fn of_files(arguments: &Diff, new: &Path, notes: &mut Vec<String>) -> anyhow::Result<Sides> {
    let paths = [
        &[arguments.old.clone(), new.to_owned()],
        arguments.both.as_slice(),
    ]
    .concat();
    let stdin = paths.iter().filter(|path| *path == Path::new("-")).count();
    anyhow::ensure!(
        stdin <= 1,
        "standard input can be given only once: as OLD, as NEW or to -f"
    );
    // With -f it is read for both sides.
    let mut piped = Vec::new();
    if stdin == 1 {
        let most = source::MAX_BYTES + 1;
        io::stdin().lock().take(most).read_to_end(&mut piped)?;
    }
    let mut side = |path: &Path, beside: &[Note]| {
        let input = Input {
            paths: [&[path.to_owned()], arguments.both.as_slice()].concat(),
            namespace: arguments.namespace.clone(),
            lenient_cidr: arguments.lenient_cidr,
            cluster: ClusterArg::default(),
        };
        read(&input, beside, &mut piped.as_slice(), notes)
    };
    let old = side(&arguments.old, &[])?;
    let new = side(new, &old.0.notes)?;
    Ok([old, new])
}
