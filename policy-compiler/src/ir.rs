//! The rules of one node, before they take the kernel's shape.
//!
//! Local pods with the same policies share a class per direction. A class is a list of tiers; a tier is a list
//! of rules, the first match of which decides, and a default. Peers are sets that all classes share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::evaluate::{Connection, Transport, Verdict};
use crate::model::{AddressRanges, Direction, PolicyId, PortRanges, Protocol};

/// Everything that a node needs to enforce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NodeIr {
    /// The node.
    pub node: String,
    /// Its pods by `namespace/name`. Pods with their node's network are not among them.
    pub pods: BTreeMap<String, LocalPod>,
    /// Classes by name.
    pub classes: BTreeMap<String, Class>,
    /// Peer sets by name.
    pub peers: BTreeMap<String, PeerSet>,
    /// Named ports of peers by name.
    pub named_ports: BTreeMap<String, NamedPortSet>,
}

/// A pod of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LocalPod {
    /// The addresses that it owns, in order of family.
    pub addresses: Vec<IpAddr>,
    /// Its egress class; none if it is not isolated for egress.
    pub egress: Option<String>,
    /// Its ingress class; none if it is not isolated for ingress.
    pub ingress: Option<String>,
}

impl LocalPod {
    /// The class of a direction.
    pub fn class(&self, direction: Direction) -> Option<&str> {
        match direction {
            Direction::Egress => self.egress.as_deref(),
            Direction::Ingress => self.ingress.as_deref(),
        }
    }

    /// Whether the pod is isolated in either direction.
    pub fn is_isolated(&self) -> bool {
        self.egress.is_some() || self.ingress.is_some()
    }
}

/// Pods to which the same policies apply in one direction, with the same numbers behind named ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Class {
    /// The direction.
    pub direction: Direction,
    /// The policies that make the class; none for pods that are closed.
    pub policies: Vec<PolicyId>,
    /// Tiers in the order in which they are asked.
    pub tiers: Vec<Tier>,
}

/// One tier of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tier {
    /// Which tier.
    pub kind: TierKind,
    /// Rules; the first that matches decides.
    pub rules: Vec<Rule>,
    /// What happens when none matches. The last tier's Pass accepts.
    pub default: Action,
}

/// The tiers in the order in which they are asked (KEP of network-policy-api, v1alpha2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub enum TierKind {
    /// ClusterNetworkPolicy, tier Admin.
    Admin,
    /// NetworkPolicy.
    NetworkPolicy,
    /// ClusterNetworkPolicy, tier Baseline.
    Baseline,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub enum Action {
    /// Let the connection pass this direction.
    Accept,
    /// Drop it.
    Deny,
    /// Ask the next tier.
    Pass,
}

/// A rule of a tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// With what.
    pub matches: Match,
    /// The policies that ask for it.
    pub policies: BTreeSet<PolicyId>,
}

/// What a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Match {
    /// The other end.
    pub peer: PeerMatch,
    /// The destination port.
    pub ports: PortsMatch,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub enum PeerMatch {
    /// Anyone.
    Any,
    /// An address of a set in [`NodeIr::peers`].
    Set(String),
    /// An address, protocol and port of a set in [`NodeIr::named_ports`].
    NamedPorts(String),
}

/// The destination port of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub enum PortsMatch {
    /// Every protocol and port.
    Any,
    /// These ports of these protocols.
    Of(
        #[schemars(schema_with = "crate::schema::ports_by_protocol")]
        BTreeMap<Protocol, PortRanges>,
    ),
}

/// The addresses of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PeerSet {
    /// The peer in words.
    pub peer: String,
    /// Its addresses.
    pub members: PeerMembers,
}

/// Addresses of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum PeerMembers {
    /// Of pods.
    Pods(BTreeSet<IpAddr>),
    /// Of an ipBlock, its excepts subtracted.
    Block(AddressRanges),
}

/// The pods of a peer that have a named port, each with its own number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NamedPortSet {
    /// The peer and the port in words.
    pub peer: String,
    /// Address, protocol and port.
    pub members: BTreeSet<(IpAddr, Protocol, u16)>,
}

impl NodeIr {
    /// The policies whose rules are in a chain or a set of the ruleset that is lowered from this, by its name.
    pub fn policies_behind(&self, name: &str) -> BTreeSet<PolicyId> {
        // Names of classes and peers end in digests, so that none is a part of another by chance.
        let of_class = |(class, _): &(&String, &Class)| name.contains(class.as_str());
        let whole = self.classes.iter().filter(of_class);
        let whole = whole.flat_map(|(_, class)| class.policies.iter().cloned());
        let rules = self.classes.values().flat_map(|class| &class.tiers);
        let rules = rules.flat_map(|tier| &tier.rules);
        let naming = rules.filter(|rule| match &rule.matches.peer {
            PeerMatch::Any => false,
            PeerMatch::Set(peer) | PeerMatch::NamedPorts(peer) => name.contains(peer.as_str()),
        });
        whole
            .chain(naming.flat_map(|rule| rule.policies.iter().cloned()))
            .collect()
    }

    /// What the node's rules say of a connection that it forwards. Directions that are not this node's to
    /// judge, since no local pod is on that side, allow.
    pub fn judge(&self, connection: Connection) -> Verdict {
        let pod_at = |address| {
            let mut pods = self.pods.values();
            pods.find(|pod| pod.addresses.contains(&address))
        };
        let source = pod_at(connection.source);
        let destination = pod_at(connection.destination);
        if source.is_some() && source == destination && connection.source == connection.destination
        {
            return Verdict::Allow;
        }
        let egress = source.and_then(|pod| pod.class(Direction::Egress));
        let ingress = destination.and_then(|pod| pod.class(Direction::Ingress));
        let egress = egress.map(|class| self.ask(class, connection.destination, connection));
        let ingress = ingress.map(|class| self.ask(class, connection.source, connection));
        egress
            .into_iter()
            .chain(ingress)
            .max()
            .unwrap_or(Verdict::Allow)
    }

    fn ask(&self, class: &str, other: IpAddr, connection: Connection) -> Verdict {
        let tiers = self.classes.get(class).map(|class| class.tiers.as_slice());
        for tier in tiers.unwrap_or_default() {
            let mut rules = tier.rules.iter();
            let rule = rules.find(|rule| self.matches(&rule.matches, other, connection));
            match rule.map_or(tier.default, |rule| rule.action) {
                Action::Accept => return Verdict::Allow,
                Action::Deny => return Verdict::Deny,
                Action::Pass => {}
            }
        }
        Verdict::Allow
    }

    fn matches(&self, matches: &Match, other: IpAddr, connection: Connection) -> bool {
        let peer = match &matches.peer {
            PeerMatch::Any => true,
            PeerMatch::Set(name) => match self.peers.get(name).map(|set| &set.members) {
                Some(PeerMembers::Pods(addresses)) => addresses.contains(&other),
                Some(PeerMembers::Block(ranges)) => ranges.contains(other),
                None => false,
            },
            PeerMatch::NamedPorts(name) => match connection.transport {
                Transport::Port(protocol, port) => self
                    .named_ports
                    .get(name)
                    .is_some_and(|set| set.members.contains(&(other, protocol, port))),
                Transport::Icmp => false,
            },
        };
        let ports = match (&matches.ports, connection.transport) {
            (PortsMatch::Any, _) => true,
            (PortsMatch::Of(ports), Transport::Port(protocol, port)) => ports
                .get(&protocol)
                .is_some_and(|ranges| ranges.contains(port)),
            (PortsMatch::Of(_), Transport::Icmp) => false,
        };
        peer && ports
    }
}
