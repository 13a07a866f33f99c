//! A folder file by file, for who follows its changes: the same files and the same strictness, with nothing made up.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Cause, Errors, Problem};
use super::note::Note;
use super::origin::ObjectRef;
use super::read::{self, files};
use super::{Source, Sourced, complete, decode};

/// What is in a folder.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Its manifests: under their real path, the one by which they are found.
    pub(crate) files: BTreeMap<PathBuf, PathBuf>,
    /// The folder and those in it, likewise.
    pub(crate) folders: BTreeMap<PathBuf, PathBuf>,
    /// What cannot be read.
    pub(crate) problems: Vec<Problem>,
    /// The paths of `problems`.
    pub(crate) failed: BTreeSet<PathBuf>,
}

/// Lists a folder as a PATH of the command line.
pub(crate) fn list_folder(path: &Path) -> Listed {
    let mut listing = files::list(&[path.to_owned()]);
    if listing.failed.is_empty() && listing.folders.is_empty() {
        let cause = Cause::Unreadable(io::ErrorKind::NotADirectory.into());
        let problem = Problem::of_file(&path.to_string_lossy().into(), cause);
        listing.problems.push(problem);
        listing.failed.insert(path.to_owned());
        listing.seen.clear();
    }
    Listed {
        files: listing.seen,
        folders: listing.folders,
        problems: listing.problems,
        failed: listing.failed,
    }
}

/// Whether a file of this name in a folder is one of its manifests.
pub(crate) fn lies_in_folder(path: &Path) -> bool {
    files::is_manifest(path) && !files::is_kubelets(path)
}

/// What a file gives.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Namespaces, nodes, pods, policies, each in the order of (namespace, name).
    pub(crate) objects: Vec<Sourced>,
    /// The workloads in it, which stand for nothing here.
    pub(crate) workloads: Vec<ObjectRef>,
    /// What was left out.
    pub(crate) notes: Vec<Note>,
    /// Whether there is not a single document in it.
    pub(crate) is_empty: bool,
}

/// Reads a file. Objects need names, and those without a namespace are in `default`.
///
/// # Errors
///
/// Everything that is wrong with it.
pub(crate) fn given(path: &Path) -> Result<Given, Errors> {
    let input = files::Input::File(path.to_owned());
    let name = input.name();
    let bytes = input.read(&mut io::empty());
    let bytes = bytes.map_err(|cause| Errors::new(vec![Problem::of_file(&name, cause)], 0))?;
    given_in(&name, &bytes)
}

fn given_in(name: &Arc<str>, bytes: &[u8]) -> Result<Given, Errors> {
    let mut source = Source::default();
    let (documents, problem) = read::documents(name, bytes);
    let is_empty = documents.is_empty();
    source.take(documents, problem);
    source.decoder.refuse_generated();
    source.decoder.count_kinds();
    let decode::Decoder {
        objects,
        workloads,
        mut problems,
        omitted,
        mut notes,
        ..
    } = source.decoder;
    let objects = complete::as_given(objects, &mut notes).unwrap_or_else(|more| {
        problems.extend(more);
        Vec::new()
    });
    if !problems.is_empty() {
        return Err(Errors::new(problems, omitted));
    }
    notes.sort();
    Ok(Given {
        objects,
        workloads: workloads.into_iter().map(|one| one.reference).collect(),
        notes,
        is_empty,
    })
}
