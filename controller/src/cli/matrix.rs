//! `picket matrix`

use clap::{Args, ColorChoice, ValueEnum};

use super::{Input, NodeEgressArg};

/// What `--help` ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  picket matrix -f manifests/                          a table, or a list if there are too many ends for one
  picket matrix -f manifests/ --to shop/db             who reaches the database
  picket matrix -f manifests/ --from shop --to outside --port 443
  picket matrix -f manifests/ -o html > matrix.html    a page to search and filter, in one file
  kubectl get ns,no,po,netpol -A -o yaml | picket matrix -f - -o json

Pods with equal rows and columns are one end, named by their workloads. ENDS are NAMESPACE, NAMESPACE/WORKLOAD,
NAMESPACE/POD, node/NAME, or outside for the addresses of nobody in the cluster.";

/// `picket matrix`
#[derive(Debug, Args)]
pub struct Matrix {
    /// Objects.
    #[command(flatten)]
    pub input: Input,
    /// Only these sources, repeatable
    #[arg(long, value_name = "ENDS")]
    pub from: Vec<String>,
    /// Only these destinations, repeatable
    #[arg(long, value_name = "ENDS")]
    pub to: Vec<String>,
    /// Only this port: PORT/PROTOCOL, PORT (TCP), or icmp
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
    /// Own-node egress.
    #[command(flatten)]
    pub node_egress: NodeEgressArg,
    /// When text has colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
    /// Text, JSON, or a page
    #[arg(short, long, value_enum, default_value_t = MatrixOutput::Text)]
    pub output: MatrixOutput,
}

/// Forms of `matrix`'s output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MatrixOutput {
    /// For a person with a terminal.
    Text,
    /// For a program.
    Json,
    /// For a person with a browser; needs no network.
    Html,
}
