//! Labels and ports that pods share.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{ContainerPort, Labels, Pod};

/// Fewer values are not worth a look for those that nobody has any more.
const FEW: usize = 1_024;

/// Distinct values of pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Interner {
    labels: Distinct<Labels>,
    ports: Distinct<[ContainerPort]>,
}

impl Interner {
    /// The pod with values that other pods have too.
    pub(super) fn pod(&mut self, mut pod: Pod) -> Pod {
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
