//! What is done with each kind.

use super::workload::WorkloadKind;

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadKind {
    /// core/v1 Namespace.
    Namespace,
    /// core/v1 Node.
    Node,
    /// core/v1 Pod.
    Pod,
    /// networking/v1 NetworkPolicy.
    NetworkPolicy,
    /// A kind that makes pods.
    Workload(WorkloadKind),
}

impl ReadKind {
    fn named(kind: &str) -> Option<Self> {
        match kind {
            "Namespace" => Some(Self::Namespace),
            "Node" => Some(Self::Node),
            "Pod" => Some(Self::Pod),
            "NetworkPolicy" => Some(Self::NetworkPolicy),
            _ => WorkloadKind::named(kind).map(Self::Workload),
        }
    }

    /// The only version that is read.
    fn api_version(self) -> &'static str {
        match self {
            Self::Namespace | Self::Node | Self::Pod => "v1",
            Self::NetworkPolicy => "networking.k8s.io/v1",
            Self::Workload(kind) => kind.api_version(),
        }
    }

    /// Whether its objects are in a namespace.
    pub(super) fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }
}

/// What is done with a kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It is read.
    Read(ReadKind),
    /// A kind that is read, in a version of Kubernetes' own that no longer (or never) served it; the right one.
    WrongVersion(&'static str),
    /// policy.networking.k8s.io ClusterNetworkPolicy.
    ClusterNetworkPolicy,
    /// A kind of policy that is not read: `KIND.GROUP`.
    NotEvaluated(String),
    /// Anything else: `KIND.GROUP`.
    Skipped(String),
}

/// Sorts a kind by its apiVersion.
pub(super) fn classify(api_version: &str, kind: &str) -> Class {
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    match ReadKind::named(kind) {
        Some(kind) if api_version == kind.api_version() => return Class::Read(kind),
        // Other projects have kinds of these names too (Calico's Node and NetworkPolicy); theirs are not ours.
        Some(kind) if is_kubernetes_own(group) => return Class::WrongVersion(kind.api_version()),
        _ => {}
    }
    let name = if group.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind}.{group}")
    };
    if group == "policy.networking.k8s.io" && kind == "ClusterNetworkPolicy" {
        Class::ClusterNetworkPolicy
    } else if restricts(kind) {
        Class::NotEvaluated(name)
    } else {
        Class::Skipped(name)
    }
}

/// AdminNetworkPolicy, BaselineAdminNetworkPolicy, Calico's NetworkPolicy and GlobalNetworkPolicy, Cilium's
/// CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy, Antrea's and GKE's: all end in the same word.
fn restricts(kind: &str) -> bool {
    kind.ends_with("NetworkPolicy")
}

/// Groups of Kubernetes itself: `apps`, `extensions`, `networking.k8s.io`; those of others have a domain.
fn is_kubernetes_own(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io")
}
