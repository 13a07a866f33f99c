//! Tables that nobody else can change: neither `nft flush ruleset` nor a rule that somebody adds touches a table that
//! belongs to a socket (`NFT_TABLE_F_OWNER`). When the socket is closed, however its program ended, the table stays
//! (`NFT_TABLE_F_PERSIST`, Linux 6.9) and belongs to nobody, until the next one adopts it.

use policy_compiler::ruleset::{TABLE, TableFamily};

use super::constants::{msg, table};
use super::families::family_of;
use super::operation::Operation;
use super::socket::{Dumped, Nftables};
use crate::error::Error;
use crate::netlink::attribute::{Malformed, Writer, find};
use crate::netlink::message::DUMP;

impl Nftables {
    /// As [`Nftables::open`], but the tables that it makes belong to it, from [`crate::Feature::TablePersist`] on. Those
    /// that a program before it left are adopted as they are.
    ///
    /// One of ours that belongs to nobody else and is not to persist is told of as unknown by [`Nftables::read`].
    ///
    /// # Errors
    /// As [`Nftables::apply`]; the kernel refuses tables that belong to a program that is running.
    pub fn open_owner() -> Result<Self, Error> {
        let mut nftables = Self::open()?;
        nftables.flags = table::F_OWNER | table::F_PERSIST;
        let left = nftables.families_with(is_left)?;
        let adopt: Vec<_> = left.into_iter().map(Operation::EnsureTable).collect();
        nftables.apply(&adopt, None)?;
        Ok(nftables)
    }

    /// Whether a table of ours belongs to a program that runs.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn is_owned(&mut self) -> Result<bool, Error> {
        Ok(!self.families_with(has_owner)?.is_empty())
    }

    /// The families of the tables whose attributes are such.
    fn families_with(
        &mut self,
        are: fn(&[u8]) -> Result<bool, Malformed>,
    ) -> Result<Vec<TableFamily>, Error> {
        let mut families = Vec::new();
        loop {
            families.clear();
            let nothing = |_: &mut Writer| {};
            let dumped = self.request(msg::GETTABLE, DUMP, 0, nothing, |_, family, it| {
                families.extend(family_of(family).filter(|_| are(it).unwrap_or(false)));
                Ok(())
            })?;
            if dumped == Dumped::All {
                return Ok(families);
            }
        }
    }
}

/// Whether it is a table of ours that a program left, or another one still has.
fn is_left(attributes: &[u8]) -> Result<bool, Malformed> {
    let name = find(attributes, table::NAME)?.map(|name| name.text());
    let flags = find(attributes, table::FLAGS)?.map(|flags| flags.u32());
    Ok(name.transpose()? == Some(TABLE) && flags.transpose()?.unwrap_or(0) & table::F_PERSIST != 0)
}

/// Whether it is a table of ours that another one has. What a program left belongs to the port 0.
fn has_owner(attributes: &[u8]) -> Result<bool, Malformed> {
    let name = find(attributes, table::NAME)?.map(|name| name.text());
    let owner = find(attributes, table::OWNER)?.map(|owner| owner.u32());
    Ok(name.transpose()? == Some(TABLE) && owner.transpose()?.unwrap_or(0) != 0)
}
