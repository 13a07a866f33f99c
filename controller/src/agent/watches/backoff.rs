//! How long to wait before the next attempt: twice as long after each that came to nothing, and never as long as others.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(30);

/// An API server is believed so much at most about when to come again.
const TOLD: Duration = Duration::from_secs(60);

/// How many attempts came to nothing in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::agent) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// After an attempt that came to nothing, and what the API server told about when to come again.
    pub(in crate::agent) fn next(&mut self, told: Option<Duration>) -> Duration {
        self.up_to(MOST, told)
    }

    /// The same, for what is worth less haste.
    pub(in crate::agent) fn up_to(&mut self, most: Duration, told: Option<Duration>) -> Duration {
        let most = FIRST.saturating_mul(1 << self.attempts.min(16)).min(most);
        self.attempts = self.attempts.saturating_add(1);
        let own = between(most / 2, most);
        match told.map(|told| told.min(TOLD)) {
            Some(told) if told > own => told + between(Duration::ZERO, told / 4),
            _ => own,
        }
    }

    /// After a watch that ended: soon, if anything came of it.
    pub(super) fn after_end(&mut self, within: Duration) -> Duration {
        match self.attempts {
            0 => {
                // If nothing comes of the next one either, it is as if this one had failed.
                self.attempts = 1;
                between(Duration::ZERO, within)
            }
            _ => self.next(None),
        }
    }

    /// Something came.
    pub(in crate::agent) fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// A random time between two, which differs from node to node. A hasher's keys are as random as that asks for.
pub(super) fn between(least: Duration, most: Duration) -> Duration {
    let random = RandomState::new().hash_one(());
    let span = most.saturating_sub(least);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a random number has no precision"
    )]
    let part = random as f64 / u64::MAX as f64;
    least + span.mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_differ_and_end() {
        let mut backoff = Backoff::default();
        for attempt in 0..40 {
            let most = FIRST.saturating_mul(1 << attempt.min(10)).min(MOST);
            let wait = backoff.next(None);
            assert!(wait >= most / 2 && wait <= most, "{attempt}: {wait:?}");
        }
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
        let waits: Vec<_> = (0..10).map(|_| between(FIRST, MOST)).collect();
        assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
    }

    #[test]
    fn the_api_server_may_ask_for_a_minute_and_not_for_a_day() {
        let mut backoff = Backoff::default();
        let told = backoff.next(Some(Duration::from_secs(20)));
        assert!(told >= Duration::from_secs(20) && told <= Duration::from_secs(25));
        assert!(backoff.next(Some(Duration::from_secs(86400))) <= TOLD + TOLD / 4);
    }

    #[test]
    fn a_watch_that_ends_over_and_over_without_a_word_is_asked_less_and_less() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.after_end(FIRST)).collect();
        assert!(waits[7] >= MOST / 2, "{waits:?}");
    }
}
