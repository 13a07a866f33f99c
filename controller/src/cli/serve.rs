//! What is said in the same way to the agent and to the commands that ask it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::agent::log::Format;
use crate::agent::rundir;

/// The agent's directory.
#[derive(Debug, Args)]
pub struct RunDirArg {
    /// The agent's directory, with its lock and its socket
    #[arg(long, value_name = "DIR", default_value = rundir::DEFAULT)]
    pub run_dir: PathBuf,
}

/// What the agent writes on stderr.
#[derive(Debug, Args)]
pub struct LogArg {
    /// The form of log lines
    #[arg(long, value_name = "FORM", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Write lines of this level and of those above it
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
}

/// Forms of log lines.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// A JSON object a line.
    Json,
}

impl From<LogFormat> for Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        }
    }
}

/// Levels of log lines.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogLevel {
    /// Something is not enforced as it was asked for.
    Error,
    /// A person should look.
    Warn,
    /// The state changed.
    Info,
    /// Each sync.
    Debug,
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
        }
    }
}
