//! The objects of all files, and which of those with one name counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use policy_compiler::index::{Interner, Object, ObjectId};
use policy_compiler::model::{NAMESPACE_NAME_LABEL, Namespace, Node};

use super::super::source::Change;
use crate::source::{ObjectRef, Place, Problem};

/// A file, by the path by which it is found.
pub(super) type File = Arc<Path>;

/// What the files give, and what was told of it.
#[derive(Default)]
pub(super) struct View {
    /// The objects in each file.
    files: BTreeMap<File, BTreeSet<ObjectId>>,
    /// Who gives an object, the first first.
    claims: BTreeMap<ObjectId, Vec<Claim>>,
    /// The objects that more than one file gives.
    contested: BTreeSet<ObjectId>,
    /// What was told.
    told: BTreeMap<ObjectId, Arc<Object>>,
    /// How many of the objects that were told name a namespace or node.
    named: BTreeMap<ObjectId, usize>,
    /// What may have to be told.
    dirty: BTreeSet<ObjectId>,
    interner: Interner,
}

struct Claim {
    file: File,
    place: Place,
    object: Arc<Object>,
    /// Whether the file is gone, and the object about to be.
    leaving: bool,
}

impl View {
    /// These are the objects of a file. What it had before and still has, it does not lose to another.
    pub(super) fn put(&mut self, file: &File, objects: Vec<(Place, Object)>) {
        let ids = objects.iter().map(|(_, object)| object.id()).collect();
        let before = self.files.insert(file.clone(), ids).unwrap_or_default();
        for (place, object) in objects {
            let id = object.id();
            let claim = Claim {
                file: file.clone(),
                place,
                object: Arc::new(self.interner.object(object)),
                leaving: false,
            };
            let claims = self.claims.entry(id.clone()).or_default();
            match claims.iter_mut().find(|other| other.file == *file) {
                Some(own) => *own = claim,
                None => claims.push(claim),
            }
            self.touch(id);
        }
        let after = self.files.get(file).cloned().unwrap_or_default();
        for id in before.difference(&after) {
            self.drop_claim(id, file);
        }
    }

    /// The file is gone, or is there again. Until it is removed, its objects count where no other file gives them.
    pub(super) fn leave(&mut self, file: &File, leaving: bool) {
        for id in self.files.get(file).cloned().unwrap_or_default() {
            let claims = self.claims.get_mut(&id).into_iter().flatten();
            for own in claims.filter(|claim| claim.file == *file) {
                own.leaving = leaving;
            }
            self.touch(id);
        }
    }

    /// The file is gone for good.
    pub(super) fn remove(&mut self, file: &File) {
        for id in self.files.remove(file).unwrap_or_default() {
            self.drop_claim(&id, file);
        }
    }

    fn drop_claim(&mut self, id: &ObjectId, file: &File) {
        if let Some(claims) = self.claims.get_mut(id) {
            claims.retain(|claim| claim.file != *file);
        }
        self.touch(id.clone());
    }

    fn touch(&mut self, id: ObjectId) {
        let claims = self.claims.get(&id).map_or(0, Vec::len);
        if claims == 0 {
            self.claims.remove(&id);
        }
        if claims > 1 {
            self.contested.insert(id.clone());
        } else {
            self.contested.remove(&id);
        }
        self.dirty.insert(id);
    }

    /// What is other than what was told, which it counts as now: what is there, then what is gone.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let mut there = BTreeMap::new();
        let mut gone = Vec::new();
        // Pods and policies first, which name namespaces and nodes.
        while let Some(id) = self.dirty.pop_last() {
            let now = self.wanted(&id);
            if self.told.get(&id) == now.as_ref() {
                continue;
            }
            let before = match &now {
                Some(object) => self.told.insert(id.clone(), object.clone()),
                None => self.told.remove(&id),
            };
            for name in now.iter().flat_map(|object| named_by(object)) {
                *self.named.entry(name.clone()).or_default() += 1;
                self.dirty.insert(name);
            }
            for name in before.iter().flat_map(|object| named_by(object)) {
                if let Some(count) = self.named.get_mut(&name) {
                    *count -= 1;
                    if *count == 0 {
                        self.named.remove(&name);
                    }
                }
                self.dirty.insert(name);
            }
            match now {
                Some(object) => drop(there.insert(id, Change::Apply((*object).clone()))),
                None => gone.push(Change::Delete(id)),
            }
        }
        there.into_values().chain(gone).collect()
    }

    /// Everything that was told, in order.
    pub(super) fn objects(&self) -> Vec<Object> {
        self.told
            .values()
            .map(|object| (**object).clone())
            .collect()
    }

    fn wanted(&self, id: &ObjectId) -> Option<Arc<Object>> {
        let given = self.claims.get(id).and_then(|claims| first(claims));
        given
            .map(|claim| claim.object.clone())
            .or_else(|| made_up(id).filter(|_| self.named.contains_key(id)))
    }

    /// What is wrong with files that give what another has given before.
    pub(super) fn duplicates(&self) -> impl Iterator<Item = (&File, Problem)> {
        self.contested.iter().flat_map(|id| {
            let claims = self.claims.get(id).map_or(&[][..], Vec::as_slice);
            let counts = first(claims);
            let others = claims.iter().filter(|claim| !claim.leaving);
            let others = others.filter_map(move |claim| Some((claim, counts?)));
            others
                .filter(|(claim, counts)| claim.file != counts.file)
                .map(|(claim, counts)| {
                    let problem = Problem::given_twice(&claim.place, &reference(id), &counts.place);
                    (&claim.file, problem)
                })
        })
    }
}

/// The claim that counts.
fn first(claims: &[Claim]) -> Option<&Claim> {
    let staying = claims.iter().find(|claim| !claim.leaving);
    staying.or(claims.first())
}

/// The namespace and the node that an object names.
fn named_by(object: &Object) -> impl Iterator<Item = ObjectId> + use<> {
    let (namespace, node) = match object {
        Object::Namespace(_) | Object::Node(_) => (None, None),
        Object::Pod(pod) => (Some(&pod.id.namespace), pod.node.as_ref()),
        Object::NetworkPolicy(policy) => (Some(&policy.id.namespace), None),
    };
    let namespace = namespace.cloned().map(ObjectId::Namespace);
    namespace
        .into_iter()
        .chain(node.cloned().map(ObjectId::Node))
}

/// What exists because it is named, as on the command line but for addresses.
fn made_up(id: &ObjectId) -> Option<Arc<Object>> {
    let object = match id {
        ObjectId::Namespace(name) => Object::Namespace(Namespace {
            name: name.clone(),
            labels: [(NAMESPACE_NAME_LABEL.to_owned(), name.clone())]
                .into_iter()
                .collect(),
        }),
        ObjectId::Node(name) => Object::Node(Node {
            name: name.clone(),
            addresses: BTreeSet::new(),
            pod_cidrs: Vec::new(),
        }),
        ObjectId::Pod(_) | ObjectId::NetworkPolicy(_) => return None,
    };
    Some(Arc::new(object))
}

fn reference(id: &ObjectId) -> ObjectRef {
    let (kind, namespace, name) = match id {
        ObjectId::Namespace(name) => ("Namespace", None, name),
        ObjectId::Node(name) => ("Node", None, name),
        ObjectId::Pod(id) => ("Pod", Some(&id.namespace), &id.name),
        ObjectId::NetworkPolicy(id) => ("NetworkPolicy", Some(&id.namespace), &id.name),
    };
    ObjectRef {
        kind: kind.to_owned(),
        namespace: namespace.cloned(),
        name: Some(name.clone()),
    }
}
