//! What is asked of the thread and not yet worked on.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    wake: EventFd,
}

#[derive(Debug, Default)]
struct Held {
    request: Option<Request>,
    last: Ticket,
    holds: usize,
    stopped: bool,
}

/// What the thread finds.
#[derive(Debug)]
pub(super) enum Found {
    /// It is to end.
    Stop,
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
        self.lock().holds += 1;
    }

    pub(super) fn release(&self) {
        let mut held = self.lock();
        held.holds = held.holds.saturating_sub(1);
        drop(held);
        self.wake();
    }

    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.wake();
    }

    /// Takes what is there.
    pub(super) fn take(&self) -> Found {
        // How often it was woken does not count; and not to have been is no error.
        let _ = self.wake.read();
        let mut held = self.lock();
        if held.stopped {
            return Found::Stop;
        }
        held.request.take().map_or(Found::Nothing, Found::Request)
    }

    pub(super) fn is_held(&self) -> bool {
        self.lock().holds > 0
    }

    /// Does something by what was last taken, unless that is not what is in force any more. Nobody can ask or hold in the
    /// meantime, so it is to be short.
    pub(super) fn if_still_valid<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let held = self.lock();
        let valid = held.request.is_none() && held.holds == 0 && !held.stopped;
        let done = valid.then(work);
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
    fn nothing_is_done_by_a_state_that_is_not_in_force_any_more() {
        let inbox = Inbox::new().expect("an eventfd");
        assert_eq!(inbox.if_still_valid(|| 1), Some(1));
        inbox.judge(judged("n"), Scope::All);
        assert_eq!(inbox.if_still_valid(|| 1), None);
        inbox.take();
        inbox.hold();
        inbox.hold();
        inbox.release();
        assert_eq!(inbox.if_still_valid(|| 1), None);
        inbox.release();
        assert_eq!(inbox.if_still_valid(|| 1), Some(1));
        inbox.stop();
        assert_eq!(inbox.if_still_valid(|| 1), None);
        assert!(matches!(inbox.take(), Found::Stop));
    }
}
