//! Marks, changed.

use kernel::conntrack::{
    Conntrack, Error, Filter, Icmp, MarkChange, Marked, Masked, Refusal, Transport,
};
use nix::errno::Errno;

use super::create::{Wanted, create};
use super::world::{FAMILIES, Family, World, dump, listed, say};
use crate::support;

const BIT: u32 = 0x10_0000;

/// Sets what is to be seen, without packets.
fn wanted(count: u16) -> Vec<Wanted> {
    let of = |port| Wanted {
        source: ("10.0.0.1".parse().unwrap(), 10_000 + port),
        destination: ("10.0.0.2".parse().unwrap(), 80),
        protocol: 17,
        zone: 0,
        mark: 0x4001,
    };
    (0..count).map(of).collect()
}

#[test]
fn a_mark_changes_in_its_bits_whatever_the_protocol_the_family_and_the_zone() {
    let world = World::new();
    for port in [81, 85, 86, 87] {
        world.connect(port);
    }
    world.connect_to_service();
    let mut conntrack = world.conntrack();
    let entries = dump(&mut conntrack, &Filter::default());
    let count = entries.len();
    let before = listed(world.node());
    let with_mark = |mark: u32| {
        let of = |line: &String| line.replace(" mark=0", &format!(" mark={mark}"));
        before.iter().map(of).collect()
    };
    let steps = [
        (MarkChange::set(0x4000), 0x4000),
        (MarkChange::set(BIT), 0x4000 | BIT),
        (MarkChange::new(0xffff, 0x0001), 0x4001 | BIT),
        // Set, and set again.
        (MarkChange::set(BIT), 0x4001 | BIT),
        (MarkChange::clear(BIT), 0x4001),
        (MarkChange::clear(BIT), 0x4001),
        (MarkChange::new(7, !0), 7),
    ];
    for (change, mark) in steps {
        let changes = entries.iter().map(|entry| (entry.connection(), change));
        let marked = conntrack.change_marks(changes).unwrap();
        let expected = Marked {
            changed: count,
            gone: 0,
        };
        assert_eq!(marked, expected, "{change:?}");
        // Nothing else of an entry changed, and no entry came.
        assert_eq!(listed(world.node()), with_mark(mark), "{change:?}");
    }
}

#[test]
fn a_rule_sees_the_mark() {
    let world = World::new();
    for family in FAMILIES {
        let port = if family == Family::V4 { 90 } else { 91 };
        let rule = format!(
            "table inet marks {{\ncounter seen{port} {{ }}\nchain forward {{\n\
             type filter hook forward priority filter\n\
             udp dport {port} ct mark & {BIT} == {BIT} counter name seen{port}\n}}\n}}"
        );
        world.node().nft(&rule).unwrap();
        let seen = || {
            let text = world
                .node()
                .nft(&format!("list counter inet marks seen{port}"));
            let text = text.unwrap();
            let number = text.split("packets ").nth(1).unwrap();
            number.split(' ').next().unwrap().parse::<u32>().unwrap()
        };
        let (client, server) = world.datagrams(family, port);
        say(&client, &server);
        say(&server, &client);
        assert_eq!(seen(), 0);
        let mut conntrack = world.conntrack();
        let mut change = |change| {
            let entries = dump(&mut conntrack, &Filter::default());
            let changes = entries.iter().map(|entry| (entry.connection(), change));
            conntrack.change_marks(changes).unwrap()
        };
        change(MarkChange::set(BIT));
        say(&client, &server);
        assert_eq!(seen(), 1);
        change(MarkChange::clear(BIT));
        say(&client, &server);
        assert_eq!(seen(), 1);
    }
}

#[test]
fn the_same_connection_in_another_zone_is_another() {
    let namespace = support::namespace();
    let one = wanted(1)[0];
    let zones = [0, 5, 6].map(|zone| Wanted { zone, ..one });
    create(&namespace, &zones);
    let mut conntrack = namespace.run(Conntrack::open).unwrap().unwrap();
    let in_five = Filter {
        zone: Some(5),
        ..Filter::default()
    };
    let entries = dump(&mut conntrack, &in_five);
    let changes = entries
        .iter()
        .map(|entry| (entry.connection(), MarkChange::set(BIT)));
    assert_eq!(conntrack.change_marks(changes).unwrap().changed, 1);
    let marked = Filter {
        mark: Some(Masked::set(BIT)),
        ..Filter::default()
    };
    assert_eq!(dump(&mut conntrack, &marked).len(), 1);
    assert_eq!(dump(&mut conntrack, &marked)[0].zone.id(), 5);
}

#[test]
fn entries_that_are_gone_are_no_error_and_do_not_come_back() {
    let namespace = support::namespace();
    create(&namespace, &wanted(1000));
    let mut conntrack = namespace.run(Conntrack::open).unwrap().unwrap();
    let entries = dump(&mut conntrack, &Filter::default());
    assert_eq!(entries.len(), 1000);
    namespace.forget_connections().unwrap();
    // Some of them are there again, others not.
    create(&namespace, &wanted(300));
    let changes = || {
        entries
            .iter()
            .map(|entry| (entry.connection(), MarkChange::set(BIT)))
    };
    let marked = conntrack.change_marks(changes()).unwrap();
    let expected = Marked {
        changed: 300,
        gone: 700,
    };
    assert_eq!(marked, expected);
    assert_eq!(listed(&namespace).len(), 300);
    namespace.forget_connections().unwrap();
    let marked = conntrack.change_marks(changes()).unwrap();
    assert_eq!((marked.changed, marked.gone), (0, 1000));
    assert_eq!(listed(&namespace).len(), 0);
    assert_eq!(conntrack.change_marks([]).unwrap(), Marked::default());
}

#[test]
fn a_refused_change_names_its_connection_and_stops_no_other() {
    let namespace = support::namespace();
    create(&namespace, &wanted(300));
    let mut conntrack = namespace.run(Conntrack::open).unwrap().unwrap();
    let entries = dump(&mut conntrack, &Filter::default());
    let mut connections: Vec<_> = entries.iter().map(|entry| entry.connection()).collect();
    // A type that no query has, in the first message of a call, in the middle and in the last.
    let mut bad = connections[0];
    (bad.original.source, bad.original.destination) =
        ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
    for (place, id) in [(0, 1), (70, 2), (127, 3), (303, 4)] {
        let (kind, code) = (1, 0);
        bad.original.transport = Transport::Icmpv6(Icmp { kind, code, id });
        connections.insert(place, bad);
    }
    let changes = connections
        .iter()
        .map(|connection| (*connection, MarkChange::set(BIT)));
    let error = conntrack.change_marks(changes).unwrap_err();
    let Error::Marks(refusals) = &error else {
        panic!("{error:?}");
    };
    let ids = refusals.iter().map(
        |Refusal {
             connection, errno, ..
         }| {
            assert_eq!(*errno, Errno::EINVAL as i32);
            match connection.original.transport {
                Transport::Icmpv6(icmp) => icmp.id,
                _ => panic!("{connection}"),
            }
        },
    );
    assert_eq!(ids.collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(
        error.to_string(),
        "the kernel refused to change the mark of ICMPv6 fd00::1 -> fd00::2 type 1 code 0 id 1: \
         EINVAL: Invalid argument, and 3 more"
    );
    let marked = Filter {
        mark: Some(Masked::set(BIT)),
        ..Filter::default()
    };
    assert_eq!(dump(&mut conntrack, &marked).len(), 300);
}
