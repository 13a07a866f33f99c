//! Which configuration the runtime takes.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::conflist::{self, Fault, Kind, Shape};
use super::{Error, Installer, files};

/// The configuration that is to have our entry.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) text: String,
    /// What a person should know.
    pub(super) notes: Vec<String>,
}

impl Found {
    pub(super) fn shape(&self) -> Result<Shape<'_>, Error> {
        conflist::read(self.kind, &self.text).map_err(|fault| self.fault(fault))
    }

    pub(super) fn fault(&self, fault: Fault) -> Error {
        let path = self.path.clone();
        Error::Configuration { path, fault }
    }
}

/// How runtimes read a file of this name (`filepath.Ext` of Go); nothing if they do not.
pub(super) fn kind(name: &[u8]) -> Option<Kind> {
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    match &name[dot..] {
        b".conflist" => Some(Kind::List),
        b".conf" | b".json" => Some(Kind::Single),
        _ => None,
    }
}

impl Installer {
    /// The files that runtimes read, in their order.
    pub(super) fn configurations(&self) -> Result<Vec<(PathBuf, Kind)>, Error> {
        let mut found = Vec::new();
        for name in self.names()? {
            if let Some(kind) = kind(name.as_bytes()) {
                found.push((self.settings.conf_dir.join(name), kind));
            }
        }
        Ok(found)
    }

    /// The names of all files, by their bytes.
    pub(super) fn names(&self) -> Result<Vec<std::ffi::OsString>, Error> {
        let entries = match fs::read_dir(&self.settings.conf_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| self.unreadable(error))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| self.unreadable(error))?;
            if entry.file_type().is_ok_and(|of| !of.is_dir()) {
                names.push(entry.file_name());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The file that is named, or the first that a runtime can read, and the one that multus calls if it is multus'.
    pub(super) fn find(&self) -> Result<Found, Error> {
        let found = match &self.settings.conf_name {
            Some(name) => self.named(name)?,
            None => self.first()?,
        };
        let Shape::Elsewhere(path) = found.shape()? else {
            return Ok(found);
        };
        let path = self.as_seen_here(path);
        let elsewhere = load(&path, Kind::List)?;
        let is_list = kind(path.as_os_str().as_bytes()) == Some(Kind::List)
            && matches!(elsewhere.shape(), Ok(Shape::List(_)));
        if !is_list {
            let problem = format!(
                "{} is no list of plugins: write it as one, in a file that ends in .conflist",
                path.display()
            );
            return Err(found.fault(Fault::refused("clusterNetwork", problem)));
        }
        let notes = [found.notes, elsewhere.notes].concat();
        Ok(Found { notes, ..elsewhere })
    }

    fn named(&self, name: &str) -> Result<Found, Error> {
        let path = self.settings.conf_dir.join(name);
        let kind = kind(name.as_bytes()).filter(|_| !name.contains('/'));
        let Some(kind) = kind else {
            let problem = "is no name of a file in the folder, in .conf, .conflist or .json";
            let fault = Fault::refused("--cni-conf-name", problem.to_owned());
            return Err(Error::Configuration { path, fault });
        };
        let list = path.with_extension("conflist");
        let (path, kind) = match kind {
            // We have made a list of it.
            Kind::Single if !exists(&path) && exists(&list) => (list, Kind::List),
            _ => (path, kind),
        };
        if !exists(&path) {
            let notes = Vec::new();
            return Err(Error::NoConfiguration { path, notes });
        }
        let mut found = load(&path, kind)?;
        found.shape()?;
        match self.first() {
            Ok(first) if first.path != found.path => found.notes.push(format!(
                "{}: the runtime takes {} before it",
                found.path.display(),
                first.path.display()
            )),
            _ => {}
        }
        Ok(found)
    }

    fn first(&self) -> Result<Found, Error> {
        let mut notes = Vec::new();
        for (path, kind) in self.configurations()? {
            let unreadable = match load(&path, kind) {
                Ok(found) => match conflist::read(kind, &found.text) {
                    Err(fault @ Fault::Unreadable { .. }) => fault.to_string(),
                    _ => return Ok(Found { notes, ..found }),
                },
                Err(Error::Configuration { fault, .. }) => fault.to_string(),
                Err(Error::Read { error, .. }) if error.kind() != io::ErrorKind::FileTooLarge => {
                    error.to_string()
                }
                Err(error) => return Err(error),
            };
            notes.push(format!(
                "{}: {unreadable}: no runtime can read it, and containerd takes no other while it is there: repair or \
                 remove it",
                path.display()
            ));
        }
        let path = self.settings.conf_dir.clone();
        Err(Error::NoConfiguration { path, notes })
    }

    /// A path as multus has it: in its own mount namespace, the folder may be elsewhere.
    fn as_seen_here(&self, path: PathBuf) -> PathBuf {
        let ours = &self.settings.conf_dir;
        let below = |path: &Path| {
            path.strip_prefix("/")
                .map(Path::to_owned)
                .unwrap_or_default()
        };
        let theirs = files::folder(&path);
        if theirs.ends_with(below(ours)) || ours.ends_with(below(theirs)) {
            return ours.join(path.file_name().unwrap_or_default());
        }
        path
    }
}

pub(super) fn load(path: &Path, kind: Kind) -> Result<Found, Error> {
    let content = files::read(path).map_err(|error| Error::Read {
        path: path.to_owned(),
        error,
    })?;
    let text = String::from_utf8(content).map_err(|_| Error::Configuration {
        path: path.to_owned(),
        fault: Fault::Unreadable {
            field: "the file".to_owned(),
            problem: "is not UTF-8".to_owned(),
        },
    })?;
    Ok(Found {
        path: path.to_owned(),
        kind,
        text,
        notes: Vec::new(),
    })
}

/// Whether there is something of this name, also a link that leads nowhere.
pub(super) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

pub(super) fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|of| of.is_symlink())
}

/// `NAME.conf.picket-bak`
pub(super) fn backup(single: &Path) -> PathBuf {
    let mut name = single.as_os_str().to_owned();
    name.push(OsStr::new(super::change::BACKUP));
    PathBuf::from(name)
}
