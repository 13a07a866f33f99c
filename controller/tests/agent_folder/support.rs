//! A folder, who watches it, and what was told.

#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use controller::agent::folder::{Folder, Settings};
use controller::agent::source::{Change, Event, Problem, Source};
use policy_compiler::index::Object;
use tokio::runtime::Runtime;

/// Nothing takes so long, also on a busy machine; and less than the pause until a folder is listed in any case.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Watched {
    base: PathBuf,
    folder: Folder,
    runtime: Runtime,
    /// What there is now, by name.
    pub(crate) objects: BTreeMap<String, Object>,
    pub(crate) problems: BTreeMap<String, Problem>,
    /// Each event of changes.
    pub(crate) changes: Vec<Vec<Change>>,
    pub(crate) resets: usize,
    syncs: usize,
    is_second: bool,
}

impl Watched {
    /// A folder with these files before it is watched.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let base = base();
        fs::create_dir(base.join("m")).unwrap();
        for (name, text) in files {
            write(&base.join("m").join(name), text);
        }
        Self::watch(base, lax())
    }

    /// An empty folder, as the agent watches it if nobody says otherwise.
    pub(crate) fn strict() -> Self {
        let base = base();
        fs::create_dir(base.join("m")).unwrap();
        Self::watch(base, Settings::default())
    }

    pub(crate) fn without_folder() -> Self {
        Self::watch(base(), lax())
    }

    pub(crate) fn rescanning(rescan: Duration) -> Self {
        let base = base();
        fs::create_dir(base.join("m")).unwrap();
        let settings = Settings { rescan, ..lax() };
        Self::watch(base, settings)
    }

    /// Watches the same folder from the start; what is in it is gone with the first.
    pub(crate) fn again(&self) -> Self {
        let mut again = Self::watch(self.base.clone(), lax());
        again.is_second = true;
        again
    }

    fn watch(base: PathBuf, settings: Settings) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread();
        Self {
            folder: Folder::watch(&base.join("m"), settings).unwrap(),
            base,
            runtime: { runtime }.enable_time().build().unwrap(),
            objects: BTreeMap::new(),
            problems: BTreeMap::new(),
            changes: Vec::new(),
            resets: 0,
            syncs: 0,
            is_second: false,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            self.base.join("m")
        } else {
            self.base.join("m").join(name)
        }
    }

    /// A path beside the folder.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        write(&self.path(name), text);
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub(crate) fn create_folder(&self, name: &str) {
        fs::create_dir(self.path(name)).unwrap();
    }

    /// Takes the next event.
    pub(crate) fn next(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let folder = &mut self.folder;
        let event = self
            .runtime
            .block_on(async { tokio::time::timeout(left, folder.next()).await });
        match event {
            Err(_) => return false,
            Ok(Event::Reset(objects)) => {
                self.resets += 1;
                let named = objects
                    .into_iter()
                    .map(|object| (object.id().to_string(), object));
                self.objects = named.collect();
            }
            Ok(Event::Changes(changes)) => {
                assert!(self.resets > 0, "changes come after a reset");
                for change in &changes {
                    match change {
                        Change::Apply(object) => {
                            let before =
                                self.objects.insert(object.id().to_string(), object.clone());
                            assert_ne!(before.as_ref(), Some(object), "only changes are told");
                        }
                        Change::Delete(id) => {
                            assert!(
                                self.objects.remove(&id.to_string()).is_some(),
                                "{id} is gone twice"
                            );
                        }
                    }
                }
                self.changes.push(changes);
            }
            Ok(Event::Problems(problems)) => {
                assert_ne!(self.problems, problems, "only changes are told");
                self.problems = problems;
            }
        }
        true
    }

    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_so(self) {
            assert!(
                self.next(deadline),
                "{what} did not come; there are {:?}, and {:#?}",
                self.ids(),
                self.problems
            );
        }
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        let ids = self
            .objects
            .keys()
            .filter(|id| !id.starts_with("Namespace sync-"));
        ids.cloned().collect()
    }

    #[track_caller]
    pub(crate) fn until_ids(&mut self, ids: &[&str]) {
        self.until(&format!("{ids:?}"), |watched| {
            watched.resets > 0 && watched.ids() == ids
        });
    }

    #[track_caller]
    pub(crate) fn assert_ids(&self, ids: &[&str]) {
        assert_eq!(self.ids(), ids);
    }

    /// What is wrong with a file.
    pub(crate) fn problem(&self, name: &str) -> Option<&Problem> {
        self.problems.get(self.path(name).to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn until_problem(&mut self, name: &str, said: &str) {
        self.until(&format!("{name}: {said}"), |watched| {
            let problem = watched.problem(name);
            problem.is_some_and(|problem| problem.message.contains(said))
        });
    }

    #[track_caller]
    pub(crate) fn until_well(&mut self) {
        self.until("no problem", |watched| watched.problems.is_empty());
    }

    /// An object in words.
    pub(crate) fn text(&self, id: &str) -> String {
        self.objects
            .get(id)
            .map(|object| format!("{object:?}"))
            .unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn assert_never_deleted(&self, id: &str) {
        let is_it =
            |change: &Change| matches!(change, Change::Delete(gone) if gone.to_string() == id);
        let at = self
            .changes
            .iter()
            .position(|event| event.iter().any(is_it));
        if let Some(at) = at {
            let around = &self.changes[at.saturating_sub(1)..self.changes.len().min(at + 2)];
            panic!("{id} was deleted: {around:#?}");
        }
    }

    /// Waits until what happened before is dealt with, files that are gone included: another file came and went since.
    #[track_caller]
    pub(crate) fn sync(&mut self) {
        self.syncs += 1;
        let (file, name) = (
            format!("sync{}.yaml", self.syncs),
            format!("sync-{}", self.syncs),
        );
        let changes = self.changes.len();
        self.write(&file, &namespace(&name));
        let id = format!("Namespace {name}");
        self.until(&id, |watched| watched.objects.contains_key(&id));
        self.remove(&file);
        self.until("the end of it", |watched| {
            !watched.objects.contains_key(&id)
        });
        let is_sync = |change: &Change| match change {
            Change::Apply(object) => object.id().to_string() == id,
            Change::Delete(gone) => gone.to_string() == id,
        };
        for event in &mut self.changes[changes..] {
            event.retain(|change| !is_sync(change));
        }
        self.changes.retain(|event| !event.is_empty());
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.is_second {
            let _ = fs::remove_dir_all(&self.base);
        }
    }
}

fn lax() -> Settings {
    Settings {
        allow_empty: true,
        ..Settings::default()
    }
}

fn base() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("picket-folder-{}-{count}", std::process::id());
    let base = std::env::temp_dir().join(name);
    fs::create_dir(&base).unwrap();
    base
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub(crate) fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

pub(crate) fn policy(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{namespace: {namespace}, name: {name}}}\nspec:\n  podSelector: {{}}\n"
    )
}

pub(crate) fn pod(namespace: &str, name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: {namespace}, name: {name}}}\nspec: {{nodeName: n1, containers: [{{name: c}}]}}\nstatus: {{phase: Running, podIP: \"{address}\"}}\n"
    )
}
