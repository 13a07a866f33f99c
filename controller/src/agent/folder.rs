//! A watched folder of manifests.
//!
//! ```text
//! folder ──▶ inotify ─▶ watch ─▶ tree: which files, what to do ─▶ file: read, validate ─▶ view ──▶ Event
//!    └─────▶ list, when folders or links change, events were lost, and now and then ─┘
//! ```
//!
//! A thread of its own does all of it, so that reading never holds up who waits for events. It waits until the last
//! event was taken: meanwhile what happens comes together, in the kernel's queue and then in one event.
//!
//! # Which files
//!
//! Those of a folder on the command line: `*.yaml`, `*.yml` and `*.json`, recursively, links followed. What the kubelet
//! keeps under names that begin with `..` is left to the links beside it, so that a ConfigMap changes all at once.
//!
//! # What counts
//!
//! - A file counts as it was when it was last good as a whole. One that cannot be read or has anything invalid in it, or
//!   nothing at all (as between truncating and writing), is a problem; what it had before stays in force. To remove
//!   objects, delete the file or write a file without them.
//! - A file that was written to is read when its writer closes it; one that is renamed into its place, at once. Whether
//!   somebody was writing before the folder was watched cannot be known, nor where the kernel lost events: such a file is
//!   read when it stays the same for a while ([`SETTLE`] for a new one, [`QUIET`] for one that was known).
//! - A file that is gone takes its objects with it when nothing happened in the folder for [`SETTLE`], and at the latest
//!   after [`GONE_AT_MOST`]. In that time it may come back, or its objects under another name.
//! - If the folder itself is gone, unreadable, or another and empty, everything stays as it was.
//! - Of an object that several files have, the one that had it first counts; at the start, the first in byte order.
//! - Nothing is made up for pods. A namespace or node that an object names and no file has exists as long as it is named,
//!   the namespace with its `kubernetes.io/metadata.name` label, the node without addresses.
//!
//! Nothing is told before every file is good: a file that is not has no state before that could stay in force. Nor before
//! there is an object at all, unless [`Settings::allow_empty`] is set: a folder that is not mounted yet looks like one
//! without manifests, and to apply that would open every pod.

mod file;
mod list;
mod steps;
mod tree;
mod view;
mod watch;
mod worker;

use std::future::pending;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use policy_compiler::validate::Options;
use tokio::sync::mpsc::{Receiver, channel};

use super::source::{Event, Source, Thread};
use worker::Worker;

/// How long nothing may happen in the folder before what is gone is believed to be.
pub const SETTLE: Duration = Duration::from_millis(50);

/// How long it may take at most until what is gone is believed to be.
pub const GONE_AT_MOST: Duration = Duration::from_secs(2);

/// How long a file that was known must stay the same, where it cannot be known whether somebody writes to it; and how
/// long somebody may write to a file before that is a problem.
pub const QUIET: Duration = Duration::from_secs(1);

/// How often the folder is listed in case that something was missed.
pub const RESCAN: Duration = Duration::from_secs(30);

/// How often, while something in it cannot be listed.
pub const RETRY: Duration = Duration::from_secs(2);

/// How a folder is read.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How strictly.
    pub options: Options,
    /// How often all is listed in case that something was missed, as on file systems that tell of no changes.
    pub rescan: Duration,
    /// Whether a folder without any object is a complete state at the start.
    pub allow_empty: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            options: Options::default(),
            rescan: RESCAN,
            allow_empty: false,
        }
    }
}

/// The folder cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be watched: {cause}", path.display())]
pub struct Error {
    path: PathBuf,
    #[source]
    cause: io::Error,
}

/// A folder as a source of objects. It need not exist yet.
#[derive(Debug)]
pub struct Folder {
    events: Receiver<Event>,
    thread: Thread,
    /// Closed with this value, which ends the thread.
    _stop: UnixStream,
}

impl Folder {
    /// Starts to watch a folder.
    ///
    /// # Errors
    ///
    /// The system is out of threads or file descriptors. What is wrong with the folder is an [`Event::Problems`].
    pub fn watch(path: &Path, settings: Settings) -> Result<Self, Error> {
        let error = |cause| Error {
            path: path.to_owned(),
            cause,
        };
        let (own, other) = UnixStream::pair().map_err(error)?;
        let (sender, events) = channel(1);
        let worker = Worker::new(path.to_owned(), settings, sender, other);
        let thread = Thread::start("folder", move || worker.run()).map_err(error)?;
        Ok(Self {
            events,
            thread,
            _stop: own,
        })
    }
}

impl Folder {
    /// Is ready when the folder is not watched any more, as the thread panicked, or as this was dropped.
    pub fn ended(&mut self) -> impl Future<Output = ()> + use<> {
        self.thread.ended()
    }
}

impl Source for Folder {
    async fn next(&mut self) -> Event {
        if let Some(event) = self.events.recv().await {
            return event;
        }
        // The thread ends before this value only if it panics, which `ended` tells.
        pending().await
    }
}
