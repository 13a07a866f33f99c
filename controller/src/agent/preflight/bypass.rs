//! Ways by which packets do not pass the forward hook.

use kernel::{Foreign, Link};

use super::files::net;
use super::{Code, Finding};

/// Where kube-proxy puts the Services' addresses in its IPVS mode.
const IPVS_LINK: &str = "kube-ipvs0";

pub(super) fn ipvs_link(links: &[Link], findings: &mut Vec<Finding>) {
    if links.iter().any(|link| link.name == IPVS_LINK) {
        findings.push(ipvs(&format!("the interface {IPVS_LINK} is there")));
    }
}

/// Without a link: another program's, or another mode's. Three lines are its head.
pub(super) fn ipvs_table(findings: &mut Vec<Finding>) {
    if net("ip_vs").is_some_and(|table| has_services(&table)) {
        findings.push(ipvs("/proc/net/ip_vs has virtual servers"));
    }
}

fn has_services(table: &str) -> bool {
    let mut lines = table.lines();
    lines.any(|line| {
        ["TCP", "UDP", "SCTP", "FWM"]
            .iter()
            .any(|of| line.starts_with(of))
    })
}

fn ipvs(because: &str) -> Finding {
    Finding::warning(
        Code::Ipvs,
        format!(
            "Services are made by IPVS ({because}): packets of pods to Services come to the hooks input and output instead of \
             forward, and pods reach every Service's address as if it were the node's own until IPVS has rewritten it. Use \
             kube-proxy's mode nftables or iptables."
        ),
    )
}

pub(super) fn flowtables(foreign: &Foreign, findings: &mut Vec<Finding>) {
    let names: Vec<_> = foreign.flowtables.iter().map(ToString::to_string).collect();
    if !names.is_empty() {
        findings.push(Finding::warning(
            Code::Flowtable,
            format!(
                "there are flowtables ({}): packets of connections in them skip the forward hook, so that one that is no longer \
                 allowed is not cut before it ends. Keep connections of pods out of them.",
                names.join(", ")
            ),
        ));
    }
}

#[cfg(test)]
mod tests {
    use kernel::{ForeignFamily, ForeignObject, ForeignTable};

    use super::*;

    const HEAD: &str = "IP Virtual Server version 1.2.1 (size=4096)\n\
        Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n";

    #[test]
    fn flowtables_are_named() {
        let mut foreign = Foreign::default();
        let mut findings = Vec::new();
        flowtables(&foreign, &mut findings);
        assert_eq!(findings, []);
        for name in ["fast", "faster"] {
            let table = ForeignTable {
                family: ForeignFamily(1),
                name: "others".to_owned(),
            };
            let name = name.to_owned();
            foreign.flowtables.insert(ForeignObject { table, name });
        }
        flowtables(&foreign, &mut findings);
        assert_eq!((findings.len(), findings[0].code), (1, Code::Flowtable));
        let names = "(inet others fast, inet others faster)";
        assert!(findings[0].message.contains(names), "{findings:?}");
    }

    #[test]
    fn ipvs_without_a_service_is_nothing() {
        assert!(!has_services(HEAD));
        let one = format!(
            "{HEAD}TCP  0A600001:01BB rr \n  -> 0A010B0C:1F90      Masq    1      0          0\n"
        );
        assert!(has_services(&one));
    }
}
