//! `picket cni`

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};
use cni_chain::install::OnAgentUnavailable;

use super::span::span;
use super::{LogArg, RunDirArg};

pub(super) const EXAMPLES: &str = "\
Examples:
  picket cni install                          into /etc/cni/net.d and /opt/cni/bin
  picket cni watch --on-agent-unavailable quarantine
  picket cni status
  picket cni uninstall --purge

The plugin becomes the last of the list of plugins that the container runtime takes; the rest of the file stays as it is.";

const INSTALL_EXAMPLES: &str = "\
Examples:
  picket cni install
  picket cni install --conf-dir /var/lib/rancher/k3s/agent/etc/cni/net.d --bin-dir /var/lib/rancher/k3s/data/cni
  picket cni install --conf-dir /etc/cni/net.d --conf-dir /etc/cni/kata.d
  picket cni install --cni-conf-name 10-calico.conflist --exclude-namespace kube-system
  picket cni install --plugin /usr/libexec/picket-cni --timeout-seconds 60

What is installed already is not written again. A configuration that can not be understood is left alone: an error names
the file and the field. Exit code 2 if the plugin is not installed.";

const UNINSTALL_EXAMPLES: &str = "\
Examples:
  picket cni uninstall
  picket cni uninstall --purge --purge-after-seconds 60
  picket cni uninstall --wait 5m               for picket cni watch to end

It takes the plugin out of all lists, whichever the runtime takes. The binary stays without --purge, since pods that end
now may need it. It refuses while picket cni watch runs for the folder. SIGTERM and SIGINT end what is waited for, with exit
code 143 or 130. Exit code 2 if something is left.";

const STATUS_EXAMPLES: &str = "\
Examples:
  picket cni status
  picket cni status --on-agent-unavailable quarantine    give it what install or watch are given

Exit code 0 if the entry is in the list that the runtime takes, as the arguments say, and the binary is in its folder and
answers; 1 if not, and a line for each thing that is missing. Nothing is changed.";

const WATCH_EXAMPLES: &str = "\
Examples:
  picket cni watch
  picket cni watch --on-agent-unavailable quarantine --log-format json

It goes on until it is told to stop with SIGTERM or SIGINT. What is installed stays installed then.";

/// `picket cni`
#[derive(Debug, Args)]
pub struct Cni {
    /// What to do.
    #[command(subcommand)]
    pub command: CniCommand,
}

/// The commands of the CNI plugin.
#[derive(Debug, Subcommand)]
pub enum CniCommand {
    /// Put the plugin into the runtime's list
    #[command(after_help = INSTALL_EXAMPLES)]
    Install(CniInstall),
    /// Say whether it is there, and what is missing
    #[command(after_help = STATUS_EXAMPLES)]
    Status(CniInstall),
    /// Take it out
    #[command(after_help = UNINSTALL_EXAMPLES)]
    Uninstall(CniUninstall),
    /// Put it there, and again whenever others undo that
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(CniWatch),
}

/// The runtime's folders.
#[derive(Debug, Args)]
pub struct CniFolders {
    /// The runtime's folder of network configurations, repeatable, as a handler of containerd may have its own
    #[arg(
        long = "conf-dir",
        value_name = "DIR",
        default_value = "/etc/cni/net.d"
    )]
    pub conf_dirs: Vec<PathBuf>,
    /// The runtime's folder of plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub bin_dir: PathBuf,
    /// The configuration in that folder, if it is not the first that can be read
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub cni_conf_name: Option<String>,
}

/// `picket cni install`
#[derive(Debug, Args)]
pub struct CniInstall {
    /// Folders.
    #[command(flatten)]
    pub folders: CniFolders,
    /// The plugin's binary, which is copied; by default picket-cni beside this program
    #[arg(long, value_name = "FILE")]
    pub plugin: Option<PathBuf>,
    /// The agent's directory.
    #[command(flatten)]
    pub run_dir: RunDirArg,
    /// What becomes of a pod when the agent does not answer in time
    #[arg(long, value_name = "HOW", value_enum, default_value_t = OnAgentUnavailableName::Block)]
    pub on_agent_unavailable: OnAgentUnavailableName,
    /// How long the plugin waits for the agent
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=120))]
    pub timeout_seconds: u64,
    /// A namespace whose pods are let through, repeatable
    #[arg(long = "exclude-namespace", value_name = "NAME")]
    pub exclude_namespaces: Vec<String>,
    /// Let the pods of this namespace send from addresses that are not their own, as who routes must. Their policies hold
    /// for their own addresses. May be given more than once.
    #[arg(long = "routing-namespace", value_name = "NAME")]
    pub routing_namespaces: Vec<String>,
}

/// `picket cni uninstall`
#[derive(Debug, Args)]
pub struct CniUninstall {
    /// Folders.
    #[command(flatten)]
    pub folders: CniFolders,
    /// Remove the binary too
    #[arg(long)]
    pub purge: bool,
    /// How long pods that end now may need the binary
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "purge")]
    pub purge_after_seconds: u64,
    /// Wait at most so long for picket cni watch to end
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub wait: Option<Duration>,
}

/// `picket cni watch`
#[derive(Debug, Args)]
pub struct CniWatch {
    /// What is installed.
    #[command(flatten)]
    pub install: CniInstall,
    /// Log lines.
    #[command(flatten)]
    pub log: LogArg,
}

/// See [`OnAgentUnavailable`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnAgentUnavailableName {
    /// It does not start, and the runtime tries again.
    Block,
    /// It starts, and has no network until the agent is there.
    Quarantine,
    /// It starts, and no policy holds for it until the agent is there.
    Allow,
}

impl From<OnAgentUnavailableName> for OnAgentUnavailable {
    fn from(name: OnAgentUnavailableName) -> Self {
        match name {
            OnAgentUnavailableName::Block => Self::Block,
            OnAgentUnavailableName::Quarantine => Self::Quarantine,
            OnAgentUnavailableName::Allow => Self::Allow,
        }
    }
}
