//! A cluster as there are many: tenants' namespaces with workloads of several replicas, and policies of the usual
//! kinds. The same size gives the same objects.

use std::net::{Ipv4Addr, Ipv6Addr};

use policy_compiler::api;
use policy_compiler::model::Cluster;
use policy_compiler::validate::{self, FieldError};
use serde::Deserialize;
use serde_json::{Value, json};

/// The node that is compiled.
pub(crate) const NODE: &str = "node-0";

const PODS_PER_NODE: usize = 70;
const PODS_PER_NAMESPACE: usize = 250;
/// Workloads of a namespace.
const APPS: usize = 20;
const TIERS: [&str; 5] = ["frontend", "backend", "cache", "db", "worker"];
const STAGES: [&str; 3] = ["prod", "staging", "dev"];

/// Objects as the API server has them, by kind.
pub(crate) struct Manifests {
    pub(crate) namespaces: Vec<Value>,
    pub(crate) pods: Vec<Value>,
    pub(crate) policies: Vec<Value>,
}

/// The same objects, read.
#[derive(Deserialize)]
pub(crate) struct Objects {
    namespaces: Vec<api::Namespace>,
    pods: Vec<api::Pod>,
    policies: Vec<api::NetworkPolicy>,
}

impl Manifests {
    /// The objects of a cluster with so many policies and pods.
    pub(crate) fn new(policies: usize, pods: usize) -> Self {
        let tenants = pods.div_ceil(PODS_PER_NAMESPACE);
        let nodes = pods / PODS_PER_NODE;
        Self {
            namespaces: (0..tenants).map(namespace).collect(),
            pods: (0..pods).map(|index| pod(index, tenants, nodes)).collect(),
            policies: (0..policies).map(|index| policy(index, tenants)).collect(),
        }
    }

    pub(crate) fn json(&self) -> String {
        json!({"namespaces": self.namespaces, "pods": self.pods, "policies": self.policies})
            .to_string()
    }
}

impl Objects {
    /// The valid objects as a cluster.
    pub(crate) fn cluster(&self) -> Result<Cluster, Vec<FieldError>> {
        let namespaces = self.namespaces.iter().map(validate::namespace);
        let pods = self.pods.iter().map(validate::pod);
        let policies = self
            .policies
            .iter()
            .map(|policy| validate::network_policy(policy, validate::Options::default()));
        Ok(Cluster::new(
            namespaces.collect::<Result<Vec<_>, _>>()?,
            [],
            pods.collect::<Result<Vec<_>, _>>()?,
            policies.collect::<Result<Vec<_>, _>>()?,
        ))
    }
}

fn namespace(tenant: usize) -> Value {
    json!({"metadata": {"name": format!("tenant-{tenant}"), "labels": {
        "team": format!("team-{}", tenant % 20),
        "stage": STAGES[tenant % STAGES.len()],
    }}})
}

/// A pod of one of an app's ReplicaSets, of which there are two while an app is rolled out.
fn pod(index: usize, tenants: usize, nodes: usize) -> Value {
    let (tenant, of_tenant) = (index % tenants, index / tenants);
    let (app, replica) = (of_tenant % APPS, of_tenant / APPS);
    let version = app % 3 + usize::from(app % 4 == 0 && replica % 3 == 0);
    let hash = format!("{:x}", scattered(app * 10 + version) & 0xffff_ffff);
    let namespace = format!("tenant-{tenant}");
    let name = format!("app-{app}-{hash}-{:05x}", scattered(index) & 0xf_ffff);
    let labels = json!({
        "app": format!("app-{app}"),
        "tier": TIERS[app % TIERS.len()],
        "version": format!("v{version}"),
        "pod-template-hash": hash,
    });
    let node = format!("node-{}", scattered(index) % nodes.max(1));
    manifest((&namespace, &name), &labels, &node, index)
}

/// A running pod with an address of each family, which its index makes, and three ports with names.
pub(crate) fn manifest(
    (namespace, name): (&str, &str),
    labels: &Value,
    node: &str,
    index: usize,
) -> Value {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let addresses = [
        Ipv4Addr::from_bits(0x0a00_0100 + index).to_string(),
        Ipv6Addr::from_bits((0xfd00 << 112) + u128::from(index)).to_string(),
    ];
    json!({
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "main", "ports": [
            // Named ports are there since numbers differ.
            {"name": "http", "containerPort": 8080 + index % 2},
            {"name": "metrics", "containerPort": 9090},
            {"name": "admin", "containerPort": 9901},
        ]}]},
        "status": {
            "phase": "Running",
            "podIP": addresses[0],
            "podIPs": addresses.map(|ip| json!({"ip": ip})),
        },
    })
}

/// A policy of one of the usual kinds.
fn policy(index: usize, tenants: usize) -> Value {
    let (tenant, of_tenant) = (index % tenants, index / tenants);
    let app = |number: usize| json!({"matchLabels": {"app": format!("app-{}", number % APPS)}});
    let tcp = |port: Value| json!([{"protocol": "TCP", "port": port}]);
    let subject = app(of_tenant);
    let third = (scattered(index) % 200).to_string();
    let spec = match of_tenant % 8 {
        1 if of_tenant == 1 && tenant % 2 == 0 => {
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
        }
        2 if of_tenant == 2 => json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{
            "to": [{
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tenant-0"}},
                "podSelector": app(0),
            }],
            "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
        }]}),
        3 => json!({"podSelector": subject, "ingress": [{
            "from": [{
                "namespaceSelector": {"matchLabels": {"stage": "prod"}},
                "podSelector": {"matchLabels": {"tier": "frontend"}},
            }],
            "ports": tcp(json!("http")),
        }]}),
        4 => json!({"podSelector": subject, "policyTypes": ["Egress"], "egress": [{
            "to": [
                {"ipBlock": {"cidr": format!("172.{third}.0.0/16"), "except": [format!("172.{third}.1.0/24")]}},
                {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.168.0.0/16"]}},
            ],
            "ports": tcp(json!(443)),
        }]}),
        5 => json!({"podSelector": subject, "policyTypes": ["Egress"], "egress": [{
            "to": [{
                "namespaceSelector": {"matchLabels": {"team": format!("team-{}", (tenant + of_tenant) % 20)}},
                "podSelector": app(of_tenant + 7),
            }],
            "ports": tcp(json!("metrics")),
        }]}),
        6 => json!({"podSelector": subject, "ingress": [{
            "from": [{"ipBlock": {"cidr": format!("100.64.{third}.0/24")}}],
            "ports": [{"protocol": "TCP", "port": 30000, "endPort": 32767}],
        }]}),
        7 => json!({
            "podSelector": {"matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["backend", "cache"]},
                {"key": "version", "operator": "NotIn", "values": ["v0"]},
            ]},
            "ingress": [{"from": [{"podSelector": {}}]}, {"from": [{"namespaceSelector": {}}], "ports": tcp(json!(9090))}],
        }),
        _ => json!({"podSelector": subject, "ingress": [{
            "from": [{"podSelector": app(of_tenant + 1)}, {"podSelector": app(of_tenant + 2)}],
            "ports": tcp(json!(8080)),
        }]}),
    };
    json!({"metadata": {"name": format!("policy-{of_tenant}"), "namespace": format!("tenant-{tenant}")}, "spec": spec})
}

/// A number that looks like chance (the finalizer of MurmurHash3).
fn scattered(index: usize) -> usize {
    let mut bits = index as u64;
    for multiplier in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        bits ^= bits >> 33;
        bits = bits.wrapping_mul(multiplier);
    }
    ((bits ^ (bits >> 33)) >> 1) as usize
}
