//! What the rules of policies match. A rule is translated once, however many classes have it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ptr;
use std::rc::Rc;

use super::ResolvedPorts;
use super::peers::{NamedPortKey, PeerTable};
use crate::ir::{Match, PeerMatch, PortsMatch};
use crate::model::{
    Direction, Peer, Peers, PolicyPort, PortMatch, PortRange, PortRanges, Ports, Protocol, Rule,
};

/// A match before its peer has a name.
type Unnamed<'a> = (PeerKey<'a>, Rc<PortsMatch>);

/// Whom a match finds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PeerKey<'a> {
    /// Everyone.
    Any,
    /// The peer.
    Set(&'a Peer),
    /// What the peer has behind a port's name.
    NamedPorts(NamedPortKey<'a>),
}

/// The distinct matches of rules, numbered as they come.
#[derive(Default)]
pub(crate) struct Matches<'a> {
    numbers: BTreeMap<Unnamed<'a>, usize>,
    /// Of rules that match the same in every class. A rule is known by where it is: 250 classes with 10,000 rules
    /// each compare nothing else.
    shared: HashMap<*const Rule, Rc<[usize]>>,
}

impl<'a> Matches<'a> {
    /// The numbers of a rule's matches, in a class with these numbers behind the named ports of its pods.
    pub(super) fn of(
        &mut self,
        rule: &'a Rule,
        direction: Direction,
        ports: &ResolvedPorts,
    ) -> Rc<[usize]> {
        // A named port of an ingress rule may have another number in each class.
        let mut named = policy_ports(rule).filter(|port| matches!(port.port, PortMatch::Named(_)));
        if direction == Direction::Ingress && named.next().is_some() {
            return self.translate(rule, direction, ports);
        }
        if let Some(numbers) = self.shared.get(&ptr::from_ref(rule)) {
            return Rc::clone(numbers);
        }
        let numbers = self.translate(rule, direction, ports);
        self.shared.insert(ptr::from_ref(rule), Rc::clone(&numbers));
        numbers
    }

    fn translate(
        &mut self,
        rule: &'a Rule,
        direction: Direction,
        ports: &ResolvedPorts,
    ) -> Rc<[usize]> {
        let named_ports = peer_named_ports(rule, direction);
        let ports = numbers(rule, ports).map(Rc::new);
        let any = Rc::new(PortsMatch::Any);
        let mut matches = Vec::new();
        for peer in peers(rule) {
            if let Some(ports) = &ports {
                let peer = peer.map_or(PeerKey::Any, PeerKey::Set);
                matches.push(self.number((peer, Rc::clone(ports))));
            }
            for (name, protocol) in &named_ports {
                let key = PeerKey::NamedPorts((peer, name, *protocol));
                matches.push(self.number((key, Rc::clone(&any))));
            }
        }
        matches.into()
    }

    fn number(&mut self, matches: Unnamed<'a>) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(matches).or_insert(next)
    }

    /// The peers that the matches name.
    pub(super) fn peers(&self) -> PeerTable<'a> {
        let mut table = PeerTable::default();
        for (peer, _) in self.numbers.keys() {
            match peer {
                PeerKey::Any => {}
                PeerKey::Set(peer) => table.add_peer(peer),
                PeerKey::NamedPorts(key) => table.add_named_port(*key),
            }
        }
        table
    }

    /// Whom the matches find, each once.
    pub(crate) fn keys(&self) -> BTreeSet<PeerKey<'a>> {
        self.numbers.keys().map(|(peer, _)| *peer).collect()
    }

    /// The matches by their numbers.
    pub(crate) fn named(self, name_of: impl Fn(PeerKey<'a>) -> PeerMatch) -> Vec<NamedMatch> {
        let numbers = self.numbers.into_iter();
        let mut named: Vec<_> = numbers
            .map(|((peer, ports), number)| {
                let peer = name_of(peer);
                (number, NamedMatch { peer, ports })
            })
            .collect();
        named.sort_unstable_by_key(|(number, _)| *number);
        named.into_iter().map(|(_, named)| named).collect()
    }
}

/// A match whose ports other matches share.
pub(crate) struct NamedMatch {
    peer: PeerMatch,
    ports: Rc<PortsMatch>,
}

impl NamedMatch {
    pub(super) fn to_match(&self) -> Match {
        Match {
            peer: self.peer.clone(),
            ports: PortsMatch::clone(&self.ports),
        }
    }
}

pub(super) fn policy_ports(rule: &Rule) -> impl Iterator<Item = &PolicyPort> {
    match &rule.ports {
        Ports::Any => &[],
        Ports::Of(ports) => ports.as_slice(),
    }
    .iter()
}

/// The rule's peers; one `None` stands for every peer.
fn peers(rule: &Rule) -> Vec<Option<&Peer>> {
    match &rule.peers {
        Peers::Any => vec![None],
        Peers::Of(peers) => peers.iter().map(Some).collect(),
    }
}

/// Named ports that each destination resolves for itself: those of egress rules.
fn peer_named_ports(rule: &Rule, direction: Direction) -> BTreeSet<(&str, Protocol)> {
    if direction == Direction::Ingress {
        return BTreeSet::new();
    }
    policy_ports(rule)
        .filter_map(|port| match &port.port {
            PortMatch::Named(name) => Some((name.as_str(), port.protocol)),
            _ => None,
        })
        .collect()
}

/// The rule's ports that are numbers, names among them where `resolved` knows them. None if no number is left:
/// such a rule matches nothing, which must not be mistaken for matching every port.
fn numbers(rule: &Rule, resolved: &ResolvedPorts) -> Option<PortsMatch> {
    let Ports::Of(ports) = &rule.ports else {
        return Some(PortsMatch::Any);
    };
    let mut by_protocol: BTreeMap<Protocol, Vec<PortRange>> = BTreeMap::new();
    let mut add = |protocol, range| by_protocol.entry(protocol).or_default().push(range);
    for port in ports {
        match &port.port {
            PortMatch::All => add(port.protocol, PortRange::ALL),
            PortMatch::Range(range) => add(port.protocol, *range),
            PortMatch::Named(name) => {
                let numbers = resolved.get(&(name.clone(), port.protocol));
                for number in numbers.into_iter().flatten() {
                    add(port.protocol, PortRange::single(*number));
                }
            }
        }
    }
    let by_protocol: BTreeMap<_, PortRanges> = by_protocol
        .into_iter()
        .map(|(protocol, ranges)| (protocol, ranges.into_iter().collect()))
        .collect();
    (!by_protocol.is_empty()).then_some(PortsMatch::Of(by_protocol))
}
