//! What files leave out and a cluster would have: namespaces, nodes, stand-ins; placement and addresses are in
//! [`super::network`].

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::api::{Namespace, NetworkPolicy, Node, Object, ObjectMeta, Pod};
use policy_compiler::model::NAMESPACE_NAME_LABEL;

use super::belong::Ownership;
use super::beside;
use super::decode::{Decoded, metadata_mut};
use super::error::{Cause, Problem};
use super::network;
use super::note::Note;
use super::origin::{ObjectRef, Origin};
use super::workload::{StandIn, Workload, stand_ins};
use super::{Loaded, Sourced};

/// The node of a cluster of which the input names none.
const ONLY_NODE: &str = "node-1";

/// Completes what was decoded, or says why it cannot be. `beside` is what was assumed of another input.
pub(super) fn complete(
    objects: Vec<Decoded>,
    workloads: Vec<Workload>,
    mut notes: Vec<Note>,
    beside: &[Note],
) -> Result<Loaded, Vec<Problem>> {
    let named: BTreeSet<String> = objects
        .iter()
        .filter_map(|decoded| decoded.object.metadata().namespace.clone())
        .chain(
            workloads
                .iter()
                .filter_map(|workload| workload.reference.namespace.clone()),
        )
        .collect();
    let nodes = node_names(&objects, &workloads);
    let ownership = Ownership::of(&workloads);
    let stand_ins = stand_ins(workloads, &objects, &nodes);
    let workloads = ownership.workloads(&objects, &stand_ins);
    note_stand_ins(&stand_ins, &mut notes);

    let mut cluster = Cluster::default();
    objects
        .into_iter()
        .for_each(|decoded| cluster.insert(Origin::Read(decoded.place), decoded.object));
    for StandIn { place, pod, .. } in stand_ins {
        cluster.insert(Origin::StandIn(place), Object::Pod(pod));
    }
    let mut problems = cluster.complete_namespaces(named, &mut notes);
    cluster.complete_nodes(nodes, &mut notes);
    let given = beside::apply(&mut cluster, beside);
    problems.extend(network::address(&mut cluster, &mut notes));
    beside::restore(&mut notes, given);
    if !problems.is_empty() {
        return Err(problems);
    }
    notes.sort();
    Ok(Loaded {
        objects: cluster.into_objects(),
        notes,
        workloads,
        ..Loaded::default()
    })
}

/// What was decoded, with nothing made up: of each pod the addresses that a pod can have.
pub(super) fn as_given(
    objects: Vec<Decoded>,
    notes: &mut Vec<Note>,
) -> Result<Vec<Sourced>, Vec<Problem>> {
    let mut cluster = Cluster::default();
    objects
        .into_iter()
        .for_each(|decoded| cluster.insert(Origin::Read(decoded.place), decoded.object));
    let problems = cluster.complete_namespaces(BTreeSet::new(), notes);
    network::leave_out_addresses(&mut cluster, notes);
    if problems.is_empty() {
        Ok(cluster.into_objects())
    } else {
        Err(problems)
    }
}

/// The nodes that are given or named, or the one that there must be.
fn node_names(objects: &[Decoded], workloads: &[Workload]) -> BTreeSet<String> {
    let bound = |pod: &Pod| {
        pod.spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .filter(|name| !name.is_empty())
    };
    let mut names: BTreeSet<String> = objects
        .iter()
        .filter_map(|decoded| match &decoded.object {
            Object::Node(node) => node.metadata.name.clone(),
            Object::Pod(pod) => bound(pod),
            Object::Namespace(_) | Object::NetworkPolicy(_) => None,
        })
        .chain(
            workloads
                .iter()
                .filter_map(|workload| bound(&workload.template)),
        )
        .collect();
    if names.is_empty() {
        names.insert(ONLY_NODE.to_owned());
    }
    names
}

fn note_stand_ins(stand_ins: &[StandIn], notes: &mut Vec<Note>) {
    let mut pods: BTreeMap<&ObjectRef, Vec<String>> = BTreeMap::new();
    for StandIn { workload, pod, .. } in stand_ins {
        pods.entry(workload)
            .or_default()
            .extend(pod.metadata.name.clone());
    }
    notes.extend(pods.into_iter().map(|(workload, pods)| Note::StandIn {
        workload: workload.clone(),
        pods,
    }));
}

/// The objects by name.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) namespaces: BTreeMap<String, (Origin, Namespace)>,
    pub(super) nodes: BTreeMap<String, (Origin, Node)>,
    /// By namespace and name.
    pub(super) pods: BTreeMap<(String, String), (Origin, Pod)>,
    /// By namespace and name.
    pub(super) policies: BTreeMap<(String, String), (Origin, NetworkPolicy)>,
}

impl Cluster {
    /// The decoder has made sure of names and that none is given twice.
    fn insert(&mut self, origin: Origin, mut object: Object) {
        let metadata = metadata_mut(&mut object);
        let name = metadata.name.clone().unwrap_or_default();
        let namespace = metadata.namespace.clone().unwrap_or_default();
        match object {
            Object::Namespace(object) => drop(self.namespaces.insert(name, (origin, object))),
            Object::Node(object) => drop(self.nodes.insert(name, (origin, object))),
            Object::Pod(object) => drop(self.pods.insert((namespace, name), (origin, object))),
            Object::NetworkPolicy(object) => {
                drop(self.policies.insert((namespace, name), (origin, object)))
            }
        }
    }

    fn into_objects(self) -> Vec<Sourced> {
        let namespaces = self
            .namespaces
            .into_values()
            .map(|(origin, object)| (origin, Object::Namespace(object)));
        let nodes = self
            .nodes
            .into_values()
            .map(|(origin, object)| (origin, Object::Node(object)));
        let pods = self
            .pods
            .into_values()
            .map(|(origin, object)| (origin, Object::Pod(object)));
        let policies = self
            .policies
            .into_values()
            .map(|(origin, object)| (origin, Object::NetworkPolicy(object)));
        let all = namespaces.chain(nodes).chain(pods).chain(policies);
        all.map(|(origin, object)| Sourced { origin, object })
            .collect()
    }

    fn complete_namespaces(
        &mut self,
        named: BTreeSet<String>,
        notes: &mut Vec<Note>,
    ) -> Vec<Problem> {
        for name in named {
            self.namespaces.entry(name).or_insert_with_key(|name| {
                notes.push(Note::NamespaceMadeUp { name: name.clone() });
                (
                    Origin::MadeUp,
                    Namespace {
                        metadata: named_metadata(name),
                    },
                )
            });
        }
        let mut problems = Vec::new();
        for (name, (origin, namespace)) in &mut self.namespaces {
            let labels = namespace.metadata.labels.get_or_insert_default();
            match (labels.get(NAMESPACE_NAME_LABEL), &*origin) {
                (Some(given), Origin::Read(place)) if given != name => {
                    let object = reference("Namespace", None, name);
                    let field = Some(format!("metadata.labels[{NAMESPACE_NAME_LABEL}]"));
                    let cause = Cause::NamespaceLabel(given.clone());
                    problems.push(Problem::of_object(place, &object, field, cause));
                }
                _ => drop(labels.insert(NAMESPACE_NAME_LABEL.to_owned(), name.clone())),
            }
        }
        problems
    }

    fn complete_nodes(&mut self, names: BTreeSet<String>, notes: &mut Vec<Note>) {
        for name in names {
            self.nodes.entry(name).or_insert_with_key(|name| {
                notes.push(Note::NodeMadeUp { name: name.clone() });
                (
                    Origin::MadeUp,
                    Node {
                        metadata: named_metadata(name),
                        ..Node::default()
                    },
                )
            });
        }
    }
}

fn named_metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

/// The name of an object that is not from the decoder.
pub(super) fn reference(kind: &str, namespace: Option<&str>, name: &str) -> ObjectRef {
    ObjectRef {
        kind: kind.to_owned(),
        namespace: namespace.map(str::to_owned),
        name: Some(name.to_owned()),
    }
}
