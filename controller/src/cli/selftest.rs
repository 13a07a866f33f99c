//! `picket selftest`

use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::OwnClusterArg;
use super::span::span;

pub(super) const EXAMPLES: &str = "\
Examples:
  picket selftest                                   in a pod, which is the client
  picket selftest --namespace picket --image registry.example/picket:1 --timeout 2m

It starts a pod that answers, connects to it, denies that by a NetworkPolicy, then allows it by another one, and says after
how long each was in force. What it made it deletes, also if it fails. It needs the rights to create, get and delete pods
and to create and delete networkpolicies. The exit code is 1 if a connection passes that must not, or the reverse.";

/// `picket selftest`
#[derive(Debug, Args)]
pub struct Selftest {
    /// The namespace of this pod; by default the account's or the context's
    #[arg(short, long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub namespace: Option<String>,
    /// The name of this pod; by default POD_NAME of the environment, else HOSTNAME
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub pod: Option<String>,
    /// The image that has this program; by default that of this pod's first container
    #[arg(long, value_name = "IMAGE", value_parser = NonEmptyStringValueParser::new())]
    pub image: Option<String>,
    /// How long the server may take to start
    #[arg(long, value_name = "SPAN", default_value = "2m", value_parser = span)]
    pub timeout: Duration,
    /// How long a policy may take to be in force
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = span)]
    pub policy_timeout: Duration,
    /// The cluster.
    #[command(flatten)]
    pub cluster: OwnClusterArg,
}
