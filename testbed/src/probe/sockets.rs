//! Sockets inside namespaces. Only making one needs a thread inside; everything else works from anywhere.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc::linger;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, setsockopt, socket,
    sockopt,
};

use crate::error::Error;
use crate::probe::Protocol;
use crate::testbed::Testbed;
use crate::topology::Place;

/// Descriptors that a probe may need: two connections with both their ends, and a listener.
const PER_PROBE: usize = 5;
/// Descriptors left to the rest of the process.
const SPARE: usize = 64;
/// Where source ports come from: above the usual listeners, below the kernel's last.
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 33_000..=60_999;

/// A socket that is wanted.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) place: &'a Place,
    pub(crate) protocol: Protocol,
    pub(crate) ipv4: bool,
}

/// Raises the limit of open files to the hard limit, and says how many probes may be in flight.
pub(crate) fn make_room(in_flight: usize) -> Result<usize, Error> {
    let failed = |errno: Errno| Error::Poll(errno.into());
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failed)?;
    }
    let open = std::fs::read_dir("/proc/self/fd")
        .map_err(Error::Poll)?
        .count();
    let limit = usize::try_from(hard).unwrap_or(usize::MAX);
    let room = limit.saturating_sub(open + SPARE) / PER_PROBE;
    Ok(in_flight.min(room).max(1))
}

/// Makes non-blocking sockets, in the order wanted, entering each namespace once.
pub(crate) fn open(testbed: &Testbed, wanted: &[Wanted<'_>]) -> Result<Vec<OwnedFd>, Error> {
    let mut by_place: BTreeMap<&Place, Vec<usize>> = BTreeMap::new();
    for (index, socket) in wanted.iter().enumerate() {
        by_place.entry(socket.place).or_default().push(index);
    }
    let mut opened = BTreeMap::new();
    for (place, indices) in by_place {
        let open_all = || {
            indices
                .iter()
                .map(|&index| Ok((index, open_one(wanted[index])?)))
                .collect::<Result<Vec<_>, _>>()
        };
        let sockets = testbed.require(place)?.run(open_all)?;
        opened.extend(
            sockets.map_err(|errno: Errno| socket_error("open a socket", place, errno.into()))?,
        );
    }
    Ok(opened.into_values().collect())
}

fn open_one(wanted: Wanted<'_>) -> nix::Result<OwnedFd> {
    let family = if wanted.ipv4 {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let (kind, protocol) = match wanted.protocol {
        Protocol::Tcp => (SockType::Stream, SockProtocol::Tcp),
        Protocol::Udp => (SockType::Datagram, SockProtocol::Udp),
        Protocol::Sctp => (SockType::Raw, SockProtocol::Sctp),
        Protocol::Icmp if wanted.ipv4 => (SockType::Raw, SockProtocol::Icmp),
        Protocol::Icmp => (SockType::Raw, SockProtocol::IcmpV6),
    };
    let socket = socket(
        family,
        kind,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        protocol,
    )?;
    if kind == SockType::Stream {
        reset_on_close(&socket)?;
    }
    Ok(socket)
}

/// Closing the connection resets it: it does not linger in TIME_WAIT and hold its port.
pub(crate) fn reset_on_close(socket: &impl std::os::fd::AsFd) -> nix::Result<()> {
    setsockopt(
        socket,
        sockopt::Linger,
        &linger {
            l_onoff: 1,
            l_linger: 0,
        },
    )
}

/// Binds a socket to an address of its place.
pub(crate) fn bind_to(socket: &OwnedFd, place: &Place, address: SocketAddr) -> Result<(), Error> {
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
        .map_err(|errno| socket_error(&format!("bind to {address}"), place, errno.into()))
}

/// Binds a socket to `source` and a port that no probe from there has used for thousands of probes.
pub(crate) fn bind_to_fresh_port(
    testbed: &Testbed,
    socket: &OwnedFd,
    place: &Place,
    source: IpAddr,
) -> Result<(), Error> {
    for _ in SOURCE_PORTS {
        match bind_to(
            socket,
            place,
            SocketAddr::new(source, fresh_port(testbed, source)),
        ) {
            // Something else in that namespace has the port.
            Err(Error::Socket { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {}
            other => return other,
        }
    }
    Err(socket_error(
        &format!("find a free source port for {source}"),
        place,
        io::ErrorKind::AddrInUse.into(),
    ))
}

/// The next source port, or ICMP identifier, of an address.
pub(crate) fn fresh_port(testbed: &Testbed, source: IpAddr) -> u16 {
    let mut ports = testbed
        .ports
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let port = ports.entry(source).or_insert(*SOURCE_PORTS.end());
    *port = if *port == *SOURCE_PORTS.end() {
        *SOURCE_PORTS.start()
    } else {
        *port + 1
    };
    *port
}

pub(crate) fn socket_error(operation: &str, place: &Place, source: io::Error) -> Error {
    Error::Socket {
        operation: operation.to_owned(),
        place: place.clone(),
        source,
    }
}
