//! `picket preflight`

use clap::Args;

use super::Output;

pub(super) const EXAMPLES: &str = "\
Examples:
  picket preflight                                       is the node fit for picket?
  picket preflight -o json
  picket preflight --bridge cni0 --set-bridge-netfilter  have its packets pass the rules

It looks at the network namespace that it runs in and changes nothing but what --set-bridge-netfilter says. It needs
CAP_NET_ADMIN. The exit code is 1 if there is an error: a policy that could not be enforced.";

/// `picket preflight`
#[derive(Debug, Args)]
pub struct Preflight {
    /// A bridge that carries pods, repeatable; without any, every bridge is taken for one
    #[arg(long = "bridge", value_name = "NAME")]
    pub bridges: Vec<String>,
    /// Make the named bridges hand packets to the hooks of IP (br_netfilter), in both families
    #[arg(long, requires = "bridges")]
    pub set_bridge_netfilter: bool,
    /// Sentences, or a JSON object a line
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}
