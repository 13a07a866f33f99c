//! Tables that never change and belong to nobody: whoever comes first puts them there, and they stay whatever ends.

use policy_compiler::ruleset::Ruleset;

use super::operation::{Operation, load};
use super::read::Raw;
use super::socket::Nftables;
use crate::error::Error;

/// How often reading starts again because others changed nftables in the meantime.
const ATTEMPTS: usize = 20;

impl Nftables {
    /// Whether the tables of this name are those of the ruleset, and nothing else.
    ///
    /// It may be asked while others change nftables all the time: what is read is not of one generation, as these tables
    /// do not change.
    ///
    /// # Errors
    /// As [`Nftables::read`].
    pub fn stands(&mut self, name: &'static str, ruleset: &Ruleset) -> Result<bool, Error> {
        for _ in 0..ATTEMPTS {
            let mut raw = Raw::new(name, 0);
            if self.read_all(&mut raw)?.is_some() {
                let mut found = raw.found(self.generation()?);
                // In the order in which they were made, also one after the other.
                found.ruleset.tables.sort_by_key(|table| table.family);
                return Ok(found.unknown.is_empty() && found.ruleset == *ruleset);
            }
        }
        Err(Error::Changing(ATTEMPTS))
    }

    /// Makes the tables of this name those of the ruleset, in its families, unless they are; in one transaction, so that
    /// every packet meets the ones before or the ones after. They have no owner, also where [`Nftables::open_owner`]
    /// made this. Whether there was anything to do.
    ///
    /// The ruleset has its tables in the order of their families, and no sets: a packet that is still between the rules of
    /// a table that goes could find them empty.
    ///
    /// # Errors
    /// As [`Nftables::apply`] and [`Nftables::stands`].
    pub fn stand(&mut self, name: &'static str, ruleset: &Ruleset) -> Result<bool, Error> {
        if self.stands(name, ruleset)? {
            return Ok(false);
        }
        let families = || ruleset.tables.iter().map(|table| table.family);
        let mut operations: Vec<_> = families()
            .flat_map(|family| {
                [
                    Operation::EnsureTable(family),
                    Operation::DeleteTable(family),
                ]
            })
            .collect();
        operations.extend(load(ruleset));
        let flags = std::mem::take(&mut self.flags);
        let applied = self.apply_within(usize::MAX, name, &operations, None);
        self.flags = flags;
        applied
    }
}
