//! When entries are looked at.

use std::time::{Duration, Instant};

use super::{Options, Scope, Ticket};

/// Looks in a row that still change something, before they become rarer.
const EAGER: u32 = 5;
/// How long after a failure the next attempt is, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long after one look the next is at the least if events were lost: a busy node loses them over and over.
const AFTER_LOSS: Duration = Duration::from_secs(1);
/// How many times as long as a look the rest after it is: looks take a tenth of a processor then, whatever happens.
const REST: u32 = 9;
/// Within so much time a connection that is no longer allowed is cut. It is a second less what else that takes.
const WITHIN: Duration = Duration::from_millis(900);

/// When entries are looked at, and whose.
#[derive(Debug)]
pub(super) struct Schedule {
    options: Options,
    /// Whose entries are not known to be right.
    scope: Scope,
    due: Instant,
    /// Looks since the last request.
    looks: u32,
    /// Whether nothing has to be seen twice.
    once: bool,
    failures: u32,
    periodic: Option<Instant>,
    /// When the last look ended.
    ended: Instant,
    /// How long there is no other look then.
    rest: Duration,
    pub(super) asked: Ticket,
    pub(super) judged: Ticket,
    pub(super) settled: Ticket,
}

impl Schedule {
    pub(super) fn new(options: Options, now: Instant) -> Self {
        Self {
            options,
            scope: Scope::none(),
            due: now,
            looks: 0,
            once: false,
            failures: 0,
            periodic: None,
            ended: now,
            rest: Duration::ZERO,
            asked: Ticket::default(),
            judged: Ticket::default(),
            settled: Ticket::default(),
        }
    }

    /// Somebody asks. What was being asked for goes on.
    pub(super) fn ask(&mut self, scope: Scope, ticket: Ticket, now: Instant) {
        self.scope.merge(scope);
        self.asked = ticket;
        if self.scope.is_none() {
            (self.judged, self.settled) = (ticket, ticket);
        }
        self.looks = 0;
        self.once = false;
        self.due = now.max(self.ended + self.rest);
    }

    /// From now on all entries are looked at now and then.
    pub(super) fn look_periodically(&mut self, now: Instant) {
        if self.periodic.is_none() {
            self.periodic = Some(now + self.options.period);
        }
    }

    /// Events were lost.
    pub(super) fn lost(&mut self, now: Instant) {
        self.add(Scope::All, now.max(self.ended + AFTER_LOSS));
    }

    /// Entries that could not be dealt with when they were seen.
    pub(super) fn add(&mut self, scope: Scope, due: Instant) {
        if self.scope.is_none() {
            (self.due, self.looks, self.once) = (due, 0, true);
        }
        self.scope.merge(scope);
    }

    /// Whose entries to look at now, if any. Returns whether the time has come for all.
    pub(super) fn start(&mut self, now: Instant) -> Option<(Scope, bool)> {
        let periodic = self.periodic.is_some_and(|due| due <= now);
        if periodic {
            self.periodic = Some(now + self.options.period);
            self.add(Scope::All, now);
        }
        let due = !self.scope.is_none() && self.due <= now;
        due.then(|| (self.scope.clone(), periodic))
    }

    /// The next time at which there is something to do, if there is one.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = (!self.scope.is_none()).then_some(self.due);
        [due, self.periodic].into_iter().flatten().min()
    }

    /// A look ended, and changed something or not.
    pub(super) fn looked(&mut self, started: Instant, now: Instant, changed: bool) {
        self.ended = now;
        self.rest = rest(now - started);
        self.failures = 0;
        self.looks = self.looks.saturating_add(1);
        self.judged = self.asked;
        if !changed && (self.once || self.looks > 1) {
            self.scope = Scope::none();
            self.settled = self.asked;
            return;
        }
        let rarer = 1 << self.looks.saturating_sub(EAGER).min(16);
        let pause = (self.options.settle * rarer).min(self.options.period);
        self.due = now + pause.max(self.options.settle).max(self.rest);
    }

    /// What is to be looked at is due now.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due = now;
    }

    /// A look failed.
    pub(super) fn failed(&mut self, now: Instant) {
        let (first, most) = RETRY;
        self.due = now + (first * (1 << self.failures.min(10))).min(most);
        self.failures += 1;
    }
}

/// How long there is no other look after one that took so long.
///
/// What is asked right after a look began waits for that one, rests, and is looked at. An entry that came too late for
/// this is seen after one more rest. Where both do not fit, looks take more of a processor, but no more than half.
fn rest(took: Duration) -> Duration {
    let fits = WITHIN.saturating_sub(took * 3) / 2;
    (took * REST).min(fits).max(took)
}

#[cfg(test)]
mod tests {
    use super::super::tests::addresses;
    use super::*;

    const SETTLE: Duration = Duration::from_millis(100);
    const PERIOD: Duration = Duration::from_secs(30);
    const MOMENT: Duration = Duration::from_millis(1);

    fn schedule() -> (Schedule, Instant) {
        let now = Instant::now();
        (Schedule::new(Options::default(), now), now)
    }

    #[test]
    fn entries_are_looked_at_twice_and_until_nothing_changes() {
        let (mut schedule, mut now) = schedule();
        assert_eq!(schedule.start(now), None);
        let asked = addresses(["10.0.0.1"]);
        schedule.ask(asked.clone(), Ticket(1), now);
        for changed in [false, true, true, false] {
            assert_eq!(schedule.start(now), Some((asked.clone(), false)));
            schedule.looked(now, now + MOMENT, changed);
            assert_eq!(schedule.judged, Ticket(1));
            assert_eq!(schedule.start(now + SETTLE), None);
            now += MOMENT + SETTLE;
        }
        assert_eq!(schedule.settled, Ticket(1));
        assert_eq!((schedule.start(now), schedule.next()), (None, None));
    }

    #[test]
    fn a_request_that_comes_meanwhile_begins_anew() {
        let (mut schedule, now) = schedule();
        schedule.ask(addresses(["10.0.0.1"]), Ticket(1), now);
        schedule.looked(now, now, true);
        schedule.ask(addresses(["10.0.0.2"]), Ticket(2), now);
        let both = addresses(["10.0.0.1", "10.0.0.2"]);
        assert_eq!(schedule.start(now), Some((both, false)));
        schedule.looked(now, now, false);
        assert_eq!(
            (schedule.judged, schedule.settled),
            (Ticket(2), Ticket::default())
        );
    }

    #[test]
    fn what_concerns_nobody_is_done_at_once() {
        let (mut schedule, now) = schedule();
        schedule.ask(Scope::none(), Ticket(1), now);
        assert_eq!((schedule.judged, schedule.settled), (Ticket(1), Ticket(1)));
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn what_never_settles_is_looked_at_ever_more_rarely() {
        let (mut schedule, mut now) = schedule();
        schedule.ask(Scope::All, Ticket(1), now);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            assert!(schedule.start(now).is_some());
            schedule.looked(now, now, true);
            let next = schedule.next().expect("there is a next");
            pauses.push(next - now);
            now = next;
        }
        assert_eq!(pauses[0], SETTLE);
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&PERIOD));
    }

    /// When looks begin and end that take so long, for a minute in which somebody asks every millisecond.
    fn looks_under_churn(took: Duration) -> Vec<(Instant, Instant)> {
        let (mut schedule, start) = schedule();
        let (mut now, mut ticket, mut looks) = (start, Ticket(0), Vec::new());
        while now < start + Duration::from_secs(60) {
            ticket.0 += 1;
            schedule.ask(addresses(["10.0.0.1"]), ticket, now);
            if schedule.start(now).is_some() {
                looks.push((now, now + took));
                schedule.looked(now, now + took, false);
                now += took;
            } else {
                now += MOMENT;
            }
        }
        looks
    }

    /// The part of the time that looks take.
    fn part(looks: &[(Instant, Instant)]) -> f64 {
        let took: Duration = looks.iter().map(|(began, end)| *end - *began).sum();
        took.as_secs_f64() / (looks[looks.len() - 1].1 - looks[0].0).as_secs_f64()
    }

    #[test]
    fn under_churn_looks_take_a_tenth_of_a_processor_unless_there_are_very_many_entries() {
        for (took, most) in [
            (1, 0.101),
            (10, 0.101),
            (40, 0.101),
            (100, 0.3),
            (400, 0.51),
        ] {
            let looks = looks_under_churn(MOMENT * took);
            let part = part(&looks);
            assert!(part < most, "{took} ms: {part}");
        }
    }

    #[test]
    fn under_churn_what_is_forbidden_is_looked_at_twice_within_a_second() {
        for took in [1, 10, 40, 100, 180] {
            let looks = looks_under_churn(MOMENT * took);
            // Who asks right after the first began is seen by the two that follow.
            let waits = looks.windows(3).map(|looks| looks[2].1 - looks[0].0);
            let longest = waits.max().expect("there are looks");
            assert!(longest < Duration::from_secs(1), "{took} ms: {longest:?}");
        }
    }

    #[test]
    fn what_is_asked_after_a_rest_is_looked_at_at_once() {
        let (mut schedule, now) = schedule();
        let took = 20 * MOMENT;
        schedule.ask(Scope::All, Ticket(1), now);
        schedule.looked(now, now + took, false);
        let end = now + took;
        schedule.ask(Scope::All, Ticket(2), end);
        assert_eq!(schedule.next(), Some(end + 9 * took));
        let later = end + 10 * took;
        schedule.ask(Scope::All, Ticket(3), later);
        assert_eq!(schedule.next(), Some(later));
    }

    #[test]
    fn what_still_changes_is_looked_at_again_after_a_rest() {
        let (mut schedule, now) = schedule();
        schedule.ask(Scope::All, Ticket(1), now);
        for took in [20 * MOMENT, PERIOD / 2] {
            schedule.looked(now, now + took, true);
            assert_eq!(schedule.next(), Some(now + took + rest(took)));
        }
    }

    #[test]
    fn all_is_looked_at_now_and_then_and_once_if_it_is_right() {
        let (mut schedule, now) = schedule();
        schedule.look_periodically(now);
        assert_eq!(schedule.start(now + PERIOD - MOMENT), None);
        let later = now + PERIOD;
        assert_eq!(schedule.start(later), Some((Scope::All, true)));
        schedule.looked(later, later, false);
        assert_eq!(schedule.start(later + SETTLE), None);
        assert_eq!(schedule.next(), Some(later + PERIOD));
    }

    #[test]
    fn lost_events_and_failures_are_made_up_for_with_a_pause() {
        let (mut schedule, now) = schedule();
        schedule.lost(now);
        assert_eq!(schedule.start(now), None);
        assert_eq!(schedule.next(), Some(now + AFTER_LOSS));
        schedule.ask(Scope::All, Ticket(1), now);
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            schedule.failed(now);
            let pause = schedule.next().expect("another attempt") - now;
            assert!(pause > last || pause == RETRY.1);
            last = pause;
        }
        assert_eq!(schedule.judged, Ticket::default());
    }
}
