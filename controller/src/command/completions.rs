//! `picket completions`

use std::io::{self, Write};

use clap::CommandFactory;

use super::Outcome;
use crate::cli::{Cli, Completions};

pub(super) fn run(arguments: &Completions) -> anyhow::Result<Outcome> {
    // The generator panics where it cannot write, as into a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "picket", &mut script);
    io::stdout().write_all(&script)?;
    Ok(Outcome::Done)
}
