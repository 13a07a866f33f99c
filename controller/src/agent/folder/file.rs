//! One file: whether it is the same as before, and what is in it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use policy_compiler::index::Object;
use policy_compiler::validate::Options;

use crate::cluster;
use crate::source::{self, Cause, Given, Origin, Place, Problem};

/// What tells a version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    /// Of the file that is there now.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Whether nothing was written to the file for so long, by the clock of the day.
    pub(super) fn is_older_than(&self, age: Duration) -> bool {
        let (seconds, nanoseconds) = self.modified;
        let since = u64::try_from(seconds).unwrap_or_default();
        let nanoseconds = u32::try_from(nanoseconds).unwrap_or_default();
        let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::new(since, nanoseconds));
        modified
            .and_then(|modified| modified.elapsed().ok())
            .is_some_and(|elapsed| elapsed >= age)
    }
}

/// What became of reading a file.
pub(super) enum Content {
    /// All of it is good.
    Good(Vec<(Place, Object)>),
    /// There is no document in it.
    Empty,
    /// Something is wrong with it, a line each.
    Broken(String),
    /// There is no such file.
    Gone,
}

/// Reads a file. What it leaves out goes to the log.
pub(super) fn read(path: &Path, options: Options) -> Content {
    let name = path.to_string_lossy();
    let broken =
        |cause| Content::Broken(Problem::of_file(&name.as_ref().into(), cause).to_string());
    match fs::metadata(path) {
        // Opening a FIFO that nobody writes to blocks for ever.
        Ok(metadata) if !metadata.is_file() => return broken(Cause::NotAFile),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Content::Gone,
        Err(error) => return broken(error.into()),
    }
    let given = match source::given(path) {
        Ok(given) if given.is_empty => return Content::Empty,
        Ok(given) => given,
        Err(errors) => return Content::Broken(errors.to_string()),
    };
    let mut objects = Vec::new();
    let mut wrong = Vec::new();
    for sourced in &given.objects {
        match (cluster::valid(sourced, options), &sourced.origin) {
            (Ok(object), Origin::Read(place)) => objects.push((place.clone(), object)),
            (Err(invalid), _) => wrong.push(invalid.to_string()),
            // Nothing is made up.
            (Ok(_), Origin::StandIn(_) | Origin::MadeUp) => {}
        }
    }
    if !wrong.is_empty() {
        return Content::Broken(wrong.join("\n"));
    }
    log(&name, &given);
    Content::Good(objects)
}

fn log(file: &str, given: &Given) {
    for note in source::summary(&given.notes) {
        tracing::info!(file, "{note}");
    }
    if !given.workloads.is_empty() {
        let names = source::few(given.workloads.iter().map(ToString::to_string)).join(", ");
        tracing::info!(file, "stand for no pods here, only Pods are pods: {names}");
    }
}
