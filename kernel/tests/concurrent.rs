//! What is read is of one generation, also while others change it.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kernel::{Found, Operation, load};
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::ruleset::TableFamily;
use support::{Attached, cases, namespace, nftables, ruleset};

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
    let replace = |ruleset| {
        let delete = [Operation::DeleteTable(TableFamily::Inet)];
        delete.into_iter().chain(load(ruleset)).collect::<Vec<_>>()
    };
    let done = AtomicBool::new(false);
    let mut seen: Vec<Found> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for ruleset in [&other, &one] {
                    writer.apply(&replace(ruleset), None).unwrap();
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
        });
        for _ in 0..400 {
            // Others may be faster for long: that is an error, never a mixture.
            if let Ok(found) = reader.read() {
                // Judged when the writer has ended: a panic here would wait for it.
                seen.push(found);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(seen.len() > 20, "{}", seen.len());
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
