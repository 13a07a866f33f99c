//! Others that enforce policies, known by what they leave in the kernel.

use kernel::{Foreign, Link};

use super::{Code, Finding};

/// Somebody else who enforces policies.
struct Engine {
    name: &'static str,
    /// Beginnings of the names of its chains.
    chains: &'static [&'static str],
    /// Names of its tables.
    tables: &'static [&'static str],
    /// Beginnings of the names of its interfaces.
    links: &'static [&'static str],
    /// Why packets of its pods may not come to the hooks of IP at all.
    bypasses: Option<&'static str>,
}

const OPEN_VSWITCH: Option<&str> =
    Some("its pods are on Open vSwitch, whose packets do not pass the hooks of IP");

const ENGINES: [Engine; 10] = [
    Engine {
        name: "Antrea",
        chains: &["ANTREA-"],
        tables: &[],
        links: &["antrea-"],
        bypasses: OPEN_VSWITCH,
    },
    Engine {
        name: "Azure NPM",
        chains: &["AZURE-NPM"],
        tables: &[],
        links: &[],
        bypasses: None,
    },
    Engine {
        name: "Calico",
        chains: &["cali-"],
        tables: &["calico"],
        links: &["cali"],
        bypasses: None,
    },
    Engine {
        name: "Cilium",
        chains: &["CILIUM_", "OLD_CILIUM_"],
        tables: &[],
        links: &["cilium_"],
        bypasses: Some("its eBPF programs may carry packets past the hooks of IP"),
    },
    Engine {
        name: "kube-network-policies",
        chains: &[],
        tables: &["kube-network-policies"],
        links: &[],
        bypasses: None,
    },
    Engine {
        name: "kube-ovn",
        chains: &["OVN-"],
        tables: &[],
        links: &["ovn0"],
        bypasses: OPEN_VSWITCH,
    },
    Engine {
        name: "kube-router",
        chains: &["KUBE-ROUTER-", "KUBE-NWPLCY-", "KUBE-POD-FW-"],
        tables: &[],
        links: &[],
        bypasses: None,
    },
    Engine {
        name: "OVN-Kubernetes",
        chains: &[],
        tables: &["ovn-kubernetes"],
        links: &["ovn-k8s-"],
        bypasses: OPEN_VSWITCH,
    },
    Engine {
        name: "Romana",
        chains: &["ROMANA-"],
        tables: &[],
        links: &["romana-"],
        bypasses: None,
    },
    Engine {
        name: "Weave Net",
        chains: &["WEAVE-NPC"],
        tables: &[],
        links: &[],
        bypasses: None,
    },
];

/// By interfaces.
pub(super) fn by_links(links: &[Link], findings: &mut Vec<Finding>) {
    let names: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
    find(findings, "interface", |engine| {
        let is_its = |name: &&&str| engine.links.iter().any(|start| name.starts_with(start));
        names.iter().find(is_its).map(ToString::to_string)
    });
}

/// By tables and chains.
pub(super) fn by_rules(foreign: &Foreign, findings: &mut Vec<Finding>) {
    find(findings, "table", |engine| {
        let mut tables = foreign.tables.iter();
        let table = tables.find(|table| engine.tables.contains(&table.name.as_str()))?;
        Some(table.to_string())
    });
    find(findings, "chain", |engine| {
        let is_its = |name: &str| engine.chains.iter().any(|start| name.starts_with(start));
        let mut chains = foreign.chains.iter();
        let chain = chains.find(|chain| is_its(&chain.name))?;
        Some(chain.to_string())
    });
}

fn find(findings: &mut Vec<Finding>, what: &str, its: impl Fn(&Engine) -> Option<String>) {
    for engine in &ENGINES {
        let Some(thing) = its(engine) else {
            continue;
        };
        let seen = format!("{} is here ({what} {thing})", engine.name);
        findings.push(match engine.bypasses {
            None => Finding::warning(
                Code::SecondEngine,
                format!(
                    "{seen}: a connection passes only if both it and picket allow it, and each reports what the other drops as \
                     a network that does not work. Let one of them enforce NetworkPolicy, and remove what the other left."
                ),
            ),
            Some(why) => Finding::error(
                Code::SecondEngine,
                format!(
                    "{seen}: {why}, and so not picket's rules. Remove it, or leave NetworkPolicy to it."
                ),
            ),
        });
    }
}
