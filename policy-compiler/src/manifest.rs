//! Model values in API form: what [`crate::validate`] reads back as the same values.
//!
//! Times, images and the names of containers are not in the model; where the API asks for one, it is a constant.

use serde_json::{Value, json};

use crate::model::{
    Cluster, LabelSelector, Namespace, NamespaceScope, NetworkPolicy, Node, Peer, Peers, Phase,
    Pod, PolicyPort, PortMatch, Ports, Requirement, Rule,
};

/// The objects of a cluster: namespaces, nodes, pods, policies, each in the order of their names.
pub fn objects(cluster: &Cluster) -> impl Iterator<Item = Value> {
    let namespaces = cluster.namespaces.values().map(namespace);
    let nodes = cluster.nodes.values().map(node);
    let pods = cluster.pods.values().map(pod);
    let policies = cluster.policies.values().map(policy);
    namespaces.chain(nodes).chain(pods).chain(policies)
}

fn namespace(namespace: &Namespace) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": namespace.name, "labels": namespace.labels},
    })
}

/// The node. A list of addresses is there also if it is empty: the node has none then.
pub fn node(node: &Node) -> Value {
    let address = |address| json!({"type": "InternalIP", "address": address});
    let addresses: Vec<_> = node.addresses.iter().map(address).collect();
    let mut value = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": node.name}, "status": {"addresses": addresses},
    });
    if !node.pod_cidrs.is_empty() {
        let cidrs: Vec<_> = node.pod_cidrs.iter().map(ToString::to_string).collect();
        value["spec"] = json!({"podCIDRs": cidrs});
    }
    value
}

/// The pod. What tells that it is there besides its object is left out.
pub fn pod(pod: &Pod) -> Value {
    // A container each, since only so a name may be there twice.
    let containers = pod.ports.iter().zip(0..).map(|(port, index)| {
        let mut entry = json!({"containerPort": port.port, "protocol": port.protocol});
        if let Some(name) = &port.name {
            entry["name"] = name.as_str().into();
        }
        json!({"name": format!("c{index}"), "ports": [entry]})
    });
    let containers: Vec<_> = containers.collect();
    let ips: Vec<_> = pod.addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let mut metadata = json!({
        "namespace": pod.id.namespace, "name": pod.id.name, "labels": *pod.labels,
    });
    if let Some(uid) = &pod.uid {
        metadata["uid"] = uid.as_ref().into();
    }
    if pod.terminating {
        metadata["deletionTimestamp"] = "1970-01-01T00:00:00Z".into();
    }
    // Also where it is on none: else whoever reads it could place it.
    let node = pod.node.as_deref().unwrap_or_default();
    let spec = json!({"hostNetwork": pod.host_network, "containers": containers, "nodeName": node});
    let phase = match pod.phase {
        Phase::Running => "Running",
        Phase::Pending => "Pending",
        Phase::Unknown => "Unknown",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
    };
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": spec, "status": {"phase": phase, "podIPs": ips},
    })
}

fn policy(policy: &NetworkPolicy) -> Value {
    let mut spec = json!({"podSelector": selector(&policy.selector)});
    let mut types = Vec::new();
    for (kind, field, peers, rules) in [
        ("Ingress", "ingress", "from", &policy.ingress),
        ("Egress", "egress", "to", &policy.egress),
    ] {
        if let Some(rules) = rules {
            types.push(kind);
            spec[field] = rules.iter().map(|given| rule(given, peers)).collect();
        }
    }
    spec["policyTypes"] = types.into();
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": policy.id.namespace, "name": policy.id.name}, "spec": spec,
    })
}

fn rule(rule: &Rule, field: &str) -> Value {
    let mut value = json!({});
    if let Peers::Of(peers) = &rule.peers {
        value[field] = peers.iter().map(peer).collect();
    }
    if let Ports::Of(ports) = &rule.ports {
        value["ports"] = ports.iter().map(port).collect();
    }
    value
}

fn peer(peer: &Peer) -> Value {
    match peer {
        Peer::Block(block) => {
            let except: Vec<_> = block.except().iter().map(ToString::to_string).collect();
            json!({"ipBlock": {"cidr": block.cidr(), "except": except}})
        }
        Peer::Pods { namespaces, pods } => {
            let mut value = json!({"podSelector": selector(pods)});
            if let NamespaceScope::Matching(namespaces) = namespaces {
                value["namespaceSelector"] = selector(namespaces);
            }
            value
        }
    }
}

fn port(port: &PolicyPort) -> Value {
    let mut value = json!({"protocol": port.protocol});
    match &port.port {
        PortMatch::All => {}
        PortMatch::Named(name) => value["port"] = name.as_str().into(),
        PortMatch::Range(range) => {
            value["port"] = range.first().into();
            if range.first() != range.last() {
                value["endPort"] = range.last().into();
            }
        }
    }
    value
}

fn selector(selector: &LabelSelector) -> Value {
    let requirement = |requirement: &Requirement| match requirement {
        Requirement::In(key, values) => json!({"key": key, "operator": "In", "values": values}),
        Requirement::NotIn(key, values) => {
            json!({"key": key, "operator": "NotIn", "values": values})
        }
        Requirement::Exists(key) => json!({"key": key, "operator": "Exists"}),
        Requirement::DoesNotExist(key) => json!({"key": key, "operator": "DoesNotExist"}),
    };
    let requirements: Vec<_> = selector.requirements().map(requirement).collect();
    match requirements.is_empty() {
        true => json!({}),
        false => json!({"matchExpressions": requirements}),
    }
}
