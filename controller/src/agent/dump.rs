//! The agent's objects as a file that `picket compile -f` reads.

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy_compiler::manifest;
use policy_compiler::model::{Cluster, Family, Node, Pod, Presence, is_link_local};
use serde_json::{Value, json};

use crate::attachments::has_no_object;

/// A `v1` `List` of all objects: namespaces, nodes, pods, policies, each in the order of their names.
///
/// `picket compile -f FILE --node NAME` prints of it what the agent of that node has in force for these objects, byte
/// for byte, and makes nothing up: each pod has a phase, and each node a list of addresses, also those nodes that only
/// pods name. Of what the model does not keep (images, annotations, times) nothing is there.
///
/// A namespace that an object names and that is not known is left out, as there is no way to write that its labels are
/// not known. `picket compile` makes it up, with the one label that it must have, and says so on stderr: selectors may
/// match it where they match nothing in the agent. A folder has no such namespaces.
///
/// Of a pod that has interfaces, only those addresses are there that a status can name: one of each family, and none that is
/// of its link only. One of which there is no object any more is not there. What interfaces say is in
/// [`Document`](crate::attachments::Document).
///
/// `node` is the agent's own, which is listed too where no object has it.
pub fn list(cluster: &Cluster, node: &str) -> Value {
    let pods = cluster.pods.values();
    let mut named: BTreeSet<&str> = pods.filter_map(|pod| pod.node.as_deref()).collect();
    named.insert(node);
    let unknown = named
        .into_iter()
        .filter(|name| !cluster.nodes.contains_key(*name));
    let unknown = unknown.map(|name| {
        manifest::node(&Node {
            name: name.to_owned(),
            addresses: BTreeSet::new(),
            pod_cidrs: Vec::new(),
        })
    });
    let cluster = listed(cluster);
    let items: Vec<Value> = unknown.chain(manifest::objects(&cluster)).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// The objects without what only interfaces say.
fn listed(cluster: &Cluster) -> Cluster {
    let mut listed = cluster.clone();
    let pods = cluster.pods.values();
    for pod in pods.filter(|pod| pod.presence != Presence::Listed) {
        listed.remove_pod(&pod.id);
        if !has_no_object(pod) {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in pod
                .addresses
                .iter()
                .filter(|address| !is_link_local(address))
            {
                let family = Family::of(*address);
                if addresses.iter().all(|other| Family::of(*other) != family) {
                    addresses.push(*address);
                }
            }
            listed.add_pod(Pod {
                addresses,
                ..pod.clone()
            });
        }
    }
    listed
}
