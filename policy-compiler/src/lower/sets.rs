//! Sets of peers.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use crate::ir::{NodeIr, PeerMatch, PeerMembers};
use crate::model::{Family, PortRange, Protocol};
use crate::name::comment;
use crate::ruleset::{KeyType, Set, Value};

pub(super) fn address_type(family: Family) -> KeyType {
    match family {
        Family::Ipv4 => KeyType::Ipv4Address,
        Family::Ipv6 => KeyType::Ipv6Address,
    }
}

/// The set of whom a rule matches, if there is one.
pub(crate) fn lower_peer(ir: &NodeIr, family: Family, peer: &PeerMatch) -> Option<Set> {
    let kind = address_type(family);
    match peer {
        PeerMatch::Any => None,
        PeerMatch::Set(name) => {
            let peer = ir.peers.get(name)?;
            let elements = match &peer.members {
                PeerMembers::Pods(addresses) => addresses_of(addresses, family)
                    .map(|address| vec![Value::Address(*address)])
                    .collect(),
                PeerMembers::Block(ranges) => ranges
                    .iter()
                    .map(|range| vec![Value::Addresses(*range)])
                    .collect(),
            };
            Some(Set {
                key: vec![kind],
                interval: matches!(peer.members, PeerMembers::Block(_)),
                comment: comment(&peer.peer),
                elements,
            })
        }
        PeerMatch::NamedPorts(name) => {
            let ports = ir.named_ports.get(name)?;
            let elements = ports_of(&ports.members, family);
            Some(Set {
                key: vec![kind, KeyType::Protocol, KeyType::Port],
                interval: false,
                comment: comment(&ports.peer),
                elements: elements
                    .map(|(address, protocol, port)| named_port(*address, *protocol, *port))
                    .collect(),
            })
        }
    }
}

/// The first address of IPv6; those of IPv4 come before.
const FIRST_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The addresses of a family, without a look at the others.
pub(super) fn addresses_of(
    addresses: &BTreeSet<IpAddr>,
    family: Family,
) -> impl Iterator<Item = &IpAddr> {
    match family {
        Family::Ipv4 => addresses.range(..FIRST_IPV6),
        Family::Ipv6 => addresses.range(FIRST_IPV6..),
    }
}

/// As [`addresses_of`], with ports.
pub(super) fn ports_of(
    members: &BTreeSet<(IpAddr, Protocol, u16)>,
    family: Family,
) -> impl Iterator<Item = &(IpAddr, Protocol, u16)> {
    let first = (FIRST_IPV6, Protocol::ALL[0], 0);
    match family {
        Family::Ipv4 => members.range(..first),
        Family::Ipv6 => members.range(first..),
    }
}

/// `10.0.0.1 . tcp . 80`
pub(crate) fn named_port(address: IpAddr, protocol: Protocol, port: u16) -> Vec<Value> {
    vec![
        Value::Address(address),
        Value::Protocol(protocol),
        Value::Ports(PortRange::single(port)),
    ]
}
