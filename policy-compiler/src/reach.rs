//! Who reaches whom: what policies allow between two ends, for every port and protocol at once.
//!
//! [`evaluate`](crate::evaluate) judges one connection. Here the answer is the exact set of connections, so that a
//! matrix or a difference is not a sample. Pods that no policy of the cluster can tell apart form a [`Group`], and
//! so do nodes and outside addresses: what holds for one of a group holds for all.
//!
//! `tests/reach.rs` holds it to the evaluator.

mod allowed;
mod change;
mod group;
mod outside;
mod way;

pub use allowed::Allowed;
pub use change::{Cause, Change, Effect, Role, Status, changes, status};
pub use group::{Group, groups};
pub use outside::Outside;
pub use way::{Grant, Side, Way, between, isolating};
