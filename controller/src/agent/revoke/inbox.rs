//! What is asked of the thread and not yet worked on.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Judged, Scope, Ticket};

/// More addresses than these are everybody's: to look each up costs more than to judge.
const MOST_ADDRESSES: usize = 10_000;

impl Scope {
    /// Nobody's.
    pub(super) fn none() -> Self {
        Self::Addresses(BTreeSet::new())
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::Addresses(addresses) if addresses.is_empty())
    }

    /// Both.
    pub(super) fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Addresses(these), Self::Addresses(others))
                if these.len() + others.len() <= MOST_ADDRESSES =>
            {
                these.extend(others);
            }
            // Nobody's is in every scope, also in one that is large.
            (Self::Addresses(_), Self::Addresses(others)) if others.is_empty() => {}
            _ => *self = Self::All,
        }
    }

    /// Whether one of the addresses is in it.
    pub(super) fn has(&self, ends: [IpAddr; 4]) -> bool {
        match self {
            Self::All => true,
            Self::Addresses(addresses) => ends.iter().any(|end| addresses.contains(end)),
        }
    }
}

/// How long after a stop marks may still be changed by what was asked before it.
const LAST: Duration = Duration::from_secs(2);

/// All requests that came since the last was taken.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) state: Judged,
    pub(super) scope: Scope,
    pub(super) ticket: Ticket,
}

/// Filled by handles, emptied by the thread.
#[derive(Debug)]
pub(super) struct Inbox {
    held: Mutex<Held>,
    /// Told when the last hold ends, and when the thread has had its turn.
    turn: Condvar,
    wake: EventFd,
}

#[derive(Debug, Default)]
struct Held {
    request: Option<Request>,
    last: Ticket,
    holds: usize,
    /// Whether the thread waits for the holds to end: it is the next then, whoever wants to hold again.
    is_waiting: bool,
    /// When it is too late to change marks.
    stopped: Option<Instant>,
}

/// What the thread finds.
#[derive(Debug)]
pub(super) enum Found {
    /// It is to end, after what was still asked.
    Stop(Option<Request>),
    /// Something is asked.
    Request(Request),
    /// Nothing new.
    Nothing,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            held: Mutex::default(),
            turn: Condvar::new(),
            wake: EventFd::from_flags(flags)?,
        })
    }

    pub(super) fn judge(&self, state: Judged, scope: Scope) -> Ticket {
        let mut held = self.lock();
        held.last.0 += 1;
        let ticket = held.last;
        let mut merged = scope;
        if let Some(before) = held.request.take() {
            merged.merge(before.scope);
        }
        held.request = Some(Request {
            state,
            scope: merged,
            ticket,
        });
        drop(held);
        self.wake();
        ticket
    }

    pub(super) fn hold(&self) {
        let held = self.lock();
        let is_others = |held: &mut Held| held.is_waiting && held.holds == 0;
        let held = self.turn.wait_while(held, is_others);
        held.unwrap_or_else(PoisonError::into_inner).holds += 1;
    }

    pub(super) fn release(&self) {
        let mut held = self.lock();
        held.holds = held.holds.saturating_sub(1);
        drop(held);
        self.turn.notify_all();
        self.wake();
    }

    pub(super) fn stop(&self) {
        self.lock().stopped = Some(Instant::now() + LAST);
        self.turn.notify_all();
        self.wake();
    }

    /// Takes what is there.
    pub(super) fn take(&self) -> Found {
        // How often it was woken does not count; and not to have been is no error.
        let _ = self.wake.read();
        let mut held = self.lock();
        if held.stopped.is_some() {
            return Found::Stop(held.request.take());
        }
        held.request.take().map_or(Found::Nothing, Found::Request)
    }

    /// Does something by what is in force, once nobody holds. It is told what was asked and not taken yet, by which it has
    /// to go, and which can be taken all the same. Nobody can ask or hold in the meantime, so it is to be short; and
    /// however often they do, it gets its turn. Nothing is done if it was stopped a while ago, or somebody holds then.
    pub(super) fn change<T>(&self, work: impl FnOnce(Option<&Request>) -> T) -> Option<T> {
        let mut held = self.lock();
        held.is_waiting = true;
        let is_held = |held: &mut Held| held.holds > 0 && held.stopped.is_none();
        let waited = self.turn.wait_while(held, is_held);
        held = waited.unwrap_or_else(PoisonError::into_inner);
        held.is_waiting = false;
        self.turn.notify_all();
        let is_late = held.stopped.is_some_and(|end| end <= Instant::now());
        let may = held.holds == 0 && !is_late;
        let done = may.then(|| work(held.request.as_ref()));
        drop(held);
        done
    }

    fn wake(&self) {
        // It fails only where 2^64 - 1 wakes were not read: then there is one to read.
        let _ = self.wake.write(1);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Whoever panicked with it left a value that is whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Inbox {
    /// Readable when there may be something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{addresses, judged};
    use super::*;

    #[test]
    fn requests_that_come_meanwhile_are_one_for_everybody_by_the_newest_state() {
        let inbox = Inbox::new().expect("an eventfd");
        inbox.judge(judged("first"), addresses(["10.0.0.1"]));
        let ticket = inbox.judge(judged("second"), addresses(["10.0.0.2", "fd00::1"]));
        let Found::Request(request) = inbox.take() else {
            panic!("nothing was asked");
        };
        assert_eq!(&*request.state.node, "second");
        let all = addresses(["10.0.0.1", "10.0.0.2", "fd00::1"]);
        assert_eq!((request.scope, request.ticket), (all, ticket));
        assert!(matches!(inbox.take(), Found::Nothing));

        inbox.judge(judged("third"), Scope::All);
        inbox.judge(judged("fourth"), addresses(["10.0.0.1"]));
        let Found::Request(request) = inbox.take() else {
            panic!("nothing was asked");
        };
        assert_eq!(request.scope, Scope::All);
    }

    #[test]
    fn very_many_addresses_are_everybody() {
        let many = |from: u32, count: u32| {
            let addresses = (from..from + count).map(|n| IpAddr::from(n.to_be_bytes()));
            Scope::Addresses(addresses.collect())
        };
        let most = MOST_ADDRESSES as u32;
        let mut scope = many(0, most);
        scope.merge(Scope::none());
        assert_eq!(scope, many(0, most));
        scope.merge(many(most, 1));
        assert_eq!(scope, Scope::All);
    }

    #[test]
    fn what_is_asked_meanwhile_is_told_and_not_taken() {
        let inbox = Inbox::new().expect("an eventfd");
        let ticket = |inbox: &Inbox| inbox.change(|newer| newer.map(|request| request.ticket));
        assert_eq!(ticket(&inbox), Some(None));
        let asked = inbox.judge(judged("n"), Scope::All);
        assert_eq!(ticket(&inbox), Some(Some(asked)));
        assert!(matches!(inbox.take(), Found::Request(_)));
        assert_eq!(ticket(&inbox), Some(None));
    }

    #[test]
    fn whoever_holds_over_and_over_leaves_the_thread_its_turn() {
        let inbox = Inbox::new().expect("an eventfd");
        inbox.hold();
        std::thread::scope(|scope| {
            let changed = scope.spawn(|| inbox.change(|_| 1));
            let deadline = Instant::now() + Duration::from_secs(20);
            // Between the two there is no time for it, unless it is given.
            while !changed.is_finished() {
                inbox.release();
                inbox.hold();
                assert!(Instant::now() < deadline, "it has no turn");
            }
            assert_eq!(changed.join().expect("no panic"), Some(1));
        });
    }

    #[test]
    fn what_was_asked_before_a_stop_is_done_unless_somebody_holds() {
        let inbox = Inbox::new().expect("an eventfd");
        inbox.judge(judged("n"), Scope::All);
        inbox.stop();
        assert!(matches!(inbox.take(), Found::Stop(Some(_))));
        assert_eq!(inbox.change(|_| 1), Some(1));
        inbox.hold();
        assert_eq!(inbox.change(|_| 1), None);
        assert!(matches!(inbox.take(), Found::Stop(None)));
    }
}
