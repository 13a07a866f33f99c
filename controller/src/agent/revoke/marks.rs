//! Marks of entries, brought in line with what is in force.

use std::collections::{BTreeMap, HashMap};

use kernel::Links;
use kernel::conntrack::{self, Connection, Conntrack, Entry, Filter, MarkChange, Marked};

use super::inbox::Inbox;
use super::judge::Judge;
use super::{RevokeError, Scope, Status, Ticket};

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
    set: Vec<Entry>,
    clear: Vec<Entry>,
}

/// How a look at entries ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// All were as they are to be.
    Right,
    /// Some were not.
    Changed,
    /// It was given up, as it is to end.
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
        let mut turns = Turns::new(inbox, judge);
        let done = self.clear(&wanted.clear, &mut turns, status)?
            && self.set(&wanted.set, &mut turns, status)?;
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
                        wanted.set.push(entry);
                        if known.contains_key(&connection) {
                            marked.push(connection);
                        }
                    }
                    (Ok(false), true) => wanted.clear.push(entry),
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

    /// Sets our bit again where somebody else took it off a connection that is forbidden.
    pub(super) fn guard(
        &mut self,
        judge: &mut Judge,
        entries: Vec<Entry>,
        inbox: &Inbox,
        status: &mut Status,
    ) -> Result<(), RevokeError> {
        judge.forget_own_addresses();
        let mut lost = BTreeMap::new();
        for entry in entries {
            let connection = entry.connection();
            let times = self.marked.get(&connection);
            let over = times.is_some_and(|times| *times >= OVER_AND_OVER);
            if !over && !judge.has_bit(&entry) && judge.forbids(&entry, &mut self.links)? {
                lost.insert(connection, entry);
            }
        }
        let lost: Vec<_> = lost.into_values().collect();
        // If it is to end, so be it.
        self.set(&lost, &mut Turns::new(inbox, judge), status)?;
        Ok(())
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
        entries: &[Entry],
        turns: &mut Turns<'_>,
        status: &mut Status,
    ) -> Result<bool, RevokeError> {
        for some in entries.chunks(AT_ONCE) {
            let kernel = (&mut self.conntrack, &mut self.links);
            let Some((connections, changed)) = turns.next(kernel, some, true)? else {
                return Ok(false);
            };
            let mut again = 0;
            for connection in connections {
                match self.marked.get_mut(&connection) {
                    Some(times) => {
                        again += 1;
                        *times += 1;
                        if *times == OVER_AND_OVER {
                            status.overwritten = Some(connection);
                        }
                    }
                    None => {
                        self.marked.insert(connection, 0);
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
        entries: &[Entry],
        turns: &mut Turns<'_>,
        status: &mut Status,
    ) -> Result<bool, RevokeError> {
        for some in entries.chunks(AT_ONCE) {
            let kernel = (&mut self.conntrack, &mut self.links);
            let Some((connections, changed)) = turns.next(kernel, some, false)? else {
                return Ok(false);
            };
            for connection in connections {
                self.marked.remove(&connection);
            }
            status.relaxed += changed.changed as u64;
        }
        Ok(true)
    }
}

/// Changes some marks after others, each time by what is in force at that moment.
///
/// What is asked meanwhile does not end it: whoever asks often would keep connections open. It is listed anew when this is
/// done, for what it forbids besides.
struct Turns<'a> {
    inbox: &'a Inbox,
    judge: &'a mut Judge,
    /// By which the judge judges, if it is newer than when entries were listed.
    newer: Option<Ticket>,
}

impl<'a> Turns<'a> {
    fn new(inbox: &'a Inbox, judge: &'a mut Judge) -> Self {
        let newer = None;
        Self {
            inbox,
            judge,
            newer,
        }
    }

    /// Sets our bit on those that are forbidden still, or takes it off those that still are not. Returns them, unless it
    /// is to end.
    fn next(
        &mut self,
        (conntrack, links): (&mut Conntrack, &mut Links),
        entries: &[Entry],
        forbidden: bool,
    ) -> Result<Option<(Vec<Connection>, Marked)>, RevokeError> {
        let done = self.inbox.change(|request| {
            if let Some(request) = request
                && self.newer != Some(request.ticket)
            {
                self.judge.renew(request.state.clone());
                self.newer = Some(request.ticket);
            }
            let mut connections = Vec::with_capacity(entries.len());
            for entry in entries {
                if self.newer.is_none() || self.judge.forbids(entry, links)? == forbidden {
                    connections.push(entry.connection());
                }
            }
            let bit = self.judge.bit();
            let change = match forbidden {
                true => MarkChange::set(bit),
                false => MarkChange::clear(bit),
            };
            let changed = conntrack.change_marks(connections.iter().map(|of| (*of, change)))?;
            Ok((connections, changed))
        });
        done.transpose()
    }
}

/// The addresses at both ends, before and after rewriting.
fn ends(entry: &Entry) -> [std::net::IpAddr; 4] {
    let (original, reply) = (&entry.original, &entry.reply);
    [
        original.source,
        original.destination,
        reply.source,
        reply.destination,
    ]
}
