//! The names on the way to a path.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// As the kernel counts (MAXSYMLINKS of path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Every name that is looked up on the way to an absolute path, with the real path of the folder that it is in; of links
/// also those on the way to what they point to. What leads elsewhere, when one of them changes, is the path.
pub(super) fn steps(path: &Path) -> BTreeSet<PathBuf> {
    let mut steps = BTreeSet::new();
    let mut links = 0;
    let mut at = PathBuf::from("/");
    let mut left = reversed(path);
    while let Some(name) = left.pop() {
        if name == "/" {
            at = PathBuf::from("/");
        } else if name == ".." {
            at.pop();
        } else if name != "." {
            let next = at.join(&name);
            steps.insert(next.clone());
            match fs::read_link(&next) {
                Ok(target) if links < MOST_LINKS => {
                    links += 1;
                    left.extend(reversed(&target));
                }
                _ => at = next,
            }
        }
    }
    steps
}

fn reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().map(Component::as_os_str);
    names.rev().map(OsString::from).collect()
}
