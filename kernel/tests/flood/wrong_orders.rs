//! Orders of change that leak or lose packets are found: what the other tests do not find is not there.

use std::sync::Arc;

use policy_compiler::delta::{Action, Operation, Plan, Step, Transaction};
use policy_compiler::ruleset::{
    Base, Chain, Field, Hook, KeyType, MapElement, Match, Rule, Ruleset, Set, Table, TableFamily,
    Value, Verdict, VerdictMap,
};

use crate::scenario::{Scenario, tcp};
use crate::scenarios::swap;
use crate::world::Counts;

/// There and back so often at most. What is looked for is found in some hundreds.
const TIMES: usize = 20_000;

fn toggled(scenario: &Scenario, plans: &[Plan; 2]) -> Counts {
    scenario.toggle(&mut scenario.world(), plans, TIMES)
}

/// All transactions as one.
fn as_one(plan: Plan) -> Plan {
    let operations = plan.transactions.into_iter().flat_map(|it| it.operations);
    Plan {
        transactions: vec![Transaction {
            step: Step::Tighten,
            operations: operations.collect(),
        }],
        ..plan
    }
}

#[test]
fn both_maps_in_one_transaction_leak() {
    let scenario = swap();
    let counts = toggled(&scenario, &scenario.plans().map(as_one));
    assert!(counts.leaked > 0, "{counts:?}");
}

#[test]
fn loosening_before_tightening_leaks() {
    let scenario = swap();
    // What is created has to be there, and what is deleted is not used any more; the rest is turned round.
    let turned = |mut plan: Plan| {
        let visible = |it: &Transaction| !it.step.is_unseen();
        let first = plan.transactions.iter().position(visible).unwrap();
        let last = plan.transactions.iter().rposition(visible).unwrap();
        assert!(last > first, "{plan:?}");
        plan.transactions[first..=last].reverse();
        plan
    };
    let counts = toggled(&scenario, &scenario.plans().map(turned));
    assert!(counts.leaked > 0, "{counts:?}");
}

/// One pod that accepts from nobody but a friend, by a map; whether a miss in the map drops.
fn by_map(class: &str, miss_drops: bool) -> Ruleset {
    let address = |host: u8| Value::Address([10, 0, 0, host].into());
    let key = vec![KeyType::Ipv4Address];
    let element = MapElement {
        verdict: Verdict::Goto(class.into()),
        comment: "x/a".into(),
    };
    let map = VerdictMap {
        key: key.clone(),
        comment: "classes".into(),
        elements: [(vec![address(1)], element)].into_iter().collect(),
    };
    let set = |host: u8| Set {
        key: key.clone(),
        interval: false,
        comment: "addresses".into(),
        elements: [vec![address(host)]].into_iter().collect(),
    };
    let mut rules = vec![Rule::lookup([Field::Ipv4Destination], "ingress")];
    if miss_drops {
        let known = Match::in_set([Field::Ipv4Destination], "local");
        rules.push(Rule::verdict([known], Verdict::Drop));
    }
    let friend = Match::in_set([Field::Ipv4Source], "friends");
    Ruleset {
        tables: vec![Table {
            family: TableFamily::Inet,
            counters: Default::default(),
            sets: [("friends", set(20)), ("local", set(1))]
                .into_iter()
                .collect(),
            maps: [("ingress", map)].into_iter().collect(),
            chains: [
                Chain {
                    name: "forward".into(),
                    base: Some(Base {
                        hook: Hook::Forward,
                        device: None,
                        priority: -5,
                    }),
                    rules,
                },
                Chain {
                    name: class.into(),
                    base: None,
                    rules: vec![
                        Rule::verdict([friend], Verdict::Accept),
                        Rule::verdict([], Verdict::Drop),
                    ],
                },
            ]
            .map(Arc::new)
            .into_iter()
            .collect(),
        }],
    }
}

fn of_map(miss_drops: bool) -> Scenario {
    let states = ["one", "two"].map(|class| by_map(class, miss_drops));
    let (denied, allowed) = (
        tcp("10.0.0.8", "10.0.0.1", 80),
        tcp("10.0.0.20", "10.0.0.1", 80),
    );
    Scenario::of(states, &[denied], &[allowed])
}

/// The table deleted and made again in one transaction.
fn replaced(scenario: &Scenario) -> [Plan; 2] {
    let of = |from: &Ruleset, to: &Ruleset| {
        let none = Ruleset::default();
        let [away, new] = [(from, &none), (&none, to)]
            .map(|(from, to)| policy_compiler::delta::delta(from, to, 0));
        let transactions = away.transactions.into_iter().chain(new.transactions);
        as_one(Plan {
            generation: 0,
            transactions: transactions.collect(),
        })
    };
    let [one, two] = &scenario.states;
    [of(one, two), of(two, one)]
}

#[test]
fn a_table_that_is_replaced_in_one_transaction_leaks_where_a_miss_accepts() {
    let scenario = of_map(false);
    let counts = toggled(&scenario, &replaced(&scenario));
    assert!(counts.leaked > 0, "{counts:?}");
}

/// A new chain and the retarget to it in one transaction.
fn created_and_retargeted(scenario: &Scenario) -> [Plan; 2] {
    let [one, two] = &scenario.states;
    let of = |from: &Ruleset, to: &Ruleset| {
        let (old, new) = (
            from.tables[0].chains[1].clone(),
            to.tables[0].chains[1].clone(),
        );
        let map = &to.tables[0].maps["ingress"];
        let actions = [
            Action::AddChain {
                chain: new.name.clone(),
                base: None,
            },
            Action::Refill {
                chain: new.name.clone(),
                rules: new.rules.clone(),
            },
            Action::Retarget {
                map: "ingress".into(),
                key: map.key.clone(),
                elements: map.elements.clone().into_iter().collect(),
            },
            Action::Refill {
                chain: old.name.clone(),
                rules: vec![],
            },
            Action::DeleteChain(old.name.clone()),
        ];
        let family = TableFamily::Inet;
        let operations = actions.map(|action| Operation { family, action });
        Plan {
            generation: 0,
            transactions: vec![Transaction {
                step: Step::Tighten,
                operations: operations.into(),
            }],
        }
    };
    [of(one, two), of(two, one)]
}

#[test]
fn a_new_chain_and_the_retarget_in_one_transaction_leak_where_a_miss_accepts() {
    let scenario = of_map(false);
    let counts = toggled(&scenario, &created_and_retargeted(&scenario));
    assert!(counts.leaked > 0, "{counts:?}");
}

#[test]
fn a_miss_that_drops_loses_packets_instead() {
    let scenario = of_map(true);
    let counts = toggled(&scenario, &replaced(&scenario));
    assert!(counts.lost > 0, "{counts:?}");
}
