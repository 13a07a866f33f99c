//! `picket idle`

use clap::Args;

pub(super) const EXAMPLES: &str = "\
Examples:
  picket idle

A pod whose work its init containers have done stays ready by it. Exit code 0 when it is told to end with SIGTERM or
SIGINT.";

/// `picket idle`
#[derive(Debug, Args)]
pub struct Idle {}
