//! The plugin put into a node's list of plugins, and taken out.
//!
//! ```text
//!   conf dir ──▶ find: the file that the runtime takes ──▶ conflist: its text with our entry ──▶ files: written whole
//!   binary ────▶ probe: does it answer VERSION ──────────▶ bin dir, before the entry
//!   watch: all of it again whenever somebody changes either folder
//! ```
//!
//! Text goes in and text comes out of `conflist`, which does no IO. A file that is not understood is left alone.

mod binary;
mod change;
mod conflist;
#[cfg(test)]
mod crash_tests;
mod files;
mod find;
mod json;
mod probe;
mod record;
mod remove;
mod status;
mod watch;
mod watched;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

pub use self::conflist::Fault;
use self::files::{Disk, Files};
pub use self::remove::Removed;
pub use self::status::Status;
pub use self::watch::{Pace, Report};
pub use crate::entry::{Entry, InvalidEntry, OnAgentUnavailable, TYPE};

/// What is installed, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The runtime's folder of network configurations.
    pub conf_dir: PathBuf,
    /// The runtime's folder of plugins.
    pub bin_dir: PathBuf,
    /// The name of the configuration in its folder, where it is not the one that runtimes take.
    pub conf_name: Option<String>,
    /// Our binary, which is copied.
    pub plugin: PathBuf,
    /// Our entry.
    pub entry: Entry,
}

impl Settings {
    /// Those of a node that has everything where it is by default.
    pub fn new(plugin: PathBuf) -> Self {
        Self {
            conf_dir: PathBuf::from("/etc/cni/net.d"),
            bin_dir: PathBuf::from("/opt/cni/bin"),
            conf_name: None,
            plugin,
            entry: Entry::default(),
        }
    }
}

/// Puts our plugin into the runtime's list, and takes it out.
///
/// One works at a time in a folder of configurations, also of other processes.
pub struct Installer {
    settings: Settings,
    files: Box<dyn Files>,
    /// Whether the binary that is there has answered.
    verified: Cell<bool>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The configuration that has our entry.
    pub configuration: PathBuf,
    /// Whether it was written to.
    pub is_edited: bool,
    /// Whether the binary was written.
    pub is_placed: bool,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Why the plugin is not installed, or not removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none yet: the main network plugin writes it.
    #[error("{path}: no network configuration is there yet: install a main network plugin, or name its folder with --conf-dir{}", behind(.notes))]
    NoConfiguration {
        /// Where it is to be.
        path: PathBuf,
        /// What is there and can not be read.
        notes: Vec<String>,
    },
    /// A configuration is not one that can have our entry. It was left alone.
    #[error("{path}: {fault}")]
    Configuration {
        /// Which.
        path: PathBuf,
        /// Why.
        fault: Fault,
    },
    /// A configuration is a symbolic link, whose end may be another one outside of this mount namespace.
    #[error(
        "{path}: is a symbolic link: name its end's folder with --conf-dir, or put the file itself here"
    )]
    Link {
        /// Which.
        path: PathBuf,
    },
    /// A list of the same name is there, and is not ours to replace.
    #[error(
        "{path}: is there beside a .conf of the same name, which goes before it: remove the one that is not used"
    )]
    Both {
        /// The list.
        path: PathBuf,
    },
    /// Others write faster than can be answered.
    #[error("{path}: somebody else goes on writing to it: it is tried again")]
    Overtaken {
        /// Which.
        path: PathBuf,
    },
    /// Our binary can not be read.
    #[error("{path}: the plugin to install can not be read: {error}: name it with --plugin")]
    Source {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A binary does not answer as our plugin.
    #[error("{path}: {problem}: install the build for this node's system with --plugin")]
    Plugin {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file or folder can not be read.
    #[error("{path}: can not be read: {error}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file can not be written.
    #[error("{path}: can not be written: {error}: the folder must be there and be writable")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A configuration names our plugin still.
    #[error(
        "{path}: names the plugin still, so the binary stays: run picket cni uninstall, and stop what installs it again"
    )]
    StillListed {
        /// Which.
        path: PathBuf,
    },
    /// Folders that nobody named to us were given our entry.
    #[error(
        "{path}: stays, as configurations of {} were given its name and may have it still: on the node, name each with --conf-dir too; for those that are gone for good, remove {record}",
        listed(.folders)
    )]
    ListedElsewhere {
        /// The binary.
        path: PathBuf,
        /// What says so.
        record: PathBuf,
        /// Those that are not here, or have the entry.
        folders: BTreeSet<PathBuf>,
    },
    /// Somebody would put the entry in again.
    #[error("{path}: picket cni watch runs for this folder and would undo it: stop it first")]
    Watched {
        /// The folder.
        path: PathBuf,
    },
    /// Both folders are one. A runtime would take the plugin for a configuration, and each is locked for itself.
    #[error(
        "{path}: is the folder of --conf-dir and of --bin-dir: name the runtime's folder of network configurations and its folder of plugins"
    )]
    OneFolder {
        /// The folder, as it is named for configurations.
        path: PathBuf,
    },
    /// Some files could not be changed; all others were.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<Error>),
}

fn listed(folders: &BTreeSet<PathBuf>) -> String {
    let folders = folders.iter().map(|folder| folder.display().to_string());
    folders.collect::<Vec<_>>().join(" and ")
}

fn behind(notes: &[String]) -> String {
    notes.iter().map(|note| format!("; {note}")).collect()
}

impl Installer {
    /// Changes nothing yet.
    ///
    /// # Errors
    /// The plugin would refuse the entry.
    pub fn new(settings: Settings) -> Result<Self, InvalidEntry> {
        settings.entry.validate()?;
        Ok(Self::with(settings, Box::new(Disk)))
    }

    fn with(settings: Settings, files: Box<dyn Files>) -> Self {
        Self {
            settings,
            files,
            verified: Cell::new(false),
        }
    }

    /// Held by one at a time. Whoever has it may lock the folder of plugins too, which has to be another one.
    fn lock(&self) -> Result<Option<File>, Error> {
        let (conf_dir, bin_dir) = (&self.settings.conf_dir, &self.settings.bin_dir);
        if let (Some(conf), Some(bin)) = (identity(conf_dir), identity(bin_dir))
            && conf == bin
        {
            let path = conf_dir.clone();
            return Err(Error::OneFolder { path });
        }
        lock(conf_dir)
    }

    fn unreadable(&self, error: io::Error) -> Error {
        let path = self.settings.conf_dir.clone();
        Error::Read { path, error }
    }
}

/// What tells a folder from all others, whatever it is called. One that can not be looked at fails where it is used.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// A folder that is held by one at a time. One that is not there needs nobody to hold it.
fn lock(path: &Path) -> Result<Option<File>, Error> {
    let locked = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error),
        // The lock is the folder's own, so it leaves nothing behind, and ends with whoever has it.
        Ok(folder) => flock(&folder, FlockOperation::LockExclusive)
            .map(|()| Some(folder))
            .map_err(io::Error::from),
    };
    locked.map_err(|error| Error::Read {
        path: path.to_owned(),
        error,
    })
}
