//! Connections whose mark says that they were revoked.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use policy_compiler::evaluate::NodeEgress;
use policy_compiler::lower::RevokedBit;
use testbed::Place;

use super::packets::{CLOSED, OPEN};
use super::passage::{PATIENCE, receives};
use super::world::{Family, Known, NETWORKS, World, address, node, pod};

/// Marks connections to a port whatever happens to them afterwards.
fn marker(mark: u32) -> String {
    let chain = |hook| {
        format!(
            "chain {hook} {{\ntype filter hook {hook} priority -150\n\
             udp dport {CLOSED} ct mark set {mark}\nudp sport {CLOSED} ct mark set {mark}\n}}\n"
        )
    };
    let chains = [chain("prerouting"), chain("output")].concat();
    format!("table inet marker\ndelete table inet marker\ntable inet marker {{\n{chains}}}")
}

/// A flow of datagrams to [`CLOSED`], and one beside it to [`OPEN`] by which absence is seen.
struct Flow {
    client: [UdpSocket; 2],
    server: [UdpSocket; 2],
    at: [SocketAddr; 2],
}

impl Flow {
    fn new(world: &World, from: &Place, to: &Place, family: Family) -> Flow {
        let server = [CLOSED, OPEN].map(|port| world.listener(to, port));
        let client = [(); 2].map(|()| {
            let bind = || UdpSocket::bind((address(from, family), 0));
            let socket = world.namespace(from).run(bind).unwrap().unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        let at = [CLOSED, OPEN].map(|port| SocketAddr::new(address(to, family), port));
        Flow { client, server, at }
    }

    /// Whether what the client sends is received, and whether what the server sends is.
    fn works(&self, content: &[u8]) -> [bool; 2] {
        let there = [0, 1].map(|way| (&self.client[way], &self.server[way], self.at[way]));
        let back = [0, 1].map(|way| {
            let mut to = self.client[way].local_addr().unwrap();
            if self.server[way].local_addr().unwrap().is_ipv6()
                && let SocketAddr::V4(v4) = to
            {
                to = SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port());
            }
            (&self.server[way], &self.client[way], to)
        });
        [there, back].map(|[judged, fence]| {
            // On its own host a datagram that is dropped is an error.
            let _ = judged.0.send_to(content, judged.2);
            fence.0.send_to(content, fence.2).unwrap();
            assert!(receives(fence.1, content, PATIENCE), "the fence is lost");
            receives(judged.1, content, Duration::ZERO)
        })
    }
}

#[test]
fn a_revoked_connection_is_dropped_though_established_until_its_mark_is_gone() {
    let bit = RevokedBit::default().bits();
    for network in NETWORKS {
        let world = World::new(network);
        let n = world.namespace(&node("n1"));
        // Through the node, to it and from it.
        for (from, to) in [
            (pod("a"), pod("c")),
            (pod("b"), Place::External),
            (pod("e"), node("n1")),
            (node("n1"), pod("b")),
        ] {
            for family in Family::ALL {
                for known in [Known::Ports, Known::Nothing] {
                    let asked = format!("{network:?}, {known:?}, {from} to {to}, {family:?}");
                    world.load(known, NodeEgress::Allow);
                    let flow = Flow::new(&world, &from, &to, family);
                    assert_eq!(flow.works(b"established"), [true; 2], "{asked}");
                    n.nft(&marker(bit)).unwrap();
                    assert_eq!(flow.works(b"revoked"), [false; 2], "{asked}");
                    n.nft(&marker(bit | 0x4000)).unwrap();
                    assert_eq!(flow.works(b"with other bits"), [false; 2], "{asked}");
                    // The connection keeps its mark.
                    n.nft("delete table inet marker").unwrap();
                    assert_eq!(flow.works(b"still revoked"), [false; 2], "{asked}");
                    n.nft(&marker(!bit)).unwrap();
                    assert_eq!(flow.works(b"all other bits"), [true; 2], "{asked}");
                    n.nft(&marker(bit)).unwrap();
                    assert_eq!(flow.works(b"revoked again"), [false; 2], "{asked}");
                    world.unload();
                    assert_eq!(flow.works(b"without rules"), [true; 2], "{asked}");
                    n.nft("delete table inet marker").unwrap();
                }
            }
        }
    }
}
