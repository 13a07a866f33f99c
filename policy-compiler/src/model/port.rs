//! Protocols and ports.

use std::fmt;

use schemars::JsonSchema;

/// A transport protocol that a policy can name.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Every protocol, in the order in which they are printed.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// As nft names it.
    pub fn nft_name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

/// The name of a container port (IANA service name).
pub type PortName = String;

/// What one entry of a rule's `ports` matches of a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortMatch {
    /// Every port of the protocol.
    All,
    /// Numbers.
    Range(PortRange),
    /// A name, resolved on the destination pod.
    Named(PortName),
}

/// A range of port numbers, first and last included, never inverted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String", extend("pattern" = "^[0-9]+(-[0-9]+)?$"))]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: PortRange = PortRange {
        first: 0,
        last: u16::MAX,
    };

    /// The range from `first` to `last`; nothing if it is inverted.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The range of one port.
    pub fn single(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// The first port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether the port is in the range.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for PortRange {
    /// As nft prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl serde::Serialize for PortRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A set of ports as disjoint ranges in order, none adjacent to the next.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, JsonSchema,
)]
#[serde(transparent)]
pub struct PortRanges(Vec<PortRange>);

impl PortRanges {
    /// Adds a range, merging what it touches. Many are collected faster.
    pub fn insert(&mut self, range: PortRange) {
        let from = self
            .0
            .partition_point(|other| other.last.saturating_add(1) < range.first);
        let to = self
            .0
            .partition_point(|other| other.first <= range.last.saturating_add(1));
        let touched = &self.0[from..to];
        let first = touched.first().map_or(range.first, |other| other.first);
        let last = touched.last().map_or(range.last, |other| other.last);
        let merged = PortRange {
            first: first.min(range.first),
            last: last.max(range.last),
        };
        self.0.splice(from..to, [merged]);
    }

    /// Whether the port is in the set.
    pub fn contains(&self, port: u16) -> bool {
        let from = self.0.partition_point(|range| range.last < port);
        self.0.get(from).is_some_and(|range| range.contains(port))
    }

    /// Whether every port is in the set.
    pub fn is_all(&self) -> bool {
        self.0 == [PortRange::ALL]
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = PortRange> {
        self.0.iter().copied()
    }
}

impl FromIterator<PortRange> for PortRanges {
    /// The union of the ranges.
    fn from_iter<I: IntoIterator<Item = PortRange>>(ranges: I) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_unstable();
        let mut merged: Vec<PortRange> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(previous) if range.first <= previous.last.saturating_add(1) => {
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

    #[test]
    fn port_ranges_merge_what_touches() {
        let mut ranges = PortRanges::default();
        for (first, last) in [(80, 80), (443, 443), (81, 90), (85, 100), (65535, 65535)] {
            ranges.insert(PortRange::new(first, last).expect("not inverted"));
        }
        let text: Vec<_> = ranges.iter().map(|range| range.to_string()).collect();
        assert_eq!(text, ["80-100", "443", "65535"]);
        assert!(ranges.contains(100) && !ranges.contains(101) && !ranges.is_all());
        ranges.insert(PortRange::ALL);
        assert!(ranges.is_all());
    }

    #[test]
    fn port_ranges_are_the_same_one_by_one_and_all_at_once() {
        // Ranges that lie apart, touch and overlap, at both ends of what there is.
        let edges = [0, 1, 2, 3, 5, 8, 65533, 65534, 65535];
        let ranges: Vec<_> = edges
            .iter()
            .flat_map(|first| edges.map(|last| PortRange::new(*first, last)))
            .flatten()
            .collect();
        for one in &ranges {
            for two in &ranges {
                for three in &ranges {
                    let three = [*one, *two, *three];
                    let mut inserted = PortRanges::default();
                    three.iter().for_each(|range| inserted.insert(*range));
                    let collected: PortRanges = three.into_iter().collect();
                    assert_eq!(inserted, collected, "{three:?}");
                    for port in (0..10).chain(65530..=65535) {
                        let holds = three.iter().any(|range| range.contains(port));
                        assert_eq!(collected.contains(port), holds, "{three:?} {port}");
                    }
                    let pairs = collected.0.windows(2);
                    for pair in pairs {
                        assert!(pair[0].last + 1 < pair[1].first, "{three:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_range_is_never_inverted() {
        assert_eq!(PortRange::new(81, 80), None);
        assert_eq!(PortRange::new(80, 80), Some(PortRange::single(80)));
    }
}
