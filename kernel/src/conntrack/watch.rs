//! What changes in entries, whoever changes it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::constants::msg;
use super::decode;
use super::entry::Entry;
use super::error::Error;
use crate::netlink::attribute::Malformed;
use crate::netlink::message::{CONNTRACK, Content, Message, Messages};
use crate::netlink::socket::{NETLINK_NETFILTER, Received, Socket};

/// `NFNLGRP_CONNTRACK_UPDATE`
const GROUP: u32 = 2;
/// Events of one call. A busy node makes more as fast as they are read.
const AT_ONCE: usize = 4096;

/// Something happened to the entries of the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An entry changed, perhaps its mark: the kernel says what it is now, and not what it was.
    Updated {
        /// As it is now.
        entry: Entry,
        /// [`crate::conntrack::Conntrack::port`] of the socket that asked for it; 0 if a packet caused it, as by a rule
        /// `ct mark set`.
        port: u32,
    },
    /// Events were lost: the buffer was full. Dump, to know what the marks are.
    Overrun,
}

/// Hears of changes to the entries of the network namespace in which this was opened.
///
/// Not of all: the kernel decides when an entry comes into being whether changes of it will be told, by
/// `net.netfilter.nf_conntrack_events` of the namespace. With 1 they always are, with 0 never; with 2, the default since
/// 5.19, they are if somebody on the machine listens at that time (`nf_ctnetlink_has_listener`). So nothing is heard of
/// entries that are older than the first listener, unless the setting was 1: for those, dump now and then.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// Starts to listen in the network namespace of the calling thread, with a receive buffer of that many bytes (as
    /// far as the process may). Each change takes about 1 KiB of it until it is read.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(buffer: usize) -> Result<Self, Error> {
        let mut socket = Socket::open(NETLINK_NETFILTER, buffer).map_err(Error::Open)?;
        socket.join(GROUP).map_err(Error::Open)?;
        Ok(Self { socket })
    }

    /// Waits until something is heard, at most that long, and returns what is there, which may be nothing, and is not
    /// more than some thousands of events.
    ///
    /// # Errors
    /// [`Error::Receive`].
    pub fn wait(&mut self, timeout: Duration) -> Result<Vec<Event>, Error> {
        self.socket.wait(timeout).map_err(Error::Receive)?;
        self.events()
    }

    /// What was heard and not yet returned, without waiting; not more than some thousands of events.
    ///
    /// # Errors
    /// [`Error::Receive`].
    pub fn events(&mut self) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        while events.len() < AT_ONCE {
            match self.socket.receive().map_err(Error::Receive)? {
                Received::Nothing => break,
                Received::Overrun => events.push(Event::Overrun),
                Received::Bytes(bytes) => events.extend(read(bytes)),
            }
        }
        Ok(events)
    }
}

impl AsFd for Watch {
    /// Readable when there are events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The events in some bytes. What can not be read may have been any event.
pub(super) fn read(bytes: &[u8]) -> impl Iterator<Item = Event> {
    let event = |message: Result<Message<'_>, Malformed>| event(&message?);
    Messages(bytes).filter_map(move |message| event(message).unwrap_or(Some(Event::Overrun)))
}

fn event(message: &Message<'_>) -> Result<Option<Event>, Malformed> {
    let Content::Object { family, attributes } = message.content()? else {
        return Ok(None);
    };
    if message.kind != CONNTRACK << 8 | msg::NEW {
        return Ok(None);
    }
    let (entry, port) = (decode::read(family, attributes)?, message.port);
    Ok(Some(Event::Updated { entry, port }))
}
