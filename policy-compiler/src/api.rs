//! The Kubernetes objects as they travel, cut to the fields that picket uses.
//!
//! Field names and optionality are those of the API types (core/v1, networking/v1). Fields that are not listed
//! are ignored here: whoever reads files and wants them refused checks against the full schema first. Nothing
//! in these types is validated; [`crate::validate`] turns them into [`crate::model`] types that are.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// Any object that picket reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Object {
    /// core/v1 Namespace.
    Namespace(Namespace),
    /// core/v1 Node.
    Node(Node),
    /// core/v1 Pod.
    Pod(Pod),
    /// networking.k8s.io/v1 NetworkPolicy.
    NetworkPolicy(NetworkPolicy),
}

impl Object {
    /// The object's kind, as in its manifest.
    pub fn kind(&self) -> &'static str {
        match self {
            Object::Namespace(_) => "Namespace",
            Object::Node(_) => "Node",
            Object::Pod(_) => "Pod",
            Object::NetworkPolicy(_) => "NetworkPolicy",
        }
    }

    /// The object's metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Object::Namespace(object) => &object.metadata,
            Object::Node(object) => &object.metadata,
            Object::Pod(object) => &object.metadata,
            Object::NetworkPolicy(object) => &object.metadata,
        }
    }
}

/// meta/v1 ObjectMeta.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Name, unique per kind and namespace.
    pub name: Option<String>,
    /// Namespace; absent for cluster-scoped objects.
    pub namespace: Option<String>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// What tells it from another of its name, before or after it.
    pub uid: Option<String>,
    /// Annotations, cut to picket's own (`picket.io/`) [`STATIC_POD_UID`] and [`MIRROR`]: those of others can be large.
    #[serde(deserialize_with = "own_annotations")]
    pub annotations: BTreeMap<String, String>,
    /// When deletion was asked for (RFC 3339); such an object is terminating.
    pub deletion_timestamp: Option<String>,
}

/// The annotation with the UID of a static pod: its kubelet and the container runtime know it by this one, while the
/// object that mirrors it has another.
pub const STATIC_POD_UID: &str = "kubernetes.io/config.hash";

/// The annotation of an object that mirrors a static pod; the API server lets only nodes set it.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

fn own_annotations<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let all = Option::<BTreeMap<String, String>>::deserialize(deserializer)?;
    let mut own = all.unwrap_or_default();
    own.retain(|key, _| {
        key.starts_with("picket.io/") || [STATIC_POD_UID, MIRROR].contains(&key.as_str())
    });
    Ok(own)
}

/// core/v1 Namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Namespace {
    /// Standard metadata.
    pub metadata: ObjectMeta,
}

/// core/v1 Node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: Option<NodeSpec>,
    /// Status.
    pub status: Option<NodeStatus>,
}

/// core/v1 NodeSpec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// The node's pod ranges, one per family.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Option<Vec<String>>,
    /// The first of `pod_cidrs`.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
}

/// core/v1 NodeStatus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// Addresses of every type.
    pub addresses: Option<Vec<NodeAddress>>,
}

/// core/v1 NodeAddress.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeAddress {
    /// InternalIP, ExternalIP, Hostname, InternalDNS or ExternalDNS.
    #[serde(rename = "type")]
    pub type_: String,
    /// The address; an IP for the types that end in IP.
    pub address: String,
}

/// core/v1 Pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: Option<PodSpec>,
    /// Status.
    pub status: Option<PodStatus>,
}

/// core/v1 PodSpec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node that the pod was bound to.
    pub node_name: Option<String>,
    /// Whether the pod shares its node's network.
    pub host_network: Option<bool>,
    /// Application containers.
    pub containers: Option<Vec<Container>>,
    /// Init containers; with `restartPolicy: Always` they are sidecars.
    pub init_containers: Option<Vec<Container>>,
}

/// core/v1 Container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Name, unique in the pod.
    pub name: String,
    /// Declared ports.
    pub ports: Option<Vec<ContainerPort>>,
    /// `Always` makes an init container restartable (a sidecar).
    pub restart_policy: Option<String>,
}

/// core/v1 ContainerPort.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// The name that a policy may use.
    pub name: Option<String>,
    /// The number, 1 to 65535.
    pub container_port: i32,
    /// TCP (if absent), UDP or SCTP.
    pub protocol: Option<String>,
}

/// core/v1 PodStatus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// Pending, Running, Succeeded, Failed or Unknown.
    pub phase: Option<String>,
    /// The first of `pod_ips`.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// Every address, at most one per family.
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<Ip>>,
    /// The first of `host_ips`.
    #[serde(rename = "hostIP")]
    pub host_ip: Option<String>,
    /// The addresses of the pod's node.
    #[serde(rename = "hostIPs")]
    pub host_ips: Option<Vec<Ip>>,
}

/// core/v1 PodIP and HostIP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ip {
    /// The address.
    pub ip: String,
}

/// networking/v1 NetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicy {
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: Option<NetworkPolicySpec>,
}

/// networking/v1 NetworkPolicySpec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySpec {
    /// The pods that the policy selects; absent selects all of its namespace.
    pub pod_selector: Option<LabelSelector>,
    /// Ingress, Egress.
    pub policy_types: Option<Vec<String>>,
    /// Ingress rules.
    pub ingress: Option<Vec<NetworkPolicyIngressRule>>,
    /// Egress rules.
    pub egress: Option<Vec<NetworkPolicyEgressRule>>,
}

/// networking/v1 NetworkPolicyIngressRule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyIngressRule {
    /// Sources; absent or empty means every source.
    pub from: Option<Vec<NetworkPolicyPeer>>,
    /// Ports of the selected pods; absent or empty means every port and protocol.
    pub ports: Option<Vec<NetworkPolicyPort>>,
}

/// networking/v1 NetworkPolicyEgressRule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyEgressRule {
    /// Destinations; absent or empty means every destination.
    pub to: Option<Vec<NetworkPolicyPeer>>,
    /// Ports of the destinations; absent or empty means every port and protocol.
    pub ports: Option<Vec<NetworkPolicyPort>>,
}

/// networking/v1 NetworkPolicyPeer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyPeer {
    /// Pods, of the policy's namespace or of those that `namespace_selector` selects.
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces.
    pub namespace_selector: Option<LabelSelector>,
    /// Addresses; excludes the selectors.
    pub ip_block: Option<IpBlock>,
}

/// networking/v1 IPBlock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpBlock {
    /// The range.
    pub cidr: Option<String>,
    /// Ranges inside `cidr` that it leaves out.
    pub except: Option<Vec<String>>,
}

/// networking/v1 NetworkPolicyPort.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyPort {
    /// TCP (if absent), UDP or SCTP.
    pub protocol: Option<String>,
    /// A number or the name of a port of the destination pod.
    pub port: Option<IntOrString>,
    /// The last number of a range that starts at `port`.
    pub end_port: Option<i64>,
}

/// util/intstr IntOrString.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// A number.
    Int(i64),
    /// A name.
    String(String),
}

/// meta/v1 LabelSelector.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Pairs that must all be there.
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Further requirements, all of which must hold.
    pub match_expressions: Option<Vec<LabelSelectorRequirement>>,
}

/// meta/v1 LabelSelectorRequirement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelectorRequirement {
    /// The label's key.
    pub key: String,
    /// In, NotIn, Exists or DoesNotExist.
    pub operator: String,
    /// The values for In and NotIn.
    pub values: Option<Vec<String>>,
}
