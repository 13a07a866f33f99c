//! `picket uninstall`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::span::span;

pub(super) const EXAMPLES: &str = "\
Examples:
  picket uninstall --namespace kube-system --daemonset picket --timeout 5m
  picket uninstall --namespace kube-system --cleanup picket-cleanup --timeout 5m
  picket uninstall --namespace kube-system --daemonset picket --cleanup picket-cleanup

It deletes the DaemonSet of the agents and waits until all of them have ended. Then it waits until the DaemonSet that
cleans up, whose pods are ready when their node is clean, is ready on all nodes. What is done already is not done again.
The exit code is 1 if that does not come about in time: the nodes that are late are named. It needs the right to get and
delete daemonsets, and to list pods for the names of the nodes.";

/// `picket uninstall`
#[derive(Debug, Args)]
pub struct Uninstall {
    /// The namespace of both
    #[arg(short, long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub namespace: String,
    /// The DaemonSet of the agents, which is deleted
    #[arg(long, value_name = "NAME", required_unless_present = "cleanup", value_parser = NonEmptyStringValueParser::new())]
    pub daemonset: Option<String>,
    /// The DaemonSet that cleans the nodes up, which is waited for
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub cleanup: Option<String>,
    /// How long all of it may take
    #[arg(long, value_name = "SPAN", default_value = "5m", value_parser = span)]
    pub timeout: Duration,
    /// The cluster.
    #[command(flatten)]
    pub cluster: OwnClusterArg,
}

/// The cluster of whom it is asked.
#[derive(Clone, Debug, Args)]
pub struct OwnClusterArg {
    /// Which kubeconfig says where the cluster is; by default KUBECONFIG, else ~/.kube/config, else the account of the pod
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Its context, if not the current one
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub context: Option<String>,
}
