//! TCP without a connection: one forged reset must not bring a revoked connection back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use policy_compiler::evaluate::NodeEgress;
use testbed::Place;
use testbed::packet::{ACK, FIN, RST, SYN, Transport};

use super::packets::{CLOSED, OPEN, Packet, ip};
use super::passage::{Guard, PATIENCE};
use super::world::{Family, Known, NETWORKS, World, address, node, pod};

pub(super) const GUARD: &[&str] = &["TCP without a connection"];
const PSH: u8 = 0x08;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

struct Segments<'w> {
    world: &'w World,
    family: Family,
    source_port: u16,
}

impl Segments<'_> {
    /// A segment of a flow of its own.
    fn next(&mut self, from: &Place, to: &Place, port: u16, flags: u8) -> Packet {
        self.source_port += 1;
        let (family, source_port) = (self.family, self.source_port);
        let name = format!("{from} to {to} port {port}, {family:?}, flags {flags:#04x}");
        let ip = ip(address(from, family), address(to, family));
        Packet::new(&name, (from, to), &self.world.way(from, to), &ip, |token| {
            Transport::Tcp {
                source_port,
                destination_port: port,
                sequence: 0x7e57,
                acknowledgment: if flags & ACK == 0 { 0 } else { 0x7e57 },
                flags,
                payload: token.to_vec(),
            }
        })
    }
}

#[test]
fn tcp_to_and_from_isolated_pods_starts_with_a_syn() {
    for network in NETWORKS {
        let world = World::new(network);
        let [a, b, c, e, r] = ["a", "b", "c", "e", "r"].map(pod);
        for known in Known::ALL {
            let (mut attacks, mut twins) = (Vec::new(), Vec::new());
            for family in Family::ALL {
                let mut segments = Segments {
                    world: &world,
                    family,
                    source_port: 5000,
                };
                for flags in [ACK, PSH | ACK] {
                    attacks.push((segments.next(&a, &b, OPEN, flags), GUARD));
                    attacks.push((segments.next(&e, &c, OPEN, flags), GUARD));
                    // To an open port from an isolated pod whose other direction is open.
                    attacks.push((segments.next(&b, &c, CLOSED, flags), GUARD));
                    attacks.push((segments.next(&Place::External, &b, OPEN, flags), GUARD));
                    twins.push(segments.next(&a, &c, CLOSED, flags));
                    twins.push(segments.next(&c, &r, CLOSED, flags));
                    twins.push(segments.next(&Place::External, &c, CLOSED, flags));
                }
                for flags in [SYN, SYN | ECE | CWR, SYN | PSH] {
                    twins.push(segments.next(&a, &b, OPEN, flags));
                    twins.push(segments.next(&e, &c, OPEN, flags));
                }
                // Never the beginning of a connection; between open pods none of our business.
                for flags in [SYN | ACK, FIN, RST, 0] {
                    twins.push(segments.next(&a, &c, CLOSED, flags));
                }
            }
            world.check(&Guard {
                known,
                node_egress: NodeEgress::Allow,
                attacks,
                twins,
            });
        }
    }
}

/// An open connection: the client's end and the server's.
fn connect(world: &World, from: &Place, to: &Place, family: Family) -> (TcpStream, TcpStream) {
    let at = SocketAddr::new(address(to, family), OPEN);
    let listener = world.bind(to, || TcpListener::bind(at));
    let connect = || TcpStream::connect_timeout(&at, PATIENCE);
    let client = world.namespace(from).run(connect).unwrap().unwrap();
    let (server, _) = listener.accept().unwrap();
    for end in [&client, &server] {
        end.set_read_timeout(Some(PATIENCE)).unwrap();
        end.set_nodelay(true).unwrap();
    }
    (client, server)
}

fn say(mut from: &TcpStream, mut to: &TcpStream, word: &[u8]) {
    from.write_all(word).unwrap();
    let mut heard = vec![0; word.len()];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(heard, word);
}

/// Makes the node track connections before there are rules of ours, as kube-proxy's do.
pub(super) const TRACKING: &str = "
table inet tracking {
  chain forward {
    type filter hook forward priority 300
    ct state new counter
  }
}";

#[test]
fn connections_that_are_open_go_on_when_rules_come_and_are_replaced() {
    for network in NETWORKS {
        let world = World::new(network);
        world.namespace(&node("n1")).nft(TRACKING).unwrap();
        let opened: Vec<_> = Family::ALL
            .into_iter()
            .flat_map(|family| {
                [
                    (pod("c"), pod("b")),
                    (pod("e"), pod("c")),
                    (pod("e"), node("n1")),
                ]
                .map(|(from, to)| connect(&world, &from, &to, family))
            })
            .collect();
        for known in Known::ALL {
            world.reload(known, NodeEgress::Policy);
            for (client, server) in &opened {
                say(client, server, b"there");
                say(server, client, b"and back");
            }
        }
    }
}

#[test]
fn a_connection_that_is_no_longer_tracked_does_not_come_back_by_its_own_data() {
    for network in NETWORKS {
        let world = World::new(network);
        let (b, c) = (pod("b"), pod("c"));
        for family in Family::ALL {
            for known in [Known::Ports, Known::Nothing] {
                world.load(known, NodeEgress::Allow);
                let (client, server) = connect(&world, &c, &b, family);
                say(&client, &server, b"hello");
                for (mut from, mut to, place) in [(&client, &server, &b), (&server, &client, &c)] {
                    world.load(known, NodeEgress::Allow);
                    let mut capture = world.capture(place);
                    from.write_all(b"I am back").unwrap();
                    let (fence, token) = world.fence(if place == &b { &c } else { &b }, place);
                    world.send(if place == &b { &c } else { &b }, &fence);
                    assert!(
                        !capture
                            .arrives_before(b"I am back", &token, PATIENCE)
                            .unwrap()
                    );
                    // Without the guard it is sent again, and arrives.
                    world.load_without(known, NodeEgress::Allow, GUARD);
                    let mut heard = [0; 9];
                    to.read_exact(&mut heard).unwrap();
                    assert_eq!(&heard, b"I am back");
                }
            }
        }
    }
}

#[test]
fn a_connection_to_the_own_node_does_not_come_back_as_the_nodes_where_it_can_be_revoked() {
    for network in NETWORKS {
        let world = World::new(network);
        let (e, n) = (pod("e"), node("n1"));
        for family in Family::ALL {
            let known = Known::Ports;
            world.load(known, NodeEgress::Policy);
            let (mut client, mut server) = connect(&world, &e, &n, family);
            say(&client, &server, b"hello");
            world.load(known, NodeEgress::Policy);
            let mut capture = world.capture(&e);
            server.write_all(b"I am back").unwrap();
            // Datagrams of the node itself always pass.
            let fence = world.listener(&n, CLOSED);
            fence
                .send_to(b"the fence", (address(&e, family), OPEN))
                .unwrap();
            assert!(
                !capture
                    .arrives_before(b"I am back", b"the fence", PATIENCE)
                    .unwrap()
            );
            world.load_without(known, NodeEgress::Policy, GUARD);
            let mut heard = [0; 9];
            client.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"I am back");

            // Where the node is always allowed, nothing of it can be revoked and nothing is dropped.
            world.load(known, NodeEgress::Allow);
            client
                .set_read_timeout(Some(PATIENCE + Duration::from_secs(1)))
                .unwrap();
            say(&server, &client, b"still here");
        }
    }
}
