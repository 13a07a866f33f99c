//! When to try again.

use std::time::Duration;

use tokio::time::Instant;

/// Attempts at doubling intervals, until one succeeds.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
    due: Option<Instant>,
}

impl Backoff {
    pub(super) fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            failures: 0,
            due: None,
        }
    }

    /// An attempt failed.
    pub(super) fn failed(&mut self, now: Instant) {
        let doubled = self.first.saturating_mul(1 << self.failures.min(20));
        self.due = Some(now + doubled.min(self.most));
        self.failures = self.failures.saturating_add(1);
    }

    /// The next attempt is due within this time at the latest.
    pub(super) fn due_within(&mut self, now: Instant, most: Duration) {
        self.due = self.due.map(|due| due.min(now + most));
    }

    /// How many attempts failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// An attempt succeeded, or there is nothing to attempt any more.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.due = None;
    }

    /// An attempt is being made: the next is due when this one fails.
    pub(super) fn attempted(&mut self) {
        self.due = None;
    }

    /// When the next attempt is due, if one is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_double_up_to_the_longest_and_start_again_after_a_success() {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(1), seconds(5));
        let mut intervals = Vec::new();
        for _ in 0..40 {
            backoff.failed(now);
            intervals.push(backoff.due().map(|due| (due - now).as_secs()));
        }
        assert_eq!(intervals[..5], [1, 2, 4, 5, 5].map(Some));
        assert_eq!(intervals[39], Some(5));
        backoff.succeeded();
        assert_eq!(backoff.due(), None);
        backoff.failed(now);
        assert_eq!(backoff.due(), Some(now + seconds(1)));
    }
}
