//! Whether it is installed.

use std::fs;
use std::path::PathBuf;

use rustix::fs::{Access, access};

use super::binary::is_there;
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
    /// Whether our entry is in the file that the runtime takes, once, last and as it is to be, and whether the binary is
    /// ours and answers. Nothing is changed.
    pub fn status(&self) -> Status {
        let mut status = Status {
            configuration: None,
            problems: Vec::new(),
            notes: Vec::new(),
        };
        if let Err(error) = self.look(&mut status) {
            status.problems.push(error.to_string());
        }
        self.look_at_binary(&mut status);
        status
    }

    fn look(&self, status: &mut Status) -> Result<(), Error> {
        let mut found = self.find()?;
        status.configuration = Some(found.path.clone());
        status.notes = std::mem::take(&mut found.notes);
        let problem = match found.shape()? {
            Shape::List(list) => list.problem(&self.settings.entry),
            _ => Some("the entry is not there".to_owned()),
        };
        let path = found.path.display();
        let problem = problem.map(|problem| format!("{path}: plugins: {problem}"));
        status.problems.extend(problem);
        Ok(())
    }

    fn look_at_binary(&self, status: &mut Status) {
        let target = self.binary();
        let wanted = fs::read(&self.settings.plugin).map_err(|error| Error::Source {
            path: self.settings.plugin.clone(),
            error,
        });
        let path = target.display();
        match (probe(&target, LIMIT), wanted) {
            (Err(problem), _) => status.problems.push(format!("{path}: {problem}")),
            (_, Err(error)) => status.problems.push(error.to_string()),
            (Ok(()), Ok(wanted)) if is_there(&target, &wanted) => {}
            (Ok(()), Ok(_)) => {
                let ours = self.settings.plugin.display();
                let text = format!("{path}: is another build than {ours}");
                // As the installer has it, which could not change that.
                match access(&self.settings.bin_dir, Access::WRITE_OK) {
                    Ok(()) => status.problems.push(text),
                    Err(_) => status.notes.push(text),
                }
            }
        }
    }
}
