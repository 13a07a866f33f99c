//! The thread that revokes.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::conntrack::{Entry, Event, Watch};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::super::error::describe;
use super::inbox::{Found, Inbox, Request};
use super::judge::Judge;
use super::marks::{Look, Marks};
use super::schedule::Schedule;
use super::{Mode, Options, RevokeError, Scope, Status};

/// Room for some ten thousand events that come while entries are looked at.
const EVENTS: usize = 16 << 20;
/// How long after a failure of the watch it is opened anew.
const REOPEN: Duration = Duration::from_secs(1);

/// What the thread has.
pub(super) struct Worker {
    options: Options,
    inbox: Arc<Inbox>,
    report: Box<dyn FnMut(&Status) + Send>,
    marks: Marks,
    /// None in mode `keep`, or since it failed.
    watch: Option<Watch>,
    reopen: Option<Instant>,
    judge: Option<Judge>,
    schedule: Schedule,
    status: Status,
}

impl Worker {
    /// Opens sockets in the network namespace of the calling thread.
    pub(super) fn new(
        options: Options,
        inbox: Arc<Inbox>,
        report: Box<dyn FnMut(&Status) + Send>,
    ) -> Result<Self, RevokeError> {
        let watch = match options.mode {
            Mode::Revoke => Some(Watch::open(EVENTS)?),
            Mode::Keep => None,
        };
        Ok(Self {
            options,
            inbox,
            report,
            marks: Marks::open()?,
            watch,
            reopen: None,
            judge: None,
            schedule: Schedule::new(options, Instant::now()),
            status: Status::default(),
        })
    }

    /// Until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            self.wait();
            let before = self.status.clone();
            let is_last = match self.inbox.take() {
                Found::Stop(request) => {
                    request.into_iter().for_each(|request| self.ask(request));
                    // What was asked and not done is done once, as nobody judges until another agent starts.
                    self.schedule.hurry(Instant::now());
                    true
                }
                Found::Request(request) => {
                    self.ask(request);
                    false
                }
                Found::Nothing => false,
            };
            if let Err(error) = self.hear() {
                self.fail(&error);
                self.schedule.lost(Instant::now());
            }
            self.look();
            self.status.judged = self.schedule.judged;
            self.status.settled = self.schedule.settled;
            if self.status != before {
                (self.report)(&self.status);
            }
            if is_last {
                return;
            }
        }
    }

    fn ask(&mut self, request: Request) {
        let now = Instant::now();
        let first = self.judge.is_none();
        self.judge = Some(Judge::new(request.state, self.options.mode));
        match self.options.mode {
            Mode::Revoke => {
                self.schedule.ask(request.scope, request.ticket, now);
                self.schedule.look_periodically(now);
            }
            // Once, everything.
            Mode::Keep if first => self.schedule.ask(Scope::All, request.ticket, now),
            Mode::Keep => self.schedule.ask(Scope::none(), request.ticket, now),
        }
    }

    /// Until there is something to do.
    fn wait(&self) {
        let next = [self.schedule.next(), self.reopen]
            .into_iter()
            .flatten()
            .min();
        let left = next.map(|next| next.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            // Rounded up: to wake too early is to turn round and round.
            let left = left + Duration::from_micros(999);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![PollFd::new(self.inbox.as_fd(), PollFlags::POLLIN)];
        if let Some(watch) = &self.watch {
            fds.push(PollFd::new(watch.as_fd(), PollFlags::POLLIN));
        }
        if poll(&mut fds, timeout).is_err_and(|errno| errno != nix::errno::Errno::EINTR) {
            // Out of memory, as no other failure is possible.
            std::thread::sleep(self.options.settle);
        }
    }

    /// Sets again what others took off.
    fn hear(&mut self) -> Result<(), RevokeError> {
        let now = Instant::now();
        if self.reopen.is_some_and(|at| at <= now) {
            self.reopen = Some(now + REOPEN);
            self.watch = Some(Watch::open(EVENTS)?);
            self.reopen = None;
            self.schedule.lost(now);
        }
        let Some(watch) = &mut self.watch else {
            return Ok(());
        };
        let events = match watch.events() {
            Ok(events) => events,
            Err(error) => {
                (self.watch, self.reopen) = (None, Some(now + REOPEN));
                return Err(error.into());
            }
        };
        let Some(judge) = &mut self.judge else {
            return Ok(());
        };
        let own = self.marks.port();
        let mut entries: Vec<Entry> = Vec::new();
        for event in events {
            match event {
                Event::Updated { entry, port } if port != own && !judge.has_bit(&entry) => {
                    entries.push(entry);
                }
                Event::Updated { .. } => {}
                Event::Overrun => self.schedule.lost(now),
            }
        }
        self.marks
            .guard(judge, entries, &self.inbox, &mut self.status)
    }

    /// Looks at entries if it is time.
    fn look(&mut self) {
        let Some(judge) = &mut self.judge else {
            return;
        };
        let started = Instant::now();
        let Some((scope, period)) = self.schedule.start(started) else {
            return;
        };
        if period {
            self.marks.new_period(&mut self.status);
        }
        let looked = self
            .marks
            .look(judge, &scope, &self.inbox, &mut self.status);
        let now = Instant::now();
        match looked {
            Ok(Look::GivenUp) => {}
            Ok(look) => {
                self.status.passes += 1;
                self.status.failure = None;
                self.schedule.looked(started, now, look == Look::Changed);
            }
            Err(error) => {
                self.fail(&error);
                self.schedule.failed(now);
            }
        }
    }

    /// What went wrong, and why, in a line.
    fn fail(&mut self, error: &RevokeError) {
        self.status.failure = Some(describe(error));
    }
}
