//! Tables that belong to a program: others can not change them, they outlive it, and the next one adopts them.

#![allow(clippy::unwrap_used)]

mod support;

use kernel::{Error, Nftables};
use policy_compiler::delta::delta;
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::ruleset::Ruleset;
use support::{Attached, cases, listed, namespace, ruleset};
use testbed::Namespace;

fn wanted(case: usize) -> Ruleset {
    let (_, cluster) = &cases()[case];
    let node = cluster.nodes.keys().next().unwrap();
    ruleset(cluster, node, Attached::Bridged, NodeEgress::Allow)
}

fn owner(namespace: &Namespace) -> Result<Nftables, Error> {
    namespace.run(Nftables::open_owner).unwrap()
}

#[test]
fn others_neither_flush_nor_change_what_belongs_to_us() {
    let (namespace, wanted) = (namespace(), wanted(0));
    let mut nftables = owner(&namespace).unwrap();
    nftables.load(&wanted, None).unwrap();
    namespace.nft("add table inet neighbour").unwrap();
    let before = nftables.read().unwrap();
    assert_eq!(before.unknown, []);
    namespace.nft("flush ruleset").unwrap();
    for change in [
        "add rule inet picket egress accept",
        "delete table inet picket",
        "flush chain inet picket egress",
        "add element inet picket local4 { 192.0.2.1 }",
    ] {
        assert!(namespace.nft(change).is_err(), "{change}");
    }
    let after = nftables.read().unwrap();
    assert!(after.ruleset == before.ruleset && after.unknown.is_empty());
    assert!(!listed(&namespace).contains("table inet neighbour"));
}

#[test]
fn the_next_owner_adopts_what_the_last_one_left_and_goes_on_from_there() {
    let namespace = namespace();
    let (one, other) = (wanted(0), wanted(1));
    let mut first = owner(&namespace).unwrap();
    first.load(&one, None).unwrap();
    // It can not be taken from who has it, and others can see that.
    assert!(matches!(owner(&namespace), Err(Error::Refused(_))));
    let mut watcher = namespace.run(Nftables::open).unwrap().unwrap();
    assert!(watcher.is_owned().unwrap());
    drop(first);
    assert!(!watcher.is_owned().unwrap());
    let mut second = owner(&namespace).unwrap();
    let found = second.read().unwrap();
    assert!(found.ruleset == one && found.unknown.is_empty());
    let plan = delta(&found.ruleset, &other, found.generation.0);
    second.execute(&plan, None).unwrap();
    namespace.nft("flush ruleset").unwrap();
    let empty = delta(&second.read().unwrap().ruleset, &other, 0);
    assert_eq!(empty.transactions, []);
}

#[test]
fn tables_of_a_program_without_owners_are_replaced_by_owned_ones() {
    let (namespace, wanted) = (namespace(), wanted(0));
    let mut plain = namespace.run(Nftables::open).unwrap().unwrap();
    plain.load(&wanted, None).unwrap();
    let mut owner = owner(&namespace).unwrap();
    let found = owner.read().unwrap();
    assert!(!found.unknown.is_empty());
    owner.replace(&wanted).unwrap();
    assert_eq!(owner.read().unwrap().unknown, []);
    assert!(namespace.nft("delete table inet picket").is_err());
    // And back: what nobody has any more, anybody may replace.
    drop(owner);
    assert!(!plain.read().unwrap().unknown.is_empty());
    plain.replace(&wanted).unwrap();
    assert_eq!(plain.read().unwrap().unknown, []);
}
