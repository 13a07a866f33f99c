//! How fast drift is repaired: at once, but not as often as somebody who changes our tables in a loop would have it.

use std::time::Duration;

use tokio::time::Instant;

/// So many repairs in a row are made at once.
const AT_ONCE: u32 = 10;
/// Repairs are in a row as long as the next drift comes within this time.
const CALM: Duration = Duration::from_secs(10);
/// The first wait, which doubles with each further repair.
const FIRST: Duration = Duration::from_millis(50);
/// The longest wait. Meanwhile pods may be open, so it is short.
const LONGEST: Duration = Duration::from_secs(1);

/// The repairs of late.
#[derive(Clone, Debug, Default)]
pub(super) struct Repairs {
    in_a_row: u32,
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Repairs {
    /// Somebody changed our tables. The repair is due at the time that [`Repairs::due`] says.
    pub(super) fn drifted(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now >= last + CALM) {
            self.in_a_row = 0;
        }
        let wait = match self.in_a_row.checked_sub(AT_ONCE) {
            None => Duration::ZERO,
            Some(more) => FIRST.saturating_mul(1 << more.min(10)).min(LONGEST),
        };
        self.due.get_or_insert(now + wait);
    }

    /// The tables are as they should be again; whether anything had to be done for it.
    pub(super) fn repaired(&mut self, now: Instant, changed: bool) {
        self.due = None;
        if changed {
            self.in_a_row = self.in_a_row.saturating_add(1);
            self.last = Some(now);
        }
    }

    /// When the repair is due, if there is one to make.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether somebody changes our tables over and over.
    pub(super) fn alarm(&self, now: Instant) -> bool {
        self.in_a_row > AT_ONCE && self.last.is_some_and(|last| now < last + CALM)
    }

    /// When the alarm ends, if there is one and nothing happens.
    pub(super) fn alarm_ends(&self, now: Instant) -> Option<Instant> {
        let ends = self.last.map(|last| last + CALM);
        ends.filter(|_| self.alarm(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_repaired_at_once_and_a_loop_meets_longer_and_longer_waits() {
        let mut now = Instant::now();
        let mut repairs = Repairs::default();
        let mut waits = Vec::new();
        for _ in 0..20 {
            repairs.drifted(now);
            let due = repairs.due().unwrap_or(now);
            waits.push((due - now).as_millis());
            now = due;
            repairs.repaired(now, true);
        }
        assert_eq!(waits[..10], [0; 10]);
        assert_eq!(waits[10..16], [50, 100, 200, 400, 800, 1000]);
        assert!(repairs.alarm(now));
        assert_eq!(repairs.alarm_ends(now), Some(now + CALM));
        now += CALM;
        assert!(!repairs.alarm(now));
        repairs.drifted(now);
        assert_eq!(repairs.due(), Some(now));
    }

    #[test]
    fn what_needed_no_repair_does_not_count() {
        let now = Instant::now();
        let mut repairs = Repairs::default();
        for _ in 0..50 {
            repairs.drifted(now);
            repairs.repaired(now, false);
        }
        repairs.drifted(now);
        assert_eq!(repairs.due(), Some(now));
        assert!(!repairs.alarm(now));
    }
}
