//! Which sets a pod can be in, found without a question to each selector.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::PeerMatch;
use crate::model::{LabelSelector, Labels, NamespaceScope, Peer, Pod, Requirement};

/// Sets by the selectors of their peers.
#[derive(Clone, Debug, Default)]
pub(super) struct Selectors {
    /// Of peers in one namespace.
    own: BTreeMap<String, PodSelectors>,
    /// Of peers in the namespaces that a selector finds.
    matching: BTreeMap<LabelSelector, PodSelectors>,
    /// Sets that any pod can be in: named ports of every pod, and of those in an ipBlock.
    any: BTreeSet<PeerMatch>,
}

/// Selectors of pods in the same namespaces. One that requires a label with one of some values is asked only about pods
/// that have it.
#[derive(Clone, Debug, Default)]
struct PodSelectors {
    by_label: BTreeMap<String, BTreeMap<String, Sets>>,
    others: Sets,
}

/// Sets by selector, so that each is asked once.
type Sets = BTreeMap<LabelSelector, BTreeSet<PeerMatch>>;

impl Selectors {
    /// Adds a set.
    pub(super) fn add(&mut self, peer: Option<&Peer>, set: &PeerMatch) {
        match peer {
            Some(Peer::Pods { namespaces, pods }) => {
                let scope = match namespaces {
                    NamespaceScope::Own(own) => self.own.entry(own.clone()).or_default(),
                    NamespaceScope::Matching(selector) => {
                        self.matching.entry(selector.clone()).or_default()
                    }
                };
                scope.add(pods, set);
            }
            Some(Peer::Block(_)) | None => drop(self.any.insert(set.clone())),
        }
    }

    /// Removes a set.
    pub(super) fn remove(&mut self, peer: Option<&Peer>, set: &PeerMatch) {
        match peer {
            Some(Peer::Pods { namespaces, pods }) => match namespaces {
                NamespaceScope::Own(own) => {
                    if let Some(scope) = self.own.get_mut(own) {
                        scope.remove(pods, set);
                        if scope.is_empty() {
                            self.own.remove(own);
                        }
                    }
                }
                NamespaceScope::Matching(selector) => {
                    if let Some(scope) = self.matching.get_mut(selector) {
                        scope.remove(pods, set);
                        if scope.is_empty() {
                            self.matching.remove(selector);
                        }
                    }
                }
            },
            Some(Peer::Block(_)) | None => drop(self.any.remove(set)),
        }
    }

    /// The sets whose selectors find the pod in a namespace with these labels, if it is known.
    pub(super) fn find<'a>(
        &'a self,
        pod: &Pod,
        namespace: Option<&Labels>,
    ) -> impl Iterator<Item = &'a PeerMatch> {
        let mut found: Vec<&PeerMatch> = self.any.iter().collect();
        if let Some(scope) = self.own.get(&pod.id.namespace) {
            scope.find(&pod.labels, &mut found);
        }
        if let Some(namespace) = namespace {
            for (selector, scope) in &self.matching {
                if selector.matches(namespace) {
                    scope.find(&pod.labels, &mut found);
                }
            }
        }
        found.into_iter()
    }

    /// Whether some peer finds a namespace with the one labels and not with the other.
    pub(super) fn tells_apart(&self, one: Option<&Labels>, other: Option<&Labels>) -> bool {
        let finds = |selector: &LabelSelector, labels: Option<&Labels>| {
            labels.is_some_and(|labels| selector.matches(labels))
        };
        let mut selectors = self.matching.keys();
        selectors.any(|selector| finds(selector, one) != finds(selector, other))
    }
}

impl PodSelectors {
    fn add(&mut self, selector: &LabelSelector, set: &PeerMatch) {
        let add = |sets: &mut Sets| {
            let sets = sets.entry(selector.clone()).or_default();
            sets.insert(set.clone());
        };
        match required(selector) {
            Some((key, values)) => {
                let by_value = self.by_label.entry(key.clone()).or_default();
                for value in values {
                    add(by_value.entry(value.clone()).or_default());
                }
            }
            None => add(&mut self.others),
        }
    }

    fn remove(&mut self, selector: &LabelSelector, set: &PeerMatch) {
        let remove = |sets: &mut Sets| {
            if let Some(of_selector) = sets.get_mut(selector) {
                of_selector.remove(set);
                if of_selector.is_empty() {
                    sets.remove(selector);
                }
            }
            sets.is_empty()
        };
        let Some((key, values)) = required(selector) else {
            remove(&mut self.others);
            return;
        };
        if let Some(by_value) = self.by_label.get_mut(key) {
            for value in values {
                if by_value.get_mut(value).is_some_and(remove) {
                    by_value.remove(value);
                }
            }
            if by_value.is_empty() {
                self.by_label.remove(key);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.by_label.is_empty() && self.others.is_empty()
    }

    fn find<'a>(&'a self, labels: &Labels, found: &mut Vec<&'a PeerMatch>) {
        let by_label = labels
            .iter()
            .filter_map(|(key, value)| self.by_label.get(key)?.get(value));
        for sets in by_label.chain([&self.others]) {
            let matching = sets.iter().filter(|(selector, _)| selector.matches(labels));
            found.extend(matching.flat_map(|(_, sets)| sets));
        }
    }
}

/// A label that all pods have that the selector finds, with one of these values.
fn required(selector: &LabelSelector) -> Option<(&String, &BTreeSet<String>)> {
    let required = selector
        .requirements()
        .filter_map(|requirement| match requirement {
            Requirement::In(key, values) => Some((key, values)),
            _ => None,
        });
    required.min_by_key(|(_, values)| values.len())
}
