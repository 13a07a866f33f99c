//! Where runtimes put containers' processes. Cgroups outlive processes and namespaces, so that they are removed, also
//! those of a run that was killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A cgroup with this name and a process' id is of that process' tests.
const PREFIX: &str = "picket-runtimes-";

/// How long the kernel may take to let go of a cgroup whose processes have ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// The parent of containers' cgroups, in every hierarchy. Removed when dropped; all processes have to have ended.
#[derive(Debug)]
pub(crate) struct Cgroup {
    name: String,
}

impl Cgroup {
    /// A name of which there is nothing yet. Removes what processes left that have ended.
    pub(crate) fn new() -> Cgroup {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        for cgroup in cgroups().filter(|cgroup| is_left_over(cgroup)) {
            remove(&cgroup);
        }
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        Cgroup {
            name: format!("{PREFIX}{}-{next}", std::process::id()),
        }
    }

    /// As runtimes want it.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.name)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let own = |cgroup: &PathBuf| cgroup.file_name().is_some_and(|name| *name == *self.name);
        loop {
            let left: Vec<_> = cgroups()
                .filter(own)
                .filter(|cgroup| !remove(cgroup))
                .collect();
            if left.is_empty() || Instant::now() > deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Those of this crate, in the unified hierarchy or in each of the old ones.
fn cgroups() -> impl Iterator<Item = PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let roots = folders(root).chain([root.to_owned()]);
    let ours = |cgroup: &PathBuf| owner(cgroup).is_some();
    roots.flat_map(|root| folders(&root)).filter(ours)
}

/// The process whose tests have this cgroup.
fn owner(cgroup: &Path) -> Option<u32> {
    let name = cgroup.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    name.split('-').next()?.parse().ok()
}

fn is_left_over(cgroup: &Path) -> bool {
    owner(cgroup).is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists())
}

/// Removes a cgroup with those below it. Says whether it is gone.
fn remove(cgroup: &Path) -> bool {
    folders(cgroup).for_each(|below| {
        remove(&below);
    });
    fs::remove_dir(cgroup).is_ok() || !cgroup.exists()
}

fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    // Not the links from one controller to the hierarchy that it is in.
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path())
}
