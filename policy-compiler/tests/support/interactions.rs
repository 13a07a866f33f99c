//! Random clusters in which much can go wrong: blocks that touch, lie in each other and are reopened, ports at the
//! ends of ranges, names with several numbers, labels that many selectors find, addresses that two pods claim.
//!
//! And the flows that can tell right from wrong there.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy_compiler::evaluate::{Connection, Transport};
use policy_compiler::model::*;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::parts::{labels, protocol, selector};
use super::random::Random;

pub(crate) const NODES: [&str; 3] = ["n1", "n2", "n3"];
const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const PORT_NAMES: [&str; 2] = ["http", "dns"];
const LAST_PORT: u16 = 6;
/// Pods have lower ones.
const FIRST_NODE: u8 = 16;
/// A hostNetwork pod may have an address that its Node does not list.
const UNLISTED: u8 = 20;

fn v4(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, host).into()
}

fn v6(host: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into()).into()
}

/// A network that begins at or before the host, of so many addresses as a power of two, or all of a family.
fn cidr(six: bool, host: u8, power: u8) -> Cidr {
    let (address, bits) = if six { (v6(host), 128) } else { (v4(host), 32) };
    let length = bits - power.min(bits);
    Cidr::parse_lenient(&format!("{address}/{length}")).expect("a valid CIDR")
}

/// Blocks of at most 64 addresses around the pods', or of a half of the family, or of all.
fn block() -> impl Strategy<Value = IpBlock> {
    let power = prop_oneof![8 => 0..=6u8, 1 => Just(31), 1 => Just(127), 2 => Just(128)];
    // At the ends of a block, and anywhere in it.
    let except = (prop_oneof![0..32u8, Just(0), Just(31)], 0..=4u8);
    (any::<bool>(), 0..32u8, power, vec(except, 0..=3)).prop_map(|(six, host, power, excepts)| {
        let whole = cidr(six, host, power);
        let excepts = excepts
            .into_iter()
            .map(|(host, power)| cidr(six, host, power))
            .filter(|except| whole.strictly_contains(except))
            .collect();
        IpBlock::new(whole, excepts).expect("the excepts are strict subsets")
    })
}

fn peer(namespace: &'static str) -> impl Strategy<Value = Peer> {
    let scope = prop_oneof![
        Just(NamespaceScope::Own(namespace.to_owned())),
        selector().prop_map(NamespaceScope::Matching),
    ];
    prop_oneof![
        1 => (scope, selector()).prop_map(|(namespaces, pods)| Peer::Pods { namespaces, pods }),
        1 => block().prop_map(Peer::Block),
    ]
}

fn number() -> impl Strategy<Value = u16> {
    prop_oneof![8 => 1..=LAST_PORT, 1 => Just(u16::MAX)]
}

fn policy_port() -> impl Strategy<Value = PolicyPort> {
    let range = (number(), prop_oneof![4 => 0..3u16, 1 => Just(u16::MAX)]);
    let range = range.prop_map(|(first, more)| PortRange::new(first, first.saturating_add(more)));
    let port = prop_oneof![
        1 => Just(PortMatch::All),
        3 => range.prop_map(|range| PortMatch::Range(range.expect("not inverted"))),
        3 => (0..PORT_NAMES.len()).prop_map(|name| PortMatch::Named(PORT_NAMES[name].into())),
    ];
    (protocol(), port).prop_map(|(protocol, port)| PolicyPort { protocol, port })
}

fn rule(namespace: &'static str) -> impl Strategy<Value = Rule> {
    let peers = prop_oneof![
        1 => Just(Peers::Any),
        4 => vec(peer(namespace), 1..=3).prop_map(Peers::Of),
    ];
    let ports = prop_oneof![
        1 => Just(Ports::Any),
        3 => vec(policy_port(), 1..=4).prop_map(Ports::Of),
    ];
    (peers, ports).prop_map(|(peers, ports)| Rule { peers, ports })
}

/// Mostly few rules, now and then so many that they merge.
fn rules(namespace: &'static str) -> impl Strategy<Value = Option<Vec<Rule>>> {
    prop_oneof![
        2 => Just(None),
        6 => vec(rule(namespace), 0..=3).prop_map(Some),
        1 => vec(rule(namespace), 4..=16).prop_map(Some),
    ]
}

/// Most in one, so that they meet.
fn namespace() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(0), 2 => Just(1), 1 => Just(2)]
}

fn policy() -> impl Strategy<Value = (usize, LabelSelector, [Option<Vec<Rule>>; 2])> {
    namespace().prop_flat_map(|namespace| {
        let rules = || rules(NAMESPACES[namespace]);
        let selector = prop_oneof![1 => Just(LabelSelector::default()), 3 => selector()];
        (Just(namespace), selector, [rules(), rules()])
    })
}

fn container_port() -> impl Strategy<Value = ContainerPort> {
    let name = option::weighted(0.8, 0..PORT_NAMES.len());
    (name, protocol(), number()).prop_map(|(name, protocol, port)| ContainerPort {
        name: name.map(|name| PORT_NAMES[name].into()),
        protocol,
        port,
    })
}

/// A pod without its name.
fn pod() -> impl Strategy<Value = Pod> {
    let phase = prop_oneof![
        8 => Just(Phase::Running),
        1 => Just(Phase::Pending),
        1 => Just(Phase::Failed),
    ];
    let place = (
        namespace(),
        prop_oneof![3 => Just(0), 2 => Just(1), 1 => Just(2)],
    );
    // Some addresses are claimed twice, some pods have one family, and some none.
    let addresses = [0.85, 0.6].map(|weight| option::weighted(weight, 0..12u8));
    let flags = (
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        any::<bool>(),
    );
    (
        place,
        labels(),
        addresses,
        vec(container_port(), 0..=4),
        flags,
        phase,
    )
        .prop_map(
            |(
                (namespace, node),
                labels,
                [four, six],
                ports,
                (host_network, terminating, listed),
                phase,
            )| {
                let first = if listed { FIRST_NODE } else { UNLISTED };
                Pod {
                    id: NamespacedName::new(NAMESPACES[namespace], ""),
                    uid: None,
                    presence: Presence::Listed,
                    labels: labels.into(),
                    node: Some(NODES[node].to_owned()),
                    host_network,
                    phase,
                    terminating,
                    addresses: match host_network {
                        true => vec![v4(first + node as u8)],
                        false => four.map(v4).into_iter().chain(six.map(v6)).collect(),
                    },
                    ports: ports.into(),
                }
            },
        )
}

/// A cluster of at most 9 pods on 3 nodes, with at most 8 policies.
pub(crate) fn cluster() -> impl Strategy<Value = Cluster> {
    let namespaces = vec(option::weighted(0.9, labels()), NAMESPACES.len());
    let node_families = vec(btree_set(any::<bool>(), 1..=2), NODES.len());
    (
        namespaces,
        node_families,
        vec(pod(), 1..=9),
        vec(policy(), 0..=8),
    )
        .prop_map(|(namespaces, families, mut pods, policies)| {
            let namespaces = NAMESPACES.iter().zip(namespaces);
            let namespaces = namespaces.filter_map(|(name, labels)| {
                let mut labels = labels?;
                labels.insert("kubernetes.io/metadata.name".into(), (*name).into());
                Some(Namespace {
                    name: (*name).into(),
                    labels,
                })
            });
            let nodes = NODES.iter().zip(families).zip(FIRST_NODE..);
            let nodes = nodes.map(|((name, families), host)| Node {
                name: (*name).into(),
                addresses: families
                    .into_iter()
                    .map(|six| if six { v6(host) } else { v4(host) })
                    .collect(),
                pod_cidrs: vec![],
            });
            for (pod, index) in pods.iter_mut().zip(1..) {
                pod.id.name = format!("pod{index}");
            }
            let policies = policies.into_iter().zip(1..);
            let policies = policies.map(|((namespace, selector, [mut ingress, egress]), index)| {
                // A policy of no type is one for ingress.
                if ingress.is_none() && egress.is_none() {
                    ingress = Some(vec![]);
                }
                NetworkPolicy {
                    id: NamespacedName::new(NAMESPACES[namespace], format!("p{index}")),
                    selector,
                    ingress,
                    egress,
                }
            });
            Cluster::new(namespaces, nodes, pods, policies)
        })
}

/// The rules of all policies.
fn all_rules(cluster: &Cluster) -> impl Iterator<Item = &Rule> {
    cluster
        .policies
        .values()
        .flat_map(|policy| [&policy.ingress, &policy.egress])
        .flatten()
        .flatten()
}

/// The addresses of everything that has some, those at both sides of each end of a block and its excepts, and some
/// that nobody knows. None that a host may not send from.
pub(crate) fn addresses(cluster: &Cluster) -> BTreeSet<IpAddr> {
    let mut addresses: BTreeSet<IpAddr> = ["203.0.113.9", "2001:db8::9"]
        .iter()
        .map(|text| text.parse().expect("an address"))
        .collect();
    addresses.extend(cluster.pods.values().flat_map(|pod| &pod.addresses));
    addresses.extend(cluster.nodes.values().flat_map(|node| &node.addresses));
    let blocks = all_rules(cluster)
        .filter_map(|rule| match &rule.peers {
            Peers::Of(peers) => Some(peers),
            Peers::Any => None,
        })
        .flatten();
    for peer in blocks {
        let Peer::Block(block) = peer else { continue };
        for range in [&block.cidr()].into_iter().chain(block.except()) {
            let range = range.range();
            for end in [range.first(), range.last()] {
                addresses.extend(
                    [step(end, -1), Some(end), step(end, 1)]
                        .into_iter()
                        .flatten(),
                );
            }
        }
    }
    // The IPv6 address that IPv4 has in other places is no IPv4 address on the wire.
    let mapped = cluster.pods.values().flat_map(|pod| &pod.addresses);
    let mapped: Vec<_> = mapped
        .filter_map(|address| match address {
            IpAddr::V4(four) => Some(IpAddr::V6(four.to_ipv6_mapped())),
            IpAddr::V6(_) => None,
        })
        .take(2)
        .collect();
    addresses.extend(mapped);
    addresses.retain(|address| is_ordinary(*address));
    addresses
}

/// Whether a packet may have it as its source, and reach a host at it.
fn is_ordinary(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => {
            let first = four.octets()[0];
            first != 0 && first != 127 && first < 224
        }
        IpAddr::V6(six) => {
            !six.is_unspecified()
                && !six.is_loopback()
                && !six.is_multicast()
                && !six.is_unicast_link_local()
        }
    }
}

fn step(address: IpAddr, by: i8) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(four) => {
            Ipv4Addr::from_bits(four.to_bits().checked_add_signed(by.into())?).into()
        }
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits().checked_add_signed(by.into())?).into(),
    })
}

/// Ports at both sides of each end of a range, the numbers behind names, in all protocols; and no port.
pub(crate) fn transports(cluster: &Cluster) -> BTreeSet<Transport> {
    let mut numbers = BTreeSet::from([1, 2]);
    for rule in all_rules(cluster) {
        let Ports::Of(ports) = &rule.ports else {
            continue;
        };
        for port in ports {
            if let PortMatch::Range(range) = port.port {
                let (first, last) = (range.first(), range.last());
                numbers.extend([first.saturating_sub(1), first, last, last.saturating_add(1)]);
            }
        }
    }
    let ports = cluster.pods.values().flat_map(|pod| pod.ports.iter());
    numbers.extend(ports.map(|port| port.port));
    numbers.remove(&0);
    let mut transports = BTreeSet::from([Transport::Icmp]);
    for protocol in Protocol::ALL {
        transports.extend(
            numbers
                .iter()
                .map(|number| Transport::Port(protocol, *number)),
        );
    }
    transports
}

/// At most so many connections, all if there are no more. Most have a pod at an end at least.
pub(crate) fn connections(cluster: &Cluster, limit: usize) -> Vec<Connection> {
    let addresses = addresses(cluster);
    let is_pod = |address| matches!(cluster.owner(address), Owner::Pod(_));
    let mut pairs = Vec::new();
    let mut others = 0;
    for source in &addresses {
        for destination in &addresses {
            let of_a_pod = is_pod(*source) || is_pod(*destination);
            others += usize::from(!of_a_pod);
            if Family::of(*source) == Family::of(*destination) && (of_a_pod || others % 16 == 0) {
                pairs.push((*source, *destination));
            }
        }
    }
    let transports: Vec<_> = transports(cluster).into_iter().collect();
    let all = pairs.len() * transports.len();
    let mut chosen = Random(1);
    let indices: Vec<usize> = match all > limit {
        true => (0..limit).map(|_| chosen.below(all)).collect(),
        false => (0..all).collect(),
    };
    let connection = |index: usize| {
        let (source, destination) = pairs[index / transports.len()];
        Connection {
            source,
            destination,
            transport: transports[index % transports.len()],
        }
    };
    indices.into_iter().map(connection).collect()
}
