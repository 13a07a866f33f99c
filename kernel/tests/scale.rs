//! Many elements, large batches, and a socket whose buffer is too small.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

use kernel::{Elements, Error, Generation, Nftables, Operation};
use nix::errno::Errno;
use policy_compiler::model::{Cidr, PortRange, Protocol};
use policy_compiler::ruleset::{
    Base, Chain, Field, Hook, KeyType, MapElement, Match, Rule, Ruleset, Set, Table, TableFamily,
    Value, Verdict, VerdictMap,
};
use support::{namespace, nftables};

/// A table of that many elements, in sets and a map, and a class for every hundredth.
fn large(count: u32) -> Ruleset {
    let address = |index: u32| Value::Address(IpAddr::from((0x0a00_0000 + index).to_be_bytes()));
    let set = |key: &[KeyType], interval, elements: Vec<Vec<Value>>| Set {
        key: key.to_vec(),
        interval,
        comment: "many".into(),
        elements: elements.into_iter().collect(),
    };
    let v4 = KeyType::Ipv4Address;
    let triples = (0..count).map(|index| {
        vec![
            address(index),
            Value::Protocol(Protocol::Tcp),
            Value::Ports(PortRange::single(80)),
        ]
    });
    let ranges = (0..count / 10).map(|index| {
        let network =
            Cidr::parse_strict(&format!("{}/31", IpAddr::from((index * 4).to_be_bytes())));
        vec![Value::Addresses(network.unwrap().range())]
    });
    let class = |index: u32| format!("class_{}", index / 100);
    let elements = (0..count).map(|index| {
        let verdict = Verdict::Goto(class(index));
        let comment = format!("namespace/pod-{index}");
        (vec![address(index)], MapElement { verdict, comment })
    });
    let map = VerdictMap {
        key: vec![v4],
        comment: "pods to classes".into(),
        elements: elements.collect(),
    };
    let rule = Rule::lookup([Field::Ipv4Source], "classes");
    let mut chains = vec![Chain {
        name: "egress".into(),
        base: Some(Base {
            hook: Hook::Forward,
            device: None,
            priority: -6,
        }),
        rules: vec![rule],
    }];
    chains.extend((0..count).step_by(100).map(|index| Chain {
        name: class(index),
        base: None,
        rules: vec![
            Rule::verdict(
                [Match::in_set([Field::Ipv4Destination], "addresses")],
                Verdict::Accept,
            ),
            Rule::verdict([], Verdict::Drop),
        ],
    }));
    Ruleset {
        tables: vec![Table {
            family: TableFamily::Inet,
            counters: Default::default(),
            sets: [
                (
                    "addresses",
                    set(
                        &[v4],
                        false,
                        (0..count).map(|index| vec![address(index)]).collect(),
                    ),
                ),
                (
                    "ports",
                    set(
                        &[v4, KeyType::Protocol, KeyType::Port],
                        false,
                        triples.collect(),
                    ),
                ),
                ("ranges", set(&[v4], true, ranges.collect())),
            ]
            .into_iter()
            .collect(),
            maps: [("classes", map)].into_iter().collect(),
            chains: chains.into_iter().map(Arc::new).collect(),
        }],
    }
}

#[test]
fn three_hundred_thousand_elements_are_one_transaction_and_read_back() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    let before = nftables.generation().unwrap();
    let ruleset = large(100_000);
    nftables.load(&ruleset, Some(before)).unwrap();
    assert_eq!(nftables.generation().unwrap(), Generation(before.0 + 1));
    let found = nftables.read().unwrap();
    assert_eq!(found.unknown, []);
    assert!(
        found.ruleset == ruleset,
        "what was read is not what was loaded"
    );
}

#[test]
fn a_million_elements_are_one_transaction() {
    let namespace = namespace();
    let mut nftables = nftables(&namespace);
    let before = nftables.generation().unwrap();
    let key = [KeyType::Ipv4Address];
    let addresses: Vec<_> = (0..1_000_000u32)
        .map(|index| vec![Value::Address(IpAddr::from(index.to_be_bytes()))])
        .collect();
    let operations = [
        Operation::AddTable(TableFamily::Inet),
        Operation::AddSet {
            family: TableFamily::Inet,
            name: "addresses",
            key: &key,
            interval: false,
            comment: "a million",
        },
        Operation::AddElements(Elements {
            family: TableFamily::Inet,
            set: "addresses",
            key: &key,
            interval: false,
            keys: addresses.iter().map(Vec::as_slice).collect(),
        }),
    ];
    nftables.apply(&operations, Some(before)).unwrap();
    let found = nftables.read().unwrap();
    assert_eq!(found.generation, Generation(before.0 + 1));
    let set = &found.ruleset.tables[0].sets["addresses"];
    assert!(set.elements.iter().eq(&addresses));
}

#[test]
fn a_batch_that_does_not_fit_the_send_buffer_says_so() {
    const NAME: &str = "a_batch_that_does_not_fit_the_send_buffer_says_so";
    if std::env::var_os(NAME).is_some() {
        return without_net_admin();
    }
    // Without CAP_NET_ADMIN the buffer ends at net.core.wmem_max. In a namespace all the same: should the capability
    // not be gone, what is loaded is loaded there.
    let child = || {
        Command::new("setpriv")
            .args(["--bounding-set", "-net_admin", "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env(NAME, "")
            .output()
    };
    let output = namespace().run(child).unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

/// What the test above runs in a process without CAP_NET_ADMIN.
fn without_net_admin() {
    let mut nftables = Nftables::open().unwrap();
    match nftables.load(&large(100_000), None) {
        Err(Error::TooLarge { bytes, room }) => assert!(bytes > room && room > 0, "{bytes} {room}"),
        other => panic!("{other:?}"),
    }
    match nftables.load(&large(1), None) {
        Err(Error::Refused(refusals)) => assert_eq!(refusals[0].errno, Errno::EPERM as i32),
        other => panic!("{other:?}"),
    }
}
