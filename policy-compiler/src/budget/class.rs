//! What a class needs: its rules, and the sets into which it merges them.

use std::collections::{BTreeMap, BTreeSet};

use super::count::peers;
use super::pods::NamedPort;
use crate::lower::Merging;
use crate::model::{
    Direction, LabelSelector, NamespaceScope, Peer, PortMatch, PortRange, Ports, Protocol,
    Requirement, Rule,
};

/// Both families are counted together, and each may have what [`Merging`] bounds.
const FAMILIES: usize = 2;

/// How large a policy's rule is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RuleSize {
    /// nft rules.
    pub(super) parts: usize,
    /// Ports of all nft rules.
    pub(super) ports: usize,
    /// Values and excepts of its peers.
    pub(super) terms: usize,
    /// Addresses of its peers.
    pub(super) addresses: usize,
    /// Addresses with ports, behind names of egress ports.
    pub(super) named: usize,
}

impl RuleSize {
    pub(super) fn add(self, other: Self) -> Self {
        Self {
            parts: self.parts.saturating_add(other.parts),
            ports: self.ports.saturating_add(other.ports),
            terms: self.terms.saturating_add(other.terms),
            addresses: self.addresses.saturating_add(other.addresses),
            named: self.named.saturating_add(other.named),
        }
    }
}

/// The size of a rule but for the pods that it finds.
pub(super) fn size(rule: &Rule, direction: Direction) -> RuleSize {
    let mut count = 0;
    let mut terms = 0;
    for peer in peers(rule) {
        count += 1;
        terms += peer.map_or(1, self::terms);
    }
    let (parts, ports) = match &rule.ports {
        Ports::Any => (1, 0),
        Ports::Of(ports) => {
            let mut protocols = BTreeSet::new();
            let mut names = BTreeSet::new();
            for port in ports {
                match &port.port {
                    PortMatch::Named(name) if direction == Direction::Egress => {
                        names.insert((name, port.protocol));
                    }
                    _ => {
                        protocols.insert(port.protocol);
                    }
                }
            }
            (protocols.len() + names.len(), ports.len())
        }
    };
    RuleSize {
        parts: parts * count,
        ports: ports * count,
        terms,
        ..RuleSize::default()
    }
}

/// What it takes to compare the peer with another.
fn terms(peer: &Peer) -> usize {
    let of_selector = |selector: &LabelSelector| {
        let requirements = selector
            .requirements()
            .map(|requirement| match requirement {
                Requirement::In(_, values) | Requirement::NotIn(_, values) => values.len(),
                Requirement::Exists(_) | Requirement::DoesNotExist(_) => 1,
            });
        requirements.sum::<usize>()
    };
    match peer {
        Peer::Block(block) => 1 + block.except().len(),
        Peer::Pods { namespaces, pods } => {
            let namespaces = match namespaces {
                NamespaceScope::Own(_) => 1,
                NamespaceScope::Matching(selector) => of_selector(selector),
            };
            1 + namespaces + of_selector(pods)
        }
    }
}

/// How many ports the rule has on pods with these, besides one for each that it lists: a pod may give a name to several.
pub(super) fn more_ports(rule: &Rule, named: &BTreeSet<NamedPort<'_>>) -> usize {
    let Ports::Of(ports) = &rule.ports else {
        return 0;
    };
    let more = ports.iter().map(|port| match &port.port {
        PortMatch::Named(name) => {
            let of_name = named
                .iter()
                .filter(|(n, protocol, _)| n == name && *protocol == port.protocol);
            of_name.count().saturating_sub(1)
        }
        _ => 0,
    });
    more.sum::<usize>() * peers(rule).count()
}

/// Whether the rule names ports.
pub(super) fn names_ports(rule: &Rule) -> bool {
    let Ports::Of(ports) = &rule.ports else {
        return false;
    };
    ports
        .iter()
        .any(|port| matches!(port.port, PortMatch::Named(_)))
}

/// What a class needs besides shared sets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Merged {
    pub(super) elements: usize,
    pub(super) steps: usize,
}

/// Rules with the same ports.
#[derive(Default)]
struct Group {
    parts: usize,
    addresses: usize,
}

/// The ports of one protocol in order, none touching the next.
type Ranges = (Protocol, Vec<PortRange>);

impl Merged {
    /// Of rules and their sizes. `ports` are those of the class's pods.
    pub(super) fn of<'r>(
        direction: Direction,
        rules: impl Iterator<Item = (&'r Rule, &'r RuleSize)>,
        ports: &BTreeSet<NamedPort<'_>>,
    ) -> Self {
        let merging = Merging::default();
        let rules: Vec<_> = rules.collect();
        let parts: usize = rules.iter().map(|(_, size)| size.parts).sum();
        if parts <= merging.above {
            return Self::default();
        }
        let mut gathered: usize = 0;
        let mut groups: BTreeMap<Option<Ranges>, Group> = BTreeMap::new();
        for (rule, size) in rules {
            let (numbers, any) = ranges(rule, direction, ports);
            let keys = numbers.into_iter().map(Some).chain(any.then_some(None));
            for key in keys {
                let group = groups.entry(key).or_default();
                group.parts += size.parts;
                group.addresses = group.addresses.saturating_add(size.addresses);
                gathered = gathered.saturating_add(size.addresses);
            }
            if size.named > 0 {
                let group = groups.entry(None).or_default();
                group.parts += size.parts;
                group.addresses = group.addresses.saturating_add(size.named);
                gathered = gathered.saturating_add(size.named);
            }
        }
        let (mut plain, mut sum): (usize, usize) = (0, 0);
        let mut areas = Vec::new();
        for (key, group) in &groups {
            // A group that needs more stays as it is, and shares the sets of peers.
            let most = FAMILIES * merging.elements_per_rule * group.parts;
            match key {
                None => plain = plain.saturating_add(group.addresses.min(most)),
                Some((protocol, ranges)) => {
                    let addresses = group.addresses.min(most / ranges.len());
                    sum = sum.saturating_add(addresses.saturating_mul(ranges.len()));
                    areas.push((*protocol, ranges.as_slice(), addresses));
                }
            }
        }
        let cut = cut(&areas);
        // Areas that cannot be cut within the bound stay as they are.
        let most = sum.saturating_add(FAMILIES * merging.ranges);
        Self {
            elements: plain.saturating_add(cut.min(most)),
            steps: gathered.saturating_add(cut),
        }
    }
}

/// The numbers of the rule's ports by protocol, and whether it is for every port.
fn ranges(
    rule: &Rule,
    direction: Direction,
    named: &BTreeSet<NamedPort<'_>>,
) -> (Vec<Ranges>, bool) {
    let Ports::Of(ports) = &rule.ports else {
        return (Vec::new(), true);
    };
    let mut by_protocol: BTreeMap<Protocol, Vec<PortRange>> = BTreeMap::new();
    for port in ports {
        let ranges = by_protocol.entry(port.protocol).or_default();
        match &port.port {
            PortMatch::All => ranges.push(PortRange::ALL),
            PortMatch::Range(range) => ranges.push(*range),
            PortMatch::Named(name) if direction == Direction::Ingress => {
                let of_name = named
                    .iter()
                    .filter(|(n, protocol, _)| n == name && *protocol == port.protocol);
                ranges.extend(of_name.map(|(.., number)| PortRange::single(*number)));
            }
            PortMatch::Named(_) => {}
        }
    }
    by_protocol.retain(|_, ranges| !ranges.is_empty());
    let merged = |(protocol, ranges)| (protocol, merged(ranges));
    (by_protocol.into_iter().map(merged).collect(), false)
}

/// The ranges in order; those that touch are one.
fn merged(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, previous| {
        let touches = next.first() <= previous.last().saturating_add(1);
        if touches {
            let last = previous.last().max(next.last());
            // Never inverted: the ranges are sorted.
            *previous = PortRange::new(previous.first(), last).unwrap_or(*previous);
        }
        touches
    });
    ranges
}

/// In how many pieces areas are cut, if they are at every port at which one of them begins or ends: ports that overlap
/// many times over need a piece of each address for each.
fn cut(areas: &[(Protocol, &[PortRange], usize)]) -> usize {
    let mut edges: BTreeMap<(Protocol, u32), (usize, usize)> = BTreeMap::new();
    for (protocol, ranges, addresses) in areas {
        for range in *ranges {
            let begin = (*protocol, u32::from(range.first()));
            let end = (*protocol, u32::from(range.last()) + 1);
            edges.entry(begin).or_default().0 += addresses;
            edges.entry(end).or_default().1 += addresses;
        }
    }
    let (mut open, mut pieces): (usize, usize) = (0, 0);
    for (begins, ends) in edges.into_values() {
        open = open.saturating_add(begins).saturating_sub(ends);
        pieces = pieces.saturating_add(open);
    }
    pieces
}
