//! PATH arguments to bytes: the only part that does IO.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

use super::MAX_BYTES;
use crate::source::error::{Cause, Problem};
use crate::source::note::Note;

/// Something to read.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::source) enum Input {
    /// Standard input.
    Stdin,
    /// A file, or anything that can be read like one.
    File(PathBuf),
}

impl Input {
    /// What a path argument means where it can be no folder.
    pub(in crate::source) fn named(path: &Path) -> Self {
        if path.as_os_str() == "-" {
            Input::Stdin
        } else {
            Input::File(path.to_owned())
        }
    }

    /// The name in messages.
    pub(in crate::source) fn name(&self) -> Arc<str> {
        match self {
            Input::Stdin => "<stdin>".into(),
            Input::File(path) => path.to_string_lossy().into(),
        }
    }

    /// All of it, or an error as soon as it is known to be too large.
    pub(in crate::source) fn read(&self, stdin: &mut dyn Read) -> Result<Vec<u8>, Cause> {
        match self {
            Input::Stdin => read_limited(stdin),
            Input::File(path) => {
                let mut file = File::open(path)?;
                if file.metadata()?.len() > MAX_BYTES {
                    return Err(Cause::TooLarge);
                }
                read_limited(&mut file)
            }
        }
    }
}

/// A pipe has no length, and a file may grow.
fn read_limited(reader: &mut dyn Read) -> Result<Vec<u8>, Cause> {
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        Err(Cause::TooLarge)
    } else {
        Ok(bytes)
    }
}

/// What the PATH arguments stand for, in their order, with what is wrong with them.
#[derive(Debug, Default)]
pub(in crate::source) struct Listing {
    /// In order; a file that several paths lead to is there once, under the first.
    pub(in crate::source) inputs: Vec<Input>,
    /// Paths that cannot be read.
    pub(in crate::source) problems: Vec<Problem>,
    /// The same paths, as they are: those in messages are text.
    pub(in crate::source) failed: BTreeSet<PathBuf>,
    /// Folders without manifests.
    pub(in crate::source) notes: Vec<Note>,
    /// The regular files in `inputs`, by their real path.
    pub(in crate::source) seen: BTreeMap<PathBuf, PathBuf>,
    /// The folders that were entered, by their real path.
    pub(in crate::source) folders: BTreeMap<PathBuf, PathBuf>,
}

/// Lists the files behind PATH arguments.
pub(in crate::source) fn list(paths: &[PathBuf]) -> Listing {
    let mut listing = Listing::default();
    for path in paths {
        if path.as_os_str() != "-" {
            if let Err(cause) = listing.add(path) {
                listing.fail(path, cause);
            }
        } else if listing.inputs.contains(&Input::Stdin) {
            listing.fail(path, Cause::StdinTwice);
        } else {
            listing.inputs.push(Input::Stdin);
        }
    }
    listing
}

impl Listing {
    fn fail(&mut self, path: &Path, cause: Cause) {
        self.failed.insert(path.to_owned());
        self.problems
            .push(Problem::of_file(&path.to_string_lossy().into(), cause));
    }

    fn add(&mut self, path: &Path) -> Result<(), Cause> {
        let kind = fs::metadata(path)?;
        if !kind.is_dir() {
            if !kind.is_file() || self.see(fs::canonicalize(path)?, path) {
                self.inputs.push(Input::File(path.to_owned()));
            }
            return Ok(());
        }
        let mut found = Vec::new();
        self.walk(path, &mut found);
        if found.is_empty() {
            self.notes.push(Note::EmptyFolder {
                path: path.to_owned(),
            });
        }
        found.sort_by(|a, b| {
            a.as_os_str()
                .as_encoded_bytes()
                .cmp(b.as_os_str().as_encoded_bytes())
        });
        for path in found {
            match fs::metadata(&path) {
                // Opening a FIFO that nobody writes to blocks for ever.
                Ok(kind) if !kind.is_file() => self.fail(&path, Cause::NotAFile),
                Ok(_) => match fs::canonicalize(&path) {
                    Ok(real) => {
                        if self.see(real, &path) {
                            self.inputs.push(Input::File(path));
                        }
                    }
                    Err(error) => self.fail(&path, error.into()),
                },
                Err(error) => self.fail(&path, error.into()),
            }
        }
        Ok(())
    }

    /// Whether the file is seen for the first time.
    fn see(&mut self, real: PathBuf, path: &Path) -> bool {
        let is_new = !self.seen.contains_key(&real);
        if is_new {
            self.seen.insert(real, path.to_owned());
        }
        is_new
    }

    /// Every manifest below a folder. Each real folder is entered once, so links in circles end; in byte order, so
    /// that the name under which it is entered is always the same.
    fn walk(&mut self, folder: &Path, found: &mut Vec<PathBuf>) {
        let mut entered = BTreeMap::new();
        let mut open = vec![folder.to_owned()];
        while let Some(folder) = open.pop() {
            let entries = fs::canonicalize(&folder).and_then(|real| {
                if entered.insert(real, folder.clone()).is_none() {
                    entries(&folder)
                } else {
                    Ok(Vec::new())
                }
            });
            match entries {
                Ok(mut entries) => {
                    entries.sort_by(|a, b| {
                        b.as_os_str()
                            .as_encoded_bytes()
                            .cmp(a.as_os_str().as_encoded_bytes())
                    });
                    for path in entries {
                        match fs::metadata(&path) {
                            Ok(kind) if kind.is_dir() => open.push(path),
                            _ if is_manifest(&path) => found.push(path),
                            // It may be a folder full of manifests, unless it is a link that leads nowhere.
                            Err(error)
                                if error.kind() != io::ErrorKind::NotFound
                                    && error.raw_os_error() != Some(Errno::ELOOP as i32) =>
                            {
                                self.fail(&path, error.into());
                            }
                            _ => {}
                        }
                    }
                }
                Err(error) => self.fail(&folder, error.into()),
            }
        }
        self.folders.extend(entered);
    }
}

/// What is in a folder, but for what the kubelet keeps of a mounted ConfigMap under names that begin with `..`: the
/// links to it are beside it, and change all at once.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .filter(|entry| entry.as_ref().map_or(true, |path| !is_kubelets(path)))
        .collect()
}

/// Whether the kubelet's AtomicWriter has a file or folder of this name for itself (`..data`, `..2026_11_25_...`).
pub(in crate::source) fn is_kubelets(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b"..")
}

/// Whether it has the name of a manifest.
pub(in crate::source) fn is_manifest(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}
