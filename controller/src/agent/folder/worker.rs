//! The thread that owns the folder: waits, reads, and tells.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc::Sender;

use super::super::source::{Event, Problem};
use super::file::{self, Content, Version};
use super::tree::{Entry, State, Tree, Why};
use super::view::{File, View};
use super::watch::Watch;
use super::{QUIET, RETRY, Settings};

/// What the thread owns.
pub(super) struct Worker {
    tree: Tree,
    view: View,
    settings: Settings,
    /// Whether a complete state was told.
    is_complete: bool,
    /// Whether there was nothing in it when it could have been told.
    is_empty: bool,
    problems: BTreeMap<String, Problem>,
    events: Sender<Event>,
    /// Its other end is closed when nobody wants to know any more.
    stop: UnixStream,
}

/// Nobody wants to know any more.
struct Stopped;

impl Worker {
    pub(super) fn new(
        root: PathBuf,
        settings: Settings,
        events: Sender<Event>,
        stop: UnixStream,
    ) -> Self {
        Self {
            tree: Tree::new(root, Instant::now()),
            view: View::default(),
            settings,
            is_complete: false,
            is_empty: false,
            problems: BTreeMap::new(),
            events,
            stop,
        }
    }

    pub(super) fn run(mut self) {
        match Watch::new() {
            Ok(watch) => self.tree.watch = watch,
            Err(error) => tracing::warn!(
                "inotify is not to be had, changes are seen only every {:?}: {}: raise fs.inotify.max_user_instances",
                self.settings.rescan,
                error.desc()
            ),
        }
        while self.turn().is_ok() && self.wait() {}
    }

    fn turn(&mut self) -> Result<(), Stopped> {
        let now = Instant::now();
        self.tree.take_events();
        if self.tree.relist.is_none() && self.next_list().is_some_and(|next| next <= now) {
            self.tree.relist = Some(Why::Lost);
        }
        if let Some(why) = self.tree.relist {
            self.tree.list(why, now);
            self.tree.take_events();
        }
        self.tree.settle(now);
        self.read(now);
        // What is gone may have come back meanwhile, or be somewhere else.
        let now = Instant::now();
        self.tree.take_events();
        self.leave();
        for file in self.tree.take_gone(now) {
            self.view.remove(&file);
        }
        self.tell()?;
        self.tree.rest();
        Ok(())
    }

    /// Reads what is due. What somebody wrote to while it was read is not believed.
    fn read(&mut self, now: Instant) {
        let due = self.tree.take_due();
        let read = due.into_iter().map(|file| {
            let version = Version::of(&file);
            let content = file::read(&file, self.settings.options);
            let is_same = Version::of(&file) == version;
            (file, version, content, is_same)
        });
        let read: Vec<_> = read.collect();
        if !read.is_empty() {
            self.tree.take_events();
        }
        for (file, version, content, is_same) in read {
            let Some(entry) = self.tree.entries.get_mut(&file) else {
                continue;
            };
            if entry.is_torn || matches!(entry.state, State::Gone { .. }) {
                continue;
            }
            // Where nobody tells of writes, as on network file systems.
            if !is_same && entry.state == State::Idle {
                entry.state = State::settling(&file, now, QUIET);
                continue;
            }
            entry.read = version;
            match content {
                Content::Good(objects) => {
                    entry.is_good = true;
                    entry.wrong = None;
                    self.view.put(&file, objects);
                }
                Content::Empty => entry.wrong = Some(empty(&file)),
                Content::Broken(message) => entry.wrong = Some(message),
                Content::Gone if entry.is_linked => self.tree.want(Why::Changed, now),
                Content::Gone => self.tree.vanish(&file),
            }
        }
    }

    /// Tells the view which files are gone, and which are there again.
    fn leave(&mut self) {
        for file in &self.tree.active {
            if let Some(entry) = self.tree.entries.get(file) {
                self.view
                    .leave(file, matches!(entry.state, State::Gone { .. }));
            }
        }
    }

    fn tell(&mut self) -> Result<(), Stopped> {
        if self.is_complete {
            let changes = self.view.changes();
            if !changes.is_empty() {
                self.send(Event::Changes(changes))?;
            }
        } else if self.can_complete() {
            self.view.changes();
            let objects = self.view.objects();
            self.is_empty = objects.is_empty() && !self.settings.allow_empty;
            if !self.is_empty {
                self.is_complete = true;
                self.send(Event::Reset(objects))?;
            }
        } else {
            self.is_empty = false;
        }
        let problems = self.all_problems();
        if problems != self.problems {
            self.problems.clone_from(&problems);
            self.send(Event::Problems(problems))?;
        }
        Ok(())
    }

    /// Whether everything in the folder was read and is good.
    fn can_complete(&self) -> bool {
        let is_done = |entry: &Entry| {
            entry.is_good && !matches!(entry.state, State::Gone { .. } | State::Due)
        };
        self.tree.relist.is_none()
            && self.tree.unlisted.is_empty()
            && self.tree.entries.values().all(is_done)
    }

    fn all_problems(&self) -> BTreeMap<String, Problem> {
        let now = Instant::now();
        let mut lines: BTreeMap<String, String> = self.tree.unwatched.clone();
        let mut blocks = self.tree.unlisted.clone();
        if self.is_empty {
            let root = self.tree.root.display();
            blocks.insert(root.to_string(), format!(
                "{root}: the folder has no manifests: nothing is applied before there are: put a file there, or start with --allow-empty"
            ));
        }
        for (file, problem) in self.view.duplicates() {
            let all = lines.entry(file.to_string_lossy().into()).or_default();
            all.push_str(&format!("{problem}\n"));
        }
        let active = self.tree.active.iter();
        for (file, entry) in active.filter_map(|file| Some((file, self.tree.entries.get(file)?))) {
            let name = file.to_string_lossy();
            let mut wrong = entry.wrong.iter().cloned().collect::<Vec<_>>();
            if matches!(entry.state, State::Writing { since } if since + QUIET <= now) {
                wrong.push(format!(
                    "{name}: is being written: it counts when it is closed; better write another file and rename it"
                ));
            }
            if wrong.is_empty() || matches!(entry.state, State::Gone { .. }) {
                continue;
            }
            wrong.push(if entry.is_good {
                format!("{name}: until then what it had before stays in force")
            } else if self.is_complete {
                format!("{name}: until then nothing of it is in force")
            } else {
                format!("{name}: until then nothing of the folder is applied, as it is not known what was in this file")
            });
            let all = if entry.is_good {
                &mut lines
            } else {
                &mut blocks
            };
            let all = all.entry(name.into()).or_default();
            all.push_str(&wrong.join("\n"));
        }
        let lines = lines.into_iter().map(|(name, lines)| (name, lines, false));
        let blocks = blocks
            .into_iter()
            .map(|(name, lines)| (name, lines, !self.is_complete));
        let mut problems: BTreeMap<String, Problem> = BTreeMap::new();
        for (name, lines, blocks) in lines.chain(blocks) {
            let problem = problems.entry(name).or_insert(Problem {
                message: String::new(),
                blocks: false,
            });
            problem.blocks |= blocks;
            if !problem.message.is_empty() {
                problem.message.push('\n');
            }
            problem.message.push_str(lines.trim_end());
        }
        problems
    }

    fn send(&self, event: Event) -> Result<(), Stopped> {
        self.events.blocking_send(event).map_err(|_| Stopped)
    }

    /// When the folder is listed in case that something was missed.
    fn next_list(&self) -> Option<Instant> {
        let pause = if self.tree.unlisted.is_empty() {
            self.settings.rescan
        } else {
            self.settings.rescan.min(RETRY)
        };
        self.tree.listed_at?.checked_add(pause)
    }

    /// Waits until something happens or is to be done; whether there is somebody who wants to know.
    fn wait(&self) -> bool {
        let now = Instant::now();
        let until = self
            .tree
            .deadline(now)
            .into_iter()
            .chain(self.next_list())
            .min();
        let mut pause = until.map_or(RETRY, |until| until.saturating_duration_since(now));
        if self.tree.relist.is_some() {
            pause = Duration::ZERO;
        }
        // Rounded up: what is due in less than a millisecond is not due yet.
        let pause = pause.as_nanos().div_ceil(1_000_000);
        let pause = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
        let mut waiting = vec![PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        let inotify = self.tree.watch.fd();
        waiting.extend(inotify.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        // Interrupted is as good as woken.
        let _ = poll(&mut waiting, pause);
        let stop = waiting.first().and_then(PollFd::revents);
        stop.is_none_or(|events| events.is_empty())
    }
}

fn empty(file: &File) -> String {
    format!(
        "{}: is empty, as while it is written: write manifests to it, or delete it so that its objects go",
        file.display()
    )
}
