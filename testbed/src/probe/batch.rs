//! One batch of probes: what is sent when, and when silence counts.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{Backlog, SockaddrStorage, connect, listen, setsockopt, sockopt};

use crate::error::Error;
use crate::probe::exchange::{Exchange, Socket};
use crate::probe::raw::RawSocket;
use crate::probe::sctp::Packet;
use crate::probe::sockets::{self, Wanted};
use crate::probe::{Outcome, Probe, ProbeOptions, Protocol, icmp, token};
use crate::testbed::Testbed;
use crate::topology::Place;

/// Silence is observed in this many turns, not measured with a clock: while this process gets no processor time, no
/// turn passes either.
const QUIET_TURNS: u32 = 4;
/// So many are sent before arrivals are looked at, lest receive buffers run over.
const BURST: usize = 32;

/// Sends the probes of one batch and returns their outcomes.
pub(crate) fn run(
    testbed: &Testbed,
    probes: &[Probe],
    options: &ProbeOptions,
    cancelled: &AtomicBool,
    report: &mut dyn FnMut(usize),
) -> Result<Vec<Outcome>, Error> {
    let first_token = testbed
        .tokens
        .fetch_add(probes.len() as u64, Ordering::Relaxed);
    let mut batch = Batch {
        testbed,
        cancelled,
        report,
        turn: options.settle / QUIET_TURNS,
        probes,
        exchange: Exchange::new(probes, first_token)?,
        raw: HashMap::new(),
        clients: vec![Vec::new(); probes.len()],
    };
    batch.open_ends()?;
    let started = Instant::now();
    let mut silent: Vec<usize> = (0..probes.len()).collect();
    let mut turns = QUIET_TURNS;
    for attempt in 1.. {
        batch.send(&silent)?;
        let last = attempt >= options.attempts;
        // Answers to this attempt still count during the next one: a short look saves sending what is on its way.
        batch.settle(&silent, if last { turns } else { 1 })?;
        let patient = started.elapsed() < options.patience;
        silent.retain(|&index| {
            let insist = patient && probes[index].expect == Some(Outcome::Passed);
            !batch.exchange.has_passed(index) && (!last || insist)
        });
        if silent.is_empty() {
            break;
        }
        if last {
            turns *= 2;
        }
    }
    let outcome = |index| {
        if batch.exchange.has_passed(index) {
            Outcome::Passed
        } else {
            Outcome::Dropped
        }
    };
    Ok((0..probes.len()).map(outcome).collect())
}

struct Batch<'a, 'r> {
    testbed: &'a Testbed,
    cancelled: &'r AtomicBool,
    report: &'r mut dyn FnMut(usize),
    /// How long a turn without arrivals takes.
    turn: Duration,
    probes: &'a [Probe],
    exchange: Exchange<'a>,
    /// The raw sockets.
    raw: HashMap<(Protocol, &'a Place, IpAddr), usize>,
    /// The TCP and UDP sockets of each probe.
    clients: Vec<Vec<usize>>,
}

impl<'a> Batch<'a, '_> {
    /// Opens what waits for requests, and the raw sockets, which both send and wait.
    fn open_ends(&mut self) -> Result<(), Error> {
        let mut bound = Vec::new();
        for (index, probe) in self.probes.iter().enumerate() {
            let source = SocketAddr::new(probe.source, 0);
            let arrival = probe.arrival();
            match probe.protocol {
                Protocol::Tcp | Protocol::Udp => bound.push((probe.protocol, &probe.to, arrival)),
                Protocol::Icmp => bound.push((Protocol::Icmp, &probe.from, source)),
                Protocol::Sctp => {
                    bound.push((Protocol::Sctp, &probe.from, source));
                    bound.push((Protocol::Sctp, &probe.to, SocketAddr::new(arrival.ip(), 0)));
                }
            }
            let port = if probe.protocol == Protocol::Icmp {
                0
            } else {
                arrival.port()
            };
            self.exchange.expect_at(
                index,
                (
                    probe.protocol,
                    &probe.to,
                    SocketAddr::new(arrival.ip(), port),
                ),
            );
        }
        bound.sort();
        bound.dedup();
        let wanted = |&(protocol, place, address): &(_, _, SocketAddr)| Wanted {
            place,
            protocol,
            ipv4: address.is_ipv4(),
        };
        let opened = sockets::open(self.testbed, &bound.iter().map(wanted).collect::<Vec<_>>())?;
        for ((protocol, place, address), socket) in bound.into_iter().zip(opened) {
            let end = self.exchange.end((protocol, place, address));
            let ready = match protocol {
                Protocol::Tcp => {
                    // A connection of an earlier batch may still be known under this port.
                    let set_up = setsockopt(&socket, sockopt::ReuseAddr, &true);
                    sockets::bind_to(&socket, place, address)?;
                    let set_up = set_up.and_then(|()| listen(&socket, Backlog::MAXCONN));
                    set_up.map_err(|errno| sockets::socket_error("listen", place, errno.into()))?;
                    Socket::TcpListener {
                        end,
                        socket: TcpListener::from(socket),
                    }
                }
                Protocol::Udp => {
                    sockets::bind_to(&socket, place, address)?;
                    Socket::UdpListener {
                        end,
                        socket: UdpSocket::from(socket),
                    }
                }
                Protocol::Sctp | Protocol::Icmp => {
                    sockets::bind_to(&socket, place, address)?;
                    let address = address.ip();
                    Socket::Raw {
                        protocol,
                        place,
                        address,
                        socket: RawSocket::new(socket, address),
                    }
                }
            };
            let slot = self.exchange.add(ready, false)?;
            if matches!(protocol, Protocol::Sctp | Protocol::Icmp) {
                self.raw.insert((protocol, place, address.ip()), slot);
            }
        }
        Ok(())
    }

    /// Sends these probes: for the first time, or once more.
    fn send(&mut self, indices: &[usize]) -> Result<(), Error> {
        // A TCP connection is attempted anew, as the kernel repeats a SYN only after a second.
        let needs_socket = |&&index: &&usize| match self.probes[index].protocol {
            Protocol::Tcp => true,
            Protocol::Udp => self.clients[index].is_empty(),
            Protocol::Sctp | Protocol::Icmp => false,
        };
        let needing: Vec<usize> = indices.iter().filter(needs_socket).copied().collect();
        let wanted = |&index: &usize| {
            let probe = &self.probes[index];
            Wanted {
                place: &probe.from,
                protocol: probe.protocol,
                ipv4: probe.source.is_ipv4(),
            }
        };
        let opened = sockets::open(
            self.testbed,
            &needing.iter().map(wanted).collect::<Vec<_>>(),
        )?;
        let mut opened: HashMap<usize, OwnedFd> = needing.into_iter().zip(opened).collect();
        for burst in indices.chunks(BURST) {
            for &index in burst {
                if let Some(socket) = opened.remove(&index) {
                    self.connect(index, socket)?;
                }
                self.request(index)?;
            }
            while self.turn(Duration::ZERO)? {}
        }
        Ok(())
    }

    /// Binds a new socket of a probe to its source and connects it to its destination.
    fn connect(&mut self, index: usize, socket: OwnedFd) -> Result<(), Error> {
        let probe = &self.probes[index];
        sockets::bind_to_fresh_port(self.testbed, &socket, &probe.from, probe.source)?;
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(probe.target())) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            // Refused at once: by a rule of its own host.
            Err(Errno::EPERM | Errno::ECONNREFUSED) => return Ok(()),
            // There is no answer yet that could have said so: it is the host's own configuration.
            Err(errno) => return Err(cannot_send(probe, errno.into())),
        }
        // Only the latest two attempts are kept, or a long patience would run out of descriptors.
        if let [.., _, _] = self.clients[index][..] {
            self.exchange.close(self.clients[index].remove(0));
        }
        let slot = match probe.protocol {
            Protocol::Tcp => {
                let stream = TcpStream::from(socket);
                self.exchange.add(
                    Socket::TcpClient {
                        probe: index,
                        stream,
                        sent: false,
                    },
                    true,
                )?
            }
            _ => self.exchange.add(
                Socket::UdpClient {
                    probe: index,
                    socket: UdpSocket::from(socket),
                },
                false,
            )?,
        };
        self.clients[index].push(slot);
        Ok(())
    }

    /// Sends the request of a probe; that of TCP follows once there is a connection.
    fn request(&mut self, index: usize) -> Result<(), Error> {
        let probe = &self.probes[index];
        let token = self.exchange.token(index);
        let message = match probe.protocol {
            Protocol::Tcp => return Ok(()),
            Protocol::Udp => {
                if let Some(&slot) = self.clients[index].last() {
                    self.exchange.send_datagram(slot, &token::encode(token));
                }
                return Ok(());
            }
            Protocol::Icmp => {
                let identifier = sockets::fresh_port(self.testbed, probe.source);
                icmp::request(probe.source.is_ipv4(), identifier, token)
            }
            Protocol::Sctp => {
                let port = sockets::fresh_port(self.testbed, probe.source);
                Packet::init(port, probe.port, token).encode()
            }
        };
        let Some(&slot) = self.raw.get(&(probe.protocol, &probe.from, probe.source)) else {
            return Ok(());
        };
        match self.exchange.send_raw(slot, &message, probe.destination) {
            // Dropped by a rule of its own host, or no room just now: silence.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error)
                if matches!(
                    Errno::from_raw(error.raw_os_error().unwrap_or(0)),
                    Errno::EPERM | Errno::ENOBUFS
                ) =>
            {
                Ok(())
            }
            other => other.map_err(|error| cannot_send(probe, error)),
        }
    }

    /// Waits until these probes are answered, or nothing has arrived for so many turns in a row.
    fn settle(&mut self, indices: &[usize], turns: u32) -> Result<(), Error> {
        let mut quiet = 0;
        while quiet < turns
            && indices
                .iter()
                .any(|&index| !self.exchange.has_passed(index))
        {
            quiet = if self.turn(self.turn)? { 0 } else { quiet + 1 };
        }
        Ok(())
    }

    /// Handles what has arrived, waiting for it at most this long, and says whether there was anything.
    fn turn(&mut self, wait: Duration) -> Result<bool, Error> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let before = self.exchange.passed();
        let any = self.exchange.turn(wait)?;
        if self.exchange.passed() > before {
            (self.report)(self.exchange.passed());
        }
        Ok(any)
    }
}

fn cannot_send(probe: &Probe, source: io::Error) -> Error {
    Error::Send {
        place: probe.from.clone(),
        from: probe.source,
        to: probe.target(),
        source,
    }
}
