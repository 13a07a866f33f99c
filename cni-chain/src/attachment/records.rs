//! The folder of records.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record::{Record, VERSION};
use super::{Attachment, AttachmentId, Invalid};

/// The longest record in bytes.
const LONGEST: u64 = 65_536;

const ENDING: &str = ".json";

/// The records of what is attached.
#[derive(Clone, Debug)]
pub struct Records {
    folder: PathBuf,
}

/// Why a record can not be used. Others can.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It can not be read, or is longer than a record is.
    #[error("{}: it can not be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It can not be written.
    #[error("{}: it can not be written: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It can not be removed.
    #[error("{}: it can not be removed: {source}", path.display())]
    Remove {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is no record.
    #[error("{}: it is no record: {source}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// It is of another version.
    #[error("{}: it is of version {version}, and this is version {VERSION}", path.display())]
    Version {
        /// Which.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// It has a value that is not valid.
    #[error("{}: {source}", path.display())]
    Invalid {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: Invalid,
    },
    /// It is of another attachment than its name says: `a-b` and `c` have the file of `a` and `b-c`.
    #[error("{}: it is of {of}", path.display())]
    Misnamed {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        of: AttachmentId,
    },
}

impl Records {
    /// Those in a directory for running, which need not be there yet.
    pub fn new(run_dir: &Path) -> Self {
        Self {
            folder: run_dir.join("attachments"),
        }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The record of an attachment, if there is one.
    ///
    /// # Errors
    /// There is something else in its place.
    pub fn read(&self, id: &AttachmentId) -> Result<Option<Attachment>, RecordError> {
        let path = self.file(id);
        let Some(attachment) = read(&path)? else {
            return Ok(None);
        };
        if attachment.id != *id {
            let of = attachment.id;
            return Err(RecordError::Misnamed { path, of });
        }
        Ok(Some(attachment))
    }

    /// All records by their names, and apart from them what could not be read. No folder has no records.
    ///
    /// # Errors
    /// The folder can not be listed.
    pub fn list(&self) -> io::Result<(Vec<Attachment>, Vec<RecordError>)> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            // What starts with a dot is being written.
            if name
                .to_str()
                .is_some_and(|name| !name.starts_with('.') && name.ends_with(ENDING))
            {
                names.push(name);
            }
        }
        names.sort();
        let (mut records, mut errors) = (Vec::new(), Vec::new());
        for name in names {
            let path = self.folder.join(&name);
            match read(&path) {
                // Removed meanwhile.
                Ok(None) => {}
                Ok(Some(of)) if self.file(&of.id) == path => records.push(of),
                Ok(Some(of)) => errors.push(RecordError::Misnamed { path, of: of.id }),
                Err(error) => errors.push(error),
            }
        }
        Ok((records, errors))
    }

    /// Writes a record, in place of an older one of the same attachment. Nobody sees half of it.
    ///
    /// # Errors
    /// [`RecordError::Invalid`], [`RecordError::Misnamed`] if its file has another attachment's record, and
    /// [`RecordError::Write`].
    pub fn write(&self, attachment: &Attachment) -> Result<(), RecordError> {
        let path = self.file(&attachment.id);
        self.not_of_another(&attachment.id)?;
        let record = Record::from(attachment.clone());
        let mut text = serde_json::to_vec(&record).map_err(|source| RecordError::Malformed {
            path: path.clone(),
            source,
        })?;
        text.push(b'\n');
        // What is written can be read.
        Attachment::try_from(record).map_err(|source| RecordError::Invalid {
            path: path.clone(),
            source,
        })?;
        let write = || {
            let mut folder = DirBuilder::new();
            folder.recursive(true).mode(0o700).create(&self.folder)?;
            let temporary = self.folder.join(format!(".{}", attachment.id));
            // One that is left over from a plugin that was killed is in nobody's way.
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&temporary)?.write_all(&text)?;
            fs::rename(&temporary, &path)
        };
        let written = write();
        written.map_err(|source| RecordError::Write { path, source })
    }

    /// Removes a record, and tells whether there was one. One of another attachment stays.
    ///
    /// # Errors
    /// [`RecordError::Remove`], [`RecordError::Misnamed`].
    pub fn remove(&self, id: &AttachmentId) -> Result<bool, RecordError> {
        self.not_of_another(id)?;
        let path = self.file(id);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(source) => Err(RecordError::Remove { path, source }),
        }
    }

    /// Whoever can not be read is of this one: it is being replaced or removed.
    fn not_of_another(&self, id: &AttachmentId) -> Result<(), RecordError> {
        match self.read(id) {
            Err(error @ RecordError::Misnamed { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    fn file(&self, id: &AttachmentId) -> PathBuf {
        self.folder.join(format!("{id}{ENDING}"))
    }
}

/// No such file, or no folder for it.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn read(path: &Path) -> Result<Option<Attachment>, RecordError> {
    let failed = |source| RecordError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Err(error) if is_absent(&error) => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut text = Vec::new();
    file.take(LONGEST + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > LONGEST {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    let malformed = |source| RecordError::Malformed {
        path: path.to_owned(),
        source,
    };
    // Another version may have other keys.
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(&text).map_err(malformed)?;
    if version != VERSION {
        let path = path.to_owned();
        return Err(RecordError::Version { path, version });
    }
    let record: Record = serde_json::from_slice(&text).map_err(malformed)?;
    let attachment = Attachment::try_from(record);
    let attachment = attachment.map_err(|source| RecordError::Invalid {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some(attachment))
}

#[cfg(test)]
mod tests;
