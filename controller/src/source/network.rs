//! Where pods run and what addresses pods and nodes have, as far as the input does not say.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use policy_compiler::api::{Ip, Node, NodeAddress, Pod, PodStatus};

use super::address::{Addresses, Family, parse, single};
use super::complete::{Cluster, reference};
use super::error::{Cause, Problem};
use super::note::Note;
use super::origin::{ObjectRef, Origin};

/// Addresses the nodes, and places and addresses the pods that are not from a live cluster.
///
/// All nodes that pods name are there. What a live pod (one with a phase) does not have, it really does not have; but one
/// with an address is on some node, unless it says that it is on none (`nodeName: ""`).
pub(super) fn address(cluster: &mut Cluster, notes: &mut Vec<Note>) -> Vec<Problem> {
    leave_out_addresses(cluster, notes);
    let mut network = Network::of(cluster);
    let mut problems = Vec::new();
    let host_addresses = host_addresses(cluster);
    for (slot, (origin, node)) in cluster.nodes.values_mut().enumerate() {
        let told = network
            .slots
            .get(slot)
            .and_then(|slot| host_addresses.get(&slot.name));
        problems.extend(network.address_node(slot, origin, node, told, notes));
    }
    let mut turn = (0..network.slots.len()).cycle();
    for ((namespace, name), (origin, pod)) in &mut cluster.pods {
        let object = reference("Pod", Some(namespace), name);
        let status = pod.status.get_or_insert_default();
        let running = status.phase.as_ref().is_none_or(String::is_empty);
        if !running && !is_somewhere(pod) {
            continue;
        }
        let (slot, node) = network.place(pod, &mut turn);
        if !running {
            notes.push(Note::PodCompleted {
                pod: object,
                running,
                node,
                addresses: Vec::new(),
            });
            continue;
        }
        let addresses = network.run(slot, pod);
        if addresses.is_none() {
            problems.push(exhausted(origin, &object));
        }
        notes.push(Note::PodCompleted {
            pod: object,
            running,
            node,
            addresses: addresses.unwrap_or_default(),
        });
    }
    problems
}

/// Whether a pod has an address, and does not say which node it is on.
fn is_somewhere(pod: &Pod) -> bool {
    let is_told = pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.node_name.is_some());
    let status = pod.status.as_ref();
    let has_address = status.is_some_and(|status| {
        let texts = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
        texts.chain(&status.pod_ip).any(|text| !text.is_empty())
    });
    has_address && !is_told
}

/// Takes from pods the addresses that no packet has as its source: pods with them cannot be told apart by address.
pub(super) fn leave_out_addresses(cluster: &mut Cluster, notes: &mut Vec<Note>) {
    for ((namespace, name), (_, pod)) in &mut cluster.pods {
        let Some(status) = &mut pod.status else {
            continue;
        };
        let mut left_out = BTreeSet::new();
        let mut is_kept = |text: &str| match parse(text).filter(|address| !is_unicast(*address)) {
            None => true,
            Some(address) => {
                left_out.insert(address);
                false
            }
        };
        if let Some(list) = &mut status.pod_ips {
            list.retain(|ip| is_kept(&ip.ip));
        }
        status.pod_ip.take_if(|text| !is_kept(text));
        notes.extend(left_out.into_iter().map(|address| Note::AddressLeftOut {
            pod: reference("Pod", Some(namespace), name),
            address,
        }));
    }
}

fn is_unicast(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_broadcast)
}

/// A node as far as its pods are concerned.
struct Slot {
    name: String,
    pod_cidrs: Vec<IpNet>,
    addresses: Vec<IpAddr>,
}

/// The nodes in name order, and the addresses that are left.
struct Network {
    slots: Vec<Slot>,
    indexes: BTreeMap<String, usize>,
    families: Vec<Family>,
    addresses: Addresses,
}

impl Network {
    fn of(cluster: &Cluster) -> Self {
        let slots: Vec<Slot> = cluster
            .nodes
            .iter()
            .map(|(name, (_, node))| Slot {
                name: name.clone(),
                pod_cidrs: pod_cidrs(node),
                addresses: node_ips(node),
            })
            .collect();
        let given = given_addresses(cluster);
        let pod_cidrs: Vec<IpNet> = slots
            .iter()
            .flat_map(|slot| slot.pod_cidrs.iter().copied())
            .collect();
        Self {
            indexes: slots
                .iter()
                .enumerate()
                .map(|(at, slot)| (slot.name.clone(), at))
                .collect(),
            families: families(&given),
            addresses: Addresses::new(avoided(cluster, given), &pod_cidrs, slots.len()),
            slots,
        }
    }

    /// Gives a node addresses if it has none: those that its pods tell, else made-up ones unless its status says that
    /// it has none.
    fn address_node(
        &mut self,
        slot: usize,
        origin: &Origin,
        node: &mut Node,
        told: Option<&Vec<IpAddr>>,
        notes: &mut Vec<Note>,
    ) -> Option<Problem> {
        let own = self
            .slots
            .get_mut(slot)
            .filter(|own| own.addresses.is_empty())?;
        let is_said = |node: &Node| {
            let status = node.status.as_ref();
            status.is_some_and(|status| status.addresses.is_some())
        };
        if told.is_none() && is_said(node) {
            return None;
        }
        let made_up = || {
            self.families
                .iter()
                .map(|family| self.addresses.node(slot, *family))
                .collect()
        };
        let Some(addresses) = told.cloned().or_else(made_up) else {
            return Some(exhausted(origin, &reference("Node", None, &own.name)));
        };
        let listed = node
            .status
            .get_or_insert_default()
            .addresses
            .get_or_insert_default();
        listed.extend(addresses.iter().map(|address| NodeAddress {
            type_: "InternalIP".to_owned(),
            address: address.to_string(),
        }));
        own.addresses.clone_from(&addresses);
        notes.push(Note::NodeAddressed {
            name: own.name.clone(),
            addresses,
            from_pods: told.is_some(),
        });
        None
    }

    /// The pod's node, and its name if the pod was placed there just now.
    fn place(
        &self,
        pod: &mut Pod,
        turn: &mut impl Iterator<Item = usize>,
    ) -> (usize, Option<String>) {
        let bound = &mut pod.spec.get_or_insert_default().node_name;
        if let Some(slot) = bound.as_ref().and_then(|name| self.indexes.get(name)) {
            return (*slot, None);
        }
        let slot = turn.next().unwrap_or_default();
        *bound = self.slots.get(slot).map(|slot| slot.name.clone());
        (slot, bound.clone())
    }

    /// Makes a pod without a phase a running one; the addresses made up for it, `None` if there is none left.
    fn run(&mut self, slot: usize, pod: &mut Pod) -> Option<Vec<IpAddr>> {
        let on_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        let status = pod.status.get_or_insert_default();
        status.phase = Some("Running".to_owned());
        // Also what is no address: whoever reads it next refuses it.
        let texts = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
        if texts.chain(&status.pod_ip).any(|text| !text.is_empty()) {
            return Some(Vec::new());
        }
        let node = self.slots.get(slot)?;
        let made_up: Vec<IpAddr> = if on_host {
            one_per_family(&node.addresses)
        } else {
            let pod = |family: &Family| self.addresses.pod(slot, &node.pod_cidrs, *family);
            self.families.iter().map(pod).collect::<Option<_>>()?
        };
        status.pod_ip = made_up.first().map(IpAddr::to_string);
        status.pod_ips = Some(made_up.iter().map(|ip| Ip { ip: ip.to_string() }).collect());
        Some(made_up)
    }
}

/// What a made-up address must not be: any address of the input, also those that policies single out.
fn avoided(cluster: &Cluster, given: Vec<IpAddr>) -> HashSet<IpAddr> {
    let specs = cluster
        .policies
        .values()
        .filter_map(|(_, policy)| policy.spec.as_ref());
    let peers = specs.flat_map(|spec| {
        let from = spec
            .ingress
            .iter()
            .flatten()
            .flat_map(|rule| rule.from.iter().flatten());
        from.chain(
            spec.egress
                .iter()
                .flatten()
                .flat_map(|rule| rule.to.iter().flatten()),
        )
    });
    let blocks = peers.filter_map(|peer| peer.ip_block.as_ref());
    let texts = blocks.flat_map(|block| block.cidr.iter().chain(block.except.iter().flatten()));
    texts.filter_map(|text| single(text)).chain(given).collect()
}

/// Where the cluster's families show: pod addresses, node addresses, podCIDRs.
pub(super) fn given_addresses(cluster: &Cluster) -> Vec<IpAddr> {
    let statuses = || {
        cluster
            .pods
            .values()
            .filter_map(|(_, pod)| pod.status.as_ref())
    };
    let pods = statuses().flat_map(|status| pod_ips(status).into_iter().chain(host_ips(status)));
    let nodes = cluster.nodes.values().flat_map(|(_, node)| {
        let cidrs = pod_cidrs(node).into_iter().map(|cidr| cidr.addr());
        node_ips(node).into_iter().chain(cidrs)
    });
    pods.chain(nodes).collect()
}

/// What pods say about their node's addresses; where they differ, the first pod that says anything.
pub(super) fn host_addresses(cluster: &Cluster) -> BTreeMap<String, Vec<IpAddr>> {
    let mut known = BTreeMap::new();
    for (_, pod) in cluster.pods.values() {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
        let addresses = pod.status.as_ref().map(host_ips).unwrap_or_default();
        if let (Some(node), false) = (node, addresses.is_empty()) {
            known.entry(node.clone()).or_insert(addresses);
        }
    }
    known
}
/// The input names more nodes or pods than there are addresses to make up.
fn exhausted(origin: &Origin, object: &ObjectRef) -> Problem {
    match origin {
        Origin::Read(place) | Origin::StandIn(place) => {
            Problem::of_object(place, object, None, Cause::NoAddressLeft)
        }
        Origin::MadeUp => Problem {
            object: Some(object.clone()),
            ..Problem::of_file(&origin.to_string().into(), Cause::NoAddressLeft)
        },
    }
}

fn families(given: &[IpAddr]) -> Vec<Family> {
    let known: BTreeSet<Family> = given.iter().map(|address| Family::of(*address)).collect();
    if known.len() == 1 {
        known.into_iter().collect()
    } else {
        vec![Family::V4, Family::V6]
    }
}

fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.iter();
    let texts = spec.flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr));
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn node_ips(node: &Node) -> Vec<IpAddr> {
    let addresses = node
        .status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten());
    let mut typed: Vec<(bool, &NodeAddress)> = addresses
        .filter(|address| address.type_.ends_with("IP"))
        .map(|address| (address.type_ != "InternalIP", address))
        .collect();
    // Stable: internal addresses first, as a pod on the host network shows them.
    typed.sort_by_key(|(external, _)| *external);
    typed
        .iter()
        .filter_map(|(_, address)| parse(&address.address))
        .collect()
}

fn ips(list: Option<&Vec<Ip>>, first: Option<&String>) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for address in list
        .into_iter()
        .flatten()
        .map(|ip| &ip.ip)
        .chain(first)
        .filter_map(|text| parse(text))
    {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

fn pod_ips(status: &PodStatus) -> Vec<IpAddr> {
    ips(status.pod_ips.as_ref(), status.pod_ip.as_ref())
}

fn host_ips(status: &PodStatus) -> Vec<IpAddr> {
    ips(status.host_ips.as_ref(), status.host_ip.as_ref())
}

/// A pod has at most one address per family.
fn one_per_family(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut seen = BTreeSet::new();
    addresses
        .iter()
        .copied()
        .filter(|address| seen.insert(Family::of(*address)))
        .collect()
}
