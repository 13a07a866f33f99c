//! inotify: what happens to names in folders.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// Something that happened.
#[derive(Debug)]
pub(super) enum Seen {
    /// To a name in a folder.
    Name {
        /// The folder's real path and the name.
        path: PathBuf,
        /// What.
        what: AddWatchFlags,
        /// The same for both halves of a rename, else 0.
        rename: u32,
    },
    /// To a folder itself: it is not where it was.
    Folder(PathBuf),
    /// Nobody knows what: there was more than the kernel keeps.
    Lost,
}

/// How much is told of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Detail {
    /// Names that come and go.
    Names,
    /// And what happens to what they name.
    Contents,
}

/// The folders that are watched.
#[derive(Default)]
pub(super) struct Watch {
    inotify: Option<Inotify>,
    folders: BTreeMap<WatchDescriptor, (PathBuf, Detail)>,
}

impl Watch {
    /// No folder yet.
    ///
    /// # Errors
    /// The system's, as for too many instances.
    pub(super) fn new() -> Result<Self, Errno> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Self {
            inotify: Some(inotify),
            folders: BTreeMap::new(),
        })
    }

    /// What to wait for.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Watches these folders and no others: whether one is new, and those that cannot be watched. Those that do not exist
    /// are left out.
    pub(super) fn set(
        &mut self,
        folders: &BTreeMap<PathBuf, Detail>,
    ) -> (bool, Vec<(PathBuf, Errno)>) {
        let Some(inotify) = &self.inotify else {
            return (false, Vec::new());
        };
        let mut watched = BTreeMap::new();
        let mut failed = Vec::new();
        for (path, detail) in folders {
            // Again for those that are watched: another folder may be there now.
            match inotify.add_watch(path.as_path(), mask(*detail)) {
                Ok(descriptor) => {
                    watched.insert(descriptor, (path.clone(), *detail));
                }
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(error) => failed.push((path.clone(), error)),
            }
        }
        for descriptor in self.folders.keys() {
            if !watched.contains_key(descriptor) {
                // It may have gone by itself.
                let _ = inotify.rm_watch(*descriptor);
            }
        }
        let is_new =
            |(descriptor, to): (&WatchDescriptor, _)| self.folders.get(descriptor) != Some(to);
        let any_new = watched.iter().any(is_new);
        self.folders = watched;
        (any_new, failed)
    }

    /// What happened since the last call.
    pub(super) fn read(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            let events = match self.inotify.as_ref().map(Inotify::read_events) {
                Some(Ok(events)) => events,
                Some(Err(Errno::EINTR)) => continue,
                Some(Err(_)) | None => return seen,
            };
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    seen.push(Seen::Lost);
                } else if event.mask.intersects(moved_or_gone()) {
                    // A folder that was moved would go on telling under its old path.
                    if let Some((path, _)) = self.folders.remove(&event.wd) {
                        let _ = self.inotify.as_ref().map(|all| all.rm_watch(event.wd));
                        seen.push(Seen::Folder(path));
                    }
                } else if let (Some((folder, _)), Some(name)) =
                    (self.folders.get(&event.wd), event.name)
                {
                    seen.push(Seen::Name {
                        path: folder.join(name),
                        what: event.mask,
                        rename: event.cookie,
                    });
                }
            }
        }
    }
}

fn moved_or_gone() -> AddWatchFlags {
    AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_UNMOUNT
        | AddWatchFlags::IN_IGNORED
}

fn mask(detail: Detail) -> AddWatchFlags {
    let names = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
        // What somebody still writes to a file that is gone is not about the file that has its name now. nix has no
        // name for it.
        | AddWatchFlags::from_bits_retain(libc::IN_EXCL_UNLINK);
    match detail {
        Detail::Names => names,
        Detail::Contents => {
            names
                | AddWatchFlags::IN_MODIFY
                | AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_ATTRIB
        }
    }
}
