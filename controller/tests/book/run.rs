//! Examples through the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::page::{Example, Expects, Outcome, Page};
use super::table::Table;
use crate::program::{text, with_input};

/// What differs from the page, or could not be run.
pub(crate) type Failure = String;

/// A folder with the example's `example.yaml`, in which its commands are run.
pub(crate) struct Stage(PathBuf);

impl Stage {
    /// `purpose` keeps tests that run at once apart.
    pub(crate) fn new(purpose: &str, page: &Page, example: &Example) -> Self {
        let name = format!("book/{purpose}/{}/{}", page.name(), example.line);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("example.yaml"), &example.manifests).unwrap();
        Self(folder)
    }

    /// What picket prints for the block, in the form of the block.
    pub(crate) fn printed(&self, outcome: &Outcome) -> Result<String, Failure> {
        match &outcome.expects {
            Expects::Flows(table) => {
                let answers = self.answers(table, &["explain"])?;
                Ok(table.answered(&answers))
            }
            Expects::Console => {
                let commands = outcome.text.lines().filter(|line| line.starts_with("$ "));
                let sessions: Result<Vec<_>, _> = commands.map(|line| self.session(line)).collect();
                Ok(sessions?.join("\n"))
            }
        }
    }

    /// Sends the table's flows as packets; they must do what the table says.
    pub(crate) fn packets(&self, table: &Table, network: &str) -> Result<(), Failure> {
        if table.rows.iter().all(|row| row.passes().is_none()) {
            return Ok(());
        }
        let answers = self.answers(table, &["verify", "--network", network])?;
        for (row, answer) in table.rows.iter().zip(&answers) {
            let passed = answer.get("packet").map(|packet| packet == "allow");
            if passed != row.passes() {
                return Err(format!("{row:?}\nthe packet says otherwise: {answer}"));
            }
        }
        Ok(())
    }

    fn answers(&self, table: &Table, command: &[&str]) -> Result<Vec<Value>, Failure> {
        fs::write(self.0.join("flows.jsonl"), table.flows()).unwrap();
        let mut arguments: Vec<_> = command.iter().map(ToString::to_string).collect();
        let input = "-f example.yaml --flows flows.jsonl -o json".split(' ');
        arguments.extend(input.map(str::to_owned));
        arguments.extend(table.options.iter().cloned());
        let output = self.picket(&arguments);
        let answers: Result<Vec<Value>, _> = text(&output.stdout)
            .lines()
            .map(serde_json::from_str)
            .collect();
        let answers = answers.unwrap();
        match answers.len() == table.rows.len() {
            true => Ok(answers),
            false => Err(text(&output.stderr).to_owned()),
        }
    }

    /// A command line and what it prints. Notes are left out, but for `2>&1`.
    fn session(&self, line: &str) -> Result<String, Failure> {
        let command = line.strip_prefix("$ picket ");
        let command = command.ok_or(format!("{line:?}: only picket is run"))?;
        let (command, all) = match command.strip_suffix(" 2>&1") {
            Some(command) => (command, true),
            None => (command, false),
        };
        let arguments: Vec<_> = command.split_whitespace().map(str::to_owned).collect();
        let output = self.picket(&arguments);
        let messages = text(&output.stderr).lines();
        let messages = messages.filter(|message| all || !message.starts_with("note: "));
        let answers = text(&output.stdout).lines();
        let printed: Vec<_> = [line].into_iter().chain(messages).chain(answers).collect();
        Ok(printed.join("\n"))
    }

    fn picket(&self, arguments: &[String]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
        with_input(command.args(arguments).current_dir(&self.0), "")
    }
}
