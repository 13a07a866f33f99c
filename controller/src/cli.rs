//! The command line.

mod agent;
mod budget;
mod cleanup;
mod cni;
mod completions;
mod diff;
mod idle;
mod lint;
mod man;
mod matrix;
mod preflight;
mod probe;
mod selftest;
mod serve;
mod span;
mod status;
mod uninstall;

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use policy_compiler::evaluate::NodeEgress;

pub use self::agent::{Agent, OwnTables, Revocation};
pub use self::budget::BudgetArg;
pub use self::cleanup::Cleanup;
pub use self::cni::{Cni, CniCommand, CniFolders, CniInstall, CniUninstall, CniWatch};
pub use self::completions::Completions;
pub use self::diff::Diff;
pub use self::idle::Idle;
pub use self::lint::{FailOn, Lint, LintOutput};
pub use self::man::Man;
pub use self::matrix::{Matrix, MatrixOutput};
pub use self::preflight::Preflight;
pub use self::probe::{Probe, ProbeCommand, ProbeListen};
pub use self::selftest::Selftest;
pub use self::serve::{LogArg, LogFormat, LogLevel, RunDirArg};
pub use self::status::{Dump, Dumped, Status};
pub use self::uninstall::{OwnClusterArg, Uninstall};
use crate::flow::FamilyName;

/// Kubernetes NetworkPolicy on plain nftables.
#[derive(Debug, Parser)]
#[command(name = "picket", version, arg_required_else_help = true, after_help = format!("Exit codes: {EXIT_CODES}\n\n{EXAMPLES}"))]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the process's arguments. Named `kubectl-picket`, it is a plugin of kubectl, and says so.
    pub fn from_arguments() -> Self {
        let mut arguments = std::env::args_os();
        let program = arguments.next().map(PathBuf::from).unwrap_or_default();
        let is_plugin = program
            .file_stem()
            .is_some_and(|name| name == "kubectl-picket");
        let name = if is_plugin {
            "kubectl picket"
        } else {
            "picket"
        };
        let command = Self::command().bin_name(name);
        let matches = command.get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// What each exit code means.
pub const EXIT_CODES: &str = "\
0 done, whatever the verdicts; 1 findings (a packet disagreed, a namespace is over its budget, lint,
preflight, diff --exit-code, status, cni status, selftest, uninstall that is late); 2 bad usage, bad input,
a flow that cannot be asked, or an agent that does not answer; 143 or 130, a wait that SIGTERM or SIGINT ended.";

const EXAMPLES: &str = "\
Examples:
  picket explain -f manifests/ shop/web shop/db 5432/tcp
  picket explain shop/web shop/db 5432/tcp               in the cluster of your kubeconfig
  picket lint -f manifests/
  picket verify -f manifests/
  kubectl get ns,no,po,netpol -A -o yaml | picket compile -f - --node node-1";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enforce what a folder of manifests says on this node, and what changes of it
    #[command(after_help = agent::EXAMPLES)]
    Agent(Agent),
    /// Remove everything of picket from this node
    #[command(after_help = cleanup::EXAMPLES)]
    Cleanup(Cleanup),
    /// Put the CNI plugin into the list of this node's container runtime, or take it out
    #[command(after_help = cni::EXAMPLES)]
    Cni(Cni),
    /// Print what would be loaded on a node
    #[command(after_help = COMPILE_EXAMPLES)]
    Compile(Compile),
    /// Print the completion script of a shell
    #[command(after_help = completions::EXAMPLES)]
    Completions(Completions),
    /// Say which flows a change of objects opens and closes
    #[command(after_help = diff::EXAMPLES)]
    Diff(Diff),
    /// Print the objects, the interfaces of pods, or the rules that the agent of this node has
    #[command(after_help = status::DUMP_EXAMPLES)]
    Dump(Dump),
    /// Say whether a flow is allowed, and why
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(Explain),
    /// Do nothing until told to end, as a pod whose work is done
    #[command(after_help = idle::EXAMPLES)]
    Idle(Idle),
    /// Find useless and surprising policies
    #[command(after_help = lint::EXAMPLES)]
    Lint(Lint),
    /// Write the manual pages
    #[command(after_help = man::EXAMPLES)]
    Man(Man),
    /// Show who reaches whom on which port
    #[command(after_help = matrix::EXAMPLES)]
    Matrix(Matrix),
    /// Say what of this node's kernel keeps policies from being enforced
    #[command(after_help = preflight::EXAMPLES)]
    Preflight(Preflight),
    /// Answer connections, for a test
    #[command(after_help = probe::EXAMPLES, hide = true)]
    Probe(Probe),
    /// Prove in a cluster that a policy closes a pod and another one opens it
    #[command(after_help = selftest::EXAMPLES)]
    Selftest(Selftest),
    /// Say how the agent of this node is
    #[command(after_help = status::STATUS_EXAMPLES)]
    Status(Status),
    /// Delete the agents of a cluster, and wait until all nodes are cleaned up
    #[command(after_help = uninstall::EXAMPLES)]
    Uninstall(Uninstall),
    /// Prove the verdicts with real packets through the real rules, without a cluster
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Verify),
}

const COMPILE_EXAMPLES: &str = "\
Examples:
  picket compile -f manifests/ --node node-1                        the rules as nft text
  picket compile -f manifests/ --node node-1 -o json | nft -j -f -  load them (once, into a kernel without ours)
  kubectl get ns,no,po,netpol -A -o yaml | picket compile -f - --node node-1 -o ir
  picket compile -f manifests/ --node node-1 --budget rules=50000,elements=500000
  picket compile -f cluster.json --attachments node.json --node node-1  what is in force, from its dumps

A namespace whose policies need more on the node than its budget is not compiled: the rules are printed with its pods
closed, which then send and receive nothing, an error names the policies, and the exit code is 1.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  picket explain -f manifests/ shop/web shop/db 5432/tcp
  picket explain -f manifests/ shop/web 203.0.113.9 icmp
  picket explain -f manifests/ node/node-1 shop/db http/tcp -o json
  picket explain -f manifests/ --flows flows.jsonl
  kubectl get ns,no,po,netpol -A -o yaml | picket explain -f - shop/web shop/db 5432/tcp
  helm template shop chart/ -n shop | picket explain -n shop -f - web-0 db-0 5432/tcp
  picket explain --live shop/web shop/db 5432/tcp     by what the agent of this node has, and what it has in force

A flows file has a line for each flow:
  {\"id\": 7, \"from\": \"pod/x/a\", \"to\": \"pod/y/b\", \"protocol\": \"TCP\", \"port\": 80}";

const VERIFY_EXAMPLES: &str = "\
Examples:
  picket verify -f examples/shop                 a sample that shows both sides of every policy
  picket verify -f manifests/ --network bridge   pods on a bridge instead of routed
  picket verify -f manifests/ --flows flows.jsonl -o json
  picket verify -f manifests/ --full             every pair

It builds the cluster in network namespaces of its own, which end with it, and needs no root where user namespaces
are allowed. The programs nft and ip must be installed.

If a namespace is over its budget on any node, nothing is sent: a node would close its pods, whatever their policies
say. An error names the policies, and the exit code is 1.";

/// Where objects come from.
#[derive(Debug, Args)]
pub struct Input {
    /// A YAML or JSON file, a folder of them, or - for standard input; without any, the cluster of the kubeconfig
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The namespace of objects and pods that name none, as kubectl -n has it; by default the context's, else default
    #[arg(short, long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub namespace: Option<String>,
    /// The cluster that is read.
    #[command(flatten)]
    pub cluster: ClusterArg,
    /// Accept CIDRs with host bits, leading zeros or IPv4-mapped IPv6, as old clusters hold them
    #[arg(long)]
    pub lenient_cidr: bool,
}

/// The cluster that is read where no files are named.
#[derive(Clone, Debug, Default, Args)]
pub struct ClusterArg {
    /// Which kubeconfig says where the cluster is; by default KUBECONFIG, else ~/.kube/config
    #[arg(long, value_name = "FILE", conflicts_with = "paths")]
    pub kubeconfig: Option<PathBuf>,
    /// Its context, if not the current one
    #[arg(long, value_name = "NAME", conflicts_with = "paths", value_parser = NonEmptyStringValueParser::new())]
    pub context: Option<String>,
}

/// The own-node egress switch.
#[derive(Debug, Args)]
pub struct NodeEgressArg {
    /// Whether pods that are isolated for egress may reach their own node
    #[arg(long = "node-egress", value_name = "HOW", value_enum, default_value_t = NodeEgressName::Allow)]
    pub node_egress: NodeEgressName,
}

/// See [`NodeEgress`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum NodeEgressName {
    /// Always.
    Allow,
    /// As policies say.
    Policy,
}

impl From<NodeEgressName> for NodeEgress {
    fn from(name: NodeEgressName) -> Self {
        match name {
            NodeEgressName::Allow => NodeEgress::Allow,
            NodeEgressName::Policy => NodeEgress::Policy,
        }
    }
}

/// `picket compile`
#[derive(Debug, Args)]
pub struct Compile {
    /// Objects.
    #[command(flatten)]
    pub input: Input,
    /// The node whose rules are printed
    #[arg(long)]
    pub node: String,
    /// Own-node egress.
    #[command(flatten)]
    pub node_egress: NodeEgressArg,
    /// A bridge that carries pods, repeatable; without any, every bridge is taken for one
    #[arg(long = "bridge", value_name = "NAME")]
    pub bridges: Vec<String>,
    /// The interfaces of the node's pods, as picket dump attachments prints them; without it none is known
    #[arg(long, value_name = "FILE")]
    pub attachments: Option<PathBuf>,
    /// Budgets.
    #[command(flatten)]
    pub budget: BudgetArg,
    /// nft text, nft JSON, or the rules before they take the kernel's shape
    #[arg(short, long, value_enum, default_value_t = CompileOutput::Nft)]
    pub output: CompileOutput,
}

/// Forms of `compile`'s output.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CompileOutput {
    /// For `nft -f`.
    Nft,
    /// For `nft -j -f`.
    Json,
    /// The intermediate rules, with full names.
    Ir,
}

/// `picket explain`
#[derive(Debug, Args)]
pub struct Explain {
    /// Objects.
    #[command(flatten)]
    pub input: Input,
    /// Ask the agent of this node, in place of files
    #[arg(long, conflicts_with_all = ["paths", "kubeconfig", "context", "lenient_cidr", "node_egress"])]
    pub live: bool,
    /// The agent's directory.
    #[command(flatten)]
    pub run_dir: RunDirArg,
    /// Who opens the connection: NAMESPACE/POD, node/NAME or an address
    #[arg(required_unless_present = "flows", conflicts_with = "flows")]
    pub from: Option<String>,
    /// To whom
    #[arg(required_unless_present = "flows", conflicts_with = "flows")]
    pub to: Option<String>,
    /// PORT/PROTOCOL, PORT (TCP), NAME/PROTOCOL, or icmp
    #[arg(required_unless_present = "flows", conflicts_with = "flows")]
    pub port: Option<String>,
    /// The address family; by default the one that both ends have, IPv4 if both
    #[arg(long, value_enum, conflicts_with = "flows")]
    pub family: Option<FamilyName>,
    /// A file with a flow a line, or - for standard input
    #[arg(long, value_name = "FILE")]
    pub flows: Option<PathBuf>,
    /// Own-node egress.
    #[command(flatten)]
    pub node_egress: NodeEgressArg,
    /// Sentences, or a JSON object a line
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `picket verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// Objects.
    #[command(flatten)]
    pub input: Input,
    /// A file with a flow a line, or - for standard input, instead of a sample
    #[arg(long, value_name = "FILE")]
    pub flows: Option<PathBuf>,
    /// Every pair of ends instead of a sample
    #[arg(long, conflicts_with = "flows")]
    pub full: bool,
    /// How pods are attached to their nodes
    #[arg(long, value_enum, default_value_t = NetworkName::Routed)]
    pub network: NetworkName,
    /// Own-node egress.
    #[command(flatten)]
    pub node_egress: NodeEgressArg,
    /// Budgets.
    #[command(flatten)]
    pub budget: BudgetArg,
    /// A table, or a JSON object a line
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// How pods are attached.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum NetworkName {
    /// Each on its own veth pair, everything routed.
    Routed,
    /// On one bridge per node.
    Bridge,
}

impl From<NetworkName> for testbed::Network {
    fn from(name: NetworkName) -> Self {
        match name {
            NetworkName::Routed => testbed::Network::Routed,
            NetworkName::Bridge => testbed::Network::Bridged,
        }
    }
}

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For a person.
    Text,
    /// For a program.
    Json,
}
