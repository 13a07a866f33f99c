//! Interfaces that pass nothing until the policies of their pods are in force: those of one group, and rules for it that
//! stay in the kernel whatever runs.

use kernel::{Error, Nftables};
use policy_compiler::ruleset::Ruleset;

/// The group of an interface that passes nothing.
pub const QUARANTINE: u32 = 770_701;

/// The group of an interface whose policies are in force.
pub const ACTIVE: u32 = 770_702;

/// The name of the tables, which belong to nobody.
pub const TABLE: &str = "picket-quarantine";

/// The tables, one of a family each. They never change.
pub fn ruleset() -> Ruleset {
    Ruleset::default()
}

/// Whether the tables are as they should be.
///
/// # Errors
/// The kernel can not be asked.
pub fn is_there(_nftables: &mut Nftables) -> Result<bool, Error> {
    Ok(false)
}

/// Puts there what is missing or different, in one transaction: at no moment less is dropped than before.
///
/// # Errors
/// As [`Nftables::apply`].
pub fn ensure(_nftables: &mut Nftables) -> Result<(), Error> {
    Ok(())
}
