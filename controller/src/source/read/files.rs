//! PATH arguments to bytes: the only part that does IO.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// Folders without manifests.
    pub(in crate::source) notes: Vec<Note>,
    /// The regular files in `inputs`, by their real path.
    seen: BTreeSet<PathBuf>,
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
        self.problems
            .push(Problem::of_file(&path.to_string_lossy().into(), cause));
    }

    fn add(&mut self, path: &Path) -> Result<(), Cause> {
        let kind = fs::metadata(path)?;
        if !kind.is_dir() {
            if !kind.is_file() || self.seen.insert(fs::canonicalize(path)?) {
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
                        if self.seen.insert(real) {
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

    /// Every manifest below a folder. Each real folder is entered once, so links in circles end; in byte order, so
    /// that the name under which it is entered is always the same.
    fn walk(&mut self, folder: &Path, found: &mut Vec<PathBuf>) {
        let mut entered = BTreeSet::new();
        let mut open = vec![folder.to_owned()];
        while let Some(folder) = open.pop() {
            let entries = fs::canonicalize(&folder).and_then(|real| {
                if entered.insert(real) {
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
                        if fs::metadata(&path).is_ok_and(|kind| kind.is_dir()) {
                            open.push(path);
                        } else if is_manifest(&path) {
                            found.push(path);
                        }
                    }
                }
                Err(error) => self.fail(&folder, error.into()),
            }
        }
    }
}

fn entries(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect()
}

fn is_manifest(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}
