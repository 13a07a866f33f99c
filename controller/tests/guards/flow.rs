//! Connections whose sockets stay open while the rules change.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use testbed::{Place, Protocol};

use super::passage::PATIENCE;
use super::world::{Family, World, address};

/// Which end sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The client.
    There,
    /// The server.
    Back,
}

pub(super) const WAYS: [Way; 2] = [Way::There, Way::Back];

/// An open connection.
pub(super) struct Flow<'w> {
    world: &'w World,
    name: String,
    from: Place,
    to: Place,
    pub(super) sockets: Sockets,
}

pub(super) enum Sockets {
    Tcp {
        client: TcpStream,
        server: TcpStream,
    },
    Udp {
        client: UdpSocket,
        server: UdpSocket,
    },
}

impl<'w> Flow<'w> {
    /// Connects, by way of the destination, to a place that listens on the port, and has both ends say something.
    pub(super) fn open(
        world: &'w World,
        protocol: Protocol,
        (from, to): (&Place, &Place),
        destination: SocketAddr,
        port: u16,
    ) -> Flow<'w> {
        let family = if destination.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        let at = SocketAddr::new(address(to, family), port);
        let name = format!(
            "{:?}, {from} to {to} by {destination}, {protocol:?}",
            world.network
        );
        let sockets = match protocol {
            Protocol::Tcp => {
                let listener = world.bind(to, || TcpListener::bind(at));
                let connect = || TcpStream::connect_timeout(&destination, PATIENCE);
                let client = world.namespace(from).run(connect).unwrap().expect(&name);
                let (server, _) = listener.accept().unwrap();
                for end in [&client, &server] {
                    end.set_read_timeout(Some(PATIENCE)).unwrap();
                    end.set_nodelay(true).unwrap();
                }
                Sockets::Tcp { client, server }
            }
            Protocol::Udp => {
                let server = world.bind(to, || UdpSocket::bind(at));
                let own = (address(from, family), 0);
                let client = world.namespace(from).run(|| UdpSocket::bind(own));
                let client = client.unwrap().unwrap();
                for end in [&client, &server] {
                    end.set_read_timeout(Some(PATIENCE)).unwrap();
                }
                client.connect(destination).unwrap();
                client.send(b"hello").unwrap();
                let (_, peer) = server.recv_from(&mut [0; 16]).expect(&name);
                server.connect(peer).unwrap();
                Sockets::Udp { client, server }
            }
            other => panic!("no sockets for {other:?}"),
        };
        let flow = Flow {
            world,
            name,
            from: from.clone(),
            to: to.clone(),
            sockets,
        };
        flow.assert_passes("before there are rules");
        flow
    }

    /// What either end says reaches the other.
    #[track_caller]
    pub(super) fn assert_passes(&self, when: &str) {
        for way in WAYS {
            self.assert_passes_on(way, when);
        }
    }

    /// What one end says reaches the other; over TCP perhaps when it is said again.
    #[track_caller]
    pub(super) fn assert_passes_on(&self, way: Way, when: &str) {
        let token = token();
        self.send(way, &token).unwrap();
        assert!(self.receives(way, &token), "{way:?}, {when}: {}", self.name);
    }

    /// Nothing that either end says reaches the other.
    #[track_caller]
    pub(super) fn assert_cut(&self, when: &str) {
        for way in WAYS {
            self.assert_cut_on(way, when);
        }
    }

    /// Nothing that one end says reaches the other.
    #[track_caller]
    pub(super) fn assert_cut_on(&self, way: Way, when: &str) {
        let (from, to) = match way {
            Way::There => (&self.from, &self.to),
            Way::Back => (&self.to, &self.from),
        };
        let mut capture = self.world.capture(to);
        let token = token();
        self.send(way, &token).unwrap();
        let (fence, fence_token) = self.world.fence(from, to);
        self.world.send(from, &fence);
        let arrives = capture.arrives_before(&token, &fence_token, PATIENCE);
        assert!(!arrives.unwrap(), "{way:?}, {when}: {}", self.name);
    }

    pub(super) fn send(&self, way: Way, bytes: &[u8]) -> std::io::Result<()> {
        match (&self.sockets, way) {
            (Sockets::Tcp { client, .. }, Way::There) => (&mut &*client).write_all(bytes),
            (Sockets::Tcp { server, .. }, Way::Back) => (&mut &*server).write_all(bytes),
            (Sockets::Udp { client, .. }, Way::There) => client.send(bytes).map(drop),
            (Sockets::Udp { server, .. }, Way::Back) => server.send(bytes).map(drop),
        }
    }

    /// Whether these bytes come, given time, perhaps behind others.
    fn receives(&self, way: Way, token: &[u8]) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        let mut buffer = [0; 2048];
        while Instant::now() < deadline {
            let received = match (&self.sockets, way) {
                (Sockets::Tcp { server, .. }, Way::There) => (&mut &*server).read(&mut buffer),
                (Sockets::Tcp { client, .. }, Way::Back) => (&mut &*client).read(&mut buffer),
                (Sockets::Udp { server, .. }, Way::There) => server.recv(&mut buffer),
                (Sockets::Udp { client, .. }, Way::Back) => client.recv(&mut buffer),
            };
            match received {
                Ok(length) => heard.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("{}: {error}", self.name),
            }
            if heard.windows(token.len()).any(|window| window == token) {
                return true;
            }
        }
        false
    }
}

/// What nobody has said before; none is a part of another.
pub(super) fn token() -> Vec<u8> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("<word {}>", NEXT.fetch_add(1, Ordering::Relaxed)).into_bytes()
}
