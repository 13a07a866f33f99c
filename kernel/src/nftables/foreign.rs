//! What others have in nftables: the names of their tables, chains and flowtables, and rules that write the mark of a
//! connection. Ours are not among them.
//!
//! Everything unknown is passed over, and what can not be read is counted.

use std::collections::BTreeSet;
use std::fmt;

use policy_compiler::ruleset::TABLE;

use super::constants::{chain, family, msg, rule, table};
use super::foreign_rule::{MarkWritten, mark_written};
use super::socket::{Dumped, Nftables};
use crate::error::Error;
use crate::netlink::attribute::{Attributes, Malformed, Writer};
use crate::netlink::message::DUMP;

/// `NFT_MSG_GETFLOWTABLE`
const GETFLOWTABLE: u16 = 23;
/// `NFTA_FLOWTABLE_TABLE`, `NFTA_FLOWTABLE_NAME`
const FLOWTABLE_TABLE: u16 = 1;
const FLOWTABLE_NAME: u16 = 2;
/// `NFTA_RULE_HANDLE`
const RULE_HANDLE: u16 = 3;
/// How often everything is asked for while others change it.
const ATTEMPTS: usize = 5;
/// Of each kind no more are kept. The largest nodes have some tens of thousands of chains.
const MOST: usize = 100_000;
/// No more rules are kept: who has read as many has understood.
const MOST_RULES: usize = 1_000;

/// What others have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// Their tables.
    pub tables: BTreeSet<ForeignTable>,
    /// Their chains.
    pub chains: BTreeSet<ForeignObject>,
    /// Their flowtables: packets of connections in there skip the forward hook.
    pub flowtables: BTreeSet<ForeignObject>,
    /// Their rules that write the mark of a connection so that some bit may change.
    pub mark_writers: BTreeSet<MarkWriter>,
    /// Whether something may be missing here: it changed all the time, could not be read, or was too much.
    pub partial: bool,
}

/// A table of somebody else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignTable {
    /// Its family.
    pub family: ForeignFamily,
    /// Its name.
    pub name: String,
}

/// Something in a table of somebody else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignObject {
    /// The table.
    pub table: ForeignTable,
    /// Its name.
    pub name: String,
}

/// A rule that writes the mark of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MarkWriter {
    /// The chain that it is in.
    pub chain: ForeignObject,
    /// Its handle, as `nft --handle list chain` shows it.
    pub handle: u64,
    /// What may become of the mark's bits.
    pub written: MarkWritten,
}

/// `NFPROTO_*`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignFamily(pub u8);

impl fmt::Display for ForeignFamily {
    /// As nft writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            family::INET => "inet",
            family::IPV4 => "ip",
            family::IPV6 => "ip6",
            family::BRIDGE => "bridge",
            family::NETDEV => "netdev",
            // `NFPROTO_ARP`
            3 => "arp",
            other => return write!(f, "family {other}"),
        })
    }
}

impl fmt::Display for ForeignTable {
    /// `inet name`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

impl fmt::Display for ForeignObject {
    /// `inet table name`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table, self.name)
    }
}

impl Nftables {
    /// Reads what others have. All of it where nobody changes it meanwhile.
    ///
    /// # Errors
    /// [`Error::Refused`] without CAP_NET_ADMIN, and those of the socket.
    pub fn read_foreign(&mut self) -> Result<Foreign, Error> {
        let mut found = Foreign::default();
        for attempt in 1..=ATTEMPTS {
            found = Foreign::default();
            let mut dumped = Dumped::All;
            for kind in [msg::GETTABLE, msg::GETCHAIN, msg::GETRULE, GETFLOWTABLE] {
                let nothing = |_: &mut Writer| {};
                let each = |_, family, attributes: &[u8]| {
                    found.add(kind, ForeignFamily(family), attributes);
                    Ok(())
                };
                let one = self.request(kind, DUMP, family::UNSPEC, nothing, each)?;
                dumped = dumped.and(one);
            }
            if dumped == Dumped::All {
                break;
            }
            found.partial |= attempt == ATTEMPTS;
        }
        Ok(found)
    }
}

impl Foreign {
    /// Adds an object of the answer to a request of this kind.
    pub(super) fn add(&mut self, kind: u16, family: ForeignFamily, attributes: &[u8]) {
        let added = match kind {
            msg::GETTABLE => self.add_table(family, attributes),
            msg::GETRULE => self.add_rule(family, attributes),
            _ => self.add_named(kind, family, attributes),
        };
        self.partial |= added.is_err();
    }

    fn add_table(&mut self, family: ForeignFamily, attributes: &[u8]) -> Result<(), Malformed> {
        let mut name = String::new();
        for attribute in Attributes(attributes) {
            let attribute = attribute?;
            if attribute.kind == table::NAME {
                name = text(attribute.payload);
            }
        }
        if name != TABLE {
            self.partial |= self.tables.len() >= MOST;
            if self.tables.len() < MOST {
                self.tables.insert(ForeignTable { family, name });
            }
        }
        Ok(())
    }

    /// A chain or a flowtable.
    fn add_named(
        &mut self,
        kind: u16,
        family: ForeignFamily,
        attributes: &[u8],
    ) -> Result<(), Malformed> {
        let (of_table, of_name, all) = if kind == msg::GETCHAIN {
            (chain::TABLE, chain::NAME, &mut self.chains)
        } else {
            (FLOWTABLE_TABLE, FLOWTABLE_NAME, &mut self.flowtables)
        };
        let (mut of, mut name) = (String::new(), String::new());
        for attribute in Attributes(attributes) {
            let attribute = attribute?;
            match attribute.kind {
                kind if kind == of_table => of = text(attribute.payload),
                kind if kind == of_name => name = text(attribute.payload),
                _ => {}
            }
        }
        if of != TABLE {
            let table = ForeignTable { family, name: of };
            self.partial |= all.len() >= MOST;
            if all.len() < MOST {
                all.insert(ForeignObject { table, name });
            }
        }
        Ok(())
    }

    fn add_rule(&mut self, family: ForeignFamily, attributes: &[u8]) -> Result<(), Malformed> {
        let (mut of, mut name, mut handle, mut list) = (&[][..], &[][..], 0, &[][..]);
        for attribute in Attributes(attributes) {
            let attribute = attribute?;
            match attribute.kind {
                rule::TABLE => of = attribute.payload,
                rule::CHAIN => name = attribute.payload,
                RULE_HANDLE => {
                    let bytes = attribute.payload.try_into();
                    handle = bytes.map_or(0, u64::from_be_bytes);
                }
                rule::EXPRESSIONS => list = attribute.payload,
                _ => {}
            }
        }
        let written = mark_written(list);
        let of = text(of);
        if of == TABLE || written == MarkWritten::default() {
            return Ok(());
        }
        self.partial |= self.mark_writers.len() >= MOST_RULES;
        if self.mark_writers.len() < MOST_RULES {
            let table = ForeignTable { family, name: of };
            let name = text(name);
            self.mark_writers.insert(MarkWriter {
                chain: ForeignObject { table, name },
                handle,
                written,
            });
        }
        Ok(())
    }
}

/// A name, whatever its bytes.
fn text(payload: &[u8]) -> String {
    let bytes = payload.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}
