//! Ends that no policy can tell apart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Outside;
use super::outside::outside;
use crate::evaluate::{OtherEnd, peer_matches, selects};
use crate::model::{
    Cluster, Direction, Family, IpBlock, Labels, NamespacedName, NetworkPolicy, Owner, Peer, Peers,
    Pod, PortMatch, Ports, Protocol, Rule, is_link_local,
};

/// Ends of one kind between which no policy makes a difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Pods of one namespace, in order.
    Pods(Vec<NamespacedName>),
    /// Nodes, in order, each as its first address of a family. hostNetwork pods are among them as their node.
    Nodes(Vec<String>),
    /// Addresses that are nobody's in the cluster.
    Outside(Outside),
}

impl Group {
    /// A pair of addresses that stands for all from one group to another: of two pods if there are two, and of a pod
    /// and a node that is not its own if there is one. None if the family is not on both sides.
    pub fn pair(&self, to: &Self, cluster: &Cluster, family: Family) -> Option<(IpAddr, IpAddr)> {
        let sources = self.ends(cluster, family);
        let destinations = to.ends(cluster, family);
        let pairs = || {
            let destinations = &destinations;
            sources
                .iter()
                .flat_map(move |from| destinations.iter().map(move |to| (*from, *to)))
        };
        let is_plain =
            |(from, to): &(IpAddr, IpAddr)| match (cluster.owner(*from), cluster.owner(*to)) {
                (Owner::Pod(pod), Owner::Node(node)) | (Owner::Node(node), Owner::Pod(pod)) => {
                    pod.node.as_deref() != Some(node)
                }
                _ => from != to,
            };
        pairs().find(is_plain).or_else(|| pairs().next())
    }

    fn ends(&self, cluster: &Cluster, family: Family) -> Vec<IpAddr> {
        let of_family = |address: &IpAddr| Family::of(*address) == family;
        match self {
            Group::Pods(pods) => pods
                .iter()
                .filter_map(|id| {
                    let pod = cluster.pods.get(id)?;
                    // What it has on its link only interfaces say.
                    let mut addresses = cluster.addresses_of(pod);
                    addresses.find(|address| of_family(address) && !is_link_local(address))
                })
                .collect(),
            Group::Nodes(nodes) => nodes
                .iter()
                .filter_map(|name| {
                    let node = cluster.nodes.get(name)?;
                    node.addresses.iter().copied().find(of_family)
                })
                .collect(),
            Group::Outside(outside) => outside.examples.iter().copied().filter(of_family).collect(),
        }
    }
}

/// Divides the ends that are in all of the clusters, such that no policy of any of them tells two of a group apart.
/// Pods of different namespaces are never in one group. Pods and nodes without an address are in none.
pub fn groups(clusters: &[&Cluster]) -> Vec<Group> {
    let Some(first) = clusters.first() else {
        return Vec::new();
    };
    let indexes: Vec<Index<'_>> = clusters.iter().map(|cluster| Index::of(cluster)).collect();
    let mut pods: BTreeMap<(&str, Vec<Standing<'_>>), Vec<NamespacedName>> = BTreeMap::new();
    let mut known = vec![BTreeMap::new(); clusters.len()];
    for id in first.pods.keys() {
        let standings = indexes.iter().zip(&mut known).map(|(index, known)| {
            let pod = index.cluster.pods.get(id)?;
            index.standing(pod, known)
        });
        if let Some(standings) = standings.collect::<Option<Vec<_>>>() {
            let key = (id.namespace.as_str(), standings);
            pods.entry(key).or_default().push(id.clone());
        }
    }
    let mut nodes: BTreeMap<Vec<BlocksOf>, Vec<String>> = BTreeMap::new();
    for name in first.nodes.keys() {
        let standings = indexes.iter().map(|index| index.node(name));
        if let Some(standings) = standings.collect::<Option<Vec<_>>>() {
            nodes.entry(standings).or_default().push(name.clone());
        }
    }
    let blocks = indexes
        .iter()
        .flat_map(|index| &index.blocks)
        .copied()
        .collect();
    let mut pods: Vec<_> = pods.into_values().map(Group::Pods).collect();
    let mut nodes: Vec<_> = nodes.into_values().map(Group::Nodes).collect();
    pods.sort_unstable();
    nodes.sort_unstable();
    let outside = outside(clusters, &blocks).into_iter().map(Group::Outside);
    pods.into_iter().chain(nodes).chain(outside).collect()
}

/// What a cluster's policies can tell of an end.
struct Index<'a> {
    cluster: &'a Cluster,
    peers: BTreeSet<&'a Peer>,
    blocks: BTreeSet<&'a IpBlock>,
    names: BTreeSet<(&'a str, Protocol)>,
}

/// Everything by which policies can tell a pod from others of its namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Standing<'a> {
    /// Whether rules may find it at all.
    is_peer: bool,
    /// The policies that select it, and the selectors that find it as a peer; by position.
    by_labels: (Vec<usize>, Vec<usize>),
    blocks: BlocksOf,
    /// The numbers behind the names that rules use.
    ports: Vec<(&'a str, Protocol, BTreeSet<u16>)>,
}

/// The ipBlocks that hold an end's address, by family.
type BlocksOf = Vec<(Family, Vec<usize>)>;

type ByLabels<'a> = BTreeMap<(&'a str, &'a Labels, bool), (Vec<usize>, Vec<usize>)>;

impl<'a> Index<'a> {
    fn of(cluster: &'a Cluster) -> Self {
        let mut index = Self {
            cluster,
            peers: BTreeSet::new(),
            blocks: BTreeSet::new(),
            names: BTreeSet::new(),
        };
        cluster
            .policies
            .values()
            .flat_map(rules)
            .for_each(|rule| index.insert(rule));
        index
    }

    fn insert(&mut self, rule: &'a Rule) {
        if let Peers::Of(peers) = &rule.peers {
            for peer in peers {
                match peer {
                    Peer::Pods { .. } => drop(self.peers.insert(peer)),
                    Peer::Block(block) => drop(self.blocks.insert(block)),
                }
            }
        }
        if let Ports::Of(ports) = &rule.ports {
            for port in ports {
                if let PortMatch::Named(name) = &port.port {
                    self.names.insert((name, port.protocol));
                }
            }
        }
    }

    /// None for a pod that has no address of its own.
    fn standing(&self, pod: &'a Pod, known: &mut ByLabels<'a>) -> Option<Standing<'a>> {
        let addresses: Vec<_> = self.cluster.addresses_of(pod).collect();
        let first = *addresses.first()?;
        let by_labels = known
            .entry((&pod.id.namespace, &pod.labels, pod.is_peer()))
            .or_insert_with(|| {
                let end = OtherEnd {
                    address: first,
                    owner: Owner::Pod(pod),
                };
                let policies = self.cluster.policies_in(&pod.id.namespace).enumerate();
                let peers = self.peers.iter().enumerate();
                (
                    policies
                        .filter(|(_, policy)| selects(policy, pod))
                        .map(|(position, _)| position)
                        .collect(),
                    peers
                        .filter(|(_, peer)| peer_matches(self.cluster, peer, &end))
                        .map(|(position, _)| position)
                        .collect(),
                )
            })
            .clone();
        let ports = self.names.iter().filter_map(|(name, protocol)| {
            let numbers: BTreeSet<u16> = pod.numbers_of(name, *protocol).collect();
            (!numbers.is_empty()).then_some((*name, *protocol, numbers))
        });
        Some(Standing {
            is_peer: pod.is_peer(),
            by_labels,
            blocks: self.blocks_of(addresses),
            ports: ports.collect(),
        })
    }

    fn node(&self, name: &str) -> Option<BlocksOf> {
        let addresses = &self.cluster.nodes.get(name)?.addresses;
        let firsts = Family::ALL.into_iter().filter_map(|family| {
            let mut addresses = addresses.iter().copied();
            addresses.find(|address| Family::of(*address) == family)
        });
        Some(self.blocks_of(firsts)).filter(|blocks| !blocks.is_empty())
    }

    fn blocks_of(&self, addresses: impl IntoIterator<Item = IpAddr>) -> BlocksOf {
        let of = |address: IpAddr| {
            let blocks = self.blocks.iter().enumerate();
            let blocks = blocks.filter(|(_, block)| block.contains(address));
            blocks.map(|(position, _)| position).collect()
        };
        addresses
            .into_iter()
            .map(|address| (Family::of(address), of(address)))
            .collect()
    }
}

fn rules(policy: &NetworkPolicy) -> impl Iterator<Item = &Rule> {
    [Direction::Ingress, Direction::Egress]
        .into_iter()
        .filter_map(|direction| policy.rules(direction))
        .flatten()
}
