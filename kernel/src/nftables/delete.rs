//! Whole tables deleted by name, whatever their family and whatever is in them: those of another version, of families
//! that we do not use, and those that nobody understands any more.

use std::fmt;

use nix::errno::Errno;

use super::constants::{chain, family, msg, table};
use super::object::Object;
use super::socket::{Dumped, Nftables};
use crate::error::{Error, Refusal};
use crate::netlink::attribute::{Attributes, Writer};
use crate::netlink::message::{self, ACK, Content, DUMP, Header, Messages};
use crate::netlink::socket::Received;

/// How often it starts again because others changed tables in the meantime.
const ATTEMPTS: usize = 20;

/// A table of any family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// `NFPROTO_*`
    family: u8,
    /// Its name.
    name: String,
}

impl fmt::Display for TableName {
    /// `inet picket`, as nft has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            family::INET => "inet",
            family::IPV4 => "ip",
            family::ARP => "arp",
            family::NETDEV => "netdev",
            family::BRIDGE => "bridge",
            family::IPV6 => "ip6",
            other => return write!(f, "{other} {}", self.name),
        };
        write!(f, "{family} {}", self.name)
    }
}

/// A change of one table.
enum Deletion<'a> {
    /// A base chain of it, with its rules.
    BaseChain(&'a TableName, &'a str),
    /// It, with all that is in it.
    Table(&'a TableName),
}

impl Nftables {
    /// Deletes the tables of these names in every family, and returns them in order.
    ///
    /// First all of their base chains, in one transaction, and then the tables in another: were both in one, a packet
    /// that is still between the rules of a chain could find its sets empty, and be dropped.
    ///
    /// # Errors
    /// As [`Nftables::apply`]. A table that another process owns (`flags owner`) is refused with EPERM; then all are
    /// there still.
    pub fn delete_tables(&mut self, names: &[&str]) -> Result<Vec<TableName>, Error> {
        let mut deleted = Vec::new();
        for _ in 0..ATTEMPTS {
            let (tables, base_chains) = (self.tables(names)?, self.base_chains(names)?);
            if tables.is_empty() {
                deleted.sort();
                deleted.dedup();
                return Ok(deleted);
            }
            let chains = base_chains.iter();
            let chains = chains.map(|(of, name)| Deletion::BaseChain(of, name));
            let ended = self.delete(&chains.collect::<Vec<_>>())?;
            let whole: Vec<_> = tables.iter().map(Deletion::Table).collect();
            // What is gone, or came, since it was listed: list again.
            if ended == Dumped::All && self.delete(&whole)? == Dumped::All {
                deleted.extend(tables);
            }
        }
        Err(Error::Changing(ATTEMPTS))
    }

    /// The tables of these names.
    fn tables(&mut self, names: &[&str]) -> Result<Vec<TableName>, Error> {
        let mut tables = Vec::new();
        let nothing = |_: &mut Writer| {};
        let each = |_, family, attributes: &[u8]| {
            for attribute in Attributes(attributes) {
                let attribute = attribute?;
                if attribute.kind == table::NAME && names.contains(&attribute.text()?) {
                    let name = attribute.text()?.to_owned();
                    tables.push(TableName { family, name });
                }
            }
            Ok(())
        };
        self.request(msg::GETTABLE, DUMP, family::UNSPEC, nothing, each)?;
        Ok(tables)
    }

    /// The base chains of the tables of these names.
    pub(super) fn base_chains(
        &mut self,
        names: &[&str],
    ) -> Result<Vec<(TableName, String)>, Error> {
        let mut chains = Vec::new();
        let nothing = |_: &mut Writer| {};
        let each = |_, family, attributes: &[u8]| {
            let (mut of, mut name, mut is_base) = ("", "", false);
            for attribute in Attributes(attributes) {
                let attribute = attribute?;
                match attribute.kind {
                    chain::TABLE => of = attribute.text()?,
                    chain::NAME => name = attribute.text()?,
                    chain::HOOK => is_base = true,
                    _ => {}
                }
            }
            if is_base && names.contains(&of) {
                let of = TableName {
                    family,
                    name: of.to_owned(),
                };
                chains.push((of, name.to_owned()));
            }
            Ok(())
        };
        self.request(msg::GETCHAIN, DUMP, family::UNSPEC, nothing, each)?;
        Ok(chains)
    }

    /// All of them, in one transaction; [`Dumped::Interrupted`] if nothing was done because something of them is gone,
    /// or is used by what was not listed.
    fn delete(&mut self, deletions: &[Deletion<'_>]) -> Result<Dumped, Error> {
        if deletions.is_empty() {
            return Ok(Dumped::All);
        }
        let first = self.socket.next_sequence();
        let mut out = Writer::default();
        let frame = |out: &mut Writer, kind, sequence| {
            let header = Header {
                kind,
                flags: 0,
                sequence,
                family: 0,
                resource: message::NFTABLES,
            };
            message::write(out, header, |_| {});
        };
        frame(&mut out, message::BATCH_BEGIN, first);
        let mut sequence = first;
        for deletion in deletions {
            sequence = sequence.wrapping_add(1);
            let (kind, of) = match deletion {
                Deletion::BaseChain(of, _) => (msg::DELCHAIN, of),
                Deletion::Table(of) => (msg::DELTABLE, of),
            };
            let header = Header {
                kind: message::NFTABLES << 8 | kind,
                flags: ACK,
                sequence,
                family: of.family,
                resource: 0,
            };
            message::write(&mut out, header, |out| match deletion {
                Deletion::BaseChain(of, name) => {
                    out.put_text(chain::TABLE, &of.name);
                    out.put_text(chain::NAME, name);
                }
                Deletion::Table(of) => out.put_text(table::NAME, &of.name),
            });
        }
        frame(&mut out, message::BATCH_END, sequence.wrapping_add(1));
        self.socket.use_sequence(deletions.len() as u32 + 2);
        let bytes = out.bytes.len();
        self.socket
            .make_room(bytes)
            .map_err(|room| Error::TooLarge { bytes, room })?;
        self.socket.send(&out.bytes).map_err(Error::Send)?;
        self.deleted(deletions, first)
    }

    fn deleted(&mut self, deletions: &[Deletion<'_>], first: u32) -> Result<Dumped, Error> {
        let (mut answers, mut changed, mut refusals) = (0, false, Vec::new());
        loop {
            let bytes = match self.socket.receive().map_err(Error::Receive)? {
                Received::Bytes(bytes) => bytes,
                Received::Nothing => break,
                Received::Overrun => return Err(Error::Lost),
            };
            for message in Messages(bytes) {
                let message = message?;
                let place = message.sequence.wrapping_sub(first) as usize;
                let Content::Answer(answer) = message.content()? else {
                    continue;
                };
                answers += 1;
                // Place 0 is the begin.
                let deletion = place.checked_sub(1).and_then(|index| deletions.get(index));
                match answer.errno {
                    0 => {}
                    errno if [Errno::ENOENT as i32, Errno::EBUSY as i32].contains(&errno) => {
                        changed = true
                    }
                    errno => refusals.push(Refusal {
                        object: Object::Other(match deletion {
                            Some(Deletion::BaseChain(of, name)) => format!("chain {of} {name}"),
                            Some(Deletion::Table(of)) => format!("table {of}"),
                            None => "the batch".into(),
                        }),
                        errno,
                        text: answer.text.map(str::to_owned),
                    }),
                }
            }
        }
        match (refusals.is_empty(), changed, answers) {
            (false, ..) => Err(Error::Refused(refusals)),
            (true, true, _) => Ok(Dumped::Interrupted),
            (true, false, 0) => Err(Error::Lost),
            (true, false, _) => Ok(Dumped::All),
        }
    }
}
