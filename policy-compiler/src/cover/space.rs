//! Addresses and ports as exact sets, as few of them as tell all rules of a namespace apart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::{
    AddressRange, Cidr, Cluster, Direction, Family, NamespaceScope, NetworkPolicy, Owner, Peer,
    Peers, Pod, PolicyPort, PortMatch, PortName, PortRange, PortRanges, Ports, Protocol, Rule,
};

/// The numbers behind names of ports.
type Numbers = BTreeMap<(PortName, Protocol), BTreeSet<u16>>;

/// Pods to which the same policies apply in one direction, with the same numbers behind named ports.
pub(super) struct Subject<'a> {
    /// The policies that isolate them.
    pub(super) policies: Vec<&'a NetworkPolicy>,
    numbers: Numbers,
}

/// The isolated pods of a namespace; hostNetwork pods and those that have ended are not among them.
pub(super) fn subjects<'a>(
    cluster: &'a Cluster,
    namespace: &str,
    direction: Direction,
) -> Vec<Subject<'a>> {
    let policies: Vec<_> = cluster
        .policies_in(namespace)
        .filter(|policy| policy.rules(direction).is_some())
        .collect();
    let names = names_in(policies.iter().copied());
    let mut subjects = BTreeMap::new();
    let pods = cluster.pods.values().filter(|pod| pod.is_on_pod_network());
    for pod in pods.filter(|pod| pod.id.namespace == namespace) {
        let selecting: Vec<_> = policies
            .iter()
            .copied()
            .filter(|policy| policy.selector.matches(&pod.labels))
            .collect();
        if selecting.is_empty() {
            continue;
        }
        let ids: Vec<_> = selecting.iter().map(|policy| &policy.id).collect();
        let numbers = numbers_of(pod, &names);
        subjects.entry((ids, numbers.clone())).or_insert(Subject {
            policies: selecting,
            numbers,
        });
    }
    subjects.into_values().collect()
}

/// Addresses that no peer and no named port tells apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Address {
    /// Which peers match, in the order of the space's.
    matching: Vec<bool>,
    /// Of the pod that has the address.
    numbers: Numbers,
}

/// Every address there is, as far as the policies of a namespace tell them apart.
pub(super) struct Space<'a> {
    peers: BTreeMap<&'a Peer, usize>,
    addresses: BTreeSet<Address>,
}

impl<'a> Space<'a> {
    pub(super) fn of(
        cluster: &Cluster,
        policies: impl Iterator<Item = &'a NetworkPolicy> + Clone,
    ) -> Self {
        let mut peers: BTreeMap<&Peer, usize> = BTreeMap::new();
        for peer in rules_in(policies.clone()).flat_map(peers_of) {
            let next = peers.len();
            peers.entry(peer).or_insert(next);
        }
        let names = names_in(policies);
        let mut space = Self {
            peers,
            addresses: BTreeSet::new(),
        };
        let pods = cluster.pods.values().filter(|pod| pod.is_on_pod_network());
        let mut taken = BTreeSet::new();
        for pod in pods {
            for address in cluster.addresses_of(pod) {
                taken.insert(address);
                // Nobody's rules resolve a name on a pod that is no peer.
                let numbers = match pod.is_peer() {
                    true => numbers_of(pod, &names),
                    false => Numbers::new(),
                };
                space.insert(cluster, address, numbers);
            }
        }
        for address in space.others(&taken) {
            space.insert(cluster, address, Numbers::new());
        }
        space
    }

    fn insert(&mut self, cluster: &Cluster, address: IpAddr, numbers: Numbers) {
        let mut matching = vec![false; self.peers.len()];
        for (peer, index) in &self.peers {
            matching[*index] = matches(cluster, peer, address);
        }
        self.addresses.insert(Address { matching, numbers });
    }

    /// One address that is no pod's from each stretch that blocks do not cut.
    fn others(&self, taken: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
        let whole: Vec<AddressRange> = ["0.0.0.0/0", "::/0"]
            .iter()
            .filter_map(|text| Cidr::parse_strict(text).ok())
            .map(|cidr| cidr.range())
            .collect();
        let mut starts: BTreeSet<IpAddr> = whole.iter().map(AddressRange::first).collect();
        for peer in self.peers.keys() {
            let Peer::Block(block) = peer else { continue };
            for range in block.ranges().iter() {
                starts.insert(range.first());
                starts.extend(next(range.last()));
            }
        }
        let starts: Vec<_> = starts.into_iter().collect();
        let mut found = Vec::new();
        for (index, start) in starts.iter().enumerate() {
            let end = starts.get(index + 1);
            let mut address = Some(*start);
            while let Some(candidate) = address.filter(|address| taken.contains(address)) {
                address = next(candidate);
            }
            let inside = |address: &IpAddr| {
                Family::of(*address) == Family::of(*start) && end.is_none_or(|end| address < end)
            };
            found.extend(address.filter(inside));
        }
        found
    }

    /// What the rule allows the subject, for each kind of address in order.
    pub(super) fn allowed(
        &self,
        rule: &Rule,
        direction: Direction,
        subject: &Subject<'_>,
    ) -> Vec<Allowed> {
        let peers: Vec<usize> = peers_of(rule)
            .filter_map(|peer| self.peers.get(peer).copied())
            .collect();
        let allowed = |address: &Address| {
            let is_peer = match &rule.peers {
                Peers::Any => true,
                Peers::Of(_) => peers.iter().any(|peer| address.matching[*peer]),
            };
            let numbers = match direction {
                Direction::Ingress => &subject.numbers,
                Direction::Egress => &address.numbers,
            };
            if is_peer {
                Allowed::of(&rule.ports, numbers)
            } else {
                Allowed::default()
            }
        };
        self.addresses.iter().map(allowed).collect()
    }
}

/// A set of ports of the transport protocols, and whether the other protocols are in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Allowed {
    other_protocols: bool,
    ports: BTreeMap<Protocol, PortRanges>,
}

impl Allowed {
    fn of(ports: &Ports, numbers: &Numbers) -> Self {
        let mut allowed = Self::default();
        match ports {
            Ports::Any => {
                allowed.other_protocols = true;
                for protocol in Protocol::ALL {
                    allowed.insert(protocol, PortRange::ALL);
                }
            }
            Ports::Of(ports) => ports.iter().for_each(|port| allowed.add(port, numbers)),
        }
        allowed
    }

    fn add(&mut self, port: &PolicyPort, numbers: &Numbers) {
        match &port.port {
            PortMatch::All => self.insert(port.protocol, PortRange::ALL),
            PortMatch::Range(range) => self.insert(port.protocol, *range),
            PortMatch::Named(name) => {
                for number in numbers
                    .get(&(name.clone(), port.protocol))
                    .into_iter()
                    .flatten()
                {
                    self.insert(port.protocol, PortRange::single(*number));
                }
            }
        }
    }

    fn insert(&mut self, protocol: Protocol, range: PortRange) {
        self.ports.entry(protocol).or_default().insert(range);
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.other_protocols && self.ports.is_empty()
    }

    pub(super) fn plus(mut self, other: &Self) -> Self {
        self.other_protocols |= other.other_protocols;
        for (protocol, ranges) in &other.ports {
            ranges
                .iter()
                .for_each(|range| self.insert(*protocol, range));
        }
        self
    }

    /// Ranges are merged, so that each of a subset is inside of one.
    pub(super) fn contains(&self, other: &Self) -> bool {
        let has = |protocol: &Protocol, range: PortRange| {
            self.ports.get(protocol).is_some_and(|ranges| {
                let mut ranges = ranges.iter();
                ranges.any(|own| own.first() <= range.first() && range.last() <= own.last())
            })
        };
        let mut ports = other.ports.iter();
        (self.other_protocols || !other.other_protocols)
            && ports.all(|(protocol, ranges)| ranges.iter().all(|range| has(protocol, range)))
    }
}

fn matches(cluster: &Cluster, peer: &Peer, address: IpAddr) -> bool {
    match (peer, cluster.owner(address)) {
        (Peer::Block(block), _) => block.contains(address),
        (Peer::Pods { .. }, Owner::Pod(pod)) => pod.is_peer() && selects(cluster, peer, pod),
        (Peer::Pods { .. }, _) => false,
    }
}

/// Whether the peer's selectors find the pod by its labels and its namespace's; never for a block. Whether the pod is
/// on the network as itself is not asked.
pub fn selects(cluster: &Cluster, peer: &Peer, pod: &Pod) -> bool {
    let Peer::Pods { namespaces, pods } = peer else {
        return false;
    };
    let in_namespace = match namespaces {
        NamespaceScope::Own(own) => *own == pod.id.namespace,
        NamespaceScope::Matching(selector) => cluster
            .namespace_labels(&pod.id.namespace)
            .is_some_and(|labels| selector.matches(labels)),
    };
    in_namespace && pods.matches(&pod.labels)
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address
            .to_bits()
            .checked_add(1)
            .map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(address) => address
            .to_bits()
            .checked_add(1)
            .map(|bits| IpAddr::V6(bits.into())),
    }
}

fn numbers_of(pod: &Pod, names: &BTreeSet<(PortName, Protocol)>) -> Numbers {
    let numbers = |(name, protocol): &(PortName, Protocol)| {
        let numbers: BTreeSet<_> = pod.numbers_of(name, *protocol).collect();
        (!numbers.is_empty()).then(|| ((name.clone(), *protocol), numbers))
    };
    names.iter().filter_map(numbers).collect()
}

fn names_in<'a>(
    policies: impl Iterator<Item = &'a NetworkPolicy>,
) -> BTreeSet<(PortName, Protocol)> {
    let ports = rules_in(policies).flat_map(|rule| match &rule.ports {
        Ports::Any => [].iter(),
        Ports::Of(ports) => ports.iter(),
    });
    ports
        .filter_map(|port| match &port.port {
            PortMatch::Named(name) => Some((name.clone(), port.protocol)),
            _ => None,
        })
        .collect()
}

fn rules_in<'a>(
    policies: impl Iterator<Item = &'a NetworkPolicy>,
) -> impl Iterator<Item = &'a Rule> {
    policies.flat_map(|policy| policy.ingress.iter().chain(&policy.egress).flatten())
}

fn peers_of(rule: &Rule) -> impl Iterator<Item = &Peer> {
    match &rule.peers {
        Peers::Any => [].iter(),
        Peers::Of(peers) => peers.iter(),
    }
}
