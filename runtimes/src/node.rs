//! A node without a machine: namespaces that end with this process, however it ends, and with them all that runs or
//! is mounted in them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use testbed::Namespace;

use crate::error::{Error, io};
use crate::output::Output;

/// Where runtimes keep what they have, each an empty file system in memory here. `/run` is also this crate's own.
const EMPTY: &[&str] = &["/run", "/var/lib", "/var/tmp"];

/// Where programs are, also for a user whose PATH has no administration folders.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long the kernel may take to end all processes of a machine that is swamped.
const PATIENCE: Duration = Duration::from_secs(60);

/// Far beyond what any program takes that runs to its end, and a number for `timeout`.
const SECONDS: &str = "120";

/// A network, a process and a mount namespace, in which runtimes have the usual folders for themselves.
///
/// The first process in it reads from a pipe whose other end only this process has. So it ends when this process does,
/// and the kernel ends all others in its process namespace then, and unmounts what they mounted.
#[derive(Debug)]
pub struct Node {
    network: Namespace,
    processes: File,
    mounts: File,
    first: Child,
}

impl Node {
    pub(crate) fn new() -> Result<Node, Error> {
        let network = Namespace::new()?;
        network.ip(&["link", "set", "lo", "up"])?;
        let (first, processes, mounts) = network.run(first_process)??;
        let node = Node {
            network,
            processes,
            mounts,
            first,
        };
        // Only a process of the new namespace can mount its view.
        let mut mount = node.command("mount", "mount")?;
        mount.args(["-t", "proc", "proc", "/proc"]);
        node.run(mount)?;
        Ok(node)
    }

    /// The network namespace.
    pub fn network(&self) -> &Namespace {
        &self.network
    }

    /// What is at this absolute path in the node, as a path for this process.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let below = path.strip_prefix("/").unwrap_or(path);
        Path::new(&format!("/proc/{}/root", self.first.id())).join(below)
    }

    /// A program with a clean environment, for [`Node::spawn`] and [`Node::run`].
    pub(crate) fn command(
        &self,
        program: &'static str,
        package: &'static str,
    ) -> Result<Command, Error> {
        let file = locate(program, package)?;
        let mut command = Command::new("timeout");
        command
            .args(["--foreground", "--signal=KILL", SECONDS])
            .arg(file);
        clean(&mut command);
        Ok(command)
    }

    /// A program that runs until it is ended.
    pub(crate) fn service(
        &self,
        program: &'static str,
        package: &'static str,
    ) -> Result<Command, Error> {
        let mut command = Command::new(locate(program, package)?);
        clean(&mut command);
        Ok(command)
    }

    /// Starts a process in the node. It has to be waited for before the node is dropped.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, Error> {
        let enter = || {
            // A thread that shares its working directory with others may not change its mounts.
            unshare(CloneFlags::CLONE_FS)?;
            setns(&self.mounts, CloneFlags::CLONE_NEWNS)?;
            setns(&self.processes, CloneFlags::CLONE_NEWPID)?;
            command.spawn()
        };
        self.network
            .run(enter)?
            .map_err(io("start a process in the node"))
    }

    /// Runs a program to its end.
    pub(crate) fn output(&self, mut command: Command) -> Result<Output, Error> {
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.spawn(&mut command)?;
        let output = child.wait_with_output().map_err(io("wait for a process"))?;
        Ok(Output::from(output))
    }

    /// Runs a program that has to succeed, and returns its standard output.
    pub(crate) fn run(&self, command: Command) -> Result<String, Error> {
        let arguments = command
            .get_args()
            .skip(3)
            .map(|argument| argument.to_string_lossy());
        let said = arguments.collect::<Vec<_>>().join(" ");
        let output = self.output(command)?;
        if output.code == 0 {
            return Ok(output.stdout);
        }
        Err(Error::Program {
            command: said,
            code: output.code,
            stderr: output.stderr.trim_end().to_owned(),
        })
    }

    /// Makes a folder, and those above it.
    pub(crate) fn make_folder(&self, path: &str) -> Result<(), Error> {
        fs::create_dir_all(self.path(path)).map_err(io(format!("make the folder {path}")))
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) -> Result<(), Error> {
        fs::write(self.path(path), content).map_err(io(format!("write {path}")))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.first.kill();
        let deadline = Instant::now() + PATIENCE;
        // Not without an end: it would be one if somebody did not wait for a process that was started here.
        while !matches!(self.first.try_wait(), Ok(Some(_)) | Err(_)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Moves the calling thread into new namespaces, and starts their first process.
fn first_process() -> Result<(Child, File, File), Error> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)
        .map_err(io("make a mount and a process namespace"))?;
    let nothing = None::<&str>;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .map_err(io("make mounts private"))?;
    for folder in EMPTY {
        mount(
            Some("tmpfs"),
            *folder,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=0755"),
        )
        .map_err(io(format!("mount a file system on {folder}")))?;
    }
    let open = |name| {
        let path = format!("/proc/thread-self/ns/{name}");
        File::open(&path).map_err(io(format!("open {path}")))
    };
    // Who becomes an orphan is its child: ignored, so that it waits for none of them.
    let mut command = Command::new("env");
    command
        .args(["--ignore-signal=CHLD", "cat"])
        .stdin(Stdio::piped());
    clean(&mut command);
    let first = command
        .spawn()
        .map_err(io("start the first process of the node"))?;
    Ok((first, open("pid_for_children")?, open("mnt")?))
}

/// Nothing of this process' environment, working folder and open files.
fn clean(command: &mut Command) {
    let folder = "/";
    command
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/run")
        .env("LC_ALL", "C");
    command.current_dir(folder);
}

/// Where a program is.
pub(crate) fn locate(program: &'static str, package: &'static str) -> Result<PathBuf, Error> {
    let folders = PATH.split(':').map(Path::new);
    let mut files = folders.map(|folder| folder.join(program));
    let file = files.find(|file| file.is_file());
    file.ok_or(Error::MissingProgram { program, package })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = locate("no-such-program", "some-package").expect_err("there is none");
        let said = "cannot find the program `no-such-program`: install the Debian package `some-package`, or run ./setup";
        assert_eq!(error.to_string(), said);
    }
}
