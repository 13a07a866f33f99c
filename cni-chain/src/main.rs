//! The chained CNI plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni_chain::plugin::main()
}
