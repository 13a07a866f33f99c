//! `picket probe`

use clap::{Args, Subcommand};

pub(super) const EXAMPLES: &str = "\
Examples:
  picket probe listen --port 8080

It is what picket selftest starts as its server.";

const LISTEN_EXAMPLES: &str = "\
Examples:
  picket probe listen --port 8080

Each connection is answered with a line, and closed. Exit code 0 when it is told to end with SIGTERM or SIGINT.";

/// `picket probe`
#[derive(Debug, Args)]
pub struct Probe {
    /// What to do.
    #[command(subcommand)]
    pub command: ProbeCommand,
}

/// What is probed with.
#[derive(Debug, Subcommand)]
pub enum ProbeCommand {
    /// Answer TCP connections on all addresses
    #[command(after_help = LISTEN_EXAMPLES)]
    Listen(ProbeListen),
}

/// `picket probe listen`
#[derive(Debug, Args)]
pub struct ProbeListen {
    /// The port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
}
