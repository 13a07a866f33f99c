//! Connection tracking of one network namespace, asked.

use super::constants::msg;
use super::decode;
use super::entry::Entry;
use super::error::Error;
use super::filter::Filter;
use crate::netlink::message::{CONNTRACK, DUMP, Header};
use crate::netlink::request::Ended;
use crate::netlink::socket::Socket;

/// Room for answers that were not read yet: the errors of one message of [`Conntrack::change_marks`], and some 32 KiB
/// of a dump.
const ANSWERS: usize = 1 << 20;

/// Connection tracking of the network namespace in which this was opened, over one socket for as long as this lives.
#[derive(Debug)]
pub struct Conntrack {
    pub(super) socket: Socket,
}

impl Conntrack {
    /// Opens a socket in the network namespace of the calling thread. It may be used from any thread.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(ANSWERS).map_err(Error::Open)?;
        Ok(Self { socket })
    }

    /// The number by which the kernel names this socket as the cause of a change.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Hands every entry that the filter asks for to `each`, as the kernel's answer is read: no more than a quarter of
    /// a MiB of it is held at a time.
    ///
    /// An entry that comes or goes meanwhile is seen or not; every other is seen.
    ///
    /// # Errors
    /// After [`Error::Interrupted`], as after every other error, `each` has seen some entries but perhaps not all.
    pub fn dump(&mut self, filter: &Filter, mut each: impl FnMut(Entry)) -> Result<(), Error> {
        let header = Header {
            kind: CONNTRACK << 8 | msg::GET,
            flags: DUMP,
            sequence: 0,
            family: filter.family_number(),
            resource: 0,
        };
        let fill = |out: &mut _| filter.write(out);
        let ended = self
            .socket
            .request(header, fill, |kind, family, attributes| {
                if kind == msg::NEW {
                    let entry = decode::read(family, attributes)?;
                    if filter.matches(&entry) {
                        each(entry);
                    }
                }
                Ok(())
            })?;
        match ended {
            Ended::Whole => Ok(()),
            Ended::Interrupted => Err(Error::Interrupted),
            Ended::Refused { errno, text } => Err(Error::Dump { errno, text }),
        }
    }
}
