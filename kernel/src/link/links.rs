//! Links of one network namespace, asked and changed.

use std::net::IpAddr;

use nix::errno::Errno;

use super::address::LinkAddress;
use super::bridge::BridgeNetfilter;
use super::constants::{address, family, link, msg, route};
use super::error::LinkError;
use super::exchange::Request;
use super::properties::{Link, NamespaceId};
use super::route::{Route, RouteKind};
use crate::netlink::attribute::Writer;
use crate::netlink::message;
use crate::netlink::request::Ended;
use crate::netlink::socket::{NETLINK_ROUTE, Socket};

/// Room for answers that were not read yet.
const ANSWERS: usize = 1 << 20;

/// Links, addresses and routes of the network namespace in which this was opened, over one socket for as long as this
/// lives.
#[derive(Debug)]
pub struct Links {
    pub(super) socket: Socket,
}

impl Links {
    /// Opens a socket in the network namespace of the calling thread. It may be used from any thread.
    ///
    /// For those of another namespace: `namespace.run(Links::open)`, see [`crate::NetworkNamespace::run`].
    ///
    /// # Errors
    /// [`LinkError::Open`].
    pub fn open() -> Result<Self, LinkError> {
        let socket = Socket::open(NETLINK_ROUTE, ANSWERS).map_err(LinkError::Open)?;
        socket.check_strictly().map_err(LinkError::Open)?;
        Ok(Self { socket })
    }

    /// All links, by their numbers.
    ///
    /// # Errors
    /// [`LinkError::Changing`], and those of the socket.
    pub fn list(&mut self) -> Result<Vec<Link>, LinkError> {
        self.listed(&|| "list links".to_owned(), |_| {})
    }

    /// The ports of a bridge, by their numbers. The kernel looks only for those.
    ///
    /// # Errors
    /// As [`Links::list`].
    pub fn ports(&mut self, bridge: &Link) -> Result<Vec<Link>, LinkError> {
        let what = || format!("list the ports of {bridge}");
        let mut ports = self.listed(&what, |out| out.put_host_u32(link::MASTER, bridge.index))?;
        ports.retain(|port| {
            port.master
                .is_some_and(|m| m.bridge && m.index == bridge.index)
        });
        Ok(ports)
    }

    fn listed(
        &mut self,
        what: &dyn Fn() -> String,
        filter: impl Fn(&mut Writer),
    ) -> Result<Vec<Link>, LinkError> {
        let request = Request {
            what,
            kind: msg::GETLINK,
            flags: message::DUMP,
            header: &[0; link::HEADER],
        };
        let mut links = request.list(|all| {
            let fill = |out: &mut Writer| {
                out.put_host_u32(link::EXT_MASK, link::SKIP_STATS);
                filter(out);
            };
            request.exchange(&mut self.socket, fill, |message| {
                if message.kind == msg::NEWLINK {
                    all.push(Link::read(message.payload)?);
                }
                Ok(())
            })
        })?;
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// The link with this number, if there is one.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn by_index(&mut self, index: u32) -> Result<Option<Link>, LinkError> {
        self.one(index, None, None)
    }

    /// The link with this name, if there is one.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn by_name(&mut self, name: &str) -> Result<Option<Link>, LinkError> {
        self.one(0, Some(name), None)
    }

    /// The link with this name in another namespace, if there is one. Nobody enters it.
    ///
    /// # Errors
    /// [`LinkError::Refused`] without CAP_NET_ADMIN there, or if the namespace is gone; those of the socket.
    pub fn by_name_in(
        &mut self,
        namespace: NamespaceId,
        name: &str,
    ) -> Result<Option<Link>, LinkError> {
        self.one(0, Some(name), Some(namespace))
    }

    /// The link with this number in another namespace, if there is one. Nobody enters it.
    ///
    /// # Errors
    /// As [`Links::by_name_in`].
    pub fn by_index_in(
        &mut self,
        namespace: NamespaceId,
        index: u32,
    ) -> Result<Option<Link>, LinkError> {
        self.one(index, None, Some(namespace))
    }

    fn one(
        &mut self,
        index: u32,
        name: Option<&str>,
        namespace: Option<NamespaceId>,
    ) -> Result<Option<Link>, LinkError> {
        // The kernel refuses those; no link has such a name or number.
        let possible = match name {
            Some(name) => (1..=link::NAME_LENGTH).contains(&name.len()) && !name.contains('\0'),
            None => index.cast_signed() > 0,
        };
        if !possible {
            return Ok(None);
        }
        let request = Request {
            what: &|| {
                let which = name.map_or_else(|| format!("link {index}"), str::to_owned);
                match namespace {
                    None => format!("find {which}"),
                    Some(id) => format!("find {which} in namespace {id}"),
                }
            },
            kind: msg::GETLINK,
            flags: 0,
            header: &link_header(index),
        };
        let fill = |out: &mut Writer| {
            if let Some(name) = name {
                out.put_text(link::IFNAME, name);
            }
            out.put_host_u32(link::EXT_MASK, link::SKIP_STATS);
            if let Some(NamespaceId(id)) = namespace {
                out.put_host_u32(link::TARGET_NETNSID, id);
            }
        };
        let mut found = None;
        let ended = request.exchange(&mut self.socket, fill, |message| {
            if message.kind == msg::NEWLINK {
                found = Some(Link::read(message.payload)?);
            }
            Ok(())
        })?;
        match ended {
            Ended::Refused { errno, .. } if errno == Errno::ENODEV as i32 => Ok(None),
            Ended::Refused { errno, text } => Err(request.refused(errno, text)),
            Ended::Whole | Ended::Interrupted => Ok(found),
        }
    }

    /// Puts a link in a group. The kernel tells watches of it if the link is up.
    ///
    /// # Errors
    /// [`LinkError::Refused`], and those of the socket.
    pub fn set_group(&mut self, of: &Link, group: u32) -> Result<(), LinkError> {
        let what = || format!("put {of} in group {group}");
        self.set(msg::SETLINK, of.index, &what, |out| {
            out.put_host_u32(link::GROUP, group);
        })
    }

    /// Sets a link's alias, of at most 255 bytes without a zero; an empty one takes it away.
    ///
    /// # Errors
    /// [`LinkError::Alias`], [`LinkError::Refused`], and those of the socket.
    pub fn set_alias(&mut self, of: &Link, alias: &str) -> Result<(), LinkError> {
        if alias.len() > link::ALIAS_LENGTH || alias.contains('\0') {
            return Err(LinkError::Alias {
                link: of.to_string(),
                length: alias.len(),
            });
        }
        let what = || format!("set the alias of {of}");
        // Without a terminating zero, which would be a byte of it.
        self.set(msg::SETLINK, of.index, &what, |out| {
            out.put(link::IFALIAS, alias.as_bytes());
        })
    }

    /// Sets which packets a bridge hands to the hooks of IP and ARP, and nothing else of it. Works where `/proc/sys` is
    /// read-only.
    ///
    /// # Errors
    /// [`LinkError::NoBridgeNetfilter`], [`LinkError::Refused`], and those of the socket.
    pub fn set_bridge_netfilter(
        &mut self,
        of: &Link,
        netfilter: BridgeNetfilter,
    ) -> Result<(), LinkError> {
        // The kernel would take the flags and forget them.
        if of.bridge.is_none_or(|bridge| bridge.netfilter.is_none()) {
            return Err(LinkError::NoBridgeNetfilter {
                link: of.to_string(),
            });
        }
        let what = || format!("set the netfilter flags of {of}");
        // Not SETLINK, which looks at nothing of a kind.
        self.set(msg::NEWLINK, of.index, &what, |out| netfilter.write(out))
    }

    fn set(
        &mut self,
        kind: u16,
        index: u32,
        what: &dyn Fn() -> String,
        fill: impl FnOnce(&mut Writer),
    ) -> Result<(), LinkError> {
        let request = Request {
            what,
            kind,
            flags: 0,
            header: &link_header(index),
        };
        match request.exchange(&mut self.socket, fill, |_| Ok(()))? {
            Ended::Whole | Ended::Interrupted => Ok(()),
            Ended::Refused { errno, text } => Err(request.refused(errno, text)),
        }
    }

    /// All addresses of all links, by link and address.
    ///
    /// # Errors
    /// [`LinkError::Changing`], and those of the socket.
    pub fn addresses(&mut self) -> Result<Vec<LinkAddress>, LinkError> {
        self.addresses_where(0, None)
    }

    /// The addresses of one link. The kernel looks only at that.
    ///
    /// # Errors
    /// [`LinkError::Refused`] if it is gone, and as [`Links::addresses`].
    pub fn addresses_of(&mut self, index: u32) -> Result<Vec<LinkAddress>, LinkError> {
        self.addresses_where(index, None)
    }

    /// The addresses of one link in another namespace. Nobody enters it.
    ///
    /// # Errors
    /// As [`Links::addresses_of`] and [`Links::by_name_in`].
    pub fn addresses_in(
        &mut self,
        namespace: NamespaceId,
        index: u32,
    ) -> Result<Vec<LinkAddress>, LinkError> {
        self.addresses_where(index, Some(namespace))
    }

    fn addresses_where(
        &mut self,
        index: u32,
        namespace: Option<NamespaceId>,
    ) -> Result<Vec<LinkAddress>, LinkError> {
        let mut header = [0; address::HEADER];
        header[4..].copy_from_slice(&index.to_ne_bytes());
        let request = Request {
            what: &|| match index {
                0 => "list addresses".to_owned(),
                _ => format!("list the addresses of link {index}"),
            },
            kind: msg::GETADDR,
            flags: message::DUMP,
            header: &header,
        };
        let mut addresses = request.list(|all| {
            let fill = |out: &mut Writer| {
                if let Some(NamespaceId(id)) = namespace {
                    out.put_host_u32(address::TARGET_NETNSID, id);
                }
            };
            request.exchange(&mut self.socket, fill, |message| {
                if message.kind == msg::NEWADDR {
                    let read = LinkAddress::read(message.payload)?;
                    all.extend(read.filter(|read| index == 0 || read.link == index));
                }
                Ok(())
            })
        })?;
        addresses.sort();
        Ok(addresses)
    }

    /// All routes of all tables, of IPv4 and then of IPv6, as the kernel orders them.
    ///
    /// # Errors
    /// [`LinkError::Changing`], and those of the socket.
    pub fn routes(&mut self) -> Result<Vec<Route>, LinkError> {
        let mut routes = self.routes_of(family::INET)?;
        routes.extend(self.routes_of(family::INET6)?);
        Ok(routes)
    }

    fn routes_of(&mut self, family: u8) -> Result<Vec<Route>, LinkError> {
        let mut header = [0; route::HEADER];
        header[0] = family;
        let request = Request {
            what: &|| "list routes".to_owned(),
            kind: msg::GETROUTE,
            flags: message::DUMP,
            header: &header,
        };
        request.list(|all| {
            request.exchange(
                &mut self.socket,
                |_| {},
                |message| {
                    if message.kind == msg::NEWROUTE {
                        all.extend(Route::read(family, message.payload)?);
                    }
                    Ok(())
                },
            )
        })
    }

    /// The route that packets from this host to an address take now; none if they are not sent at all.
    ///
    /// Rules of policy routing that look at more than the destination may send others elsewhere.
    ///
    /// # Errors
    /// [`LinkError::Refused`], and those of the socket.
    pub fn route_to(&mut self, destination: IpAddr) -> Result<Option<Route>, LinkError> {
        let (family, bytes) = match destination {
            IpAddr::V4(address) => (family::INET, address.octets().to_vec()),
            IpAddr::V6(address) => (family::INET6, address.octets().to_vec()),
        };
        let mut header = [0; route::HEADER];
        // An address has at most 128 bits.
        (header[0], header[1]) = (family, (bytes.len() * 8) as u8);
        if family == family::INET {
            // IPv6 names the table unasked, and refuses to be asked.
            header[8..].copy_from_slice(&route::LOOKUP_TABLE.to_ne_bytes());
        }
        let request = Request {
            what: &|| format!("look up the route to {destination}"),
            kind: msg::GETROUTE,
            flags: 0,
            header: &header,
        };
        let mut found = None;
        let fill = |out: &mut Writer| out.put(route::DST, &bytes);
        let ended = request.exchange(&mut self.socket, fill, |message| {
            if message.kind == msg::NEWROUTE {
                found = Route::read(family, message.payload)?;
            }
            Ok(())
        })?;
        let dropped = [
            RouteKind::Blackhole,
            RouteKind::Unreachable,
            RouteKind::Prohibit,
        ];
        match ended {
            Ended::Whole | Ended::Interrupted => {
                Ok(found.filter(|found| !dropped.contains(&found.kind)))
            }
            Ended::Refused { errno, text } => match (Errno::from_raw(errno), &text) {
                (Errno::ENETUNREACH | Errno::EHOSTUNREACH, _) => Ok(None),
                // `fib_props`: those of routes that prohibit, and of those that drop. A request that it does not
                // understand has a text.
                (Errno::EACCES | Errno::EINVAL, None) => Ok(None),
                _ => Err(request.refused(errno, text)),
            },
        }
    }
}

/// `struct ifinfomsg` that names a link by its number, or none.
fn link_header(index: u32) -> [u8; link::HEADER] {
    let mut header = [0; link::HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}
