//! The parser of the kernel's messages, on messages of a real kernel that were changed at random.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use testbed::Namespace;

use super::constants::{entry, family, msg, tuple};
use super::encode::{family_number, write_connection};
use super::entry::{Connection, Entry, Zone};
use super::tuple::{Icmp, Ports, Transport, Tuple};
use super::{decode, watch};
use crate::netlink::attribute::{Attributes, Writer};
use crate::netlink::message::{self, ACK, CONNTRACK, CREATE, Content, DUMP, Header, Messages};
use crate::netlink::socket::{Received, Socket};

/// An entry of every kind, in every zone.
fn connections() -> Vec<Connection> {
    let ports = Ports {
        source: 4000,
        destination: 80,
    };
    let (code, id) = (0, 7);
    let other = |protocol, ports| Transport::Other { protocol, ports };
    let of_v4 = Transport::Icmp(Icmp { kind: 8, code, id });
    let of_v6 = Transport::Icmpv6(Icmp {
        kind: 128,
        code,
        id,
    });
    let zones = [(0, 0), (5, 5), (6, 0), (0, 7)];
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let mut connections = Vec::new();
    for (net, ping) in [("10.0.0.", of_v4), ("fd00::", of_v6)] {
        for transport in [
            Transport::Tcp(ports),
            Transport::Udp(ports),
            Transport::Sctp(ports),
            other(136, Some(ports)),
            other(47, Some(ports)),
            other(253, None),
            ping,
        ] {
            for (index, (original, reply)) in zones.into_iter().enumerate() {
                // Tuples of a direction that has no zone of its own must differ.
                let original_tuple = Tuple {
                    source: address(&format!("{net}{}", index + 2)),
                    destination: address(&format!("{net}1")),
                    transport,
                };
                connections.push(Connection {
                    original: original_tuple,
                    zone: Zone { original, reply },
                });
            }
        }
    }
    connections
}

/// What an answer is.
fn answer(asked: &Tuple) -> Tuple {
    let transport = match asked.transport {
        Transport::Icmp(icmp) => Transport::Icmp(Icmp { kind: 0, ..icmp }),
        Transport::Icmpv6(icmp) => Transport::Icmpv6(Icmp { kind: 129, ..icmp }),
        other => other.ports().map_or(other, |ports| {
            other.with_ports(Ports {
                source: ports.destination,
                destination: ports.source,
            })
        }),
    };
    Tuple {
        source: asked.destination,
        destination: asked.source,
        transport,
    }
}

/// Makes an entry, as nothing outside of tests does.
fn create(socket: &mut Socket, connection: &Connection) {
    let mut reply = Writer::default();
    let answering = Connection {
        original: answer(&connection.original),
        zone: Zone::default(),
    };
    write_connection(&mut reply, &answering);
    let nest = Attributes(&reply.bytes)
        .next()
        .expect("one")
        .expect("well-formed");
    let header = Header {
        kind: CONNTRACK << 8 | msg::NEW,
        flags: ACK | CREATE,
        sequence: 1,
        family: family_number(connection.original.source),
        resource: 0,
    };
    let mut out = Writer::default();
    message::write(&mut out, header, |out| {
        write_connection(out, connection);
        out.nested(entry::TUPLE_REPLY, |out| {
            out.bytes.extend_from_slice(nest.payload);
            if connection.zone.original == 0 && connection.zone.reply != 0 {
                out.put(tuple::ZONE, &connection.zone.reply.to_be_bytes());
            }
        });
        out.put_u32(entry::TIMEOUT, 600);
        out.put_u32(entry::MARK, 0x10_0000);
        // IPS_SEEN_REPLY, IPS_CONFIRMED
        out.put_u32(entry::STATUS, 0xa);
    });
    socket.send(&out.bytes).expect("sent");
    let answers = received(socket);
    let answer = Messages(&answers[0])
        .next()
        .expect("one")
        .expect("well-formed");
    let Ok(Content::Answer(answer)) = answer.content() else {
        panic!("{connection}: no answer");
    };
    assert_eq!(answer.errno, 0, "{connection}: {:?}", answer.text);
}

/// What a kernel with those entries answers, and what it tells a watch.
fn messages() -> Vec<Vec<u8>> {
    let namespace = Namespace::new().expect("these tests need root");
    let open = || Socket::open(1 << 20).expect("a socket");
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

fn received(socket: &mut Socket) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Received::Bytes(bytes) = socket.receive().expect("received") {
        all.push(bytes.to_vec());
    }
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
