//! Revoking connections: entries marked over netlink by what forward saw, and what cuts them is our rules.
//!
//! A connection that policy forbids is one that was opened before there were rules.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use kernel::conntrack::{
    Connection, Conntrack, Ends, Entry, Event, Filter, MarkChange, Masked, Tuple, Watch,
};
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::lower::RevokedBit;
use testbed::packet::{ACK, RST, Transport, frame};
use testbed::{Place, Protocol};

use super::flow::{Flow, Sockets, Way, token};
use super::packets::{CLOSED, OPEN, ip};
use super::passage::{PATIENCE, await_that, receives};
use super::services::{MASQUERADE, NODE_PORT, services, virtual_address};
use super::tcp::{GUARD, TRACKING};
use super::world::{Family, Known, NETWORKS, World, address, node, pod};

const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
const KNOWN: Known = Known::Ports;
const EGRESS: NodeEgress = NodeEgress::Allow;

fn set() -> MarkChange {
    MarkChange::set(RevokedBit::default().bits())
}

fn clear() -> MarkChange {
    MarkChange::clear(RevokedBit::default().bits())
}

/// A world whose node tracks connections and has no rules of ours yet.
fn without_rules(world: &World) {
    world.unload();
    world.namespace(&node("n1")).nft(TRACKING).unwrap();
}

/// Connection tracking of the node.
fn conntrack(world: &World) -> Conntrack {
    let opened = world.namespace(&node("n1")).run(Conntrack::open);
    opened.unwrap().unwrap()
}

fn entries(conntrack: &mut Conntrack, filter: &Filter) -> Vec<Entry> {
    let mut entries = Vec::new();
    conntrack.dump(filter, |entry| entries.push(entry)).unwrap();
    entries
}

/// What the policies of [`World`] say of [`CLOSED`]: nobody may ask `b` there, and `e` may ask nobody.
fn forbidden(seen: &Tuple) -> bool {
    let is = |end: IpAddr, name| {
        Family::ALL
            .iter()
            .any(|family| end == address(&pod(name), *family))
    };
    let port = seen.transport.ports().map(|ports| ports.destination);
    port == Some(CLOSED) && (is(seen.destination, "b") || is(seen.source, "e"))
}

/// Changes the marks of the connections that policy forbids, and returns these.
fn change_forbidden(conntrack: &mut Conntrack, change: MarkChange) -> Vec<Connection> {
    let all = entries(conntrack, &Filter::default());
    let judged = all.iter().filter(|entry| forbidden(&entry.forwarded()));
    let connections: Vec<_> = judged.map(Entry::connection).collect();
    change_all(conntrack, &connections, change);
    connections
}

#[track_caller]
fn change_all(conntrack: &mut Conntrack, connections: &[Connection], change: MarkChange) {
    let changes = connections.iter().map(|connection| (*connection, change));
    let marked = conntrack.change_marks(changes).unwrap();
    assert_eq!((marked.changed, marked.gone), (connections.len(), 0));
}

#[test]
fn a_deleted_entry_does_not_cut_a_connection() {
    for network in NETWORKS {
        let world = World::new(network);
        let n = world.namespace(&node("n1"));
        let (a, b) = (pod("a"), pod("b"));
        for family in Family::ALL {
            let at = SocketAddr::new(address(&b, family), CLOSED);

            without_rules(&world);
            let flow = Flow::open(&world, Protocol::Udp, (&a, &b), at, CLOSED);
            world.reload(KNOWN, EGRESS);
            flow.assert_passes("established");
            n.forget_connections().unwrap();
            flow.assert_cut_on(Way::There, "as a new connection it is forbidden");
            flow.assert_passes_on(
                Way::Back,
                "the other end's is a new one too, and is allowed",
            );
            flow.assert_passes_on(Way::There, "as its answer");
            // By its mark it stays cut.
            without_rules(&world);
            flow.assert_passes("without rules");
            world.reload(KNOWN, EGRESS);
            change_forbidden(&mut conntrack(&world), set());
            flow.assert_cut("revoked");

            without_rules(&world);
            let flow = Flow::open(&world, Protocol::Tcp, (&a, &b), at, CLOSED);
            world.reload(KNOWN, EGRESS);
            flow.assert_passes("established");
            n.forget_connections().unwrap();
            flow.assert_cut("no connection begins in its middle, where one end is isolated");
            world.reload_without(KNOWN, EGRESS, GUARD);
            // What the other end said is said again, and then is a new connection.
            flow.assert_passes_on(Way::Back, "without the guard");
            flow.assert_passes_on(Way::There, "as its answer");
        }
    }
}

/// Ends, where the client connects to, and where the server listens.
type Case = ((Place, Place), IpAddr, u16);

/// Connections that policy forbids, each in its own way.
fn cases(family: Family) -> Vec<Case> {
    let x = Place::External;
    let [a, b, c, e, r] = ["a", "b", "c", "e", "r"].map(pod);
    let straight = |from: &Place, to: &Place| {
        let ends = (from.clone(), to.clone());
        (ends, address(to, family), CLOSED)
    };
    vec![
        straight(&a, &b),
        straight(&e, &c),
        straight(&x, &b),
        straight(&e, &r),
        straight(&r, &b),
        // Services: the destination is rewritten, and where there is masquerading the source too.
        ((a, b.clone()), virtual_address("b", family), CLOSED),
        ((e, c), virtual_address("c", family), CLOSED),
        ((x, b), address(&node("n1"), family), NODE_PORT + CLOSED),
    ]
}

#[test]
fn a_marked_connection_is_cut_in_both_directions_whatever_is_rewritten() {
    for network in NETWORKS {
        let world = World::new(network);
        let n = world.namespace(&node("n1"));
        let mut conntrack = conntrack(&world);
        for masquerade in MASQUERADE {
            for family in Family::ALL {
                for protocol in PROTOCOLS {
                    without_rules(&world);
                    n.nft(&services(masquerade)).unwrap();
                    let open = |((from, to), destination, port): &Case| {
                        let at = SocketAddr::new(*destination, *port);
                        Flow::open(&world, protocol, (from, to), at, CLOSED)
                    };
                    for case in cases(family) {
                        without_rules(&world);
                        let flow = open(&case);
                        // Beside it one that stays allowed.
                        let (a, c) = (pod("a"), pod("c"));
                        let at = SocketAddr::new(address(&c, family), OPEN);
                        let allowed = Flow::open(&world, protocol, (&a, &c), at, OPEN);
                        world.reload(KNOWN, EGRESS);
                        flow.assert_passes("established");
                        assert_eq!(change_forbidden(&mut conntrack, set()).len(), 1);
                        flow.assert_cut("revoked");
                        allowed.assert_passes("not revoked");
                        assert_eq!(change_forbidden(&mut conntrack, clear()).len(), 1);
                        flow.assert_passes("no longer revoked");
                    }
                    n.nft("delete table inet services").unwrap();
                }
            }
        }
    }
}

#[test]
fn one_forged_reset_does_not_revive_a_revoked_connection() {
    for network in NETWORKS {
        let world = World::new(network);
        let n = world.namespace(&node("n1"));
        let path = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close";
        n.run(|| std::fs::write(path, "1")).unwrap().unwrap();
        let (a, b) = (pod("a"), pod("b"));
        let mut conntrack = conntrack(&world);
        for family in Family::ALL {
            without_rules(&world);
            let at = SocketAddr::new(address(&b, family), CLOSED);
            let flow = Flow::open(&world, Protocol::Tcp, (&a, &b), at, CLOSED);
            // What comes next in the stream, which a process in the pod can know.
            let mut capture = world.capture(&b);
            let word = token();
            flow.send(Way::There, &word).unwrap();
            assert!(capture.arrives(&word, PATIENCE).unwrap());
            let next = sequence(capture.frames(), &word, family) + word.len() as u32;
            flow.assert_passes_on(Way::Back, "and what was said is acknowledged");
            world.reload(KNOWN, EGRESS);
            change_forbidden(&mut conntrack, set());

            let Sockets::Tcp { client, .. } = &flow.sockets else {
                panic!("not TCP");
            };
            let reset = Transport::Tcp {
                source_port: client.local_addr().unwrap().port(),
                destination_port: CLOSED,
                sequence: next,
                acknowledgment: 0,
                flags: RST | ACK,
                payload: Vec::new(),
            };
            let ip = ip(address(&a, family), address(&b, family));
            world.send(&a, &frame(&world.way(&a, &b), &ip, &reset));
            // Connection tracking takes it for the end, and forgets the connection with its mark.
            let filter = Filter {
                reply: Ends {
                    source_port: Some(CLOSED),
                    ..Ends::default()
                },
                ..Filter::default()
            };
            await_that(|| entries(&mut conntrack, &filter).is_empty());
            flow.assert_cut("forgotten");
            assert_eq!(entries(&mut conntrack, &filter), []);
            world.reload_without(KNOWN, EGRESS, GUARD);
            flow.assert_passes_on(Way::Back, "without the guard");
        }
    }
}

/// The sequence number of the segment that begins with a word.
fn sequence(frames: &[Vec<u8>], word: &[u8], family: Family) -> u32 {
    let has = |frame: &&Vec<u8>| frame.windows(word.len()).any(|window| window == word);
    let found = frames.iter().find(has).unwrap();
    let header = 14 + if family == Family::V4 { 20 } else { 40 };
    u32::from_be_bytes(found[header + 4..header + 8].try_into().unwrap())
}

/// Whether an entry that was revoked no longer says so, by somebody else.
fn lost_its_mark(event: &Event, own: u32) -> Option<Connection> {
    match event {
        Event::Updated { entry, port } if *port != own => {
            let clear = Masked::clear(RevokedBit::default().bits());
            clear.matches(entry.mark).then(|| entry.connection())
        }
        Event::Updated { .. } => None,
        Event::Overrun => panic!("the buffer is large"),
    }
}

/// Waits until somebody takes the mark away from a connection, and sets it again.
#[track_caller]
fn set_again(watch: &mut Watch, conntrack: &mut Conntrack, revoked: &[Connection]) {
    let own = conntrack.port();
    await_that(|| {
        let events = watch.wait(Duration::from_millis(100)).unwrap();
        let lost: Vec<_> = events
            .iter()
            .filter_map(|event| lost_its_mark(event, own))
            .filter(|connection| revoked.contains(connection))
            .collect();
        change_all(conntrack, &lost, set());
        !lost.is_empty()
    });
}

#[test]
fn a_mark_that_others_rewrite_is_heard_of_and_set_again() {
    for network in NETWORKS {
        let world = World::new(network);
        let n = world.namespace(&node("n1"));
        let (a, b) = (pod("a"), pod("b"));
        let watch = n.run(|| Watch::open(1 << 22)).unwrap();
        let mut watch = watch.unwrap();
        let [mut own, mut other] = [(); 2].map(|()| conntrack(&world));
        for family in Family::ALL {
            for protocol in PROTOCOLS {
                without_rules(&world);
                let at = SocketAddr::new(address(&b, family), CLOSED);
                let flow = Flow::open(&world, protocol, (&a, &b), at, CLOSED);
                world.reload(KNOWN, EGRESS);
                let revoked = change_forbidden(&mut own, set());
                assert_eq!(revoked.len(), 1);
                flow.assert_cut("revoked");

                // By a rule, for as long as it is there.
                let rule = format!(
                    "table inet other {{\nchain prerouting {{\ntype filter hook prerouting priority mangle\n\
                     th dport {CLOSED} ct mark set meta mark\n}}\n}}"
                );
                n.nft(&rule).unwrap();
                flow.assert_passes_on(Way::There, "its mark is gone");
                n.nft("delete table inet other").unwrap();
                set_again(&mut watch, &mut own, &revoked);
                flow.assert_cut("revoked again");

                // By another program.
                change_all(&mut other, &revoked, clear());
                flow.assert_passes("its mark is gone");
                set_again(&mut watch, &mut own, &revoked);
                flow.assert_cut("revoked again");
            }
        }
    }
}

#[test]
fn a_new_owner_of_an_address_gets_nothing_of_the_old_owners_connections() {
    /// The old owner's own port, where it is the client.
    const CLIENT: u16 = 7000;
    for network in NETWORKS {
        let world = World::new(network);
        let (a, b, c) = (pod("a"), pod("b"), pod("c"));
        let mut conntrack = conntrack(&world);
        for family in Family::ALL {
            without_rules(&world);
            let own = address(&b, family);
            let bind = |place: &Place, at: (IpAddr, u16)| {
                let socket = world.bind(place, || UdpSocket::bind(at));
                socket.set_nonblocking(true).unwrap();
                socket
            };
            // `a` asks the old owner, and the old owner asks `c`.
            let old = [CLOSED, CLIENT].map(|port| bind(&b, (own, port)));
            let peers = [(&a, 0), (&c, CLOSED)].map(|(place, port)| {
                let socket = bind(place, (address(place, family), port));
                (place, socket)
            });
            peers[0].1.send_to(b"hello", (own, CLOSED)).unwrap();
            assert!(receives(&old[0], b"hello", PATIENCE));
            old[0]
                .send_to(b"hello", peers[0].1.local_addr().unwrap())
                .unwrap();
            assert!(receives(&peers[0].1, b"hello", PATIENCE));
            let to_c = (address(&c, family), CLOSED);
            old[1].send_to(b"hello", to_c).unwrap();
            assert!(receives(&peers[1].1, b"hello", PATIENCE));
            world.reload(KNOWN, EGRESS);

            drop(old);
            let new = [CLOSED, CLIENT].map(|port| bind(&b, (own, port)));
            let says = |index: usize, port| {
                let word = token();
                let (place, socket) = &peers[index];
                let mut capture = world.capture(&b);
                socket.send_to(&word, (own, port)).unwrap();
                let (fence, fence_token) = world.fence(place, &b);
                world.send(place, &fence);
                capture
                    .arrives_before(&word, &fence_token, PATIENCE)
                    .unwrap()
                    && receives(&new[index], &word, PATIENCE)
            };
            assert!(says(0, CLOSED) && says(1, CLIENT), "they are established");

            // All that comes from the address or goes to it, seen from forward.
            let from = |source| Ends {
                source: Some(source),
                ..Ends::default()
            };
            let as_client = Filter {
                original: from(own),
                ..Filter::default()
            };
            let as_server = Filter {
                reply: from(own),
                ..Filter::default()
            };
            for filter in [as_client, as_server] {
                let all = entries(&mut conntrack, &filter);
                let connections: Vec<_> = all.iter().map(Entry::connection).collect();
                assert!(!connections.is_empty());
                change_all(&mut conntrack, &connections, set());
            }
            assert!(
                !says(0, CLOSED) && !says(1, CLIENT),
                "{network:?}, {family:?}"
            );

            // And its own ones work.
            let at = SocketAddr::new(own, OPEN);
            Flow::open(&world, Protocol::Udp, (&a, &b), at, OPEN).assert_passes("its own");
        }
    }
}

#[test]
fn a_connection_that_is_allowed_again_goes_on_when_its_bit_is_cleared() {
    /// `b` takes it from `c`.
    const ALLOWED: u16 = 82;
    for network in NETWORKS {
        let world = World::new(network);
        let (b, c) = (pod("b"), pod("c"));
        let mut conntrack = conntrack(&world);
        for family in Family::ALL {
            world.load(KNOWN, EGRESS);
            let at = SocketAddr::new(address(&b, family), ALLOWED);
            let flow = Flow::open(&world, Protocol::Udp, (&c, &b), at, ALLOWED);
            let filter = Filter {
                reply: Ends {
                    source: Some(at.ip()),
                    protocol: Some(17),
                    source_port: Some(ALLOWED),
                    ..Ends::default()
                },
                ..Filter::default()
            };
            let found = entries(&mut conntrack, &filter);
            let connections: Vec<_> = found.iter().map(Entry::connection).collect();
            assert_eq!(connections.len(), 1);
            // As if it had been forbidden once. It tries again from the same port, for ever.
            change_all(&mut conntrack, &connections, set());
            flow.assert_cut("revoked");
            flow.assert_cut("though policy allows it");
            change_all(&mut conntrack, &connections, clear());
            flow.assert_passes("allowed again");
        }
    }
}
