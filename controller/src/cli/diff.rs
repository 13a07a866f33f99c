//! `picket diff`

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::{NodeEgressArg, Output};

pub(super) const EXAMPLES: &str = "\
Examples:
  picket diff main/manifests branch/manifests               what a change of policies and labels opens and closes
  picket diff old/policies new/policies -f cluster.yaml     with pods, namespaces and nodes that are the same in both
  kubectl get ns,no,po -A -o yaml | picket diff old/policies new/policies -f -
  picket diff old/ new/ --exit-code                         for CI: exit code 1 if any flow opens or closes
  picket diff new/policies                                  what kubectl apply -f new/policies would change in the cluster

Pods, nodes and outside addresses that OLD and NEW both have are compared, for every port and protocol. Pods that are on
the pod network of only one of them are listed, with what isolates them there.";

/// `picket diff`
#[derive(Debug, Args)]
pub struct Diff {
    /// What is in force: a YAML or JSON file, a folder of them, or - for standard input. Alone it is what is applied to
    /// the cluster of the kubeconfig
    pub old: PathBuf,
    /// What would be: the same
    pub new: Option<PathBuf>,
    /// More objects for both sides, repeatable, or - for standard input
    #[arg(short = 'f', long = "filename", value_name = "PATH", requires = "new")]
    pub both: Vec<PathBuf>,
    /// Which kubeconfig says where the cluster is; by default KUBECONFIG, else ~/.kube/config
    #[arg(long, value_name = "FILE", conflicts_with = "new")]
    pub kubeconfig: Option<PathBuf>,
    /// Its context, if not the current one
    #[arg(long, value_name = "NAME", conflicts_with = "new", value_parser = NonEmptyStringValueParser::new())]
    pub context: Option<String>,
    /// The namespace of objects that name none, as kubectl apply -n has it; default if absent
    #[arg(short, long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub namespace: Option<String>,
    /// Accept CIDRs with host bits, leading zeros or IPv4-mapped IPv6, as old clusters hold them
    #[arg(long)]
    pub lenient_cidr: bool,
    /// Own-node egress.
    #[command(flatten)]
    pub node_egress: NodeEgressArg,
    /// Exit with 1 if a flow opens or closes
    #[arg(long)]
    pub exit_code: bool,
    /// Sentences, or one JSON object
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}
