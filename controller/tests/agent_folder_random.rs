//! Random things done to a watched folder: at quiet it says what is in its files, and what was there all the time was
//! never gone.
//!
//! `PICKET_FOLDER_CASES` says how many runs are tried.

#![allow(clippy::unwrap_used)]

#[path = "agent_folder/support.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use controller::agent::folder::SETTLE;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use support::{Watched, pod};

const CASES: u32 = 24;
/// Manifests that are in one file, wherever it is. The first group is always there and holds `x/keep`.
const GROUPS: usize = 3;
const NAMES: [&str; 6] = [
    "a.yaml",
    "b.yml",
    "c.json.yaml",
    "sub/d.yaml",
    "sub/deep/e.yaml",
    "f.yaml",
];

#[derive(Clone, Debug)]
enum Step {
    /// Truncate, write and close.
    Write(usize, BTreeSet<u8>),
    /// Write another file and rename it.
    Replace(usize, BTreeSet<u8>),
    /// Truncate and write half. Who does so writes the other half before anything else is done to the file, as half a
    /// file that is closed is a file.
    Begin(usize, BTreeSet<u8>),
    /// Write the other half and close.
    End(usize),
    Empty(usize),
    Garbage(usize),
    Delete(usize),
    /// Delete, create, write half, the rest, and close.
    Anew(usize, BTreeSet<u8>),
    Rename(usize, usize),
    /// Copy to another name and delete the first.
    Copy(usize, usize),
    /// The folder `sub` gets another name, and its own back.
    Folder,
    /// Take what is told for so many milliseconds.
    Listen(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let group = || 0..GROUPS;
    let objects = || btree_set(0..4u8, 1..=3);
    let name = || 0..NAMES.len();
    prop_oneof![
        4 => (group(), objects()).prop_map(|(group, objects)| Step::Write(group, objects)),
        4 => (group(), objects()).prop_map(|(group, objects)| Step::Replace(group, objects)),
        3 => (group(), objects()).prop_map(|(group, objects)| Step::Begin(group, objects)),
        3 => group().prop_map(Step::End),
        1 => group().prop_map(Step::Empty),
        1 => group().prop_map(Step::Garbage),
        2 => group().prop_map(Step::Delete),
        2 => (group(), objects()).prop_map(|(group, objects)| Step::Anew(group, objects)),
        3 => (group(), name()).prop_map(|(group, name)| Step::Rename(group, name)),
        3 => (group(), name()).prop_map(|(group, name)| Step::Copy(group, name)),
        1 => Just(Step::Folder),
        4 => (0..120u64).prop_map(Step::Listen),
    ]
}

/// What is in the file of a group.
#[derive(Default)]
struct Group {
    /// Which of the names it has, if it exists.
    name: Option<usize>,
    /// Its objects and the last byte of their addresses.
    objects: BTreeMap<String, u8>,
    is_good: bool,
    /// Somebody who has written a part, and the rest.
    writer: Option<(File, String)>,
}

struct Run {
    watched: Watched,
    /// Names from which something was moved, until that was dealt with: who writes there before cannot expect that the
    /// move is seen as one.
    left: BTreeSet<usize>,
    groups: Vec<Group>,
    version: u8,
    /// Whether the first group was away for so long, on a machine that is busy elsewhere, that it may count as gone.
    was_away: bool,
}

impl Run {
    fn text(&mut self, group: usize, objects: &BTreeSet<u8>) -> String {
        self.version = self.version % 250 + 1;
        let mut names: Vec<_> = objects.iter().map(|n| format!("g{group}-{n}")).collect();
        // At the end, where half of a file does not have it.
        names.extend((group == 0).then(|| "keep".to_owned()));
        let address = format!("10.0.0.{}", self.version);
        let all = names.iter().map(|name| pod("x", name, &address));
        let text = all.collect::<Vec<_>>().join("---\n");
        self.groups[group].objects = names.into_iter().map(|name| (name, self.version)).collect();
        self.groups[group].is_good = true;
        text
    }

    /// The file of a group; one that is not there is where it was or at the first name that is free.
    fn path(&mut self, group: usize) -> std::path::PathBuf {
        let name = self.groups[group]
            .name
            .or_else(|| (0..NAMES.len()).find(|name| self.is_free(*name)));
        self.groups[group].name = name;
        let path = self.watched.path(NAMES[name.unwrap()]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn is_free(&self, name: usize) -> bool {
        !self.left.contains(&name) && self.groups.iter().all(|group| group.name != Some(name))
    }

    /// The group's file, and the path of another name, if it can go there without anything being lost.
    fn move_to(
        &mut self,
        group: usize,
        name: usize,
    ) -> Option<(std::path::PathBuf, std::path::PathBuf)> {
        let state = &self.groups[group];
        if !(state.is_good && state.writer.is_none() && state.name.is_some() && self.is_free(name))
        {
            return None;
        }
        let from = self.path(group);
        self.left.extend(self.groups[group].name);
        self.groups[group].name = Some(name);
        Some((from, self.path(group)))
    }

    /// Does what takes a file of a group away and brings it back.
    fn away(&mut self, group: usize, back: impl FnOnce()) {
        let since = Instant::now();
        back();
        self.was_away |= group == 0 && since.elapsed() >= SETTLE;
    }

    fn sync(&mut self) {
        if !self.left.is_empty() {
            self.watched.sync();
            self.left.clear();
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            // What was moved is read before it is broken.
            Step::Begin(..) | Step::Empty(_) | Step::Garbage(_) | Step::Anew(..) => self.sync(),
            _ if (0..NAMES.len()).all(|name| !self.is_free(name)) => self.sync(),
            _ => {}
        }
        match step {
            Step::Write(group, objects) => {
                self.step(&Step::End(*group));
                let text = self.text(*group, objects);
                fs::write(self.path(*group), text).unwrap();
            }
            Step::Replace(group, objects) => {
                self.step(&Step::End(*group));
                let (text, path) = (self.text(*group, objects), self.path(*group));
                fs::write(path.with_extension("new"), text).unwrap();
                fs::rename(path.with_extension("new"), path).unwrap();
            }
            Step::Begin(group, objects) => {
                self.step(&Step::End(*group));
                let text = self.text(*group, objects);
                let cut = text.rfind("---").unwrap_or(text.len() / 2);
                let mut file = File::create(self.path(*group)).unwrap();
                file.write_all(&text.as_bytes()[..cut]).unwrap();
                self.groups[*group].is_good = false;
                self.groups[*group].writer = Some((file, text[cut..].to_owned()));
            }
            Step::End(group) => {
                if let Some((mut file, rest)) = self.groups[*group].writer.take() {
                    file.write_all(rest.as_bytes()).unwrap();
                    self.groups[*group].is_good = true;
                }
            }
            Step::Empty(group) | Step::Garbage(group) => {
                self.step(&Step::End(*group));
                self.groups[*group].is_good = false;
                let text = if matches!(step, Step::Empty(_)) {
                    ""
                } else {
                    "kind: ["
                };
                fs::write(self.path(*group), text).unwrap();
            }
            Step::Delete(group) => {
                if *group > 0 && self.groups[*group].name.is_some() {
                    fs::remove_file(self.path(*group)).unwrap();
                    self.groups[*group] = Group::default();
                }
            }
            Step::Anew(group, objects) => {
                let path = self.path(*group);
                self.step(&Step::End(*group));
                let text = self.text(*group, objects);
                self.away(*group, || {
                    let _ = fs::remove_file(&path);
                    let mut file = File::create(path).unwrap();
                    let (first, second) = text.as_bytes().split_at(text.len() / 2);
                    file.write_all(first).unwrap();
                    file.write_all(second).unwrap();
                });
            }
            Step::Rename(group, name) => {
                if let Some((from, to)) = self.move_to(*group, *name) {
                    fs::rename(from, to).unwrap();
                }
            }
            Step::Copy(group, name) => {
                if let Some((from, to)) = self.move_to(*group, *name) {
                    fs::copy(&from, to).unwrap();
                    fs::remove_file(from).unwrap();
                }
            }
            Step::Folder => {
                let (sub, other) = (self.watched.path("sub"), self.watched.path("other"));
                if sub.exists()
                    && self
                        .groups
                        .iter()
                        .all(|group| group.is_good && group.writer.is_none())
                {
                    self.away(0, || {
                        fs::rename(&sub, &other).unwrap();
                        fs::rename(other, sub).unwrap();
                    });
                }
            }
            Step::Listen(milliseconds) => {
                let deadline = Instant::now() + Duration::from_millis(*milliseconds);
                while self.watched.next(deadline) {}
            }
        }
    }
}

/// The pods and the last bytes of their addresses.
fn told(watched: &Watched) -> BTreeMap<String, u8> {
    let pods = watched.objects.values().filter_map(|object| match object {
        policy_compiler::index::Object::Pod(pod) => Some(pod),
        _ => None,
    });
    let last = |address: &std::net::IpAddr| {
        address
            .to_string()
            .rsplit('.')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    pods.map(|pod| {
        (
            pod.id.name.clone(),
            pod.addresses.first().map(last).unwrap(),
        )
    })
    .collect()
}

fn run(steps: &[Step]) {
    let mut run = Run {
        watched: Watched::with(&[]),
        left: BTreeSet::new(),
        groups: (0..GROUPS).map(|_| Group::default()).collect(),
        version: 0,
        was_away: false,
    };
    run.step(&Step::Write(0, BTreeSet::from([0])));
    run.watched.until("the first pods", |watched| {
        watched.objects.contains_key("Pod x/keep")
    });
    for step in steps {
        run.step(step);
    }
    // Everything is good in the end.
    for group in 0..GROUPS {
        run.step(&Step::End(group));
        if run.groups[group].name.is_some() && !run.groups[group].is_good {
            run.step(&Step::Write(group, BTreeSet::from([1, 2])));
        }
    }
    let objects = run.groups.iter().flat_map(|group| group.objects.clone());
    let expected: BTreeMap<_, _> = objects.collect();
    let watched = &mut run.watched;
    watched.until(&format!("{expected:?} at quiet"), |watched| {
        told(watched) == expected && watched.problems.is_empty()
    });
    watched.sync();
    assert_eq!(told(watched), expected);
    if !run.was_away {
        watched.assert_never_deleted("Pod x/keep");
    }
    assert_eq!(watched.resets, 1);
    let mut fresh = watched.again();
    fresh.until("a reset", |fresh| fresh.resets == 1);
    assert_eq!(fresh.objects, watched.objects);
}

#[test]
fn at_quiet_the_folder_is_told_as_it_is_and_what_was_always_there_was_never_gone() {
    let cases = std::env::var("PICKET_FOLDER_CASES");
    let config = ProptestConfig {
        cases: cases.map_or(CASES, |cases| cases.parse().expect("a number")),
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&vec(step(), 1..60), |steps| {
        run(&steps);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, steps)) => panic!("{reason}\nsteps: {steps:?}"),
        Err(error) => panic!("{error}"),
    }
}
