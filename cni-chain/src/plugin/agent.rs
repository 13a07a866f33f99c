//! The agent, asked with a deadline: whatever it does or does not, the plugin goes on in time.

use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::{PeerCredentials, SendTimeout};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::protocol::{self, Answer, LineError, Request};

/// Between two attempts: first, and at most.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Why there is no answer that counts.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unavailable {
    /// The socket can not be connected to.
    #[error("{socket}: {source}: picket's agent does not run, or is starting")]
    Connect { socket: String, source: io::Error },
    /// Whoever listens is not root.
    #[error("{socket}: whoever listens is user {uid}, and not root: it is not picket's agent")]
    NotRoot { socket: String, uid: u32 },
    /// The agent did not answer, or not in this protocol.
    #[error("picket's agent gave no answer: {}", said(.0))]
    Answer(LineError),
    /// It answered something else.
    #[error("picket's agent gave an answer to another question")]
    Unexpected,
    /// It is not ready.
    #[error("{message}{}{details}", if details.is_empty() { "" } else { ": " })]
    NotYet { message: String, details: String },
}

/// What the agent says in the end.
#[derive(Debug)]
pub(super) enum Outcome {
    /// `ready`, or `gone` of what was to be forgotten.
    Done,
    /// It will not get better by itself.
    Refused {
        code: u32,
        message: String,
        details: String,
    },
}

/// Asks until there is an answer or the deadline comes. A request is made for the time that is left.
pub(super) fn ask(
    run_dir: &Path,
    request: impl Fn(Duration) -> Request,
    deadline: Instant,
) -> Result<Outcome, Unavailable> {
    let socket = protocol::socket(run_dir);
    let mut pause = PAUSE;
    loop {
        let unavailable = match ask_once(&socket, &request(left(deadline)), deadline) {
            Err(unavailable) => unavailable,
            outcome => return outcome,
        };
        // Without the time for another attempt, the last one is what is told.
        if left(deadline) <= pause {
            return Err(unavailable);
        }
        sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn ask_once(socket: &Path, request: &Request, deadline: Instant) -> Result<Outcome, Unavailable> {
    let connecting = |source| Unavailable::Connect {
        socket: socket.display().to_string(),
        source,
    };
    let stream = connected(socket, deadline).map_err(connecting)?;
    let peer = getsockopt(&stream, PeerCredentials).map_err(|errno| connecting(errno.into()))?;
    if peer.uid() != 0 {
        return Err(Unavailable::NotRoot {
            socket: socket.display().to_string(),
            uid: peer.uid(),
        });
    }
    let mut bounded = Bounded { stream, deadline };
    let line = protocol::line(request).map_err(Unavailable::Answer)?;
    bounded
        .send(&line)
        .map_err(|error| Unavailable::Answer(error.into()))?;
    let answer = protocol::read(BufReader::new(bounded)).map_err(Unavailable::Answer)?;
    match (answer, request) {
        (Answer::Gone, Request::Detach { .. }) => Ok(Outcome::Done),
        (Answer::Ready, Request::Attach { .. } | Request::Check { .. }) => Ok(Outcome::Done),
        (
            Answer::Refused {
                code,
                message,
                details,
            },
            _,
        ) => Ok(Outcome::Refused {
            code,
            message,
            details,
        }),
        (Answer::NotYet { message, details }, _) => Err(Unavailable::NotYet { message, details }),
        _ => Err(Unavailable::Unexpected),
    }
}

/// To connect waits where the agent accepts nobody, and std has no limit for that.
fn connected(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let socket = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let milliseconds = left(deadline).as_millis().max(1) as i64;
    setsockopt(&socket, SendTimeout, &TimeVal::milliseconds(milliseconds))?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(socket))
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// A stream that ends at the deadline, also if there is always a little more.
struct Bounded {
    stream: UnixStream,
    deadline: Instant,
}

impl Bounded {
    fn left(&self) -> io::Result<Option<Duration>> {
        match left(self.deadline) {
            // The kernel takes microseconds, and none for no limit.
            left if left < Duration::from_micros(1) => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write_all(line)
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

/// In words that a person has seen before.
fn said(error: &LineError) -> String {
    match error {
        LineError::Read(error)
            if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) =>
        {
            "the time is over".to_owned()
        }
        LineError::Read(error) => format!("the line can not be read: {error}"),
        other => other.to_string(),
    }
}
