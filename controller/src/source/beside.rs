//! What was made up for an object is the same beside another input that has it too, so that the two can be compared.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use policy_compiler::api::{Ip, Node, NodeAddress, Pod};

use super::complete::Cluster;
use super::network::{given_addresses, host_addresses};
use super::note::Note;
use super::origin::ObjectRef;

/// Gives the pods and nodes what was made up for them beside, as far as they have none of their own and nobody else
/// has it here. The notes of what was given.
pub(super) fn apply(cluster: &mut Cluster, beside: &[Note]) -> Vec<Note> {
    let taken: HashSet<IpAddr> = given_addresses(cluster).into_iter().collect();
    let told: BTreeMap<String, Vec<IpAddr>> = host_addresses(cluster);
    let is_free = |addresses: &[IpAddr]| {
        !addresses.is_empty() && !addresses.iter().any(|address| taken.contains(address))
    };
    let mut given = Vec::new();
    for note in beside {
        let is_given = match note {
            Note::NodeAddressed {
                name,
                addresses,
                from_pods: false,
            } if is_free(addresses) && !told.contains_key(name) => cluster
                .nodes
                .get_mut(name)
                .is_some_and(|(_, node)| address_node(node, addresses)),
            Note::PodCompleted {
                pod,
                running: true,
                node,
                addresses,
            } if is_free(addresses) => {
                let nodes = &cluster.nodes;
                let node = node.as_ref().filter(|node| nodes.contains_key(*node));
                let pod = key(pod).and_then(|key| cluster.pods.get_mut(&key));
                pod.is_some_and(|(_, pod)| address_pod(pod, node, addresses))
            }
            _ => false,
        };
        if is_given {
            given.push(note.clone());
        }
    }
    given
}

/// Puts the notes of what was given in the place of those that say less.
pub(super) fn restore(notes: &mut Vec<Note>, given: Vec<Note>) {
    let pods: HashSet<ObjectRef> = given.iter().filter_map(completed).cloned().collect();
    notes.retain(|note| completed(note).is_none_or(|pod| !pods.contains(pod)));
    notes.extend(given);
}

fn completed(note: &Note) -> Option<&ObjectRef> {
    match note {
        Note::PodCompleted { pod, .. } => Some(pod),
        _ => None,
    }
}

fn key(pod: &ObjectRef) -> Option<(String, String)> {
    Some((pod.namespace.clone()?, pod.name.clone()?))
}

fn address_node(node: &mut Node, addresses: &[IpAddr]) -> bool {
    let listed = &mut node.status.get_or_insert_default().addresses;
    if listed.is_some() {
        return false;
    }
    let listed = listed.get_or_insert_default();
    listed.extend(addresses.iter().map(|address| NodeAddress {
        type_: "InternalIP".to_owned(),
        address: address.to_string(),
    }));
    true
}

/// A pod of the pod network without phase and address.
fn address_pod(pod: &mut Pod, node: Option<&String>, addresses: &[IpAddr]) -> bool {
    let spec = pod.spec.get_or_insert_default();
    let status = pod.status.get_or_insert_default();
    let has_phase = status.phase.as_ref().is_some_and(|phase| !phase.is_empty());
    let mut texts = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
    let has_address = texts.any(|text| !text.is_empty())
        || status.pod_ip.as_ref().is_some_and(|text| !text.is_empty());
    if spec.host_network == Some(true) || has_phase || has_address {
        return false;
    }
    if spec.node_name.is_none() {
        spec.node_name = node.cloned();
    }
    status.pod_ip = addresses.first().map(IpAddr::to_string);
    let ips = addresses.iter().map(|ip| Ip { ip: ip.to_string() });
    status.pod_ips = Some(ips.collect());
    true
}
