//! Peers as shared sets: each distinct peer is resolved once, whoever names it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::ir::{NamedPortSet, PeerMembers, PeerSet};
use crate::model::{Cluster, LabelSelector, Labels, NamespaceScope, Peer, Pod, Protocol};
use crate::name::Namer;

/// A peer, a port's name and its protocol. Without a peer: every pod of the cluster.
pub(super) type NamedPortKey<'a> = (Option<&'a Peer>, &'a str, Protocol);

/// The peers that a node's classes name.
#[derive(Default)]
pub(super) struct PeerTable<'a> {
    peers: BTreeSet<&'a Peer>,
    named_ports: BTreeSet<NamedPortKey<'a>>,
}

impl<'a> PeerTable<'a> {
    pub(super) fn add_peer(&mut self, peer: &'a Peer) {
        self.peers.insert(peer);
    }

    pub(super) fn add_named_port(&mut self, key: NamedPortKey<'a>) {
        self.named_ports.insert(key);
    }

    /// Gives every peer its name and its members.
    pub(super) fn resolve(self, cluster: &Cluster, namer: Namer) -> Resolved<'a> {
        let pods = PeerPods::new(cluster);
        let texts: Vec<_> = self
            .peers
            .iter()
            .map(|peer| identity_of_peer(peer))
            .collect();
        let names = namer.name(
            texts
                .iter()
                .map(|(short, id)| (short.as_str(), id.as_str())),
        );
        let mut resolved = Resolved::default();
        for (peer, (_, identity)) in self.peers.into_iter().zip(&texts) {
            let name = names[identity.as_str()].clone();
            let set = PeerSet {
                peer: identity.clone(),
                members: pods.members(peer),
            };
            resolved.peers.insert(name.clone(), set);
            resolved.peer_names.insert(peer, name);
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
        for (key, (_, identity)) in self.named_ports.into_iter().zip(&texts) {
            let name = names[identity.as_str()].clone();
            let set = NamedPortSet {
                peer: identity.clone(),
                members: pods.named_ports(key),
            };
            resolved.named_ports.insert(name.clone(), set);
            resolved.named_port_names.insert(key, name);
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

fn identity_of_named_port((peer, name, protocol): &NamedPortKey<'_>) -> (String, String) {
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
pub(super) struct Resolved<'a> {
    pub(super) peers: BTreeMap<String, PeerSet>,
    pub(super) named_ports: BTreeMap<String, NamedPortSet>,
    peer_names: BTreeMap<&'a Peer, String>,
    named_port_names: BTreeMap<NamedPortKey<'a>, String>,
}

impl Resolved<'_> {
    /// The name of a registered peer.
    pub(super) fn peer_name(&self, peer: &Peer) -> String {
        self.peer_names[peer].clone()
    }

    /// The name of a registered named port.
    pub(super) fn named_port_name(&self, key: NamedPortKey<'_>) -> String {
        self.named_port_names[&key].clone()
    }
}

/// Pods of a namespace that no selector can tell apart, since their labels are the same.
struct Alike<'a> {
    labels: &'a Labels,
    /// Their addresses, each with its pod.
    addresses: Vec<(IpAddr, &'a Pod)>,
}

/// The pods that a selector can find, by namespace and labels, with the addresses that they own.
struct PeerPods<'a> {
    cluster: &'a Cluster,
    by_namespace: BTreeMap<&'a str, Vec<Alike<'a>>>,
}

impl<'a> PeerPods<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let mut by_namespace: BTreeMap<&str, Vec<Alike<'a>>> = BTreeMap::new();
        for pod in cluster.pods.values().filter(|pod| pod.is_on_pod_network()) {
            let all = by_namespace.entry(&pod.id.namespace).or_default();
            let addresses = cluster.owned_by(pod).map(|address| (address, pod));
            // Pods of a ReplicaSet follow each other by name. Whoever else is alike costs one more question to each
            // selector, which is less than to look for all.
            match all.last_mut().filter(|last| *last.labels == pod.labels) {
                Some(alike) => alike.addresses.extend(addresses),
                None => all.push(Alike {
                    labels: &pod.labels,
                    addresses: addresses.collect(),
                }),
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
            Peer::Pods { namespaces, pods } => {
                let found = self.select(namespaces, pods);
                PeerMembers::Pods(found.map(|(address, _)| *address).collect())
            }
        }
    }

    /// Each pod with its own numbers: a product of addresses and numbers would allow too much.
    fn named_ports(
        &self,
        (peer, name, protocol): NamedPortKey<'_>,
    ) -> BTreeSet<(IpAddr, Protocol, u16)> {
        let numbers = |(address, pod): &(IpAddr, &'a Pod)| {
            let (address, pod) = (*address, *pod);
            pod.numbers_of(name, protocol)
                .map(move |number| (address, protocol, number))
        };
        match peer {
            None => self.all().flat_map(numbers).collect(),
            Some(Peer::Pods { namespaces, pods }) => {
                self.select(namespaces, pods).flat_map(numbers).collect()
            }
            Some(Peer::Block(block)) => {
                let ranges = block.ranges();
                let inside = self.all().filter(|(address, _)| ranges.contains(*address));
                inside.flat_map(numbers).collect()
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &(IpAddr, &'a Pod)> {
        let alike = self.by_namespace.values().flatten();
        alike.flat_map(|alike| &alike.addresses)
    }

    /// The addresses of the pods that the selectors find.
    fn select(
        &self,
        namespaces: &NamespaceScope,
        pods: &LabelSelector,
    ) -> impl Iterator<Item = &(IpAddr, &'a Pod)> {
        let found: Vec<&Vec<Alike<'a>>> = match namespaces {
            NamespaceScope::Own(own) => self.by_namespace.get(own.as_str()).into_iter().collect(),
            NamespaceScope::Matching(selector) => {
                let matches = |name: &str| {
                    let labels = self.cluster.namespace_labels(name);
                    labels.is_some_and(|labels| selector.matches(labels))
                };
                let namespaces = self.by_namespace.iter();
                let namespaces = namespaces.filter(|(name, _)| matches(name));
                namespaces.map(|(_, alike)| alike).collect()
            }
        };
        let found = found.into_iter().flatten();
        let found = found.filter(|alike| pods.matches(alike.labels));
        found.flat_map(|alike| &alike.addresses)
    }
}
