//! What is read is of one generation, also while others change it, and whenever they are killed.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kernel::{Error, Found, Generation, Nftables, Operation, Watch, load};
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::ruleset::{Chain, KeyType, Ruleset, Set, Table, TableFamily, Value};
use support::{Attached, cases, namespace, nftables, ruleset};

/// All of the ruleset in place of what is there.
fn replacement(ruleset: &Ruleset) -> Vec<Operation<'_>> {
    let delete = [Operation::DeleteTable(TableFamily::Inet)];
    delete.into_iter().chain(load(ruleset)).collect()
}

#[test]
fn a_table_that_is_replaced_all_the_time_is_read_whole() {
    let cases = cases();
    let of = |attached| ruleset(&cases[0].1, "node-1", attached, NodeEgress::Allow);
    let one = of(Attached::Unknown);
    let mut other = of(Attached::Routed);
    other.tables.truncate(1);
    assert_ne!(one, other);
    let namespace = namespace();
    let (mut writer, mut reader) = (nftables(&namespace), nftables(&namespace));
    writer.load(&one, None).unwrap();
    let done = AtomicBool::new(false);
    let mut seen: Vec<Result<Found, Error>> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for ruleset in [&other, &one] {
                    writer.apply(&replacement(ruleset), None).unwrap();
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
        });
        for _ in 0..400 {
            // Judged when the writer has ended: a panic here would wait for it.
            seen.push(reader.read());
        }
        done.store(true, Ordering::Relaxed);
    });
    // Others may be faster for long: that is an error, never a mixture.
    let too_fast = |read: &Result<Found, Error>| matches!(read, Err(Error::Changing(_)));
    seen.retain(|read| !too_fast(read));
    let seen: Vec<_> = seen.into_iter().map(Result::unwrap).collect();
    for Found {
        ruleset, unknown, ..
    } in &seen
    {
        assert_eq!(*unknown, []);
        assert!(*ruleset == one || *ruleset == other, "a mixture was read");
    }
    assert!(seen.iter().any(|it| it.ruleset == one) && seen.iter().any(|it| it.ruleset == other));
    assert!(seen.is_sorted_by_key(|it| it.generation));
}

#[test]
fn our_tables_are_read_however_often_others_change_theirs() {
    let ours = many_elements("first");
    let namespace = namespace();
    let (mut writer, mut reader) = (nftables(&namespace), nftables(&namespace));
    let mut watch = namespace.run(|| Watch::open(1 << 20)).unwrap().unwrap();
    writer.load(&ours, None).unwrap();
    let done = AtomicBool::new(false);
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Of a table that is listed before ours.
            let other =
                "add table ip a\nadd chain ip a b\nadd rule ip a b accept\ndelete table ip a\n";
            while !done.load(Ordering::Relaxed) {
                namespace.nft(other).unwrap();
            }
        });
        for _ in 0..40 {
            seen.push(reader.read_watched(&mut watch));
            watch.events().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let generations: BTreeSet<_> = seen
        .into_iter()
        .map(|found| {
            let found = found.unwrap();
            assert!(found.ruleset == ours && found.unknown.is_empty());
            found.generation
        })
        .collect();
    assert!(generations.len() > 1, "nobody changed anything");
}

#[test]
fn a_process_that_is_killed_while_it_applies_leaves_all_of_a_batch_or_nothing() {
    const NAME: &str = "a_process_that_is_killed_while_it_applies_leaves_all_of_a_batch_or_nothing";
    let [one, other] = ["first", "second"].map(many_elements);
    if std::env::var_os(NAME).is_some() {
        let mut nftables = Nftables::open().unwrap();
        for ruleset in [&one, &other].into_iter().cycle() {
            nftables.apply(&replacement(ruleset), None).unwrap();
        }
    }
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    nftables.load(&one, None).unwrap();
    for round in 0..30 {
        let start = nftables.generation().unwrap();
        let spawn = || {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", NAME])
                .env(NAME, "")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        };
        let mut child = namespace.run(spawn).unwrap().unwrap();
        // It is at work: at another moment of it each time.
        while nftables.generation().unwrap() < Generation(start.0 + 2) {
            assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
            std::thread::yield_now();
        }
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(5) * round {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let found = nftables.read().unwrap();
        assert_eq!(found.unknown, []);
        assert!(
            found.ruleset == one || found.ruleset == other,
            "a part is left"
        );
    }
}

/// A table that takes some milliseconds to be replaced.
fn many_elements(chain: &str) -> Ruleset {
    let address = |index: u32| Value::Address((0x0a00_0000 + index).to_be_bytes().into());
    let set = Set {
        key: vec![KeyType::Ipv4Address],
        interval: false,
        comment: chain.into(),
        elements: (0..20_000).map(|index| vec![address(index)]).collect(),
    };
    Ruleset {
        tables: vec![Table {
            family: TableFamily::Inet,
            counters: Default::default(),
            sets: [("addresses", set)].into_iter().collect(),
            maps: Default::default(),
            chains: vec![Arc::new(Chain {
                name: chain.into(),
                base: None,
                rules: vec![],
            })]
            .into(),
        }],
    }
}
