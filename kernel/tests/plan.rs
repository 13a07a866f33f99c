//! Plans are carried out, transaction after transaction, and only from where they start.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::IpAddr;

use kernel::{Error, Generation, Nftables, Watch};
use policy_compiler::delta::{Plan, Step, delta};
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::ruleset::{KeyType, Ruleset, Set, Table, TableFamily, Value};
use support::{ATTACHED, Attached, cases, listed, namespace, nftables, ruleset};
use testbed::Namespace;

/// Chains in the order of their names, since a plan may make them in any.
fn sorted(mut ruleset: Ruleset) -> Ruleset {
    for table in &mut ruleset.tables {
        table.chains.sort_by(|one, other| one.name.cmp(&other.name));
    }
    ruleset
}

fn one_ruleset() -> Ruleset {
    let cases = cases();
    let (_, cluster) = &cases[0];
    let node = cluster.nodes.keys().next().unwrap();
    ruleset(cluster, node, Attached::Unknown, NodeEgress::Allow)
}

fn plan(nftables: &mut Nftables, from: &Ruleset, to: &Ruleset) -> Plan {
    delta(from, to, nftables.generation().unwrap().0)
}

/// What another program does that has nothing to do with us.
fn change_elsewhere(namespace: &Namespace) {
    namespace
        .nft("add table ip other\ndelete table ip other")
        .unwrap();
}

#[test]
fn plans_lead_through_all_cases_and_back_to_nothing() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    let mut now = Ruleset::default();
    let mut count = 0;
    for (index, (name, cluster)) in cases().iter().enumerate() {
        let attached = ATTACHED[index % ATTACHED.len()];
        for node in cluster.nodes.keys() {
            let next = ruleset(cluster, node, attached, NodeEgress::Policy);
            let plan = plan(&mut nftables, &now, &next);
            let end = nftables.execute(&plan, None);
            let end = end.unwrap_or_else(|error| panic!("{name} {node}: {error}"));
            let found = nftables.read().unwrap();
            assert_eq!(found.unknown, [], "{name} {node}");
            assert_eq!(found.generation, end, "{name} {node}");
            assert!(
                sorted(found.ruleset) == sorted(next.clone()),
                "{name} {node}"
            );
            now = next;
            count += 1;
        }
    }
    assert!(count > 200, "{count}");
    let plan = plan(&mut nftables, &now, &Ruleset::default());
    nftables.execute(&plan, None).unwrap();
    assert_eq!(listed(&namespace), "");
}

#[test]
fn a_plan_for_another_generation_is_refused_as_a_whole() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    let plan = plan(&mut nftables, &Ruleset::default(), &one_ruleset());
    change_elsewhere(&namespace);
    let halted = nftables.execute(&plan, None).unwrap_err();
    assert_eq!(halted.committed, 0);
    let expected = Generation(plan.generation);
    assert!(
        matches!(halted.error, Error::Stale { expected: of } if of == expected),
        "{halted:?}"
    );
    assert_eq!(listed(&namespace), "");
}

#[test]
fn changes_elsewhere_do_not_stop_a_plan_that_is_watched() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    let mut watch = namespace.run(|| Watch::open(1 << 20)).unwrap().unwrap();
    let new = one_ruleset();
    let plan = plan(&mut nftables, &Ruleset::default(), &new);
    change_elsewhere(&namespace);
    change_elsewhere(&namespace);
    nftables.execute(&plan, Some(&mut watch)).unwrap();
    assert!(sorted(nftables.read().unwrap().ruleset) == sorted(new));
    // All of it is still heard of by whoever listens: two changes of the other, and each transaction.
    let events = watch.events().unwrap();
    let ends = events
        .iter()
        .filter(|event| matches!(event, kernel::Event::Generation { .. }));
    assert_eq!(ends.count(), 2 + plan.transactions.len());
}

#[test]
fn a_change_of_ours_by_another_stops_a_plan_that_is_watched() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    let mut watch = namespace.run(|| Watch::open(1 << 20)).unwrap().unwrap();
    let plan = plan(&mut nftables, &Ruleset::default(), &one_ruleset());
    namespace.nft("add table inet picket").unwrap();
    change_elsewhere(&namespace);
    let halted = nftables.execute(&plan, Some(&mut watch)).unwrap_err();
    assert!(matches!(halted.error, Error::Stale { .. }), "{halted:?}");
    assert_eq!(halted.committed, 0);
    assert_eq!(listed(&namespace), "table inet picket {\n}\n");
}

#[test]
fn what_was_missed_may_have_been_of_ours() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    // The smallest buffer that the kernel gives.
    let mut watch = namespace.run(|| Watch::open(1)).unwrap().unwrap();
    let plan = plan(&mut nftables, &Ruleset::default(), &one_ruleset());
    for _ in 0..100 {
        change_elsewhere(&namespace);
    }
    let halted = nftables.execute(&plan, Some(&mut watch)).unwrap_err();
    assert!(matches!(halted.error, Error::Stale { .. }), "{halted:?}");
    assert_eq!(listed(&namespace), "");
}

#[test]
fn a_plan_ends_where_the_kernel_refuses_it_and_says_where() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    let new = one_ruleset();
    let plan = plan(&mut nftables, &Ruleset::default(), &new);
    // As a kernel that was changed behind everybody's back.
    let mut wrong = plan.clone();
    wrong.transactions.truncate(1);
    wrong.transactions.push(plan.transactions[0].clone());
    let halted = nftables.execute(&wrong, None).unwrap_err();
    assert_eq!((halted.committed, halted.step), (1, Step::Create));
    let text = halted.to_string();
    assert!(
        text.starts_with("the plan ended before its transaction 2 (Create): the kernel refused"),
        "{text}"
    );
    assert!(
        matches!(&halted.error, Error::Refused(refusals) if !refusals.is_empty()),
        "{halted:?}"
    );
    let rest = Plan {
        generation: nftables.generation().unwrap().0,
        transactions: plan.transactions[1..].to_vec(),
    };
    nftables.execute(&rest, None).unwrap();
    assert!(sorted(nftables.read().unwrap().ruleset) == sorted(new));
}

fn many_elements() -> Ruleset {
    let address = |index: u32| IpAddr::from((0x0a00_0000 + index).to_be_bytes());
    let set = Set {
        key: vec![KeyType::Ipv4Address],
        interval: false,
        comment: "many".into(),
        elements: (0..300_000)
            .map(|index| vec![Value::Address(address(index))])
            .collect(),
    };
    let mut table = Table::new(TableFamily::Inet);
    table.add_set("many", set);
    Ruleset {
        tables: vec![table],
    }
}

#[test]
fn what_no_packet_comes_to_is_cut_into_batches_and_all_else_is_one() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    let (none, many) = (Ruleset::default(), many_elements());
    let before = nftables.generation().unwrap();
    let there = plan(&mut nftables, &none, &many);
    let end = nftables.execute(&there, None).unwrap();
    assert!(end.0 > before.0 + 1, "{before} {end}");
    assert!(nftables.read().unwrap().ruleset == many);
    let back = plan(&mut nftables, &many, &none);
    nftables.execute(&back, None).unwrap();
    assert!(nftables.read().unwrap().ruleset == none);

    let mut seen = there;
    seen.transactions[0].step = Step::Tighten;
    seen.generation = nftables.generation().unwrap().0;
    let end = nftables.execute(&seen, None).unwrap();
    assert_eq!(end, Generation(seen.generation + 1));
    assert!(nftables.read().unwrap().ruleset == many);
}
