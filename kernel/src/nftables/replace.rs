//! Tables replaced as a whole, whatever is in them: those of another version of this program, or of another hand.

use policy_compiler::ruleset::{Ruleset, TABLE};

use super::Generation;
use super::operation::load;
use super::socket::Nftables;
use crate::error::Error;

/// The name of the tables that judge while ours are replaced.
pub const STAND_IN: &str = "picket-next";

impl Nftables {
    /// Makes the ruleset what our tables hold, whatever they held, also in families that we have none in. Nothing that
    /// the ruleset denies passes meanwhile: first a copy of it judges beside the tables, under another name; then those
    /// go, the ruleset comes, and the copy goes. What both the old tables and the ruleset allow passes all the time.
    ///
    /// Wherever this ends, also by a kill, a whole ruleset judges, and calling it again goes on from there.
    ///
    /// # Errors
    /// As [`Nftables::apply`].
    pub fn replace(&mut self, ruleset: &Ruleset) -> Result<Generation, Error> {
        // One that is left over is whole, and may be all that judges now; unless it was about to go itself.
        if self.base_chains(&[STAND_IN])?.is_empty() {
            self.delete_tables(&[STAND_IN])?;
            self.apply_within(usize::MAX, STAND_IN, &load(ruleset), None)?;
        }
        self.delete_tables(&[TABLE])?;
        self.load(ruleset, None)?;
        self.remove_stand_in()
    }

    /// Removes the copy that an interrupted [`Nftables::replace`] left, when our own tables are as they should be.
    ///
    /// # Errors
    /// As [`Nftables::apply`].
    pub fn remove_stand_in(&mut self) -> Result<Generation, Error> {
        self.delete_tables(&[STAND_IN])?;
        self.generation()
    }
}
