//! Frames by hand: the kernel believes their checksums, and a capture sees what arrives and what does not.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use common::*;
use testbed::frames::{Capture, FrameSender};
use testbed::packet::{ACK, Ethernet, Ip, SYN, Transport, fragments, frame};
use testbed::{Mac, Network, POD_INTERFACE, Place, Testbed, neighbour_discovery};

const PATIENCE: Duration = Duration::from_secs(5);

fn sender(testbed: &Testbed, name: &str) -> FrameSender {
    FrameSender::new(testbed.namespace(&pod(name)).unwrap(), POD_INTERFACE).unwrap()
}

fn capture(testbed: &Testbed, name: &str) -> Capture {
    Capture::new(testbed.namespace(&pod(name)).unwrap(), POD_INTERFACE).unwrap()
}

/// The way of frames between two pods of node `a`: straight on a bridge, else through the node.
fn way(testbed: &Testbed, from: &str, to: &str) -> Ethernet {
    let (source, destination) = (
        testbed.attachment(from).unwrap(),
        testbed.attachment(to).unwrap(),
    );
    let next = if source.bridge.is_some() {
        destination.mac
    } else {
        source.gateway_mac
    };
    Ethernet {
        source: source.mac,
        destination: next,
        vlan: None,
    }
}

fn ip(source: IpAddr, destination: IpAddr) -> Ip {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Ip::V4 {
            source,
            destination,
            hop_limit: 64,
        },
        (IpAddr::V6(source), IpAddr::V6(destination)) => Ip::V6 {
            source,
            destination,
            hop_limit: 64,
        },
        _ => panic!("two families"),
    }
}

fn between(from: &str, to: &str, family: Family) -> Ip {
    ip(address(&pod(from), family), address(&pod(to), family))
}

fn datagram(payload: &[u8]) -> Transport {
    Transport::Udp {
        source_port: 4000,
        destination_port: 4001,
        payload: payload.to_vec(),
    }
}

fn segment(flags: u8) -> Transport {
    Transport::Tcp {
        source_port: 4000,
        destination_port: 4001,
        sequence: 0x7e57_0001,
        acknowledgment: 0,
        flags,
        payload: Vec::new(),
    }
}

fn listener(testbed: &Testbed, place: &Place, family: Family) -> UdpSocket {
    let at = (address(place, family), 4001);
    let socket = testbed
        .namespace(place)
        .unwrap()
        .run(|| UdpSocket::bind(at))
        .unwrap()
        .unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn received(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    buffer[..length].to_vec()
}

#[test]
fn datagrams_whole_and_in_fragments_are_delivered_to_a_socket() {
    for (network, family) in NETWORKS
        .into_iter()
        .flat_map(|network| FAMILIES.map(|family| (network, family)))
    {
        let testbed = cluster(network);
        let (sender, socket) = (
            sender(&testbed, "a1"),
            listener(&testbed, &pod("a2"), family),
        );
        let (way, ip) = (way(&testbed, "a1", "a2"), between("a1", "a2", family));
        // Odd and even lengths: the checksum pads.
        for payload in [&b"whole"[..], b"longer", &[7; 1001]] {
            sender.send(&frame(&way, &ip, &datagram(payload))).unwrap();
            assert_eq!(received(&socket), payload);
            for part in fragments(&way, &ip, &datagram(payload), 8, payload.len() as u16) {
                sender.send(&part).unwrap();
            }
            assert_eq!(received(&socket), payload);
        }
    }
}

#[test]
fn segments_and_echo_requests_are_answered_by_the_kernel() {
    for family in FAMILIES {
        let testbed = cluster(Network::Bridged);
        let (sender, mut capture) = (sender(&testbed, "a1"), capture(&testbed, "a1"));
        let (way, ip) = (way(&testbed, "a1", "a2"), between("a1", "a2", family));
        // Nobody listens: a reset that acknowledges the SYN's number.
        sender.send(&frame(&way, &ip, &segment(SYN))).unwrap();
        assert!(
            capture
                .arrives(&0x7e57_0002u32.to_be_bytes(), PATIENCE)
                .unwrap()
        );
        let kind = if family == Family::V4 { 8 } else { 128 };
        let echo = Transport::Icmp {
            kind,
            code: 0,
            body: b"0011an echo request".to_vec(),
        };
        sender.send(&frame(&way, &ip, &echo)).unwrap();
        assert!(capture.arrives(b"an echo request", PATIENCE).unwrap());
    }
}

#[test]
fn a_capture_proves_that_a_frame_was_dropped_by_a_fence_that_was_sent_after_it() {
    for network in NETWORKS {
        let testbed = cluster(network);
        let (sender, mut capture) = (sender(&testbed, "a1"), capture(&testbed, "a2"));
        let (way, ip) = (way(&testbed, "a1", "a2"), between("a1", "a2", Family::V4));
        let rules = "table inet t { chain c { type filter hook forward priority 0; tcp flags & syn == 0 drop\n}\n}";
        testbed.namespace(&node("a")).unwrap().nft(rules).unwrap();
        let token = 0x7e57_0001u32.to_be_bytes();
        sender.send(&frame(&way, &ip, &segment(ACK))).unwrap();
        sender
            .send(&frame(&way, &ip, &datagram(b"the first fence")))
            .unwrap();
        assert!(
            !capture
                .arrives_before(&token, b"the first fence", PATIENCE)
                .unwrap()
        );
        sender.send(&frame(&way, &ip, &segment(SYN))).unwrap();
        sender
            .send(&frame(&way, &ip, &datagram(b"the second fence")))
            .unwrap();
        assert!(
            capture
                .arrives_before(&token, b"the second fence", PATIENCE)
                .unwrap()
        );
        assert!(
            !capture
                .arrives(b"never sent", Duration::from_millis(1))
                .unwrap()
        );
        assert!(
            capture
                .arrives_before(&token, b"never sent", Duration::from_millis(1))
                .is_err()
        );
        // What a pod sends has not arrived there. It goes to nobody, as an answer would quote it.
        let mut own = self::capture(&testbed, "a1");
        let nowhere = Ethernet {
            destination: Mac([2, 9, 9, 9, 9, 9]),
            ..way
        };
        sender
            .send(&frame(&nowhere, &ip, &datagram(b"outgoing")))
            .unwrap();
        assert!(!own.arrives(b"outgoing", Duration::from_millis(50)).unwrap());
    }
}

#[test]
fn a_bridge_carries_what_pods_should_not_send() {
    let testbed = cluster(Network::Bridged);
    let (sender, mut capture) = (sender(&testbed, "a1"), capture(&testbed, "a2"));
    let way = way(&testbed, "a1", "a2");
    let (own, other) = (
        testbed.attachment("a1").unwrap(),
        testbed.attachment("a2").unwrap(),
    );
    let link_local = |hop_limit| Ip::V6 {
        source: own.link_local,
        destination: other.link_local,
        hop_limit,
    };
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let spoofed = Ip::V4 {
        source: Ipv4Addr::new(9, 9, 9, 9),
        destination: Ipv4Addr::new(10, 1, 0, 12),
        hop_limit: 1,
    };
    let broadcast = Ip::V4 {
        source: Ipv4Addr::new(10, 1, 0, 11),
        destination: Ipv4Addr::new(10, 1, 0, 255),
        hop_limit: 1,
    };
    let multicast = Ip::V6 {
        source: own.link_local,
        destination: all_nodes,
        hop_limit: 1,
    };
    let ordinary = between("a1", "a2", Family::V4);
    let to = |destination| Ethernet {
        destination,
        ..way.clone()
    };
    let frames = [
        ("spoofed", frame(&way, &spoofed, &datagram(b"spoofed"))),
        (
            "tagged",
            frame(
                &Ethernet {
                    vlan: Some(0),
                    ..way.clone()
                },
                &ordinary,
                &datagram(b"tagged"),
            ),
        ),
        (
            "link-local",
            frame(&way, &link_local(64), &datagram(b"link-local")),
        ),
        (
            "multicast",
            frame(
                &to(Mac::of_multicast(all_nodes)),
                &multicast,
                &datagram(b"multicast"),
            ),
        ),
        (
            "broadcast",
            frame(&to(Mac::BROADCAST), &broadcast, &datagram(b"broadcast")),
        ),
        (
            "routed ND",
            frame(
                &way,
                &link_local(1),
                &neighbour_discovery::advertisement(own.link_local, own.mac, b"routed ND"),
            ),
        ),
        (
            "router",
            frame(
                &way,
                &link_local(255),
                &neighbour_discovery::router_advertisement(own.mac, b"router"),
            ),
        ),
        (
            "redirect",
            frame(
                &way,
                &link_local(255),
                &neighbour_discovery::redirect(own.link_local, all_nodes, b"redirect"),
            ),
        ),
    ];
    for (name, frame) in frames {
        sender.send(&frame).unwrap();
        assert!(
            capture.arrives(name.as_bytes(), PATIENCE).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_spoofed_source_is_routed_to_the_other_end_if_no_rule_drops_it() {
    let testbed = cluster(Network::Routed);
    let source = testbed.attachment("a1").unwrap();
    let way = Ethernet {
        source: source.mac,
        destination: source.gateway_mac,
        vlan: None,
    };
    for (to, spoofed) in [
        ("a2", "10.2.0.11"),
        ("b1", "203.0.113.9"),
        ("b1", "10.1.0.12"),
        ("a2", "192.0.2.77"),
    ] {
        let mut capture = capture(&testbed, to);
        let ip = ip(spoofed.parse().unwrap(), address(&pod(to), Family::V4));
        let token = format!("{spoofed} to {to}");
        sender(&testbed, "a1")
            .send(&frame(&way, &ip, &datagram(token.as_bytes())))
            .unwrap();
        assert!(
            capture.arrives(token.as_bytes(), PATIENCE).unwrap(),
            "{token}"
        );
    }
}

#[test]
fn link_local_and_broadcast_datagrams_reach_a_socket() {
    let testbed = cluster(Network::Bridged);
    let sender = sender(&testbed, "a1");
    let way = way(&testbed, "a1", "a2");
    let (own, other) = (
        testbed.attachment("a1").unwrap(),
        testbed.attachment("a2").unwrap(),
    );
    let place = pod("a2");
    // It takes IPv4 too.
    let socket = testbed
        .namespace(&place)
        .unwrap()
        .run(|| UdpSocket::bind("[::]:4001"))
        .unwrap()
        .unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let ip = Ip::V6 {
        source: own.link_local,
        destination: other.link_local,
        hop_limit: 1,
    };
    sender
        .send(&frame(&way, &ip, &datagram(b"link-local")))
        .unwrap();
    assert_eq!(received(&socket), b"link-local");
    let ip = Ip::V4 {
        source: Ipv4Addr::new(10, 1, 0, 11),
        destination: Ipv4Addr::new(10, 1, 0, 255),
        hop_limit: 1,
    };
    let everyone = Ethernet {
        destination: Mac::BROADCAST,
        ..way
    };
    sender
        .send(&frame(&everyone, &ip, &datagram(b"broadcast")))
        .unwrap();
    assert_eq!(received(&socket), b"broadcast");
}

#[test]
fn a_solicitation_is_answered_only_with_a_hop_limit_of_255() {
    let testbed = cluster(Network::Bridged);
    let (sender, mut capture) = (sender(&testbed, "a1"), capture(&testbed, "a1"));
    let way = way(&testbed, "a1", "a2");
    let (own, other) = (
        testbed.attachment("a1").unwrap(),
        testbed.attachment("a2").unwrap(),
    );
    let question = neighbour_discovery::solicitation(other.link_local, own.mac, b"token");
    let ask = |hop_limit| {
        let ip = Ip::V6 {
            source: own.link_local,
            destination: other.link_local,
            hop_limit,
        };
        sender.send(&frame(&way, &ip, &question)).unwrap();
    };
    // An advertisement repeats the target behind its flags, which say that it was solicited.
    let answer = [&[0x40, 0, 0, 0][..], &other.link_local.octets()].concat();
    ask(1);
    sender
        .send(&frame(
            &way,
            &between("a1", "a2", Family::V4),
            &segment(SYN),
        ))
        .unwrap();
    assert!(
        !capture
            .arrives_before(&answer, &0x7e57_0002u32.to_be_bytes(), PATIENCE)
            .unwrap()
    );
    ask(255);
    assert!(capture.arrives(&answer, PATIENCE).unwrap());
}
