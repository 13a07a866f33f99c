//! The socket.
//!
//! nfnetlink and rtnetlink work on a request inside the call that sends it: when that call returns, the answers are in
//! the receive buffer, and the rest of a dump is made as it is read. So nothing here ever waits for an answer.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

pub(crate) use netlink_sys::constants::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket as RawSocket, SocketAddr};
use nix::errno::Errno;
use nix::libc::{MSG_DONTWAIT, MSG_TRUNC};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

/// Room for one call's messages. The kernel fills at most 32 KiB in a dump.
const RECEIVE: usize = 1 << 18;
/// What the kernel needs of the send buffer besides the bytes (`netlink_sendmsg`: 32).
const SLACK: usize = 4096;

/// A socket to one protocol of netlink, of the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Socket {
    raw: RawSocket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What a call to receive found.
pub(crate) enum Received<'a> {
    /// Bytes from the kernel.
    Bytes(&'a [u8]),
    /// Nothing more for now.
    Nothing,
    /// Something was lost: the buffer was full.
    Overrun,
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread; it may be used from any.
    pub(crate) fn open(protocol: isize, receive_buffer: usize) -> io::Result<Self> {
        let mut raw = RawSocket::new(protocol)?;
        let port = raw.bind_auto()?.port_number();
        raw.connect(&SocketAddr::new(0, 0))?;
        // Texts of the kernel; a refusal repeats only the header of what was refused.
        raw.set_ext_ack(true)?;
        raw.set_cap_ack(true)?;
        let socket = Self {
            raw,
            port,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE),
        };
        socket.set_receive_buffer(receive_buffer);
        Ok(socket)
    }

    /// The socket's port, by which messages that it caused are known.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// The next sequence number that is free. Very many more follow it: numbers never wrap inside a batch.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        if self.sequence > u32::MAX / 2 {
            self.sequence = 0;
        }
        // 0 is the kernel's own.
        self.sequence + 1
    }

    /// Marks the next numbers as used.
    pub(crate) fn use_sequence(&mut self, count: u32) {
        self.sequence = self.sequence.saturating_add(count);
    }

    /// Sends the bytes at once, after what an earlier request left unread is dropped.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        while !matches!(self.receive()?, Received::Nothing) {}
        loop {
            match self.raw.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes room for a message of this many bytes; otherwise the number of bytes that there is room for.
    pub(crate) fn make_room(&self, bytes: usize) -> Result<(), usize> {
        let needed = bytes + SLACK;
        let room = || getsockopt(&self.raw.as_fd(), sockopt::SndBuf).unwrap_or(0);
        if room() >= needed {
            return Ok(());
        }
        // The first needs CAP_NET_ADMIN, the second stops at net.core.wmem_max. The kernel doubles either.
        let _ = setsockopt(&self.raw.as_fd(), sockopt::SndBufForce, &needed);
        if room() < needed {
            let _ = setsockopt(&self.raw.as_fd(), sockopt::SndBuf, &needed);
        }
        match room() {
            enough if enough >= needed => Ok(()),
            room => Err(room.saturating_sub(SLACK)),
        }
    }

    /// As far as the process may.
    fn set_receive_buffer(&self, bytes: usize) {
        if setsockopt(&self.raw.as_fd(), sockopt::RcvBufForce, &bytes).is_err() {
            let _ = setsockopt(&self.raw.as_fd(), sockopt::RcvBuf, &bytes);
        }
    }

    /// What is in the receive buffer, without waiting.
    pub(crate) fn receive(&mut self) -> io::Result<Received<'_>> {
        loop {
            self.buffer.clear();
            let received = self
                .raw
                .recv_from(&mut self.buffer, MSG_DONTWAIT | MSG_TRUNC);
            match received {
                Ok((length, _)) if length > self.buffer.len() => return Ok(Received::Overrun),
                // Only the kernel is believed.
                Ok((_, from)) if from.port_number() != 0 => {}
                Ok(_) => return Ok(Received::Bytes(&self.buffer)),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EINTR) => {}
                    Some(Errno::EAGAIN) => return Ok(Received::Nothing),
                    Some(Errno::ENOBUFS) => return Ok(Received::Overrun),
                    _ => return Err(error),
                },
            }
        }
    }

    /// Waits until there is something to receive, at most that long; a signal ends it too.
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<()> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes the kernel refuse what it does not know in a request to list, and look at all that it knows: only so does it
    /// filter. Linux 4.20.
    pub(crate) fn check_strictly(&self) -> io::Result<()> {
        self.raw.set_netlink_get_strict_chk(true)
    }

    /// Lets the kernel send what a group of its protocol is told.
    pub(crate) fn join(&mut self, group: u32) -> io::Result<()> {
        self.raw.add_membership(group)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}
