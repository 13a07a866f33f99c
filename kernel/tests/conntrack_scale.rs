//! A hundred thousand connections, in bounded memory. A program of its own: it measures that of the whole process.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "conntrack/create.rs"]
mod create;
mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use create::{Wanted, create};
use kernel::conntrack::{Conntrack, Filter, MarkChange, Marked, Masked};
use support::namespace;

const COUNT: u32 = 100_000;
const BIT: u32 = 0x10_0000;

fn wanted(index: u32) -> Wanted {
    let ends: [IpAddr; 2] = if index.is_multiple_of(2) {
        [index, 0].map(|host| Ipv4Addr::from_bits(0x0a00_0000 + host).into())
    } else {
        [index, 0].map(|host| Ipv6Addr::from_bits((0xfd << 120) + u128::from(host)).into())
    };
    Wanted {
        source: (ends[0], 4000),
        destination: (ends[1], 80),
        protocol: if index.is_multiple_of(3) { 6 } else { 17 },
        zone: 0,
        mark: index & 1,
    }
}

/// The most memory that the process had since the last call, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn count(conntrack: &mut Conntrack, mark: Masked) -> u32 {
    let filter = Filter {
        mark: Some(mark),
        ..Filter::default()
    };
    let mut count = 0;
    conntrack.dump(&filter, |_| count += 1).unwrap();
    count
}

#[test]
fn a_hundred_thousand_connections_are_listed_and_marked_in_little_memory() {
    let namespace = namespace();
    for start in (0..COUNT).step_by(1000) {
        let some: Vec<_> = (start..start + 1000).map(wanted).collect();
        create(&namespace, &some);
    }
    let mut conntrack = namespace.run(Conntrack::open).unwrap().unwrap();

    let mut seen = vec![0u8; COUNT as usize];
    peak();
    let before = peak();
    let see = |entry: kernel::conntrack::Entry| {
        let index = match entry.original.source {
            IpAddr::V4(v4) => v4.to_bits() - 0x0a00_0000,
            IpAddr::V6(v6) => v6.to_bits() as u32,
        };
        assert!(wanted(index).is(&entry));
        seen[index as usize] += 1;
    };
    conntrack.dump(&Filter::default(), see).unwrap();
    let grown = peak() - before;
    assert!(seen.iter().all(|times| *times == 1));
    // Their messages are some 20 MiB.
    assert!(grown < 2048, "{grown} KiB");

    // Marked, by a list that is made as it is sent.
    let mut connections = Vec::with_capacity(COUNT as usize);
    let keep = |entry: kernel::conntrack::Entry| connections.push(entry.connection());
    conntrack.dump(&Filter::default(), keep).unwrap();
    let changes = |change| {
        connections
            .iter()
            .map(move |connection| (*connection, change))
    };
    peak();
    let before = peak();
    let marked = conntrack
        .change_marks(changes(MarkChange::set(BIT)))
        .unwrap();
    let grown = peak() - before;
    assert!(grown < 2048, "{grown} KiB");
    let expected = Marked {
        changed: COUNT as usize,
        gone: 0,
    };
    assert_eq!(marked, expected);
    assert_eq!(count(&mut conntrack, Masked::set(BIT)), COUNT);
    // Other bits are as they were.
    assert_eq!(count(&mut conntrack, Masked::set(BIT | 1)), COUNT / 2);
    assert_eq!(count(&mut conntrack, Masked::new(BIT, BIT | 1)), COUNT / 2);

    namespace.forget_connections().unwrap();
    let marked = conntrack
        .change_marks(changes(MarkChange::clear(BIT)))
        .unwrap();
    let expected = Marked {
        changed: 0,
        gone: COUNT as usize,
    };
    assert_eq!(marked, expected);
    assert_eq!(count(&mut conntrack, Masked::set(0)), 0);
}
