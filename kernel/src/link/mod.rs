//! Links, their addresses and routes, over rtnetlink.
//!
//! # Why its own reading
//!
//! The typed messages of `netlink-packet-route` 0.34 (MIT, rust-netlink) were tried on real messages of a kernel:
//!
//! - It is well kept, and none of 600,000 messages that were changed at random made it panic.
//! - It reads all of a message or nothing: one attribute whose value it does not expect, of the hundred that a link
//!   has and of the dozen that are used here, hides the link. An alias that is not UTF-8, which the kernel takes, is
//!   enough. A way around is to walk the attributes here and to hand it each by itself, inside `IFLA_LINKINFO` too; then
//!   what it adds is the names of two dozen numbers.
//! - Every second month there is a version with another interface (13 in the last 24 months), and it brings `zerocopy` with its macros,
//!   `bitflags` and `log`.
//!
//! `rtnetlink` is that on tokio, and `nlink` tokio with much else. Attributes are walked by this crate anyway, so the
//! two dozen numbers are here, in `constants`.

mod address;
mod bridge;
mod constants;
mod error;
mod exchange;
#[cfg(test)]
mod fuzz;
mod links;
mod peers;
mod properties;
mod route;
mod watch;

pub use address::{AddressFlags, LinkAddress, Scope};
pub use bridge::{Bridge, BridgeNetfilter};
pub use error::{LinkError, PeerError};
pub use links::Links;
pub use peers::Pair;
pub use properties::{Kind, Link, LinkMac, Master, NamespaceId, OperationalState, Other, Place};
pub use route::{NextHop, Route, RouteKind};
pub use watch::{LinkEvent, LinkWatch};
