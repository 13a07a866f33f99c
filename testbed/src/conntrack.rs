//! Forgetting tracked connections, over ctnetlink: Debian's base system has no `conntrack` program.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// `nfnetlink_conntrack.h`: subsystem 1, message IPCTNL_MSG_CT_DELETE. Without a filter it flushes the namespace.
const DELETE: u16 = (1 << 8) | 2;
/// `netlink.h`: NLM_F_REQUEST and NLM_F_ACK.
const REQUEST_AND_ACK: u16 = 0x1 | 0x4;
/// `netlink.h`: struct nlmsghdr is 16 bytes, struct nfgenmsg 4.
const MESSAGE_LENGTH: u32 = 16 + 4;

/// Forgets every connection of the calling thread's namespace, of both families.
pub(crate) fn flush() -> io::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    let mut message = Vec::new();
    message.extend(MESSAGE_LENGTH.to_ne_bytes());
    message.extend(DELETE.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    message.extend([0; 8]); // sequence number, port
    message.extend([0; 4]); // any family, version 0, resource 0
    sendto(
        socket.as_raw_fd(),
        &message,
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;

    // struct nlmsgerr: the header, then a negative errno, 0 for done.
    let mut answer = [0; 256];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match answer[..length]
        .get(16..20)
        .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
        .map(i32::from_ne_bytes)
    {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    }
}
