//! How files are written: whole or not at all, whenever it ends.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, XattrFlags, fsetxattr, lgetxattr, renameat_with};
use rustix::io::Errno;

/// The ending of a file that is not whole yet. No runtime reads it.
const TEMPORARY: &str = ".picket-tmp";

/// What SELinux calls a file.
const LABEL: &str = "security.selinux";

/// The longest configuration in bytes.
const LONGEST: u64 = 1 << 20;

/// What changes a folder. Tests have one that stops at any step.
pub(super) trait Files: Send {
    /// Makes a file that was not there. It is on disk when this returns.
    fn create(&self, path: &Path, content: &[u8], attributes: &Attributes) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Each of both gets the other's name.
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// What was done in a folder is on disk when this returns.
    fn sync(&self, folder: &Path) -> io::Result<()>;
}

/// The file system.
pub(super) struct Disk;

impl Files for Disk {
    fn create(&self, path: &Path, content: &[u8], attributes: &Attributes) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(content)?;
        let made = file.metadata()?;
        if let Some((user, group)) = attributes.owner
            && (user, group) != (made.uid(), made.gid())
        {
            fchown(&file, Some(user), Some(group))?;
        }
        file.set_permissions(fs::Permissions::from_mode(attributes.mode))?;
        if let Some(label) = &attributes.label {
            fsetxattr(&file, LABEL, label, XattrFlags::empty())?;
        }
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

/// What a file has beside its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    mode: u32,
    owner: Option<(u32, u32)>,
    label: Option<Vec<u8>>,
}

impl Attributes {
    /// Those of a file, for the one that takes its place.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            mode: metadata.mode() & 0o7777,
            owner: Some((metadata.uid(), metadata.gid())),
            label: label(path)?,
        })
    }

    /// Those of a program.
    pub(super) fn program(mode: u32) -> Self {
        Self {
            mode,
            owner: None,
            label: None,
        }
    }
}

fn label(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut label = vec![0; 4096];
    match lgetxattr(path, LABEL, &mut label) {
        Ok(length) => {
            label.truncate(length);
            Ok(Some(label))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A configuration, if it is not too long. A link is followed, as runtimes do.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    // Of a pipe, which nobody may ever write to, runtimes read nothing either.
    let mut options = OpenOptions::new();
    let flags = nix::libc::O_NONBLOCK;
    let file = options.read(true).custom_flags(flags).open(path)?;
    file.take(LONGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LONGEST {
        let problem = format!("has more than {LONGEST} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(content)
}

/// How long is waited for those who were about to write to a file when it was replaced: the kernel does not tell of them.
const SETTLE: Duration = Duration::from_millis(20);

/// How often in a row others may write to a file while it is given back to them.
const MOST_EXCHANGES: usize = 16;

/// The name of a file as long as it is not whole, in the same folder.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(TEMPORARY);
    path.with_file_name(name)
}

/// Whether a name is one of [`temporary`]'s, as a run that was killed leaves behind.
pub(super) fn is_temporary(name: &[u8]) -> bool {
    name.starts_with(b".") && name.ends_with(TEMPORARY.as_bytes())
}

/// Whether a file was replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    Done,
    /// Somebody else wrote to it in the meantime, and what they wrote is there.
    Overtaken,
}

/// Replaces a file that has this content. What others write at the same time is never lost.
pub(super) fn replace(
    files: &dyn Files,
    path: &Path,
    old: &[u8],
    new: &[u8],
) -> io::Result<Replaced> {
    let temporary = temporary(path);
    prepare(files, &temporary, new, &Attributes::of(path)?)?;
    let replaced = put(files, path, [old, new], &temporary);
    if replaced.is_err() {
        // Nothing more can be done about it; the next run does.
        let _ = files.remove(&temporary);
    }
    let replaced = replaced?;
    files.sync(folder(path))?;
    Ok(replaced)
}

fn put(
    files: &dyn Files,
    path: &Path,
    [old, new]: [&[u8]; 2],
    temporary: &Path,
) -> io::Result<Replaced> {
    match files.exchange(temporary, path) {
        Ok(()) => {}
        // Not every file system exchanges names.
        Err(error) if is_unsupported(&error) => {
            if read(path)? != old {
                files.remove(temporary)?;
                return Ok(Replaced::Overtaken);
            }
            files.rename(temporary, path)?;
            return Ok(Replaced::Done);
        }
        Err(error) => return Err(error),
    }
    // What was there until this moment. Whoever writes in place empties it a moment after they found it by its name.
    let taken = || {
        // What can not be read is theirs too.
        let give_back = |_: &io::Error| drop(files.rename(temporary, path));
        read(temporary).inspect_err(give_back)
    };
    let mut out = taken()?;
    if out == old {
        thread::sleep(SETTLE);
        out = taken()?;
    }
    if out == old {
        files.remove(temporary)?;
        return Ok(Replaced::Done);
    }
    // It is put back, and what comes out then is to be what was put there; or somebody wrote meanwhile, and that is newer.
    let mut there = new.to_vec();
    for _ in 0..MOST_EXCHANGES {
        files.exchange(temporary, path)?;
        let put = std::mem::replace(&mut out, taken()?);
        if out == there {
            files.remove(temporary)?;
            return Ok(Replaced::Overtaken);
        }
        there = put;
    }
    // Somebody writes each time. The newest that is known is there at the end.
    files.rename(temporary, path)?;
    Ok(Replaced::Overtaken)
}

fn is_unsupported(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}

/// Makes or replaces a file that nobody else writes.
pub(super) fn write(
    files: &dyn Files,
    path: &Path,
    content: &[u8],
    attributes: &Attributes,
) -> io::Result<()> {
    let temporary = temporary(path);
    prepare(files, &temporary, content, attributes)?;
    files.rename(&temporary, path)?;
    files.sync(folder(path))
}

/// A file that is not whole, or has not its name yet.
pub(super) fn prepare(
    files: &dyn Files,
    temporary: &Path,
    content: &[u8],
    attributes: &Attributes,
) -> io::Result<()> {
    remove_if_there(files, temporary)?;
    let created = files.create(temporary, content, attributes);
    if created.is_err() {
        let _ = files.remove(temporary);
    }
    created
}

/// Whether it was.
pub(super) fn remove_if_there(files: &dyn Files, path: &Path) -> io::Result<bool> {
    match files.remove(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
