//! What is in pods' own network namespaces, where their packets do not pass the node.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use cni_chain::attachment::{self, Records};
use cni_chain::quarantine::{self, ACTIVE, ALIAS_PREFIX, QUARANTINE};
use kernel::{NamespaceError, NetworkNamespace, STAND_IN};
use policy_compiler::ruleset::TABLE;

use crate::agent::error::describe;

/// Removes it wherever a record says that there is some. Returns from how many namespaces, and what failed: that stays
/// with the pod.
pub(super) fn remove(run_dir: &Path) -> (usize, Vec<String>) {
    let records = match Records::new(run_dir).list() {
        Ok((records, _)) => records,
        // The folder is gone, or never was.
        Err(_) => return (0, Vec::new()),
    };
    let of_bypass = records.iter().filter_map(|record| match record.path {
        attachment::Path::Bypass { .. } => Some((record.netns.as_str(), record.netns_inode)),
        _ => None,
    });
    let namespaces: BTreeSet<_> = of_bypass.collect();
    let (mut done, mut failures) = (0, Vec::new());
    for (path, inode) in namespaces {
        match NetworkNamespace::open_numbered(path, inode) {
            Ok(namespace) => match remove_from(&namespace) {
                Ok(removed) => done += usize::from(removed),
                Err(error) => failures.push(format!("{path}: {error:#}")),
            },
            // The pod has ended.
            Err(NamespaceError::Other { .. } | NamespaceError::Replaced { .. }) => {}
            Err(NamespaceError::Open { source, .. })
                if source.kind() == io::ErrorKind::NotFound && is_seen(Path::new(path)) => {}
            Err(error) => failures.push(format!("{path}: {}", describe(&error))),
        }
    }
    (done, failures)
}

/// Whether the folder in which a namespace is named is here: without it, that the namespace is not says nothing of the pod.
/// Of a process, it goes with that.
fn is_seen(path: &Path) -> bool {
    path.starts_with("/proc") || path.parent().is_some_and(Path::exists)
}

fn remove_from(namespace: &NetworkNamespace) -> anyhow::Result<bool> {
    let mut inside = namespace.inside()?;
    let mut tables = inside.nftables.delete_tables(&[TABLE, STAND_IN])?;
    for link in inside.links.list()? {
        if [QUARANTINE, ACTIVE].contains(&link.group) {
            inside.links.set_group(&link, 0)?;
        }
        let alias = link.alias.as_ref();
        if alias.is_some_and(|alias| alias.starts_with(ALIAS_PREFIX)) {
            inside.links.set_alias(&link, "")?;
        }
    }
    tables.extend(inside.nftables.delete_tables(&[quarantine::TABLE])?);
    Ok(!tables.is_empty())
}
