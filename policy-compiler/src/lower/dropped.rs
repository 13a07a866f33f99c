//! Named counters of what is dropped.
//!
//! They are objects of their own, so that they go on counting when a chain is filled anew, and are read without a rule.

use crate::model::Direction;
use crate::ruleset::Table;

/// Why a packet is dropped, as its counter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// The pod is isolated, and no policy allows it.
    Policy(Direction),
    /// The pod is closed: it has no class yet, or what its policies ask for is not in force.
    Closed(Direction),
    /// It is of a connection that was revoked.
    Revoked,
    /// What no address can judge: forged sources, link-local packets, tags, TCP without a connection.
    Guard,
}

impl Dropped {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Policy(Direction::Egress),
        Self::Policy(Direction::Ingress),
        Self::Closed(Direction::Egress),
        Self::Closed(Direction::Ingress),
        Self::Revoked,
        Self::Guard,
    ];

    /// The name of its counter, in each table that drops for this reason.
    pub fn counter(self) -> &'static str {
        match self {
            Self::Policy(Direction::Egress) => "dropped_egress_policy",
            Self::Policy(Direction::Ingress) => "dropped_ingress_policy",
            Self::Closed(Direction::Egress) => "dropped_egress_closed",
            Self::Closed(Direction::Ingress) => "dropped_ingress_closed",
            Self::Revoked => "dropped_revoked",
            Self::Guard => "dropped_guard",
        }
    }

    /// Which counter has this name.
    pub fn of_counter(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.counter() == name)
    }
}

/// Adds the counters of a table that judges connections.
pub(super) fn add_all(table: &mut Table) {
    Dropped::ALL.into_iter().for_each(|one| add(table, one));
}

/// Adds one counter.
pub(super) fn add(table: &mut Table, one: Dropped) {
    table.counters.insert(one.counter().to_owned());
}
