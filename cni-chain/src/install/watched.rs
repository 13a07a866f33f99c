//! Whether somebody watches a folder.
//!
//! Who watches has a read lock of fcntl(2) on the folder, beside the lock that each change takes for a moment (flock(2),
//! which is another kind). It leaves nothing behind, ends with who has it, and is seen from other containers. Several may
//! have it: while one version of a DaemonSet follows another, both watch.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Says that a folder is watched, for as long as this lives.
pub(super) struct Mark(File);

/// Of a folder that is not there nothing can be said.
pub(super) fn mark(folder: &Path) -> io::Result<Mark> {
    let folder = File::open(folder)?;
    fcntl(&folder, FcntlArg::F_OFD_SETLK(&whole(libc::F_RDLCK)))?;
    Ok(Mark(folder))
}

impl Drop for Mark {
    fn drop(&mut self) {
        // A process that is being started by another thread may have the file open still. It ends that by itself.
        let _ = fcntl(&self.0, FcntlArg::F_OFD_SETLK(&whole(libc::F_UNLCK)));
    }
}

/// Whether anybody has said so.
pub(super) fn is_watched(folder: &Path) -> io::Result<bool> {
    let folder = match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    // What would be in the way of a write lock, which is not taken.
    let mut lock = whole(libc::F_WRLCK);
    fcntl(&folder, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn whole(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}
