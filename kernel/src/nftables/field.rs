//! Where each field of a packet is, and what must hold before it is there.

use policy_compiler::model::Protocol;
use policy_compiler::ruleset::Field;

use super::constants::{base, ct, fib, meta};
use super::expression::Load;
use super::types::{Type, protocol_number};

/// The network protocol that a field belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Ipv4,
    Ipv6,
    Arp,
}

/// `IPPROTO_ICMPV6`
pub(crate) const ICMPV6: u8 = 58;

/// Every field, to be found by what it loads.
pub(crate) const ALL: [Field; 30] = [
    Field::Ipv4Source,
    Field::Ipv4Destination,
    Field::Ipv6Source,
    Field::Ipv6Destination,
    Field::Ipv6HopLimit,
    Field::TransportProtocol,
    Field::DestinationPort(Protocol::Tcp),
    Field::DestinationPort(Protocol::Udp),
    Field::DestinationPort(Protocol::Sctp),
    Field::TransportDestinationPort,
    Field::TcpFlags,
    Field::Icmpv6Type,
    Field::ConnectionState,
    Field::ConnectionMark,
    Field::ConnectionStatus,
    Field::SourceAddressType,
    Field::DestinationAddressType,
    Field::ReturnRoute,
    Field::PacketType,
    Field::InputInterface,
    Field::OutputInterface,
    Field::InputInterfaceGroup,
    Field::OutputInterfaceGroup,
    Field::EtherType,
    Field::ArpSource,
    Field::ConnectionDirection,
    Field::OriginalIpv4Source,
    Field::OriginalIpv4Destination,
    Field::OriginalIpv6Source,
    Field::OriginalIpv6Destination,
];

/// What loads the field.
pub(crate) fn load(field: Field) -> Load {
    let payload = |base, offset| Load::Payload {
        base,
        offset,
        // No field is longer than 16 bytes.
        length: data_type(field).length() as u32,
    };
    let connection = |key| Load::Connection {
        key,
        direction: None,
    };
    let original = |key| Load::Connection {
        key,
        direction: Some(ct::ORIGINAL),
    };
    let route = |result, flags| Load::Route { result, flags };
    match field {
        Field::Ipv4Source => payload(base::NETWORK, 12),
        Field::Ipv4Destination => payload(base::NETWORK, 16),
        Field::Ipv6Source => payload(base::NETWORK, 8),
        Field::Ipv6Destination => payload(base::NETWORK, 24),
        Field::Ipv6HopLimit => payload(base::NETWORK, 7),
        Field::TransportProtocol => Load::Meta(meta::L4PROTO),
        Field::TransportDestinationPort | Field::DestinationPort(_) => payload(base::TRANSPORT, 2),
        Field::TcpFlags => payload(base::TRANSPORT, 13),
        Field::Icmpv6Type => payload(base::TRANSPORT, 0),
        Field::ConnectionState => connection(ct::STATE),
        Field::ConnectionMark => connection(ct::MARK),
        Field::ConnectionStatus => connection(ct::STATUS),
        Field::SourceAddressType => route(fib::ADDRTYPE, fib::F_SADDR),
        Field::DestinationAddressType => route(fib::ADDRTYPE, fib::F_DADDR),
        Field::ReturnRoute => route(fib::OIF, fib::F_SADDR | fib::F_IIF | fib::F_PRESENT),
        Field::PacketType => Load::Meta(meta::PKTTYPE),
        Field::InputInterface => Load::Meta(meta::IIFNAME),
        Field::OutputInterface => Load::Meta(meta::OIFNAME),
        Field::InputInterfaceGroup => Load::Meta(meta::IIFGROUP),
        Field::OutputInterfaceGroup => Load::Meta(meta::OIFGROUP),
        Field::EtherType => payload(base::LINK, 12),
        Field::ArpSource => payload(base::NETWORK, 14),
        Field::ConnectionDirection => connection(ct::DIRECTION),
        Field::OriginalIpv4Source => original(ct::SRC_IP),
        Field::OriginalIpv4Destination => original(ct::DST_IP),
        Field::OriginalIpv6Source => original(ct::SRC_IP6),
        Field::OriginalIpv6Destination => original(ct::DST_IP6),
    }
}

/// The type of its values.
pub(crate) fn data_type(field: Field) -> Type {
    match field {
        Field::Ipv4Source
        | Field::Ipv4Destination
        | Field::ArpSource
        | Field::OriginalIpv4Source
        | Field::OriginalIpv4Destination => Type::Ipv4,
        Field::Ipv6Source
        | Field::Ipv6Destination
        | Field::OriginalIpv6Source
        | Field::OriginalIpv6Destination => Type::Ipv6,
        Field::Ipv6HopLimit => Type::HopLimit,
        Field::TransportProtocol => Type::Protocol,
        Field::TransportDestinationPort | Field::DestinationPort(_) => Type::Port,
        Field::ConnectionDirection => Type::ConnectionDirection,
        Field::TcpFlags => Type::TcpFlags,
        Field::Icmpv6Type => Type::Icmpv6Type,
        Field::ConnectionState => Type::ConnectionState,
        Field::ConnectionMark => Type::ConnectionMark,
        Field::ConnectionStatus => Type::ConnectionStatus,
        Field::SourceAddressType | Field::DestinationAddressType => Type::AddressType,
        Field::ReturnRoute => Type::Presence,
        Field::PacketType => Type::PacketType,
        Field::InputInterface | Field::OutputInterface => Type::Interface,
        Field::InputInterfaceGroup | Field::OutputInterfaceGroup => Type::InterfaceGroup,
        Field::EtherType => Type::EtherType,
    }
}

/// The network protocol whose header holds it, or the header above.
pub(crate) fn network(field: Field) -> Option<Network> {
    match field {
        Field::Ipv4Source | Field::Ipv4Destination => Some(Network::Ipv4),
        Field::Ipv6Source | Field::Ipv6Destination | Field::Ipv6HopLimit | Field::Icmpv6Type => {
            Some(Network::Ipv6)
        }
        Field::ArpSource => Some(Network::Arp),
        _ => None,
    }
}

/// The transport protocol whose header holds it.
pub(crate) fn transport(field: Field) -> Option<u8> {
    match field {
        Field::DestinationPort(protocol) => Some(protocol_number(protocol)),
        Field::TcpFlags => Some(protocol_number(Protocol::Tcp)),
        Field::Icmpv6Type => Some(ICMPV6),
        _ => None,
    }
}
