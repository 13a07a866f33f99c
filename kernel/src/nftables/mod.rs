//! nftables: our tables told to the kernel, and read from it.

mod batch;
pub(crate) mod constants;
mod counters;
mod decode;
mod delete;
mod element;
pub(crate) mod expression;
mod families;
mod field;
mod foreign;
#[cfg(test)]
mod foreign_fuzz;
mod foreign_rule;
mod found;
#[cfg(test)]
mod fuzz;
pub(crate) mod linearize;
mod lists;
pub(crate) mod object;
pub(crate) mod operation;
mod owner;
mod plan;
mod raise;
mod read;
mod read_elements;
mod remove;
mod replace;
mod socket;
mod standing;
mod types;
mod userdata;
mod watch;

use std::fmt;

pub use counters::Counted;
pub use delete::TableName;
pub use foreign::{Foreign, ForeignFamily, ForeignObject, ForeignTable, MarkWriter};
pub use foreign_rule::MarkWritten;
pub use found::{Found, Unknown};
pub use plan::Halted;
pub use replace::STAND_IN;
pub use socket::Nftables;
pub use watch::{Event, Watch};

/// The kernel's count of changes to nftables in this network namespace, whoever made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

impl Generation {
    /// The generation after one more change: the kernel leaves out 0 (`nf_tables_commit`).
    fn next(self) -> Self {
        Self(self.0.checked_add(1).unwrap_or(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
