//! Our entries taken out.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::change::{BACKUP, Edit, is_wrap, written};
use super::conflist::{self, Kind, Shape};
use super::find::{backup, exists, kind, load};
use super::{Error, Installer, files, watched};
use crate::entry::TYPE;

/// How often others may write at the same time.
const ATTEMPTS: usize = 8;

/// What was taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The configurations that had our entry, and those that are as they were before us.
    pub changed: Vec<PathBuf>,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl Installer {
    /// Takes our entries out of all configurations, whichever the runtime takes. The binary stays: pods that end now
    /// may still need it. See [`Installer::remove_binary`].
    ///
    /// # Errors
    /// [`Error::Watched`], and nothing was changed; or of each file that could not be changed, and all others were.
    pub fn remove_entries(&self) -> Result<Removed, Error> {
        let _lock = self.lock()?;
        let path = &self.settings.conf_dir;
        if watched::is_watched(path).map_err(|error| self.unreadable(error))? {
            return Err(Error::Watched { path: path.clone() });
        }
        self.clean()?;
        let mut removed = Removed::default();
        let mut errors = Vec::new();
        for (path, kind) in self.all()? {
            match self.remove_from(&path, kind) {
                Ok(Some(path)) => removed.changed.push(path),
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        if let Err(error) = self.clean_backups(&mut removed) {
            errors.push(error);
        }
        if !removed.changed.is_empty() {
            removed.notes.extend(self.nudge());
        }
        match errors.len() {
            0 => self.forget().map(|()| removed),
            _ => Err(Error::Several(errors)),
        }
    }

    /// A configuration that names our plugin.
    pub(super) fn listed(&self) -> Result<Option<PathBuf>, Error> {
        for (path, kind) in self.all()? {
            let found = match load(&path, kind) {
                Ok(found) => found,
                Err(Error::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                    continue;
                }
                // What no runtime can read calls nobody.
                Err(Error::Configuration { .. }) => continue,
                Err(error) => return Err(error),
            };
            let names_ours = match conflist::read(kind, &found.text) {
                Ok(Shape::List(list)) => list.has_ours(),
                Ok(Shape::Elsewhere(_)) => false,
                Ok(Shape::Single(_)) | Err(_) => mentions(&found.text),
            };
            if names_ours {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The folder's configurations, and the one elsewhere that multus calls.
    fn all(&self) -> Result<Vec<(PathBuf, Kind)>, Error> {
        let mut all = self.configurations()?;
        if let Ok(found) = self.find()
            && !all.iter().any(|(path, _)| *path == found.path)
        {
            all.push((found.path, found.kind));
        }
        Ok(all)
    }

    fn remove_from(&self, path: &Path, kind: Kind) -> Result<Option<PathBuf>, Error> {
        for _ in 0..ATTEMPTS {
            let found = match load(path, kind) {
                Err(Error::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(None);
                }
                // Not ours to repair.
                Err(Error::Configuration { .. }) => return Ok(None),
                found => found?,
            };
            if !mentions(&found.text) {
                return Ok(None);
            }
            let list = match found.shape()? {
                Shape::List(list) => list,
                Shape::Single(_) | Shape::Elsewhere(_) => return Ok(None),
            };
            let single = path.with_extension("conf");
            let backup = backup(&single);
            // A run that was killed may have given the old name back already.
            let before = [&backup, &single].into_iter().find(|path| exists(path));
            if let Some(before) = before.filter(|_| is_wrap(&list)) {
                let before = load(before, Kind::Single)?;
                let before = serde_json::from_str::<serde_json::Value>(&before.text).ok();
                if before.as_ref() == list.others().next() {
                    return self.restore(path, &single, &backup).map(Some);
                }
            }
            let without = list.without().map_err(|fault| found.fault(fault))?;
            let Some(without) = without else {
                return Ok(None);
            };
            match self.replace(path, &found.text, &without)? {
                Edit::Overtaken => {}
                Edit::None | Edit::Done(_) => return Ok(Some(path.to_owned())),
            }
        }
        let path = path.to_owned();
        Err(Error::Overtaken { path })
    }

    /// First the old name, which goes before the list, and then the list. If others have written the old name again,
    /// that is newer than what we kept.
    fn restore(&self, list: &Path, single: &Path, backup: &Path) -> Result<PathBuf, Error> {
        let files = self.files.as_ref();
        let restored = match exists(single) {
            true => files::remove_if_there(files, backup).map(drop),
            false => files.rename(backup, single),
        };
        restored
            .and_then(|()| files.sync(&self.settings.conf_dir))
            .and_then(|()| files.remove(list))
            .and_then(|()| files.sync(&self.settings.conf_dir))
            .map_err(|error| written(single, error))?;
        Ok(single.to_owned())
    }

    /// What we kept of a `.conf` whose list others have changed or removed is of no use to anybody.
    fn clean_backups(&self, removed: &mut Removed) -> Result<(), Error> {
        for name in self.names()? {
            let Some(single) = name.as_bytes().strip_suffix(BACKUP.as_bytes()) else {
                continue;
            };
            if kind(single) != Some(Kind::Single) {
                continue;
            }
            let path = self.settings.conf_dir.join(&name);
            let list = path.with_extension("").with_extension("conflist");
            // It failed: the next run finds it.
            if load(&list, Kind::List).is_ok_and(|found| mentions(&found.text)) {
                continue;
            }
            files::remove_if_there(self.files.as_ref(), &path)
                .map_err(|error| written(&path, error))?;
            removed.notes.push(format!(
                "{}: removed, since another network configuration is there by now",
                path.display()
            ));
        }
        Ok(())
    }
}

/// Whether a text may have our entry.
fn mentions(text: &str) -> bool {
    text.contains(TYPE)
}
