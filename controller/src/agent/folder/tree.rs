//! Which files there are, and what is to be done about each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::inotify::AddWatchFlags as What;

use super::file::Version;
use super::view::File;
use super::watch::{Seen, Watch};
use super::{GONE_AT_MOST, QUIET, SETTLE};
use crate::source;

/// A file.
pub(super) struct Entry {
    /// Where it really is.
    pub(super) real: PathBuf,
    /// Whether there are links on the way from the folder to it.
    pub(super) is_linked: bool,
    /// What is to be done about it.
    pub(super) state: State,
    /// The version that was read last.
    pub(super) read: Option<Version>,
    /// Whether something was written since reading it began.
    pub(super) is_torn: bool,
    /// Whether it was good once.
    pub(super) is_good: bool,
    /// Why what was read last is not in force.
    pub(super) wrong: Option<String>,
}

/// What is to be done about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing.
    Idle,
    /// It is to be read.
    Due,
    /// It may be written to right now, and will be read when it stays the same until then.
    Settling {
        until: Instant,
        pause: Duration,
        version: Option<Version>,
    },
    /// It was written to, and who does has not closed it.
    Writing { since: Instant },
    /// It is not there.
    Gone { since: Instant },
}

impl State {
    pub(super) fn settling(path: &Path, now: Instant, pause: Duration) -> Self {
        State::Settling {
            until: now + pause,
            pause,
            version: Version::of(path),
        }
    }
}

/// Why to list all anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// A folder or a link changed.
    Changed,
    /// Something may have changed that nobody told of.
    Lost,
}

/// The files, as far as it is known.
pub(super) struct Tree {
    /// The folder, as it was given.
    pub(super) root: PathBuf,
    /// Where it really is.
    pub(super) real_root: PathBuf,
    /// Which folder was there, by device and inode.
    pub(super) identity: Option<(u64, u64)>,
    /// Whether the folder was gone or replaced since a file was seen in it.
    pub(super) was_lost: bool,
    pub(super) entries: BTreeMap<File, Entry>,
    pub(super) by_real: BTreeMap<PathBuf, File>,
    /// The folder and those in it: under its real path, the one by which it is found.
    pub(super) folders: BTreeMap<PathBuf, PathBuf>,
    /// Names that lead to the folder, and to what links in it point to.
    pub(super) steps: BTreeSet<PathBuf>,
    pub(super) watch: Watch,
    /// What cannot be listed, by its path.
    pub(super) unlisted: BTreeMap<String, String>,
    /// What cannot be watched, by its path.
    pub(super) unwatched: BTreeMap<String, String>,
    /// Files about which there is something to do or to say.
    pub(super) active: BTreeSet<File>,
    pub(super) relist: Option<Why>,
    pub(super) listed_at: Option<Instant>,
    last_event: Instant,
    /// The rename of which one half was seen, and whether the file was being written.
    renamed: Option<(u32, bool)>,
}

impl Tree {
    pub(super) fn new(root: PathBuf, now: Instant) -> Self {
        Self {
            real_root: root.clone(),
            root,
            identity: None,
            was_lost: false,
            entries: BTreeMap::new(),
            by_real: BTreeMap::new(),
            folders: BTreeMap::new(),
            steps: BTreeSet::new(),
            watch: Watch::default(),
            unlisted: BTreeMap::new(),
            unwatched: BTreeMap::new(),
            active: BTreeSet::new(),
            relist: Some(Why::Changed),
            listed_at: None,
            last_event: now,
            renamed: None,
        }
    }

    /// Takes in what happened since the last call. It counts as having happened now, after all of it: what is gone is
    /// believed to be on a later call, at a moment that is read before that call.
    pub(super) fn take_events(&mut self) {
        let events = self.watch.read();
        let now = Instant::now();
        for seen in events {
            match seen {
                Seen::Lost => {
                    self.relist = Some(Why::Lost);
                    self.lose_writers(now);
                }
                Seen::Folder(path) => {
                    self.was_lost |= path == self.real_root;
                    self.want(Why::Changed, now);
                }
                Seen::Name { path, what, rename } => self.name(&path, what, rename, now),
            }
        }
    }

    /// Who was writing may have closed its file meanwhile.
    fn lose_writers(&mut self, now: Instant) {
        for (file, entry) in &mut self.entries {
            if matches!(entry.state, State::Writing { .. }) {
                entry.state = State::settling(file, now, QUIET);
            }
        }
    }

    pub(super) fn want(&mut self, why: Why, now: Instant) {
        self.relist = self.relist.max(Some(why));
        self.last_event = now;
    }

    fn name(&mut self, path: &Path, what: What, rename: u32, now: Instant) {
        let names = What::IN_CREATE | What::IN_DELETE | What::IN_MOVED_FROM | What::IN_MOVED_TO;
        let parent = path.parent().and_then(|parent| self.folders.get(parent));
        let is_name = what.intersects(names);
        if is_name && self.steps.contains(path) {
            return self.want(Why::Changed, now);
        }
        if what.contains(What::IN_ISDIR) {
            if parent.is_some() {
                self.want(Why::Changed, now);
            }
            return;
        }
        if let Some(file) = self.by_real.get(path).cloned() {
            return self.happened(&file, what, rename, now);
        }
        let Some(parent) = parent else { return };
        let listed = parent.join(path.file_name().unwrap_or_default());
        if self.unlisted.contains_key(&*listed.to_string_lossy()) {
            return self.want(Why::Changed, now);
        }
        match fs::symlink_metadata(path) {
            Ok(kind) if kind.is_file() => {
                if source::lies_in_folder(path) {
                    self.appeared(path, listed, what, rename, now);
                }
            }
            Ok(_) if is_name => self.want(Why::Changed, now),
            Ok(_) | Err(_) => {}
        }
    }

    /// A file that was not known.
    fn appeared(&mut self, real: &Path, listed: PathBuf, what: What, rename: u32, now: Instant) {
        let file: File = listed.into();
        if self.is_linked(&file, real) || self.entries.contains_key(&file) {
            return self.want(Why::Changed, now);
        }
        self.add(&file, real, State::Idle);
        self.happened(&file, what, rename, now);
    }

    pub(super) fn is_linked(&self, file: &Path, real: &Path) -> bool {
        let natural = file.strip_prefix(&self.root);
        natural.map_or(true, |natural| self.real_root.join(natural) != real)
    }

    pub(super) fn add(&mut self, file: &File, real: &Path, state: State) {
        let entry = Entry {
            real: real.to_owned(),
            is_linked: self.is_linked(file, real),
            state,
            read: None,
            is_torn: false,
            is_good: false,
            wrong: None,
        };
        self.by_real.insert(real.to_owned(), file.clone());
        self.entries.insert(file.clone(), entry);
        self.active.insert(file.clone());
    }

    fn happened(&mut self, file: &File, what: What, rename: u32, now: Instant) {
        let Some(entry) = self.entries.get_mut(file) else {
            return;
        };
        self.last_event = now;
        self.active.insert(file.clone());
        let is_written = matches!(entry.state, State::Writing { .. });
        if what.contains(What::IN_MODIFY) {
            entry.is_torn = true;
            if !is_written {
                entry.state = State::Writing { since: now };
            }
        } else if what.contains(What::IN_CLOSE_WRITE) {
            entry.state = State::Due;
        } else if what.contains(What::IN_MOVED_TO) {
            entry.state = match self.renamed.take() {
                Some((other, true)) if other == rename => State::Writing { since: now },
                _ => State::Due,
            };
        } else if what.contains(What::IN_CREATE) {
            // Who creates a file opens it; a second link to a complete file looks the same.
            entry.is_torn = true;
            entry.state = State::settling(file, now, SETTLE);
        } else if what.intersects(What::IN_DELETE | What::IN_MOVED_FROM) {
            self.renamed = Some((rename, is_written)).filter(|_| rename != 0);
            if entry.is_linked {
                self.want(Why::Changed, now);
            } else {
                self.vanish(file);
            }
        } else if entry.wrong.is_some() && entry.state == State::Idle {
            // It may be readable now.
            entry.state = State::Due;
        }
    }

    pub(super) fn vanish(&mut self, file: &File) {
        if let Some(entry) = self.entries.get_mut(file) {
            if !matches!(entry.state, State::Gone { .. }) {
                entry.state = State::Gone {
                    since: Instant::now(),
                };
            }
            self.active.insert(file.clone());
        }
    }

    /// Files that stayed the same for long enough are due.
    pub(super) fn settle(&mut self, now: Instant) {
        let mut vanished = Vec::new();
        for file in &self.active {
            let Some(entry) = self.entries.get_mut(file) else {
                continue;
            };
            if let State::Settling {
                until,
                pause,
                version,
            } = entry.state
                && until <= now
            {
                match Version::of(file) {
                    None => vanished.push(file.clone()),
                    now if now == version => entry.state = State::Due,
                    _ => entry.state = State::settling(file, now, pause),
                }
            }
        }
        for file in vanished {
            self.vanish(&file);
        }
    }

    /// The files to read, in byte order. They count as read from now on.
    pub(super) fn take_due(&mut self) -> Vec<File> {
        let mut due = Vec::new();
        for file in &self.active {
            if let Some(entry) = self.entries.get_mut(file)
                && entry.state == State::Due
            {
                entry.state = State::Idle;
                entry.is_torn = false;
                due.push(file.clone());
            }
        }
        due.sort_by(|a, b| {
            let bytes = |file: &File| file.as_os_str().as_encoded_bytes().to_vec();
            bytes(a).cmp(&bytes(b))
        });
        due
    }

    /// When a file that is gone is given up.
    fn gone_due(&self, since: Instant) -> Instant {
        (self.last_event.max(since) + SETTLE).min(since + GONE_AT_MOST)
    }

    /// The files that are gone for good.
    pub(super) fn take_gone(&mut self, now: Instant) -> Vec<File> {
        // What is about to be read may be the same under another name.
        let is_open = |entry: &Entry| match entry.state {
            State::Due | State::Settling { .. } => true,
            State::Writing { .. } => !entry.is_good,
            State::Idle | State::Gone { .. } => false,
        };
        let mut active = self.active.iter().filter_map(|file| self.entries.get(file));
        let is_open = self.relist.is_some() || active.any(is_open);
        let is_over = |since| match is_open {
            true => since + GONE_AT_MOST <= now,
            false => self.gone_due(since) <= now,
        };
        let is_gone = |file: &&File| match self.entries.get(*file).map(|entry| entry.state) {
            Some(State::Gone { since }) => is_over(since),
            _ => false,
        };
        let gone: Vec<File> = self.active.iter().filter(is_gone).cloned().collect();
        for file in &gone {
            self.active.remove(file);
            if let Some(entry) = self.entries.remove(file)
                && self.by_real.get(&entry.real) == Some(file)
            {
                self.by_real.remove(&entry.real);
            }
        }
        gone
    }

    /// When something has to be done though nothing happens.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let states = self.active.iter().filter_map(|file| self.entries.get(file));
        let states = states.filter_map(|entry| match entry.state {
            State::Settling { until, .. } => Some(until),
            State::Writing { since } => Some(since + QUIET).filter(|told| *told > now),
            State::Due => Some(now),
            // Waiting for what is about to be read ends by itself.
            State::Gone { since } => Some(self.gone_due(since).max(now + SETTLE / 10)),
            State::Idle => None,
        });
        states.min()
    }

    /// Forgets about files about which there is nothing more to do or to say.
    pub(super) fn rest(&mut self) {
        let entries = &self.entries;
        self.active.retain(|file| {
            let entry = entries.get(file);
            entry.is_some_and(|entry| entry.state != State::Idle || entry.wrong.is_some())
        });
    }
}
