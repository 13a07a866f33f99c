//! What each command does.

mod agent;
mod cleanup;
mod cni;
mod compile;
mod completions;
mod diff;
mod explain;
mod idle;
mod lint;
mod live;
mod man;
mod matrix;
mod preflight;
mod probe;
mod selftest;
mod status;
mod stop;
mod uninstall;
mod verify;

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use policy_compiler::lower::Bridges;
use policy_compiler::model::{Cluster, InterfaceName, InterfaceNameError};
use policy_compiler::validate::Options;

use crate::cli::{Cli, Command, Input};
use crate::flow::{Question, read_lines};
use crate::source::{Loaded, Note};
use crate::{cluster, source};

/// How a command ended, when it could do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Exit code 0.
    Done,
    /// Exit code 1.
    Findings,
    /// Exit code 2: some flow could not be asked.
    Unaskable,
    /// Exit code 2: it could not do its work, and has written why.
    Failed,
}

/// Runs the program: arguments from the process, answers on stdout, everything else on stderr.
pub fn main() -> ExitCode {
    let cli = Cli::from_arguments();
    let result = match &cli.command {
        Command::Agent(arguments) => agent::run(arguments),
        Command::Cleanup(arguments) => cleanup::run(arguments),
        Command::Cni(arguments) => cni::run(arguments),
        Command::Compile(arguments) => compile::run(arguments),
        Command::Completions(arguments) => completions::run(arguments),
        Command::Diff(arguments) => diff::run(arguments),
        Command::Dump(arguments) => status::dump(arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Idle(_) => idle::run(),
        Command::Lint(arguments) => lint::run(arguments),
        Command::Man(arguments) => man::run(arguments),
        Command::Matrix(arguments) => matrix::run(arguments),
        Command::Preflight(arguments) => preflight::run(arguments),
        Command::Probe(arguments) => probe::run(arguments),
        Command::Selftest(arguments) => selftest::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Uninstall(arguments) => uninstall::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(1),
        Ok(Outcome::Unaskable | Outcome::Failed) => ExitCode::from(2),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            for line in format!("{error:#}").lines() {
                // Nothing is left to do if even stderr is gone.
                let _ = writeln!(io::stderr(), "error: {line}");
            }
            let told = error.downcast_ref::<stop::Told>();
            ExitCode::from(told.map_or(2, |told| told.exit_code()))
        }
    }
}

/// Whether the reader of our output went away, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let written = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let serialised = cause.downcast_ref::<serde_json::Error>();
        let kind = written.or_else(|| serialised.and_then(serde_json::Error::io_error_kind));
        kind == Some(io::ErrorKind::BrokenPipe)
    })
}

/// The bridges that arguments name; any, if none is named.
fn bridges(names: &[String]) -> Result<Bridges, InterfaceNameError> {
    let names: Result<BTreeSet<_>, _> = names.iter().map(|name| InterfaceName::new(name)).collect();
    Ok(match names? {
        none if none.is_empty() => Bridges::Any,
        named => Bridges::Named(named),
    })
}

/// Reads and validates; what was assumed goes to stderr.
fn load(input: &Input) -> anyhow::Result<Cluster> {
    Ok(load_with_source(input)?.1)
}

/// The same, with what was read.
fn load_with_source(input: &Input) -> anyhow::Result<(Loaded, Cluster)> {
    let mut notes = Vec::new();
    let read = read(input, &[], &mut io::stdin().lock(), &mut notes);
    // Also where it fails: what was assumed may explain why.
    say(&notes)?;
    read
}

/// Reads and validates; what was assumed is added to the notes. `beside` is what was assumed of another input.
fn read(
    input: &Input,
    beside: &[Note],
    stdin: &mut dyn Read,
    notes: &mut Vec<String>,
) -> anyhow::Result<(Loaded, Cluster)> {
    let namespace = input.namespace.as_deref();
    let loaded = if input.paths.is_empty() {
        let dump = live::dump(&input.cluster)?;
        notes.extend(dump.notes.iter().cloned());
        live::with(&dump, namespace, &[])?
    } else {
        source::load_beside(beside, namespace, &input.paths, stdin)?
    };
    build(loaded, input.lenient_cidr || input.paths.is_empty(), notes)
}

/// Validates; what was assumed is added to the notes. Clusters may hold CIDRs that they would refuse now.
fn build(
    loaded: Loaded,
    lenient_cidr: bool,
    notes: &mut Vec<String>,
) -> anyhow::Result<(Loaded, Cluster)> {
    notes.extend(source::summary(&loaded.notes));
    let options = Options { lenient_cidr };
    let cluster = cluster::build(&loaded, options)?;
    notes.extend(source::few(cluster::disputed_addresses(&cluster)));
    Ok((loaded, cluster))
}

/// Prints notes on stderr.
fn say(notes: &[String]) -> io::Result<()> {
    let mut stderr = BufWriter::new(io::stderr().lock());
    for note in notes {
        writeln!(stderr, "note: {note}")?;
    }
    stderr.flush()
}

/// Reads a flows file.
fn read_flows(path: &Path, input: &Input) -> anyhow::Result<Vec<Question>> {
    let is_stdin = path == Path::new("-");
    anyhow::ensure!(
        !is_stdin || !input.paths.contains(&PathBuf::from("-")),
        "standard input can be given only once: to -f or to --flows"
    );
    let text = source::read_text(path, &mut io::stdin().lock())?;
    read_lines(&text).map_err(|error| anyhow::anyhow!("{}:{error}", name(path)))
}

/// How a file is called in messages.
fn name(path: &Path) -> String {
    if path == Path::new("-") {
        "<stdin>".to_owned()
    } else {
        path.display().to_string()
    }
}
