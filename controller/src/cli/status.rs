//! `picket status` and `picket dump`

use clap::{Args, ValueEnum};

use super::{Output, RunDirArg};

pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  picket status              whether the agent of this node is well, and what is wrong
  picket status -o json

Exit code 0 if nothing is wrong, 1 if something is, 2 if no agent answers. Only root and the agent's own user may ask.";

pub(super) const DUMP_EXAMPLES: &str = "\
Examples:
  picket dump objects > cluster.json     for picket compile, explain, lint or matrix -f cluster.json
  picket dump attachments > node.json    for picket compile -f cluster.json --attachments node.json
  picket dump rules                      what is in force, as nft text

Only root and the agent's own user may ask. Exit code 2 if no agent answers.";

/// `picket status`
#[derive(Debug, Args)]
pub struct Status {
    /// The agent's directory.
    #[command(flatten)]
    pub run_dir: RunDirArg,
    /// Sentences, or one JSON object
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `picket dump`
#[derive(Debug, Args)]
pub struct Dump {
    /// What to print
    #[arg(value_enum)]
    pub what: Dumped,
    /// The agent's directory.
    #[command(flatten)]
    pub run_dir: RunDirArg,
}

/// What an agent can be asked to print.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Dumped {
    /// Its objects, as a List that other commands read with -f -
    Objects,
    /// The interfaces of this node's pods, as one JSON object
    Attachments,
    /// The rules that it has in force, as nft text
    Rules,
}
