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
    /// Beside the workloads.
    const NAMES: [&str; 4] = ["Namespace", "Node", "Pod", "NetworkPolicy"];

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
    /// A kind of Kubernetes' own in another spelling, as resources are named (`networkpolicies`); the right one.
    Misspelt(String),
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
    if let Some(right) = is_kubernetes_own(group).then(|| spelling(kind)).flatten() {
        return Class::Misspelt(right);
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

/// How a kind that must not be skipped is spelt, if the given one is not.
fn spelling(given: &str) -> Option<String> {
    let kinds = ReadKind::NAMES
        .into_iter()
        .chain(WorkloadKind::names())
        .chain(OTHER_POLICIES);
    let lists = kinds.clone().map(|kind| format!("{kind}List"));
    let mut all = kinds.map(str::to_owned).chain(lists).chain(["List".into()]);
    all.find(|kind| given != kind && is_form_of(kind, given))
}

/// Policies of Kubernetes' own groups that are not read, and must not be taken for something harmless.
const OTHER_POLICIES: [&str; 3] = [
    "ClusterNetworkPolicy",
    "AdminNetworkPolicy",
    "BaselineAdminNetworkPolicy",
];

/// Whether `given` is the kind but for upper and lower case and the ending of the plural.
fn is_form_of(kind: &str, given: &str) -> bool {
    let (kind, given) = (kind.to_ascii_lowercase(), given.to_ascii_lowercase());
    let plural = |stem: &str| given.strip_prefix(stem).unwrap_or_default().to_owned();
    given == kind
        || ["s", "es"].contains(&plural(&kind).as_str())
        || kind
            .strip_suffix('y')
            .is_some_and(|stem| plural(stem) == "ies")
}

/// AdminNetworkPolicy, BaselineAdminNetworkPolicy, Calico's NetworkPolicy and GlobalNetworkPolicy, Cilium's
/// CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy, Antrea's and GKE's: all end in the same word.
fn restricts(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    kind.ends_with("networkpolicy") || kind.ends_with("networkpolicies")
}

/// Groups of Kubernetes itself: `apps`, `extensions`, `networking.k8s.io`; those of others have a domain.
fn is_kubernetes_own(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io")
}
