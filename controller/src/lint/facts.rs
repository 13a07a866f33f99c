//! What the checks read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::api::{self, Object};
use policy_compiler::budget::Budgets;
use policy_compiler::cover::selects;
use policy_compiler::model::{
    AddressRanges, Cidr, Cluster, Direction, NetworkPolicy, Peer, Peers, Pod, PolicyId, Rule,
};

use super::Scope;
use super::code::{Code, Severity};
use super::finding::Finding;
use crate::source::{Loaded, Note, ObjectRef, Origin, Place};

/// The annotation that silences codes for one policy.
const IGNORE: &str = "picket.io/lint-ignore";

/// Namespaces that every cluster has.
const ALWAYS: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// A cluster with what its objects say of where they come from.
pub(super) struct Facts<'a> {
    pub(super) cluster: &'a Cluster,
    /// What a namespace may need.
    pub(super) budgets: Budgets,
    /// Whether there is any pod that has not ended.
    pub(super) has_pods: bool,
    /// Pod ranges and addresses that the input gives, and nothing that was made up.
    pub(super) pod_ranges: AddressRanges,
    /// Service ranges and addresses.
    pub(super) service_ranges: AddressRanges,
    /// The policies as they were read.
    read: BTreeMap<PolicyId, (&'a api::NetworkPolicy, Option<&'a Place>)>,
    /// Namespaces that are not in the input, with an object that is in each.
    made_up: BTreeMap<&'a str, Option<&'a Place>>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(loaded: &'a Loaded, cluster: &'a Cluster, scope: &Scope<'_>) -> Self {
        let mut read = BTreeMap::new();
        let mut made_up: BTreeMap<&str, Option<&Place>> = BTreeMap::new();
        let mut pod_cidrs = Vec::new();
        for sourced in &loaded.objects {
            let metadata = sourced.object.metadata();
            let place = place(&sourced.origin);
            let name = metadata.name.as_deref().unwrap_or_default();
            match &sourced.object {
                Object::Namespace(_) if place.is_none() => drop(made_up.insert(name, None)),
                Object::Node(_) if place.is_some() => {
                    let node = cluster.nodes.get(name);
                    pod_cidrs.extend(node.into_iter().flat_map(|node| node.pod_cidrs.clone()));
                }
                Object::NetworkPolicy(policy) => {
                    let namespace = metadata.namespace.as_deref().unwrap_or_default();
                    read.insert(PolicyId::new(namespace, name), (policy, place));
                }
                _ => {}
            }
            let namespace = metadata.namespace.as_deref().unwrap_or_default();
            if let Some(first) = made_up.get_mut(namespace) {
                *first = match (*first, place) {
                    (Some(first), Some(place)) => Some(first.min(place)),
                    (first, place) => first.or(place),
                };
            }
        }
        let invented = made_up_addresses(loaded);
        let live = || cluster.pods.values().filter(|pod| !pod.phase.is_terminal());
        let of_pods = live()
            .filter(|pod| !pod.host_network)
            .flat_map(|pod| cluster.addresses_of(pod))
            .filter(|address| !invented.contains(address))
            .map(Cidr::host);
        pod_cidrs.extend(of_pods);
        let services = loaded
            .service_addresses
            .iter()
            .map(|address| Cidr::host(*address));
        let services: Vec<_> = services
            .chain(scope.service_cidrs.iter().copied())
            .collect();
        Self {
            cluster,
            budgets: scope.budgets,
            has_pods: live().next().is_some(),
            pod_ranges: AddressRanges::union(&pod_cidrs),
            service_ranges: AddressRanges::union(&services),
            read,
            made_up,
        }
    }

    /// Every policy with what was read of it.
    pub(super) fn policies(
        &self,
    ) -> impl Iterator<Item = (&'a NetworkPolicy, &'a api::NetworkPolicy)> {
        let policies = self.cluster.policies.values();
        policies.filter_map(|policy| Some((policy, self.read.get(&policy.id)?.0)))
    }

    /// Every rule, where it is written.
    pub(super) fn rules(&self) -> impl Iterator<Item = WrittenRule<'a>> {
        let directions = [Direction::Ingress, Direction::Egress];
        self.policies().flat_map(move |(policy, _)| {
            directions.into_iter().flat_map(move |direction| {
                let rules = policy.rules(direction).unwrap_or_default();
                let rules = rules.iter().enumerate();
                rules.map(move |(index, rule)| WrittenRule {
                    policy,
                    direction,
                    index,
                    rule,
                })
            })
        })
    }

    /// Every peer, where it is written.
    pub(super) fn peers(&self) -> impl Iterator<Item = WrittenPeer<'a>> {
        self.rules().flat_map(|rule| {
            let peers = match &rule.rule.peers {
                Peers::Any => &[],
                Peers::Of(peers) => peers.as_slice(),
            };
            let peers = peers.iter().enumerate();
            peers.map(move |(item, peer)| WrittenPeer { rule, item, peer })
        })
    }

    /// A finding of a policy.
    pub(super) fn finding(
        &self,
        severity: Severity,
        code: Code,
        policy: &PolicyId,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Finding {
        Finding {
            severity,
            code,
            place: self.place(policy),
            object: Some(ObjectRef {
                kind: "NetworkPolicy".to_owned(),
                namespace: Some(policy.namespace.clone()),
                name: Some(policy.name.clone()),
            }),
            field: field.into(),
            message: message.into(),
        }
    }

    /// Where a policy was read.
    pub(super) fn place(&self, policy: &PolicyId) -> Option<Place> {
        let (_, place) = self.read.get(policy)?;
        place.cloned()
    }

    /// The pods of a namespace that have not ended, hostNetwork pods among them.
    pub(super) fn live_in(&self, namespace: &str) -> impl Iterator<Item = &'a Pod> {
        let pods = self.cluster.pods.values();
        pods.filter(move |pod| pod.id.namespace == namespace && !pod.phase.is_terminal())
    }

    /// The pods to which the policy applies.
    pub(super) fn selected(&self, policy: &NetworkPolicy) -> Vec<&'a Pod> {
        let pods = self.live_in(&policy.id.namespace);
        pods.filter(|pod| !pod.host_network && policy.selector.matches(&pod.labels))
            .collect()
    }

    /// The pods that the peer matches, by selectors or by address.
    pub(super) fn matched(&self, peer: &Peer) -> Vec<&'a Pod> {
        let pods = self
            .cluster
            .pods
            .values()
            .filter(|pod| pod.is_on_pod_network());
        pods.filter(|pod| match peer {
            Peer::Block(block) => pod.addresses.iter().any(|address| block.contains(*address)),
            Peer::Pods { .. } => selects(self.cluster, peer, pod),
        })
        .collect()
    }

    /// Whether the policy's annotation silences the finding.
    pub(super) fn is_silenced(&self, finding: &Finding) -> bool {
        let Some(object) = &finding.object else {
            return false;
        };
        let (Some(namespace), Some(name)) = (&object.namespace, &object.name) else {
            return false;
        };
        let read = self
            .read
            .get(&PolicyId::new(namespace.clone(), name.clone()));
        read.is_some_and(|(policy, _)| ignored(policy).any(|code| code.parse() == Ok(finding.code)))
    }
}

/// A rule where it is written.
#[derive(Clone, Copy)]
pub(super) struct WrittenRule<'a> {
    pub(super) policy: &'a NetworkPolicy,
    pub(super) direction: Direction,
    pub(super) index: usize,
    pub(super) rule: &'a Rule,
}

impl WrittenRule<'_> {
    /// `spec.egress[0]`
    pub(super) fn field(&self) -> String {
        let (list, _) = fields(self.direction);
        format!("spec.{list}[{}]", self.index)
    }
}

/// A peer where it is written.
#[derive(Clone, Copy)]
pub(super) struct WrittenPeer<'a> {
    pub(super) rule: WrittenRule<'a>,
    pub(super) item: usize,
    pub(super) peer: &'a Peer,
}

impl WrittenPeer<'_> {
    /// `spec.egress[0].to[1]`
    pub(super) fn field(&self) -> String {
        let (_, field) = fields(self.rule.direction);
        format!("{}.{field}[{}]", self.rule.field(), self.item)
    }
}

/// `ingress` and `from`, or `egress` and `to`.
pub(super) fn fields(direction: Direction) -> (&'static str, &'static str) {
    match direction {
        Direction::Ingress => ("ingress", "from"),
        Direction::Egress => ("egress", "to"),
    }
}

fn place(origin: &Origin) -> Option<&Place> {
    match origin {
        Origin::Read(place) | Origin::StandIn(place) => Some(place),
        Origin::MadeUp => None,
    }
}

fn made_up_addresses(loaded: &Loaded) -> BTreeSet<IpAddr> {
    let addresses = loaded.notes.iter().filter_map(|note| match note {
        Note::PodCompleted { addresses, .. } => Some(addresses),
        _ => None,
    });
    addresses.flatten().copied().collect()
}

fn ignored(policy: &api::NetworkPolicy) -> impl Iterator<Item = &str> {
    let text = policy.metadata.annotations.get(IGNORE);
    let codes = text.into_iter().flat_map(|text| text.split(','));
    codes.map(str::trim).filter(|code| !code.is_empty())
}

pub(super) fn unknown_ignores(loaded: &Loaded) -> Vec<String> {
    let mut unknown = Vec::new();
    for sourced in &loaded.objects {
        let Object::NetworkPolicy(policy) = &sourced.object else {
            continue;
        };
        let metadata = &policy.metadata;
        let object = ObjectRef {
            kind: "NetworkPolicy".to_owned(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        };
        let codes = ignored(policy).filter_map(|code| code.parse::<Code>().err());
        let origin = &sourced.origin;
        unknown.extend(codes.map(|error| format!("{origin}: {object}: {IGNORE}: {error}")));
    }
    unknown
}

/// What the input as a whole leaves out.
pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !facts.has_pods && !facts.cluster.policies.is_empty() {
        findings.push(Finding {
            severity: Severity::Hint,
            code: Code::NoPods,
            // Code scanning takes no finding without a place.
            place: facts
                .read
                .values()
                .filter_map(|(_, place)| *place)
                .min()
                .cloned(),
            object: None,
            field: String::new(),
            message: "there is no pod in the input".to_owned(),
        });
    }
    let made_up = facts
        .made_up
        .iter()
        .filter(|(name, _)| !ALWAYS.contains(*name));
    findings.extend(made_up.map(|(name, place)| Finding {
        severity: Severity::Hint,
        code: Code::NamespaceMadeUp,
        place: place.cloned(),
        object: Some(ObjectRef {
            kind: "Namespace".to_owned(),
            namespace: None,
            name: Some((*name).to_owned()),
        }),
        field: "metadata.labels".to_owned(),
        message: "is named by objects and not in the input".to_owned(),
    }));
    findings
}
