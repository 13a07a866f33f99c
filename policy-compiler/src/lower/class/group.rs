//! Rules of a class by what set their peers and ports can be elements of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::rectangles::{self, Area};
use super::{Context, Part};
use crate::ir::{PeerMatch, PeerMembers};
use crate::lower::sets::{addresses_of, named_port, ports_of};
use crate::model::{AddressRanges, Cidr, PortRange, PortRanges, Protocol};
use crate::ruleset::Value;

/// Where a rule goes. In the order in which their rules stand in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Every peer with every port.
    Everything,
    /// Every peer with these ports.
    EveryPeer,
    /// Pods with single ports, and named ports: address, protocol and port.
    Flat,
    /// Pods with every port: address.
    Pods,
    /// ipBlocks with every port: ranges of addresses.
    Blocks,
    /// ipBlocks with ports, and pods with ranges of ports: range of addresses, protocol, range of ports.
    Ranges,
}

/// Rules of a kind with the same ports. What many of them name is counted once.
pub(super) struct Group<'a> {
    pub(super) kind: Kind,
    pub(super) parts: Vec<Part<'a>>,
    ports: Option<(Protocol, &'a PortRanges)>,
    pods: BTreeSet<IpAddr>,
    named_ports: BTreeSet<(IpAddr, Protocol, u16)>,
    /// Of ipBlocks, and of pods where those are in a set of ranges.
    ranges: AddressRanges,
}

/// Groups the parts, in a stable order. The parts alone where the group needs more elements than rules may.
pub(super) fn groups<'a>(
    context: &Context<'a>,
    parts: &[Part<'a>],
) -> Vec<Result<Group<'a>, Vec<Part<'a>>>> {
    let mut groups: BTreeMap<_, Vec<Part<'a>>> = BTreeMap::new();
    for part in parts {
        let key = (kind(context, part), part.ports);
        groups.entry(key).or_default().push(*part);
    }
    groups
        .into_iter()
        .map(|((kind, ports), parts)| {
            let per_rule = context.merging.elements_per_rule;
            let most = per_rule.saturating_mul(parts.len());
            if parts
                .iter()
                .any(|part| needs_more(context, kind, part, most))
            {
                return Err(parts);
            }
            let group = Group::new(context, kind, ports, parts);
            match group.size() <= most {
                true => Ok(group),
                false => Err(group.parts),
            }
        })
        .collect()
}

/// Whether the part alone needs more elements, so that nobody has to gather them.
fn needs_more(context: &Context<'_>, kind: Kind, part: &Part<'_>, most: usize) -> bool {
    let ports = part.ports.map_or(1, |(_, ranges)| ranges.iter().count());
    let enough = most / ports.max(1) + 1;
    match (part.peer, kind) {
        (PeerMatch::Set(name), Kind::Flat | Kind::Pods) => {
            let Some(PeerMembers::Pods(addresses)) = context.members(name) else {
                return false;
            };
            let addresses = addresses_of(addresses, context.family);
            addresses.take(enough).count() == enough
        }
        (PeerMatch::NamedPorts(name), _) if part.ports.is_none() => {
            let set = context.ir.named_ports.get(name);
            let members = set.map(|set| ports_of(&set.members, context.family));
            members.into_iter().flatten().take(enough).count() == enough
        }
        _ => false,
    }
}

fn kind(context: &Context<'_>, part: &Part<'_>) -> Kind {
    let is_block = match part.peer {
        PeerMatch::Any if part.ports.is_none() => return Kind::Everything,
        PeerMatch::Any => return Kind::EveryPeer,
        PeerMatch::NamedPorts(_) => return Kind::Flat,
        PeerMatch::Set(name) => matches!(context.members(name), Some(PeerMembers::Block(_))),
    };
    let is_single = |range: PortRange| range.first() == range.last();
    match part.ports {
        None if is_block => Kind::Blocks,
        None => Kind::Pods,
        Some((_, ranges)) if !is_block && ranges.iter().all(is_single) => Kind::Flat,
        Some(_) => Kind::Ranges,
    }
}

impl<'a> Group<'a> {
    fn new(
        context: &Context<'a>,
        kind: Kind,
        ports: Option<(Protocol, &'a PortRanges)>,
        parts: Vec<Part<'a>>,
    ) -> Self {
        let mut pods = BTreeSet::new();
        let mut named_ports = BTreeSet::new();
        let mut blocks = Vec::new();
        for part in &parts {
            match part.peer {
                PeerMatch::Any => {}
                PeerMatch::Set(name) => match context.members(name) {
                    Some(PeerMembers::Pods(addresses)) => {
                        pods.extend(addresses_of(addresses, context.family));
                    }
                    Some(PeerMembers::Block(ranges)) => blocks.extend(ranges.iter().copied()),
                    None => {}
                },
                PeerMatch::NamedPorts(name) => {
                    let members = context.ir.named_ports.get(name).map(|set| &set.members);
                    let members = members.map(|members| ports_of(members, context.family));
                    let members = members.into_iter().flatten().copied();
                    named_ports.extend(members.filter(|(_, protocol, port)| {
                        ports.is_none_or(|(p, ranges)| p == *protocol && ranges.contains(*port))
                    }));
                }
            }
        }
        if kind == Kind::Ranges {
            blocks.extend(pods.iter().map(|pod| Cidr::host(*pod).range()));
        }
        Self {
            kind,
            parts,
            ports,
            pods,
            named_ports,
            ranges: blocks.into_iter().collect(),
        }
    }

    /// How many elements the group needs.
    pub(super) fn size(&self) -> usize {
        match self.kind {
            Kind::Everything | Kind::EveryPeer => 0,
            Kind::Flat => {
                let ports = self.ports.map_or(0, |(_, ranges)| ranges.iter().count());
                self.named_ports.len() + self.pods.len() * ports
            }
            Kind::Pods => self.pods.len(),
            Kind::Blocks => self.ranges.iter().count(),
            Kind::Ranges => self.area().map_or(0, |area| area.size()),
        }
    }

    fn area(&self) -> Option<Area<'_>> {
        let (protocol, ports) = self.ports?;
        Some(Area {
            protocol,
            ports,
            addresses: &self.ranges,
        })
    }

    /// Address, protocol and port of each element.
    fn flat(&self) -> impl Iterator<Item = (IpAddr, Protocol, u16)> {
        let single = |(protocol, ranges): (Protocol, &'a PortRanges)| {
            ranges.iter().map(move |range| (protocol, range.first()))
        };
        let ports = self.ports.into_iter().flat_map(single);
        let pods = ports.flat_map(|(protocol, port)| {
            let pods = self.pods.iter();
            pods.map(move |pod| (*pod, protocol, port))
        });
        pods.chain(self.named_ports.iter().copied())
    }
}

/// The elements that groups of a kind need together. None if there are more ranges than `most`.
pub(super) fn elements(
    kind: Kind,
    groups: &[Group<'_>],
    most: usize,
) -> Option<BTreeSet<Vec<Value>>> {
    let groups = groups.iter();
    Some(match kind {
        Kind::Everything | Kind::EveryPeer => BTreeSet::new(),
        Kind::Flat => {
            // Put in order before they are elements, which are bigger and slower to compare.
            let flat: BTreeSet<_> = groups.flat_map(Group::flat).collect();
            let flat = flat.into_iter();
            flat.map(|(address, protocol, port)| named_port(address, protocol, port))
                .collect()
        }
        Kind::Pods => {
            let pods = groups.flat_map(|group| &group.pods);
            pods.map(|pod| vec![Value::Address(*pod)]).collect()
        }
        Kind::Blocks => {
            let ranges: AddressRanges = groups
                .flat_map(|group| group.ranges.iter())
                .copied()
                .collect();
            ranges
                .iter()
                .map(|range| vec![Value::Addresses(*range)])
                .collect()
        }
        Kind::Ranges => {
            let areas: Vec<_> = groups.filter_map(Group::area).collect();
            let rectangles = rectangles::disjoint(&areas, most)?;
            rectangles.into_iter().map(|r| r.element()).collect()
        }
    })
}
