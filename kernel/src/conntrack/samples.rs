//! Entries of a real kernel to test with, of every kind, which nothing outside of tests makes.

use std::net::IpAddr;

use super::constants::{entry, msg, tuple};
use super::encode::{family_number, write_connection};
use super::entry::{Connection, Zone};
use super::tuple::{Icmp, Ports, Transport, Tuple};
use crate::netlink::attribute::{Attributes, Writer};
use crate::netlink::message::{self, ACK, CONNTRACK, CREATE, Content, Header, Messages};
use crate::netlink::socket::{Received, Socket};

/// An entry of every kind, in every zone.
pub(super) fn connections() -> Vec<Connection> {
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
pub(super) fn answer(asked: &Tuple) -> Tuple {
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

/// Makes an entry.
pub(super) fn create(socket: &mut Socket, connection: &Connection) {
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

pub(super) fn received(socket: &mut Socket) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Received::Bytes(bytes) = socket.receive().expect("received") {
        all.push(bytes.to_vec());
    }
    all
}
