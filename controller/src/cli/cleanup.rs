//! `picket cleanup`

use std::time::Duration;

use clap::Args;
use policy_compiler::lower::RevokedBit;

use super::RunDirArg;
use super::span::span;

pub(super) const EXAMPLES: &str = "\
Examples:
  picket cleanup             after the agent of this node was stopped for good
  picket cleanup --wait 5m   and before it has ended

It removes all tables of picket, clears picket's bit from the marks of connections, and removes the agent's directory.
Nothing else is touched, and what was done is printed. All pods of the node are open then, and connections that were cut
may go on. It refuses while an agent runs, or after --wait if it still does. SIGTERM and SIGINT end the wait, with exit
code 143 or 130, and nothing is removed. Exit code 2 if something is left.";

/// `picket cleanup`
#[derive(Debug, Args)]
pub struct Cleanup {
    /// The agent's directory.
    #[command(flatten)]
    pub run_dir: RunDirArg,
    /// The bit of connection marks that the agent used
    #[arg(long, value_name = "BIT", value_parser = bit, default_value = "0x100000")]
    pub mark_bit: RevokedBit,
    /// Wait at most so long for an agent that runs to end
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub wait: Option<Duration>,
}

/// One bit, as `0x100000` or in decimal.
fn bit(text: &str) -> Result<RevokedBit, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let bit = number.ok().and_then(RevokedBit::new);
    bit.ok_or_else(|| "write one bit of 32, for example 0x100000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_bit_is_taken() {
        assert_eq!(bit("0x100000"), Ok(RevokedBit::default()));
        assert_eq!(bit("1048576"), Ok(RevokedBit::default()));
        for bad in ["0", "3", "0x", "x", "0x100000000", "-1"] {
            assert!(bit(bad).is_err(), "{bad}");
        }
    }
}
