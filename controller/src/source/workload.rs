//! Pods that stand for workloads, so that a chart's output can be checked as it is.
//!
//! A workload whose own pods are in the input (a dump of a cluster) needs none. Its pods are those whose
//! `ownerReferences` lead to it. A Deployment's pods name its ReplicaSet and a CronJob's pods its Job; where that
//! is not in the input, its name says whose it is (`NAME-<hash>`, `NAME-<time>`). Labels are not compared: pods of
//! another workload may carry them too.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{apps::v1 as apps, batch::v1 as batch, core::v1 as core};
use policy_compiler::api::{ObjectMeta, Pod, PodSpec};
use serde::Deserialize;
use serde_json::Value;

use super::decode::Decoded;
use super::origin::{ObjectRef, Place};
use super::strict::{self, Faults};

/// The kinds that make pods. In the order in which they may claim a pod's name: a StatefulSet's `NAME-0` is real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WorkloadKind {
    /// apps/v1.
    StatefulSet,
    /// apps/v1.
    Deployment,
    /// apps/v1.
    DaemonSet,
    /// apps/v1.
    ReplicaSet,
    /// core/v1.
    ReplicationController,
    /// batch/v1.
    Job,
    /// batch/v1.
    CronJob,
}

impl WorkloadKind {
    const ALL: [(&'static str, Self); 7] = [
        ("StatefulSet", Self::StatefulSet),
        ("Deployment", Self::Deployment),
        ("DaemonSet", Self::DaemonSet),
        ("ReplicaSet", Self::ReplicaSet),
        ("ReplicationController", Self::ReplicationController),
        ("Job", Self::Job),
        ("CronJob", Self::CronJob),
    ];

    /// The names of all.
    pub(super) fn names() -> impl Iterator<Item = &'static str> + Clone {
        Self::ALL.into_iter().map(|(name, _)| name)
    }

    /// The kind of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| *kind)
    }

    /// The only version that is read.
    pub(super) fn api_version(self) -> &'static str {
        match self {
            Self::StatefulSet | Self::Deployment | Self::DaemonSet | Self::ReplicaSet => "apps/v1",
            Self::ReplicationController => "v1",
            Self::Job | Self::CronJob => "batch/v1",
        }
    }

    fn template(self) -> &'static str {
        match self {
            Self::CronJob => "/spec/jobTemplate/spec/template",
            _ => "/spec/template",
        }
    }
}

/// An entry of `ownerReferences`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    /// The owner's kind.
    pub(super) kind: String,
    /// The owner's name, in the same namespace.
    pub(super) name: String,
}

/// A workload as far as its pods are concerned.
#[derive(Debug)]
pub(super) struct Workload {
    /// Where it was read.
    pub(super) place: Place,
    /// Its kind.
    pub(super) kind: WorkloadKind,
    /// Its name; the namespace is set.
    pub(super) reference: ObjectRef,
    /// What it belongs to.
    pub(super) owners: Vec<Owner>,
    /// Whether it asks for no pods.
    pub(super) is_scaled_to_zero: bool,
    /// A pod of its template, without name and status.
    pub(super) template: Pod,
}

/// Strict field validation of a workload.
pub(super) fn check(kind: WorkloadKind, value: &Value) -> Faults {
    match kind {
        WorkloadKind::StatefulSet => strict::check::<apps::StatefulSet>(value),
        WorkloadKind::Deployment => strict::check::<apps::Deployment>(value),
        WorkloadKind::DaemonSet => strict::check::<apps::DaemonSet>(value),
        WorkloadKind::ReplicaSet => strict::check::<apps::ReplicaSet>(value),
        WorkloadKind::ReplicationController => strict::check::<core::ReplicationController>(value),
        WorkloadKind::Job => strict::check::<batch::Job>(value),
        WorkloadKind::CronJob => strict::check::<batch::CronJob>(value),
    }
}

/// What is kept of a workload.
pub(super) fn decode(
    kind: WorkloadKind,
    place: &Place,
    reference: &ObjectRef,
    value: &Value,
) -> Result<Workload, serde_json::Error> {
    let template = value.pointer(kind.template());
    let part = |name: &str| {
        template
            .and_then(|template| template.get(name))
            .unwrap_or(&Value::Null)
    };
    let labels = Option::<ObjectMeta>::deserialize(part("metadata"))?
        .unwrap_or_default()
        .labels;
    let namespace = reference.namespace.clone();
    Ok(Workload {
        place: place.clone(),
        kind,
        reference: reference.clone(),
        owners: owners(value),
        is_scaled_to_zero: value.pointer("/spec/replicas").and_then(Value::as_i64) == Some(0),
        template: Pod {
            metadata: ObjectMeta {
                namespace,
                labels,
                ..ObjectMeta::default()
            },
            spec: Option::<PodSpec>::deserialize(part("spec"))?,
            status: None,
        },
    })
}

/// The `ownerReferences` of any object.
pub(super) fn owners(value: &Value) -> Vec<Owner> {
    let list = value
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    let text =
        |owner: &Value, field: &str| owner.get(field).and_then(Value::as_str).map(str::to_owned);
    list.into_iter()
        .flatten()
        .filter_map(|owner| {
            Some(Owner {
                kind: text(owner, "kind")?,
                name: text(owner, "name")?,
            })
        })
        .collect()
}

/// A pod that stands for a workload.
#[derive(Debug)]
pub(super) struct StandIn {
    /// Where the workload was read.
    pub(super) place: Place,
    /// The workload.
    pub(super) workload: ObjectRef,
    /// The pod, named; a DaemonSet's is bound to its node.
    pub(super) pod: Pod,
}

/// The pods that stand for workloads whose own pods are not given.
pub(super) fn stand_ins(
    mut workloads: Vec<Workload>,
    objects: &[Decoded],
    nodes: &BTreeSet<String>,
) -> Vec<StandIn> {
    let owned = owned(&workloads, objects);
    let mut names: BTreeSet<(Option<String>, String)> = objects
        .iter()
        .filter(|decoded| decoded.object.kind() == "Pod")
        .map(|decoded| decoded.object.metadata())
        .map(|metadata| {
            (
                metadata.namespace.clone(),
                metadata.name.clone().unwrap_or_default(),
            )
        })
        .collect();
    let given = names.clone();
    let present: BTreeSet<ObjectRef> = workloads
        .iter()
        .map(|workload| workload.reference.clone())
        .collect();
    workloads.sort_by(|a, b| (a.kind, &a.reference).cmp(&(b.kind, &b.reference)));
    let mut made = Vec::new();
    for workload in workloads {
        let namespace = workload.reference.namespace.clone();
        let stood_for = workload.owners.iter().any(|owner| {
            let owner_given = present.contains(&in_namespace(&namespace, &owner.kind, &owner.name));
            WorkloadKind::named(&owner.kind).is_some()
                && (owner_given || workload.is_scaled_to_zero)
        });
        if stood_for || owned.contains(&workload.reference) {
            continue;
        }
        let bindings: Vec<Option<&String>> = match workload.kind {
            WorkloadKind::DaemonSet => nodes.iter().map(Some).collect(),
            _ => vec![None],
        };
        let name = workload.reference.name.clone().unwrap_or_default();
        for node in bindings {
            let suffix = node.map_or("0", String::as_str);
            let mut pod_name = format!("{name}-{suffix}");
            if given.contains(&(namespace.clone(), pod_name.clone())) {
                continue;
            }
            // Two workloads of one name, say a Deployment and a Job.
            if names.contains(&(namespace.clone(), pod_name.clone())) {
                pod_name = format!("{name}-{}-{suffix}", workload.reference.kind.to_lowercase());
            }
            if names.insert((namespace.clone(), pod_name.clone())) {
                made.push(stand_in(&workload, pod_name, node));
            }
        }
    }
    made
}

fn stand_in(workload: &Workload, pod_name: String, node: Option<&String>) -> StandIn {
    let mut pod = workload.template.clone();
    let name = workload.reference.name.clone().unwrap_or_default();
    // The labels that the controllers add, as far as they are known before there is a pod; policies use them.
    let added: &[(&str, &str)] = match workload.kind {
        WorkloadKind::StatefulSet => &[
            ("statefulset.kubernetes.io/pod-name", &pod_name),
            ("apps.kubernetes.io/pod-index", "0"),
        ],
        WorkloadKind::Job => &[("batch.kubernetes.io/job-name", &name), ("job-name", &name)],
        _ => &[],
    };
    if !added.is_empty() {
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.extend(
            added
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        );
    }
    pod.metadata.name = Some(pod_name);
    if let Some(node) = node {
        pod.spec.get_or_insert_default().node_name = Some(node.clone());
    }
    StandIn {
        place: workload.place.clone(),
        workload: workload.reference.clone(),
        pod,
    }
}

/// The name of an owner, which is of the same namespace.
pub(super) fn in_namespace(namespace: &Option<String>, kind: &str, name: &str) -> ObjectRef {
    ObjectRef {
        kind: kind.to_owned(),
        namespace: namespace.clone(),
        name: Some(name.to_owned()),
    }
}

/// The workloads whose pods are in the input.
fn owned(workloads: &[Workload], objects: &[Decoded]) -> BTreeSet<ObjectRef> {
    let between: BTreeMap<&ObjectRef, &[Owner]> = workloads
        .iter()
        .map(|workload| (&workload.reference, workload.owners.as_slice()))
        .collect();
    let mut owned = BTreeSet::new();
    for decoded in objects
        .iter()
        .filter(|decoded| decoded.object.kind() == "Pod")
    {
        let namespace = &decoded.object.metadata().namespace;
        for owner in &decoded.owners {
            let direct = in_namespace(namespace, &owner.kind, &owner.name);
            match between.get(&direct) {
                Some(owners) => {
                    owned.extend(
                        owners
                            .iter()
                            .map(|owner| in_namespace(namespace, &owner.kind, &owner.name)),
                    );
                }
                None => owned
                    .extend(guess(owner).map(|(kind, name)| in_namespace(namespace, kind, name))),
            }
            owned.insert(direct);
        }
    }
    owned
}

/// The Deployment or CronJob that made a ReplicaSet or Job which is not in the input.
pub(super) fn guess(owner: &Owner) -> Option<(&'static str, &str)> {
    let (name, suffix) = owner.name.rsplit_once('-')?;
    match owner.kind.as_str() {
        // The alphabet of k8s.io/apimachinery/pkg/util/rand, in which hashes are written.
        "ReplicaSet"
            if suffix
                .bytes()
                .all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte)) =>
        {
            Some(("Deployment", name))
        }
        "Job" if suffix.bytes().all(|byte| byte.is_ascii_digit()) => Some(("CronJob", name)),
        _ => None,
    }
}
