//! Raw sockets: one per protocol, place and address, for every probe that ends there.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A raw socket, bound to an address.
pub(crate) struct RawSocket {
    // The methods of std's type are sendto and recvfrom, which a raw socket has as well.
    socket: UdpSocket,
    ipv4: bool,
}

impl RawSocket {
    pub(crate) fn new(socket: OwnedFd, address: IpAddr) -> RawSocket {
        RawSocket {
            socket: UdpSocket::from(socket),
            ipv4: address.is_ipv4(),
        }
    }

    /// Sends a message of the socket's protocol.
    pub(crate) fn send(&self, message: &[u8], to: IpAddr) -> io::Result<()> {
        // A raw socket has no ports: the kernel wants 0 there.
        self.socket
            .send_to(message, SocketAddr::new(to, 0))
            .map(drop)
    }

    /// The next message with its sender, without the IP header. `None`: no more for now.
    pub(crate) fn receive<'b>(&self, buffer: &'b mut [u8]) -> Option<(&'b [u8], IpAddr)> {
        loop {
            match self.socket.recv_from(buffer) {
                Ok((length, from)) => {
                    // An IPv4 raw socket hands out the header too, whose length is in its first byte.
                    let header = if self.ipv4 {
                        usize::from(buffer[0] & 0x0f) * 4
                    } else {
                        0
                    };
                    return Some((buffer.get(header..length).unwrap_or_default(), from.ip()));
                }
                // A stored error is reported once and says nothing about what else has arrived.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
