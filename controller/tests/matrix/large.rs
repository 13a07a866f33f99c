//! A cluster of 200 pods, as a dump has it.

#![allow(dead_code, reason = "each test program uses a part")]

use serde_json::{Value, json};

/// Namespaces, each with the same workloads.
pub(crate) const NAMESPACES: [&str; 5] = ["accounts", "billing", "catalog", "delivery", "search"];

/// Workloads, their pods in each namespace, and who may call them on which port.
const WORKLOADS: [(&str, usize, &[&str], u16); 12] = [
    ("gateway", 4, &[], 8443),
    ("web", 6, &["gateway"], 8080),
    ("api", 6, &["web", "gateway"], 8081),
    ("worker", 5, &[], 8082),
    ("queue", 3, &["api", "worker"], 5672),
    ("cache", 3, &["api", "worker", "web"], 6379),
    ("db", 2, &["api", "worker"], 5432),
    ("db-replica", 3, &["db", "report"], 5432),
    ("report", 2, &["web"], 8083),
    ("mailer", 2, &["worker"], 8025),
    ("search", 3, &["api"], 9200),
    ("cron", 1, &[], 8084),
];

/// The cluster as a List. In each namespace 40 pods; one of `web` is a canary that a policy of its own opens.
pub(crate) fn cluster() -> String {
    let mut items = Vec::new();
    for number in 1..=4 {
        let address = format!("172.18.0.{number}");
        items.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("node-{number}")},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]}}));
    }
    for (index, namespace) in NAMESPACES.iter().enumerate() {
        items.push(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        );
        let mut host = 0;
        for (workload, pods, callers, port) in WORKLOADS {
            for pod in 0..pods {
                host += 1;
                let is_canary = workload == "web" && pod == 0;
                items.push(item(
                    namespace,
                    workload,
                    pod,
                    is_canary,
                    &format!("10.244.{index}.{host}"),
                    port,
                ));
            }
            let from = callers
                .iter()
                .map(|caller| json!({"podSelector": {"matchLabels": {"app": caller}}}));
            let ingress = json!({"from": from.collect::<Vec<_>>(), "ports": [{"port": port}]});
            let spec = json!({"podSelector": {"matchLabels": {"app": workload}}, "policyTypes": ["Ingress"],
                "ingress": if callers.is_empty() { json!([]) } else { json!([ingress]) }});
            items.push(policy(namespace, workload, &spec));
        }
        let world = json!({"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}], "ports": [{"port": 8443}]});
        let spec = json!({"podSelector": {"matchLabels": {"app": "gateway"}}, "ingress": [world]});
        items.push(policy(namespace, "gateway-from-outside", &spec));
        let spec = json!({"podSelector": {"matchLabels": {"track": "canary"}}, "ingress": [{}]});
        items.push(policy(namespace, "canary", &spec));
        let dns =
            json!({"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]});
        let own = json!({"to": [{"podSelector": {}}]});
        let spec = json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "db-replica", "cache", "queue"]}]},
            "policyTypes": ["Egress"], "egress": [dns, own]});
        items.push(policy(namespace, "stores-stay-inside", &spec));
    }
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

fn item(
    namespace: &str,
    workload: &str,
    pod: usize,
    is_canary: bool,
    address: &str,
    port: u16,
) -> Value {
    let mut labels = json!({"app": workload});
    if is_canary {
        labels["track"] = "canary".into();
    }
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{workload}-6c8f7d9b54"), "uid": "u"});
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{workload}-6c8f7d9b54-{pod}"), "namespace": namespace, "labels": labels, "ownerReferences": [owner]},
        "spec": {"nodeName": format!("node-{}", pod % 4 + 1), "containers": [{"name": "c", "image": "c", "ports": [{"containerPort": port}]}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}})
}

fn policy(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}
