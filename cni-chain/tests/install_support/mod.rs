//! A node's folders, and a plugin that answers VERSION.

#![allow(dead_code, reason = "each test program uses a part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use cni_chain::install::{Installer, Settings, TYPE};

pub(crate) const CONFLIST: &str = include_str!("../install/flannel.conflist");

pub(crate) const ANSWERS: &str = "#!/bin/sh
test \"$CNI_COMMAND\" = VERSION || exit 1
echo '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}'
";

/// Plugins that are not ours, or do not work here.
pub(crate) const OTHER_ANSWERS: [(&str, &str); 5] = [
    ("fails", "#!/bin/sh\nexit 1\n"),
    ("nothing", "#!/bin/sh\n"),
    ("no-json", "#!/bin/sh\necho hello\n"),
    (
        "old",
        "#!/bin/sh\necho '{\"supportedVersions\":[\"0.2.0\",\"0.3.1\"]}'\n",
    ),
    ("no-interpreter", "#!/nowhere/ld.so\n"),
];

pub(crate) struct Node {
    root: PathBuf,
}

impl Node {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("install-{name}-{}-{number}", std::process::id());
        let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let node = Self { root };
        fs::create_dir_all(node.conf("")).unwrap();
        fs::create_dir_all(node.bin("")).unwrap();
        node.plugin(ANSWERS);
        node
    }

    pub(crate) fn conf(&self, name: &str) -> PathBuf {
        self.root.join("etc/cni/net.d").join(name)
    }

    pub(crate) fn bin(&self, name: &str) -> PathBuf {
        self.root.join("opt/cni/bin").join(name)
    }

    pub(crate) fn binary(&self) -> PathBuf {
        self.bin(TYPE)
    }

    pub(crate) fn plugin(&self, script: &str) {
        let path = self.root.join("plugin");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.conf(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.conf(name)).unwrap()
    }

    /// What is in the folder of configurations.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.conf("")).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            conf_dir: self.conf(""),
            bin_dir: self.bin(""),
            ..Settings::new(self.root.join("plugin"))
        }
    }

    pub(crate) fn installer(&self) -> Installer {
        self.installer_with(|_| {})
    }

    pub(crate) fn installer_with(&self, change: impl FnOnce(&mut Settings)) -> Installer {
        let mut settings = self.settings();
        change(&mut settings);
        Installer::new(settings).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// How often our entry is in a text.
pub(crate) fn ours(text: &str) -> usize {
    text.matches("\"picket-cni\"").count()
}
