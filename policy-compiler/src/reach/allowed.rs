//! Sets of protocols and ports.

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::evaluate::Transport;
use crate::model::{PortRange, PortRanges, Protocol};

/// What may pass between two ends: ports of protocols, and whether ICMP and the other protocols without ports may.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Allowed {
    /// Ports by protocol; no entry is empty.
    ports: BTreeMap<Protocol, PortRanges>,
    /// ICMP, and every protocol besides TCP, UDP and SCTP.
    icmp: bool,
}

impl Allowed {
    /// Every protocol and port.
    pub fn everything() -> Self {
        let mut all = PortRanges::default();
        all.insert(PortRange::ALL);
        Self {
            ports: Protocol::ALL.map(|protocol| (protocol, all.clone())).into(),
            icmp: true,
        }
    }

    /// These ports of a protocol.
    pub fn ports(protocol: Protocol, ranges: impl IntoIterator<Item = PortRange>) -> Self {
        let mut allowed = Self::default();
        for range in ranges {
            allowed.insert(protocol, range);
        }
        allowed
    }

    /// Adds ports.
    pub fn insert(&mut self, protocol: Protocol, range: PortRange) {
        self.ports.entry(protocol).or_default().insert(range);
    }

    /// Whether nothing may pass.
    pub fn is_nothing(&self) -> bool {
        self.ports.is_empty() && !self.icmp
    }

    /// Whether everything may pass.
    pub fn is_everything(&self) -> bool {
        *self == Self::everything()
    }

    /// Whether it holds a port, or ICMP.
    pub fn contains(&self, transport: Transport) -> bool {
        match transport {
            Transport::Port(protocol, port) => self
                .ports
                .get(&protocol)
                .is_some_and(|ranges| ranges.contains(port)),
            Transport::Icmp => self.icmp,
        }
    }

    /// Whether ICMP, and every protocol without ports, may pass.
    pub fn has_icmp(&self) -> bool {
        self.icmp
    }

    /// The ports of a protocol, in order.
    pub fn ranges(&self, protocol: Protocol) -> impl Iterator<Item = PortRange> {
        self.ports
            .get(&protocol)
            .into_iter()
            .flat_map(PortRanges::iter)
    }

    /// One member to show for all: a port that is not 0 where there is one.
    pub fn example(&self) -> Option<Transport> {
        let ports = Protocol::ALL.into_iter().find_map(|protocol| {
            let mut ranges = self.ranges(protocol);
            let range = ranges.find(|range| range.last() > 0)?;
            Some(Transport::Port(protocol, range.first().max(1)))
        });
        ports.or(self.icmp.then_some(Transport::Icmp))
    }

    /// What is in either.
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a || b)
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a && b)
    }

    /// What is in this and not in the other.
    pub fn minus(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a && !b)
    }

    fn combine(&self, other: &Self, holds: impl Fn(bool, bool) -> bool + Copy) -> Self {
        let ports = Protocol::ALL.into_iter().filter_map(|protocol| {
            let of = |allowed: &Self| allowed.ranges(protocol).collect::<Vec<_>>();
            let ranges = combine(&of(self), &of(other), holds);
            ranges.iter().next()?;
            Some((protocol, ranges))
        });
        Self {
            ports: ports.collect(),
            icmp: holds(self.icmp, other.icmp),
        }
    }
}

/// Walks both lists from one boundary to the next. Both are in order.
fn combine(a: &[PortRange], b: &[PortRange], holds: impl Fn(bool, bool) -> bool) -> PortRanges {
    let starts = |ranges: &[PortRange]| {
        let bounds = ranges
            .iter()
            .flat_map(|range| [u32::from(range.first()), u32::from(range.last()) + 1]);
        bounds.collect::<Vec<_>>()
    };
    let mut bounds = [starts(a), starts(b)].concat();
    bounds.sort_unstable();
    bounds.dedup();
    let within = |ranges: &[PortRange], port: u16| {
        let after = ranges.partition_point(|range| range.first() <= port);
        after > 0 && ranges[after - 1].contains(port)
    };
    let ranges = bounds.windows(2).filter_map(|pair| {
        let (first, last) = (
            u16::try_from(pair[0]).ok()?,
            u16::try_from(pair[1] - 1).ok()?,
        );
        let holds = holds(within(a, first), within(b, first));
        PortRange::new(first, last).filter(|_| holds)
    });
    ranges.collect()
}

impl fmt::Display for Allowed {
    /// `TCP 80,443-445; UDP; ICMP`; a protocol alone means all of its ports. `everything` and `nothing`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_nothing() {
            return f.write_str("nothing");
        }
        if self.is_everything() {
            return f.write_str("everything");
        }
        let mut parts: Vec<String> = self
            .ports
            .iter()
            .map(|(protocol, ranges)| {
                if ranges.is_all() {
                    return protocol.to_string();
                }
                let ranges: Vec<_> = ranges.iter().map(|range| range.to_string()).collect();
                format!("{protocol} {}", ranges.join(","))
            })
            .collect();
        if self.icmp {
            parts.push("ICMP".into());
        }
        f.write_str(&parts.join("; "))
    }
}

impl Serialize for Allowed {
    /// `{"TCP": ["80", "443-445"], "ICMP": true}`; what is not allowed is absent.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (protocol, ranges) in &self.ports {
            map.serialize_entry(protocol, ranges)?;
        }
        if self.icmp {
            map.serialize_entry("ICMP", &true)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(ranges: &[(u16, u16)]) -> Allowed {
        let ranges = ranges
            .iter()
            .map(|(first, last)| PortRange::new(*first, *last));
        Allowed::ports(
            Protocol::Tcp,
            ranges.map(|range| range.expect("not inverted")),
        )
    }

    #[test]
    fn sets_are_combined_port_by_port() {
        let a = tcp(&[(1, 10), (20, 30), (65535, 65535)]);
        let b = tcp(&[(5, 25), (65535, 65535)]);
        assert_eq!(a.union(&b), tcp(&[(1, 30), (65535, 65535)]));
        assert_eq!(
            a.intersection(&b),
            tcp(&[(5, 10), (20, 25), (65535, 65535)])
        );
        assert_eq!(a.minus(&b), tcp(&[(1, 4), (26, 30)]));
        assert!(a.minus(&a).is_nothing());
        let all = Allowed::everything();
        assert_eq!(all.minus(&a).union(&a), all);
        assert_eq!(all.intersection(&a), a);
    }

    #[test]
    fn sets_are_named_shortly() {
        let all_tcp = tcp(&[(0, 65535)]);
        assert_eq!(Allowed::everything().to_string(), "everything");
        assert_eq!(Allowed::default().to_string(), "nothing");
        assert_eq!(tcp(&[(80, 80), (443, 445)]).to_string(), "TCP 80,443-445");
        assert_eq!(
            Allowed::everything().minus(&all_tcp).to_string(),
            "UDP; SCTP; ICMP"
        );
    }

    #[test]
    fn an_example_is_a_port_that_a_client_can_use() {
        assert_eq!(
            tcp(&[(0, 9)]).example(),
            Some(Transport::Port(Protocol::Tcp, 1))
        );
        assert_eq!(Allowed::default().example(), None);
        let only_icmp = Allowed {
            icmp: true,
            ..Allowed::default()
        };
        assert_eq!(only_icmp.example(), Some(Transport::Icmp));
    }
}
