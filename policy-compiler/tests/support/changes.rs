//! Two clusters of which the second is a change of the first.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::model::{Cluster, NamespacedName, NetworkPolicy, Pod};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support;

/// A cluster and another in which about `weight` of the objects are different.
pub(crate) fn clusters(weight: f64) -> impl Strategy<Value = [Cluster; 2]> {
    let picks = vec(prop::bool::weighted(weight), 32);
    (support::cluster(), support::cluster(), picks).prop_map(|(one, other, picks)| {
        let mut picks = picks.into_iter().cycle();
        let mut pick = || picks.next().unwrap();
        let by_name = |cluster: &Cluster| -> BTreeMap<String, _> {
            let pods = cluster.pods.values();
            pods.map(|pod| (pod.id.name.clone(), pod.clone())).collect()
        };
        let (mut pods, other_pods) = (by_name(&one), by_name(&other));
        for (name, pod) in other_pods {
            match (pick(), pick()) {
                (true, true) => drop(pods.remove(&name)),
                (true, false) => drop(pods.insert(name, pod)),
                // Only relabelled.
                (false, true) if pick() => pods.get_mut(&name).unwrap().labels = pod.labels,
                _ => {}
            }
        }
        let names: BTreeSet<NamespacedName> = one
            .policies
            .keys()
            .chain(other.policies.keys())
            .cloned()
            .collect();
        let policies = names.into_iter().filter_map(|name| {
            let (old, new) = (one.policies.get(&name), other.policies.get(&name));
            match (old, new) {
                (Some(old), Some(new)) if pick() => {
                    // An edit of its rules only, or of all.
                    let selector = if pick() { &old.selector } else { &new.selector };
                    let mut policy = new.clone();
                    policy.selector = selector.clone();
                    Some(policy)
                }
                (Some(old), _) if !pick() => Some(old.clone()),
                (None, Some(new)) if pick() => Some(new.clone()),
                _ => None,
            }
        });
        let policies: Vec<_> = policies.collect();
        let namespaces: Vec<_> = one
            .namespaces
            .iter()
            .filter_map(|(name, namespace)| match pick() {
                true => other.namespaces.get(name).cloned(),
                false => Some(namespace.clone()),
            })
            .collect();
        let next = Cluster::new(
            namespaces,
            one.nodes.values().cloned(),
            pods.into_values(),
            policies,
        );
        [one, next]
    })
}

/// A cluster, and the same with other labels of some pods and other rules of some policies.
pub(crate) fn edits() -> impl Strategy<Value = [Cluster; 2]> {
    let picks = vec(prop::bool::weighted(0.4), 16);
    (support::cluster(), support::cluster(), picks).prop_map(|(one, other, picks)| {
        let mut picks = picks.into_iter().cycle();
        let mut pick = || picks.next().unwrap();
        let mut next = one.clone();
        for (pod, other) in one.pods.values().zip(other.pods.into_values()) {
            if pick() {
                let labels = other.labels;
                next.add_pod(Pod {
                    labels,
                    ..pod.clone()
                });
            }
        }
        for (policy, other) in one.policies.values().zip(other.policies.into_values()) {
            if pick() {
                next.add_policy(NetworkPolicy {
                    ingress: policy.ingress.as_ref().and(other.ingress),
                    egress: policy.egress.as_ref().and(other.egress),
                    ..policy.clone()
                });
            }
        }
        [one, next]
    })
}
