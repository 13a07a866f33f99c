//! Labels and ports that pods share.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Object;
use crate::model::{ContainerPort, Labels, Pod};

/// Fewer values are not worth a look for those that nobody has any more.
const FEW: usize = 1_024;

/// Distinct values of pods.
///
/// An index shares them between the pods that it holds. Who lists very many pods shares them while they are made: a
/// list of pods that each have their own takes several times as much memory as the index, and freed memory between what
/// stays is not given back.
#[derive(Clone, Debug, Default)]
pub struct Interner {
    labels: Distinct<Labels>,
    ports: Distinct<[ContainerPort]>,
}

impl Interner {
    /// The object, with values that others have too.
    pub fn object(&mut self, object: Object) -> Object {
        match object {
            Object::Pod(pod) => Object::Pod(self.pod(pod)),
            other => other,
        }
    }

    fn pod(&mut self, mut pod: Pod) -> Pod {
        self.labels.intern(&mut pod.labels);
        self.ports.intern(&mut pod.ports);
        pod.addresses.shrink_to_fit();
        pod
    }
}

#[derive(Debug)]
struct Distinct<T: Ord + ?Sized> {
    values: BTreeSet<Arc<T>>,
    /// How many there were after the last look for unused ones.
    kept: usize,
}

impl<T: Ord + ?Sized> Clone for Distinct<T> {
    fn clone(&self) -> Self {
        Self {
            values: self.values.clone(),
            kept: self.kept,
        }
    }
}

impl<T: Ord + ?Sized> Default for Distinct<T> {
    fn default() -> Self {
        Self {
            values: BTreeSet::new(),
            kept: 0,
        }
    }
}

impl<T: Ord + ?Sized> Distinct<T> {
    fn intern(&mut self, value: &mut Arc<T>) {
        if let Some(known) = self.values.get(value) {
            value.clone_from(known);
            return;
        }
        if self.values.len() > FEW.max(2 * self.kept) {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.kept = self.values.len();
        }
        self.values.insert(Arc::clone(value));
    }
}
