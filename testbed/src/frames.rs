//! Frames past the network stack: what no socket would send, and what arrives whoever it is for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::libc::PACKET_OUTGOING;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, sendto,
    setsockopt, socket, sockopt,
};

use crate::error::Error;
use crate::namespace::Namespace;

/// Sends frames from an interface, as a pod with CAP_NET_RAW can.
#[derive(Debug)]
pub struct FrameSender {
    socket: OwnedFd,
    address: LinkAddr,
    interface: String,
}

impl FrameSender {
    /// Opens an interface of a namespace for sending.
    pub fn new(namespace: &Namespace, interface: &str) -> Result<FrameSender, Error> {
        let (socket, address) = namespace
            .run(|| open(interface))?
            .map_err(failed("open a packet socket", interface))?;
        Ok(FrameSender {
            socket,
            address,
            interface: interface.to_owned(),
        })
    }

    /// Sends one frame, from its Ethernet header on (see [`crate::packet`]).
    pub fn send(&self, frame: &[u8]) -> Result<(), Error> {
        sendto(
            self.socket.as_raw_fd(),
            frame,
            &self.address,
            MsgFlags::empty(),
        )
        .map(drop)
        .map_err(|errno| failed("send a frame", &self.interface)(errno.into()))
    }
}

/// Sees every frame that arrives on an interface from the moment it was made, before the host's network stack or
/// its rules look at it, also frames for others.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
    interface: String,
    frames: Vec<Vec<u8>>,
}

impl Capture {
    /// Starts capturing on an interface of a namespace.
    pub fn new(namespace: &Namespace, interface: &str) -> Result<Capture, Error> {
        let start = || {
            let (socket, address) = open(interface)?;
            // Bound, the socket takes frames of this interface only.
            bind(socket.as_raw_fd(), &address)?;
            setsockopt(&socket, sockopt::RcvBuf, &(4 << 20))?;
            Ok(socket)
        };
        let socket = namespace
            .run(start)?
            .map_err(failed("capture", interface))?;
        Ok(Capture {
            socket,
            interface: interface.to_owned(),
            frames: Vec::new(),
        })
    }

    /// Waits until a frame that contains `token` has arrived. `false`: none has within `patience`.
    pub fn arrives(&mut self, token: &[u8], patience: Duration) -> Result<bool, Error> {
        let deadline = Instant::now() + patience;
        loop {
            if self.has(token) {
                return Ok(true);
            }
            if !self.receive(deadline)? {
                return Ok(false);
            }
        }
    }

    /// Whether a frame that contains `token` has arrived before one that contains `fence`, which was sent after it
    /// on the same way and must arrive. This proves absence without a wait.
    pub fn arrives_before(
        &mut self,
        token: &[u8],
        fence: &[u8],
        patience: Duration,
    ) -> Result<bool, Error> {
        if !self.arrives(fence, patience)? {
            let lost = io::Error::new(io::ErrorKind::TimedOut, "the fence did not arrive");
            return Err(failed("capture", &self.interface)(lost));
        }
        Ok(self.has(token))
    }

    /// Everything that has been looked at so far, from the Ethernet header on; a VLAN tag is taken off by the kernel.
    pub fn frames(&self) -> &[Vec<u8>] {
        &self.frames
    }

    fn has(&self, token: &[u8]) -> bool {
        self.frames
            .iter()
            .any(|frame| frame.windows(token.len()).any(|window| window == token))
    }

    /// Takes the next frame in. `false`: the deadline came first.
    fn receive(&mut self, deadline: Instant) -> Result<bool, Error> {
        let mut buffer = [0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((_, Some(from))) if from.pkttype() == PACKET_OUTGOING => continue,
                Ok((length, _)) => {
                    self.frames.push(buffer[..length].to_vec());
                    return Ok(true);
                }
                Err(Errno::EAGAIN) if left.is_zero() => return Ok(false),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(failed("capture", &self.interface)(errno.into())),
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(
                &mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)],
                timeout,
            ) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed("capture", &self.interface)(errno.into())),
            }
        }
    }
}

/// A packet socket of the calling thread's namespace, and the address of an interface there.
fn open(interface: &str) -> io::Result<(OwnedFd, LinkAddr)> {
    let address = getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| {
            entry
                .address
                .as_ref()
                .and_then(|address| address.as_link_addr().copied())
        })
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such interface"))?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    Ok((
        socket(
            AddressFamily::Packet,
            SockType::Raw,
            flags,
            SockProtocol::EthAll,
        )?,
        address,
    ))
}

fn failed(operation: &'static str, interface: &str) -> impl FnOnce(io::Error) -> Error {
    let interface = interface.to_owned();
    move |source| Error::Frames {
        operation,
        interface,
        source,
    }
}
