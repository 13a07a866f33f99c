//! The parser of the kernel's messages, on messages of a real kernel that were changed at random.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use testbed::Namespace;

use super::constants::{entry, family, msg};
use super::entry::Entry;
use super::samples::{answer, connections, create, received};
use super::{decode, watch};
use crate::netlink::attribute::Writer;
use crate::netlink::message::{self, CONNTRACK, Content, DUMP, Header, Messages};
use crate::netlink::socket::{NETLINK_NETFILTER, Socket};

/// What a kernel with those entries answers, and what it tells a watch.
fn messages() -> Vec<Vec<u8>> {
    let namespace = Namespace::new().expect("these tests need root");
    let open = || Socket::open(NETLINK_NETFILTER, 1 << 20).expect("a socket");
    let (mut socket, mut group) = namespace.run(|| (open(), open())).expect("entered");
    // NFNLGRP_CONNTRACK_NEW
    group.join(1).expect("joined");
    for connection in connections() {
        create(&mut socket, &connection);
    }
    let mut all = received(&mut group);
    let header = Header {
        kind: CONNTRACK << 8 | msg::GET,
        flags: DUMP,
        sequence: 1,
        family: family::UNSPEC,
        resource: 0,
    };
    let mut out = Writer::default();
    message::write(&mut out, header, |_| {});
    socket.send(&out.bytes).expect("sent");
    all.extend(received(&mut socket));
    all
}

/// Reads everything that the bytes may be.
fn read(bytes: &[u8]) -> Vec<Entry> {
    let events = watch::read(bytes).count();
    // Nothing is made of what did not arrive: a message takes at least a header.
    assert!(events <= 1 + bytes.len() / message::HEADER);
    Messages(bytes)
        .map_while(Result::ok)
        .filter_map(|message| match message.content() {
            Ok(Content::Object { family, attributes }) => decode::read(family, attributes).ok(),
            _ => None,
        })
        .collect()
}

#[test]
fn entries_of_every_kind_are_read_as_they_were_written() {
    let entries: Vec<_> = messages().iter().flat_map(|bytes| read(bytes)).collect();
    for connection in connections() {
        let same = |entry: &&Entry| entry.connection() == connection;
        let found: Vec<_> = entries.iter().filter(same).collect();
        // Once in the dump, once as an event.
        assert_eq!(found.len(), 2, "{connection}: {entries:#?}");
        for entry in found {
            assert_eq!(entry.reply, answer(&connection.original));
            assert_eq!((entry.mark, entry.status.0 & 0xa), (0x10_0000, 0xa));
            assert!(entry.timeout.is_some_and(|seconds| seconds <= 600));
            assert_ne!(entry.id, 0);
        }
    }
    assert_eq!(entries.len(), 2 * connections().len());
}

#[test]
fn no_message_is_fatal() {
    let mut messages = messages();
    messages.push(messages.concat());
    let change = (
        any::<Index>(),
        select(vec![0u8, 1, 2, 3, 4, 5, 8, 0x7f, 0x80, 0xff]),
    );
    let changes = proptest::collection::vec(change, 0..12);
    let strategy = (select(messages), changes, any::<Index>(), any::<bool>());
    let config = ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let result = proptest::test_runner::TestRunner::new(config).run(
        &strategy,
        |(mut bytes, changes, end, cut)| {
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            read(&bytes);
            Ok(())
        },
    );
    result.expect("nothing panics");
}

#[test]
fn nests_of_any_depth_are_not_followed() {
    let mut out = Writer::default();
    let mut bytes = Vec::new();
    for _ in 0..10_000 {
        out.bytes.clear();
        out.put(entry::TUPLE_ORIG | 0x8000, &bytes);
        if out.take_overflow() {
            break;
        }
        bytes.clone_from(&out.bytes);
    }
    assert!(bytes.len() > 39_000, "{}", bytes.len());
    assert!(decode::read(family::IPV4, &bytes).is_err());
}
