//! Documents to objects, as strictly as the API server with `fieldValidation=Strict`.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use policy_compiler::api::{self, Object, ObjectMeta};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::{Cause, MAX_PROBLEMS, Problem};
use super::kinds::{Class, ReadKind, classify};
use super::note::Note;
use super::origin::{ObjectRef, Place};
use super::read::Document;
use super::strict::{self, Faults};
use super::untyped::{is_absent, reference, type_name};
use super::workload::{self, Owner, Workload};

/// An object of the input with what the wire shapes leave out.
#[derive(Debug)]
pub(super) struct Decoded {
    /// Where it was read.
    pub(super) place: Place,
    /// The object; its name is set, and its namespace if its kind has one.
    pub(super) object: Object,
    /// What it belongs to.
    pub(super) owners: Vec<Owner>,
}

/// Collects what the documents hold.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// Where objects are that name no namespace; `default` if it is not said.
    pub(super) namespace: Option<String>,
    /// Namespaces, nodes, pods, policies.
    pub(super) objects: Vec<Decoded>,
    /// What stands for pods.
    pub(super) workloads: Vec<Workload>,
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
    /// How many more things are wrong.
    pub(super) omitted: usize,
    /// What was assumed.
    pub(super) notes: Vec<Note>,
    /// The cluster addresses of Services, which are skipped otherwise.
    pub(super) service_addresses: BTreeSet<IpAddr>,
    skipped: BTreeMap<String, usize>,
    not_evaluated: BTreeMap<String, usize>,
    unknown_status: BTreeSet<String>,
    with_unknown_status: usize,
    given: BTreeMap<ObjectRef, Place>,
    /// With `generateName` alone: they wait until it is known which names are taken.
    unnamed: Vec<Candidate>,
}

/// An object of a kind that is read, before its fields are looked at.
#[derive(Debug)]
struct Candidate {
    place: Place,
    reference: ObjectRef,
    kind: ReadKind,
    /// Whether it has no namespace and was put into `default`.
    defaulted: bool,
    map: Map<String, Value>,
}

/// As much of `generateName` is used, so that the name is a label (apiserver's names.SimpleNameGenerator).
const LONGEST_PREFIX: usize = 58;

impl Decoder {
    /// Takes in a document.
    pub(super) fn document(&mut self, document: Document) {
        self.value(document.place, document.value, None, &document.item_lines);
    }

    /// Names the objects with `generateName` alone, once everything else is in: with the first number that makes the
    /// name one of its own.
    pub(super) fn name_generated(&mut self) {
        // The numbers below are taken: thousands of objects may have one prefix.
        let mut first_free: BTreeMap<ObjectRef, usize> = BTreeMap::new();
        for mut unnamed in std::mem::take(&mut self.unnamed) {
            let metadata = unnamed.map.get_mut("metadata");
            let Some(metadata) = metadata.and_then(Value::as_object_mut) else {
                continue;
            };
            let prefix = metadata.get("generateName").and_then(Value::as_str);
            let prefix: String = prefix
                .unwrap_or_default()
                .chars()
                .take(LONGEST_PREFIX)
                .collect();
            unnamed.reference.name = Some(prefix.clone());
            let number = first_free.entry(unnamed.reference.clone()).or_insert(1);
            loop {
                unnamed.reference.name = Some(format!("{prefix}{number}"));
                if !self.given.contains_key(&unnamed.reference) {
                    break;
                }
                *number += 1;
            }
            metadata.insert("name".to_owned(), unnamed.reference.name.clone().into());
            self.notes.push(Note::NameMadeUp {
                object: unnamed.reference.clone(),
            });
            self.candidate(unnamed);
        }
    }

    /// Refuses the objects with `generateName` alone: who follows changes needs to know which object is which. The
    /// names of workloads do not matter to it.
    pub(super) fn refuse_generated(&mut self) {
        let unnamed = std::mem::take(&mut self.unnamed);
        for unnamed in unnamed {
            if matches!(unnamed.kind, ReadKind::Workload(_)) {
                self.unnamed.push(unnamed);
            } else {
                let (place, object) = (&unnamed.place, &unnamed.reference);
                self.fail(place, object, "metadata.name", Cause::Required);
            }
        }
        self.name_generated();
    }

    /// Whether there is nothing that picket reads, neither good nor bad; if so what was there instead.
    pub(super) fn found_nothing(&self) -> Option<Vec<String>> {
        if !(self.objects.is_empty() && self.workloads.is_empty() && self.problems.is_empty()) {
            return None;
        }
        let others = self.not_evaluated.iter().chain(&self.skipped);
        Some(
            others
                .map(|(kind, count)| format!("{count} {kind}"))
                .collect(),
        )
    }

    /// The notes on kinds, once everything is in.
    pub(super) fn count_kinds(&mut self) {
        let skipped = std::mem::take(&mut self.skipped);
        let not_evaluated = std::mem::take(&mut self.not_evaluated);
        self.notes.extend(
            not_evaluated
                .into_iter()
                .map(|(kind, count)| Note::NotEvaluated { kind, count }),
        );
        self.notes.extend(
            skipped
                .into_iter()
                .map(|(kind, count)| Note::Skipped { kind, count }),
        );
        if self.with_unknown_status > 0 {
            self.notes.push(Note::UnknownStatus {
                fields: std::mem::take(&mut self.unknown_status)
                    .into_iter()
                    .collect(),
                count: self.with_unknown_status,
            });
        }
    }

    fn fail(&mut self, place: &Place, object: &ObjectRef, field: &str, cause: Cause) {
        if self.problems.len() >= MAX_PROBLEMS {
            self.omitted += 1;
            return;
        }
        let field = Some(field.to_owned()).filter(|field| !field.is_empty());
        self.problems
            .push(Problem::of_object(place, object, field, cause));
    }

    /// A document or an item; an item of a typed list inherits apiVersion and kind if it has none. `item_lines` are
    /// those of its own items, as far as they are known.
    fn value(
        &mut self,
        place: Place,
        value: Value,
        inherited: Option<(&str, &str)>,
        item_lines: &[usize],
    ) {
        let mut map = match value {
            Value::Object(map) => map,
            other => {
                let object = ObjectRef {
                    kind: "document".to_owned(),
                    namespace: None,
                    name: None,
                };
                return self.fail(&place, &object, "", Cause::NotAnObject(type_name(&other)));
            }
        };
        if let Some((version, kind)) =
            inherited.filter(|_| !map.contains_key("apiVersion") && !map.contains_key("kind"))
        {
            map.insert("apiVersion".to_owned(), version.into());
            map.insert("kind".to_owned(), kind.into());
        }
        let reference = reference(&map);
        let mut text = |field: &str| match map.get(field) {
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            Some(Value::String(_) | Value::Null) | None => {
                self.fail(&place, &reference, field, Cause::Required);
                None
            }
            Some(other) => {
                let message = format!("invalid type: {}, expected a string", type_name(other));
                self.fail(&place, &reference, field, Cause::WrongType(message));
                None
            }
        };
        let (version, kind) = (text("apiVersion"), text("kind"));
        let (Some(version), Some(kind)) = (version, kind) else {
            return;
        };
        match kind.strip_suffix("List") {
            Some(item) if item.is_empty() || map.contains_key("items") => {
                self.list(
                    &place,
                    &reference,
                    map,
                    Some((version.as_str(), item)).filter(|(_, item)| !item.is_empty()),
                    item_lines,
                );
            }
            _ => self.object(place, reference, &version, &kind, map),
        }
    }

    /// The items of a List. The depth of a document bounds the depth of Lists.
    fn list(
        &mut self,
        place: &Place,
        list: &ObjectRef,
        map: Map<String, Value>,
        inherited: Option<(&str, &str)>,
        item_lines: &[usize],
    ) {
        for (field, value) in map {
            match (field.as_str(), value) {
                ("apiVersion" | "kind" | "metadata", _) | ("items", Value::Null) => {}
                ("items", Value::Array(items)) => {
                    for (index, item) in items.into_iter().enumerate() {
                        let mut place = place.clone();
                        place.items.push(index);
                        place.line = item_lines.get(index).copied().unwrap_or(place.line);
                        self.value(place, item, inherited, &[]);
                    }
                }
                ("items", other) => {
                    let message = format!("invalid type: {}, expected a list", type_name(&other));
                    self.fail(place, list, "items", Cause::WrongType(message));
                }
                _ => self.fail(place, list, &field, Cause::UnknownField),
            }
        }
    }

    fn object(
        &mut self,
        place: Place,
        mut reference: ObjectRef,
        version: &str,
        kind: &str,
        map: Map<String, Value>,
    ) {
        let kind = match classify(version, kind) {
            Class::Read(kind) => kind,
            Class::WrongVersion(expected) => {
                let cause = Cause::ApiVersion {
                    found: version.to_owned(),
                    expected,
                };
                return self.fail(&place, &reference, "apiVersion", cause);
            }
            Class::Misspelt(expected) => {
                let cause = Cause::Misspelt {
                    found: kind.to_owned(),
                    expected,
                };
                return self.fail(&place, &reference, "kind", cause);
            }
            Class::ClusterNetworkPolicy => {
                return self.fail(&place, &reference, "", Cause::ClusterNetworkPolicy);
            }
            Class::NotEvaluated(kind) => return *self.not_evaluated.entry(kind).or_default() += 1,
            Class::Skipped(kind) if version == "v1" && kind == "Service" => {
                self.service_addresses.extend(cluster_ips(&map));
                return *self.skipped.entry(kind).or_default() += 1;
            }
            Class::Skipped(kind) => return *self.skipped.entry(kind).or_default() += 1,
        };
        let defaulted = kind.is_namespaced() && reference.namespace.is_none();
        if defaulted {
            let namespace = self.namespace.as_deref().unwrap_or("default");
            reference.namespace = Some(namespace.to_owned());
        } else if !kind.is_namespaced()
            && let Some(namespace) = reference.namespace.take()
        {
            let object = reference.clone();
            self.notes
                .push(Note::NamespaceLeftOut { object, namespace });
        }
        let metadata = map.get("metadata").and_then(Value::as_object);
        let has = |field: &str| metadata.is_some_and(|metadata| !is_absent(metadata.get(field)));
        let is_generated = !has("name") && has("generateName");
        let candidate = Candidate {
            place,
            reference,
            kind,
            defaulted,
            map,
        };
        if is_generated {
            self.unnamed.push(candidate);
        } else {
            self.candidate(candidate);
        }
    }

    fn candidate(&mut self, candidate: Candidate) {
        let Candidate {
            place,
            reference,
            kind,
            defaulted,
            map,
        } = candidate;
        let errors = self.problems.len();
        let metadata = map.get("metadata").and_then(Value::as_object);
        if metadata.is_none_or(|metadata| is_absent(metadata.get("name"))) {
            self.fail(&place, &reference, "metadata.name", Cause::Required);
        }
        let value = Value::Object(map);
        match kind {
            ReadKind::Namespace => {
                self.decode::<core::Namespace, api::Namespace>(
                    &place,
                    &reference,
                    value,
                    Object::Namespace,
                );
            }
            ReadKind::Node => {
                self.decode::<core::Node, api::Node>(&place, &reference, value, Object::Node)
            }
            ReadKind::Pod => {
                self.decode::<core::Pod, api::Pod>(&place, &reference, value, Object::Pod)
            }
            ReadKind::NetworkPolicy => self
                .decode::<networking::NetworkPolicy, api::NetworkPolicy>(
                    &place,
                    &reference,
                    value,
                    Object::NetworkPolicy,
                ),
            ReadKind::Workload(kind) => {
                let faults = workload::check(kind, &value);
                self.faults(&place, &reference, faults);
                match workload::decode(kind, &place, &reference, &value) {
                    Ok(workload) => self.workloads.push(workload),
                    Err(error) if errors == self.problems.len() => {
                        self.fail(
                            &place,
                            &reference,
                            "spec",
                            Cause::WrongType(error.to_string()),
                        );
                    }
                    Err(_) => {}
                }
            }
        }
        if reference.name.is_some() {
            match self.given.entry(reference.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(place);
                }
                Entry::Occupied(entry) => {
                    let first = entry.get().clone();
                    self.fail(&place, &reference, "", Cause::GivenTwice(first));
                }
            }
        }
        // Who has said where they are need not be told.
        if defaulted && self.namespace.is_none() && errors == self.problems.len() {
            self.notes
                .push(Note::DefaultNamespace { object: reference });
        }
    }

    fn faults(&mut self, place: &Place, object: &ObjectRef, faults: Faults) {
        for (field, cause) in faults.refused {
            self.fail(place, object, &field, cause);
        }
        if !faults.unknown_status.is_empty() {
            self.with_unknown_status += 1;
            let named = |field| format!("{} {field}", object.kind);
            // The keys are the input's, so that there could be any number.
            let left = MAX_PROBLEMS.saturating_sub(self.unknown_status.len());
            let fields = faults.unknown_status.into_iter().map(named);
            self.unknown_status.extend(fields.take(left));
        }
    }

    /// Checks against the API's type `Full`, then keeps what picket uses of it.
    fn decode<Full: DeserializeOwned, Kept: DeserializeOwned>(
        &mut self,
        place: &Place,
        reference: &ObjectRef,
        value: Value,
        wrap: impl FnOnce(Kept) -> Object,
    ) {
        let faults = strict::check::<Full>(&value);
        let owners = workload::owners(&value);
        let clean = faults.refused.is_empty();
        self.faults(place, reference, faults);
        match serde_path_to_error::deserialize::<_, Kept>(value) {
            Ok(kept) => {
                let mut object = wrap(kept);
                metadata_mut(&mut object).namespace = reference.namespace.clone();
                self.objects.push(Decoded {
                    place: place.clone(),
                    object,
                    owners,
                });
            }
            // Of what the full type takes, the wire shapes refuse nothing; but say so rather than lose an object.
            Err(error) if clean => {
                let field = error.path().to_string();
                self.fail(
                    place,
                    reference,
                    &field,
                    Cause::WrongType(error.inner().to_string()),
                );
            }
            Err(_) => {}
        }
    }
}

/// The cluster addresses of a Service; what is none (`None`, or absent before the API server gives one) is left out.
fn cluster_ips(service: &Map<String, Value>) -> Vec<IpAddr> {
    let Some(spec) = service.get("spec") else {
        return Vec::new();
    };
    let all = spec.get("clusterIPs").and_then(Value::as_array);
    let all = all.into_iter().flatten().chain(spec.get("clusterIP"));
    all.filter_map(|text| text.as_str()?.parse().ok()).collect()
}

/// The metadata, to be completed.
pub(super) fn metadata_mut(object: &mut Object) -> &mut ObjectMeta {
    match object {
        Object::Namespace(object) => &mut object.metadata,
        Object::Node(object) => &mut object.metadata,
        Object::Pod(object) => &mut object.metadata,
        Object::NetworkPolicy(object) => &mut object.metadata,
    }
}
