//! What changes in nftables, whoever changes it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use policy_compiler::ruleset::{TABLE, TableFamily};

use super::Generation;
use super::constants::{chain, element, generation, msg, object, rule, set, table};
use super::families::family_of;
use super::object::Object;
use super::userdata;
use crate::error::Error;
use crate::netlink::attribute::{Attributes, Malformed, find};
use crate::netlink::message::{Content, Message, Messages, NFTABLES};
use crate::netlink::socket::{NETLINK_NETFILTER, Received, Socket};

/// `NFNLGRP_NFTABLES`
const GROUP: u32 = 7;

/// Something happened in nftables of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An object of our tables was added or changed, or deleted. The [`Event::Generation`] that follows ends the
    /// transaction.
    Object {
        /// Which.
        object: Object,
        /// Whether it is gone.
        deleted: bool,
        /// [`crate::Nftables::port`] of the socket that asked for it.
        port: u32,
    },
    /// A transaction is in force, of whatever table.
    Generation {
        /// The generation since then.
        generation: Generation,
        /// [`crate::Nftables::port`] of the socket that asked for it.
        port: u32,
        /// The process that asked for it.
        process: Option<u32>,
        /// Its name.
        name: Option<String>,
    },
    /// Events were lost: the buffer was full. Read, to know what is in force.
    Overrun,
}

/// Hears of every change to nftables of the network namespace in which this was opened.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    /// Heard of, and not yet handed out.
    heard: Vec<Event>,
    /// Of whose changes only the generations are told.
    ignored: Option<u32>,
}

/// What others changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// Nothing of ours; nftables is at this generation since.
    Elsewhere(Generation),
    /// Something of ours.
    Ours,
    /// It can not be told.
    Unknown,
}

impl Watch {
    /// Starts to listen in the network namespace of the calling thread, with a receive buffer of that many bytes (as
    /// far as the process may). What happens from now on is heard of, or is an [`Event::Overrun`].
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(buffer: usize) -> Result<Self, Error> {
        let mut socket = Socket::open(NETLINK_NETFILTER, buffer).map_err(Error::Open)?;
        socket.join(GROUP).map_err(Error::Open)?;
        Ok(Self {
            socket,
            heard: Vec::new(),
            ignored: None,
        })
    }

    /// Tells from now on of the changes that the socket of this port ([`crate::Nftables::port`]) asks for only their
    /// generations: whoever makes them knows them, and of a first load there is an event for each element.
    pub fn ignore(&mut self, port: u32) {
        self.ignored = Some(port);
    }

    /// Waits until something is heard, at most that long, and returns all that is there, which may be nothing.
    ///
    /// # Errors
    /// [`Error::Receive`].
    pub fn wait(&mut self, timeout: Duration) -> Result<Vec<Event>, Error> {
        self.socket.wait(timeout).map_err(Error::Receive)?;
        self.events()
    }

    /// All transactions that were heard of since the last call, each whole, without waiting.
    ///
    /// # Errors
    /// [`Error::Receive`].
    pub fn events(&mut self) -> Result<Vec<Event>, Error> {
        self.hear()?;
        Ok(whole(&mut self.heard))
    }

    fn hear(&mut self) -> Result<(), Error> {
        let mut lost = false;
        loop {
            match self.socket.receive().map_err(Error::Receive)? {
                Received::Nothing => {
                    if lost {
                        // The kernel tells of the loss before what it had sent until then.
                        self.heard.push(Event::Overrun);
                    }
                    return Ok(());
                }
                Received::Overrun => {
                    self.heard.push(Event::Overrun);
                    lost = true;
                }
                Received::Bytes(bytes) => {
                    let ignored = self.ignored;
                    let is_told = |event: &Event| !matches!(event, Event::Object { port, .. } if Some(*port) == ignored);
                    self.heard.extend(read(bytes).into_iter().filter(is_told));
                }
            }
        }
    }

    /// What came after the generation, by others than the socket of this port. All of it stays to be heard.
    ///
    /// The kernel tells of a change before it lets the next one start, so whoever was refused for it has heard of it.
    pub(super) fn foreign_since(&mut self, since: Generation, own: u32) -> Result<Foreign, Error> {
        self.hear()?;
        Ok(judge(&self.heard, since, own))
    }
}

impl AsFd for Watch {
    /// Readable when there are events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Watch {
    /// The same, for whoever waits with an older interface.
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// What is heard of since the generation, by others than the socket of this port.
fn judge(heard: &[Event], since: Generation, own: u32) -> Foreign {
    let ends_at_since = |event: &Event| matches!(event, Event::Generation { generation, .. } if *generation == since);
    let later = match heard.iter().rposition(ends_at_since) {
        Some(place) => &heard[place + 1..],
        None => heard,
    };
    let mut at = since;
    for event in later {
        match event {
            Event::Overrun => return Foreign::Unknown,
            Event::Object { port, .. } if *port != own => return Foreign::Ours,
            Event::Object { .. } => {}
            // Each in its order, or something was missed.
            Event::Generation { generation, .. } if *generation == at.next() => {
                at = *generation;
            }
            Event::Generation { .. } => return Foreign::Unknown,
        }
    }
    match at == since {
        true => Foreign::Unknown,
        false => Foreign::Elsewhere(at),
    }
}

/// Takes all whole transactions out; what belongs to one whose end was not heard of stays.
fn whole(heard: &mut Vec<Event>) -> Vec<Event> {
    let ends = |event: &Event| matches!(event, Event::Generation { .. } | Event::Overrun);
    let count = heard.iter().rposition(ends).map_or(0, |last| last + 1);
    // With their memory: a first load is heard of as an event for each element.
    let later = heard.split_off(count);
    std::mem::replace(heard, later)
}

/// The events in some bytes. What can not be read may have been any event.
pub(super) fn read(bytes: &[u8]) -> Vec<Event> {
    let event = |message: Result<Message<'_>, Malformed>| event(&message?);
    Messages(bytes)
        .filter_map(|message| event(message).unwrap_or(Some(Event::Overrun)))
        .collect()
}

fn event(message: &Message<'_>) -> Result<Option<Event>, Malformed> {
    let Content::Object { family, attributes } = message.content()? else {
        return Ok(None);
    };
    if message.kind >> 8 != NFTABLES {
        return Ok(None);
    }
    let (kind, port) = (message.kind & 0xff, message.port);
    if kind == msg::NEWGEN {
        return new_generation(attributes, port).map(Some);
    }
    let Some(family) = family_of(family) else {
        return Ok(None);
    };
    let deleted = matches!(
        kind,
        msg::DELTABLE | msg::DELCHAIN | msg::DELRULE | msg::DELSET | msg::DELSETELEM | msg::DELOBJ
    );
    Ok(
        object(kind, family, attributes)?.map(|object| Event::Object {
            object,
            deleted,
            port,
        }),
    )
}

fn new_generation(attributes: &[u8], port: u32) -> Result<Event, Malformed> {
    let id = find(attributes, generation::ID)?.ok_or(Malformed("generation"))?;
    let process = find(attributes, generation::PROC_PID)?;
    let name = find(attributes, generation::PROC_NAME)?;
    Ok(Event::Generation {
        generation: Generation(id.u32()?),
        port,
        process: process.map(|process| process.u32()).transpose()?,
        name: name.map(|name| name.text()).transpose()?.map(str::to_owned),
    })
}

/// The object of a message, if it is in a table of ours.
fn object(kind: u16, family: TableFamily, attributes: &[u8]) -> Result<Option<Object>, Malformed> {
    let (of_table, named) = match kind {
        msg::NEWTABLE | msg::DELTABLE => (table::NAME, table::NAME),
        msg::NEWCHAIN | msg::DELCHAIN => (chain::TABLE, chain::NAME),
        msg::NEWRULE | msg::DELRULE => (rule::TABLE, rule::CHAIN),
        msg::NEWSET | msg::DELSET => (set::TABLE, set::NAME),
        msg::NEWOBJ | msg::DELOBJ => (object::TABLE, object::NAME),
        msg::NEWSETELEM | msg::DELSETELEM => (element::LIST_TABLE, element::LIST_SET),
        _ => return Ok(None),
    };
    let (mut of, mut name, mut comment) = ("", String::new(), None);
    let (mut flags, mut kind_of_object) = (0, 0);
    for attribute in Attributes(attributes) {
        let attribute = attribute?;
        if attribute.kind == of_table {
            of = attribute.text()?;
        }
        if attribute.kind == named {
            attribute.text()?.clone_into(&mut name);
        }
        match (kind, attribute.kind) {
            (msg::NEWRULE | msg::DELRULE, rule::USERDATA) => {
                let text = userdata::text(attribute.payload, userdata::COMMENT);
                comment = text.map(str::to_owned);
            }
            (msg::NEWSET | msg::DELSET, set::FLAGS) => flags = attribute.u32()?,
            (msg::NEWOBJ | msg::DELOBJ, object::TYPE) => kind_of_object = attribute.u32()?,
            _ => {}
        }
    }
    if of != TABLE {
        return Ok(None);
    }
    Ok(Some(match kind {
        msg::NEWTABLE | msg::DELTABLE => Object::Table(family),
        msg::NEWCHAIN | msg::DELCHAIN => Object::Chain { family, name },
        msg::NEWRULE | msg::DELRULE => Object::Rule {
            family,
            chain: name,
            index: None,
            comment,
        },
        msg::NEWSET | msg::DELSET if flags & set::F_MAP != 0 => Object::Map { family, name },
        msg::NEWSET | msg::DELSET => Object::Set { family, name },
        msg::NEWOBJ | msg::DELOBJ if kind_of_object == object::COUNTER => {
            Object::Counter { family, name }
        }
        msg::NEWOBJ | msg::DELOBJ => Object::Other(format!("object {name}")),
        _ => Object::Element {
            family,
            set: name,
            key: None,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 7;
    const OTHER: u32 = 8;

    fn object(port: u32) -> Event {
        Event::Object {
            object: Object::Table(TableFamily::Inet),
            deleted: false,
            port,
        }
    }

    fn end(number: u32) -> Event {
        Event::Generation {
            generation: Generation(number),
            port: OTHER,
            process: None,
            name: None,
        }
    }

    #[test]
    fn events_that_were_told_take_no_memory_any_more() {
        let mut heard = vec![object(OWN); 10_000];
        heard.extend([end(5), object(OTHER)]);
        assert_eq!(whole(&mut heard).len(), 10_001);
        assert_eq!(heard, [object(OTHER)]);
        assert!(heard.capacity() < 100, "{}", heard.capacity());
    }

    #[test]
    fn only_whole_and_heard_changes_elsewhere_let_a_plan_go_on() {
        let since = |heard: &[Event]| judge(heard, Generation(5), OWN);
        let elsewhere = |number| Foreign::Elsewhere(Generation(number));
        assert_eq!(since(&[end(5), end(6), end(7)]), elsewhere(7));
        assert_eq!(since(&[object(OWN), end(5), end(6)]), elsewhere(6));
        // Another's change of ours before the plan was made is in the plan.
        assert_eq!(since(&[object(OTHER), end(5), end(6)]), elsewhere(6));
        assert_eq!(since(&[end(5), object(OTHER), end(6)]), Foreign::Ours);
        assert_eq!(since(&[object(OTHER), end(6)]), Foreign::Ours);
        for unknown in [
            &[][..],
            &[end(5)],
            &[end(5), end(7)],
            &[end(5), end(6), Event::Overrun],
            &[Event::Overrun, end(6)],
        ] {
            assert_eq!(since(unknown), Foreign::Unknown, "{unknown:?}");
        }
    }

    #[test]
    fn a_transaction_is_handed_out_when_its_end_is_heard() {
        let mut heard = vec![object(OTHER), end(5), object(OTHER)];
        assert_eq!(whole(&mut heard), [object(OTHER), end(5)]);
        assert_eq!(whole(&mut heard), []);
        heard.push(end(6));
        assert_eq!(whole(&mut heard), [object(OTHER), end(6)]);
        assert_eq!(heard, []);
    }
}
