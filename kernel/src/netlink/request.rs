//! One request and all of its answers.

use std::io;

use nix::errno::Errno;

use super::attribute::{Malformed, Writer};
use super::message::{self, ACK, Content, DUMP, DUMP_INTERRUPTED, Header, Message, Messages};
use super::socket::{Received, Socket};

/// How the kernel ended its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With all that was asked for.
    Whole,
    /// Something changed or was lost in the middle: what was heard may be a part.
    Interrupted,
    /// With an error (positive errno), and what the kernel says about it.
    Refused { errno: i32, text: Option<String> },
}

/// Why it is not known how the kernel ended its answer.
#[derive(Debug)]
pub(crate) enum Failure {
    Send(io::Error),
    Receive(io::Error),
    /// There is no more to read, and no end was read.
    Lost,
    Malformed(Malformed),
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Socket {
    /// Sends a request to nfnetlink, whose sequence number is given here, and hands each object of the answer to `each`
    /// by its kind within its subsystem, its family and its attributes.
    pub(crate) fn request(
        &mut self,
        header: Header,
        fill: impl FnOnce(&mut Writer),
        mut each: impl FnMut(u16, u8, &[u8]) -> Result<(), Malformed>,
    ) -> Result<Ended, Failure> {
        let mut out = Writer::default();
        let sequence = self.next_sequence();
        message::write(&mut out, Header { sequence, ..header }, fill);
        self.exchange(&out.bytes, header.flags, |message| {
            match message.content()? {
                Content::Object { family, attributes } => {
                    each(message.kind & 0xff, family, attributes)
                }
                _ => Ok(()),
            }
        })
    }

    /// Sends a message to whatever protocol, with these flags and the next sequence number, and hands each message of the
    /// answer to `each`, but for its end.
    pub(crate) fn exchange(
        &mut self,
        bytes: &[u8],
        flags: u16,
        mut each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<Ended, Failure> {
        let sequence = self.next_sequence();
        self.use_sequence(1);
        self.send(bytes).map_err(Failure::Send)?;
        let has_end = flags & (DUMP | ACK) != 0;
        let mut ended = Ended::Whole;
        loop {
            let bytes = match self.receive().map_err(Failure::Receive)? {
                Received::Bytes(bytes) => bytes,
                // The answer to a single request is there at once; a dump says when it is done, and so does whoever
                // is asked to acknowledge.
                Received::Nothing if !has_end => return Ok(ended),
                Received::Nothing => return Err(Failure::Lost),
                Received::Overrun => return Ok(Ended::Interrupted),
            };
            for message in Messages(bytes) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                if message.flags & DUMP_INTERRUPTED != 0 {
                    ended = Ended::Interrupted;
                }
                let (errno, text) = match message.content()? {
                    Content::Object { .. } => {
                        each(&message)?;
                        continue;
                    }
                    Content::Done(errno) => (errno, message.done_text()),
                    Content::Answer(answer) => (answer.errno, answer.text),
                };
                return Ok(match Errno::from_raw(errno) {
                    _ if errno == 0 => ended,
                    Errno::EINTR | Errno::EAGAIN => Ended::Interrupted,
                    _ => Ended::Refused {
                        errno,
                        text: text.map(str::to_owned),
                    },
                });
            }
        }
    }
}
