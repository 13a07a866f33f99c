//! `picket man`

use std::path::PathBuf;

use clap::Args;

pub(super) const EXAMPLES: &str = "\
Examples:
  picket man /usr/local/share/man/man1
  picket man man/                        and then: man -l man/picket-explain.1";

/// `picket man`
#[derive(Debug, Args)]
pub struct Man {
    /// The folder for picket.1 and a picket-COMMAND.1 for each command; made if it is missing
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}
