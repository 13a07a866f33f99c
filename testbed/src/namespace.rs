//! One anonymous network namespace: an open descriptor, entered by threads that exist only for that.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

use nix::sched::{CloneFlags, setns, unshare};

use crate::error::Error;
use crate::{conntrack, program, settings};

/// A network namespace. It lives as long as this value, a process or a socket in it.
///
/// No thread of the caller ever enters it: each call runs on a thread of its own. A socket that was made inside may
/// be used from any thread.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// Makes a namespace with its loopback interface down and the settings of [`crate::Testbed`] in force.
    pub fn new() -> Result<Namespace, Error> {
        on_new_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::CreateNamespace(errno.into()))?;
            let file = File::open("/proc/thread-self/ns/net").map_err(Error::CreateNamespace)?;
            settings::quiet()?;
            Ok(Namespace { file })
        })?
    }

    /// Runs `work` on a new thread inside the namespace and returns what it returns. A panic in it goes on here.
    ///
    /// A child process that `work` starts is in the namespace too.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        on_new_thread(|| self.enter_on_this_thread().map(|()| work()))?
    }

    /// Loads `ruleset` with `nft -f -`, as one transaction, and returns what nft prints.
    pub fn nft(&self, ruleset: &str) -> Result<String, Error> {
        self.run(|| program::NFT.run(&["-f", "-"], ruleset))?
    }

    /// Loads a JSON document with `nft -j -f -` and returns what nft prints.
    pub fn nft_json(&self, ruleset: &str) -> Result<String, Error> {
        self.run(|| program::NFT.run(&["-j", "-f", "-"], ruleset))?
    }

    /// Runs `ip` with these arguments and returns what it prints.
    pub fn ip(&self, arguments: &[&str]) -> Result<String, Error> {
        self.run(|| program::IP.run(arguments, ""))?
    }

    /// Runs `ip -batch -` with these lines.
    pub fn ip_batch(&self, lines: &str) -> Result<String, Error> {
        self.run(|| program::IP.run(&["-batch", "-"], lines))?
    }

    /// Makes the namespace forget every tracked connection.
    pub fn forget_connections(&self) -> Result<(), Error> {
        self.run(conntrack::flush)?.map_err(Error::Conntrack)
    }

    /// The inode that identifies the namespace, as in `/proc/PID/ns/net`.
    pub fn inode(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.ino())
    }

    /// A path under which child processes can open the namespace.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Moves the calling thread in, for good: only for threads that do nothing else.
    pub(crate) fn enter_on_this_thread(&self) -> Result<(), Error> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::EnterNamespace(errno.into()))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn on_new_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .spawn_scoped(scope, work)
            .map_err(Error::Thread)?;
        thread
            .join()
            .map_err(|panic| std::panic::resume_unwind(panic))
    })
}
