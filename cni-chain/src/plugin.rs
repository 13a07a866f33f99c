//! The verbs of CNI.
//!
//! ```text
//!   environment ──▶ Environment ─┐
//!   stdin ──▶ Configuration ─────┼─▶ verb ──▶ stdout: the result before us as it came, or an error; nothing else
//!                                ┘    └─────▶ stderr and log file: a line for each event
//! ```
//!
//! A runtime ends the removal of a pod's network at the first plugin that fails, and the last one in the list is asked
//! first: DEL never fails.

mod add;
mod agent;
mod check;
mod configuration;
mod delete;
mod environment;
mod error;
mod garbage;
mod host;
mod link_local;
mod log;
mod result;
mod way;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use self::configuration::{Configuration, Preliminary};
use self::environment::{Environment, Verb};
pub use self::error::{Code, Error};
use self::log::Log;
use crate::protocol;
use crate::version::Version;

/// The longest standard input in bytes.
pub const INPUT_LIMIT: u64 = 4 << 20;

/// What the runtime gets.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// For standard output.
    pub output: Vec<u8>,
    /// Whether the verb was done.
    pub success: bool,
}

/// Runs the verb that the environment names, as a program.
pub fn main() -> ExitCode {
    let run = || run(|name| std::env::var_os(name), io::stdin().lock());
    let reply = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        // What happened is on stderr. A runtime that gets no JSON tells its user nothing at all.
        let error = Error::new(
            Code::Internal,
            "the plugin failed",
            "see its standard error",
        );
        reply(
            Verb::from_variables(&|name| std::env::var_os(name)),
            Version::default(),
            Err(error),
        )
    });
    let written = io::stdout().lock().write_all(&reply.output);
    match (reply.success, written) {
        (true, Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Runs the verb that the variables name.
pub fn run(variable: impl Fn(&str) -> Option<OsString>, input: impl Read) -> Reply {
    let started = Instant::now();
    let verb = Verb::from_variables(&variable);
    let text = match (read(input), verb) {
        // What can not be read is as a configuration that nobody understands.
        (Err(_), Some(Verb::Del)) => Ok(Vec::new()),
        (text, _) => text,
    };
    let preliminary = Preliminary::read(text.as_deref().unwrap_or_default());
    let outcome = text.and_then(|text| done(verb, started, &variable, &text));
    reply(verb, preliminary.version_or_default(), outcome)
}

/// An error as JSON, but of DEL, which has none.
fn reply(verb: Option<Verb>, version: Version, outcome: Result<Vec<u8>, Error>) -> Reply {
    match (outcome, verb) {
        (Ok(output), _) => Reply {
            output,
            success: true,
        },
        (Err(error), Some(Verb::Del)) => {
            Log::to_stderr_only().event(&format!("DEL: {error}"));
            Reply {
                output: Vec::new(),
                success: true,
            }
        }
        (Err(error), _) => {
            Log::to_stderr_only().event(&error.to_string());
            Reply {
                output: error.json(version),
                success: false,
            }
        }
    }
}

fn read(input: impl Read) -> Result<Vec<u8>, Error> {
    let failed = |why: String| Error::new(Code::Io, "standard input can not be read", why);
    let mut text = Vec::new();
    let read = input.take(INPUT_LIMIT + 1).read_to_end(&mut text);
    read.map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > INPUT_LIMIT {
        return Err(failed(format!("it is longer than {INPUT_LIMIT} bytes")));
    }
    Ok(text)
}

fn done(
    verb: Option<Verb>,
    started: Instant,
    variable: &dyn Fn(&str) -> Option<OsString>,
    text: &[u8],
) -> Result<Vec<u8>, Error> {
    let verb = verb.ok_or_else(|| {
        Error::new(
            Code::Environment,
            "CNI_COMMAND is none of ADD, DEL, CHECK, GC, STATUS and VERSION",
            "this program is called by a container runtime, see picket's documentation of CNI",
        )
    })?;
    if verb == Verb::Version {
        return Ok(versions(Preliminary::read(text)));
    }
    let environment = Environment::read(variable);
    if verb == Verb::Del {
        delete::delete(started, &environment, text);
        return Ok(Vec::new());
    }
    let configuration = Configuration::read(text)?;
    verb.allowed_by(configuration.version)?;
    let log = Log::to(&configuration, verb, &environment);
    let outcome = match verb {
        Verb::Add => add::add(started, &configuration, &environment?, &log),
        Verb::Check => check::check(started, &configuration, &environment?).map(nothing),
        Verb::Gc => garbage::collect(&configuration, &log).map(nothing),
        _ => status(&configuration).map(nothing),
    };
    if let Err(error) = &outcome {
        log.file_only(&format!("error {error}"));
    }
    outcome
}

fn nothing((): ()) -> Vec<u8> {
    Vec::new()
}

fn versions(preliminary: Preliminary) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Versions {
        cni_version: &'static str,
        supported_versions: [&'static str; Version::ALL.len()],
    }
    let versions = Versions {
        cni_version: preliminary.version_or_default().text(),
        supported_versions: Version::ALL.map(Version::text),
    };
    serde_json::to_vec(&versions).unwrap_or_default()
}

/// Not ready only until the agent was ready once since boot. The runtime tells it as the node not being ready, and then
/// Kubernetes evicts pods, which an agent that restarts is no reason for.
fn status(configuration: &Configuration<'_>) -> Result<(), Error> {
    let marker = protocol::ready_marker(&configuration.run_dir);
    if marker.exists() {
        return Ok(());
    }
    Err(Error::new(
        Code::NotAvailable,
        "the policy agent has not been ready since this node started",
        format!(
            "{} is not there yet: see the log of picket's agent",
            marker.display()
        ),
    ))
}
