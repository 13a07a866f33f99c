//! The cluster of the user's kubeconfig, where no files are named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::{ClusterArg, Input};
use crate::kubernetes::{Dump, Id, context_namespace};
use crate::source::{self, Loaded, Origin};

/// Lists it.
pub(super) fn dump(cluster: &ClusterArg) -> anyhow::Result<Dump> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (kubeconfig, context) = (cluster.kubeconfig.as_deref(), cluster.context.as_deref());
    runtime
        .block_on(Dump::take(kubeconfig, context))
        .context("the cluster cannot be read, and no files are named with -f")
}

/// The cluster with what files say in place of what it has.
pub(super) fn with(
    dump: &Dump,
    namespace: Option<&str>,
    paths: &[PathBuf],
) -> anyhow::Result<Loaded> {
    let mut text = None;
    let mut nothing = std::io::empty();
    // Of standard input there is only one reading.
    if paths.iter().any(|path| path.as_os_str() == "-") {
        let bytes = source::read_text(Path::new("-"), &mut std::io::stdin().lock())?;
        text = Some(("<stdin>".to_owned(), bytes.into_bytes()));
    }
    let files: Vec<_> = paths
        .iter()
        .filter(|path| path.as_os_str() != "-")
        .cloned()
        .collect();
    let piped: Vec<_> = text.into_iter().collect();
    let given = source::load_with(&piped, namespace, &files, &mut nothing)?;
    let manifests = dump.manifests(&ids(&given));
    let all = [manifests, piped].concat();
    Ok(source::load_with(&all, namespace, &files, &mut nothing)?)
}

/// What was read, and not made up.
fn ids(loaded: &Loaded) -> BTreeSet<Id> {
    let read = loaded
        .objects
        .iter()
        .filter(|sourced| matches!(sourced.origin, Origin::Read(_)));
    let ids = read.map(|sourced| {
        let metadata = sourced.object.metadata();
        (
            sourced.object.kind().to_owned(),
            metadata.namespace.clone(),
            metadata.name.clone().unwrap_or_default(),
        )
    });
    ids.collect()
}

/// The namespace of what names none.
pub(super) fn namespace(input: &Input) -> Option<String> {
    let cluster = &input.cluster;
    input.namespace.clone().or_else(|| {
        let is_live = input.paths.is_empty();
        let (kubeconfig, context) = (cluster.kubeconfig.as_deref(), cluster.context.as_deref());
        is_live
            .then(|| context_namespace(kubeconfig, context))
            .flatten()
    })
}
