//! Our entry put in.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::binary::Placed;
use super::conflist::{Kind, List, Shape, Single};
use super::files::{self, Attributes, Replaced};
use super::find::{Found, backup, exists, is_link, load};
use super::{Error, Installed, Installer, lock};

/// The ending of what a `.conf` was before we made a list of it.
pub(super) const BACKUP: &str = ".picket-bak";

/// A file that comes and goes, so that runtimes look again: containerd does not hear of names that only come.
const NUDGE: &str = ".picket-nudge";

/// How often others may write at the same time.
const ATTEMPTS: usize = 8;

impl Installer {
    /// Puts the binary into its folder, and then our entry into the runtime's list. What is there already is not written.
    ///
    /// # Errors
    /// The binary does not answer, there is no configuration yet, or it can not have our entry. What was there is there.
    pub fn install(&self) -> Result<Installed, Error> {
        let _lock = self.lock()?;
        // Those of other folders of configurations may have the same folder of plugins. A purge of theirs comes before the
        // binary, or finds our entry.
        let _of_plugins = lock(&self.settings.bin_dir)?;
        self.clean()?;
        let placed = self.place()?;
        let mut is_edited = false;
        for _ in 0..ATTEMPTS {
            let mut found = self.find()?;
            self.remember()?;
            let edited = self.edit(&found);
            if edited.is_err() && matches!(self.listed(), Ok(None)) {
                self.forget_locked()?;
            }
            let path = match edited? {
                Edit::None => found.path,
                Edit::Done(path) => {
                    is_edited = true;
                    found.notes.extend(self.nudge());
                    path
                }
                Edit::Overtaken => continue,
            };
            if let Placed::Accepted(note) = &placed {
                found.notes.push(note.clone());
            }
            return Ok(Installed {
                configuration: path,
                is_edited,
                is_placed: placed == Placed::Written,
                notes: found.notes,
            });
        }
        let path = self.settings.conf_dir.clone();
        Err(Error::Overtaken { path })
    }

    fn edit(&self, found: &Found) -> Result<Edit, Error> {
        let entry = &self.settings.entry;
        let edited = match found.shape()? {
            Shape::List(list) => match list.with(entry).map_err(|fault| found.fault(fault))? {
                Some(new) => self.replace(&found.path, &found.text, &new)?,
                None => Edit::None,
            },
            Shape::Single(single) => self.wrap(found, &single)?,
            Shape::Elsewhere(_) => Edit::None,
        };
        Ok(edited)
    }

    pub(super) fn replace(&self, path: &Path, old: &str, new: &str) -> Result<Edit, Error> {
        if is_link(path) {
            let path = path.to_owned();
            return Err(Error::Link { path });
        }
        match files::replace(self.files.as_ref(), path, old.as_bytes(), new.as_bytes()) {
            Ok(Replaced::Done) => Ok(Edit::Done(path.to_owned())),
            Ok(Replaced::Overtaken) => Ok(Edit::Overtaken),
            // Others have removed it in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Edit::Overtaken),
            Err(error) => Err(written(path, error)),
        }
    }

    /// First the list, and then the other name for the one plugin: until then runtimes go on with that.
    fn wrap(&self, found: &Found, single: &Single<'_>) -> Result<Edit, Error> {
        let path = &found.path;
        if is_link(path) {
            let path = path.clone();
            return Err(Error::Link { path });
        }
        let new = single
            .wrapped(&self.settings.entry)
            .map_err(|fault| found.fault(fault))?;
        let list = path.with_extension("conflist");
        if exists(&list) && !self.is_made_by_us(&list, path)? {
            return Err(Error::Both { path: list });
        }
        let files = self.files.as_ref();
        let attributes = match Attributes::of(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Edit::Overtaken),
            attributes => attributes.map_err(|error| written(path, error))?,
        };
        files::write(files, &list, new.as_bytes(), &attributes)
            .map_err(|error| written(&list, error))?;
        let backup = backup(path);
        match files.rename(path, &backup) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Edit::Overtaken),
            renamed => renamed.map_err(|error| written(path, error))?,
        }
        let is_same = files::read(&backup).is_ok_and(|now| now == found.text.as_bytes());
        if !is_same && !exists(path) {
            // Others have written to it since it was read.
            files
                .rename(&backup, path)
                .map_err(|error| written(path, error))?;
        }
        files
            .sync(files::folder(path))
            .map_err(|error| written(path, error))?;
        Ok(match is_same {
            true => Edit::Done(list),
            false => Edit::Overtaken,
        })
    }

    /// Whether a list is what we made of a `.conf`: it has our entry and one other, or the `.conf` from before is there.
    fn is_made_by_us(&self, list: &Path, single: &Path) -> Result<bool, Error> {
        if exists(&backup(single)) {
            return Ok(true);
        }
        let found = load(list, Kind::List)?;
        Ok(match found.shape() {
            Ok(Shape::List(list)) => is_wrap(&list),
            _ => false,
        })
    }

    /// Lets runtimes look again. Most have already; what is wrong with that is only told.
    pub(super) fn nudge(&self) -> Option<String> {
        let path = self.settings.conf_dir.join(NUDGE);
        let files = self.files.as_ref();
        let nudged = files::remove_if_there(files, &path)
            .and_then(|_| files.create(&path, b"", &Attributes::program(0o600)))
            .and_then(|()| files.remove(&path));
        nudged
            .err()
            .map(|error| format!("{}: {error}", path.display()))
    }

    /// Removes what a run that was killed has left.
    pub(super) fn clean(&self) -> Result<(), Error> {
        for name in self.names()? {
            if files::is_temporary(name.as_bytes()) || name == NUDGE {
                let path = self.settings.conf_dir.join(name);
                files::remove_if_there(self.files.as_ref(), &path)
                    .map_err(|error| written(&path, error))?;
            }
        }
        Ok(())
    }
}

/// One plugin and ours.
pub(super) fn is_wrap(list: &List<'_>) -> bool {
    list.has_ours() && list.others().count() == 1
}

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// Nothing: it was as it should be.
    None,
    /// This one was written.
    Done(std::path::PathBuf),
    /// Others wrote to it at the same time.
    Overtaken,
}

pub(super) fn written(path: &Path, error: io::Error) -> Error {
    let path = path.to_owned();
    Error::Write { path, error }
}
