//! The only crate that talks to the kernel: nftables, connection tracking ([`conntrack`]) and links over netlink, network
//! namespaces, and which features there are.
//!
//! ```text
//!     Plan ──▶ plan ──▶ operation ──▶ batch ──▶ netlink ──▶ kernel   execute: transaction after transaction
//!  Ruleset ──▶ operation ──▶ batch ──▶ netlink ──▶ kernel       load, apply: all of it, or nothing and why
//!                           linearize: rules to expressions
//!  Ruleset ◀── read ◀── raise ◀── decode ◀── netlink ◀── kernel   read: all of one generation
//!    Event ◀── watch ◀────────────────────── netlink ◀── kernel   watch: who changed what, and overruns
//!
//!     Link ◀── Links ◀──────────────────────▶ netlink ◀─▶ kernel   links, addresses, routes, pairs
//! LinkEvent ◀── LinkWatch ◀───────────────── netlink ◀── kernel   what changed, and overruns
//!
//!  Features ◀── probe ──▶ batches without an end ──▶ kernel      what is missing, before anything is loaded
//! ```
//!
//! What nftables is told is what nft 1.0.6 tells for the text of the same ruleset (`policy_compiler::render::text`), so that
//! `nft list ruleset` shows the same text. Numbers and layouts are those of `linux/netfilter/nf_tables.h`,
//! `linux/netfilter/nfnetlink.h` and `linux/netlink.h`, and those of nft's own data those of libnftnl's `udata.h`.
//!
//! # Why its own encoding
//!
//! - `netlink-sys` 0.9 (MIT) is used for the socket: small, its `unsafe` is only around the system calls, and so there
//!   is none here. `nix` sets the send buffer, which it can not.
//! - `netlink-packet-core` and `netlink-packet-netfilter` 0.4 (MIT) have tables, chains, rules and sets as lists of
//!   attributes, each an allocation of its own; of expressions and their order, of element lists beyond 64 KiB and of
//!   batches they know nothing, and those are nearly all there is to do.
//! - `nlink` 0.33 (MIT or Apache-2.0) has nftables with all of it, but on tokio, among a hundred other subsystems
//!   (25,000 lines to audit), with its own model of rules in between, whose bytes are not nft's.
//! - `neli` 0.7 (BSD) is generic: no nftables. `rustables` 0.9 is GPL-3.0, `nftnl` binds C libraries.
//!
//! Connection tracking has its own paragraph in [`conntrack`], links have theirs in `link`.
//!
//! A message of ours has a dozen shapes, and this crate is the one place where their bytes matter.

pub mod conntrack;
mod error;
mod link;
mod namespace;
mod netlink;
mod nftables;
mod probe;

pub use error::{Error, Refusal, Unfit};
pub use link::{
    AddressFlags, Bridge, BridgeNetfilter, Kind, Link, LinkAddress, LinkError, LinkEvent, LinkMac,
    LinkWatch, Links, Master, NamespaceId, NextHop, OperationalState, Other, Pair, PeerError,
    Place, Route, RouteKind, Scope,
};
pub use namespace::{Inside, NamespaceError, NetworkNamespace};
pub use netlink::attribute::Malformed;
pub use nftables::linearize::RuleError;
pub use nftables::object::Object;
pub use nftables::operation::{Elements, Operation, load};
pub use nftables::{
    Counted, Event, Foreign, ForeignFamily, ForeignObject, ForeignTable, Found, Generation, Halted,
    MarkWriter, MarkWritten, Nftables, STAND_IN, TableName, Unknown, Watch,
};
pub use probe::{Answer, Availability, Feature, Features, Finding, Need, ProbeError};
