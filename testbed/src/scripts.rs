//! The topology as input for `ip -batch` and `bridge -batch`, one script per namespace.
//!
//! Addresses are always added as single addresses (/32, /128) and every route is spelled out: so no address can be
//! taken for the network or broadcast address of another's subnet. Neighbours are static, so that no verdict waits
//! for ARP or neighbour discovery, and a name that IP would need to resolve cannot be blocked by the rules under test.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::layout::{
    Layout, bridge_mac, fabric_interface, fabric_mac, host_interface, host_mac, pod_mac, uplink_mac,
};
use crate::mac::Mac;
use crate::namespace::Namespace;
use crate::topology::Network;

/// A pod's interface, in its own namespace.
pub const POD_INTERFACE: &str = "eth0";
/// A node's interface towards the others.
pub const UPLINK_INTERFACE: &str = "uplink";
/// The bridge of a node with bridged pods.
pub(crate) const BRIDGE_INTERFACE: &str = "br0";

/// Lines of input, each a command without the program's name.
struct Script(String);

impl Script {
    fn new() -> Script {
        Script("link set lo up\n".to_owned())
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn veth(&mut self, name: &str, mac: Mac, peer: (&str, Mac, &Namespace)) {
        let (peer_name, peer_mac, namespace) = peer;
        let path = namespace.path();
        self.line(format_args!(
            "link add {name} address {mac} type veth peer name {peer_name} address {peer_mac} netns {path}"
        ));
    }

    fn address(&mut self, address: IpAddr, interface: &str) {
        let nodad = if address.is_ipv6() { " nodad" } else { "" };
        self.line(format_args!(
            "addr replace {} dev {interface}{nodad}",
            IpNet::from(address)
        ));
    }

    fn neighbour(&mut self, address: IpAddr, mac: Mac, interface: &str) {
        self.line(format_args!(
            "neigh replace {address} lladdr {mac} dev {interface} nud permanent"
        ));
    }

    fn route(&mut self, to: IpNet, interface: &str) {
        self.line(format_args!("route replace {to} dev {interface}"));
    }

    fn route_via(&mut self, to: IpNet, gateway: IpAddr, interface: &str) {
        self.line(format_args!(
            "route replace {to} via {gateway} dev {interface} onlink"
        ));
    }
}

/// The fabric: one link per node, a route per address.
pub(crate) fn fabric(layout: &Layout<'_>, nodes: &[Namespace]) -> String {
    let mut script = Script::new();
    for &address in &layout.topology.externals {
        script.address(address, "lo");
    }
    for (index, (node, namespace)) in layout.topology.nodes.iter().zip(nodes).enumerate() {
        let interface = fabric_interface(index);
        script.veth(
            &interface,
            fabric_mac(index),
            (UPLINK_INTERFACE, uplink_mac(index), namespace),
        );
        script.line(format_args!("link set {interface} up"));
        for gateway in layout.node_gateway.both() {
            script.neighbour(gateway, uplink_mac(index), &interface);
        }
        let pods = layout.pods_of[index]
            .iter()
            .flat_map(|&pod| layout.topology.pods[pod].addresses.iter());
        for address in node.addresses.iter().copied().chain(pods.map(IpNet::addr)) {
            script.route_via(
                address.into(),
                layout.node_gateway.of_family(address),
                &interface,
            );
        }
    }
    script.0
}

/// A node: its uplink, and a link and a route per pod.
pub(crate) fn node(layout: &Layout<'_>, index: usize, pods: &[Namespace]) -> String {
    let mut script = Script::new();
    script.line(format_args!("link set {UPLINK_INTERFACE} up"));
    for &address in &layout.topology.nodes[index].addresses {
        script.address(address, UPLINK_INTERFACE);
    }
    for gateway in layout.link_gateway.both() {
        script.neighbour(gateway, fabric_mac(index), UPLINK_INTERFACE);
        script.route_via(default_route(gateway), gateway, UPLINK_INTERFACE);
    }
    let bridged = layout.topology.network == Network::Bridged && !layout.pods_of[index].is_empty();
    if bridged {
        // The flags hand frames to the inet hooks whatever the sysctl says. Multicast is flooded, as snooping would
        // hide frames that a guard must drop.
        script.line(format_args!(
            "link add {BRIDGE_INTERFACE} address {} type bridge stp_state 0 forward_delay 0 mcast_snooping 0 \
             nf_call_iptables 1 nf_call_ip6tables 1",
            bridge_mac(index)
        ));
        script.line(format_args!("link set {BRIDGE_INTERFACE} up"));
        let pods = layout.pods_of[index]
            .iter()
            .map(|&pod| &layout.topology.pods[pod]);
        for gateway in pods
            .flat_map(|pod| layout.subnet_gateways(pod))
            .collect::<BTreeSet<_>>()
        {
            script.address(gateway, BRIDGE_INTERFACE);
        }
    }
    for &pod in &layout.pods_of[index] {
        let port = host_interface(pod);
        script.veth(
            &port,
            host_mac(pod),
            (POD_INTERFACE, pod_mac(pod), &pods[pod]),
        );
        if bridged {
            script.line(format_args!("link set {port} master {BRIDGE_INTERFACE}"));
        }
        script.line(format_args!("link set {port} up"));
        let interface = if bridged { BRIDGE_INTERFACE } else { &port };
        for address in layout.topology.pods[pod].addresses.iter().map(IpNet::addr) {
            script.route(address.into(), interface);
            script.neighbour(address, pod_mac(pod), interface);
        }
    }
    script.0
}

/// What the node's bridge would learn from ARP, which static neighbours spare it: without it, the first frame to a
/// pod is flooded to all.
pub(crate) fn bridge(layout: &Layout<'_>, index: usize) -> String {
    let entry = |&pod: &usize| {
        format!(
            "fdb replace {} dev {} master static\n",
            pod_mac(pod),
            host_interface(pod)
        )
    };
    layout.pods_of[index].iter().map(entry).collect()
}

/// A pod: its addresses, and everything through the node, except what is on the same bridge.
pub(crate) fn pod(layout: &Layout<'_>, node: usize, index: usize) -> String {
    let mut script = Script::new();
    let addresses = &layout.topology.pods[index].addresses;
    script.line(format_args!("link set {POD_INTERFACE} up"));
    for address in addresses {
        script.address(address.addr(), POD_INTERFACE);
    }
    let bridged = layout.topology.network == Network::Bridged;
    let node_mac = if bridged {
        bridge_mac(node)
    } else {
        host_mac(index)
    };
    for link_gateway in layout.link_gateway.both() {
        let of_family = |address: &&IpNet| address.addr().is_ipv4() == link_gateway.is_ipv4();
        let gateway = addresses
            .iter()
            .filter(of_family)
            .find_map(|&address| layout.subnet_gateway(address));
        let gateway = gateway.unwrap_or(link_gateway);
        script.neighbour(gateway, node_mac, POD_INTERFACE);
        script.route_via(default_route(gateway), gateway, POD_INTERFACE);
    }
    if bridged {
        let here: BTreeSet<IpAddr> = layout.pods_of[node]
            .iter()
            .flat_map(|&pod| layout.topology.pods[pod].addresses.iter().map(IpNet::addr))
            .collect();
        for &address in addresses
            .iter()
            .filter(|&&address| layout.has_subnet(address))
        {
            subnet(&mut script, layout, address, node_mac, &here);
        }
        neighbours(&mut script, layout, node, index);
    }
    script.0
}

/// The subnet of `own`, a pod's address, is on-link, but for addresses in it that are not `here` on the bridge.
fn subnet(
    script: &mut Script,
    layout: &Layout<'_>,
    own: IpNet,
    node_mac: Mac,
    here: &BTreeSet<IpAddr>,
) {
    let gateway = layout
        .subnet_gateway(own)
        .unwrap_or(layout.link_gateway.of_family(own.addr()));
    script.route(own.trunc(), POD_INTERFACE);
    script.neighbour(gateway, node_mac, POD_INTERFACE);
    for elsewhere in layout
        .used_in(own)
        .filter(|address| !here.contains(address))
    {
        script.route_via(elsewhere.into(), gateway, POD_INTERFACE);
    }
    let broadcast = own.broadcast();
    if broadcast.is_ipv4() && !layout.is_used(broadcast) {
        script.line(format_args!(
            "route replace broadcast {broadcast} dev {POD_INTERFACE} table local proto kernel scope link"
        ));
    }
}

/// The other pods on the bridge are on-link, in whatever subnet they are.
fn neighbours(script: &mut Script, layout: &Layout<'_>, node: usize, index: usize) {
    for &other in layout.pods_of[node].iter().filter(|&&other| other != index) {
        for address in layout.topology.pods[other]
            .addresses
            .iter()
            .map(IpNet::addr)
        {
            script.route(address.into(), POD_INTERFACE);
            script.neighbour(address, pod_mac(other), POD_INTERFACE);
        }
    }
}

/// The route to everything, of the family of `address`.
fn default_route(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}
