//! The sockets of a batch and what they do when something arrives: destinations answer, senders check answers.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::error::Error;
use crate::probe::raw::RawSocket;
use crate::probe::sctp::Packet;
use crate::probe::{Probe, Protocol, icmp, sockets, token};
use crate::topology::Place;

/// Where requests arrive.
pub(crate) type End<'a> = (Protocol, &'a Place, SocketAddr);

/// A socket with its part in the exchange. `end` and `probe` are indices.
pub(crate) enum Socket<'a> {
    /// Accepts connections.
    TcpListener { end: usize, socket: TcpListener },
    /// An accepted connection: echoes.
    TcpPeer { end: usize, stream: TcpStream },
    /// A probe's connection, and whether its token was sent.
    TcpClient {
        probe: usize,
        stream: TcpStream,
        sent: bool,
    },
    /// Echoes datagrams.
    UdpListener { end: usize, socket: UdpSocket },
    /// A probe's socket.
    UdpClient { probe: usize, socket: UdpSocket },
    /// Every SCTP or ICMP message for this address of this place.
    Raw {
        protocol: Protocol,
        place: &'a Place,
        address: IpAddr,
        socket: RawSocket,
    },
}

pub(crate) struct Exchange<'a> {
    probes: &'a [Probe],
    first_token: u64,
    passed: Vec<bool>,
    ends: HashMap<End<'a>, usize>,
    /// The end at which each probe should arrive.
    end_of: Vec<usize>,
    epoll: Epoll,
    /// By the number that epoll reports. A number is never used again, as an event may be late.
    sockets: Vec<Option<Socket<'a>>>,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(probes: &'a [Probe], first_token: u64) -> Result<Exchange<'a>, Error> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(poll_error)?;
        let (passed, end_of) = (vec![false; probes.len()], vec![usize::MAX; probes.len()]);
        Ok(Exchange {
            probes,
            first_token,
            passed,
            ends: HashMap::new(),
            end_of,
            epoll,
            sockets: Vec::new(),
        })
    }

    /// The index of an end.
    pub(crate) fn end(&mut self, end: End<'a>) -> usize {
        let next = self.ends.len();
        *self.ends.entry(end).or_insert(next)
    }

    /// Says where a probe should arrive.
    pub(crate) fn expect_at(&mut self, probe: usize, end: End<'a>) {
        self.end_of[probe] = self.end(end);
    }

    /// Adds a socket and returns its number. `connecting`: wait until it is writable instead of readable.
    pub(crate) fn add(&mut self, socket: Socket<'a>, connecting: bool) -> Result<usize, Error> {
        let number = self.sockets.len();
        let interest = if connecting {
            EpollFlags::EPOLLOUT
        } else {
            EpollFlags::EPOLLIN
        };
        self.epoll
            .add(&socket, EpollEvent::new(interest, number as u64))
            .map_err(poll_error)?;
        self.sockets.push(Some(socket));
        Ok(number)
    }

    pub(crate) fn close(&mut self, number: usize) {
        self.sockets[number] = None;
    }

    pub(crate) fn token(&self, probe: usize) -> u64 {
        self.first_token + probe as u64
    }

    pub(crate) fn has_passed(&self, probe: usize) -> bool {
        self.passed[probe]
    }

    /// How many have passed.
    pub(crate) fn passed(&self) -> usize {
        self.passed.iter().filter(|&&passed| passed).count()
    }

    /// Sends on a connected UDP socket. Whatever the kernel reports is silence: since it has connected, there is a
    /// route, and so the report is of a rule of this host or of an ICMP error that answered an earlier datagram.
    pub(crate) fn send_datagram(&self, number: usize, message: &[u8]) {
        if let Some(Socket::UdpClient { socket, .. }) = &self.sockets[number] {
            // Once more where the first call reports an error that was stored before.
            let _ = socket.send(message).or_else(|_| socket.send(message));
        }
    }

    pub(crate) fn send_raw(&self, number: usize, message: &[u8], to: IpAddr) -> io::Result<()> {
        match &self.sockets[number] {
            Some(Socket::Raw { socket, .. }) => socket.send(message, to),
            _ => Ok(()),
        }
    }

    /// Waits for events and handles them; says whether there were any.
    pub(crate) fn turn(&mut self, wait: Duration) -> Result<bool, Error> {
        let mut events = [EpollEvent::empty(); 256];
        let timeout = EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX);
        let count = match self.epoll.wait(&mut events, timeout) {
            // A signal is not silence.
            Err(Errno::EINTR) => return Ok(true),
            other => other.map_err(poll_error)?,
        };
        for event in &events[..count] {
            let number = event.data() as usize;
            if let Some(socket) = self.sockets[number].take() {
                self.sockets[number] = self.react(number, socket)?;
            }
        }
        Ok(count > 0)
    }

    /// Handles what has arrived on a socket, and returns it unless it is done.
    fn react(
        &mut self,
        number: usize,
        mut socket: Socket<'a>,
    ) -> Result<Option<Socket<'a>>, Error> {
        let keep = match &mut socket {
            Socket::TcpListener { end, socket } => {
                self.accept(*end, socket)?;
                true
            }
            Socket::TcpPeer { end, stream } => match read_token(stream) {
                Arrival::Token(token) if self.belongs(token, *end) => {
                    stream.write_all(&token::encode(token)).is_ok()
                }
                Arrival::Nothing => true,
                Arrival::Token(_) | Arrival::End => false,
            },
            Socket::TcpClient {
                probe,
                stream,
                sent: sent @ false,
            } => {
                let request = token::encode(self.token(*probe));
                // Refused: every end of a probe listens, so that something on the way did it. That is no passage.
                *sent =
                    matches!(stream.take_error(), Ok(None)) && stream.write_all(&request).is_ok();
                if *sent {
                    let event = &mut EpollEvent::new(EpollFlags::EPOLLIN, number as u64);
                    self.epoll.modify(&*stream, event).map_err(poll_error)?;
                }
                *sent
            }
            Socket::TcpClient {
                probe,
                stream,
                sent: true,
            } => match read_token(stream) {
                Arrival::Nothing => true,
                Arrival::End => false,
                Arrival::Token(token) => {
                    self.answered(*probe, token);
                    false
                }
            },
            Socket::UdpListener { end, socket } => {
                let mut buffer = [0; 64];
                while let Some((length, from)) = next_datagram(socket, &mut buffer) {
                    if token::decode(&buffer[..length])
                        .is_some_and(|token| self.belongs(token, *end))
                    {
                        // A rule of this host may drop the answer: then the probe stays silent, as it should.
                        let _ = socket.send_to(&buffer[..length], from);
                    }
                }
                true
            }
            Socket::UdpClient { probe, socket } => {
                let mut buffer = [0; 64];
                while let Some((length, _)) = next_datagram(socket, &mut buffer) {
                    token::decode(&buffer[..length])
                        .into_iter()
                        .for_each(|token| self.answered(*probe, token));
                }
                !self.passed[*probe]
            }
            Socket::Raw {
                protocol,
                place,
                address,
                socket,
            } => {
                let mut buffer = [0; 2048];
                while let Some((message, from)) = socket.receive(&mut buffer) {
                    match protocol {
                        Protocol::Icmp => self.echoed((place, *address), from, message),
                        _ => self.associate((place, *address), from, message, socket),
                    }
                }
                true
            }
        };
        Ok(keep.then_some(socket))
    }

    /// A message arrived on a raw ICMP socket.
    fn echoed(&mut self, at: (&Place, IpAddr), from: IpAddr, message: &[u8]) {
        let token = icmp::answered(at.1.is_ipv4(), message);
        if let Some(index) = token.and_then(|token| self.index(token)) {
            let probe = &self.probes[index];
            let asked = (&probe.from, probe.source, probe.destination, Protocol::Icmp);
            if asked == (at.0, at.1, from, probe.protocol) {
                self.passed[index] = true;
            }
        }
    }

    /// A message arrived on a raw SCTP socket, which answers requests and receives answers.
    fn associate(
        &mut self,
        at: (&'a Place, IpAddr),
        from: IpAddr,
        message: &[u8],
        socket: &RawSocket,
    ) {
        let Some(packet) = Packet::decode(message) else {
            return;
        };
        let Some(index) = self.index(packet.token) else {
            return;
        };
        let probe = &self.probes[index];
        let end = (
            Protocol::Sctp,
            at.0,
            SocketAddr::new(at.1, packet.destination_port),
        );
        if packet.is_init() && self.ends.get(&end) == Some(&self.end_of[index]) {
            // As with UDP, an answer that a rule of this host drops is silence.
            let _ = socket.send(&packet.answer().encode(), from);
        }
        let asked = (&probe.from, probe.source, probe.target());
        if packet.is_answer() && asked == (at.0, at.1, SocketAddr::new(from, packet.source_port)) {
            self.passed[index] = true;
        }
    }

    fn accept(&mut self, end: usize, listener: &TcpListener) -> Result<(), Error> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true).map_err(Error::Poll)?;
                    sockets::reset_on_close(&stream).map_err(poll_error)?;
                    self.add(Socket::TcpPeer { end, stream }, false)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The sender gave the connection up before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(Error::Poll(error)),
            }
        }
    }

    /// Whether the probe with this token should arrive at this end.
    fn belongs(&self, token: u64, end: usize) -> bool {
        self.index(token)
            .is_some_and(|index| self.end_of[index] == end)
    }

    fn answered(&mut self, probe: usize, token: u64) {
        if token == self.token(probe) {
            self.passed[probe] = true;
        }
    }

    fn index(&self, token: u64) -> Option<usize> {
        let index = usize::try_from(token.checked_sub(self.first_token)?).ok()?;
        (index < self.probes.len()).then_some(index)
    }
}

impl AsFd for Socket<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::TcpListener { socket, .. } => socket.as_fd(),
            Socket::TcpPeer { stream, .. } | Socket::TcpClient { stream, .. } => stream.as_fd(),
            Socket::UdpListener { socket, .. } | Socket::UdpClient { socket, .. } => socket.as_fd(),
            Socket::Raw { socket, .. } => socket.as_fd(),
        }
    }
}

/// What a connection has brought.
enum Arrival {
    Nothing,
    Token(u64),
    /// The connection is over, or carries something else.
    End,
}

fn read_token(stream: &mut TcpStream) -> Arrival {
    let mut buffer = [0; token::LENGTH];
    match stream.read(&mut buffer) {
        // So few bytes are sent, and arrive, in one segment.
        Ok(length) => token::decode(&buffer[..length]).map_or(Arrival::End, Arrival::Token),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Arrival::Nothing,
        Err(_) => Arrival::End,
    }
}

/// The next datagram of a socket. `None`: no more for now.
fn next_datagram(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            // An ICMP error that answered an earlier datagram; it is reported once.
            Err(_) => {}
            Ok(received) => return Some(received),
        }
    }
}

fn poll_error(errno: Errno) -> Error {
    Error::Poll(errno.into())
}
