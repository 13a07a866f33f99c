//! Our binary in the runtime's folder of plugins.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::files::{self, Attributes};
use super::probe::{LIMIT, probe};
use super::{Error, Installer, lock};
use crate::entry::TYPE;

const MODE: u32 = 0o755;

/// What was done about the binary.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It was there.
    AsItWas,
    /// It is new.
    Written,
    /// Another build that speaks the same versions is there, in a folder that can not be written to.
    Accepted(String),
}

impl Installer {
    /// Puts it there, for who has the lock of the folder. One that does not answer VERSION never gets the name.
    pub(super) fn place(&self) -> Result<Placed, Error> {
        let source = &self.settings.plugin;
        let wanted = fs::read(source).map_err(|error| Error::Source {
            path: source.clone(),
            error,
        })?;
        let target = self.binary();
        if is_there(&target, &wanted) {
            if !self.verified.get() {
                self.verify(&target)?;
            }
            return Ok(Placed::AsItWas);
        }
        self.verified.set(false);
        let temporary = files::temporary(&target);
        let files = self.files.as_ref();
        if let Err(error) = files::prepare(files, &temporary, &wanted, &Attributes::program(MODE)) {
            if is_read_only(&error) && probe(&target, LIMIT).is_ok() {
                return Ok(Placed::Accepted(format!(
                    "{}: the folder can not be written to ({error}), and another build that is there is used",
                    target.display()
                )));
            }
            let path = target;
            return Err(Error::Write { path, error });
        }
        if let Err(error) = self.verify(&temporary) {
            let _ = files.remove(&temporary);
            return Err(error);
        }
        let put = files.rename(&temporary, &target);
        put.and_then(|()| files.sync(&self.settings.bin_dir))
            .map_err(|error| {
                let _ = files.remove(&temporary);
                let path = target;
                Error::Write { path, error }
            })?;
        Ok(Placed::Written)
    }

    fn verify(&self, binary: &Path) -> Result<(), Error> {
        probe(binary, LIMIT).map_err(|problem| Error::Plugin {
            path: binary.to_owned(),
            problem,
        })?;
        self.verified.set(true);
        Ok(())
    }

    /// That no configuration of the folder names the binary.
    ///
    /// # Errors
    /// One does, or can not be read.
    pub fn check_unlisted(&self) -> Result<(), Error> {
        match self.listed()? {
            Some(path) => Err(Error::StillListed { path }),
            None => Ok(()),
        }
    }

    /// Removes the binary, for a purge.
    ///
    /// # Errors
    /// A configuration still names it, of this folder or of another that was given our entry, or it can not be removed: it
    /// stays then, since no pod could start or end.
    pub fn remove_binary(&self) -> Result<bool, Error> {
        let _lock = self.lock()?;
        let _of_plugins = lock(&self.settings.bin_dir)?;
        self.check_unlisted()?;
        self.check_recorded()?;
        self.verified.set(false);
        let target = self.binary();
        let files = self.files.as_ref();
        let removed = files::remove_if_there(files, &files::temporary(&target))
            .and_then(|_| files::remove_if_there(files, &target))
            .and_then(|removed| self.remove_record().map(|()| removed))
            .and_then(|removed| files.sync(&self.settings.bin_dir).map(|()| removed));
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::Write {
                path: target,
                error,
            }),
            Ok(removed) => Ok(removed),
        }
    }

    pub(super) fn binary(&self) -> PathBuf {
        self.settings.bin_dir.join(TYPE)
    }
}

pub(super) fn is_there(target: &Path, wanted: &[u8]) -> bool {
    let Ok(metadata) = fs::symlink_metadata(target) else {
        return false;
    };
    metadata.is_file()
        && metadata.permissions().mode() & 0o7777 == MODE
        && metadata.len() == wanted.len() as u64
        && fs::read(target).is_ok_and(|there| there == wanted)
}

pub(super) fn is_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}
