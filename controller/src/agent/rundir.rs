//! The agent's directory, and that only one agent has it.
//!
//! The lock is an flock(2) on the directory itself: it needs no file, so a full disk does not hinder it, and the kernel
//! lets go of it with the process, however that ends.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where it is if nobody says otherwise.
pub const DEFAULT: &str = "/run/picket";

/// The socket in it.
const SOCKET: &str = "agent.sock";

/// All that is the agent's in it, with what the CNI plugin shares with it.
const OWN: [&str; 4] = [SOCKET, "cni.sock", "attachments", "ready"];

/// How often a directory that goes away is made again.
const ATTEMPTS: usize = 10;

/// The directory, held by this process for as long as this lives.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Holds the lock.
    _directory: File,
}

/// Why the directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// Another process holds it.
    #[error("{}: {} has it: stop it first, or name another directory with --run-dir", path.display(), holder(*.pid))]
    Held {
        /// The directory.
        path: PathBuf,
        /// Which process, if it can be known: it cannot from another PID namespace.
        pid: Option<u32>,
    },
    /// It belongs to another user, who could put anything there.
    #[error(
        "{}: it belongs to user {owner}, and this is user {uid}: remove it, or name another with --run-dir",
        path.display()
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// The user that it belongs to.
        owner: u32,
        /// The user of this process.
        uid: u32,
    },
    /// Others have files in it, and may enter it, which they no longer could.
    #[error(
        "{}: it has {file}, which is not the agent's, and others may enter it: name a directory with --run-dir that is the agent's alone",
        path.display()
    )]
    Shared {
        /// The directory.
        path: PathBuf,
        /// One of the files.
        file: String,
    },
    /// It cannot be made or opened.
    #[error("{}: {error}: make it, or name another with --run-dir", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

/// The socket of the agent that has this directory.
pub fn socket_path(directory: &Path) -> PathBuf {
    directory.join(SOCKET)
}

impl RunDir {
    /// Makes the directory if it is not there, and takes it, for its owner only. Nothing waits for another's.
    ///
    /// # Errors
    /// Each names the directory and what to do.
    pub fn take(path: &Path) -> Result<Self, RunDirError> {
        let taken = Self::hold(path)?;
        let unusable = |error| RunDirError::Unusable {
            path: path.to_owned(),
            error,
        };
        let metadata = fs::metadata(path).map_err(unusable)?;
        if metadata.mode() & 0o777 != 0o700 {
            if let Some(file) = foreign_file(path).map_err(unusable)? {
                let path = path.to_owned();
                return Err(RunDirError::Shared { path, file });
            }
            let private = Permissions::from_mode(0o700);
            fs::set_permissions(path, private).map_err(unusable)?;
        }
        Ok(taken)
    }

    /// The same with the directory as it is, for who removes it.
    ///
    /// # Errors
    /// As [`RunDir::take`].
    pub fn hold(path: &Path) -> Result<Self, RunDirError> {
        let unusable = |error| RunDirError::Unusable {
            path: path.to_owned(),
            error,
        };
        for _ in 0..ATTEMPTS {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(path).map_err(unusable)?;
            let directory = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(unusable)?,
            };
            let metadata = directory.metadata().map_err(unusable)?;
            if !metadata.is_dir() {
                return Err(unusable(io::ErrorKind::NotADirectory.into()));
            }
            let (owner, uid) = (metadata.uid(), own_uid().map_err(unusable)?);
            if owner != uid {
                let path = path.to_owned();
                return Err(RunDirError::NotOurs { path, owner, uid });
            }
            match directory.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let path = path.to_owned();
                    let pid = holder_of(&metadata);
                    return Err(RunDirError::Held { path, pid });
                }
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
            }
            // `picket cleanup` removes the directory that it has taken: what was locked then is nobody's path.
            let still = fs::metadata(path).is_ok_and(|now| now.ino() == metadata.ino());
            if !still {
                continue;
            }
            return Ok(Self {
                path: path.to_owned(),
                _directory: directory,
            });
        }
        Err(unusable(io::ErrorKind::ResourceBusy.into()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The socket in it.
    pub fn socket(&self) -> PathBuf {
        socket_path(&self.path)
    }

    /// Removes what is the agent's in it, and the directory if nothing else is, and lets go. What the CNI plugin recorded of
    /// interfaces goes too: pods keep their interfaces without it. A directory that is mounted, as in a container, stays, and
    /// is empty.
    ///
    /// # Errors
    /// Something is left in it.
    pub fn remove(self) -> io::Result<()> {
        for own in OWN {
            let path = self.path.join(own);
            let removed = match path.is_dir() {
                true => fs::remove_dir_all(path),
                false => fs::remove_file(path),
            };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match fs::remove_dir(&self.path) {
            // Said of a mount point before it is looked into.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                match fs::read_dir(&self.path)?.next() {
                    None => Ok(()),
                    Some(_) => Err(io::ErrorKind::DirectoryNotEmpty.into()),
                }
            }
            removed => removed,
        }
    }
}

/// The user of this process.
pub(super) fn own_uid() -> io::Result<u32> {
    Ok(fs::metadata("/proc/self")?.uid())
}

/// Who has a lock on it, by proc_locks(5): `1: FLOCK  ADVISORY  WRITE 1234 00:1a:5678 0 EOF`.
fn holder_of(directory: &fs::Metadata) -> Option<u32> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let inode = directory.ino().to_string();
    let mut locks = locks.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, place, ..] = fields[..] else {
            return None;
        };
        // The device is left out: some file systems show another one there than in stat(2).
        let same = place.rsplit(':').next() == Some(inode.as_str());
        same.then(|| pid.parse().ok()).flatten()
    });
    // 0 and -1 stand for processes that cannot be seen from here.
    locks.next().filter(|pid| *pid != 0)
}

/// A file in the directory that is not the agent's.
fn foreign_file(directory: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if !OWN.iter().any(|own| name == *own) {
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/tmp/rundir");
        let folder = folder.join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_second_agent_is_refused_and_told_the_pid_of_the_first() {
        let path = folder("second");
        let first = RunDir::take(&path).expect("nobody has it");
        let mode = fs::metadata(&path).expect("it is there").mode();
        assert_eq!(mode & 0o777, 0o700);
        let error = RunDir::take(&path).expect_err("somebody has it");
        let expected = format!(
            "{}: process {} has it: stop it first, or name another directory with --run-dir",
            path.display(),
            std::process::id()
        );
        assert_eq!(error.to_string(), expected);
        drop(first);
        let next = RunDir::take(&path).expect("nobody has it any more");
        next.remove().expect("nothing is in it");
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_that_others_may_enter_is_closed_to_them() {
        let path = folder("open");
        fs::create_dir_all(&path).expect("made");
        fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("set");
        let taken = RunDir::take(&path).expect("it is ours");
        let mode = fs::metadata(&path).expect("it is there").mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::write(path.join("theirs"), "").expect("written");
        taken.remove().expect_err("something is in it");
        assert!(path.join("theirs").exists());
        fs::remove_dir_all(&path).expect("removed");
    }

    /// On a thread with mounts of its own.
    #[test]
    fn a_directory_that_is_mounted_stays_and_is_empty() {
        let path = folder("mounted");
        fs::create_dir_all(&path).expect("made");
        let inside = || {
            unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
            let mount = |source: Option<&Path>, target: &Path, flags| {
                mount(source, target, None::<&str>, flags, None::<&str>).expect("mounted");
            };
            let root = Path::new("/");
            mount(None, root, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
            mount(Some(&path), &path, MsFlags::MS_BIND);
            let taken = RunDir::take(&path).expect("nobody has it");
            fs::write(path.join("theirs"), "").expect("written");
            taken.remove().expect_err("something is in it");
            fs::remove_file(path.join("theirs")).expect("removed");
            let taken = RunDir::take(&path).expect("nobody has it any more");
            fs::write(path.join("ready"), "").expect("written");
            taken.remove().expect("it is empty");
        };
        std::thread::scope(|scope| scope.spawn(inside).join()).expect("no panic");
        // By its own name it can be removed here, so that nothing is in it.
        fs::remove_dir(&path).expect("it is there, and empty");
    }

    #[test]
    fn a_directory_with_files_of_others_is_not_closed_to_them() {
        let path = folder("shared");
        fs::create_dir_all(path.join("theirs")).expect("made");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("set");
        let error = RunDir::take(&path).expect_err("it is theirs too");
        assert!(matches!(error, RunDirError::Shared { .. }), "{error}");
        assert!(error.to_string().contains("it has theirs"), "{error}");
        let mode = fs::metadata(&path).expect("it is there").mode();
        assert_eq!(mode & 0o777, 0o755);
        fs::remove_dir_all(&path).expect("removed");
    }

    #[test]
    fn a_directory_of_another_user_and_a_file_are_refused() {
        let path = folder("theirs");
        fs::create_dir_all(&path).expect("made");
        std::os::unix::fs::chown(&path, Some(12_345), None).expect("these tests need root");
        let error = RunDir::take(&path).expect_err("it is not ours");
        assert!(
            matches!(error, RunDirError::NotOurs { owner: 12_345, .. }),
            "{error}"
        );
        fs::remove_dir_all(&path).expect("removed");
        fs::write(&path, "").expect("written");
        let error = RunDir::take(&path).expect_err("it is a file");
        assert!(matches!(error, RunDirError::Unusable { .. }), "{error}");
        assert!(error.to_string().contains("--run-dir"), "{error}");
        fs::remove_file(&path).expect("removed");
    }
}
