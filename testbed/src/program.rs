//! Running `ip`, `bridge` and `nft`: found outside PATH too, no shell, bounded in time.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::Error;

pub(crate) const IP: Program = Program {
    name: "ip",
    package: "iproute2",
};
pub(crate) const BRIDGE: Program = Program {
    name: "bridge",
    package: "iproute2",
};
pub(crate) const NFT: Program = Program {
    name: "nft",
    package: "nftables",
};

/// Where these programs are, for a user whose PATH has no administration folders.
const USUAL_FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// Far beyond what any of them takes, also for a ruleset of a hundred thousand lines on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A program that the testbed runs.
pub(crate) struct Program {
    name: &'static str,
    package: &'static str,
}

impl Program {
    /// Runs the program in the calling thread's namespaces with `input` as its standard input, and returns its
    /// standard output.
    ///
    /// The input is a file in memory, so that the program never waits for this process: should this process be
    /// killed, the program comes to its own end.
    pub(crate) fn run(&self, arguments: &[&str], input: &str) -> Result<String, Error> {
        self.run_within(TIMEOUT, arguments, input)
    }

    fn run_within(
        &self,
        timeout: Duration,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, Error> {
        let command = || [&[self.name], arguments].concat().join(" ");
        let failed = |source| Error::RunProgram {
            command: command(),
            source,
        };
        let path = self.locate()?;
        let child = Command::new(path)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(in_memory(input).map_err(failed)?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(failed)?;
        let output = drain(&mut child, Instant::now() + timeout);
        if !matches!(output, Ok(Some(_))) {
            // Its own child, not yet waited for: the id is still this program's. It may have ended by itself.
            let _ = child.kill();
        }
        let status = child.wait().map_err(failed)?;
        let Some([stdout, stderr]) = output.map_err(failed)? else {
            return Err(Error::ProgramTimeout {
                command: command(),
                seconds: timeout.as_secs(),
            });
        };
        if status.success() {
            return Ok(stdout);
        }
        let line = complained_about(&stderr).and_then(|number| input.lines().nth(number - 1));
        let stderr = stderr.trim_end().to_owned();
        Err(Error::Program {
            command: command(),
            status,
            stderr,
            line: line.map(str::to_owned),
        })
    }

    fn locate(&self) -> Result<PathBuf, Error> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let usual = OsString::from(USUAL_FOLDERS);
        std::env::split_paths(&path)
            .chain(std::env::split_paths(&usual))
            .map(|folder| folder.join(self.name))
            .find(|file| file.is_file())
            .ok_or(Error::MissingProgram {
                program: self.name,
                package: self.package,
            })
    }
}

fn in_memory(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("stdin", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// Reads standard output and standard error to their ends. `None`: the deadline came first.
fn drain(child: &mut Child, deadline: Instant) -> io::Result<Option<[String; 2]>> {
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::Error::from(io::ErrorKind::BrokenPipe));
    };
    let mut texts = [Vec::new(), Vec::new()];
    let mut open = vec![
        (0, File::from(OwnedFd::from(stdout))),
        (1, File::from(OwnedFd::from(stderr))),
    ];
    let mut buffer = [0; 16 * 1024];
    while !open.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut pipes: Vec<_> = open
            .iter()
            .map(|(_, pipe)| PollFd::new(pipe.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut pipes, timeout) {
            Ok(0) => return Ok(None),
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let readable: Vec<bool> = pipes
            .iter()
            .map(|pipe| pipe.any().unwrap_or(false))
            .collect();
        // From the last on, so that removing one leaves the positions of those still to come.
        for position in (0..open.len()).rev().filter(|&position| readable[position]) {
            let (which, pipe) = &mut open[position];
            let length = pipe.read(&mut buffer)?;
            texts[*which].extend_from_slice(&buffer[..length]);
            if length == 0 {
                open.remove(position);
            }
        }
    }
    Ok(Some(
        texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ))
}

/// The number of the line that `ip -batch` names. What nft prints shows the line already.
fn complained_about(stderr: &str) -> Option<usize> {
    let after = stderr.split("Command failed -:").nth(1)?;
    let digits = after
        .split(|character: char| !character.is_ascii_digit())
        .next()?;
    digits.parse().ok().filter(|&number| number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(program: &Program, timeout: Duration, arguments: &[&str], input: &str) -> String {
        program
            .run_within(timeout, arguments, input)
            .expect_err("it must fail")
            .to_string()
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let said = fails(
            &Program {
                name: "no-such-program",
                package: "some-package",
            },
            TIMEOUT,
            &[],
            "",
        );
        assert_eq!(
            said,
            "cannot find the program `no-such-program`: install the Debian package `some-package`"
        );
    }

    #[test]
    fn a_program_that_does_not_end_in_time_is_killed() {
        let start = Instant::now();
        let sleep = Program {
            name: "sleep",
            package: "coreutils",
        };
        let said = fails(&sleep, Duration::from_millis(20), &["60"], "");
        assert_eq!(said, "`sleep 60` did not end within 0 s and was killed");
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn output_and_complaints_of_any_size_are_read() {
        let text = "a line of some length that is repeated until no pipe holds it\n".repeat(20_000);
        let cat = Program {
            name: "cat",
            package: "coreutils",
        };
        assert!(cat.run(&[], &text).is_ok_and(|output| output == text));
        assert!(
            fails(&cat, TIMEOUT, &["/nonexistent"], &text).contains("No such file or directory")
        );
    }

    #[test]
    fn a_failed_batch_names_the_line() {
        let said = fails(
            &IP,
            TIMEOUT,
            &["-batch", "-"],
            "route show\nlink show dev nosuch\n",
        );
        assert!(said.ends_with("(at: link show dev nosuch)"), "{said}");
    }
}
