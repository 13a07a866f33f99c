//! The `picket` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    controller::command::main()
}
