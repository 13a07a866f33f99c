//! Rules of others that change our bit of a connection's mark.

use std::collections::BTreeMap;

use kernel::{Foreign, ForeignObject, MarkWriter};

use super::files::net;
use super::{Code, Finding};

/// Chains that are named in one message.
const MOST_NAMED: usize = 5;

pub(super) fn check(foreign: &Foreign, bit: u32, findings: &mut Vec<Finding>) {
    let writers = |is: fn(&MarkWriter) -> u32| {
        let with_bit = foreign.mark_writers.iter();
        named(with_bit.filter(move |writer| is(writer) & bit != 0))
    };
    if let Some(rules) = writers(|writer| writer.written.cleared) {
        findings.push(Finding::warning(
            Code::MarkCleared,
            format!(
                "{rules} may take the bit {bit:#x} off a connection's mark, by which picket cuts connections that are no longer \
                 allowed: such a connection passes until the bit is set again, and if the rule writes the mark with each \
                 packet, for as long as it lasts. Have the rule keep other bits (ct mark set ct mark and .. or ..; iptables: \
                 --set-xmark or --save-mark with a mask)."
            ),
        ));
    }
    if let Some(rules) = writers(|writer| writer.written.set) {
        findings.push(Finding::warning(
            Code::MarkSet,
            format!(
                "{rules} may put the bit {bit:#x} on a connection's mark, by which picket cuts connections that are no longer \
                 allowed: one that is allowed is cut until picket takes the bit off. Have the rule write only bits of its own, \
                 or give picket another bit."
            ),
        ));
    }
}

/// `rule 7 of chain ip mangle PREROUTING`, and so on.
fn named<'a>(writers: impl Iterator<Item = &'a MarkWriter>) -> Option<String> {
    let mut by_chain: BTreeMap<&ForeignObject, Vec<u64>> = BTreeMap::new();
    for writer in writers {
        by_chain
            .entry(&writer.chain)
            .or_default()
            .push(writer.handle);
    }
    let mut texts: Vec<_> = by_chain
        .iter()
        .take(MOST_NAMED)
        .map(|(chain, handles)| {
            let numbers: Vec<_> = handles
                .iter()
                .take(MOST_NAMED)
                .map(u64::to_string)
                .collect();
            let more = match handles.len().saturating_sub(MOST_NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("handle {}{more} of chain {chain}", numbers.join(", "))
        })
        .collect();
    if by_chain.len() > MOST_NAMED {
        texts.push(format!("{} more chains", by_chain.len() - MOST_NAMED));
    }
    (!texts.is_empty()).then(|| format!("nftables rules with {}", texts.join("; ")))
}

/// Tables of iptables-legacy are not in nftables. The files say which there are, also while they are empty.
pub(super) fn iptables_legacy(findings: &mut Vec<Finding>) {
    let tables: Vec<_> = [
        ("iptables", "ip_tables_names"),
        ("ip6tables", "ip6_tables_names"),
    ]
    .into_iter()
    .filter_map(|(program, file)| of_legacy(program, &net(file)?))
    .collect();
    if !tables.is_empty() {
        findings.push(Finding::note(
            Code::IptablesLegacy,
            format!(
                "there are tables of {}: their rules can not be read here, so whether one writes the whole mark of connections \
                 (CONNMARK) was not checked. See iptables-legacy-save.",
                tables.join(" and ")
            ),
        ));
    }
}

fn of_legacy(program: &str, names: &str) -> Option<String> {
    let mut names: Vec<_> = names.split_whitespace().collect();
    names.sort_unstable();
    (!names.is_empty()).then(|| format!("{program}-legacy ({})", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_iptables_legacy_are_named() {
        assert_eq!(of_legacy("iptables", ""), None);
        assert_eq!(
            of_legacy("ip6tables", "nat\nmangle\n").as_deref(),
            Some("ip6tables-legacy (mangle, nat)")
        );
    }
}
