//! A run that ends at any step leaves each file whole, and the next run finishes the work.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::files::{Attributes, Disk, Files};
use super::{Error, Installer, Settings};

const LIST: &str = include_str!("../../tests/install/flannel.conflist");
const SINGLE: &str = include_str!("../../tests/install/bridge.conf");
const ANSWERS: &str = "#!/bin/sh
echo '{\"supportedVersions\":[\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}'
";

/// Does so many steps, and then nothing any more, as after a kill.
struct Dying {
    left: Cell<usize>,
}

impl Dying {
    fn step(&self) -> io::Result<()> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(io::Error::other("killed")),
        }
    }
}

impl Files for Dying {
    fn create(&self, path: &Path, content: &[u8], attributes: &Attributes) -> io::Result<()> {
        self.step()?;
        // Half of it is there for a step.
        Disk.create(path, &content[..content.len() / 2], attributes)?;
        self.step()?;
        fs::remove_file(path)?;
        Disk.create(path, content, attributes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        Disk.rename(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.step()?;
        Disk.exchange(one, other)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Disk.remove(path)
    }

    fn sync(&self, folder: &Path) -> io::Result<()> {
        self.step()?;
        Disk.sync(folder)
    }
}

/// Can not write to the folder of plugins, nor exchange names.
struct Poor;

impl Files for Poor {
    fn create(&self, path: &Path, content: &[u8], attributes: &Attributes) -> io::Result<()> {
        if path.parent().is_some_and(|folder| folder.ends_with("bin")) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Disk.create(path, content, attributes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn exchange(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(rustix::io::Errno::INVAL.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }

    fn sync(&self, folder: &Path) -> io::Result<()> {
        Disk.sync(folder)
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("picket-install-{}-{number}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        for name in ["conf", "bin"] {
            fs::create_dir_all(folder.0.join(name)).unwrap();
        }
        let plugin = folder.0.join("plugin");
        fs::write(&plugin, ANSWERS).unwrap();
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    fn installer(&self, files: impl Files + 'static) -> Installer {
        let settings = Settings {
            conf_dir: self.0.join("conf"),
            bin_dir: self.0.join("bin"),
            ..Settings::new(self.0.join("plugin"))
        };
        Installer::with(settings, Box::new(files))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join("conf").join(name), text).unwrap();
    }

    fn content(&self) -> BTreeMap<String, String> {
        let entries = fs::read_dir(self.0.join("conf")).unwrap();
        let read = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        };
        entries.map(read).collect()
    }

    /// What a runtime takes is one of these texts, and a binary that is there answers.
    #[track_caller]
    fn is_whole(&self, step: usize, texts: &[&str]) {
        let taken = self.installer(Disk).find().unwrap();
        assert!(
            texts.contains(&taken.text.as_str()),
            "{step}: {}",
            taken.text
        );
        let binary = self.0.join("bin/picket-cni");
        if binary.exists() {
            assert_eq!(fs::read_to_string(&binary).unwrap(), ANSWERS, "{step}");
        }
        let is_listed = self.installer(Disk).listed().unwrap().is_some();
        assert!(
            !is_listed || binary.exists(),
            "{step}: an entry without a binary"
        );
        let recorded = self.installer(Disk).recorded().unwrap();
        assert!(
            !is_listed || recorded.contains(&self.0.join("conf")),
            "{step}: an entry that is not recorded"
        );
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Ends at each step of the work once, and does it again.
fn at_each_step(
    before: &BTreeMap<String, String>,
    is_installed: bool,
    work: fn(&Installer) -> Result<(), Error>,
    texts: &[&str],
    after: &BTreeMap<String, String>,
) {
    for step in 0.. {
        let folder = Folder::new();
        for (name, text) in before {
            folder.write(name, text);
        }
        if is_installed {
            fs::copy(folder.0.join("plugin"), folder.0.join("bin/picket-cni")).unwrap();
            folder.installer(Disk).remember().unwrap();
        }
        let left = Cell::new(step);
        let ended = work(&folder.installer(Dying { left }));
        folder.is_whole(step, texts);
        work(&folder.installer(Disk)).unwrap();
        assert_eq!(&folder.content(), after, "after step {step}");
        folder.is_whole(step, texts);
        if ended.is_ok() {
            assert!(step > 5, "{step} steps only");
            return;
        }
    }
}

fn content(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    of.iter().map(owned).collect()
}

const LISTED: &str = include_str!("../../tests/install/flannel.installed.conflist");
const WRAPPED: &str = include_str!("../../tests/install/bridge.installed.conflist");

fn install(installer: &Installer) -> Result<(), Error> {
    let installed = installer.install()?;
    // Nudging is not part of the work, but a killed run does not come to its end.
    match installed.notes.is_empty() {
        true => Ok(()),
        false => Err(Error::Overtaken {
            path: installed.configuration,
        }),
    }
}

fn uninstall(installer: &Installer) -> Result<(), Error> {
    let removed = installer.remove_entries()?;
    installer.remove_binary()?;
    match removed.notes.is_empty() {
        true => Ok(()),
        false => Err(Error::Several(Vec::new())),
    }
}

#[test]
fn an_installation_that_is_killed_at_any_step_leaves_whole_files() {
    let before = content(&[("10-main.conflist", LIST)]);
    let after = content(&[("10-main.conflist", LISTED)]);
    at_each_step(&before, false, install, &[LIST, LISTED], &after);
    let before = content(&[("10-main.conf", SINGLE)]);
    let after = content(&[
        ("10-main.conf.picket-bak", SINGLE),
        ("10-main.conflist", WRAPPED),
    ]);
    at_each_step(&before, false, install, &[SINGLE, WRAPPED], &after);
}

#[test]
fn a_removal_that_is_killed_at_any_step_leaves_whole_files() {
    let before = content(&[("10-main.conflist", LISTED)]);
    let after = content(&[("10-main.conflist", LIST)]);
    at_each_step(&before, true, uninstall, &[LIST, LISTED], &after);
    let before = content(&[
        ("10-main.conf.picket-bak", SINGLE),
        ("10-main.conflist", WRAPPED),
    ]);
    let after = content(&[("10-main.conf", SINGLE)]);
    at_each_step(&before, true, uninstall, &[SINGLE, WRAPPED], &after);
}

#[test]
fn a_folder_of_plugins_that_is_read_only_may_have_a_binary_that_answers() {
    let folder = Folder::new();
    folder.write("10-main.conflist", LIST);
    let error = folder.installer(Poor).install().unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
    assert_eq!(folder.content()["10-main.conflist"], LIST);
    let binary = folder.0.join("bin/picket-cni");
    fs::copy(folder.0.join("plugin"), &binary).unwrap();
    let installed = folder.installer(Poor).install().unwrap();
    assert_eq!(installed.notes, [""; 0], "the same content");
    fs::write(&binary, format!("{ANSWERS}# another build\n")).unwrap();
    let installed = folder.installer(Poor).install().unwrap();
    assert!(
        installed.notes[0].contains("another build"),
        "{installed:?}"
    );
    fs::write(&binary, "#!/bin/sh\nexit 1\n").unwrap();
    folder.installer(Poor).install().unwrap_err();
}

/// Writes in place whenever a file is about to be replaced, so many times.
struct Racing {
    /// The file.
    name: &'static str,
    left: Cell<usize>,
    text: String,
}

impl Files for Racing {
    fn create(&self, path: &Path, content: &[u8], attributes: &Attributes) -> io::Result<()> {
        Disk.create(path, content, attributes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if to.extension().is_some_and(|of| of == "picket-bak") {
            self.race(from);
        } else if to.ends_with(self.name) && to.extension().is_some_and(|of| of == "conflist") {
            self.race(to);
        }
        Disk.rename(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.race(other);
        Disk.exchange(one, other)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }

    fn sync(&self, folder: &Path) -> io::Result<()> {
        Disk.sync(folder)
    }
}

impl Racing {
    fn race(&self, path: &Path) {
        if let Some(left) = self.left.get().checked_sub(1) {
            self.left.set(left);
            let text = self.text.replace("\"mtu\"", &format!("\"mtu{left}\""));
            fs::write(path, text).unwrap();
        }
    }
}

#[test]
fn what_the_main_plugin_writes_at_the_same_moment_is_never_lost() {
    for (name, text) in [("10-main.conflist", LIST), ("10-main.conf", SINGLE)] {
        let newer = text.replace("bridge\",\n", "bridge\",\n  \"mtu\": 9,\n");
        for count in 1..4 {
            let folder = Folder::new();
            folder.write(name, text);
            let left = Cell::new(count);
            let text = newer.clone();
            let racing = Racing { name, left, text };
            folder.installer(racing).install().unwrap();
            let taken = folder.installer(Disk).find().unwrap().text;
            assert!(taken.contains("\"mtu0\""), "{taken}");
            assert!(taken.contains("picket-cni"), "{taken}");
        }
    }
    // Also what is too long to be read.
    let folder = Folder::new();
    folder.write("10-main.conflist", LIST);
    let racing = Racing {
        name: "10-main.conflist",
        left: Cell::new(1),
        text: " ".repeat(2 << 20),
    };
    folder.installer(racing).install().unwrap_err();
    let there = fs::metadata(folder.0.join("conf/10-main.conflist")).unwrap();
    assert_eq!(there.len(), 2 << 20);
    let folder = Folder::new();
    folder.write("10-main.conflist", LIST);
    let racing = Racing {
        name: "10-main.conflist",
        left: Cell::new(usize::MAX),
        text: LIST.to_owned(),
    };
    let error = folder.installer(racing).install().unwrap_err();
    assert!(matches!(error, Error::Overtaken { .. }), "{error}");
}
