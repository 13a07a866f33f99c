//! Connection tracking of one network namespace, over ctnetlink: entries listed, their marks set, changes heard.
//!
//! ```text
//!  Filter ──▶ dump ──▶ netlink ──▶ kernel ──▶ Entry, one by one
//!  (Connection, MarkChange).. ──▶ change_marks ──▶ netlink ──▶ kernel     many in each message, none is created
//!  Event ◀── Watch ◀── netlink ◀── kernel                                 whose change, and overruns
//! ```
//!
//! Numbers and layouts are those of `linux/netfilter/nfnetlink_conntrack.h`, `nf_conntrack_common.h`, and, where those
//! are silent, of the kernel's `nf_conntrack_netlink.c`.
//!
//! # Why its own encoding
//!
//! `netlink-packet-netfilter` 0.4 (MIT) has entries as lists of lists of attributes: of a tuple it knows addresses and
//! ports, but not ICMP, which is how an entry of a ping is found again, and neither zone, id, filters nor the mask of
//! a mark. With those as raw bytes it would still be the smaller half, at a dozen allocations and more an entry, of which
//! there are hundreds of thousands; and an attribute that it can not parse fails the message. The crate's documentation
//! has the others.

mod constants;
mod decode;
mod encode;
mod entry;
mod error;
mod filter;
#[cfg(test)]
mod fuzz;
mod marks;
#[cfg(test)]
mod samples;
mod socket;
mod tuple;
mod watch;

pub use entry::{Connection, Entry, Status, Zone};
pub use error::{Error, Refusal};
pub use filter::{Ends, Filter, Masked};
pub use marks::{MarkChange, Marked};
pub use socket::Conntrack;
pub use tuple::{Icmp, Ports, Transport, Tuple};
pub use watch::{Event, Watch};
