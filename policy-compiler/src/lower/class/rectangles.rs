//! Sets whose elements are a range of addresses, a protocol and a range of ports. The kernel refuses elements
//! that overlap, so rules that do are cut at the ports where one begins or ends; the union is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::{AddressRange, AddressRanges, PortRange, PortRanges, Protocol};
use crate::ruleset::Value;

/// How often an address may be looked at for each element of the set: ports that overlap many times over take long
/// to cut, also where little is left in the end.
const VISITS: usize = 32;

/// Addresses with ports: what rules with the same ports accept.
pub(super) struct Area<'a> {
    pub(super) protocol: Protocol,
    pub(super) ports: &'a PortRanges,
    pub(super) addresses: &'a AddressRanges,
}

/// An element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rectangle {
    addresses: AddressRange,
    protocol: Protocol,
    ports: PortRange,
}

impl Area<'_> {
    /// How many elements it needs if no other area overlaps.
    pub(super) fn size(&self) -> usize {
        self.addresses.iter().count() * self.ports.iter().count()
    }
}

impl Rectangle {
    /// `10.0.0.0/8 . tcp . 8000-8080`
    pub(super) fn element(self) -> Vec<Value> {
        vec![
            Value::Addresses(self.addresses),
            Value::Protocol(self.protocol),
            Value::Ports(self.ports),
        ]
    }

    /// What it costs the kernel, which splits ranges of a concatenation into networks.
    fn cost(&self) -> usize {
        address_prefixes(&self.addresses) + port_prefixes(self.ports)
    }
}

/// The union of the areas in disjoint pieces. None if they cost more than `most`.
pub(super) fn disjoint(areas: &[Area<'_>], most: usize) -> Option<Vec<Rectangle>> {
    let mut done: Vec<Rectangle> = Vec::new();
    let mut visited = 0;
    for protocol in Protocol::ALL {
        let mut inside = BTreeSet::new();
        // Addresses of areas inside which we are, with the port at which their rectangle begins.
        let mut open: BTreeMap<AddressRange, u32> = BTreeMap::new();
        for (edge, indices) in edges(areas, protocol) {
            for index in indices {
                if !inside.remove(&index) {
                    inside.insert(index);
                }
            }
            let here = inside
                .iter()
                .flat_map(|index| areas[*index].addresses.iter());
            let here: Vec<_> = here.copied().collect();
            visited += here.len();
            let union: AddressRanges = here.into_iter().collect();
            let still = union
                .iter()
                .map(|range| (*range, open.remove(range).unwrap_or(edge)));
            let still = still.collect();
            let closed = open.into_iter().filter_map(|(addresses, first)| {
                let ports = ports(first, edge - 1)?;
                Some(Rectangle {
                    addresses,
                    protocol,
                    ports,
                })
            });
            done.extend(closed);
            open = still;
            if done.len() > most || visited > most.saturating_mul(VISITS) {
                return None;
            }
        }
    }
    let cost: usize = done.iter().map(Rectangle::cost).sum();
    (cost <= most).then_some(done)
}

/// At each port, the areas that begin there or ended just before it. Ranges of one area do not touch.
fn edges(areas: &[Area<'_>], protocol: Protocol) -> BTreeMap<u32, Vec<usize>> {
    let mut edges: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, area) in areas
        .iter()
        .enumerate()
        .filter(|(_, area)| area.protocol == protocol)
    {
        for range in area.ports.iter() {
            edges.entry(range.first().into()).or_default().push(index);
            edges
                .entry(u32::from(range.last()) + 1)
                .or_default()
                .push(index);
        }
    }
    edges
}

fn ports(first: u32, last: u32) -> Option<PortRange> {
    PortRange::new(first.try_into().ok()?, last.try_into().ok()?)
}

/// How many networks make the range.
fn address_prefixes(range: &AddressRange) -> usize {
    let bits = |address| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    prefixes(bits(range.first()), bits(range.last()))
}

fn port_prefixes(range: PortRange) -> usize {
    prefixes(range.first().into(), range.last().into())
}

fn prefixes(mut first: u128, last: u128) -> usize {
    let mut count = 1;
    loop {
        // The largest network that begins here and ends in the range has 2^host_bits numbers.
        let Some(left) = (last - first).checked_add(1) else {
            return count;
        };
        let size = 1 << first.trailing_zeros().min(left.ilog2());
        if size == left {
            return count;
        }
        first += size;
        count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cidr;

    fn addresses(texts: &[&str]) -> AddressRanges {
        let cidrs: Vec<_> = texts
            .iter()
            .map(|text| Cidr::parse_strict(text).unwrap())
            .collect();
        AddressRanges::union(&cidrs)
    }

    fn port_ranges(ranges: &[(u16, u16)]) -> PortRanges {
        let mut ports = PortRanges::default();
        for (first, last) in ranges {
            ports.insert(PortRange::new(*first, *last).unwrap());
        }
        ports
    }

    /// A protocol, ranges of ports, and blocks.
    type Given<'a> = (Protocol, &'a [(u16, u16)], &'a [&'a str]);

    fn cut(areas: &[Given<'_>], most: usize) -> Option<Vec<String>> {
        let owned = areas.iter();
        let owned: Vec<_> = owned
            .map(|(protocol, ports, blocks)| (*protocol, port_ranges(ports), addresses(blocks)))
            .collect();
        let areas = owned.iter().map(|(protocol, ports, addresses)| Area {
            protocol: *protocol,
            ports,
            addresses,
        });
        let rectangles = disjoint(&areas.collect::<Vec<_>>(), most)?;
        let text = |r: &Rectangle| format!("{} {} {}", r.addresses, r.protocol, r.ports);
        Some(rectangles.iter().map(text).collect())
    }

    #[test]
    fn areas_that_overlap_are_cut_where_a_range_of_ports_begins_or_ends() {
        let areas: &[Given<'_>] = &[
            (Protocol::Tcp, &[(80, 90), (443, 443)], &["10.0.0.0/24"]),
            (Protocol::Tcp, &[(85, 65535)], &["10.0.1.0/24"]),
            (Protocol::Udp, &[(0, 65535)], &["10.0.0.0/25"]),
        ];
        let expected = [
            "10.0.0.0/24 TCP 80-84",
            "10.0.0.0/23 TCP 85-90",
            "10.0.1.0/24 TCP 91-442",
            "10.0.0.0/23 TCP 443",
            "10.0.1.0/24 TCP 444-65535",
            "10.0.0.0/25 UDP 0-65535",
        ];
        assert_eq!(cut(areas, 1000).unwrap(), expected);
        assert_eq!(cut(areas, 10), None);
    }

    #[test]
    fn areas_without_an_address_in_common_stay_whole() {
        let areas: &[Given<'_>] = &[
            (Protocol::Tcp, &[(80, 90)], &["10.0.0.0/24"]),
            (Protocol::Tcp, &[(85, 100)], &["10.0.2.0/24"]),
            (Protocol::Tcp, &[(91, 95)], &["10.0.0.0/24"]),
        ];
        let expected = ["10.0.0.0/24 TCP 80-95", "10.0.2.0/24 TCP 85-100"];
        assert_eq!(cut(areas, 1000).unwrap(), expected);
    }

    #[test]
    fn a_range_counts_as_the_networks_that_make_it() {
        for (first, last, count) in [
            (0, 0, 1),
            (80, 80, 1),
            (80, 81, 1),
            (1, 2, 2),
            (1, 65534, 30),
            (0, 65535, 1),
            (0, u128::MAX, 1),
            (1, u128::MAX, 128),
            (u128::MAX, u128::MAX, 1),
        ] {
            assert_eq!(prefixes(first, last), count, "{first}-{last}");
        }
        let areas: &[Given<'_>] = &[(Protocol::Tcp, &[(1, 2), (5, 5)], &["10.0.0.0/24"])];
        // Two elements; one of them has two networks of ports.
        assert_eq!(cut(areas, 5).map(|rectangles| rectangles.len()), Some(2));
        assert_eq!(cut(areas, 4), None);
    }
}
