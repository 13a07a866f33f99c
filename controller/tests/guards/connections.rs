//! Connections as conntrack sees them: fragments, errors, and packets that are not tracked.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use policy_compiler::evaluate::NodeEgress;
use testbed::packet::{Ip, Transport, fragments, frame};
use testbed::{Network, Outcome, Place, Protocol};

use super::packets::{CLOSED, OPEN, datagram, ip};
use super::passage::{PATIENCE, probe_from, receives};
use super::world::{Family, Known, NETWORKS, World, address, node, pod};

/// More than two frames hold.
const LARGE: usize = 4000;

fn large(token: u8) -> Vec<u8> {
    [&[b'L', b'A', b'R', b'G', token][..], &[token; LARGE]].concat()
}

/// A large datagram from the program of a pod.
fn send_large(world: &World, from: &Place, to: SocketAddr, token: u8) {
    let source = address(from, if to.is_ipv4() { Family::V4 } else { Family::V6 });
    let send = || UdpSocket::bind((source, 0))?.send_to(&large(token), to);
    assert_eq!(world.namespace(from).run(send).unwrap().unwrap(), LARGE + 5);
}

#[test]
fn datagrams_in_fragments_are_judged_as_whole_ones() {
    for network in NETWORKS {
        let world = World::new(network);
        let b = pod("b");
        for from in [pod("a"), Place::External] {
            for family in Family::ALL {
                let to = |port| SocketAddr::new(address(&b, family), port);
                let (open, closed) = (world.listener(&b, OPEN), world.listener(&b, CLOSED));
                for known in [Known::Ports, Known::Nothing] {
                    world.load(known, NodeEgress::Allow);
                    let mut capture = world.capture(&b);
                    send_large(&world, &from, to(CLOSED), 1);
                    send_large(&world, &from, to(OPEN), 2);
                    assert!(
                        receives(&open, &large(2), PATIENCE),
                        "{network:?}, {family:?}"
                    );
                    assert!(!receives(&closed, &large(1), Duration::ZERO));
                    // Not one of its fragments.
                    assert!(capture.arrives(&[2; 64], PATIENCE).unwrap());
                    assert!(!capture.arrives(&[1; 64], Duration::ZERO).unwrap());
                }
                world.unload();
                send_large(&world, &from, to(CLOSED), 3);
                assert!(
                    receives(&closed, &large(3), PATIENCE),
                    "{network:?}, {family:?}"
                );
            }
        }
    }
}

#[test]
fn fragments_out_of_order_and_without_their_first_are_judged_alike() {
    for network in NETWORKS {
        let world = World::new(network);
        let (a, b) = (pod("a"), pod("b"));
        let (open, closed) = (world.listener(&b, OPEN), world.listener(&b, CLOSED));
        world.load(Known::Ports, NodeEgress::Allow);
        for family in Family::ALL {
            let ip: Ip = ip(address(&a, family), address(&b, family));
            let parts = |port, content: &[u8], id| {
                fragments(&world.way(&a, &b), &ip, &datagram(port)(content), 8, id)
            };
            let mut capture = world.capture(&b);
            let [first, second] = parts(CLOSED, b"a closed door", 1);
            world.send(&a, &second);
            world.send(&a, &first);
            let [_, alone] = parts(CLOSED, b"half of it", 2);
            world.send(&a, &alone);
            let [first, second] = parts(OPEN, b"an open door", 3);
            world.send(&a, &second);
            world.send(&a, &first);
            assert!(
                receives(&open, b"an open door", PATIENCE),
                "{network:?}, {family:?}"
            );
            assert!(!receives(&closed, b"a closed door", Duration::ZERO));
            assert!(
                !capture
                    .arrives_before(b"a closed door", b"an open door", PATIENCE)
                    .unwrap()
            );
            assert!(!capture.arrives(b"half of it", Duration::ZERO).unwrap());
        }
        world.unload();
        for family in Family::ALL {
            let ip: Ip = ip(address(&a, family), address(&b, family));
            let content = &datagram(CLOSED)(b"a closed door");
            let [first, second] = fragments(&world.way(&a, &b), &ip, content, 8, 4);
            world.send(&a, &second);
            world.send(&a, &first);
            assert!(
                receives(&closed, b"a closed door", PATIENCE),
                "{network:?}, {family:?}"
            );
        }
    }
}

/// Keeps datagrams of these ports away from conntrack, as a DNS cache on the node does.
const UNTRACKED: &str = "
table inet untracked {
  chain prerouting {
    type filter hook prerouting priority raw
    udp dport { 80, 81 } notrack
    udp sport { 80, 81 } notrack
  }
}";

#[test]
fn packets_that_are_not_tracked_are_judged_each_by_itself() {
    for network in NETWORKS {
        let world = World::new(network);
        let probe = |from: &str, to: &str, port| {
            let (from, to) = (pod(from), pod(to));
            let over = |family| {
                let ends = (address(&to, family), port, None);
                probe_from(&from, &to, family, Protocol::Udp, ends)
            };
            Family::ALL.map(over).to_vec()
        };
        // Allowed in both directions; answered to a pod that nobody may ask; answered from one that may not ask.
        let expected = |answers: Outcome| {
            vec![
                (probe("a", "c", CLOSED), Outcome::Passed),
                (probe("e", "c", OPEN), Outcome::Passed),
                (probe("e", "c", CLOSED), Outcome::Dropped),
                (probe("a", "b", OPEN), Outcome::Passed),
                (probe("a", "b", CLOSED), Outcome::Dropped),
                (probe("b", "c", CLOSED), answers),
                (probe("a", "e", CLOSED), answers),
            ]
        };
        for known in [Known::Ports, Known::Nothing] {
            world.load(known, NodeEgress::Allow);
            world.assert_outcomes(&expected(Outcome::Passed), &format!("tracked, {known:?}"));
            world.namespace(&node("n1")).nft(UNTRACKED).unwrap();
            world.load(known, NodeEgress::Allow);
            world.assert_outcomes(
                &expected(Outcome::Dropped),
                &format!("untracked, {known:?}"),
            );
            world
                .namespace(&node("n1"))
                .nft("delete table inet untracked")
                .unwrap();
        }
    }
}

/// A port on which nobody listens.
const NOBODY: u16 = 9;

#[test]
fn errors_come_back_to_an_isolated_pod_for_what_it_sent_and_for_nothing_else() {
    for network in NETWORKS {
        let world = World::new(network);
        let (b, c, x) = (pod("b"), pod("c"), Place::External);
        for family in Family::ALL {
            for known in [Known::Ports, Known::Nothing] {
                world.load(known, NodeEgress::Allow);
                for to in [&c, &x] {
                    let (own, other) = (address(&b, family), address(to, family));
                    let ask = || {
                        let socket = UdpSocket::bind((own, 0))?;
                        socket.set_read_timeout(Some(PATIENCE))?;
                        socket.connect((other, NOBODY))?;
                        socket.send(b"anybody?")?;
                        socket.recv(&mut [0; 16])
                    };
                    let answer = world.namespace(&b).run(ask).unwrap();
                    let refused = answer.map_err(|error| error.kind());
                    assert_eq!(
                        refused,
                        Err(ErrorKind::ConnectionRefused),
                        "{network:?}, {to}"
                    );

                    // The same error about a datagram that was never sent.
                    let quoted = frame(
                        &world.way(&b, to),
                        &ip(own, other),
                        &datagram(NOBODY)(b"lies"),
                    );
                    let (kind, code) = if family == Family::V4 { (3, 3) } else { (1, 4) };
                    let body = [&[0; 4][..], &quoted[14..]].concat();
                    let lie = Transport::Icmp { kind, code, body };
                    let lie = frame(&world.way(to, &b), &ip(other, own), &lie);
                    let mut capture = world.capture(&b);
                    world.send(to, &lie);
                    let (fence, token) = world.fence(to, &b);
                    world.send(to, &fence);
                    assert!(!capture.arrives_before(b"lies", &token, PATIENCE).unwrap());
                }
            }
            world.unload();
            let (own, other) = (address(&b, family), address(&c, family));
            let quoted = frame(
                &world.way(&b, &c),
                &ip(own, other),
                &datagram(NOBODY)(b"lies"),
            );
            let (kind, code) = if family == Family::V4 { (3, 3) } else { (1, 4) };
            let body = [&[0; 4][..], &quoted[14..]].concat();
            let lie = Transport::Icmp { kind, code, body };
            let lie = frame(&world.way(&c, &b), &ip(other, own), &lie);
            let mut capture = world.capture(&b);
            world.send(&c, &lie);
            assert!(
                capture.arrives(b"lies", PATIENCE).unwrap(),
                "{:?}",
                Network::Bridged
            );
        }
    }
}
