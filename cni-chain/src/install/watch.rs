//! It stays installed, whatever others write.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{Error, Installed, Installer, files, watched};

/// How fast is answered.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long nothing must happen before it is looked at: files are often written in several steps.
    pub debounce: Duration,
    /// How long something may go on happening before it is looked at all the same.
    pub longest_debounce: Duration,
    /// How often it is looked at without anything happening.
    pub poll: Duration,
    /// How often it may be written without a rest of [`Pace::window`] before we wait for longer and longer.
    pub writes: usize,
    /// See [`Pace::writes`].
    pub window: Duration,
    /// The first wait.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(300),
            longest_debounce: Duration::from_secs(3),
            poll: Duration::from_secs(30),
            writes: 5,
            window: Duration::from_secs(60),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
        }
    }
}

/// What is told. The same is not told again.
#[derive(Debug)]
pub enum Report {
    /// It is installed now, or was changed.
    Installed(Installed),
    /// It is not installed: it is tried again when something changes, and now and then.
    Failed(Error),
    /// Others go on undoing it.
    Fight {
        /// How often it was written without a rest of [`Pace::window`].
        writes: usize,
        /// How long nothing is written now.
        wait: Duration,
    },
    /// Changes are not heard of, only polled.
    Deaf(io::Error),
}

impl Installer {
    /// Installs, and again whenever it is not any more, until `stop` can be read or is closed. Meanwhile nobody removes
    /// the entry: see [`Error::Watched`].
    pub fn watch(&self, pace: &Pace, stop: BorrowedFd<'_>, mut report: impl FnMut(Report)) {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let inotify = match inotify {
            Ok(inotify) => Some(inotify),
            Err(error) => {
                report(Report::Deaf(error.into()));
                None
            }
        };
        let mut backoff = Backoff::new(*pace);
        let mut last = None;
        let mut elsewhere = None;
        let mut mark = None;
        loop {
            // Another folder may be there. Without one there is no entry to remove.
            mark = watched::mark(&self.settings.conf_dir).ok().or(mark);
            // Before it is looked at, so that nothing is missed; and again each time: another folder may be there.
            let bin_and_conf = [&self.settings.conf_dir, &self.settings.bin_dir];
            if let Some(inotify) = &inotify {
                watch_all(inotify, bin_and_conf.into_iter().chain(&elsewhere));
            }
            let outcome = self.install();
            let now = Instant::now();
            if let Ok(installed) = &outcome {
                elsewhere = Some(files::folder(&installed.configuration).to_owned());
                if (installed.is_edited || installed.is_placed)
                    && let Some(wait) = backoff.wrote(now)
                {
                    let writes = backoff.writes;
                    report(Report::Fight { writes, wait });
                }
            }
            tell(outcome, &mut last, &mut report);
            if !self.wait(pace, inotify.as_ref(), stop, backoff.until) {
                return;
            }
        }
    }

    /// Whether it is to be looked at again; else to be stopped.
    fn wait(
        &self,
        pace: &Pace,
        inotify: Option<&Inotify>,
        stop: BorrowedFd<'_>,
        held: Option<Instant>,
    ) -> bool {
        let start = Instant::now();
        let held = held.filter(|until| *until > start);
        if let Some(until) = held {
            // Whatever happens until then.
            if let Woken::Stopped = wake(None, stop, until) {
                return false;
            }
        }
        let poll_at = held.unwrap_or(start)
            + if held.is_some() {
                Duration::ZERO
            } else {
                pace.poll
            };
        match wake(inotify, stop, poll_at) {
            Woken::Stopped => return false,
            Woken::Late => return true,
            Woken::Happened => {}
        }
        let latest = Instant::now() + pace.longest_debounce;
        loop {
            inotify.map(drain);
            let now = Instant::now();
            match wake(inotify, stop, latest.min(now + pace.debounce)) {
                Woken::Stopped => return false,
                Woken::Late => return true,
                Woken::Happened if now >= latest => return true,
                Woken::Happened => {}
            }
        }
    }
}

fn tell(
    outcome: Result<Installed, Error>,
    last: &mut Option<String>,
    report: &mut impl FnMut(Report),
) {
    let (text, is_change, told) = match outcome {
        Ok(installed) => {
            let is_change = installed.is_edited || installed.is_placed;
            let text = format!("{:?} {:?}", installed.configuration, installed.notes);
            (text, is_change, Report::Installed(installed))
        }
        Err(error) => (error.to_string(), false, Report::Failed(error)),
    };
    if is_change || last.as_ref() != Some(&text) {
        report(told);
    }
    *last = Some(text);
}

fn watch_all<'a>(inotify: &Inotify, folders: impl Iterator<Item = &'a PathBuf>) {
    let folders: BTreeSet<&Path> = folders.map(PathBuf::as_path).collect();
    let flags = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    for folder in folders {
        // One that is not there, or can not be watched, is polled.
        let _ = inotify.add_watch(folder, flags);
    }
}

fn drain(inotify: &Inotify) {
    loop {
        match inotify.read_events() {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

enum Woken {
    Happened,
    Late,
    Stopped,
}

fn wake(inotify: Option<&Inotify>, stop: BorrowedFd<'_>, until: Instant) -> Woken {
    loop {
        let mut fds = vec![PollFd::new(stop, PollFlags::POLLIN)];
        fds.extend(inotify.map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN)));
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up: a poll of no time at all would spin.
        let milliseconds = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(0) => return Woken::Late,
            Ok(_) if fds[0].any() != Some(false) => return Woken::Stopped,
            Ok(_) => return Woken::Happened,
            Err(Errno::EINTR) => {}
            // It can not be waited for, and nothing is worse than to spin.
            Err(_) => return Woken::Stopped,
        }
    }
}

/// Who writes again and again waits for longer and longer, so that two who fight leave the node some peace.
struct Backoff {
    pace: Pace,
    /// How often it was written without a rest of [`Pace::window`].
    writes: usize,
    last: Option<Instant>,
    wait: Duration,
    until: Option<Instant>,
}

impl Backoff {
    fn new(pace: Pace) -> Self {
        Self {
            pace,
            writes: 0,
            last: None,
            wait: pace.first_wait,
            until: None,
        }
    }

    /// Something was written. How long nothing is written now, if it was too often.
    fn wrote(&mut self, now: Instant) -> Option<Duration> {
        // What we waited was no rest.
        let since = self.until.max(self.last);
        if since.is_some_and(|since| now.saturating_duration_since(since) > self.pace.window) {
            *self = Self::new(self.pace);
        }
        self.writes += 1;
        self.last = Some(now);
        if self.writes <= self.pace.writes {
            return None;
        }
        let wait = self.wait;
        self.until = Some(now + wait);
        self.wait = (wait * 2).min(self.pace.longest_wait);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fight_is_fought_slower_and_slower_and_is_forgotten_when_it_ends() {
        let mut backoff = Backoff::new(Pace::default());
        let mut now = Instant::now();
        for _ in 0..5 {
            assert_eq!(backoff.wrote(now), None);
        }
        let mut waits = Vec::new();
        for _ in 0..9 {
            let wait = backoff.wrote(now).expect("too often");
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        now += Duration::from_secs(61);
        assert_eq!(backoff.wrote(now), None);
        assert_eq!(backoff.until, None);
    }
}
