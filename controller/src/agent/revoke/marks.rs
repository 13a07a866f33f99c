//! Marks of entries, brought in line with what is in force.

use std::collections::HashMap;

use kernel::Links;
use kernel::conntrack::{self, Connection, Conntrack, Entry, Filter, MarkChange};

use super::inbox::Inbox;
use super::judge::Judge;
use super::{RevokeError, Scope, Status};

/// Changes while nobody can ask or hold: a millisecond's.
const AT_ONCE: usize = 1024;
/// How often a dump that was interrupted is begun anew before that is a failure.
const ATTEMPTS: usize = 5;
/// How often in a period a connection gets our bit before somebody takes it off over and over.
const OVER_AND_OVER: u32 = 8;

/// Conntrack, and what our bit is on.
pub(super) struct Marks {
    conntrack: Conntrack,
    links: Links,
    /// The connections that have our bit, and how often in this period it was set.
    marked: HashMap<Connection, u32>,
}

/// What is to be changed.
#[derive(Default)]
struct Wanted {
    set: Vec<Connection>,
    clear: Vec<Connection>,
}

/// How a look at entries ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// All were as they are to be.
    Right,
    /// Some were not.
    Changed,
    /// It was given up: another is asked for, or marks must stay as they are.
    GivenUp,
}

impl Marks {
    /// Opens sockets in the network namespace of the calling thread.
    pub(super) fn open() -> Result<Self, RevokeError> {
        Ok(Self {
            conntrack: Conntrack::open()?,
            links: Links::open()?,
            marked: HashMap::new(),
        })
    }

    /// By which the kernel names our changes.
    pub(super) fn port(&self) -> u32 {
        self.conntrack.port()
    }

    /// Looks at the entries of a scope, and changes the marks that are wrong.
    pub(super) fn look(
        &mut self,
        judge: &mut Judge,
        scope: &Scope,
        inbox: &Inbox,
        status: &mut Status,
    ) -> Result<Look, RevokeError> {
        judge.forget_own_addresses();
        let (wanted, marked, entries) = self.list(judge, scope)?;
        status.entries = entries;
        if *scope == Scope::All {
            // What is gone is forgotten here.
            let counted = |connection| (connection, self.marked.get(&connection).copied());
            let kept = marked.into_iter().map(counted);
            self.marked = kept.map(|(of, count)| (of, count.unwrap_or(0))).collect();
        } else {
            for connection in marked {
                self.marked.entry(connection).or_insert(0);
            }
        }
        let right = wanted.set.is_empty() && wanted.clear.is_empty();
        let bit = judge.bit();
        let done = self.clear(&wanted.clear, bit, inbox, status)?
            && self.set(&wanted.set, bit, inbox, status)?;
        Ok(match (right, done) {
            (true, _) => Look::Right,
            (false, true) => Look::Changed,
            (false, false) => Look::GivenUp,
        })
    }

    /// What is to be changed, the connections whose bit is right or is to be set again, and how many entries there are.
    fn list(
        &mut self,
        judge: &mut Judge,
        scope: &Scope,
    ) -> Result<(Wanted, Vec<Connection>, u64), RevokeError> {
        let mut attempt = 1;
        loop {
            let (mut wanted, mut marked, mut entries) = (Wanted::default(), Vec::new(), 0);
            let (links, known) = (&mut self.links, &self.marked);
            let mut failure = None;
            let dumped = self.conntrack.dump(&Filter::default(), |entry| {
                entries += 1;
                if failure.is_some() || !scope.has(ends(&entry)) {
                    return;
                }
                let connection = entry.connection();
                match (judge.forbids(&entry, links), judge.has_bit(&entry)) {
                    (Ok(true), true) => marked.push(connection),
                    (Ok(true), false) => {
                        wanted.set.push(connection);
                        if known.contains_key(&connection) {
                            marked.push(connection);
                        }
                    }
                    (Ok(false), true) => wanted.clear.push(connection),
                    (Ok(false), false) => {}
                    (Err(error), _) => failure = Some(error),
                }
            });
            match dumped {
                _ if failure.is_some() => {}
                Ok(()) => return Ok((wanted, marked, entries)),
                Err(conntrack::Error::Interrupted) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
            if let Some(error) = failure {
                return Err(error.into());
            }
        }
    }

    /// Sets our bit again where somebody else took it off a connection that is forbidden. Returns the entries of which that
    /// was given up.
    pub(super) fn guard(
        &mut self,
        judge: &mut Judge,
        entries: Vec<Entry>,
        inbox: &Inbox,
        status: &mut Status,
    ) -> Result<Vec<Entry>, RevokeError> {
        judge.forget_own_addresses();
        let mut lost = Vec::new();
        for entry in entries {
            let times = self.marked.get(&entry.connection());
            let over = times.is_some_and(|times| *times >= OVER_AND_OVER);
            if !over && !judge.has_bit(&entry) && judge.forbids(&entry, &mut self.links)? {
                lost.push(entry);
            }
        }
        let mut connections: Vec<_> = lost.iter().map(Entry::connection).collect();
        connections.sort_unstable();
        connections.dedup();
        let done = self.set(&connections, judge.bit(), inbox, status)?;
        Ok(if done { Vec::new() } else { lost })
    }

    /// A period has passed.
    pub(super) fn new_period(&mut self, status: &mut Status) {
        let mut times = self.marked.values_mut();
        if times.all(|times| *times < OVER_AND_OVER) {
            status.overwritten = None;
        }
        self.marked.values_mut().for_each(|times| *times = 0);
    }

    /// Returns whether it was done to the end.
    fn set(
        &mut self,
        connections: &[Connection],
        bit: u32,
        inbox: &Inbox,
        status: &mut Status,
    ) -> Result<bool, RevokeError> {
        for some in connections.chunks(AT_ONCE) {
            let changes = some.iter().map(|of| (*of, MarkChange::set(bit)));
            let changed = inbox.if_still_valid(|| self.conntrack.change_marks(changes));
            let Some(changed) = changed.transpose()? else {
                return Ok(false);
            };
            let mut again = 0;
            for connection in some {
                match self.marked.get_mut(connection) {
                    Some(times) => {
                        again += 1;
                        *times += 1;
                        if *times == OVER_AND_OVER {
                            status.overwritten = Some(*connection);
                        }
                    }
                    None => {
                        self.marked.insert(*connection, 0);
                    }
                }
            }
            // Of those that are gone it is not told which they are.
            status.set_again += again;
            status.revoked += (changed.changed as u64).saturating_sub(again);
        }
        Ok(true)
    }

    /// Returns whether it was done to the end.
    fn clear(
        &mut self,
        connections: &[Connection],
        bit: u32,
        inbox: &Inbox,
        status: &mut Status,
    ) -> Result<bool, RevokeError> {
        for some in connections.chunks(AT_ONCE) {
            let changes = some.iter().map(|of| (*of, MarkChange::clear(bit)));
            let changed = inbox.if_still_valid(|| self.conntrack.change_marks(changes));
            let Some(changed) = changed.transpose()? else {
                return Ok(false);
            };
            for connection in some {
                self.marked.remove(connection);
            }
            status.relaxed += changed.changed as u64;
        }
        Ok(true)
    }
}

/// The addresses at both ends, before and after rewriting.
pub(super) fn ends(entry: &Entry) -> [std::net::IpAddr; 4] {
    let (original, reply) = (&entry.original, &entry.reply);
    [
        original.source,
        original.destination,
        reply.source,
        reply.destination,
    ]
}
