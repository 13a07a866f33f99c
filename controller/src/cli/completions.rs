//! `picket completions`

use clap::Args;
use clap_complete::Shell;

pub(super) const EXAMPLES: &str = "\
Examples:
  picket completions bash > /usr/share/bash-completion/completions/picket
  picket completions zsh > /usr/share/zsh/site-functions/_picket
  picket completions fish > ~/.config/fish/completions/picket.fish";

/// `picket completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell whose script is printed
    #[arg(value_enum)]
    pub shell: Shell,
}
