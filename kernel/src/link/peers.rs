//! The two ends of a pair, each perhaps in a namespace of its own.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use super::Links;
use super::constants::{family, msg, nsid};
use super::error::{LinkError, PeerError};
use super::exchange::Request;
use super::properties::{Kind, Link, NamespaceId, Other, Place, namespace_id};
use crate::namespace::NetworkNamespace;
use crate::netlink::attribute::{Writer, find};
use crate::netlink::request::Ended;

/// `struct rtgenmsg`, padded.
const HEADER: [u8; 4] = [family::UNSPEC, 0, 0, 0];

/// A pair of links that packets pass between a namespace and this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The end in the other namespace.
    pub inside: Link,
    /// The end in the namespace that was asked.
    pub outside: Link,
}

impl Links {
    /// The pair whose one end is `name` in that namespace, and whose other is in this one. Nobody enters the namespace.
    ///
    /// Both ends must be of a kind that comes in pairs, and each must be the other's other end: the numbers that they
    /// name alone may stand for any link (of a macvlan: the node's own interface).
    ///
    /// # Errors
    /// [`LinkError::Absent`] if there is no such link in it, [`LinkError::Peer`], [`LinkError::Refused`] without
    /// CAP_NET_ADMIN, and those of the socket.
    pub fn pair(&mut self, namespace: &NetworkNamespace, name: &str) -> Result<Pair, LinkError> {
        let id = self.namespace_id(namespace)?;
        let inside = self.by_name_in(id, name)?;
        let inside = inside.ok_or_else(|| LinkError::Absent(name.to_owned()))?;
        let there = other_end(&inside)?;
        let elsewhere = || peer_error(&inside, PeerError::Elsewhere(there.index));
        if there.namespace == Place::Same {
            return Err(elsewhere());
        }
        let outside = self.by_index(there.index)?.ok_or_else(elsewhere)?;
        let back = Other {
            index: inside.index,
            namespace: Place::Numbered(id),
        };
        mutual(&inside, &outside, back)?;
        Ok(Pair { inside, outside })
    }

    /// The other end of a link of this namespace, wherever it is. Nobody enters the namespace.
    ///
    /// # Errors
    /// As [`Links::pair`].
    pub fn peer(&mut self, of: &Link) -> Result<Link, LinkError> {
        let there = other_end(of)?;
        let peer = match there.namespace {
            Place::Same => self.by_index(there.index)?,
            Place::Numbered(id) => self.by_index_in(id, there.index)?,
            Place::Unknown => return Err(peer_error(of, PeerError::Unnamed)),
        };
        let gone = || peer_error(of, PeerError::Elsewhere(there.index));
        let peer = peer.ok_or_else(gone)?;
        // Of its namespace only the number could be compared, by which this one knows itself.
        if !paired(&peer.kind) || peer.peer.map(|back| back.index) != Some(of.index) {
            return Err(peer_error(of, PeerError::NotMutual(peer.to_string())));
        }
        Ok(peer)
    }

    /// The number by which this namespace knows another; if it has none yet, the kernel gives it one, as it does when
    /// links are listed that have their other end there.
    ///
    /// # Errors
    /// [`LinkError::Refused`] without CAP_NET_ADMIN if it has none yet, and those of the socket.
    pub fn namespace_id(&mut self, of: &NetworkNamespace) -> Result<NamespaceId, LinkError> {
        let what = || format!("number namespace {}", of.inode());
        if let Some(id) = self.known_namespace_id(of)? {
            return Ok(id);
        }
        let request = Request {
            what: &what,
            kind: msg::NEWNSID,
            flags: 0,
            header: &HEADER,
        };
        let fill = |out: &mut Writer| {
            put_descriptor(out, of);
            // -1: any that is free.
            out.put_host_u32(nsid::NSID, u32::MAX);
        };
        match request.exchange(&mut self.socket, fill, |_| Ok(()))? {
            // EEXIST: it was given one in between.
            Ended::Refused { errno, text } if errno != Errno::EEXIST as i32 => {
                return Err(request.refused(errno, text));
            }
            _ => {}
        }
        self.known_namespace_id(of)?
            .ok_or_else(|| LinkError::Lost { request: what() })
    }

    fn known_namespace_id(
        &mut self,
        of: &NetworkNamespace,
    ) -> Result<Option<NamespaceId>, LinkError> {
        let request = Request {
            what: &|| format!("find the number of namespace {}", of.inode()),
            kind: msg::GETNSID,
            flags: 0,
            header: &HEADER,
        };
        let mut found = None;
        let fill = |out: &mut Writer| put_descriptor(out, of);
        let ended = request.exchange(&mut self.socket, fill, |message| {
            if message.kind == msg::NEWNSID {
                let attributes = message.payload.get(HEADER.len()..).unwrap_or_default();
                found = find(attributes, nsid::NSID)?.and_then(namespace_id);
            }
            Ok(())
        })?;
        match ended {
            Ended::Refused { errno, text } => Err(request.refused(errno, text)),
            Ended::Whole | Ended::Interrupted => Ok(found),
        }
    }

    /// Whether an open descriptor is a network namespace: the kernel says EINVAL of anything else. Takes no privileges.
    pub(crate) fn is_network_namespace(&mut self, of: impl AsFd) -> Result<bool, LinkError> {
        let request = Request {
            what: &|| "look at a namespace".to_owned(),
            kind: msg::GETNSID,
            flags: 0,
            header: &HEADER,
        };
        let fill = |out: &mut Writer| put_descriptor(out, &of);
        match request.exchange(&mut self.socket, fill, |_| Ok(()))? {
            Ended::Refused { errno, .. } if errno == Errno::EINVAL as i32 => Ok(false),
            Ended::Refused { errno, text } => Err(request.refused(errno, text)),
            Ended::Whole | Ended::Interrupted => Ok(true),
        }
    }
}

fn put_descriptor(out: &mut Writer, of: &impl AsFd) {
    // The kernel looks it up among this process's, while `of` is open.
    let descriptor = of.as_fd().as_raw_fd();
    out.put_host_u32(nsid::FD, descriptor.cast_unsigned());
}

/// Where the other end of a link is, if it is of a kind that has one.
fn other_end(of: &Link) -> Result<Other, LinkError> {
    if !paired(&of.kind) {
        return Err(peer_error(of, PeerError::Kind(of.kind.clone())));
    }
    of.peer.ok_or_else(|| peer_error(of, PeerError::Unnamed))
}

fn mutual(of: &Link, peer: &Link, back: Other) -> Result<(), LinkError> {
    if paired(&peer.kind) && peer.peer == Some(back) {
        return Ok(());
    }
    Err(peer_error(of, PeerError::NotMutual(peer.to_string())))
}

fn paired(kind: &Kind) -> bool {
    matches!(kind, Kind::Veth | Kind::Netkit)
}

fn peer_error(of: &Link, reason: PeerError) -> LinkError {
    LinkError::Peer {
        link: of.to_string(),
        reason,
    }
}
