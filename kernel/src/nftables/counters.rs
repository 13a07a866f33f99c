//! What the counters of our tables have counted.

use policy_compiler::ruleset::{TABLE, TableFamily};

use super::constants::{family, msg, object};
use super::families::family_of;
use super::socket::{Dumped, Nftables};
use crate::error::Error;
use crate::netlink::attribute::{Attributes, Malformed, Writer};
use crate::netlink::message::DUMP;

/// How often listing starts again because others changed nftables in the meantime.
const ATTEMPTS: usize = 20;

/// A counter, and what it has counted since it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its table.
    pub family: TableFamily,
    /// Its name.
    pub name: String,
    /// Packets.
    pub packets: u64,
    /// Bytes of them, with their IP headers; of a bridge's, without those of Ethernet.
    pub bytes: u64,
}

impl Nftables {
    /// The counters of our tables. However many rules there are, this reads none.
    ///
    /// # Errors
    /// [`Error::Changing`], [`Error::Refused`] without CAP_NET_ADMIN, and those of the socket.
    pub fn counters(&mut self) -> Result<Vec<Counted>, Error> {
        for _ in 0..ATTEMPTS {
            let mut all = Vec::new();
            let of_ours = |out: &mut Writer| {
                out.put_text(object::TABLE, TABLE);
                out.put_u32(object::TYPE, object::COUNTER);
            };
            let each = |_, number, attributes: &[u8]| {
                let counter = Counter::read(attributes)?;
                let ours = counter.filter(|counter| counter.table == TABLE);
                if let Some((counter, family)) = ours.zip(family_of(number)) {
                    let Counter {
                        name,
                        packets,
                        bytes,
                        ..
                    } = counter;
                    all.push(Counted {
                        family,
                        name,
                        packets,
                        bytes,
                    });
                }
                Ok(())
            };
            let dumped = self.request(msg::GETOBJ, DUMP, family::UNSPEC, of_ours, each)?;
            if dumped == Dumped::All {
                return Ok(all);
            }
        }
        Err(Error::Changing(ATTEMPTS))
    }
}

/// A counter of any table, as the kernel tells it.
pub(super) struct Counter<'a> {
    pub(super) table: &'a str,
    pub(super) name: String,
    packets: u64,
    bytes: u64,
}

impl<'a> Counter<'a> {
    /// The counter; none if the object is of another type.
    pub(super) fn read(attributes: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let (mut table, mut name, mut kind) = ("", String::new(), 0);
        let (mut packets, mut bytes) = (0, 0);
        for attribute in Attributes(attributes) {
            let attribute = attribute?;
            match attribute.kind {
                object::TABLE => table = attribute.text()?,
                object::NAME => attribute.text()?.clone_into(&mut name),
                object::TYPE => kind = attribute.u32()?,
                object::DATA => {
                    for part in attribute.nested() {
                        let part = part?;
                        match part.kind {
                            object::COUNTER_PACKETS => packets = part.u64()?,
                            object::COUNTER_BYTES => bytes = part.u64()?,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok((kind == object::COUNTER).then_some(Self {
            table,
            name,
            packets,
            bytes,
        }))
    }
}
