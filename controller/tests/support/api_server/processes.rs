//! Processes in a network namespace that end with the test, however that ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PATIENCE;

/// What is to be started, and where to tell how that went.
type Start = (Command, Sender<io::Result<Child>>);

/// A network namespace, and the thread that all processes in it are children of.
///
/// The kernel kills them when that thread ends, which it does when the test's process is killed at the latest. So it
/// has to live as long as they may.
pub(super) struct Processes {
    namespace: OwnedFd,
    starts: Option<Sender<Start>>,
    parent: Option<JoinHandle<()>>,
}

impl Processes {
    pub(super) fn new(namespace: &impl AsFd) -> Self {
        let namespace = namespace.as_fd().try_clone_to_owned().unwrap();
        let (starts, requests): (_, Receiver<Start>) = channel();
        let inside = namespace.try_clone().unwrap();
        let parent = std::thread::spawn(move || {
            setns(&inside, CloneFlags::CLONE_NEWNET).unwrap();
            for (mut command, answer) in requests {
                answer.send(command.spawn()).unwrap();
            }
        });
        Self {
            namespace,
            starts: Some(starts),
            parent: Some(parent),
        }
    }

    /// Starts a program that writes to the log.
    pub(super) fn start(&self, program: &Path, arguments: &[String], log: PathBuf) -> Process {
        let open = || -> File {
            let mut options = OpenOptions::new();
            options.create(true).append(true).open(&log).unwrap()
        };
        // Between fork and exec std can set no signal without `unsafe`; this program does, and becomes the other one.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(program).args(arguments);
        command.stdin(Stdio::null()).stdout(open()).stderr(open());
        let (answer, started) = channel();
        let starts = self.starts.as_ref().unwrap();
        starts.send((command, answer)).unwrap();
        let child = started.recv().unwrap();
        let child = child.unwrap_or_else(|error| panic!("setpriv, of util-linux: {error}"));
        Process { child, log }
    }

    /// Runs `work` on a new thread in the namespace.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        std::thread::scope(|scope| {
            let outcome = scope.spawn(inside).join();
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        drop(self.starts.take());
        self.parent.take().map(JoinHandle::join);
    }
}

/// A process, killed when this is dropped.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Ends it by this signal.
    pub(super) fn end(mut self, signal: Signal) {
        self.signal(signal);
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            let last_words = || self.last_words();
            assert!(
                Instant::now() < deadline,
                "it does not end: {}",
                last_words()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Panics with what it said last if it has ended.
    pub(super) fn assert_runs(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("{status}: {}", self.last_words());
        }
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
