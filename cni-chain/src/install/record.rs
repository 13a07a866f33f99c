//! Which folders of configurations have our entry: a file beside the binary that all of them name.
//!
//! A folder that is no longer among those that are named to us would keep an entry without a binary when the others are
//! purged, and pods of that runtime would neither start nor end.

use std::collections::BTreeSet;
use std::io;
use std::path::{self, Path, PathBuf};

use super::binary::is_read_only;
use super::change::written;
use super::files::{self, Attributes};
use super::{Error, Installer, Settings, lock};

/// The record in the folder of plugins: a JSON array of paths. Runtimes look only for names that a configuration has.
const RECORD: &str = ".picket-cni.folders";

const MODE: u32 = 0o644;

impl Installer {
    /// The folders that were given our entry, whichever are named now; without any if there is no record.
    ///
    /// # Errors
    /// The record can not be read.
    pub fn recorded(&self) -> Result<BTreeSet<PathBuf>, Error> {
        let path = self.record();
        let unreadable = |error| {
            let path = path.clone();
            Error::Read { path, error }
        };
        match files::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let problem =
                    format!("{error}, in a list of folders that nobody else writes: remove it");
                unreadable(io::Error::other(problem))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(unreadable(error)),
        }
    }

    /// That this folder is about to have our entry. The lock of the folder of plugins is held until it has.
    pub(super) fn remember(&self) -> Result<(), Error> {
        self.change_record(|folders, own| folders.insert(own))
    }

    /// That this folder has it no longer. Of one that is not there nothing is known: it may be one of the node, and this a
    /// container.
    pub(super) fn forget(&self) -> Result<(), Error> {
        let _of_plugins = lock(&self.settings.bin_dir)?;
        match self.settings.conf_dir.is_dir() {
            true => self.forget_locked(),
            false => Ok(()),
        }
    }

    /// [`Installer::forget`] for who has the lock.
    pub(super) fn forget_locked(&self) -> Result<(), Error> {
        self.change_record(|folders, own| folders.remove(&own))
    }

    /// Nobody else's entry would be left without the binary. Who has the lock of the folder of plugins may ask: so nobody is
    /// between placing the binary and writing an entry.
    pub(super) fn check_recorded(&self) -> Result<(), Error> {
        let mut folders = self.recorded()?;
        folders.retain(|folder| !self.has_no_entry(folder));
        match folders.is_empty() {
            true => Ok(()),
            false => Err(Error::ListedElsewhere {
                path: self.binary(),
                record: self.record(),
                folders,
            }),
        }
    }

    fn has_no_entry(&self, folder: &Path) -> bool {
        let settings = Settings {
            conf_dir: folder.to_owned(),
            ..self.settings.clone()
        };
        let other = Self::with(settings, Box::new(files::Disk));
        folder.is_dir() && matches!(other.listed(), Ok(None))
    }

    /// With what a run that was killed has left of it.
    pub(super) fn remove_record(&self) -> io::Result<()> {
        let (path, files) = (self.record(), self.files.as_ref());
        files::remove_if_there(files, &files::temporary(&path))?;
        files::remove_if_there(files, &path).map(drop)
    }

    fn record(&self) -> PathBuf {
        self.settings.bin_dir.join(RECORD)
    }

    fn change_record(
        &self,
        change: impl FnOnce(&mut BTreeSet<PathBuf>, PathBuf) -> bool,
    ) -> Result<(), Error> {
        let mut folders = self.recorded()?;
        let own = &self.settings.conf_dir;
        let own = path::absolute(own).map_err(|error| self.unreadable(error))?;
        if !change(&mut folders, own) {
            return Ok(());
        }
        let path = self.record();
        let files = self.files.as_ref();
        let put = match folders.is_empty() {
            true => files::remove_if_there(files, &path).map(drop),
            false => serde_json::to_vec(&folders)
                .map_err(io::Error::from)
                .and_then(|text| files::write(files, &path, &text, &Attributes::program(MODE))),
        };
        match put {
            // Nobody removes the binary from there either.
            Err(error) if is_read_only(&error) => Ok(()),
            put => put.map_err(|error| written(&path, error)),
        }
    }
}
