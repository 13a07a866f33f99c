//! What is to be sent, and when: no IO, and the clock is the caller's.
//!
//! - What lasts is one Event with a series, which is told again every [`SERIES`].
//! - Another note, or what was over and is there again, is a new Event; of one policy and reason there is at most one in
//!   [`BETWEEN`].
//! - Over all, [`BURST`] requests may come at once, and one each [`EACH`] after them; those that fail count too.
//! - When it is over nothing is sent.
//!
//! What is remembered is in proportion to what is wrong now and to what may be sent within [`BETWEEN`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Subject;

/// A series is told again so often.
pub(super) const SERIES: Duration = Duration::from_secs(30 * 60);

/// Two Events of one policy and reason are so far apart.
pub(super) const BETWEEN: Duration = Duration::from_secs(5 * 60);

/// So many requests may come at once.
pub(super) const BURST: u32 = 25;

/// And then one in this time.
pub(super) const EACH: Duration = Duration::from_secs(5);

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A new Event.
    Post {
        /// What it is about.
        subject: Subject,
        /// What it says.
        note: String,
    },
    /// That it lasts.
    Patch {
        /// What the Event is about.
        subject: Subject,
        /// The Event's name.
        event: String,
        /// How often it was said, with this time.
        count: u32,
    },
}

impl Request {
    /// What the Event is about.
    pub(super) fn subject(&self) -> &Subject {
        match self {
            Self::Post { subject, .. } | Self::Patch { subject, .. } => subject,
        }
    }
}

/// An Event that was sent.
#[derive(Clone, Debug)]
struct Said {
    event: String,
    note: String,
    posted: Instant,
    observed: Instant,
    count: u32,
    /// Whether what it says ended since.
    is_over: bool,
}

/// What is to be said, and what was.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    wanted: BTreeMap<Subject, String>,
    said: BTreeMap<Subject, Said>,
    /// When a request about it was made last: whoever fails lets the others go first.
    tried: BTreeMap<Subject, Instant>,
    /// When there may be a burst again as if nothing had been sent.
    rested: Option<Instant>,
}

impl State {
    /// This is the case now.
    pub(super) fn take(&mut self, notes: BTreeMap<Subject, String>, now: Instant) {
        self.said.retain(|subject, said| {
            said.is_over |= !notes.contains_key(subject);
            !said.is_over || now < said.posted + BETWEEN
        });
        self.tried.retain(|subject, _| notes.contains_key(subject));
        self.wanted = notes;
    }

    /// What is to be sent next, and when, which is not before now.
    pub(super) fn next(&self, now: Instant) -> Option<(Instant, Request)> {
        let due = |(subject, note): (&Subject, &String)| match self.said.get(subject) {
            None => now,
            Some(said) if said.is_new(note) => said.posted + BETWEEN,
            Some(said) => said.observed + SERIES,
        };
        let wanted = self.wanted.iter();
        let order = |one: &(&Subject, &String)| (due(*one).max(now), self.tried.get(one.0));
        let (subject, note) = wanted.min_by_key(order)?;
        let at = due((subject, note)).max(now);
        let burst = EACH * (BURST - 1);
        let room = self.rested.and_then(|rested| rested.checked_sub(burst));
        let at = room.map_or(at, |room| room.max(at));
        let request = match self.said.get(subject) {
            Some(said) if !said.is_new(note) => Request::Patch {
                subject: subject.clone(),
                event: said.event.clone(),
                count: said.count.saturating_add(1),
            },
            _ => Request::Post {
                subject: subject.clone(),
                note: note.clone(),
            },
        };
        Some((at, request))
    }

    /// A request is made.
    pub(super) fn begin(&mut self, request: &Request, now: Instant) {
        let rested = self.rested.map_or(now, |rested| rested.max(now));
        self.rested = Some(rested + EACH);
        self.tried.insert(request.subject().clone(), now);
    }

    /// A new Event was taken, under this name.
    pub(super) fn posted(&mut self, request: &Request, event: &str, now: Instant) {
        if let Request::Post { subject, note } = request {
            let said = Said {
                event: event.to_owned(),
                note: note.clone(),
                posted: now,
                observed: now,
                count: 1,
                is_over: false,
            };
            self.said.insert(subject.clone(), said);
        }
    }

    /// That an Event lasts was taken.
    pub(super) fn patched(&mut self, request: &Request, now: Instant) {
        if let Request::Patch { subject, count, .. } = request
            && let Some(said) = self.said.get_mut(subject)
        {
            said.observed = now;
            said.count = *count;
        }
    }

    /// The Event is not there any more.
    pub(super) fn forget(&mut self, subject: &Subject) {
        self.said.remove(subject);
    }
}

impl Said {
    /// Whether this is another Event.
    fn is_new(&self, note: &str) -> bool {
        self.is_over || self.note != note
    }
}

#[cfg(test)]
mod tests {
    use policy_compiler::model::NamespacedName;

    use super::super::notes::Reason;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn subject(name: &str) -> Subject {
        Subject {
            policy: NamespacedName::new("shop", name),
            reason: Reason::Refused,
        }
    }

    fn notes(of: &[(&str, &str)]) -> BTreeMap<Subject, String> {
        let notes = of.iter();
        notes
            .map(|(name, note)| (subject(name), (*note).to_owned()))
            .collect()
    }

    /// Takes what is due until this time, and whether the API server takes it.
    fn until(
        state: &mut State,
        now: &mut Instant,
        end: Instant,
        is_up: bool,
    ) -> Vec<(Instant, Request)> {
        let mut sent = Vec::new();
        while let Some((at, request)) = state.next(*now).filter(|(at, _)| *at <= end) {
            assert!(at >= *now);
            *now = at;
            state.begin(&request, at);
            if is_up {
                state.posted(&request, "picket-1", at);
                state.patched(&request, at);
            }
            sent.push((at, request));
            assert!(sent.len() < 1000, "it does not end");
        }
        *now = end;
        sent
    }

    /// What was sent, and after how many seconds.
    fn lines(start: Instant, sent: &[(Instant, Request)]) -> Vec<String> {
        let line = |(at, request): &(Instant, Request)| {
            let seconds = at.duration_since(start).as_secs();
            let name = &request.subject().policy.name;
            match request {
                Request::Post { note, .. } => format!("{seconds}: {name} {note}"),
                Request::Patch { count, .. } => format!("{seconds}: {name} x{count}"),
            }
        };
        sent.iter().map(line).collect()
    }

    #[test]
    fn what_lasts_is_one_event_that_is_told_again_each_half_hour() {
        let start = Instant::now();
        let (mut state, mut now) = (State::default(), start);
        state.take(notes(&[("db", "a")]), start);
        let mut sent = Vec::new();
        // However often the same comes.
        for minute in 1..=70 {
            let end = start + SECOND * 60 * minute;
            sent.extend(until(&mut state, &mut now, end, true));
            state.take(notes(&[("db", "a")]), now);
        }
        assert_eq!(
            lines(start, &sent),
            ["0: db a", "1800: db x2", "3600: db x3"]
        );
        state.take(BTreeMap::new(), now);
        assert_eq!(state.next(now), None);
    }

    #[test]
    fn another_note_is_a_new_event_and_not_before_five_minutes() {
        let start = Instant::now();
        let (mut state, mut now) = (State::default(), start);
        let mut sent = Vec::new();
        for second in 0..=610 {
            let note = format!("{second}");
            state.take(notes(&[("db", &note)]), now);
            let end = start + SECOND * second;
            sent.extend(until(&mut state, &mut now, end, true));
        }
        assert_eq!(
            lines(start, &sent),
            ["0: db 0", "300: db 300", "600: db 600"]
        );
        // What is again as it was said is nothing new.
        state.take(notes(&[("db", "600")]), now);
        assert_eq!(state.next(now).unwrap().0, start + SECOND * 600 + SERIES);
    }

    #[test]
    fn what_comes_and_goes_is_a_new_event_and_not_before_five_minutes() {
        let start = Instant::now();
        let (mut state, mut now) = (State::default(), start);
        let mut sent = Vec::new();
        for second in 0..=310 {
            let there: &[_] = if second % 2 == 0 { &[("db", "a")] } else { &[] };
            state.take(notes(there), now);
            sent.extend(until(&mut state, &mut now, start + SECOND * second, true));
        }
        assert_eq!(lines(start, &sent), ["0: db a", "300: db a"]);
        // Nothing is remembered of what is long over.
        state.take(BTreeMap::new(), now + BETWEEN);
        assert!(state.said.is_empty() && state.tried.is_empty());
    }

    #[test]
    fn of_many_policies_a_burst_is_sent_and_one_each_five_seconds_after_it() {
        let start = Instant::now();
        let (mut state, mut now) = (State::default(), start);
        let names: Vec<_> = (100..200).map(|number| format!("p{number}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), "a")).collect();
        state.take(notes(&many), start);
        let sent = until(&mut state, &mut now, start + SECOND * 20, true);
        let at_once = sent.iter().filter(|(at, _)| *at == start).count();
        assert_eq!((at_once, sent.len()), (25, 29));
        let rest = until(&mut state, &mut now, start + SECOND * 1000, true);
        assert_eq!(sent.len() + rest.len(), 100);
    }

    #[test]
    fn what_fails_lets_others_go_first_and_is_tried_again() {
        let start = Instant::now();
        let (mut state, mut now) = (State::default(), start);
        state.take(notes(&[("a", "x"), ("b", "x")]), start);
        let failed = until(&mut state, &mut now, start + SECOND * 30, false);
        // Who was tried less recently comes first; the first two at one time.
        let lines = lines(start, &failed[..2]);
        assert_eq!(lines, ["0: a x", "0: b x"]);
        let of_a = failed
            .iter()
            .filter(|(_, request)| request.subject() == &subject("a"));
        assert!(of_a.count() < failed.len() && failed.len() >= 30);
        let sent = until(&mut state, &mut now, start + SECOND * 60, true);
        assert_eq!(sent.len(), 2, "{sent:?}");
    }

    #[test]
    fn an_event_that_the_api_server_has_forgotten_is_made_anew() {
        let start = Instant::now();
        let (mut state, mut now) = (State::default(), start);
        state.take(notes(&[("db", "a")]), start);
        until(&mut state, &mut now, start, true);
        state.forget(&subject("db"));
        let (at, request) = state.next(start).unwrap();
        assert_eq!(at, start);
        assert!(matches!(request, Request::Post { .. }));
    }
}
