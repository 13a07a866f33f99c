//! A cluster as there are many, made from numbers: the same number gives the same object, so that nobody has to keep
//! them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy_compiler::index::{Interner, Object};
use policy_compiler::model::{
    Cidr, ContainerPort, IpBlock, LabelSelector, NAMESPACE_NAME_LABEL, Namespace, NamespaceScope,
    NamespacedName, NetworkPolicy, Node, Peer, Peers, Phase, Pod, PolicyPort, PortMatch, PortRange,
    Ports, Presence, Protocol, Requirement, Rule,
};

/// The node of the agent.
pub(crate) const NODE: &str = "node-0";
pub(crate) const NAMESPACES: usize = 1_000;
/// In each namespace.
pub(crate) const POLICIES: usize = 10;
/// Pods of the agent's node.
pub(crate) const LOCAL_PODS: usize = 250;
/// Apps of a namespace.
pub(crate) const APPS: usize = 20;
const PODS_PER_NODE: usize = 100;
const TIERS: [&str; 5] = ["frontend", "backend", "cache", "db", "worker"];
const STAGES: [&str; 3] = ["prod", "staging", "dev"];

/// How large a cluster is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Pods of other nodes.
    pub(crate) elsewhere: usize,
    /// Whether pods have an IPv6 address too.
    pub(crate) dual_stack: bool,
}

/// Where a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Here,
    Elsewhere,
}

/// Of a pod, what changes while it is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    /// Its labels are those of this app of its namespace.
    pub(crate) app: usize,
    /// Its addresses, as a number that no other pod has at any time.
    pub(crate) address: usize,
}

impl State {
    /// That of a pod which has not changed.
    pub(crate) fn first(place: Place, number: usize) -> Self {
        let address = match place {
            Place::Here => number,
            Place::Elsewhere => 0x1_0000 + number,
        };
        Self {
            app: scattered(number + 7) % APPS,
            address,
        }
    }
}

/// All objects. Pods share what they have in common, as those of any source that has so many.
pub(crate) fn objects(size: Size) -> Vec<Object> {
    let nodes = 1 + size.elsewhere.div_ceil(PODS_PER_NODE);
    let mut interner = Interner::default();
    let mut pods = |place, count| -> Vec<_> {
        let first = |number| pod(size, place, number, State::first(place, number));
        let pods = (0..count).map(|number| Object::Pod(first(number)));
        pods.map(|pod| interner.object(pod)).collect()
    };
    let mut objects: Vec<_> = (0..NAMESPACES).map(namespace).collect();
    objects.extend((0..nodes).map(node));
    objects.extend(
        (0..NAMESPACES)
            .flat_map(policies)
            .map(Object::NetworkPolicy),
    );
    objects.extend(pods(Place::Here, LOCAL_PODS));
    objects.extend(pods(Place::Elsewhere, size.elsewhere));
    objects
}

/// A running pod with three ports that have names.
pub(crate) fn pod(size: Size, place: Place, number: usize, state: State) -> Pod {
    let port = |name: &str, port| ContainerPort {
        name: Some(name.to_owned()),
        protocol: Protocol::Tcp,
        port,
    };
    let node = match place {
        Place::Here => 0,
        Place::Elsewhere => 1 + number / PODS_PER_NODE,
    };
    let labels = [
        ("app", app(state.app)),
        ("tier", TIERS[state.app % TIERS.len()].to_owned()),
        (
            "pod-template-hash",
            format!("{:x}", scattered(state.app) & 0xffff_ffff),
        ),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value));
    Pod {
        id: id(place, number),
        labels: std::sync::Arc::new(labels.into()),
        node: Some(format!("node-{node}")),
        host_network: false,
        phase: Phase::Running,
        uid: None,
        presence: Presence::Listed,
        terminating: false,
        addresses: addresses(size, state.address),
        // Ports have names since their numbers differ.
        ports: [
            port("http", 8080 + (number % 2) as u16),
            port("metrics", 9090),
            port("admin", 9901),
        ]
        .into(),
    }
}

/// What a pod is called.
pub(crate) fn id(place: Place, number: usize) -> NamespacedName {
    let kind = match place {
        Place::Here => "near",
        Place::Elsewhere => "far",
    };
    NamespacedName::new(
        tenant_name(scattered(number) % NAMESPACES),
        format!("{kind}-6c8f7d9b54-{number:05x}"),
    )
}

fn addresses(size: Size, number: usize) -> Vec<IpAddr> {
    let number = number as u32;
    let four = Ipv4Addr::from_bits(0x0a00_0000 + number);
    let six = Ipv6Addr::from_bits((0xfd00 << 112) + u128::from(number));
    let six = size.dual_stack.then_some(six.into());
    [four.into()].into_iter().chain(six).collect()
}

fn tenant_name(tenant: usize) -> String {
    format!("tenant-{tenant}")
}

fn app(app: usize) -> String {
    format!("app-{}", app % APPS)
}

fn namespace(tenant: usize) -> Object {
    let name = tenant_name(tenant);
    let labels = [
        (NAMESPACE_NAME_LABEL, name.clone()),
        ("team", format!("team-{}", tenant % 20)),
        ("stage", STAGES[tenant % STAGES.len()].to_owned()),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value));
    Object::Namespace(Namespace {
        name,
        labels: labels.into(),
    })
}

fn node(number: usize) -> Object {
    let address = Ipv4Addr::from_bits(0xc0a8_0000 + number as u32);
    Object::Node(Node {
        name: format!("node-{number}"),
        addresses: BTreeSet::from([address.into()]),
        pod_cidrs: Vec::new(),
    })
}

/// Rules of a direction, if a policy isolates for it.
type Rules = Option<Vec<Rule>>;

/// The policies of a namespace, of the usual kinds.
fn policies(tenant: usize) -> impl Iterator<Item = NetworkPolicy> {
    let everything = LabelSelector::default;
    let own = || NamespaceScope::Own(tenant_name(tenant));
    let of = |key: &str, value: String| NamespaceScope::Matching(is(key, value));
    let of_app = |number: usize| is("app", app(number));
    let tier = |tier: &str| is("tier", tier.to_owned());
    let first = scattered(tenant) % APPS;
    let rule = |namespaces, pods, ports| {
        let peers = Peers::Of(vec![Peer::Pods { namespaces, pods }]);
        Some(vec![Rule { peers, ports }])
    };
    let system = || of(NAMESPACE_NAME_LABEL, tenant_name(0));
    let team = || of("team", format!("team-{}", tenant % 20));
    let dns = Ports::Of(vec![
        numbered(Protocol::Udp, 53),
        numbered(Protocol::Tcp, 53),
    ]);
    let partner = format!("172.{}.0.0/16", 16 + tenant % 16);
    let excepts = [32, 64, 200].map(|part| format!("172.{}.{part}.0/24", 16 + tenant % 16));
    let partner = block(&partner, &excepts.each_ref().map(String::as_str));
    let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
    let outside = block("0.0.0.0/0", &private);
    // One namespace of ten is open to every pod of the cluster.
    let callers = match tenant % 10 {
        0 => NamespaceScope::Matching(everything()),
        _ => own(),
    };
    let none = || Some(Vec::new());
    let policies: [(&str, LabelSelector, Rules, Rules); POLICIES] = [
        ("default-deny", everything(), none(), none()),
        (
            "from-own-app",
            of_app(first),
            rule(own(), of_app(first + 1), tcp(8080)),
            None,
        ),
        (
            "from-frontends",
            of_app(first + 1),
            rule(of("stage", "prod".to_owned()), tier("frontend"), tcp(8443)),
            None,
        ),
        (
            "metrics",
            everything(),
            rule(system(), everything(), named("metrics")),
            None,
        ),
        (
            "from-partner",
            of_app(first + 2),
            Some(vec![of_block(partner, tcp(443))]),
            None,
        ),
        ("dns", everything(), None, rule(system(), of_app(0), dns)),
        (
            "callers",
            everything(),
            rule(callers, everything(), tcp(9901)),
            None,
        ),
        (
            "to-own",
            everything(),
            None,
            rule(own(), everything(), Ports::Any),
        ),
        (
            "to-databases",
            everything(),
            None,
            rule(team(), tier("db"), named("http")),
        ),
        (
            "to-outside",
            of_app(first + 3),
            None,
            Some(vec![of_block(outside, tcp(443))]),
        ),
    ];
    let policies = policies.into_iter();
    policies.map(move |(name, selector, ingress, egress)| NetworkPolicy {
        id: NamespacedName::new(tenant_name(tenant), name),
        selector,
        ingress,
        egress,
    })
}

fn is(key: &str, value: String) -> LabelSelector {
    LabelSelector::new([Requirement::In(key.to_owned(), BTreeSet::from([value]))])
}

fn numbered(protocol: Protocol, port: u16) -> PolicyPort {
    PolicyPort {
        protocol,
        port: PortMatch::Range(PortRange::single(port)),
    }
}

fn tcp(port: u16) -> Ports {
    Ports::Of(vec![numbered(Protocol::Tcp, port)])
}

fn named(port: &str) -> Ports {
    Ports::Of(vec![PolicyPort {
        protocol: Protocol::Tcp,
        port: PortMatch::Named(port.to_owned()),
    }])
}

fn block(cidr: &str, excepts: &[&str]) -> Option<Peer> {
    let parse = |cidr: &&str| Cidr::parse_strict(cidr).ok();
    let excepts: Option<Vec<_>> = excepts.iter().map(parse).collect();
    IpBlock::new(parse(&cidr)?, excepts?).ok().map(Peer::Block)
}

fn of_block(block: Option<Peer>, ports: Ports) -> Rule {
    Rule {
        peers: Peers::Of(block.into_iter().collect()),
        ports,
    }
}

/// A number that looks like chance (the finalizer of MurmurHash3).
pub(crate) fn scattered(index: usize) -> usize {
    let mut bits = index as u64 + 1;
    for multiplier in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        bits ^= bits >> 33;
        bits = bits.wrapping_mul(multiplier);
    }
    ((bits ^ (bits >> 33)) >> 1) as usize
}
