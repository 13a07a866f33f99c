//! What a testbed consists of, and what makes a description of one invalid.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::TopologyError;

/// How pods are attached to their node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Each pod hangs on its own veth with a host route: every packet between pods is routed by the node.
    Routed,
    /// The pods of a node are ports of one bridge and reach each other at layer 2. The bridge hands IPv4 and IPv6
    /// frames to the inet hooks (`nf_call_iptables`, `nf_call_ip6tables`).
    Bridged,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name, unique among nodes; free text.
    pub name: String,
    /// Its addresses, of either family; they sit on its uplink.
    pub addresses: Vec<IpAddr>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpec {
    /// Its name, unique among pods; free text, never used as the name of an interface.
    pub name: String,
    /// The name of its node.
    pub node: String,
    /// Its addresses. On a [`Network::Bridged`] node a prefix shorter than the address is the pod's subnet:
    /// on-link, with a gateway of the node in it. A [`Network::Routed`] pod ignores the prefix, as it has no subnet.
    pub addresses: Vec<IpNet>,
}

/// Everything there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// How pods are attached.
    pub network: Network,
    /// The nodes.
    pub nodes: Vec<NodeSpec>,
    /// The pods.
    pub pods: Vec<PodSpec>,
    /// Addresses outside: neither of a node nor of a pod. All of them belong to [`Place::External`].
    pub externals: Vec<IpAddr>,
}

/// A namespace of the testbed, seen as an end of traffic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The node of that name.
    Node(String),
    /// The pod of that name.
    Pod(String),
    /// Outside: the fabric, which holds the external addresses.
    External,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Node(name) => write!(out, "node {name}"),
            Place::Pod(name) => write!(out, "pod {name}"),
            Place::External => out.write_str("outside"),
        }
    }
}

impl Topology {
    /// Every address with the place that has it.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (IpAddr, Place)> {
        let nodes = self.nodes.iter().flat_map(|node| {
            node.addresses
                .iter()
                .map(|&address| (address, Place::Node(node.name.clone())))
        });
        let pods = self.pods.iter().flat_map(|pod| {
            pod.addresses
                .iter()
                .map(|net| (net.addr(), Place::Pod(pod.name.clone())))
        });
        nodes.chain(pods).chain(
            self.externals
                .iter()
                .map(|&address| (address, Place::External)),
        )
    }

    /// Refuses what could not be built, or would be built as something else than it says.
    pub(crate) fn check(&self) -> Result<(), TopologyError> {
        let mut places = BTreeMap::new();
        let nodes = self.nodes.iter().map(|node| Place::Node(node.name.clone()));
        let pods = self.pods.iter().map(|pod| Place::Pod(pod.name.clone()));
        for place in nodes.chain(pods) {
            if places.insert(place.clone(), ()).is_some() {
                return Err(TopologyError::DuplicateName(place));
            }
        }
        if let Some(pod) = self
            .pods
            .iter()
            .find(|pod| !places.contains_key(&Place::Node(pod.node.clone())))
        {
            return Err(TopologyError::UnknownNode {
                pod: pod.name.clone(),
                node: pod.node.clone(),
            });
        }
        let mut owners = BTreeMap::new();
        for (address, place) in self.addresses() {
            if let Some(reason) = unusable(address) {
                return Err(TopologyError::UnusableAddress {
                    address,
                    place,
                    reason,
                });
            }
            if let Some(first) = owners.insert(address, place.clone()) {
                return Err(TopologyError::DuplicateAddress {
                    address,
                    first,
                    second: place,
                });
            }
        }
        Ok(())
    }
}

/// Why no interface can be reached under this address, if so.
fn unusable(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) if v4.octets()[0] == 0 => {
            Some("0.0.0.0/8 is no source address for the kernel")
        }
        IpAddr::V4(v4) if v4.is_loopback() => Some("a loopback address never leaves its host"),
        IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => {
            Some("it is not a unicast address")
        }
        IpAddr::V6(v6) if v6.is_unspecified() || v6.is_loopback() => {
            Some("it never leaves its host")
        }
        IpAddr::V6(v6) if v6.is_multicast() => Some("it is not a unicast address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Some("a link-local address is not routed; every interface has one of its own")
        }
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Some("sockets take it for the IPv4 address in it")
        }
        _ => None,
    }
}
