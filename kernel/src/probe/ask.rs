//! Asking the kernel.

use std::io;
use std::path::Path;

use nix::errno::Errno;

use super::batch::batch;
use super::feature::Feature;
use super::question::Question;
use super::{Answer, ProbeError};
use crate::netlink::attribute::Writer;
use crate::netlink::message::{self, Content, Header, Messages};
use crate::netlink::socket::{NETLINK_NETFILTER, Received, Socket};

/// Room for answers: a few.
const ANSWERS: usize = 1 << 16;

/// The kernel, over one socket.
#[derive(Default)]
pub(super) struct Kernel {
    socket: Option<Socket>,
}

impl Kernel {
    /// Whether it has the feature, or its answer.
    pub(super) fn ask(&mut self, feature: Feature) -> Result<Result<(), Answer>, ProbeError> {
        let failed = |source| ProbeError::Ask { feature, source };
        match feature.question() {
            Question::Folder(path) if Path::new(path).is_dir() => Ok(Ok(())),
            Question::Folder(_) => Ok(Err(Errno::ENOENT.into())),
            Question::Socket => match self.socket() {
                Ok(_) => Ok(Ok(())),
                Err(error) => answer(error).map(Err).map_err(failed),
            },
            Question::Message { kind, there } => {
                let socket = self.socket().map_err(failed)?;
                let header = Header {
                    kind,
                    flags: message::ACK,
                    sequence: socket.next_sequence(),
                    family: 0,
                    resource: 0,
                };
                let mut out = Writer::default();
                message::write(&mut out, header, |_| {});
                let answer = answered(feature, socket, &out.bytes, 1)?;
                Ok(answer.or_else(|answer| match answer.errno {
                    errno if errno == there => Ok(()),
                    _ => Err(answer),
                }))
            }
            Question::Table {
                family,
                flags,
                parts,
            } => {
                let socket = self.socket().map_err(failed)?;
                let (bytes, count) = batch(socket.next_sequence(), family, flags, &parts);
                answered(feature, socket, &bytes, count)
            }
        }
    }

    fn socket(&mut self) -> io::Result<&mut Socket> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => Socket::open(NETLINK_NETFILTER, ANSWERS)?,
        };
        Ok(self.socket.insert(socket))
    }
}

/// Sends messages whose numbers are the next, and reads the answer to each that asks for one: the first error, or that
/// the last was done.
fn answered(
    feature: Feature,
    socket: &mut Socket,
    bytes: &[u8],
    count: u32,
) -> Result<Result<(), Answer>, ProbeError> {
    let failed = |source| ProbeError::Ask { feature, source };
    let malformed = |source| ProbeError::Malformed { feature, source };
    let first = socket.next_sequence();
    socket.use_sequence(count);
    socket.send(bytes).map_err(failed)?;
    let mut done = false;
    let mut error = None;
    loop {
        let bytes = match socket.receive().map_err(failed)? {
            Received::Bytes(bytes) => bytes,
            Received::Nothing => break,
            Received::Overrun => return Err(ProbeError::Lost(feature)),
        };
        for message in Messages(bytes) {
            let message = message.map_err(malformed)?;
            if !(first..first + count).contains(&message.sequence) {
                continue;
            }
            let Content::Answer(answer) = message.content().map_err(malformed)? else {
                continue;
            };
            match answer.errno {
                0 => done |= message.sequence == first + count - 1,
                errno => {
                    let text = answer.text.map(str::to_owned);
                    error.get_or_insert(Answer { errno, text });
                }
            }
        }
    }
    match error {
        Some(answer) => Ok(Err(answer)),
        None if done => Ok(Ok(())),
        None => Err(ProbeError::Lost(feature)),
    }
}

/// The kernel's answer to a system call; an error without a number is no answer.
fn answer(error: io::Error) -> io::Result<Answer> {
    match error.raw_os_error() {
        Some(errno) => Ok(Errno::from_raw(errno).into()),
        None => Err(error),
    }
}

impl From<Errno> for Answer {
    fn from(errno: Errno) -> Self {
        Self {
            errno: errno as i32,
            text: None,
        }
    }
}
