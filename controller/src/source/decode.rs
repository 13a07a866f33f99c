//! Documents to objects, as strictly as the API server with `fieldValidation=Strict`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

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
use super::strict;
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
    skipped: BTreeMap<String, usize>,
    not_evaluated: BTreeMap<String, usize>,
    given: BTreeMap<ObjectRef, Place>,
}

impl Decoder {
    /// Takes in a document.
    pub(super) fn document(&mut self, document: Document) {
        self.value(document.place, document.value, None);
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

    /// A document or an item; an item of a typed list inherits apiVersion and kind if it has none.
    fn value(&mut self, place: Place, value: Value, inherited: Option<(&str, &str)>) {
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
    ) {
        for (field, value) in map {
            match (field.as_str(), value) {
                ("apiVersion" | "kind" | "metadata", _) | ("items", Value::Null) => {}
                ("items", Value::Array(items)) => {
                    for (index, item) in items.into_iter().enumerate() {
                        let mut place = place.clone();
                        place.items.push(index);
                        self.value(place, item, inherited);
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
            Class::ClusterNetworkPolicy => {
                return self.fail(&place, &reference, "", Cause::ClusterNetworkPolicy);
            }
            Class::NotEvaluated(kind) => return *self.not_evaluated.entry(kind).or_default() += 1,
            Class::Skipped(kind) => return *self.skipped.entry(kind).or_default() += 1,
        };
        // As the API server does for cluster-scoped kinds.
        let given = reference.namespace.take().filter(|_| kind.is_namespaced());
        let defaulted = kind.is_namespaced() && given.is_none();
        reference.namespace = if defaulted {
            Some("default".to_owned())
        } else {
            given
        };
        let errors = self.problems.len();
        let metadata = map.get("metadata").and_then(Value::as_object);
        if metadata.is_none_or(|metadata| is_absent(metadata.get("name"))) {
            let generated =
                metadata.is_some_and(|metadata| !is_absent(metadata.get("generateName")));
            let cause = if generated {
                Cause::NameRequired
            } else {
                Cause::Required
            };
            self.fail(&place, &reference, "metadata.name", cause);
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
                for (field, cause) in workload::check(kind, &value) {
                    self.fail(&place, &reference, &field, cause);
                }
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
        if defaulted && errors == self.problems.len() {
            self.notes
                .push(Note::DefaultNamespace { object: reference });
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
        let clean = faults.is_empty();
        for (field, cause) in faults {
            self.fail(place, reference, &field, cause);
        }
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

/// The metadata, to be completed.
pub(super) fn metadata_mut(object: &mut Object) -> &mut ObjectMeta {
    match object {
        Object::Namespace(object) => &mut object.metadata,
        Object::Node(object) => &mut object.metadata,
        Object::Pod(object) => &mut object.metadata,
        Object::NetworkPolicy(object) => &mut object.metadata,
    }
}

fn is_absent(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(value) => value.as_str() == Some(""),
    }
}

/// As much of an object's name as can be made out.
fn reference(map: &Map<String, Value>) -> ObjectRef {
    let text = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let metadata = map.get("metadata");
    let field = |name: &str| text(metadata.and_then(|metadata| metadata.get(name)));
    ObjectRef {
        kind: text(map.get("kind")).unwrap_or_else(|| "document".to_owned()),
        namespace: field("namespace"),
        name: field("name"),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
