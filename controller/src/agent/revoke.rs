//! Revoking: open connections follow what is in force.
//!
//! ```text
//!  engine ── judge(state, scope) ──▶ inbox ──▶ thread: dump ─▶ judge ─▶ change marks, and again until nothing changes
//!                                                ▲                                  │
//!                          conntrack's events ───┘                                  └──▶ Status, to whoever reports
//! ```
//!
//! A connection that is established passes before policies are asked (`ct state established accept`), so a change that
//! tightens does not reach it. To delete its entry would not cut it either: the other end's next packet makes another.
//! What cuts it in both directions is a bit of its mark, which our rules drop before anything else. It is set on
//! each entry that what is in force forbids, and taken off each that is allowed again. An entry whose bit is right
//! is not touched, nor is any other bit of a mark.
//!
//! - An entry is judged on what the forward hook saw of its first packet, after DNAT and before SNAT
//!   ([`kernel::conntrack::Entry::forwarded`]), and only on the sides of pods of this node ([`OnNode`]).
//! - One that another connection announced passes as related, as the rules say.
//! - A packet that old rules let pass may get its entry late, and the kernel finds an entry to mark by its tuple in either
//!   direction, which by then may be another's. So entries are listed again, at least [`Options::settle`] later, until
//!   nothing changes.
//! - Others may take the bit away. Events tell of it, and a look at everything now and then, as the kernel tells
//!   of entries only if somebody listened when they were born. Where a rule rewrites the mark with each packet, no
//!   bit stays: that is reported, and not fought with each packet.

mod inbox;
mod judge;
mod marks;
mod schedule;
mod work;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use kernel::LinkError;
use kernel::conntrack::{self, Connection};
use policy_compiler::evaluate::{NodeEgress, OnNode};
use policy_compiler::lower::RevokedBit;
use policy_compiler::model::{Cluster, NamespacedName};

use self::inbox::Inbox;
use self::work::Worker;

/// What becomes of open connections that are no longer allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are cut.
    #[default]
    Revoke,
    /// They go on until they end. What was cut before, by an agent in the other mode, goes on too: with the first
    /// [`Handle::judge`] our bit is taken off every entry, once.
    Keep,
}

/// How to revoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What becomes of connections that are no longer allowed.
    pub mode: Mode,
    /// How long after one look at the entries the next is, at the least.
    pub settle: Duration,
    /// How often all entries are looked at though nobody asks.
    pub period: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Revoke,
            settle: Duration::from_millis(100),
            period: Duration::from_secs(30),
        }
    }
}

/// What is in force, to judge connections by. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The objects as they are in force ([`policy_compiler::index::Index::effective`]).
    pub cluster: Arc<Cluster>,
    /// The node.
    pub node: Arc<str>,
    /// The own-node egress switch.
    pub node_egress: NodeEgress,
    /// The node's pods that send and receive nothing, as their namespace is over its budget.
    pub closed: Arc<BTreeSet<NamespacedName>>,
    /// The bit of a mark that says: revoked.
    pub revoked: RevokedBit,
}

impl Judged {
    /// The node, to be asked.
    fn on_node(&self) -> OnNode<'_> {
        OnNode {
            cluster: &self.cluster,
            node: &self.node,
            node_egress: self.node_egress,
            closed: &self.closed,
        }
    }
}

/// Whose connections are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// Those with one of these addresses at either end, before or after rewriting.
    Addresses(BTreeSet<IpAddr>),
}

/// A request, by its number: later ones have greater numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What was done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Connections that were cut.
    pub revoked: u64,
    /// Connections that were cut and are allowed again.
    pub relaxed: u64,
    /// Connections that were cut again because somebody took our bit off their mark; they are not in `revoked`.
    pub set_again: u64,
    /// How often the entries were looked at, all or those of some addresses.
    pub passes: u64,
    /// The entries of the last look.
    pub entries: u64,
    /// The last request of whose connections all were judged, once.
    pub judged: Ticket,
    /// The last request after which nothing was left to change.
    pub settled: Ticket,
    /// A forbidden connection that is open because somebody takes our bit off its mark over and over: a rule that sets
    /// the whole mark for each packet (`ct mark set`), as `picket preflight` finds them.
    pub overwritten: Option<Connection>,
    /// Why the last attempt failed, if it did. There will be another.
    pub failure: Option<String>,
}

impl Status {
    /// What is to be said of the connection that somebody keeps open.
    pub fn warning(&self) -> Option<String> {
        let connection = self.overwritten?;
        Some(format!(
            "a connection that is no longer allowed goes on ({connection}): a rule takes picket's bit off its mark with each \
             packet. `picket preflight` names such rules: have it keep the bits of a mark that are not its own."
        ))
    }
}

/// Why connections can not be judged.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// Their entries can not be listed, changed or watched.
    #[error(transparent)]
    Conntrack(#[from] conntrack::Error),
    /// The node's own addresses can not be listed.
    #[error(transparent)]
    Links(#[from] LinkError),
    /// The thread that does it can not be started, or not be woken.
    #[error("no thread can be started that revokes connections")]
    Thread(#[source] io::Error),
}

/// Revokes connections on a thread of its own, for as long as this lives. Marks stay when it ends.
#[derive(Debug)]
pub struct Revoker {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Revoker {
    /// Starts, in the network namespace of the calling thread. Nothing is judged before the first [`Handle::judge`].
    ///
    /// `report` is called on that thread whenever something was done.
    ///
    /// # Errors
    /// All of [`RevokeError`].
    pub fn start(
        options: Options,
        report: impl FnMut(&Status) + Send + 'static,
    ) -> Result<Self, RevokeError> {
        let inbox = Arc::new(Inbox::new().map_err(RevokeError::Thread)?);
        let worker = Worker::new(options, Arc::clone(&inbox), Box::new(report))?;
        let thread = std::thread::Builder::new()
            .name("revoke".to_owned())
            .spawn(move || worker.run())
            .map_err(RevokeError::Thread)?;
        Ok(Self {
            handle: Handle { inbox },
            thread: Some(thread),
        })
    }

    /// What asks it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Revoker {
    fn drop(&mut self) {
        self.handle.inbox.stop();
        if let Some(thread) = self.thread.take() {
            // If it panicked, that was told where it happened.
            let _ = thread.join();
        }
    }
}

/// Asks a [`Revoker`]. None of its calls waits for the kernel.
#[derive(Clone, Debug)]
pub struct Handle {
    inbox: Arc<Inbox>,
}

impl Handle {
    /// Judges connections by what is in force now. Requests that were not worked on yet become one: everybody's
    /// connections, by the newest state.
    pub fn judge(&self, state: Judged, scope: Scope) -> Ticket {
        self.inbox.judge(state, scope)
    }

    /// Changes no mark until the guard is dropped.
    ///
    /// Held from before a change of rules until after the [`Handle::judge`] that follows it, no new connection that the
    /// change allows is cut by what was in force before.
    pub fn hold(&self) -> Hold {
        self.inbox.hold();
        Hold {
            inbox: Arc::clone(&self.inbox),
        }
    }
}

/// As long as this lives, no mark is changed.
#[derive(Debug)]
pub struct Hold {
    inbox: Arc<Inbox>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.inbox.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node without anything.
    pub(super) fn judged(node: &str) -> Judged {
        Judged {
            cluster: Arc::default(),
            node: node.into(),
            node_egress: NodeEgress::Allow,
            closed: Arc::default(),
            revoked: RevokedBit::default(),
        }
    }

    pub(super) fn addresses<const N: usize>(texts: [&str; N]) -> Scope {
        let parse = |text: &str| text.parse().expect("an address");
        Scope::Addresses(texts.map(parse).into())
    }
}
