//! What follows from a topology alone: Ethernet addresses, interface names, gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::mac::Mac;
use crate::topology::{Network, PodSpec, Topology};

/// A topology with everything in it numbered: the same topology gives the same names and addresses.
pub(crate) struct Layout<'a> {
    pub(crate) topology: &'a Topology,
    /// The pods of each node, by index.
    pub(crate) pods_of: Vec<Vec<usize>>,
    /// The next hop on every link that has no subnet, seen from the pod or from the node.
    pub(crate) link_gateway: Gateways,
    /// The node's end of its uplink, seen from the fabric.
    pub(crate) node_gateway: Gateways,
    /// Every address of the topology.
    used: BTreeSet<IpAddr>,
}

/// One next hop per family. It need not be anybody's address: its neighbour entry is static.
#[derive(Clone, Copy)]
pub(crate) struct Gateways {
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Gateways {
    pub(crate) fn of_family(self, address: IpAddr) -> IpAddr {
        if address.is_ipv4() {
            self.v4.into()
        } else {
            self.v6.into()
        }
    }

    pub(crate) fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

impl<'a> Layout<'a> {
    pub(crate) fn new(topology: &'a Topology) -> Layout<'a> {
        let used: BTreeSet<IpAddr> = topology.addresses().map(|(address, _)| address).collect();
        let position: BTreeMap<&str, usize> = topology
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (node.name.as_str(), index))
            .collect();
        let mut pods_of = vec![Vec::new(); topology.nodes.len()];
        for (index, pod) in topology.pods.iter().enumerate() {
            if let Some(&node) = position.get(pod.node.as_str()) {
                pods_of[node].push(index);
            }
        }
        // 169.254.1.1 as Calico has it, or the next that the topology leaves free. Link-local IPv6 is always free.
        let mut free = (257..)
            .map(|low| Ipv4Addr::from_bits(0xa9fe_0000 + low))
            .filter(|v4| !used.contains(&(*v4).into()));
        let mut gateways = |low| Gateways {
            v4: free.next().unwrap_or(Ipv4Addr::new(169, 254, 1, 1)),
            v6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, low),
        };
        let (link_gateway, node_gateway) = (gateways(1), gateways(2));
        drop(free);
        Layout {
            topology,
            pods_of,
            link_gateway,
            node_gateway,
            used,
        }
    }

    pub(crate) fn is_used(&self, address: IpAddr) -> bool {
        self.used.contains(&address)
    }

    /// Addresses of the topology that lie in `net`.
    pub(crate) fn used_in(&self, net: IpNet) -> impl Iterator<Item = IpAddr> {
        self.used.range(net.network()..=net.broadcast()).copied()
    }

    /// The first address of a bridged pod's subnet that nobody has; the node's bridge gets it.
    pub(crate) fn subnet_gateway(&self, address: IpNet) -> Option<IpAddr> {
        if !self.has_subnet(address) {
            return None;
        }
        let free = |candidate: &IpAddr| !self.used.contains(candidate);
        match address {
            IpNet::V4(net) => net.hosts().map(IpAddr::V4).find(free),
            // The first address of an IPv6 subnet is the anycast address of its routers (RFC 4291 section 2.6.1).
            IpNet::V6(net) => net.hosts().skip(1).map(IpAddr::V6).find(free),
        }
    }

    /// Whether the subnet of this address is on-link.
    pub(crate) fn has_subnet(&self, address: IpNet) -> bool {
        self.topology.network == Network::Bridged && address.prefix_len() < address.max_prefix_len()
    }

    /// The node's address in the subnets of a pod, in the order of the pod's addresses.
    pub(crate) fn subnet_gateways(&self, pod: &PodSpec) -> Vec<IpAddr> {
        pod.addresses
            .iter()
            .filter_map(|&address| self.subnet_gateway(address))
            .collect()
    }
}

/// The fabric's end of a node's uplink.
pub(crate) fn fabric_interface(node: usize) -> String {
    format!("node{node}")
}

/// The node's end of a pod's veth.
pub(crate) fn host_interface(pod: usize) -> String {
    format!("veth{pod}")
}

pub(crate) fn fabric_mac(node: usize) -> Mac {
    Mac::numbered(0xfa, node)
}

pub(crate) fn uplink_mac(node: usize) -> Mac {
    Mac::numbered(0xad, node)
}

pub(crate) fn bridge_mac(node: usize) -> Mac {
    Mac::numbered(0xb0, node)
}

pub(crate) fn host_mac(pod: usize) -> Mac {
    Mac::numbered(0xae, pod)
}

pub(crate) fn pod_mac(pod: usize) -> Mac {
    Mac::numbered(0x0d, pod)
}
