//! What can fail, by failed operation, and what to do about it.

use std::io;

/// A failed operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program or a file of it is not installed.
    #[error(
        "cannot find the program `{program}`: install the Debian package `{package}`, or run ./setup"
    )]
    MissingProgram {
        /// Its name.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// The network namespace could not be made or used.
    #[error(transparent)]
    Namespace(#[from] testbed::Error),
    /// The kernel refused something.
    #[error(
        "cannot {operation}: {source}. Container runtimes need to run as root, outside of user namespaces"
    )]
    Io {
        /// What was tried.
        operation: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program reported a failure.
    #[error("`{command}` failed with code {code}: {stderr}")]
    Program {
        /// Program and arguments.
        command: String,
        /// How it ended.
        code: i32,
        /// What it wrote to its standard error.
        stderr: String,
    },
    /// containerd answered a call with an error.
    #[error("{method}: {message}")]
    Call {
        /// The method of the CRI.
        method: &'static str,
        /// What containerd said.
        message: String,
    },
    /// A runtime did not become ready.
    #[error("containerd is not ready after {seconds} s: {reason}. It said last:\n{last_words}")]
    NotReady {
        /// How long was waited.
        seconds: u64,
        /// What is missing.
        reason: String,
        /// The end of its log.
        last_words: String,
    },
    /// A runtime said something that cannot be understood.
    #[error("{what} is not understood: {text}")]
    Unexpected {
        /// What was read.
        what: &'static str,
        /// What it was.
        text: String,
    },
}

/// For `map_err` of what the kernel says.
pub(crate) fn io<E: Into<io::Error>>(operation: impl Into<String>) -> impl FnOnce(E) -> Error {
    |source| Error::Io {
        operation: operation.into(),
        source: source.into(),
    }
}
