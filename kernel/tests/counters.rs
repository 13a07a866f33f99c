//! What is dropped is counted by name: every drop of ours, by real packets, and whatever becomes of the rule.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::UdpSocket;

use kernel::{Counted, Nftables};
use policy_compiler::delta::delta;
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::lower::Dropped;
use policy_compiler::model::{Direction, PortRange, Protocol};
use policy_compiler::ruleset::{
    Base, Chain, Field, Hook, Match, Rule, Ruleset, Statement, Table, TableFamily, Value, Verdict,
};
use support::{ATTACHED, cases, namespace, nftables, ruleset};
use testbed::Namespace;

const COUNTER: &str = "dropped_guard";
/// Discard, RFC 863.
const PORT: u16 = 9;

/// What leaves this host for the port is dropped.
fn dropping(comment: &str) -> Ruleset {
    let port = Value::Ports(PortRange::single(PORT));
    let matches = Match::is(Field::DestinationPort(Protocol::Udp), [port]);
    let rule = Rule::verdict([matches], Verdict::Drop).counted_in(COUNTER);
    let mut table = Table::new(TableFamily::Inet);
    table.counters.insert(COUNTER.to_owned());
    table.add_chain(Chain {
        name: "out".to_owned(),
        base: Some(Base {
            hook: Hook::Output,
            device: None,
            priority: 0,
        }),
        rules: vec![rule.comment(comment)],
    });
    Ruleset {
        tables: vec![table],
    }
}

/// Sends so many datagrams of 100 bytes.
fn send(namespace: &Namespace, count: usize) {
    let send = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..count {
            socket.send_to(&[0; 100], ("127.0.0.1", PORT)).unwrap_err();
        }
    };
    namespace.run(send).unwrap();
}

fn counted(packets: u64) -> Vec<Counted> {
    // With the headers of IPv4 and UDP.
    let bytes = packets * (20 + 8 + 100);
    vec![Counted {
        family: TableFamily::Inet,
        name: COUNTER.to_owned(),
        packets,
        bytes,
    }]
}

fn execute(nftables: &mut Nftables, from: &Ruleset, to: &Ruleset) {
    let plan = delta(from, to, nftables.generation().unwrap().0);
    assert!(!plan.transactions.is_empty());
    nftables.execute(&plan, None).unwrap();
}

#[test]
fn packets_are_counted_and_the_count_outlives_the_rule() {
    let namespace = namespace();
    namespace.ip(&["link", "set", "lo", "up"]).unwrap();
    let mut nftables = nftables(&namespace);
    assert_eq!(nftables.counters().unwrap(), []);
    let (before, after) = (dropping("before"), dropping("after"));
    nftables.load(&before, None).unwrap();
    assert_eq!(nftables.counters().unwrap(), counted(0));
    send(&namespace, 3);
    assert_eq!(nftables.counters().unwrap(), counted(3));
    execute(&mut nftables, &before, &after);
    send(&namespace, 2);
    assert_eq!(nftables.counters().unwrap(), counted(5));
    // Others count too.
    let others = "table inet other {\ncounter dropped_guard {\npackets 7 bytes 70\n}\n}";
    namespace.nft(others).unwrap();
    assert_eq!(nftables.counters().unwrap(), counted(5));
}

#[test]
fn what_others_add_is_seen_and_goes_and_what_a_rule_counts_in_does_not() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    let ours = dropping("ours");
    nftables.load(&ours, None).unwrap();
    namespace.nft("add counter inet picket strange").unwrap();
    let found = nftables.read().unwrap();
    assert_eq!(found.unknown, []);
    assert!(found.ruleset.tables[0].counters.contains("strange"));
    execute(&mut nftables, &found.ruleset, &ours);
    assert!(nftables.read().unwrap().ruleset == ours);
    let refused = namespace.nft(&format!("delete counter inet picket {COUNTER}"));
    assert!(refused.is_err());
}

/// Tables of a version without counters are changed in place to those of this one.
#[test]
fn tables_without_counters_get_them() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    let new = dropping("same");
    let mut old = new.clone();
    for table in &mut old.tables {
        table.counters.clear();
        let chain = std::sync::Arc::make_mut(&mut table.chains[0]);
        chain.rules[0].named_counter = None;
    }
    nftables.load(&old, None).unwrap();
    execute(&mut nftables, &old, &new);
    assert!(nftables.read().unwrap().ruleset == new);
    // And back, as by an older version.
    execute(&mut nftables, &new, &old);
    assert!(nftables.read().unwrap().ruleset == old);
}

#[test]
fn every_drop_of_every_case_is_counted_by_why() {
    let mut seen = std::collections::BTreeMap::new();
    for (index, (case, cluster)) in cases().iter().enumerate() {
        for node in cluster.nodes.keys() {
            let attached = ATTACHED[index % ATTACHED.len()];
            let rules = ruleset(cluster, node, attached, NodeEgress::Policy);
            for table in &rules.tables {
                let chains = table.chains.iter();
                for (chain, rule) in chains.flat_map(|c| c.rules.iter().map(move |r| (c, r))) {
                    let drops = rule.statement == Statement::Verdict(Verdict::Drop);
                    assert_eq!(rule.named_counter.is_some(), drops, "{case}: {rule:?}");
                    let Some(counter) = &rule.named_counter else {
                        continue;
                    };
                    assert!(table.counters.contains(counter), "{case}: {counter}");
                    let why = Dropped::of_counter(counter).unwrap();
                    *seen.entry(why).or_insert(0) += 1;
                    // A class's chain has its direction in its name.
                    for direction in [Direction::Egress, Direction::Ingress] {
                        if chain.base.is_none() && chain.name.starts_with(&direction.to_string()) {
                            assert_eq!(why, Dropped::Policy(direction), "{case}: {}", chain.name);
                        }
                    }
                }
            }
        }
    }
    let seen: Vec<_> = seen.into_keys().collect();
    assert_eq!(seen, Dropped::ALL);
}
