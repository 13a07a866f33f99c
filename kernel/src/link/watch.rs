//! What changes of links and addresses, whoever changes it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::address::LinkAddress;
use super::constants::{family, group, msg};
use super::error::LinkError;
use super::properties::Link;
use crate::netlink::attribute::Malformed;
use crate::netlink::message::{Message, Messages};
use crate::netlink::socket::{NETLINK_ROUTE, Received, Socket};

/// Something happened to a link of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link is there, as it is now: it is new, or anything of it has changed. While it is down the kernel does not
    /// tell of a changed group or alias (`netdev_state_change`).
    Link(Link),
    /// A link is gone, or has moved to another namespace. As it was.
    Gone(Link),
    /// An address is there, as it is now.
    Address(LinkAddress),
    /// An address is gone.
    AddressGone(LinkAddress),
    /// Events were lost: the buffer was full. List, to know what is there.
    Overrun,
}

/// Hears of every change to links and addresses of the network namespace in which this was opened.
#[derive(Debug)]
pub struct LinkWatch {
    socket: Socket,
}

impl LinkWatch {
    /// Starts to listen in the network namespace of the calling thread, with a receive buffer of that many bytes (as
    /// far as the process may). What happens from now on is heard of, or is a [`LinkEvent::Overrun`].
    ///
    /// # Errors
    /// [`LinkError::Open`].
    pub fn open(buffer: usize) -> Result<Self, LinkError> {
        let mut socket = Socket::open(NETLINK_ROUTE, buffer).map_err(LinkError::Open)?;
        for group in [group::LINK, group::IPV4_IFADDR, group::IPV6_IFADDR] {
            socket.join(group).map_err(LinkError::Open)?;
        }
        Ok(Self { socket })
    }

    /// Waits until something is heard, at most that long, and returns all that is there, which may be nothing.
    ///
    /// # Errors
    /// [`LinkError::Watch`].
    pub fn wait(&mut self, timeout: Duration) -> Result<Vec<LinkEvent>, LinkError> {
        self.socket.wait(timeout).map_err(LinkError::Watch)?;
        self.events()
    }

    /// All that was heard since the last call, without waiting.
    ///
    /// # Errors
    /// [`LinkError::Watch`].
    pub fn events(&mut self) -> Result<Vec<LinkEvent>, LinkError> {
        let mut events = Vec::new();
        loop {
            match self.socket.receive().map_err(LinkError::Watch)? {
                Received::Nothing => return Ok(events),
                Received::Overrun => events.push(LinkEvent::Overrun),
                Received::Bytes(bytes) => events.extend(read(bytes)),
            }
        }
    }
}

impl AsFd for LinkWatch {
    /// Readable when there are events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The events in some bytes. What can not be read may have been any event.
pub(super) fn read(bytes: &[u8]) -> Vec<LinkEvent> {
    let event = |message: Result<Message<'_>, Malformed>| event(&message?);
    Messages(bytes)
        .filter_map(|message| event(message).unwrap_or(Some(LinkEvent::Overrun)))
        .collect()
}

fn event(message: &Message<'_>) -> Result<Option<LinkEvent>, Malformed> {
    let payload = message.payload;
    Ok(match message.kind {
        // Of a port the bridge tells in the same words: that one joined, changed or *left*, while the link stays. Each
        // comes with a message of the link itself.
        msg::NEWLINK | msg::DELLINK if payload.first() == Some(&family::BRIDGE) => None,
        msg::NEWLINK => Some(LinkEvent::Link(Link::read(payload)?)),
        msg::DELLINK => Some(LinkEvent::Gone(Link::read(payload)?)),
        msg::NEWADDR => LinkAddress::read(payload)?.map(LinkEvent::Address),
        msg::DELADDR => LinkAddress::read(payload)?.map(LinkEvent::AddressGone),
        _ => None,
    })
}
