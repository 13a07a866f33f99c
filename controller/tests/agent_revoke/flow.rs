//! Connections that stay open while what is in force changes.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::world::{ALSO_OPEN, PATIENCE, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

pub(super) const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// An open connection, and beside it one over UDP between the same two that always stays allowed.
pub(super) struct Flow {
    name: String,
    client: Socket,
    server: Socket,
    beside: [UdpSocket; 2],
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream, Mutex<Vec<u8>>),
    Udp(UdpSocket, Mutex<Vec<u8>>),
}

impl Flow {
    /// From the place of the first name to where the second listens on the port, by way of the destination.
    #[track_caller]
    pub(super) fn open(
        world: &World,
        protocol: Protocol,
        from: (&str, IpAddr),
        to: (&str, IpAddr, u16),
        by: SocketAddr,
    ) -> Flow {
        let name = format!("{protocol:?} from {from:?} to {to:?} by {by}");
        let at = SocketAddr::new(to.1, to.2);
        let (client, server) = match protocol {
            Protocol::Tcp => {
                let bind = || TcpListener::bind(at).unwrap();
                let listener = world.namespace(to.0).run(bind).unwrap();
                let connect = || TcpStream::connect_timeout(&by, PATIENCE);
                let client = world.namespace(from.0).run(connect).unwrap().expect(&name);
                let (server, _) = listener.accept().unwrap();
                for end in [&client, &server] {
                    end.set_nonblocking(true).unwrap();
                    end.set_nodelay(true).unwrap();
                }
                let socket = |stream| Socket::Tcp(stream, Mutex::default());
                (socket(client), socket(server))
            }
            Protocol::Udp => {
                let [client, server] = datagrams(world, (from.0, from.1), (to.0, at), by);
                let socket = |socket| Socket::Udp(socket, Mutex::default());
                (socket(client), socket(server))
            }
        };
        let open = SocketAddr::new(to.1, ALSO_OPEN + u16::from(protocol == Protocol::Tcp));
        let beside = datagrams(world, (from.0, from.1), (to.0, open), open);
        let flow = Flow {
            name,
            client,
            server,
            beside,
        };
        flow.assert_passes("at first");
        flow
    }

    /// What either end says reaches the other; over TCP perhaps when it is said again.
    #[track_caller]
    pub(super) fn assert_passes(&self, when: &str) {
        for (from, to) in [(&self.client, &self.server), (&self.server, &self.client)] {
            let word = word();
            let deadline = Instant::now() + PATIENCE;
            from.send(&word).unwrap();
            while !to.has(&word) {
                assert!(
                    Instant::now() < deadline,
                    "{when}: {} is cut from {from:?}",
                    self.name
                );
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Nothing that either end says reaches the other, while the connection beside it goes on.
    #[track_caller]
    pub(super) fn assert_cut(&self, when: &str) {
        for (from, to) in [(&self.client, &self.server), (&self.server, &self.client)] {
            let word = word();
            match from.send(&word) {
                // What the node itself sends is dropped before it leaves.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                sent => sent.unwrap(),
            }
            for _ in 0..3 {
                let [one, other] = &self.beside;
                round(one, other);
                round(other, one);
            }
            assert!(
                !to.has(&word),
                "{when}: {} is not cut from {from:?}",
                self.name
            );
        }
    }
}

impl Socket {
    fn send(&self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Socket::Tcp(stream, _) => (&mut &*stream).write_all(bytes),
            Socket::Udp(socket, _) => socket.send(bytes).map(drop),
        }
    }

    /// Whether these bytes have come.
    fn has(&self, word: &[u8]) -> bool {
        let (Socket::Tcp(_, heard) | Socket::Udp(_, heard)) = self;
        let mut heard = heard.lock().unwrap();
        let mut buffer = [0; 2048];
        loop {
            let received = match self {
                Socket::Tcp(stream, _) => (&mut &*stream).read(&mut buffer),
                Socket::Udp(socket, _) => socket.recv(&mut buffer),
            };
            match received {
                Ok(0) => panic!("the other end has closed"),
                Ok(length) => heard.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        heard.windows(word.len()).any(|window| window == word)
    }
}

/// Two sockets that have heard of each other.
#[track_caller]
fn datagrams(
    world: &World,
    (from, own): (&str, IpAddr),
    (to, at): (&str, SocketAddr),
    by: SocketAddr,
) -> [UdpSocket; 2] {
    let bind = |place: &str, at: SocketAddr| {
        let bound = world.namespace(place).run(|| UdpSocket::bind(at)).unwrap();
        bound.unwrap_or_else(|error| panic!("{at} in {place}: {error}"))
    };
    let (client, server) = (bind(from, SocketAddr::new(own, 0)), bind(to, at));
    client.connect(by).unwrap();
    client.send(b"hello").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let (_, peer) = server.recv_from(&mut [0; 16]).unwrap();
    server.connect(peer).unwrap();
    server.send(b"hello").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.recv(&mut [0; 16]).unwrap();
    for end in [&client, &server] {
        end.set_nonblocking(true).unwrap();
    }
    [client, server]
}

/// Says something, and waits until it is there.
#[track_caller]
fn round(from: &UdpSocket, to: &UdpSocket) {
    let word = word();
    from.send(&word).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 64];
    loop {
        assert!(Instant::now() < deadline, "what is allowed does not come");
        match to.recv(&mut buffer) {
            Ok(length) if buffer[..length] == word => return,
            Ok(_) => {}
            Err(_) => std::thread::sleep(Duration::from_micros(200)),
        }
    }
}

/// What nobody has said before; none is a part of another.
fn word() -> Vec<u8> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("<word {}>", NEXT.fetch_add(1, Ordering::Relaxed)).into_bytes()
}

/// Datagrams both ways, one after the other without an end, of which none may be lost.
pub(super) struct Stream {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, u64)>,
}

impl Stream {
    #[track_caller]
    pub(super) fn open(
        world: &World,
        from: (&str, IpAddr),
        to: (&str, IpAddr, u16),
        by: SocketAddr,
    ) -> Stream {
        let ends = datagrams(world, from, (to.0, SocketAddr::new(to.1, to.2)), by);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut sent, mut come) = (0, 0);
            let mut buffer = [0; 64];
            let mut receive = |come: &mut u64| {
                for end in &ends {
                    while end.recv(&mut buffer).is_ok() {
                        *come += 1;
                    }
                }
            };
            while !stopped.load(Ordering::Relaxed) || sent <= 100 {
                for end in &ends {
                    end.send(b"again").unwrap();
                    sent += 1;
                }
                receive(&mut come);
                std::thread::sleep(Duration::from_micros(500));
            }
            let deadline = Instant::now() + Duration::from_secs(2);
            while come < sent && Instant::now() < deadline {
                receive(&mut come);
                std::thread::sleep(Duration::from_millis(1));
            }
            (sent, come)
        });
        Stream { stop, thread }
    }

    /// Ends it.
    #[track_caller]
    pub(super) fn assert_lost_nothing(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (sent, come) = self.thread.join().unwrap();
        assert!(sent > 100, "{sent}");
        assert_eq!(sent, come, "of datagrams that were always allowed");
    }
}
