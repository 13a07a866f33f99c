//! Whether a binary is our plugin, asked with the verb VERSION.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;

use crate::version::Version;

/// How long it may take.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// How much it may say: what fits in a pipe, so that it never waits for a reader.
const LONGEST: u64 = 32 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    supported_versions: Vec<String>,
}

/// Runs it. Nothing of our environment is passed on, and no shell is asked.
pub(super) fn probe(binary: &Path, limit: Duration) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    let mut child = start(binary, deadline).map_err(|error| format!("can not be run: {error}"))?;
    let answer = answer(&mut child, deadline);
    // It may have ended: then there is nothing to end, and what ended is forgotten by the kernel.
    let _ = child.kill();
    let ended = child.wait();
    let answer = answer?;
    match ended {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("VERSION failed with {status}")),
        Err(error) => return Err(error.to_string()),
    }
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|error| format!("VERSION was not answered: {error}"))?;
    let lacks = |version: &&str| !answer.supported_versions.iter().any(|of| of == version);
    match Version::ALL.map(Version::text).into_iter().find(lacks) {
        Some(version) => Err(format!("does not speak CNI {version}")),
        None => Ok(()),
    }
}

fn start(binary: &Path, deadline: Instant) -> io::Result<Child> {
    loop {
        let mut command = Command::new(binary);
        let command = command.env_clear().env("CNI_COMMAND", "VERSION");
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        match command.stderr(Stdio::null()).spawn() {
            // A process that another thread starts holds our writing end open until it executes something.
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy
                    && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            started => return started,
        }
    }
}

fn answer(child: &mut Child, deadline: Instant) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| error.to_string();
    if let Some(mut input) = child.stdin.take() {
        // It may end without reading.
        let _ = input.write_all(br#"{"cniVersion":"1.0.0"}"#);
    }
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())
        .map_err(|error| failed(error.into()))?;
    if !is_readable(process.as_fd(), deadline).map_err(failed)? {
        return Err("VERSION was not answered in time".to_owned());
    }
    let Some(output) = child.stdout.take() else {
        return Ok(Vec::new());
    };
    // Somebody that it started may have the pipe still: what is there now is all there is.
    nix::fcntl::fcntl(
        &output,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
    )
    .map_err(|error| failed(error.into()))?;
    let mut answer = Vec::new();
    match output.take(LONGEST).read_to_end(&mut answer) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(failed(error)),
        _ => Ok(answer),
    }
}

/// Whether it is before the deadline.
fn is_readable(fd: BorrowedFd<'_>, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Ok(count) => return Ok(count > 0),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
