//! Types of data, as nft numbers and lays them out (nftables' `include/datatype.h`), and values of them.

use std::net::IpAddr;

use policy_compiler::model::{AddressRange, AddressRanges, Cidr, PortRange, Protocol};
use policy_compiler::ruleset::{KeyType, Value};

/// A type of data.
#[allow(
    clippy::enum_variant_names,
    reason = "the names of the field's own numbers"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Ipv4,
    Ipv6,
    Protocol,
    Port,
    Interface,
    HopLimit,
    TcpFlags,
    Icmpv6Type,
    ConnectionState,
    ConnectionMark,
    ConnectionStatus,
    ConnectionDirection,
    AddressType,
    PacketType,
    InterfaceGroup,
    EtherType,
    Presence,
}

/// Names of numbers.
type Names = &'static [(&'static str, u32)];

const TCP_FLAGS: Names = &[
    ("fin", 0x01),
    ("syn", 0x02),
    ("rst", 0x04),
    ("psh", 0x08),
    ("ack", 0x10),
    ("urg", 0x20),
    ("ecn", 0x40),
    ("cwr", 0x80),
];
/// `NF_CT_STATE_BIT` of `enum ip_conntrack_info`
const CONNECTION_STATES: Names = &[
    ("invalid", 0x01),
    ("established", 0x02),
    ("related", 0x04),
    ("new", 0x08),
    ("untracked", 0x40),
];
/// `enum ip_conntrack_status`
const CONNECTION_STATUS: Names = &[
    ("expected", 0x001),
    ("seen-reply", 0x002),
    ("assured", 0x004),
    ("confirmed", 0x008),
    ("snat", 0x010),
    ("dnat", 0x020),
    ("dying", 0x200),
];
/// `enum ip_conntrack_dir`
const CONNECTION_DIRECTIONS: Names = &[("original", 0), ("reply", 1)];
/// `RTN_*` of `linux/rtnetlink.h`
const ADDRESS_TYPES: Names = &[
    ("unicast", 1),
    ("local", 2),
    ("broadcast", 3),
    ("anycast", 4),
    ("multicast", 5),
];
/// `PACKET_*` of `linux/if_packet.h`
const PACKET_TYPES: Names = &[
    ("unicast", 0),
    ("broadcast", 1),
    ("multicast", 2),
    ("other", 3),
];
/// `ETH_P_*` of `linux/if_ether.h`
const ETHER_TYPES: Names = &[("ip", 0x0800), ("arp", 0x0806), ("ip6", 0x86dd)];
const PRESENCE: Names = &[("missing", 0), ("exists", 1)];

impl Type {
    /// nft's number of the type.
    pub(crate) fn id(self) -> u32 {
        match self {
            Self::HopLimit => 4,
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::EtherType => 10,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::TcpFlags => 15,
            Self::ConnectionMark => 19,
            Self::ConnectionState => 26,
            Self::ConnectionDirection => 27,
            Self::ConnectionStatus => 28,
            Self::Icmpv6Type => 29,
            Self::PacketType => 31,
            Self::InterfaceGroup => 35,
            Self::AddressType => 38,
            Self::Interface => 41,
            // nft has no set of these.
            Self::Presence => 0,
        }
    }

    /// Number of bytes of a value.
    pub(crate) fn length(self) -> usize {
        match self {
            Self::Protocol
            | Self::HopLimit
            | Self::TcpFlags
            | Self::Icmpv6Type
            | Self::ConnectionDirection
            | Self::PacketType => 1,
            Self::Port | Self::EtherType => 2,
            Self::Ipv4
            | Self::ConnectionState
            | Self::ConnectionMark
            | Self::ConnectionStatus
            | Self::AddressType
            | Self::InterfaceGroup
            | Self::Presence => 4,
            Self::Ipv6 | Self::Interface => 16,
        }
    }

    /// Whether numbers are in the order of the host, which nft notes with a set.
    pub(crate) fn is_host_order(self) -> bool {
        match self {
            Self::Protocol
            | Self::Interface
            | Self::ConnectionState
            | Self::ConnectionMark
            | Self::ConnectionStatus
            | Self::ConnectionDirection
            | Self::AddressType
            | Self::PacketType
            | Self::InterfaceGroup
            | Self::Presence => true,
            Self::Ipv4
            | Self::Ipv6
            | Self::Port
            | Self::HopLimit
            | Self::TcpFlags
            | Self::Icmpv6Type
            | Self::EtherType => false,
        }
    }

    /// Whether a value's bits are tested, not the value compared.
    pub(crate) fn is_flags(self) -> bool {
        matches!(self, Self::ConnectionState | Self::ConnectionStatus)
    }

    pub(crate) fn names(self) -> Names {
        match self {
            Self::TcpFlags => TCP_FLAGS,
            Self::ConnectionState => CONNECTION_STATES,
            Self::ConnectionStatus => CONNECTION_STATUS,
            Self::ConnectionDirection => CONNECTION_DIRECTIONS,
            Self::AddressType => ADDRESS_TYPES,
            Self::PacketType => PACKET_TYPES,
            Self::EtherType => ETHER_TYPES,
            Self::Presence => PRESENCE,
            _ => &[],
        }
    }

    /// A number as this type lays it out, if it fits.
    pub(crate) fn number(self, number: u32) -> Option<Vec<u8>> {
        let length = self.length();
        if length < 4 && number >> (8 * length) != 0 || length > 4 {
            return None;
        }
        Some(match self.is_host_order() && length == 4 {
            true => number.to_ne_bytes().to_vec(),
            false => number.to_be_bytes()[4 - length..].to_vec(),
        })
    }

    /// The number that was laid out so.
    pub(crate) fn as_number(self, bytes: &[u8]) -> Option<u32> {
        if bytes.len() != self.length() || bytes.len() > 4 {
            return None;
        }
        let mut word = [0; 4];
        if self.is_host_order() && bytes.len() == 4 {
            word.copy_from_slice(bytes);
            return Some(u32::from_ne_bytes(word));
        }
        word[4 - bytes.len()..].copy_from_slice(bytes);
        Some(u32::from_be_bytes(word))
    }

    /// The first and the last value that are meant, if the value is of this type.
    pub(crate) fn range(self, value: &Value) -> Option<(Vec<u8>, Vec<u8>)> {
        match value {
            Value::Network(network) => self.addresses(&network.range()),
            Value::Addresses(range) => self.addresses(range),
            Value::Ports(range) if self == Self::Port => Some((
                range.first().to_be_bytes().to_vec(),
                range.last().to_be_bytes().to_vec(),
            )),
            other => self.one(other).map(|bytes| (bytes.clone(), bytes)),
        }
    }

    fn addresses(self, range: &AddressRange) -> Option<(Vec<u8>, Vec<u8>)> {
        Some((self.address(range.first())?, self.address(range.last())?))
    }

    fn address(self, address: IpAddr) -> Option<Vec<u8>> {
        match (self, address) {
            (Self::Ipv4, IpAddr::V4(address)) => Some(address.octets().to_vec()),
            (Self::Ipv6, IpAddr::V6(address)) => Some(address.octets().to_vec()),
            _ => None,
        }
    }

    fn one(self, value: &Value) -> Option<Vec<u8>> {
        match (self, value) {
            (_, Value::Address(address)) => self.address(*address),
            (Self::Protocol, Value::Protocol(protocol)) => Some(vec![protocol_number(*protocol)]),
            (Self::Interface, Value::Interface(name)) if (1..16).contains(&name.len()) => {
                let mut bytes = name.clone().into_bytes();
                bytes.resize(16, 0);
                Some(bytes)
            }
            (_, Value::Symbol(symbol)) => {
                let (_, number) = self.names().iter().find(|(name, _)| name == symbol)?;
                self.number(*number)
            }
            (
                Self::HopLimit
                | Self::Icmpv6Type
                | Self::ConnectionMark
                | Self::TcpFlags
                | Self::InterfaceGroup,
                Value::Number(number),
            ) => self.number(*number),
            _ => None,
        }
    }

    /// The value from `first` to `last`; in a comparison a network is a network, and in a set a range.
    pub(crate) fn value(self, first: &[u8], last: &[u8], in_set: bool) -> Option<Value> {
        match self {
            Self::Ipv4 | Self::Ipv6 => {
                let range = address_range(ip(first)?, ip(last)?)?;
                Some(match range.as_cidr() {
                    _ if in_set => Value::Addresses(range),
                    _ if first == last => Value::Address(range.first()),
                    Some(network) => Value::Network(network),
                    None => Value::Addresses(range),
                })
            }
            Self::Port => {
                let (first, last) = (first.try_into().ok()?, last.try_into().ok()?);
                PortRange::new(u16::from_be_bytes(first), u16::from_be_bytes(last))
                    .map(Value::Ports)
            }
            _ if first != last => None,
            Self::Protocol => {
                let of_number = |protocol: &Protocol| [protocol_number(*protocol)] == *first;
                let protocol = Protocol::ALL.into_iter().find(of_number);
                protocol.map(Value::Protocol)
            }
            Self::Interface => {
                let end = first.iter().position(|byte| *byte == 0)?;
                let name = std::str::from_utf8(&first[..end]).ok()?;
                (first.len() == 16).then(|| Value::Interface(name.to_owned()))
            }
            _ => {
                let number = self.as_number(first)?;
                let name = self.names().iter().find(|(_, named)| *named == number);
                Some(name.map_or(Value::Number(number), |(name, _)| Value::Symbol(name)))
            }
        }
    }

    /// One value, for example a part of a set's key.
    pub(crate) fn single(self, bytes: &[u8]) -> Option<Value> {
        self.value(bytes, bytes, false)
    }
}

impl From<KeyType> for Type {
    fn from(key: KeyType) -> Self {
        match key {
            KeyType::Ipv4Address => Self::Ipv4,
            KeyType::Ipv6Address => Self::Ipv6,
            KeyType::Protocol => Self::Protocol,
            KeyType::Port => Self::Port,
            KeyType::Interface => Self::Interface,
        }
    }
}

/// The key type with nft's number.
pub(crate) fn key_type(id: u32) -> Option<KeyType> {
    let all = [
        KeyType::Ipv4Address,
        KeyType::Ipv6Address,
        KeyType::Protocol,
        KeyType::Port,
        KeyType::Interface,
    ];
    all.into_iter().find(|key| Type::from(*key).id() == id)
}

/// `IPPROTO_*`
pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// The range from the first to the last, put together from networks, of which `policy-compiler` makes ranges.
fn address_range(first: IpAddr, last: IpAddr) -> Option<AddressRange> {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let ((mut from, width), (to, other)) = (bits(first), bits(last));
    if width != other || from > to {
        return None;
    }
    let mut networks = Vec::new();
    loop {
        // The largest network that starts here and does not go beyond the end.
        let size = |bits: u32| u128::MAX.checked_shr(128 - bits).unwrap_or(0);
        let fits = |bits: &u32| from & size(*bits) == 0 && size(*bits) <= to - from;
        let host_bits = (0..=width).rev().find(fits)?;
        let address = match first {
            IpAddr::V4(_) => IpAddr::from(u32::try_from(from).ok()?.to_be_bytes()),
            IpAddr::V6(_) => IpAddr::from(from.to_be_bytes()),
        };
        networks.push(Cidr::parse_strict(&format!("{address}/{}", width - host_bits)).ok()?);
        match from + size(host_bits) {
            end if end >= to => break,
            end => from = end + 1,
        }
    }
    let ranges = AddressRanges::union(&networks);
    let mut ranges = ranges.iter();
    ranges.next().copied().filter(|_| ranges.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_of_addresses_is_put_together() {
        for (first, last) in [
            ("0.0.0.0", "255.255.255.255"),
            ("10.0.0.1", "10.0.3.77"),
            ("10.0.0.1", "10.0.0.1"),
            ("255.255.255.255", "255.255.255.255"),
            ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001:db8::1", "2001:db8:0:5::"),
        ] {
            let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
            let range = address_range(parse(first), parse(last)).expect("in order");
            assert_eq!((range.first(), range.last()), (parse(first), parse(last)));
        }
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert_eq!(address_range(two, one), None);
        assert_eq!(address_range(one, "::".parse().expect("an address")), None);
    }

    #[test]
    fn what_does_not_fit_its_type_has_no_bytes() {
        assert_eq!(Type::Icmpv6Type.range(&Value::Number(256)), None);
        assert_eq!(
            Type::Ipv4.range(&Value::Address("::".parse().expect("an address"))),
            None
        );
        assert_eq!(Type::ConnectionState.range(&Value::Symbol("dnat")), None);
        assert_eq!(
            Type::Interface.range(&Value::Interface("sixteen-letters0".into())),
            None
        );
    }
}
