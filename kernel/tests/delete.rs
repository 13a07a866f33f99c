//! Tables are deleted by their names, whatever is in them, and others stay.

#![allow(clippy::unwrap_used)]

mod support;

use support::{listed, namespace, nftables};

const NAMES: [&str; 2] = ["picket", "picket-next"];

/// What is not ours, in every family, with names that look like ours.
const FOREIGN: &str = "
add table inet other
add chain inet other forward { type filter hook forward priority 0; policy accept; }
add rule inet other forward counter accept
add table ip kube-proxy
add map ip kube-proxy m { type ipv4_addr : verdict; }
add element ip kube-proxy m { 10.0.0.1 : drop }
add chain ip kube-proxy c
add rule ip kube-proxy c ip daddr vmap @m
add table inet picket-mine
add chain inet picket-mine input { type filter hook input priority 0; policy accept; }
add table bridge picke
";

/// What an older or a newer version, or another program, may have left under our names.
const OURS: &str = "
add table inet picket
add set inet picket s { type ipv4_addr; flags timeout; }
add map inet picket egress4 { type ipv4_addr : verdict; }
add chain inet picket class
add rule inet picket class ct state vmap { established : accept, new : drop }
add element inet picket egress4 { 10.0.0.1 : goto class }
add chain inet picket forward { type filter hook forward priority -6; policy drop; }
add rule inet picket forward ip saddr @s counter drop
add rule inet picket forward ip saddr vmap @egress4
add rule inet picket forward jump class
add chain inet picket nat { type nat hook postrouting priority 100; }
add rule inet picket nat masquerade
add table inet picket-next
add chain inet picket-next forward { type filter hook forward priority -6; policy accept; }
add rule inet picket-next forward jump { drop; }
add table ip picket { flags dormant; }
add chain ip picket output { type route hook output priority 0; }
add table ip6 picket
add chain ip6 picket input { type filter hook input priority 0; }
add table arp picket
add chain arp picket input { type filter hook input priority 0; }
add table bridge picket
add chain bridge picket forward { type filter hook forward priority 0; }
add table netdev picket
add chain netdev picket ingress { type filter hook ingress device lo priority 0; }
";

#[test]
fn tables_of_these_names_go_in_every_family_and_others_stay() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    namespace.nft(FOREIGN).unwrap();
    let before = listed(&namespace);
    namespace.nft(OURS).unwrap();
    let deleted = nftables.delete_tables(&NAMES).unwrap();
    let names: Vec<_> = deleted.iter().map(ToString::to_string).collect();
    let expected = [
        "inet picket",
        "inet picket-next",
        "ip picket",
        "arp picket",
        "netdev picket",
        "bridge picket",
        "ip6 picket",
    ];
    assert_eq!(names, expected);
    assert_eq!(listed(&namespace), before);
}

#[test]
fn where_there_is_none_nothing_is_changed() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    namespace.nft(FOREIGN).unwrap();
    let generation = nftables.generation().unwrap();
    assert_eq!(nftables.delete_tables(&NAMES).unwrap(), []);
    assert_eq!(nftables.generation().unwrap(), generation);
}

#[test]
fn base_chains_go_before_the_tables() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    namespace.nft(OURS).unwrap();
    let before = nftables.generation().unwrap();
    nftables.delete_tables(&NAMES).unwrap();
    // One generation for the chains, and one for the tables.
    assert_eq!(nftables.generation().unwrap().0, before.0 + 2);
}
