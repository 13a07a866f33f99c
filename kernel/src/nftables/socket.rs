//! nftables of one network namespace, asked and changed.

use nix::errno::Errno;
use policy_compiler::ruleset::{Ruleset, TABLE};

use super::Generation;
use super::batch::{Batch, object};
use super::constants::{family, generation, msg};
use super::object::Object;
use super::operation::{Operation, load};
use crate::error::{Error, Refusal};
use crate::netlink::attribute::{Attributes, Malformed, Writer, find};
use crate::netlink::message::{self, Answer, Content, Header, Messages};
use crate::netlink::request::Ended;
use crate::netlink::socket::{NETLINK_NETFILTER, Received, Socket};

/// Room for answers that were not read yet: the kernel answers every message of a batch that it refuses.
const ANSWERS: usize = 1 << 22;

/// nftables of the network namespace in which this was opened, over one socket for as long as this lives.
#[derive(Debug)]
pub struct Nftables {
    pub(super) socket: Socket,
    /// Of the tables that it makes, and expects.
    pub(super) flags: u32,
}

/// What a request for objects found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dumped {
    /// All of them.
    All,
    /// They changed while they were listed.
    Interrupted,
}

impl Nftables {
    /// Opens a socket in the network namespace of the calling thread. It may be used from any thread.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(NETLINK_NETFILTER, ANSWERS).map_err(Error::Open)?;
        let flags = 0;
        Ok(Self { socket, flags })
    }

    /// The number by which the kernel names this socket as the cause of a change.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Makes all tables of the ruleset, in one batch, where none of them is.
    ///
    /// # Errors
    /// As [`Nftables::apply`].
    pub fn load(&mut self, ruleset: &Ruleset, expected: Option<Generation>) -> Result<(), Error> {
        self.apply(&load(ruleset), expected)
    }

    /// Applies the operations in their order, all at once or none at all; only if nftables is still at the expected
    /// generation, where one is given.
    ///
    /// # Errors
    /// Nothing is in force of what was asked, except that after [`Error::Receive`], [`Error::Lost`] and
    /// [`Error::Malformed`] it is not known.
    pub fn apply(
        &mut self,
        operations: &[Operation<'_>],
        expected: Option<Generation>,
    ) -> Result<(), Error> {
        self.apply_within(usize::MAX, TABLE, operations, expected)
            .map(drop)
    }

    /// [`Nftables::apply`] to the tables of that name, if the batch has at most this many bytes. Whether there was anything to do, which makes a
    /// generation.
    pub(super) fn apply_within(
        &mut self,
        limit: usize,
        table: &'static str,
        operations: &[Operation<'_>],
        expected: Option<Generation>,
    ) -> Result<bool, Error> {
        let batch = Batch::new(
            (table, self.flags),
            operations,
            expected,
            self.socket.next_sequence(),
        )?;
        if batch.messages.iter().all(|sent| sent.operation.is_none()) {
            return Ok(false);
        }
        let bytes = batch.bytes.len();
        let too_large = |room| Error::TooLarge { bytes, room };
        if bytes > limit {
            return Err(too_large(limit));
        }
        self.socket.use_sequence(batch.messages.len() as u32);
        self.socket.make_room(bytes).map_err(too_large)?;
        self.socket
            .send(&batch.bytes)
            .map_err(|error| match error.raw_os_error() {
                Some(code) if code == Errno::EMSGSIZE as i32 => too_large(0),
                _ => Error::Send(error),
            })?;
        self.outcome(&batch, operations, expected)?;
        Ok(true)
    }

    /// Waits until no change is under way: an empty batch changes nothing, and the kernel takes it while it holds the
    /// lock of changes, before `send` returns (`nf_tables_valid_genid`).
    pub(super) fn await_changes(&mut self) -> Result<(), Error> {
        let batch = Batch::new((TABLE, self.flags), &[], None, self.socket.next_sequence())?;
        self.socket.use_sequence(2);
        self.socket.send(&batch.bytes).map_err(Error::Send)
    }

    /// Reads the answers to a batch: refusals, each by the number of its message, or that the last was done.
    fn outcome(
        &mut self,
        batch: &Batch,
        operations: &[Operation<'_>],
        expected: Option<Generation>,
    ) -> Result<(), Error> {
        let mut refusals = Vec::new();
        let (mut done, mut lost) = (operations.is_empty(), false);
        loop {
            let bytes = match self.socket.receive().map_err(Error::Receive)? {
                Received::Bytes(bytes) => bytes,
                Received::Nothing => break,
                Received::Overrun => {
                    lost = true;
                    continue;
                }
            };
            for message in Messages(bytes) {
                let message = message?;
                let place = message.sequence.checked_sub(batch.first);
                let place = place.map_or(usize::MAX, |place| place as usize);
                let Some(sent) = batch.messages.get(place) else {
                    continue;
                };
                let Content::Answer(answer) = message.content()? else {
                    continue;
                };
                match (answer.errno, sent.operation, expected) {
                    (0, Some(_), _) => done = true,
                    (0, None, _) => {}
                    (errno, None, Some(expected)) if errno == Errno::ERESTART as i32 => {
                        return Err(Error::Stale { expected });
                    }
                    _ => refusals.push(refusal(batch, operations, place, answer)),
                }
            }
        }
        match (refusals.is_empty(), done, lost) {
            (false, ..) => Err(Error::Refused(refusals)),
            (true, true, false) => Ok(()),
            _ => Err(Error::Lost),
        }
    }

    /// The current generation.
    ///
    /// # Errors
    /// [`Error::Refused`] without CAP_NET_ADMIN, and those of the socket.
    pub fn generation(&mut self) -> Result<Generation, Error> {
        let mut found = None;
        let request = |_: &mut Writer| {};
        self.request(
            msg::GETGEN,
            0,
            family::UNSPEC,
            request,
            |kind, _, attributes| {
                if kind == msg::NEWGEN {
                    let id = find(attributes, generation::ID)?;
                    found = Some(Generation(id.ok_or(Malformed("generation"))?.u32()?));
                }
                Ok(())
            },
        )?;
        found.ok_or(Error::Lost)
    }

    /// Asks for objects, and hands each to `each` by its kind, family and attributes.
    pub(super) fn request(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        fill: impl FnOnce(&mut Writer),
        each: impl FnMut(u16, u8, &[u8]) -> Result<(), Malformed>,
    ) -> Result<Dumped, Error> {
        let header = Header {
            kind: message::NFTABLES << 8 | kind,
            flags,
            sequence: 0,
            family,
            resource: 0,
        };
        match self.socket.request(header, fill, each)? {
            Ended::Whole => Ok(Dumped::All),
            Ended::Interrupted => Ok(Dumped::Interrupted),
            // Gone since it was listed.
            Ended::Refused { errno, .. } if errno == Errno::ENOENT as i32 => {
                Ok(Dumped::Interrupted)
            }
            Ended::Refused { errno, text } => Err(Error::Refused(vec![Refusal {
                object: Object::Other("the request to list nftables".into()),
                errno,
                text,
            }])),
        }
    }
}

fn refusal(
    batch: &Batch,
    operations: &[Operation<'_>],
    place: usize,
    answer: Answer<'_>,
) -> Refusal {
    let sent = batch.messages[place];
    let object = match sent.operation {
        None => Object::Other("the batch".into()),
        Some(index) => {
            let element = answer
                .offset
                .and_then(|offset| element_at(batch, place, offset));
            let wire = sent.elements_before.zip(element);
            object(operations, index, wire.map(|(before, at)| before + at))
        }
    };
    Refusal {
        object,
        errno: answer.errno,
        text: answer.text.map(str::to_owned),
    }
}

/// Which element of a message's list is at this byte of the message.
fn element_at(batch: &Batch, place: usize, offset: u32) -> Option<usize> {
    use super::constants::element::LIST_ELEMENTS;
    let end = batch.messages.get(place + 1)?.start;
    let start = batch.messages.get(place)?.start;
    let attributes = batch.bytes.get(start + message::HEADER + 4..end)?;
    let list = find(attributes, LIST_ELEMENTS).ok()??;
    // Everything lies in one piece, and the list is its end.
    let mut at = end - start - list.payload.len().next_multiple_of(4);
    for (index, element) in Attributes(list.payload).enumerate() {
        let length = 4 + element.ok()?.payload.len().next_multiple_of(4);
        if (at..at + length).contains(&(offset as usize)) {
            return Some(index);
        }
        at += length;
    }
    None
}
