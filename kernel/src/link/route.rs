//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::{Scope, ip, ip_of};
use super::constants::{family, route};
use crate::netlink::attribute::{Attribute, Attributes, Malformed};

/// An entry of a routing table, or the answer to a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The first address of the network that it leads to. Of a lookup the address, or its network.
    pub destination: IpAddr,
    /// How many bits of `destination` count.
    pub prefix_length: u8,
    /// What becomes of the packets.
    pub kind: RouteKind,
    /// The table's number (`enum rt_class_t`): 254 is `main`, 255 `local`. A lookup of an IPv4 address of this host may
    /// say 254, as the kernel keeps both tables in one while there are no rules.
    pub table: u32,
    /// How far it leads.
    pub scope: Scope,
    /// Among routes to the same destination the lowest is taken (`metric`).
    pub priority: u32,
    /// The source address of packets that this host itself sends by it.
    pub source: Option<IpAddr>,
    /// Where the packets go next: one of these.
    pub next_hops: Vec<NextHop>,
    /// The number of a nexthop object that says where they go. The kernel fills `next_hops` from it too, unless
    /// `net.ipv4.nexthop_compat_mode` is 0.
    pub next_hop_object: Option<u32>,
}

/// Where packets of a route go next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The link that they leave by.
    pub link: Option<u32>,
    /// The router that they are sent to, perhaps of the other family; none where the destination is on the link.
    pub gateway: Option<IpAddr>,
}

/// What becomes of the packets of a route (`RTN_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// They go to the next hop.
    Unicast,
    /// They are for this host.
    Local,
    /// They are for all on the link.
    Broadcast,
    /// They are for this host and others.
    Anycast,
    /// They are for a group.
    Multicast,
    /// They are dropped.
    Blackhole,
    /// They are answered with: host unreachable.
    Unreachable,
    /// They are answered with: prohibited.
    Prohibit,
    /// Another table is asked.
    Throw,
    /// Another.
    Other(u8),
}

impl Route {
    /// A message's route; none if it is of another family than the one asked for: a kernel that does not know a family
    /// answers for all others.
    pub(super) fn read(of: u8, payload: &[u8]) -> Result<Option<Self>, Malformed> {
        let header = payload.first_chunk::<{ route::HEADER }>();
        let [family, prefix_length, _, _, table, _, scope, kind, ..] =
            *header.ok_or(Malformed("route's header"))?;
        if family != of {
            return Ok(None);
        }
        let mut read = Self {
            destination: match of {
                family::INET6 => Ipv6Addr::UNSPECIFIED.into(),
                _ => Ipv4Addr::UNSPECIFIED.into(),
            },
            prefix_length,
            kind: RouteKind::from(kind),
            table: table.into(),
            scope: Scope::from(scope),
            priority: 0,
            source: None,
            next_hops: Vec::new(),
            next_hop_object: None,
        };
        let mut only = NextHop {
            link: None,
            gateway: None,
        };
        for attribute in Attributes(&payload[route::HEADER..]) {
            let attribute = attribute?;
            match attribute.kind {
                route::DST => {
                    read.destination = ip(of, attribute.payload).unwrap_or(read.destination);
                }
                route::TABLE => read.table = attribute.host_u32().unwrap_or(read.table),
                route::PRIORITY => read.priority = attribute.host_u32().unwrap_or(0),
                route::PREFSRC => read.source = ip(of, attribute.payload),
                route::NH_ID => read.next_hop_object = attribute.host_u32().ok(),
                route::MULTIPATH => read.next_hops = next_hops(attribute.payload)?,
                _ => only.take(attribute),
            }
        }
        if only.link.is_some() || only.gateway.is_some() {
            read.next_hops.push(only);
        }
        Ok(Some(read))
    }
}

impl NextHop {
    fn take(&mut self, attribute: Attribute<'_>) {
        match attribute.kind {
            route::OIF => self.link = attribute.host_u32().ok(),
            route::GATEWAY => self.gateway = ip_of(attribute),
            // `struct rtvia`: a family in the host's order, then the address.
            route::VIA => {
                let address = attribute.payload.split_first_chunk::<2>();
                self.gateway = address.and_then(|(of, bytes)| {
                    let of = u8::try_from(u16::from_ne_bytes(*of)).ok()?;
                    ip(of, bytes)
                });
            }
            _ => {}
        }
    }
}

/// A list of `struct rtnexthop`, each with its attributes.
fn next_hops(mut bytes: &[u8]) -> Result<Vec<NextHop>, Malformed> {
    let mut all = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<{ route::NEXT_HOP_HEADER }>() {
        let [low, high, _, _, link @ ..] = *header;
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let attributes = bytes.get(route::NEXT_HOP_HEADER..length);
        let mut hop = NextHop {
            link: Some(u32::from_ne_bytes(link)),
            gateway: None,
        };
        for attribute in Attributes(attributes.ok_or(Malformed("next hop"))?) {
            hop.take(attribute?);
        }
        all.push(hop);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(all)
}

impl From<u8> for RouteKind {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Unicast,
            2 => Self::Local,
            3 => Self::Broadcast,
            4 => Self::Anycast,
            5 => Self::Multicast,
            6 => Self::Blackhole,
            7 => Self::Unreachable,
            8 => Self::Prohibit,
            9 => Self::Throw,
            other => Self::Other(other),
        }
    }
}
