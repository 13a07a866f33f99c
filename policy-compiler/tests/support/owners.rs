//! Whose an address is, said once more: all three that are compared ask the same model.

use std::net::IpAddr;

use policy_compiler::model::{Cluster, Owner, Phase};

/// A node's address is the node's, as is that of a hostNetwork pod on it. Of live pods that claim an address one owns
/// it: one that is not being deleted before one that is, then by phase, then by name.
pub(crate) fn owner(cluster: &Cluster, address: IpAddr) -> Owner<'_> {
    let mut nodes = cluster.nodes.values();
    if let Some(node) = nodes.find(|node| node.addresses.contains(&address)) {
        return Owner::Node(&node.name);
    }
    let ended = |phase| matches!(phase, Phase::Succeeded | Phase::Failed);
    let live = || {
        let pods = cluster.pods.values().filter(|pod| !ended(pod.phase));
        pods.filter(|pod| pod.addresses.contains(&address))
    };
    if let Some(pod) = live().rfind(|pod| pod.host_network) {
        return Owner::Node(pod.node.as_deref().expect("it is on a node"));
    }
    let running = |phase| match phase {
        Phase::Running => 0,
        Phase::Pending => 1,
        _ => 2,
    };
    let best = live().min_by_key(|pod| (pod.terminating, running(pod.phase), &pod.id));
    best.map_or(Owner::External, Owner::Pod)
}
