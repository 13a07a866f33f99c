//! Connection tracking of one network namespace, asked.

use super::constants::msg;
use super::decode;
use super::entry::Entry;
use super::error::Error;
use super::filter::Filter;
use crate::netlink::message::{CONNTRACK, DUMP, Header};
use crate::netlink::request::Ended;
use crate::netlink::socket::{NETLINK_NETFILTER, Socket};

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
        let socket = Socket::open(NETLINK_NETFILTER, ANSWERS).map_err(Error::Open)?;
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

#[cfg(test)]
mod tests {
    use testbed::Namespace;

    use super::*;
    use crate::conntrack::samples::{connections, create};

    #[test]
    fn a_dump_of_which_something_may_be_lost_is_not_taken_for_all() {
        let namespace = Namespace::new().expect("these tests need root");
        let open = |buffer| move || Socket::open(NETLINK_NETFILTER, buffer).expect("a socket");
        let mut maker = namespace.run(open(1 << 20)).expect("entered");
        let (first, others) = {
            let mut all = connections();
            let others = all.split_off(1);
            (all, others)
        };
        create(&mut maker, &first[0]);
        // A buffer that what others do fills, as the socket hears of that too (NFNLGRP_CONNTRACK_NEW).
        let mut socket = namespace.run(open(1)).expect("entered");
        socket.join(1).expect("joined");
        let mut conntrack = Conntrack { socket };
        let mut seen = 0;
        let result = conntrack.dump(&Filter::default(), |_| {
            seen += 1;
            others.iter().for_each(|other| create(&mut maker, other));
        });
        assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
        assert_eq!(seen, 1);
        // The next one is whole.
        let mut seen = 0;
        conntrack
            .dump(&Filter::default(), |_| seen += 1)
            .expect("whole");
        assert_eq!(seen, 1 + others.len());
    }
}
