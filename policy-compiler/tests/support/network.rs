//! The way of a packet through the nodes, hook by hook, as Linux has it with routed pods, and with pods on a bridge
//! that hands packets to the hooks of IP (br_netfilter).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use policy_compiler::evaluate::{Connection, NodeEgress};
use policy_compiler::lower::{Attachment, Bridges, Merging, Options};
use policy_compiler::model::{Cluster, InterfaceName, Owner, Pod};
use policy_compiler::ruleset::{Hook, TableFamily};

use super::walk::Stop;

pub(crate) const BRIDGE: &str = "br0";
pub(crate) const UPLINK: &str = "eth0";

/// How pods are attached to their node, and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attached {
    /// Routed, or on bridges: nothing is known, as without a node at hand.
    Unknown { bridged: bool },
    /// Routed, and known, but for the interfaces of every third pod if `some`.
    Routed { some: bool },
    /// On a bridge, and known, but for the ports of every third pod if `some`.
    Bridged { some: bool },
    /// On a bridge that is known by ports that are not.
    OnBridge,
}

impl Attached {
    pub(crate) const ALL: [Attached; 7] = [
        Attached::Unknown { bridged: false },
        Attached::Unknown { bridged: true },
        Attached::Routed { some: false },
        Attached::Routed { some: true },
        Attached::Bridged { some: false },
        Attached::Bridged { some: true },
        Attached::OnBridge,
    ];

    pub(crate) fn is_bridged(self) -> bool {
        match self {
            Attached::Unknown { bridged } => bridged,
            Attached::Routed { .. } => false,
            Attached::Bridged { .. } | Attached::OnBridge => true,
        }
    }

    /// Whether the pod of this number has an interface that the rules know.
    pub(crate) fn knows(self, number: usize) -> bool {
        match self {
            Attached::Routed { some } | Attached::Bridged { some } => {
                !some || !number.is_multiple_of(3)
            }
            Attached::Unknown { .. } | Attached::OnBridge => false,
        }
    }
}

/// What the rules are made for besides the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) attached: Attached,
    pub(crate) node_egress: NodeEgress,
    pub(crate) merging: Merging,
}

impl Setting {
    pub(crate) fn options(&self, cluster: &Cluster, node: &str) -> Options {
        let named = || Bridges::Named(BTreeSet::from([name(BRIDGE)]));
        let bridges = match self.attached {
            Attached::Unknown { .. } => Bridges::Any,
            Attached::Routed { .. } => Bridges::Named(BTreeSet::new()),
            Attached::Bridged { .. } | Attached::OnBridge => named(),
        };
        let pods = cluster.pods.values();
        let attachments: BTreeMap<_, _> = pods
            .filter(|pod| pod.is_on_pod_network() && pod.node.as_deref() == Some(node))
            .filter(|pod| self.attached.knows(number(cluster, pod)))
            .map(|pod| {
                let attachment = Attachment {
                    interface: name(&interface(cluster, pod)),
                    bridged: self.attached.is_bridged(),
                    addresses: None,
                    routes: false,
                };
                (pod.id.to_string(), vec![attachment])
            })
            .collect();
        Options {
            node_egress: self.node_egress,
            bridges,
            attachments,
            merging: self.merging,
            ..Options::default()
        }
    }
}

/// The cluster in which every other pod whose interface is known is known by its link-local address too.
pub(crate) fn with_link_local(mut cluster: Cluster, attached: Attached) -> Cluster {
    for (number, pod) in cluster.pods.clone().values().enumerate() {
        if pod.is_on_pod_network() && attached.knows(number) && number % 2 == 0 {
            let mut pod = pod.clone();
            pod.addresses.push(link_local(number));
            cluster.add_pod(pod);
        }
    }
    cluster
}

/// What the pod of this number has on its link, whether that is known or not.
pub(crate) fn link_local(number: usize) -> IpAddr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, number as u16).into()
}

fn name(text: &str) -> InterfaceName {
    InterfaceName::new(text).expect("a name")
}

/// A pod's place among all.
pub(crate) fn number(cluster: &Cluster, pod: &Pod) -> usize {
    let mut pods = cluster.pods.keys();
    pods.position(|id| *id == pod.id)
        .expect("a pod of the cluster")
}

/// The host's end of the pod's veth pair.
pub(crate) fn interface(cluster: &Cluster, pod: &Pod) -> String {
    format!("veth{}", number(cluster, pod))
}

/// An end of a packet's way through one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The pod with this interface.
    Pod(String),
    /// The node itself.
    Host,
    /// All that is elsewhere.
    Uplink,
}

/// A packet's way through one node.
#[derive(Clone, Debug)]
pub(crate) struct Leg<'a> {
    pub(crate) node: &'a str,
    pub(crate) from: End,
    pub(crate) to: End,
}

/// The ways through the nodes of a packet from the connection's source to its destination.
pub(crate) fn legs<'a>(cluster: &'a Cluster, connection: Connection) -> Vec<Leg<'a>> {
    let place = |address| match cluster.owner(address) {
        Owner::Pod(pod) => Some((
            pod.node
                .as_deref()
                .expect("a pod with an address has a node"),
            End::Pod(interface(cluster, pod)),
        )),
        Owner::Node(node) => Some((node, End::Host)),
        Owner::External => None,
    };
    let leg = |node, from, to| Leg { node, from, to };
    match (place(connection.source), place(connection.destination)) {
        (Some((one, from)), Some((other, to))) if one == other => vec![leg(one, from, to)],
        (from, to) => {
            let from = from.map(|(node, from)| leg(node, from, End::Uplink));
            let to = to.map(|(node, to)| leg(node, End::Uplink, to));
            from.into_iter().chain(to).collect()
        }
    }
}

impl Leg<'_> {
    /// The hooks that the packet comes to.
    pub(crate) fn stops(&self, bridged: bool) -> Vec<Stop> {
        use TableFamily::{Bridge, Inet, Netdev};
        let stop = |family, hook, input: Option<&str>, output: Option<&str>| Stop {
            family,
            hook,
            input: input.map(str::to_owned),
            output: output.map(str::to_owned),
        };
        // The interface that IP sees.
        let seen = |end: &End| match end {
            End::Pod(_) if bridged => Some(BRIDGE.to_owned()),
            End::Pod(interface) => Some(interface.clone()),
            End::Uplink => Some(UPLINK.to_owned()),
            End::Host => None,
        };
        let (input, output) = (seen(&self.from), seen(&self.to));
        let (input, output) = (input.as_deref(), output.as_deref());
        let port = |end: &'_ End| match end {
            End::Pod(interface) if bridged => Some(interface.clone()),
            _ => None,
        };
        let (from_port, to_port) = (port(&self.from), port(&self.to));
        let (from_port, to_port) = (from_port.as_deref(), to_port.as_deref());
        // Between two ports it never leaves the bridge; a pod meets itself by way of the node.
        let inside = from_port.is_some() && to_port.is_some() && from_port != to_port;
        let mut stops = Vec::new();
        if let Some(arrived) = from_port.or(input) {
            stops.push(stop(Netdev, Hook::Ingress, Some(arrived), None));
        }
        if from_port.is_some() {
            stops.push(stop(Bridge, Hook::Prerouting, from_port, None));
        }
        if input.is_some() {
            stops.push(stop(Inet, Hook::Prerouting, input, None));
        }
        if inside {
            stops.push(stop(Bridge, Hook::Forward, from_port, to_port));
        } else if from_port.is_some() {
            stops.push(stop(Bridge, Hook::Input, from_port, None));
        }
        stops.push(match (input, output) {
            (Some(_), Some(_)) => stop(Inet, Hook::Forward, input, output),
            (Some(_), None) => stop(Inet, Hook::Input, input, None),
            _ => stop(Inet, Hook::Output, None, output),
        });
        if to_port.is_some() && !inside {
            stops.push(stop(Bridge, Hook::Output, None, to_port));
        }
        stops
    }
}
