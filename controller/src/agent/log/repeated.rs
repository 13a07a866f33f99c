//! The same message, not a thousand times.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many different messages are remembered. Beyond that the one that was seen least recently is forgotten.
const REMEMBERED: usize = 1024;

/// Says which of many equal messages to write: the first, then one after each interval, which doubles, and the end.
///
/// A message is known by a key, which has no changing parts (no times, no generations). The clock is the caller's: it
/// gives the time at each call, and never goes back.
#[derive(Clone, Debug)]
pub struct Repeated<K> {
    first: Duration,
    longest: Duration,
    messages: BTreeMap<K, Message>,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    since: Instant,
    last: Instant,
    times: u64,
    /// When it is written again.
    due: Instant,
    interval: Duration,
}

/// A message that is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is new.
    First,
    /// It was seen before.
    Again {
        /// How often, with this time.
        times: u64,
        /// Since when.
        lasts: Duration,
    },
}

/// A message that does not come any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How often it was seen.
    pub times: u64,
    /// From the first time to the end.
    pub lasted: Duration,
}

impl<K: Ord + Clone> Repeated<K> {
    /// Messages are written again after `first`, then after twice as long, up to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            messages: BTreeMap::new(),
        }
    }

    /// A message is seen; nothing if it is not to be written now.
    pub fn seen(&mut self, key: &K, now: Instant) -> Option<Seen> {
        if let Some(message) = self.messages.get_mut(key) {
            message.times = message.times.saturating_add(1);
            message.last = now;
            if now < message.due {
                return None;
            }
            message.interval = message.interval.saturating_mul(2).min(self.longest);
            message.due = now + message.interval;
            return Some(Seen::Again {
                times: message.times,
                lasts: now.saturating_duration_since(message.since),
            });
        }
        if self.messages.len() >= REMEMBERED {
            let messages = self.messages.iter();
            let oldest = messages.min_by_key(|(_, message)| message.last);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.messages.remove(&key);
            }
        }
        let message = Message {
            since: now,
            last: now,
            times: 1,
            due: now + self.first,
            interval: self.first,
        };
        self.messages.insert(key.clone(), message);
        Some(Seen::First)
    }

    /// What the message says does not hold any more; nothing if it did not hold before.
    pub fn ended(&mut self, key: &K, now: Instant) -> Option<Ended> {
        let message = self.messages.remove(key)?;
        Some(Ended {
            times: message.times,
            lasted: now.saturating_duration_since(message.since),
        })
    }

    /// Only these messages hold still; returns the others in order, which have ended.
    pub fn keep(&mut self, holds: impl Fn(&K) -> bool, now: Instant) -> Vec<(K, Ended)> {
        let keys = self.messages.keys().filter(|key| !holds(key));
        let gone: Vec<_> = keys.cloned().collect();
        let end = |key: K| self.ended(&key, now).map(|ended| (key, ended));
        gone.into_iter().filter_map(end).collect()
    }
}

impl<K: Ord + Clone> Default for Repeated<K> {
    /// After 1 s, 2 s, 4 s, up to an hour.
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(3600))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_message_that_comes_each_second_for_a_day_is_written_a_few_dozen_times() {
        let mut repeated = Repeated::default();
        let start = Instant::now();
        let written: Vec<_> = (0..86_400)
            .filter_map(|second| {
                let said = repeated.seen(&"refused", start + SECOND * second)?;
                Some((second, said))
            })
            .collect();
        assert_eq!(written[0], (0, Seen::First));
        let seconds: Vec<_> = written.iter().map(|(second, _)| *second).collect();
        assert_eq!(seconds[..6], [0, 1, 3, 7, 15, 31]);
        let again = Seen::Again {
            times: 16,
            lasts: SECOND * 15,
        };
        assert_eq!(written[4].1, again);
        // In the end once an hour.
        assert_eq!(seconds[20] - seconds[19], 3600);
        assert!(written.len() < 50, "{}", written.len());
        let end = repeated.ended(&"refused", start + SECOND * 86_400);
        let expected = Ended {
            times: 86_400,
            lasted: SECOND * 86_400,
        };
        assert_eq!(end, Some(expected));
        assert_eq!(repeated.ended(&"refused", start), None);
    }

    #[test]
    fn another_message_and_one_that_ended_are_new() {
        let mut repeated = Repeated::default();
        let now = Instant::now();
        assert_eq!(repeated.seen(&1, now), Some(Seen::First));
        assert_eq!(repeated.seen(&1, now), None);
        assert_eq!(repeated.seen(&2, now), Some(Seen::First));
        let ended = repeated.keep(|key| *key == 2, now + SECOND);
        let expected = Ended {
            times: 2,
            lasted: SECOND,
        };
        assert_eq!(ended, [(1, expected)]);
        assert_eq!(repeated.seen(&1, now), Some(Seen::First));
        assert_eq!(repeated.seen(&2, now), None);
    }

    #[test]
    fn messages_without_number_take_no_memory_without_limit() {
        let mut repeated = Repeated::default();
        let now = Instant::now();
        for key in 0..10_000 {
            let now = now + Duration::from_millis(key);
            assert_eq!(repeated.seen(&key, now), Some(Seen::First));
        }
        assert_eq!(repeated.messages.len(), REMEMBERED);
        // The least recent were forgotten.
        assert!(repeated.messages.contains_key(&9_999));
        assert!(!repeated.messages.contains_key(&0));
    }
}
