//! Listing all anew: when folders or links change, when events were lost, and now and then in case that there are none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::file::Version;
use super::steps::steps;
use super::tree::{State, Tree, Why};
use super::view::File;
use super::watch::Detail;
use super::{QUIET, SETTLE};
use crate::source::{self, Listed};

/// Folders that appear while they are listed, one in another, are listed so often at once.
const MOST_ROUNDS: usize = 8;

impl Tree {
    /// Lists what is there now, and marks what is another than it was.
    pub(super) fn list(&mut self, why: Why, now: Instant) {
        self.relist = None;
        self.listed_at = Some(now);
        let mut listed = source::list_folder(&self.root);
        // What comes into a folder before it is watched is not told.
        for _ in 0..MOST_ROUNDS {
            if !self.watch_all(&listed) {
                break;
            }
            listed = source::list_folder(&self.root);
        }
        self.unlisted.clear();
        for problem in &listed.problems {
            let lines = self.unlisted.entry(problem.file.to_string()).or_default();
            lines.push_str(&format!("{problem}\n"));
        }
        let identity = fs::metadata(&self.root).ok();
        let identity = identity.map(|metadata| (metadata.dev(), metadata.ino()));
        self.was_lost |= self.identity.is_some() && identity != self.identity;
        if listed.failed.contains(&self.root) {
            return self.keep_all();
        }
        self.identity = identity;
        if self.was_lost && listed.files.is_empty() && !self.entries.is_empty() {
            let root = self.root.display();
            let message = format!(
                "{root}: is another folder than before, and empty: what was in the one before stays in force until there is a manifest in it\n"
            );
            self.unlisted.insert(root.to_string(), message);
            return self.keep_all();
        }
        self.was_lost = false;
        self.real_root = fs::canonicalize(&self.root).unwrap_or(self.real_root.clone());
        self.folders = listed.folders;
        self.by_real.clear();
        let mut there = BTreeSet::new();
        for (real, path) in listed.files {
            let file: File = path.into();
            self.found(&file, &real, why, now);
            there.insert(file);
        }
        let absent = self.entries.keys().filter(|file| {
            let below = |failed: &PathBuf| file.starts_with(failed);
            !there.contains(*file) && !listed.failed.iter().any(below)
        });
        let absent: Vec<File> = absent.cloned().collect();
        // What happens to a file that is not there, or cannot be listed, is told all the same.
        for (file, entry) in &self.entries {
            let real = self.by_real.entry(entry.real.clone());
            real.or_insert_with(|| file.clone());
        }
        for file in absent {
            self.vanish(&file);
        }
    }

    /// A file is there.
    fn found(&mut self, file: &File, real: &Path, why: Why, now: Instant) {
        let version = Version::of(file);
        let fresh = match version {
            Some(version) if version.is_older_than(SETTLE) => State::Due,
            _ => State::settling(file, now, SETTLE),
        };
        let is_linked = self.is_linked(file, real);
        let Some(entry) = self.entries.get_mut(file) else {
            // There is nothing of it that could be lost.
            return self.add(file, real, fresh);
        };
        entry.real = real.to_owned();
        entry.is_linked = is_linked;
        self.by_real.insert(real.to_owned(), file.clone());
        if !matches!(entry.state, State::Idle | State::Gone { .. }) {
            return;
        }
        entry.state = if entry.read == version {
            State::Idle
        } else {
            self.active.insert(file.clone());
            match why {
                Why::Changed => fresh,
                Why::Lost => State::settling(file, now, QUIET),
            }
        };
    }

    /// Nothing is known of the folder: its files are as they were.
    fn keep_all(&mut self) {
        for entry in self.entries.values_mut() {
            if entry.state != State::Idle {
                entry.state = State::Idle;
                // To be read again when the folder is back.
                entry.read = None;
            }
        }
        self.folders.clear();
        self.by_real.clear();
    }

    /// Watches the folders, and what leads to them and to what links point to. Whether one is watched that was not.
    fn watch_all(&mut self, listed: &Listed) -> bool {
        let absolute = std::path::absolute(&self.root).unwrap_or(self.root.clone());
        self.steps = steps(&absolute);
        let real_root = fs::canonicalize(&self.root).ok();
        let natural = |path: &Path| {
            let natural = path.strip_prefix(&self.root).ok()?;
            Some(real_root.as_ref()?.join(natural))
        };
        let mut folders: BTreeMap<PathBuf, Detail> = BTreeMap::new();
        for (real, path) in listed.files.iter().chain(&listed.folders) {
            if natural(path).as_ref() != Some(real) {
                let absolute = std::path::absolute(path).unwrap_or(path.clone());
                self.steps.extend(steps(&absolute));
                let parent = real.parent().map(Path::to_owned);
                folders.extend(parent.map(|parent| (parent, Detail::Contents)));
            }
        }
        let names = self.steps.iter().filter_map(|step| step.parent());
        for parent in names {
            folders.entry(parent.to_owned()).or_insert(Detail::Names);
        }
        for real in listed.folders.keys() {
            folders.insert(real.clone(), Detail::Contents);
        }
        let (any_new, failed) = self.watch.set(&folders);
        let failed = failed.into_iter().map(|(path, error)| {
            let path = path.display().to_string();
            let message = format!(
                "{path}: cannot be watched: {}: changes are seen late; are there enough of fs.inotify.max_user_watches?\n",
                error.desc()
            );
            (path, message)
        });
        self.unwatched = failed.collect();
        any_new
    }
}
