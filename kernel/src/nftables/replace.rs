//! Tables replaced as a whole, whatever is in them: those of another version of this program, or of another hand.

use policy_compiler::ruleset::{Ruleset, TABLE};

use super::Generation;
use super::constants::{msg, table};
use super::operation::{Operation, load};
use super::socket::{Dumped, Nftables};
use crate::error::Error;
use crate::netlink::attribute::{Writer, find};
use crate::netlink::message::DUMP;

/// The name of the tables that judge while ours are replaced.
const STAND_IN: &str = "picket-next";

impl Nftables {
    /// Makes the ruleset what our tables hold, whatever they held, also in families that we have none in. Nothing that
    /// the ruleset denies passes meanwhile: first a copy of it judges beside the tables, under another name; then those
    /// go, the ruleset comes, and the copy goes. What both the old tables and the ruleset allow passes all the time.
    ///
    /// Each of the four is a transaction. Wherever this ends, also by a kill, a whole ruleset judges, and calling it again
    /// goes on from there.
    ///
    /// # Errors
    /// As [`Nftables::apply`].
    pub fn replace(&mut self, ruleset: &Ruleset) -> Result<Generation, Error> {
        // One that is left over is whole, and may be all that judges now.
        if self.families_of(STAND_IN)?.is_empty() {
            self.apply_within(usize::MAX, STAND_IN, &load(ruleset), None)?;
        }
        self.delete_tables(TABLE)?;
        self.load(ruleset, None)?;
        self.remove_stand_in()
    }

    /// Removes the copy that an interrupted [`Nftables::replace`] left, when our own tables are as they should be.
    ///
    /// # Errors
    /// As [`Nftables::apply`].
    pub fn remove_stand_in(&mut self) -> Result<Generation, Error> {
        self.delete_tables(STAND_IN)?;
        self.generation()
    }

    /// Removes every table of ours with all that is in it, and the copy of an interrupted [`Nftables::replace`], in
    /// whatever family. Returns what went, as `inet picket`, in the order of families and names.
    ///
    /// # Errors
    /// As [`Nftables::apply`].
    pub fn remove_all(&mut self) -> Result<Vec<String>, Error> {
        let mut removed = Vec::new();
        for name in [TABLE, STAND_IN] {
            let families = self.delete_tables(name)?;
            removed.extend(
                families
                    .into_iter()
                    .map(|f| format!("{} {name}", family_name(f))),
            );
        }
        Ok(removed)
    }

    /// In one transaction.
    fn delete_tables(&mut self, name: &'static str) -> Result<Vec<u8>, Error> {
        let families = self.families_of(name)?;
        let all = families.iter().copied();
        let operations: Vec<_> = all.map(Operation::DeleteTableOf).collect();
        self.apply_within(usize::MAX, name, &operations, None)?;
        Ok(families)
    }

    /// The families that have a table of that name, in the kernel's numbers, in order.
    fn families_of(&mut self, name: &str) -> Result<Vec<u8>, Error> {
        loop {
            let mut families = Vec::new();
            let request = |_: &mut Writer| {};
            let dumped =
                self.request(msg::GETTABLE, DUMP, 0, request, |_, family, attributes| {
                    if find(attributes, table::NAME)?
                        .is_some_and(|found| found.text().is_ok_and(|text| text == name))
                    {
                        families.push(family);
                    }
                    Ok(())
                })?;
            if dumped == Dumped::All {
                families.sort_unstable();
                return Ok(families);
            }
        }
    }
}

/// `NFPROTO_*` as nft calls them.
fn family_name(family: u8) -> &'static str {
    match family {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "unknown",
    }
}
