//! Tables of another version, or of another hand, are replaced as a whole.

#![allow(clippy::unwrap_used)]

mod support;

use policy_compiler::evaluate::NodeEgress;
use policy_compiler::render;
use policy_compiler::ruleset::Ruleset;
use support::{Attached, cases, listed, namespace, nftables, ruleset};
use testbed::Namespace;

/// Tables named as ours that no version of this program makes, and a neighbour's.
const STRANGE: &str = "
add table inet picket { flags dormant; }
add chain inet picket x { type filter hook forward priority 7; }
add rule inet picket x limit rate 5/second drop
add table ip picket
add set ip picket s { type ipv4_addr . inet_service; }
add chain ip picket y { type nat hook postrouting priority 100; }
add table arp picket
add chain arp picket z { type filter hook input priority 0; }
add table inet neighbour
add chain inet neighbour forward { type filter hook forward priority 0; }
";
const NEIGHBOUR: &str = "table inet neighbour {";

fn wanted() -> Ruleset {
    let (_, cluster) = &cases()[0];
    let node = cluster.nodes.keys().next().unwrap();
    ruleset(cluster, node, Attached::Bridged, NodeEgress::Allow)
}

fn is_in_force(namespace: &Namespace, wanted: &Ruleset) -> bool {
    let found = nftables(namespace).read().unwrap();
    let names: Vec<_> = listed(namespace).lines().map(str::to_owned).collect();
    let tables = names.iter().filter(|line| line.starts_with("table "));
    let others = tables.filter(|line| !line.contains(" picket {")).count();
    found.unknown.is_empty() && found.ruleset == *wanted && others == 1
}

#[test]
fn strange_tables_are_replaced_in_every_family_and_neighbours_stay() {
    let (namespace, wanted) = (namespace(), wanted());
    namespace.nft(STRANGE).unwrap();
    let generation = nftables(&namespace).replace(&wanted).unwrap();
    assert!(is_in_force(&namespace, &wanted), "{}", listed(&namespace));
    assert!(listed(&namespace).contains(NEIGHBOUR));
    assert_eq!(nftables(&namespace).generation().unwrap(), generation);
}

#[test]
fn what_a_killed_replacement_left_judges_until_the_ruleset_is_in_force() {
    // The first has only made the copy, the second has taken the old tables away too.
    for old in [STRANGE, "add table inet neighbour"] {
        let (namespace, wanted) = (namespace(), wanted());
        namespace.nft(old).unwrap();
        let copy = render::text(&wanted).replace(" picket {", " picket-next {");
        namespace.nft(&copy).unwrap();
        let before = nftables(&namespace).generation().unwrap();
        let after = nftables(&namespace).replace(&wanted).unwrap();
        assert!(is_in_force(&namespace, &wanted), "{}", listed(&namespace));
        // The copy was not made again: base chains and tables went, the new came, the copy's base chains and it went.
        let most = if old == STRANGE { 5 } else { 3 };
        assert_eq!(after.0 - before.0, most);
    }
}

#[test]
fn a_copy_that_was_about_to_go_is_made_again() {
    let (namespace, wanted) = (namespace(), wanted());
    namespace.nft(STRANGE).unwrap();
    namespace.nft("add table inet picket-next").unwrap();
    let before = nftables(&namespace).generation().unwrap();
    let after = nftables(&namespace).replace(&wanted).unwrap();
    assert!(is_in_force(&namespace, &wanted), "{}", listed(&namespace));
    assert_eq!(after.0 - before.0, 7);
}
