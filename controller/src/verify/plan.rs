//! The testbed that a set of flows needs, and the probe for each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use policy_compiler::evaluate::{Transport, Verdict};
use policy_compiler::model::{Cluster, Owner, Pod, Protocol};
use testbed::{Network, NodeSpec, Outcome, Place, PodSpec, Probe, Topology};

use crate::flow::Asked;

/// The pods that a flow touches, their nodes, and the addresses outside.
pub(super) fn topology(cluster: &Cluster, flows: &[&Asked], network: Network) -> Topology {
    let mut pods: BTreeMap<String, &Pod> = BTreeMap::new();
    let mut nodes: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut externals = BTreeSet::new();
    for flow in flows {
        for address in [flow.connection.source, flow.connection.destination] {
            match cluster.owner(address) {
                Owner::Pod(pod) => {
                    pods.insert(pod.id.to_string(), pod);
                    nodes.entry(node_of(pod)).or_default();
                }
                Owner::Node(node) => {
                    nodes.entry(node.to_owned()).or_default().insert(address);
                }
                Owner::External => {
                    externals.insert(address);
                }
            }
        }
    }
    for (name, addresses) in &mut nodes {
        addresses.extend(
            cluster
                .nodes
                .get(name)
                .iter()
                .flat_map(|node| &node.addresses),
        );
    }
    let pods = pods.into_iter().map(|(name, pod)| PodSpec {
        name,
        node: node_of(pod),
        addresses: cluster.addresses_of(pod).map(IpNet::from).collect(),
    });
    let nodes = nodes.into_iter().map(|(name, addresses)| NodeSpec {
        name,
        addresses: addresses.into_iter().collect(),
    });
    Topology {
        network,
        nodes: nodes.collect(),
        pods: pods.collect(),
        externals: externals.into_iter().collect(),
    }
}

/// A pod with an address is on a node.
fn node_of(pod: &Pod) -> String {
    pod.node.clone().unwrap_or_default()
}

fn place(cluster: &Cluster, address: IpAddr) -> Place {
    match cluster.owner(address) {
        Owner::Pod(pod) => Place::Pod(pod.id.to_string()),
        Owner::Node(node) => Place::Node(node.to_owned()),
        Owner::External => Place::External,
    }
}

pub(super) fn probe(cluster: &Cluster, asked: &Asked, expected: Verdict) -> Probe {
    let connection = asked.connection;
    let (protocol, port) = match connection.transport {
        Transport::Port(Protocol::Tcp, port) => (testbed::Protocol::Tcp, port),
        Transport::Port(Protocol::Udp, port) => (testbed::Protocol::Udp, port),
        Transport::Port(Protocol::Sctp, port) => (testbed::Protocol::Sctp, port),
        Transport::Icmp => (testbed::Protocol::Icmp, 0),
    };
    Probe {
        from: place(cluster, connection.source),
        source: connection.source,
        to: place(cluster, connection.destination),
        destination: connection.destination,
        protocol,
        port,
        listen: None,
        expect: Some(match expected {
            Verdict::Allow => Outcome::Passed,
            Verdict::Deny => Outcome::Dropped,
        }),
    }
}
