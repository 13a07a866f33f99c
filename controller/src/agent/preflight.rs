//! Preflight: what of this node's kernel and of what else runs here keeps policies from being enforced.
//!
//! Everything is asked in the network namespace of the calling thread, and nothing is changed, unless
//! [`Options::set_bridge_netfilter`] says so. `picket preflight` prints it, and the agent asks when it starts.

mod bridges;
mod bypass;
mod conntrack;
mod engines;
mod features;
mod files;
mod marks;
mod watch;

use std::fmt;

use kernel::{Error, Foreign, Link, Links, Nftables};
use policy_compiler::lower::RevokedBit;
use schemars::JsonSchema;
use serde::Serialize;

pub(super) use self::bridges::hand_over;
pub use self::watch::watch;
use super::error::describe;

/// What to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The bridges that carry pods, by name; without any, every bridge is taken for one.
    pub bridges: Vec<String>,
    /// Whether to make the named bridges hand packets to the hooks of IP.
    pub set_bridge_netfilter: bool,
    /// The bit of a connection's mark that says it was revoked.
    pub revoked: RevokedBit,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Finding {
    /// What follows from it, at worst.
    pub severity: Severity,
    /// What was found; does not change from version to version.
    pub code: Code,
    /// What was found, what follows, and what to do about it.
    pub message: String,
}

/// What follows from a finding, at worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Policies can not be enforced, or not all.
    Error,
    /// A guarantee is weaker.
    Warning,
    /// Worth knowing.
    Note,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The process lacks CAP_NET_ADMIN.
    NoPermission,
    /// The kernel lacks a feature.
    KernelFeature,
    /// Something could not be asked.
    Unreadable,
    /// A bridge that was named is not there, or is no bridge.
    NoBridge,
    /// Packets inside a bridge do not pass our rules.
    BridgeNetfilter,
    /// A bridge was made to hand packets to the hooks of IP.
    BridgeNetfilterSet,
    /// Frames with a VLAN tag do not pass our rules inside a bridge.
    BridgeVlanTagged,
    /// A rule of others may take our bit off a connection's mark.
    MarkCleared,
    /// A rule of others may put our bit on a connection's mark.
    MarkSet,
    /// There are tables of iptables-legacy, which can not be read.
    IptablesLegacy,
    /// Services are made by IPVS.
    Ipvs,
    /// Packets of some connections skip the forward hook.
    Flowtable,
    /// Somebody else enforces policies.
    SecondEngine,
    /// Conntrack's table is nearly full.
    ConntrackFull,
    /// The kernel tells nobody of changes to connections.
    ConntrackEvents,
    /// The interfaces of pods are not known.
    ForgedSources,
}

impl Finding {
    fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    fn note(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, message)
    }

    fn new(severity: Severity, code: Code, message: impl Into<String>) -> Self {
        Self {
            severity,
            code,
            message: message.into(),
        }
    }

    /// Something could not be asked, and is not known therefore.
    fn unreadable(what: &str, error: &dyn std::error::Error) -> Self {
        let text = describe(error);
        Self::warning(
            Code::Unreadable,
            format!("{what} could not be checked: {text}."),
        )
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

impl fmt::Display for Finding {
    /// `warning: MESSAGE`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.message)
    }
}

/// Looks for everything, in the network namespace of the calling thread; what is worst comes first.
pub fn inspect(options: &Options) -> Vec<Finding> {
    let mut findings = of_the_rest(options);
    let lacks_all = |finding: &Finding| finding.code == Code::NoPermission;
    if !findings.iter().any(lacks_all) {
        findings.extend(of_bridges(options));
    }
    findings.sort();
    findings
}

/// Looks at the bridges that carry pods, and sets what is to be set.
fn of_bridges(options: &Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    let checked =
        Links::open().and_then(|mut links| bridges::check(&mut links, options, &mut findings));
    if let Err(error) = checked {
        findings.push(Finding::unreadable("bridges", &error));
    }
    findings.sort();
    findings.dedup();
    findings
}

/// Looks for everything else.
fn of_the_rest(options: &Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    if features::check(&mut findings) {
        everything_else(options, &mut findings);
    }
    findings.sort();
    findings.dedup();
    findings
}

fn everything_else(options: &Options, findings: &mut Vec<Finding>) {
    match Links::open().and_then(|mut links| links.list()) {
        Ok(links) => of_links(&links, findings),
        Err(error) => findings.push(Finding::unreadable("interfaces", &error)),
    }
    match Nftables::open().and_then(|mut nftables| nftables.read_foreign()) {
        Ok(foreign) => of_rules(&foreign, options, findings),
        Err(error) => findings.push(rules_unreadable(&error)),
    }
    bypass::ipvs_table(findings);
    marks::iptables_legacy(findings);
    conntrack::check(findings);
    findings.push(Finding::note(
        Code::ForgedSources,
        "no CNI plugin tells which interface is which pod's: a pod with CAP_NET_RAW can send from an address that is not \
         its own, and so escape its egress policies. Do not grant NET_RAW (drop it in securityContext.capabilities; the \
         pod security level Restricted demands it).",
    ));
}

fn of_links(links: &[Link], findings: &mut Vec<Finding>) {
    engines::by_links(links, findings);
    bypass::ipvs_link(links, findings);
}

fn of_rules(foreign: &Foreign, options: &Options, findings: &mut Vec<Finding>) {
    engines::by_rules(foreign, findings);
    bypass::flowtables(foreign, findings);
    marks::check(foreign, options.revoked.bits(), findings);
    if foreign.partial {
        findings.push(Finding::warning(
            Code::Unreadable,
            "the rules of others changed while they were read, or are very many: some were not checked. Ask again.",
        ));
    }
}

fn rules_unreadable(error: &Error) -> Finding {
    Finding::unreadable("the rules of others", error)
}
