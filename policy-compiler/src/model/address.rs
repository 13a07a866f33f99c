//! Addresses, CIDRs, and exact arithmetic on ranges of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;

/// An address family.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Both families, in the order in which they are printed.
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::Ipv4,
            IpAddr::V6(_) => Family::Ipv6,
        }
    }

    /// Number of bits of an address.
    pub fn bits(self) -> u8 {
        match self {
            Family::Ipv4 => 32,
            Family::Ipv6 => 128,
        }
    }

    /// The address with the given value in network order.
    pub(crate) fn address(self, bits: u128) -> IpAddr {
        match self {
            // A value of this family always fits: it was made by `bits_of`.
            Family::Ipv4 => Ipv4Addr::from_bits(bits as u32).into(),
            Family::Ipv6 => Ipv6Addr::from_bits(bits).into(),
        }
    }

    /// The value of the last address.
    pub(crate) fn last(self) -> u128 {
        match self {
            Family::Ipv4 => u128::from(u32::MAX),
            Family::Ipv6 => u128::MAX,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        })
    }
}

/// Whether the address is one of its link only (`fe80::/10`): hosts of other links may have it too.
pub fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(six) if six.is_unicast_link_local())
}

/// The value of an address in network order.
pub(crate) fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A network in CIDR notation, without host bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(IpNet);

/// Why a text is no CIDR that a new object may hold. The texts are the API server's
/// (KEP-4858 for the strict ones).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not a CIDR under any reading.
    #[error("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")]
    Invalid,
    /// `10.0.0.5/8`.
    #[error("must not have bits set beyond the prefix length")]
    HostBits,
    /// `010.0.0.0/8`.
    #[error("must not have leading 0s in IP")]
    LeadingZerosInIp,
    /// `10.0.0.0/08`.
    #[error("must not have leading 0s in prefix length")]
    LeadingZerosInPrefix,
    /// `::ffff:10.0.0.0/104`.
    #[error("must not have an IPv4-mapped IPv6 address")]
    Mapped,
}

impl Cidr {
    /// Parses what the API server accepts for a new object under StrictIPCIDRValidation.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse_strict(text: &str) -> Result<Self, CidrError> {
        let (address, length) = split(text)?;
        if let IpAddr::V6(address) = address.address
            && address.to_ipv4_mapped().is_some()
        {
            return Err(CidrError::Mapped);
        }
        if address.leading_zeros {
            return Err(CidrError::LeadingZerosInIp);
        }
        if length.leading_zeros {
            return Err(CidrError::LeadingZerosInPrefix);
        }
        let net = net(address.address, length.value)?;
        if net.trunc() != net {
            return Err(CidrError::HostBits);
        }
        Ok(Self(net))
    }

    /// Parses what clusters from before StrictIPCIDRValidation may hold: host bits are cut off, leading zeros
    /// are decimal, an IPv4-mapped IPv6 network is the IPv4 network (Go's net.ParseCIDR).
    ///
    /// # Errors
    /// Only [`CidrError::Invalid`].
    pub fn parse_lenient(text: &str) -> Result<Self, CidrError> {
        let (address, length) = split(text)?;
        let net = match address.address {
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                // Go masks the 16-byte form: fewer than 96 bits leave an IPv6 network that no packet matches.
                Some(v4) if length.value >= 96 => net(v4.into(), length.value - 96)?,
                _ => net(v6.into(), length.value)?,
            },
            v4 => net(v4, length.value)?,
        };
        Ok(Self(net.trunc()))
    }

    /// The network that holds one address.
    pub fn host(address: IpAddr) -> Self {
        Self(IpNet::from(address))
    }

    /// The family.
    pub fn family(&self) -> Family {
        Family::of(self.0.addr())
    }

    /// The first address of the network.
    pub fn first(&self) -> IpAddr {
        self.0.addr()
    }

    /// Whether the address is in the network; never across families.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether `other` is inside this network and smaller than it.
    pub fn strictly_contains(&self, other: &Cidr) -> bool {
        self.0.contains(&other.0) && other.0.prefix_len() > self.0.prefix_len()
    }

    /// The network as a range.
    pub fn range(&self) -> AddressRange {
        AddressRange {
            family: self.family(),
            first: bits_of(self.0.network()),
            last: bits_of(match self.0 {
                // ipnet's broadcast() of an IPv6 network is its last address, as for IPv4.
                IpNet::V4(net) => net.broadcast().into(),
                IpNet::V6(net) => net.broadcast().into(),
            }),
        }
    }

    /// The network as ipnet has it.
    pub fn net(&self) -> IpNet {
        self.0
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl serde::Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

struct Number {
    value: u8,
    leading_zeros: bool,
}

struct SloppyAddress {
    address: IpAddr,
    leading_zeros: bool,
}

fn split(text: &str) -> Result<(SloppyAddress, Number), CidrError> {
    let (address, length) = text.split_once('/').ok_or(CidrError::Invalid)?;
    Ok((
        sloppy_address(address).ok_or(CidrError::Invalid)?,
        number(length, 128).ok_or(CidrError::Invalid)?,
    ))
}

fn net(address: IpAddr, length: u8) -> Result<IpNet, CidrError> {
    IpNet::new(address, length).map_err(|_| CidrError::Invalid)
}

/// Decimal digits only, any number of leading zeros, at most `max`.
fn number(text: &str, max: u8) -> Option<Number> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let significant = text.trim_start_matches('0');
    let value = match significant {
        "" => 0,
        digits if digits.len() > 3 => return None,
        digits => digits.parse::<u16>().ok()?,
    };
    let value = u8::try_from(value).ok().filter(|value| *value <= max)?;
    Some(Number {
        value,
        leading_zeros: text.len() > significant.len().max(1),
    })
}

/// Reads leading zeros of IPv4 octets as decimal, as Kubernetes' ParseIPSloppy does; Rust's parser refuses them.
fn sloppy_address(text: &str) -> Option<SloppyAddress> {
    if let Ok(address) = IpAddr::from_str(text) {
        return Some(SloppyAddress {
            address,
            leading_zeros: false,
        });
    }
    let (head, tail) = match text.rfind(':') {
        Some(colon) => text.split_at(colon + 1),
        None => ("", text),
    };
    let mut octets = [0; 4];
    let mut parts = tail.split('.');
    for octet in &mut octets {
        *octet = number(parts.next()?, 255)?.value;
    }
    if parts.next().is_some() {
        return None;
    }
    let plain = format!("{head}{}", Ipv4Addr::from(octets));
    Some(SloppyAddress {
        address: IpAddr::from_str(&plain).ok()?,
        leading_zeros: true,
    })
}

/// A range of addresses of one family, first and last included, never inverted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String", extend("pattern" = "^[0-9a-f.:]+(/[0-9]+|-[0-9a-f.:]+)?$"))]
pub struct AddressRange {
    family: Family,
    first: u128,
    last: u128,
}

impl AddressRange {
    /// From one value to another, which is not below, in network order.
    pub(crate) fn new(family: Family, first: u128, last: u128) -> Self {
        Self {
            family,
            first,
            last,
        }
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.family.address(self.first)
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        self.family.address(self.last)
    }

    /// The addresses that are in both.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (self.family == other.family && first <= last).then_some(Self {
            family: self.family,
            first,
            last,
        })
    }

    /// The network with exactly these addresses, if there is one.
    pub fn as_cidr(&self) -> Option<Cidr> {
        let size_minus_one = self.last - self.first;
        let host_bits = size_minus_one.count_ones() as u8;
        let is_power_of_two = size_minus_one.trailing_ones() as u8 == host_bits;
        if !is_power_of_two || self.first & size_minus_one != 0 {
            return None;
        }
        IpNet::new(self.first(), self.family.bits() - host_bits)
            .ok()
            .map(Cidr)
    }
}

impl fmt::Display for AddressRange {
    /// As nft prints it: an address, a network, or `first-last`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_cidr() {
            _ if self.first == self.last => self.first().fmt(f),
            Some(cidr) => cidr.fmt(f),
            None => write!(f, "{}-{}", self.first(), self.last()),
        }
    }
}

impl serde::Serialize for AddressRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A set of addresses as disjoint ranges in order, none adjacent to the next.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, JsonSchema,
)]
#[serde(transparent)]
pub struct AddressRanges(Vec<AddressRange>);

impl AddressRanges {
    /// The union of the networks.
    pub fn union<'a>(networks: impl IntoIterator<Item = &'a Cidr>) -> Self {
        networks.into_iter().map(Cidr::range).collect()
    }

    /// These addresses without the others, exactly.
    pub fn minus(&self, others: &AddressRanges) -> Self {
        let mut left = Vec::new();
        for range in &self.0 {
            let mut first = Some(range.first);
            // Both are in order: those that reach into this range follow each other.
            let reaching = others
                .0
                .partition_point(|other| (other.family, other.last) < (range.family, range.first));
            let reaching = others.0[reaching..]
                .iter()
                .take_while(|other| other.family == range.family && other.first <= range.last);
            for other in reaching {
                let Some(from) = first else { break };
                if other.first > from {
                    left.push(AddressRange {
                        family: range.family,
                        first: from,
                        last: other.first - 1,
                    });
                }
                // Past the family's last address nothing is left of this range.
                first = (other.last < range.family.last()).then(|| other.last + 1);
            }
            if let Some(from) = first.filter(|from| *from <= range.last) {
                left.push(AddressRange {
                    family: range.family,
                    first: from,
                    last: range.last,
                });
            }
        }
        Self(left)
    }

    /// Whether the address is in the set.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (family, bits) = (Family::of(address), bits_of(address));
        let from = self
            .0
            .partition_point(|range| (range.family, range.last) < (family, bits));
        let range = self.0.get(from);
        range.is_some_and(|range| range.family == family && range.first <= bits)
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = &AddressRange> {
        self.0.iter()
    }

    /// Whether no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<AddressRange> for AddressRanges {
    /// The union of the ranges.
    fn from_iter<I: IntoIterator<Item = AddressRange>>(ranges: I) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_unstable();
        let mut merged: Vec<AddressRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(previous)
                    if previous.family == range.family
                        && range.first <= previous.last.saturating_add(1) =>
                {
                    previous.last = previous.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        Cidr::parse_strict(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn ranges(texts: &[&str]) -> AddressRanges {
        AddressRanges::union(&texts.iter().map(|text| cidr(text)).collect::<Vec<_>>())
    }

    fn text(ranges: &AddressRanges) -> String {
        ranges
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn strict_parsing_names_the_rule_that_is_broken() {
        for (text, error) in [
            ("10.0.0.0", CidrError::Invalid),
            ("10.0.0.0/33", CidrError::Invalid),
            ("10.0.0.0/-1", CidrError::Invalid),
            ("10.0.0.0/+8", CidrError::Invalid),
            ("10.0.0/8", CidrError::Invalid),
            ("10.0.0.0.0/8", CidrError::Invalid),
            ("10.0.0.256/8", CidrError::Invalid),
            ("10.0.0.0/8/8", CidrError::Invalid),
            (" 10.0.0.0/8", CidrError::Invalid),
            ("fe80::%eth0/64", CidrError::Invalid),
            ("::/129", CidrError::Invalid),
            ("", CidrError::Invalid),
            ("10.0.0.5/8", CidrError::HostBits),
            ("2001:db8::1/64", CidrError::HostBits),
            ("010.0.0.0/8", CidrError::LeadingZerosInIp),
            ("10.0.0.0/08", CidrError::LeadingZerosInPrefix),
            ("::ffff:10.0.0.0/104", CidrError::Mapped),
        ] {
            assert_eq!(Cidr::parse_strict(text), Err(error), "{text}");
        }
        assert_eq!(cidr("2001:DB8:0:0::/64").to_string(), "2001:db8::/64");
    }

    #[test]
    fn lenient_parsing_reads_what_old_clusters_hold() {
        for (text, read) in [
            ("10.0.0.5/8", "10.0.0.0/8"),
            ("010.020.0.0/16", "10.20.0.0/16"),
            ("10.0.0.0/008", "10.0.0.0/8"),
            ("::ffff:10.1.0.0/112", "10.1.0.0/16"),
            ("::ffff:010.1.0.0/112", "10.1.0.0/16"),
            ("2001:db8::1/64", "2001:db8::/64"),
        ] {
            let cidr = Cidr::parse_lenient(text).map(|cidr| cidr.to_string());
            assert_eq!(cidr.as_deref(), Ok(read), "{text}");
        }
        assert_eq!(Cidr::parse_lenient("10.0.0.0/40"), Err(CidrError::Invalid));
    }

    #[test]
    fn union_merges_overlapping_and_adjacent_networks() {
        assert_eq!(
            text(&ranges(&[
                "10.0.1.0/24",
                "10.0.0.0/24",
                "10.0.0.128/25",
                "10.0.3.0/24"
            ])),
            "10.0.0.0/23 10.0.3.0/24"
        );
        assert_eq!(
            text(&ranges(&["255.255.255.255/32", "::/128"])),
            "255.255.255.255 ::"
        );
    }

    #[test]
    fn minus_and_contains_say_of_every_address_what_the_networks_say() {
        // Of each family the first addresses and the last, in every combination of four networks.
        let networks = |from: &[&str]| {
            let mut all = vec![Vec::new()];
            for text in from {
                let with: Vec<Vec<Cidr>> = all
                    .iter()
                    .map(|some: &Vec<Cidr>| [some.clone(), vec![cidr(text)]].concat())
                    .collect();
                all.extend(with);
            }
            all
        };
        let addresses = (0..10u32).flat_map(|n| {
            let v6 = |bits| IpAddr::from(Ipv6Addr::from_bits(bits));
            [
                Ipv4Addr::from_bits(n).into(),
                Ipv4Addr::from_bits(u32::MAX - n).into(),
                v6(n.into()),
                v6(u128::MAX - u128::from(n)),
            ]
        });
        let addresses: Vec<IpAddr> = addresses.collect();
        let several = ["0.0.0.0/30", "0.0.0.8/31", "255.255.255.252/30", "::/125"];
        let others = [
            "0.0.0.1/32",
            "0.0.0.2/31",
            "0.0.0.9/32",
            "255.255.255.255/32",
            "::4/126",
        ];
        for these in networks(&several) {
            for those in networks(&others) {
                let left = AddressRanges::union(&these).minus(&AddressRanges::union(&those));
                for address in &addresses {
                    let in_any = |of: &[Cidr]| of.iter().any(|cidr| cidr.contains(*address));
                    let expected = in_any(&these) && !in_any(&those);
                    assert_eq!(
                        left.contains(*address),
                        expected,
                        "{these:?} {those:?} {address}"
                    );
                }
            }
        }
    }

    #[test]
    fn minus_is_exact_at_every_edge() {
        for (from, except, left) in [
            ("10.0.0.0/30", vec!["10.0.0.0/32"], "10.0.0.1-10.0.0.3"),
            ("10.0.0.0/30", vec!["10.0.0.3/32"], "10.0.0.0-10.0.0.2"),
            (
                "10.0.0.0/30",
                vec!["10.0.0.1/32", "10.0.0.2/32"],
                "10.0.0.0 10.0.0.3",
            ),
            ("10.0.0.0/30", vec!["10.0.0.0/31", "10.0.0.2/31"], ""),
            ("0.0.0.0/0", vec!["128.0.0.0/1"], "0.0.0.0/1"),
            ("0.0.0.0/0", vec!["0.0.0.0/1"], "128.0.0.0/1"),
            ("::/0", vec!["8000::/1"], "::/1"),
            ("::/0", vec!["::/1"], "8000::/1"),
            ("10.0.0.0/8", vec!["11.0.0.0/8"], "10.0.0.0/8"),
        ] {
            assert_eq!(
                text(&ranges(&[from]).minus(&ranges(&except))),
                left,
                "{from}"
            );
        }
    }
}
