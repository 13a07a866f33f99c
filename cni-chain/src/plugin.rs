//! The verbs of CNI.

use std::process::ExitCode;

/// Runs the verb that the environment names.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
