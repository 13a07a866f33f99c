//! What others put into our tables is told of and taken out again, and never stops anybody from reading them.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use kernel::{Error, Generation, Operation, load};
use policy_compiler::delta::delta;
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::ruleset::{Ruleset, TableFamily};
use support::{Attached, cases, listed, namespace, nftables, ruleset};

fn one_ruleset() -> Ruleset {
    let cases = cases();
    let (_, cluster) = cases
        .iter()
        .find(|(name, _)| name.contains("deny"))
        .unwrap();
    let node = cluster.nodes.keys().next().unwrap();
    ruleset(cluster, node, Attached::Bridged, NodeEgress::Allow)
}

#[test]
fn everything_strange_is_told_of_and_taken_out() {
    let wanted = one_ruleset();
    let class = wanted.tables[0]
        .chains
        .iter()
        .find(|chain| chain.base.is_none());
    let (class, map) = (&class.unwrap().name, "ingress4");
    assert!(wanted.tables[0].maps.contains_key(map));
    for strange in [
        "insert rule inet picket egress meta mark 0 accept".to_owned(),
        "insert rule inet picket egress limit rate 5/second drop".to_owned(),
        "add chain inet picket zz { type filter hook forward priority -10; policy drop; }".into(),
        "add chain inet picket zz { type nat hook postrouting priority 100; }\n\
         add rule inet picket zz masquerade"
            .into(),
        "add table inet picket { flags dormant; }".into(),
        "add set inet picket t { type ipv4_addr; flags timeout; gc-interval 1h; \
         elements = { 1.1.1.1 timeout 100ms } }"
            .into(),
        "add set inet picket t { type ipv4_addr; size 10; flags dynamic; counter; }\n\
         insert rule inet picket egress ip saddr @t accept"
            .into(),
        format!("insert rule inet picket {class} jump {{ accept; }}"),
        format!("insert rule inet picket {class} ip dscp vmap {{ 1 : accept }}"),
        format!(
            "add chain inet picket zz {{ type filter hook forward priority 7; policy drop; }}\n\
             add chain inet picket yy\nadd rule inet picket yy meta mark 5 accept\n\
             insert rule inet picket {class} jump yy\n\
             add element inet picket {map} {{ 192.0.2.77 : goto yy }}"
        ),
    ] {
        let namespace = namespace();
        let mut nftables = nftables(&namespace);
        nftables.load(&wanted, None).unwrap();
        let before = listed(&namespace);
        namespace.nft(&strange).unwrap();
        assert_ne!(listed(&namespace), before, "{strange}");
        let found = nftables.read().unwrap();
        assert_ne!(found.unknown, [], "{strange}");
        let end = nftables.remove_unknown(&found);
        let end = end.unwrap_or_else(|error| panic!("{error}\n{strange}\n{:#?}", found.unknown));
        let after = nftables.read().unwrap();
        assert_eq!(after.unknown, [], "{strange}");
        assert_eq!(after.generation, end, "{strange}");
        assert!(after.ruleset == found.ruleset, "{strange}");
        // What is left is of shapes of ours: a plan can take it from there.
        let plan = delta(&after.ruleset, &wanted, end.0);
        nftables.execute(&plan, None).unwrap();
        let repaired = nftables.read().unwrap();
        assert_eq!(repaired.unknown, [], "{strange}");
        let sorted = |list: &str| list.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(sorted(&listed(&namespace)), sorted(&before), "{strange}");
    }
}

#[test]
fn where_nothing_is_strange_nothing_is_done() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    nftables.load(&one_ruleset(), None).unwrap();
    let found = nftables.read().unwrap();
    assert_eq!(nftables.remove_unknown(&found).unwrap(), found.generation);
    assert_eq!(nftables.generation().unwrap(), found.generation);
}

#[test]
fn a_change_since_reading_stops_the_removal() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    nftables.load(&one_ruleset(), None).unwrap();
    namespace
        .nft("insert rule inet picket egress meta mark 0 accept")
        .unwrap();
    let found = nftables.read().unwrap();
    namespace.nft("add table ip other").unwrap();
    let before = listed(&namespace);
    let error = nftables.remove_unknown(&found).unwrap_err();
    assert!(matches!(error, Error::Stale { .. }), "{error:?}");
    assert_eq!(listed(&namespace), before);
}

#[test]
fn no_generation_is_0_and_nothing_to_do_makes_none() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    let wanted = one_ruleset();
    // To the kernel 0 would be any generation.
    let any = Generation(0);
    let error = nftables.apply(&load(&wanted), Some(any)).unwrap_err();
    assert!(
        matches!(error, Error::Stale { expected } if expected == any),
        "{error:?}"
    );
    let plan = delta(&Ruleset::default(), &wanted, 0);
    assert!(matches!(
        nftables.execute(&plan, None).unwrap_err().error,
        Error::Stale { .. }
    ));
    assert_eq!(listed(&namespace), "");

    let now = nftables.generation().unwrap();
    nftables.apply(&[], Some(now)).unwrap();
    let nothing = kernel::Elements {
        family: TableFamily::Inet,
        set: "s",
        key: &[],
        interval: false,
        keys: vec![],
    };
    nftables
        .apply(&[Operation::AddElements(nothing)], Some(now))
        .unwrap();
    assert_eq!(nftables.generation().unwrap(), now);
    // An empty transaction between others is none.
    let mut plan = delta(&Ruleset::default(), &wanted, now.0);
    let mut empty = plan.transactions[0].clone();
    empty.operations.clear();
    plan.transactions.insert(1, empty);
    let end = nftables.execute(&plan, None).unwrap();
    assert_eq!(end, nftables.generation().unwrap());
}
