//! Values as the numbers that the kernel compares.

use std::net::IpAddr;

use policy_compiler::model::Protocol;
use policy_compiler::ruleset::{Field, KeyType, Value};

/// An address, by its family.
pub(super) fn address(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => four.to_bits().into(),
        IpAddr::V6(six) => six.to_bits(),
    }
}

/// The name in its 16 bytes, the rest zero (IFNAMSIZ).
pub(super) fn interface(name: &str) -> u128 {
    assert!(name.len() < 16, "{name} is too long");
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    u128::from_be_bytes(bytes)
}

/// Numbers of IANA.
pub(super) fn protocol(protocol: Protocol) -> u128 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// The first and the last number of an element of a set.
pub(super) fn of_type(kind: KeyType, value: &Value) -> (u128, u128) {
    let one = |number| (number, number);
    match (kind, value) {
        (KeyType::Ipv4Address, Value::Address(four @ IpAddr::V4(_))) => one(address(*four)),
        (KeyType::Ipv6Address, Value::Address(six @ IpAddr::V6(_))) => one(address(*six)),
        (KeyType::Ipv4Address, Value::Addresses(range)) if range.first().is_ipv4() => {
            (address(range.first()), address(range.last()))
        }
        (KeyType::Ipv6Address, Value::Addresses(range)) if range.first().is_ipv6() => {
            (address(range.first()), address(range.last()))
        }
        (KeyType::Protocol, Value::Protocol(given)) => one(protocol(*given)),
        (KeyType::Port, Value::Ports(ports)) => (ports.first().into(), ports.last().into()),
        (KeyType::Interface, Value::Interface(name)) => one(interface(name)),
        (kind, value) => panic!("{value:?} is no {kind:?}"),
    }
}

/// The first and the last number of what a field is compared with.
pub(super) fn range(field: Field, value: &Value) -> (u128, u128) {
    match (field, value) {
        (Field::Ipv4Source | Field::Ipv4Destination, Value::Network(network))
            if network.first().is_ipv4() =>
        {
            let range = network.range();
            (address(range.first()), address(range.last()))
        }
        (Field::Ipv6Source | Field::Ipv6Destination, Value::Network(network))
            if network.first().is_ipv6() =>
        {
            let range = network.range();
            (address(range.first()), address(range.last()))
        }
        (Field::DestinationPort(_) | Field::TransportDestinationPort, Value::Ports(ports)) => {
            (ports.first().into(), ports.last().into())
        }
        (field, value) => {
            let number = number(field, value);
            (number, number)
        }
    }
}

/// A field's single value.
pub(super) fn number(field: Field, value: &Value) -> u128 {
    match (field, value) {
        (
            Field::Ipv4Source | Field::Ipv4Destination | Field::ArpSource,
            Value::Address(four @ IpAddr::V4(_)),
        ) => address(*four),
        (Field::Ipv6Source | Field::Ipv6Destination, Value::Address(six @ IpAddr::V6(_))) => {
            address(*six)
        }
        (Field::TransportProtocol, Value::Protocol(given)) => protocol(*given),
        (Field::InputInterface | Field::OutputInterface, Value::Interface(name)) => interface(name),
        (
            Field::Icmpv6Type | Field::Ipv6HopLimit | Field::ConnectionMark,
            Value::Number(number),
        ) => (*number).into(),
        (field, Value::Symbol(symbol)) => named(field, symbol),
        (field, value) => panic!("{field:?} is never {value:?}"),
    }
}

/// One bit of a field that is a set of bits.
pub(super) fn bit(field: Field, value: &Value) -> u128 {
    match value {
        Value::Symbol(symbol) => named(field, symbol),
        other => panic!("{other:?} is no bit of {field:?}"),
    }
}

/// Symbols of nft(8), with the numbers of the kernel's headers.
fn named(field: Field, symbol: &str) -> u128 {
    match (field, symbol) {
        (Field::ConnectionState, "invalid") => 1,
        (Field::ConnectionState, "established") => 2,
        (Field::ConnectionState, "related") => 4,
        (Field::ConnectionState, "new") => 8,
        (Field::ConnectionState, "untracked") => 64,
        (Field::ConnectionStatus, "snat") => 16,
        (Field::ConnectionStatus, "dnat") => 32,
        (Field::ConnectionDirection, "original") => 0,
        (Field::ConnectionDirection, "reply") => 1,
        (Field::SourceAddressType | Field::DestinationAddressType, "unicast") => 1,
        (Field::SourceAddressType | Field::DestinationAddressType, "local") => 2,
        (Field::SourceAddressType | Field::DestinationAddressType, "broadcast") => 3,
        (Field::SourceAddressType | Field::DestinationAddressType, "multicast") => 5,
        (Field::ReturnRoute, "missing") => 0,
        (Field::ReturnRoute, "exists") => 1,
        (Field::PacketType, "unicast") => 0,
        (Field::PacketType, "broadcast") => 1,
        (Field::PacketType, "multicast") => 2,
        (Field::EtherType, "ip") => 0x0800,
        (Field::EtherType, "arp") => 0x0806,
        (Field::EtherType, "ip6") => 0x86dd,
        (Field::TcpFlags, "fin") => 1,
        (Field::TcpFlags, "syn") => 2,
        (Field::TcpFlags, "rst") => 4,
        (Field::TcpFlags, "ack") => 16,
        (field, symbol) => panic!("{symbol:?} is no {field:?}"),
    }
}
