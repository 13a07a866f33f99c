//! `picket agent`

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use policy_compiler::lower::RevokedBit;

use super::{BudgetArg, LogArg, NodeEgressArg, RunDirArg};

pub(super) const EXAMPLES: &str = "\
Examples:
  picket agent --node node-1
  picket agent --node node-1 --kubeconfig /etc/picket/kubeconfig --log-format json
  picket agent --node node-1 --manifests /etc/picket/manifests
  picket agent --node node-1 --manifests manifests/ --bridge cni0 --set-bridge-netfilter

In a pod it asks the API server as the pod's service account, at KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT.
It enforces what the source says from the moment that all of it could be read, and goes on until it is told to stop with
SIGTERM or SIGINT. The rules stay in force then: picket cleanup removes them. picket status says how it is.";

/// `picket agent`
#[derive(Debug, Args)]
pub struct Agent {
    /// The node that it runs on, as pods name it in spec.nodeName
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub node: String,
    /// A folder of manifests that says what the cluster is, instead of an API server; it is watched
    #[arg(long, value_name = "DIR", conflicts_with = "kubeconfig")]
    pub manifests: Option<PathBuf>,
    /// Take a folder without manifests for a cluster without policies at the start
    #[arg(long, requires = "manifests")]
    pub allow_empty: bool,
    /// A file that says where the API server is and as whom to ask it, instead of the account of the pod
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig, instead of its current one
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    pub context: Option<String>,
    /// Own-node egress.
    #[command(flatten)]
    pub node_egress: NodeEgressArg,
    /// A bridge that carries pods, repeatable; without any, every bridge is taken for one
    #[arg(long = "bridge", value_name = "NAME")]
    pub bridges: Vec<String>,
    /// Have the bridges of --bridge hand the packets between their ports to the rules, whenever they come
    #[arg(long, requires = "bridges")]
    pub set_bridge_netfilter: bool,
    /// Accept CIDRs with host bits, leading zeros or IPv4-mapped IPv6 in manifests, as old clusters hold them
    #[arg(long, requires = "manifests")]
    pub lenient_cidr: bool,
    /// What becomes of open connections that are no longer allowed
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Revocation::Revoke)]
    pub revocation: Revocation,
    /// The bit of a connection's mark that says it was revoked, if others use the default one
    #[arg(long, value_name = "BIT", value_parser = mark_bit, default_value = "0x100000")]
    pub mark_bit: RevokedBit,
    /// Whether our tables belong to the agent, so that no other program can change them (Linux 6.9)
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = OwnTables::Auto)]
    pub own_tables: OwnTables,
    /// Budgets.
    #[command(flatten)]
    pub budget: BudgetArg,
    /// Where health and metrics are answered: /healthz, /readyz and /metrics
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = crate::agent::server::DEFAULT_BIND)]
    pub metrics_bind: SocketAddr,
    /// Its directory.
    #[command(flatten)]
    pub run_dir: RunDirArg,
    /// What it writes.
    #[command(flatten)]
    pub log: LogArg,
}

/// What becomes of open connections that are no longer allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Revocation {
    /// They are cut within a second.
    Revoke,
    /// They go on until they end.
    Keep,
}

/// Whether tables belong to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OwnTables {
    /// Where the kernel can.
    Auto,
    /// Never: what others change is repaired.
    Never,
}

/// One bit, in decimal or hexadecimal.
fn mark_bit(text: &str) -> Result<RevokedBit, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let bit = number.ok().and_then(RevokedBit::new);
    bit.ok_or_else(|| {
        "it must be a number of 32 bits with exactly one bit set, as 0x100000".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_bit_is_one_bit() {
        assert_eq!(mark_bit("0x100000"), Ok(RevokedBit::default()));
        assert_eq!(mark_bit("1048576"), Ok(RevokedBit::default()));
        for wrong in ["0", "3", "0x", "-1", "0x100000000", "bit"] {
            assert!(mark_bit(wrong).is_err(), "{wrong}");
        }
    }
}
