//! Another network namespace, opened and entered.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK, O_PATH};
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, PROC_SUPER_MAGIC, fstatfs};

use crate::error::Error;
use crate::link::{LinkError, Links};
use crate::nftables::Nftables;

/// A network namespace, which stays while this is open.
///
/// No thread of the caller ever enters it: work runs on a thread of its own. A socket that was opened inside may be
/// used from any thread.
#[derive(Debug)]
pub struct NetworkNamespace {
    file: File,
    inode: u64,
}

/// Why a network namespace can not be opened or entered.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The file can not be opened.
    #[error("{path} can not be opened")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is a symbolic link of a file system, which whoever may write there can point anywhere. Those of `/proc`
    /// are the kernel's own. Name what it points to.
    #[error("{path} is a symbolic link: name the namespace that it points to")]
    SymbolicLink {
        /// Which.
        path: PathBuf,
    },
    /// The file is something else: a namespace that is gone leaves an empty file behind.
    #[error("{path} is not a network namespace")]
    Other {
        /// Which.
        path: PathBuf,
    },
    /// The kernel could not be asked what the file is.
    #[error("it could not be told whether {path} is a network namespace")]
    Check {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: LinkError,
    },
    /// The path stands for another namespace by now, as that of a process that has ended may.
    #[error("{path} is network namespace {found} and no longer {expected}")]
    Replaced {
        /// Which path.
        path: PathBuf,
        /// What it stands for.
        found: u64,
        /// What it stood for.
        expected: u64,
    },
    /// No thread could be started.
    #[error("no thread could be started to enter a network namespace")]
    Thread(#[source] io::Error),
    /// The kernel refused: the process needs CAP_SYS_ADMIN here and there.
    #[error("network namespace {inode} can not be entered: the process needs CAP_SYS_ADMIN")]
    Enter {
        /// Which.
        inode: u64,
        /// Why not.
        source: io::Error,
    },
    /// No socket for nftables could be opened inside.
    #[error("nftables can not be asked in network namespace {inode}")]
    Nftables {
        /// Which.
        inode: u64,
        /// Why not.
        source: Error,
    },
    /// No socket for links could be opened inside.
    #[error("links can not be asked about in network namespace {inode}")]
    Links {
        /// Which.
        inode: u64,
        /// Why not.
        source: LinkError,
    },
}

/// nftables and links of a namespace, asked and changed from outside of it.
///
/// The sockets stay in the namespace, and it and its interfaces stay while one of them is open: whoever keeps them for
/// long keeps a namespace that nobody else has any more.
#[derive(Debug)]
pub struct Inside {
    /// nftables there.
    pub nftables: Nftables,
    /// Links there.
    pub links: Links,
}

impl NetworkNamespace {
    /// Opens a namespace by a path like `/proc/PID/ns/net` or `/run/netns/NAME`.
    ///
    /// # Errors
    /// Those of the file: [`NamespaceError::Open`] to [`NamespaceError::Check`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NamespaceError> {
        let path = path.as_ref();
        let failed = |source| NamespaceError::Open {
            path: path.to_owned(),
            source,
        };
        let other = || NamespaceError::Other {
            path: path.to_owned(),
        };
        // First without opening what is behind the name: to open a device or a pipe may do something, or wait.
        let mut name = OpenOptions::new();
        let name = name.read(true).custom_flags(O_PATH | O_NOFOLLOW);
        let name = name.open(path).map_err(failed)?;
        let is_link = name.metadata().map_err(failed)?.is_symlink();
        let system = fstatfs(&name).map_err(|errno| failed(errno.into()))?;
        match system.filesystem_type() {
            PROC_SUPER_MAGIC if is_link => {}
            _ if is_link => {
                return Err(NamespaceError::SymbolicLink {
                    path: path.to_owned(),
                });
            }
            NSFS_MAGIC => {}
            _ => return Err(other()),
        }
        let mut file = OpenOptions::new();
        let file = file.read(true).custom_flags(O_NONBLOCK);
        // The name may stand for something else by now: what counts is what was opened.
        Self::check(file.open(path).map_err(failed)?, path)
    }

    /// Opens the namespace that the path stood for when its number was this one.
    ///
    /// # Errors
    /// [`NamespaceError::Replaced`], and as [`NetworkNamespace::open`].
    pub fn open_numbered(path: impl AsRef<Path>, inode: u64) -> Result<Self, NamespaceError> {
        let path = path.as_ref();
        // Of what is open, so that nobody can put another in its place between the look and the use.
        let opened = Self::open(path)?;
        if opened.inode != inode {
            return Err(NamespaceError::Replaced {
                path: path.to_owned(),
                found: opened.inode,
                expected: inode,
            });
        }
        Ok(opened)
    }

    fn check(file: File, path: &Path) -> Result<Self, NamespaceError> {
        let failed = |source| NamespaceError::Check {
            path: path.to_owned(),
            source,
        };
        // A socket of whatever namespace this thread is in: the question is about a descriptor.
        let mut links = Links::open().map_err(failed)?;
        if !links.is_network_namespace(&file).map_err(failed)? {
            return Err(NamespaceError::Other {
                path: path.to_owned(),
            });
        }
        let metadata = file.metadata().map_err(|source| NamespaceError::Open {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            inode: metadata.ino(),
            file,
        })
    }

    /// The number by which namespaces are told apart while they are there, as in `net:[4026531840]`.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Runs `work` on a new thread inside the namespace, waits for it, and returns what it returns. A panic in it goes
    /// on here. A child process that `work` starts is in the namespace too.
    ///
    /// # Errors
    /// [`NamespaceError::Thread`] and [`NamespaceError::Enter`]: `work` has not begun.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        let enter = || {
            // The kernel refuses a namespace of another type here.
            setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| NamespaceError::Enter {
                inode: self.inode,
                source: errno.into(),
            })
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("namespace".to_owned())
                .spawn_scoped(scope, || enter().map(|()| work()));
            let thread = thread.map_err(NamespaceError::Thread)?;
            // The thread ends here, and so never does anything else in the namespace.
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sockets inside, which may be used from any thread.
    ///
    /// # Errors
    /// [`NamespaceError::Nftables`], [`NamespaceError::Links`], and as [`NetworkNamespace::run`].
    pub fn inside(&self) -> Result<Inside, NamespaceError> {
        let (nftables, links) = self.run(|| (Nftables::open(), Links::open()))?;
        let inode = self.inode;
        Ok(Inside {
            nftables: nftables.map_err(|source| NamespaceError::Nftables { inode, source })?,
            links: links.map_err(|source| NamespaceError::Links { inode, source })?,
        })
    }
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
