//! Packets by hand, and whether they arrive.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use testbed::frames::{Capture, FrameSender};
use testbed::packet::{Ethernet, Ip, Transport, frame};
use testbed::{POD_INTERFACE, Place, UPLINK_INTERFACE};

use super::passage::PATIENCE;
use super::world::{Family, World, address, node, pod};

/// A port of every place that is closed to every isolated pod.
pub(super) const CLOSED: u16 = 81;
/// A port that every policy opens.
pub(super) const OPEN: u16 = 80;
/// The outside's link to node `n1`.
const FABRIC_INTERFACE: &str = "node0";

/// Where a packet is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// On the wire before the receiver.
    Wire,
    /// In the receiver's UDP socket on port [`CLOSED`].
    Socket,
}

/// A frame that carries its own name as its token.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    /// In brackets, so that no name is part of another.
    pub(super) name: String,
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) frame: Vec<u8>,
    pub(super) at: At,
}

impl Packet {
    /// A packet between two places. `transport` puts the token where it travels.
    pub(super) fn new(
        name: &str,
        (from, to): (&Place, &Place),
        ethernet: &Ethernet,
        ip: &Ip,
        transport: impl FnOnce(&[u8]) -> Transport,
    ) -> Packet {
        let name = format!("<{name}>");
        let frame = frame(ethernet, ip, &transport(name.as_bytes()));
        Packet {
            name,
            from: from.clone(),
            to: to.clone(),
            frame,
            at: At::Wire,
        }
    }

    /// A frame that is not made of an IP packet; the name is appended to it.
    pub(super) fn raw(name: &str, (from, to): (&Place, &Place), head: &[u8]) -> Packet {
        let name = format!("<{name}>");
        let frame = [head, name.as_bytes()].concat();
        Packet {
            name,
            from: from.clone(),
            to: to.clone(),
            frame,
            at: At::Wire,
        }
    }

    /// The same frame, which must come as far as a socket: a datagram to [`CLOSED`].
    pub(super) fn at_socket(mut self) -> Packet {
        self.at = At::Socket;
        self
    }

    /// The same with other bytes in front of the EtherType: tags.
    pub(super) fn tagged(mut self, tags: &[u8]) -> Packet {
        self.frame.splice(12..12, tags.iter().copied());
        self
    }

    /// The same with another EtherType.
    pub(super) fn ethertype(mut self, ethertype: u16) -> Packet {
        self.frame.splice(12..14, ethertype.to_be_bytes());
        self
    }
}

/// A datagram to a port, from one that stands for this test.
pub(super) fn datagram(port: u16) -> impl Fn(&[u8]) -> Transport {
    move |token| Transport::Udp {
        source_port: 4000,
        destination_port: port,
        payload: token.to_vec(),
    }
}

pub(super) fn ip(source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> Ip {
    hops(source, destination, 64)
}

pub(super) fn hops(source: impl Into<IpAddr>, destination: impl Into<IpAddr>, hop_limit: u8) -> Ip {
    match (source.into(), destination.into()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Ip::V4 {
            source,
            destination,
            hop_limit,
        },
        (IpAddr::V6(source), IpAddr::V6(destination)) => Ip::V6 {
            source,
            destination,
            hop_limit,
        },
        _ => panic!("two families"),
    }
}

pub(super) fn v4(place: &Place) -> Ipv4Addr {
    match address(place, Family::V4) {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(_) => panic!("not IPv4"),
    }
}

pub(super) fn v6(place: &Place) -> Ipv6Addr {
    match address(place, Family::V6) {
        IpAddr::V6(v6) => v6,
        IpAddr::V4(_) => panic!("not IPv6"),
    }
}

impl World {
    /// The Ethernet header between two places: straight between pods of a bridge, else by way of the node.
    pub(super) fn way(&self, from: &Place, to: &Place) -> Ethernet {
        let (source, destination) = match (from, to) {
            (Place::External, _) => *self.outside.get_or_init(|| {
                let uplink = self.mac(&node("n1"), UPLINK_INTERFACE);
                (self.mac(from, FABRIC_INTERFACE), uplink)
            }),
            (Place::Pod(name), _) => {
                let from = self.testbed.attachment(name).unwrap();
                let next = match to {
                    Place::Pod(to) if from.bridge.is_some() && (name == "t/r") == (to == "t/r") => {
                        self.testbed.attachment(to).unwrap().mac
                    }
                    _ => from.gateway_mac,
                };
                (from.mac, next)
            }
            (Place::Node(_), _) => panic!("nodes send from sockets"),
        };
        Ethernet {
            source,
            destination,
            vlan: None,
        }
    }

    /// A datagram between two places with these addresses.
    pub(super) fn packet(
        &self,
        name: &str,
        from: &Place,
        to: &Place,
        ip: &Ip,
        port: u16,
    ) -> Packet {
        Packet::new(name, (from, to), &self.way(from, to), ip, datagram(port))
    }

    /// An honest datagram between two pods.
    pub(super) fn honest(&self, from: &str, to: &str, family: Family, port: u16) -> Packet {
        let (from, to) = (pod(from), pod(to));
        let name = format!("honest {from} to {to} port {port} over {family:?}");
        let ip = ip(address(&from, family), address(&to, family));
        self.packet(&name, &from, &to, &ip, port)
    }

    /// A datagram to [`OPEN`], of a flow of its own, and its token.
    pub(super) fn fence(&self, from: &Place, to: &Place) -> (Vec<u8>, Vec<u8>) {
        static PORT: AtomicU16 = AtomicU16::new(20_000);
        let source_port = PORT.fetch_add(1, Ordering::Relaxed);
        let token = format!("fence {source_port}").into_bytes();
        let fence = Transport::Udp {
            source_port,
            destination_port: OPEN,
            payload: token.clone(),
        };
        let ip = ip(v4(from), v4(to));
        (frame(&self.way(from, to), &ip, &fence), token)
    }

    /// Sends a frame from a place.
    pub(super) fn send(&self, from: &Place, frame: &[u8]) {
        // To close a packet socket takes longer than all that is sent by it.
        let mut senders = self.senders.lock().unwrap();
        let open = || FrameSender::new(self.namespace(from), interface(from)).unwrap();
        senders
            .entry(from.clone())
            .or_insert_with(open)
            .send(frame)
            .unwrap();
    }

    pub(super) fn capture(&self, place: &Place) -> Capture {
        Capture::new(self.namespace(place), interface(place)).unwrap()
    }

    /// A socket of both families.
    pub(super) fn listener(&self, place: &Place, port: u16) -> UdpSocket {
        let socket = self.bind(place, || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)));
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// Binds a socket in a place, as soon as an earlier one is gone: a program that another test starts just now
    /// has it open until it runs.
    pub(super) fn bind<T: Send>(
        &self,
        place: &Place,
        bind: impl Fn() -> io::Result<T> + Sync,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.namespace(place).run(&bind).unwrap() {
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                bound => return bound.unwrap(),
            }
        }
    }
}

fn interface(place: &Place) -> &'static str {
    match place {
        Place::Pod(_) => POD_INTERFACE,
        Place::Node(_) => UPLINK_INTERFACE,
        Place::External => FABRIC_INTERFACE,
    }
}
