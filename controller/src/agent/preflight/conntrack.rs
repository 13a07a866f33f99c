//! Settings of connection tracking from which something follows.

use super::files::setting;
use super::{Code, Finding};

/// Of a hundred: from here on the table is nearly full.
const NEARLY_FULL: u128 = 90;

pub(super) fn check(findings: &mut Vec<Finding>) {
    // Both are missing until something tracks connections.
    let count = setting("netfilter/nf_conntrack_count");
    let most = setting("netfilter/nf_conntrack_max");
    if let (Some(count), Some(most)) = (count, most) {
        findings.extend(full(count, most));
    }
    if setting("netfilter/nf_conntrack_events") == Some(0) {
        findings.push(Finding::warning(
            Code::ConntrackEvents,
            "the kernel tells nobody of changes to connections (net.netfilter.nf_conntrack_events=0): where another program \
             takes picket's bit off a connection that was cut, it passes until all are looked at again, up to half a minute. \
             Set net.netfilter.nf_conntrack_events=2.",
        ));
    }
}

fn full(count: u64, most: u64) -> Option<Finding> {
    // 0 is no limit.
    let nearly = most > 0 && u128::from(count) * 100 >= u128::from(most) * NEARLY_FULL;
    nearly.then(|| {
        Finding::warning(
            Code::ConntrackFull,
            format!(
                "conntrack's table is nearly full ({count} of {most}): new connections of everybody are dropped at random once it \
                 is. Raise net.netfilter.nf_conntrack_max."
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_nearly_full_from_nine_tenths_on() {
        for (count, most, nearly) in [
            (0, 0, false),
            (1_000, 0, false),
            (235_929, 262_144, false),
            (235_930, 262_144, true),
            (262_144, 262_144, true),
            (89, 100, false),
            (90, 100, true),
            (u64::MAX, u64::MAX, true),
        ] {
            let found = full(count, most);
            assert_eq!(found.is_some(), nearly, "{count} of {most}");
        }
    }
}
