//! Small random clusters in which everything can meet everything: few names, few addresses, few ports.

mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy_compiler::evaluate::{Connection, Transport};
use policy_compiler::model::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use parts::{labels, protocol, selector};

pub(crate) const NODES: [&str; 2] = ["n1", "n2"];
const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const PORT_NAMES: [&str; 2] = ["http", "dns"];
const LAST_PORT: u16 = 5;
/// Pods have so many link-local addresses.
const LINK_LOCAL: u8 = 3;

pub(crate) fn v4(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, host).into()
}

pub(crate) fn v6(host: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into()).into()
}

/// That of a pod of which an interface is known.
pub(crate) fn link_local(host: u8) -> IpAddr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host.into()).into()
}

fn cidr(v6_family: bool, host: u8, length: u8) -> Cidr {
    let text = if v6_family {
        format!("{}/{}", v6(host), 96 + length)
    } else {
        format!("{}/{length}", v4(host))
    };
    Cidr::parse_lenient(&text).expect("a valid CIDR")
}

fn block() -> impl Strategy<Value = IpBlock> {
    let whole = (any::<bool>(), 0..16u8, prop_oneof![Just(0u8), 27..=32u8]);
    let excepts = vec((0..16u8, 28..=32u8), 0..=3);
    (whole, excepts).prop_map(|((family, host, length), excepts)| {
        let whole = cidr(family, host, length);
        let excepts = excepts
            .into_iter()
            .map(|(host, length)| cidr(family, host, length))
            .filter(|except| whole.strictly_contains(except))
            .collect();
        IpBlock::new(whole, excepts).expect("the excepts are strict subsets")
    })
}

fn peer(namespace: String) -> impl Strategy<Value = Peer> {
    let scope = prop_oneof![
        Just(NamespaceScope::Own(namespace)),
        selector().prop_map(NamespaceScope::Matching),
    ];
    prop_oneof![
        2 => (scope, selector()).prop_map(|(namespaces, pods)| Peer::Pods { namespaces, pods }),
        1 => block().prop_map(Peer::Block),
    ]
}

fn policy_port() -> impl Strategy<Value = PolicyPort> {
    let range = (1..=LAST_PORT, 0..3u16);
    let range = range.prop_map(|(first, more)| PortRange::new(first, first + more));
    let port = prop_oneof![
        1 => Just(PortMatch::All),
        3 => range.prop_map(|range| PortMatch::Range(range.expect("not inverted"))),
        2 => (0..PORT_NAMES.len()).prop_map(|name| PortMatch::Named(PORT_NAMES[name].into())),
    ];
    (protocol(), port).prop_map(|(protocol, port)| PolicyPort { protocol, port })
}

fn rule(namespace: String) -> impl Strategy<Value = Rule> {
    let peers = prop_oneof![
        1 => Just(Peers::Any),
        3 => vec(peer(namespace), 1..=2).prop_map(Peers::Of),
    ];
    let ports = prop_oneof![
        1 => Just(Ports::Any),
        2 => vec(policy_port(), 1..=3).prop_map(Ports::Of),
    ];
    (peers, ports).prop_map(|(peers, ports)| Rule { peers, ports })
}

fn policy(index: usize) -> impl Strategy<Value = NetworkPolicy> {
    (0..NAMESPACES.len()).prop_flat_map(move |namespace| {
        let namespace = NAMESPACES[namespace].to_owned();
        let rules = || option::weighted(0.7, vec(rule(namespace.clone()), 0..=2));
        let id = NamespacedName::new(namespace.clone(), format!("p{index}"));
        (selector(), rules(), rules()).prop_map(move |(selector, ingress, egress)| NetworkPolicy {
            id: id.clone(),
            selector,
            ingress,
            egress,
        })
    })
}

fn pod(index: usize) -> impl Strategy<Value = Pod> {
    let port = (option::of(0..PORT_NAMES.len()), protocol(), 1..=LAST_PORT);
    let port = port.prop_map(|(name, protocol, port)| ContainerPort {
        name: name.map(|name| PORT_NAMES[name].into()),
        protocol,
        port,
    });
    let phase = prop_oneof![
        6 => Just(Phase::Running),
        1 => Just(Phase::Pending),
        1 => Just(Phase::Failed),
    ];
    let place = (0..NAMESPACES.len(), option::weighted(0.9, 0..NODES.len()));
    // Some addresses are claimed twice, and some pods have none.
    let addresses = (
        option::weighted(0.8, 0..8u8),
        option::weighted(0.5, 0..8u8),
        option::weighted(0.6, 0..LINK_LOCAL),
    );
    let presence = prop_oneof![
        8 => Just(Presence::Listed),
        2 => Just(Presence::Attached),
        1 => Just(Presence::Orphaned),
    ];
    let phase = (phase, presence);
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.1), phase);
    (place, labels(), addresses, vec(port, 0..=3), flags).prop_map(
        move |(
            (namespace, node),
            labels,
            (four, six, on_link),
            ports,
            (host_network, terminating, (phase, presence)),
        )| Pod {
            id: NamespacedName::new(NAMESPACES[namespace], format!("pod{index}")),
            uid: None,
            presence,
            labels: labels.into(),
            node: node.map(|node| NODES[node].to_owned()),
            host_network,
            phase,
            terminating,
            addresses: match (host_network, node) {
                (true, Some(node)) => vec![v4(8 + node as u8)],
                // A pod that is on no node yet has no address.
                (_, None) => vec![],
                (false, Some(_)) => {
                    let on_link = on_link.filter(|_| presence != Presence::Listed);
                    let six = six.map(v6).into_iter().chain(on_link.map(link_local));
                    four.map(v4).into_iter().chain(six).collect()
                }
            },
            ports: ports.into(),
        },
    )
}

/// A cluster of at most 8 pods on 2 nodes, with at most 5 policies.
pub(crate) fn cluster() -> impl Strategy<Value = Cluster> {
    let policies = (0..=5usize).prop_flat_map(|count| (0..count).map(policy).collect::<Vec<_>>());
    cluster_with(policies)
}

/// A cluster whose classes have many rules: up to 20 for each direction of a whole namespace. Few are for every
/// peer, since those hide the others.
#[allow(dead_code, reason = "not every test is about many rules")]
pub(crate) fn crowded_cluster() -> impl Strategy<Value = Cluster> {
    let some_peers = |rule: &Rule| matches!(rule.peers, Peers::Of(_));
    let rule = || rule(NAMESPACES[0].to_owned());
    let rules = move || {
        let rules = (vec(rule(), 5..=20), option::weighted(0.2, rule()));
        rules.prop_map(move |(mut rules, any)| {
            rules.retain(some_peers);
            rules.extend(any);
            Some(rules)
        })
    };
    let policy = (rules(), rules()).prop_map(|(ingress, egress)| NetworkPolicy {
        id: NamespacedName::new(NAMESPACES[0], "p0"),
        selector: LabelSelector::default(),
        ingress,
        egress,
    });
    cluster_with(policy.prop_map(|policy| vec![policy]))
}

fn cluster_with(
    policies: impl Strategy<Value = Vec<NetworkPolicy>>,
) -> impl Strategy<Value = Cluster> {
    let namespaces = vec(option::weighted(0.9, labels()), NAMESPACES.len());
    let pods: Vec<_> = (0..8).map(pod).collect();
    (namespaces, pods, policies).prop_map(|(namespaces, pods, policies)| {
        let namespaces = NAMESPACES
            .iter()
            .zip(namespaces)
            .filter_map(|(name, labels)| {
                Some(Namespace {
                    name: (*name).into(),
                    labels: labels?,
                })
            });
        let nodes = NODES.iter().enumerate().map(|(index, name)| Node {
            name: (*name).into(),
            addresses: BTreeSet::from([v4(8 + index as u8), v6(8 + index as u8)]),
            pod_cidrs: vec![],
        });
        Cluster::new(namespaces, nodes, pods, policies)
    })
}

/// Every connection between the addresses of [`cluster`] and two outside of it.
#[allow(dead_code, reason = "not every test asks about connections")]
pub(crate) fn connections() -> Vec<Connection> {
    let ports = 1..=LAST_PORT + 1;
    let mut transports: Vec<_> = ports
        .map(|port| Transport::Port(Protocol::Tcp, port))
        .collect();
    transports.push(Transport::Port(Protocol::Udp, 2));
    transports.push(Transport::Port(Protocol::Sctp, 3));
    transports.push(Transport::Icmp);
    let hosts = || (0..10).chain([14]);
    let mut connections = Vec::new();
    for family in [v4, v6, link_local] {
        let is_there = move |host: &u8| family(*host) != link_local(*host) || *host <= LINK_LOCAL;
        let hosts = || hosts().filter(is_there);
        for source in hosts() {
            for destination in hosts().filter(|destination| *destination != source) {
                for transport in &transports {
                    connections.push(Connection {
                        source: family(source),
                        destination: family(destination),
                        transport: *transport,
                    });
                }
            }
        }
    }
    connections
}

/// The rules of every node.
#[allow(dead_code, reason = "not every test compiles")]
pub(crate) fn compile_all(
    cluster: &Cluster,
) -> BTreeMap<&'static str, policy_compiler::ir::NodeIr> {
    NODES
        .into_iter()
        .map(|node| (node, policy_compiler::compile::compile(cluster, node)))
        .collect()
}
