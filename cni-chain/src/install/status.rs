//! Whether it is installed.

use std::path::PathBuf;

use super::conflist::Shape;
use super::probe::{LIMIT, probe};
use super::{Error, Installer};

/// Whether the runtime calls our plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The configuration that the runtime takes.
    pub configuration: Option<PathBuf>,
    /// What keeps the plugin from being called for each pod. Nothing, if it is.
    pub problems: Vec<String>,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl Status {
    /// Whether it is called for each pod.
    pub fn is_ready(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Installer {
    /// Whether our entry is in the file that the runtime takes, once and last, and whether the binary answers. Nothing is
    /// changed.
    pub fn status(&self) -> Status {
        let mut status = Status {
            configuration: None,
            problems: Vec::new(),
            notes: Vec::new(),
        };
        if let Err(error) = self.look(&mut status) {
            status.problems.push(error.to_string());
        }
        let binary = self.binary();
        if let Err(problem) = probe(&binary, LIMIT) {
            status
                .problems
                .push(format!("{}: {problem}", binary.display()));
        }
        status
    }

    fn look(&self, status: &mut Status) -> Result<(), Error> {
        let mut found = self.find()?;
        status.configuration = Some(found.path.clone());
        status.notes = std::mem::take(&mut found.notes);
        let problem = match found.shape()? {
            Shape::List(list) if list.is_as_wanted(&self.settings.entry) => return Ok(()),
            Shape::List(list) if list.has_ours() => {
                "the entry is not the last, the only one, or as it should be"
            }
            _ => "the entry is not there",
        };
        let path = found.path.display();
        status.problems.push(format!("{path}: plugins: {problem}"));
        Ok(())
    }
}
