//! Peers as shared sets: each distinct peer is resolved once, whoever names it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::rules::PeerKey;
use crate::ir::{NamedPortSet, PeerMatch, PeerMembers, PeerSet};
use crate::model::{Cluster, LabelSelector, Labels, NamespaceScope, Peer, Pod, Protocol};
use crate::name::Namer;

/// A peer, a port's name and its protocol. Without a peer: every pod of the cluster.
pub(crate) type NamedPortKey<'a> = (Option<&'a Peer>, &'a str, Protocol);

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
        let mut pods = PeerPods::new(cluster);
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
pub(crate) fn identity_of_peer(peer: &Peer) -> (String, String) {
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

pub(crate) fn identity_of_named_port(
    (peer, name, protocol): &NamedPortKey<'_>,
) -> (String, String) {
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
    /// How rules name a registered peer or named port.
    pub(super) fn name_of(&self, key: PeerKey<'_>) -> PeerMatch {
        match key {
            PeerKey::Any => PeerMatch::Any,
            PeerKey::Set(peer) => PeerMatch::Set(self.peer_names[peer].clone()),
            PeerKey::NamedPorts(key) => PeerMatch::NamedPorts(self.named_port_names[&key].clone()),
        }
    }
}

/// Pods of a namespace that no selector can tell apart, since their labels are the same.
struct Alike<'a> {
    labels: &'a Labels,
    /// Their addresses, each with its pod.
    addresses: Vec<(IpAddr, &'a Pod)>,
}

/// The pods that a selector can find, by namespace and labels, with the addresses that they own. Of the namespaces that
/// some selector asked for: what is named by few peers costs little.
pub(crate) struct PeerPods<'a> {
    cluster: &'a Cluster,
    by_namespace: BTreeMap<&'a str, Vec<Alike<'a>>>,
}

impl<'a> PeerPods<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            by_namespace: BTreeMap::new(),
        }
    }

    /// The addresses of a peer.
    pub(crate) fn members(&mut self, peer: &Peer) -> PeerMembers {
        match peer {
            Peer::Block(block) => PeerMembers::Block(block.ranges()),
            Peer::Pods { namespaces, pods } => {
                let found = self.select(namespaces, pods);
                PeerMembers::Pods(found.map(|(address, _)| *address).collect())
            }
        }
    }

    /// Each pod with its own numbers: a product of addresses and numbers would allow too much.
    pub(crate) fn named_ports(
        &mut self,
        (peer, name, protocol): NamedPortKey<'_>,
    ) -> BTreeSet<(IpAddr, Protocol, u16)> {
        let numbers = |(address, pod): (IpAddr, &'a Pod)| {
            pod.numbers_of(name, protocol)
                .map(move |number| (address, protocol, number))
        };
        match peer {
            None => self.all().flat_map(numbers).collect(),
            Some(Peer::Pods { namespaces, pods }) => {
                let found = self.select(namespaces, pods).copied();
                found.flat_map(numbers).collect()
            }
            Some(Peer::Block(block)) => {
                let ranges = block.ranges();
                let inside = self.all().filter(|(address, _)| ranges.contains(*address));
                inside.flat_map(numbers).collect()
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = (IpAddr, &'a Pod)> {
        let cluster = self.cluster;
        let pods = cluster.pods.values().filter(|pod| pod.is_peer());
        pods.flat_map(move |pod: &Pod| cluster.owned_by(pod).map(move |address| (address, pod)))
    }

    /// The addresses of the pods that the selectors find.
    fn select(
        &mut self,
        namespaces: &NamespaceScope,
        pods: &LabelSelector,
    ) -> impl Iterator<Item = &(IpAddr, &'a Pod)> {
        let cluster = self.cluster;
        let found: Vec<&'a str> = match namespaces {
            NamespaceScope::Own(own) => {
                let mut own = cluster.pods_in(own);
                own.next()
                    .map(|pod| pod.id.namespace.as_str())
                    .into_iter()
                    .collect()
            }
            NamespaceScope::Matching(selector) => {
                let namespaces = cluster.namespaces.values();
                let namespaces = namespaces.filter(|namespace| selector.matches(&namespace.labels));
                namespaces
                    .map(|namespace| namespace.name.as_str())
                    .collect()
            }
        };
        for name in &found {
            let alike = || alike(cluster, name);
            self.by_namespace.entry(name).or_insert_with(alike);
        }
        let by_namespace = &self.by_namespace;
        let found = found.into_iter().filter_map(|name| by_namespace.get(name));
        let found = found.flatten().filter(|alike| pods.matches(alike.labels));
        found.flat_map(|alike| &alike.addresses)
    }
}

fn alike<'a>(cluster: &'a Cluster, namespace: &str) -> Vec<Alike<'a>> {
    let mut all: Vec<Alike<'a>> = Vec::new();
    let pods = cluster.pods_in(namespace);
    for pod in pods.filter(|pod| pod.is_peer()) {
        let addresses = cluster.owned_by(pod).map(|address| (address, pod));
        // Pods of a ReplicaSet follow each other by name. Whoever else is alike costs one more question to each
        // selector, which is less than to look for all.
        match all.last_mut().filter(|last| *last.labels == *pod.labels) {
            Some(alike) => alike.addresses.extend(addresses),
            None => all.push(Alike {
                labels: &pod.labels,
                addresses: addresses.collect(),
            }),
        }
    }
    all
}
