//! Peers as shared sets: each distinct peer is resolved once, whoever names it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::ir::{NamedPortSet, PeerMembers, PeerSet};
use crate::model::{Cluster, NamespaceScope, Peer, Pod, PortName, Protocol};
use crate::name::Namer;

/// A peer, a port's name and its protocol. Without a peer: every pod of the cluster.
type NamedPortKey = (Option<Peer>, PortName, Protocol);

/// The peers that a node's classes name.
#[derive(Default)]
pub(super) struct PeerTable {
    peers: BTreeSet<Peer>,
    named_ports: BTreeSet<NamedPortKey>,
}

impl PeerTable {
    pub(super) fn add_peer(&mut self, peer: &Peer) {
        if !self.peers.contains(peer) {
            self.peers.insert(peer.clone());
        }
    }

    pub(super) fn add_named_port(&mut self, peer: Option<&Peer>, name: &str, protocol: Protocol) {
        self.named_ports
            .insert((peer.cloned(), name.to_owned(), protocol));
    }

    /// Gives every peer its name and its members.
    pub(super) fn resolve(self, cluster: &Cluster, namer: Namer) -> Resolved {
        let pods = PeerPods::new(cluster);
        let texts: Vec<_> = self.peers.iter().map(identity_of_peer).collect();
        let names = namer.name(
            texts
                .iter()
                .map(|(short, id)| (short.as_str(), id.as_str())),
        );
        let mut resolved = Resolved::default();
        for (peer, (_, identity)) in self.peers.iter().zip(&texts) {
            let name = names[identity.as_str()].clone();
            let set = PeerSet {
                peer: peer.to_string(),
                members: pods.members(peer),
            };
            resolved.peers.insert(name.clone(), set);
            resolved.peer_names.insert(peer.clone(), name);
        }
        let texts: Vec<_> = self
            .named_ports
            .iter()
            .map(identity_of_named_port)
            .collect();
        let names = namer.name(
            texts
                .iter()
                .map(|(short, id)| (short.as_str(), id.as_str())),
        );
        for (key, (_, identity)) in self.named_ports.iter().zip(&texts) {
            let name = names[identity.as_str()].clone();
            let set = NamedPortSet {
                peer: identity.clone(),
                members: pods.named_ports(key),
            };
            resolved.named_ports.insert(name.clone(), set);
            resolved.named_port_names.insert(key.clone(), name);
        }
        resolved
    }
}

/// Readable text and identity. The identity is the peer in words: label values can hold no separator.
fn identity_of_peer(peer: &Peer) -> (String, String) {
    let readable = match peer {
        Peer::Pods {
            namespaces: NamespaceScope::Own(namespace),
            pods,
        } => format!("{namespace} {pods}"),
        Peer::Pods {
            namespaces: NamespaceScope::Matching(namespaces),
            pods,
        } => format!("ns {namespaces} pods {pods}"),
        Peer::Block(block) => block.to_string(),
    };
    (readable, peer.to_string())
}

fn identity_of_named_port((peer, name, protocol): &NamedPortKey) -> (String, String) {
    let (readable, identity) = match peer {
        Some(peer) => identity_of_peer(peer),
        None => ("any".into(), "every pod".into()),
    };
    (
        format!("{name} {readable}"),
        format!("port {name}/{protocol} of {identity}"),
    )
}

/// Named sets with their members.
#[derive(Default)]
pub(super) struct Resolved {
    pub(super) peers: BTreeMap<String, PeerSet>,
    pub(super) named_ports: BTreeMap<String, NamedPortSet>,
    peer_names: BTreeMap<Peer, String>,
    named_port_names: BTreeMap<NamedPortKey, String>,
}

impl Resolved {
    /// The name of a registered peer.
    pub(super) fn peer_name(&self, peer: &Peer) -> String {
        self.peer_names[peer].clone()
    }

    /// The name of a registered named port.
    pub(super) fn named_port_name(
        &self,
        peer: Option<&Peer>,
        name: &str,
        protocol: Protocol,
    ) -> String {
        self.named_port_names[&(peer.cloned(), name.to_owned(), protocol)].clone()
    }
}

/// The pods that a selector can find, by namespace, with the addresses that they own.
struct PeerPods<'a> {
    cluster: &'a Cluster,
    by_namespace: BTreeMap<&'a str, Vec<(&'a Pod, Vec<IpAddr>)>>,
}

impl<'a> PeerPods<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let mut by_namespace: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for pod in cluster.pods.values().filter(|pod| pod.is_on_pod_network()) {
            let addresses: Vec<_> = cluster.addresses_of(pod).collect();
            if !addresses.is_empty() {
                let pods = by_namespace.entry(&pod.id.namespace).or_default();
                pods.push((pod, addresses));
            }
        }
        Self {
            cluster,
            by_namespace,
        }
    }

    fn members(&self, peer: &Peer) -> PeerMembers {
        match peer {
            Peer::Block(block) => PeerMembers::Block(block.ranges()),
            Peer::Pods { .. } => PeerMembers::Pods(
                self.select(Some(peer))
                    .flat_map(|(_, addresses)| addresses)
                    .copied()
                    .collect(),
            ),
        }
    }

    /// Each pod with its own numbers: a product of addresses and numbers would allow too much.
    fn named_ports(
        &self,
        (peer, name, protocol): &NamedPortKey,
    ) -> BTreeSet<(IpAddr, Protocol, u16)> {
        let mut members = BTreeSet::new();
        for (pod, addresses) in self.select(peer.as_ref()) {
            for number in pod.numbers_of(name, *protocol) {
                let in_block = |address: &&IpAddr| match peer {
                    Some(Peer::Block(block)) => block.contains(**address),
                    _ => true,
                };
                let addresses = addresses.iter().filter(in_block);
                members.extend(addresses.map(|address| (*address, *protocol, number)));
            }
        }
        members
    }

    /// The pods that the peer's selectors find; every pod for a block, and without a peer.
    fn select(&self, peer: Option<&Peer>) -> impl Iterator<Item = &(&'a Pod, Vec<IpAddr>)> {
        let (scope, selector) = match peer {
            Some(Peer::Pods { namespaces, pods }) => (Some(namespaces), Some(pods)),
            Some(Peer::Block(_)) | None => (None, None),
        };
        let namespaces = self
            .by_namespace
            .iter()
            .filter(move |(name, _)| match scope {
                None => true,
                Some(NamespaceScope::Own(own)) => *own == **name,
                Some(NamespaceScope::Matching(selector)) => self
                    .cluster
                    .namespace_labels(name)
                    .is_some_and(|labels| selector.matches(labels)),
            });
        let pods = namespaces.flat_map(|(_, pods)| pods);
        pods.filter(move |(pod, _)| selector.is_none_or(|selector| selector.matches(&pod.labels)))
    }
}
