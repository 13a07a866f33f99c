//! Which namespaces are over their budget, and what is enforced of them: counted again only when something of theirs
//! changed, or so much elsewhere that it may matter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::enforced::{Enforced, Input, Setting};
use crate::budget::{self, Budgets, Counted, Exceeded, Found, Resource, SetKey, Sets};
use crate::ir::PeerMatch;
use crate::model::{Cluster, NamespacedName, NetworkPolicy, Owner, Pod, PolicyId};

/// A namespace that needs too many elements is counted again when one of so many addresses has left the cluster.
const PART_THAT_LEAVES: usize = 1_000;

/// What is known of the namespaces that have pods on the node.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    counted: BTreeMap<String, Entry>,
    exceeded: BTreeMap<String, Exceeded>,
    /// The policies that were in force when a namespace came over its budget.
    held: BTreeMap<String, BTreeMap<PolicyId, Arc<NetworkPolicy>>>,
    /// How many comparisons it took to find who is in a set.
    steps: BTreeMap<PeerMatch, usize>,
    /// The objects and the isolated policies that were counted last.
    cluster: Cluster,
    isolated: BTreeSet<PolicyId>,
    /// Addresses of pods that came, or whose pods changed, and those that went, ever.
    came: usize,
    went: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    is_exceeded: bool,
    /// When it is counted again, whatever happens to it: so many addresses came or went.
    came: usize,
    went: usize,
}

impl Ledger {
    pub(super) fn exceeded(&self) -> &BTreeMap<String, Exceeded> {
        &self.exceeded
    }

    /// What is enforced of the objects, after what is enforced now.
    pub(super) fn input(
        &mut self,
        cluster: &Cluster,
        isolated: &BTreeSet<PolicyId>,
        setting: &Setting,
        budgets: &Budgets,
        now: (&Input, &Enforced),
    ) -> Input {
        let (before, enforced) = now;
        let edited = self.cluster.policies.changes(&cluster.policies);
        let edited = edited.chain(self.isolated.symmetric_difference(isolated));
        let mut edited: BTreeSet<_> = edited.cloned().collect();
        let mut changed = self.changed(cluster, setting);
        changed.extend(edited.iter().map(|id| id.namespace.clone()));
        let turned = self.count(cluster, isolated, &changed, setting, budgets, enforced);

        // What is enforced differs from what was only where something changed: nobody pays for what others hold.
        let mut effective = cluster.clone();
        effective.policies = before.cluster.policies.clone();
        for namespace in &turned {
            for policies in [&before.cluster, cluster] {
                edited.extend(policies.policies_in(namespace).map(|p| p.id.clone()));
            }
            edited.extend(
                self.held
                    .get(namespace)
                    .into_iter()
                    .flatten()
                    .map(|(id, _)| id.clone()),
            );
        }
        for id in edited {
            match self.in_force(cluster, &id) {
                Some(policy) => effective.add_policy(Arc::clone(policy)),
                None => effective.remove_policy(&id),
            }
            if isolated.contains(&id) {
                isolate(&mut effective, &id);
            }
        }

        let mut closed = BTreeSet::new();
        for namespace in self.exceeded.keys() {
            for pod in cluster.pods_in(namespace) {
                let was_in_force = enforced.has_pod(&pod.id) && !before.closed.contains(&pod.id);
                if is_local(pod, setting) && !was_in_force {
                    closed.insert(pod.id.clone());
                }
            }
        }
        self.cluster = cluster.clone();
        self.isolated.clone_from(isolated);
        Input {
            cluster: effective,
            closed,
        }
    }

    /// The policy of this name that counts: over its budget a namespace keeps what was in force.
    fn in_force<'a>(
        &'a self,
        cluster: &'a Cluster,
        id: &PolicyId,
    ) -> Option<&'a Arc<NetworkPolicy>> {
        match self.exceeded.contains_key(&id.namespace) {
            true => self.held.get(&id.namespace)?.get(id),
            false => cluster.policies.shared(id),
        }
    }

    /// The namespaces of which a pod on the node changed. Counts what changed elsewhere.
    fn changed(&mut self, cluster: &Cluster, setting: &Setting) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        for (_, old, new) in self.cluster.owner_changes(cluster) {
            for (owner, count) in [(old, &mut self.went), (new, &mut self.came)] {
                if let Owner::Pod(pod) = owner {
                    *count += 1;
                    if is_local(pod, setting) {
                        changed.insert(pod.id.namespace.clone());
                    }
                }
            }
        }
        for name in self.cluster.namespaces.changes(&cluster.namespaces) {
            let pods = cluster.pods_in(name).count();
            (self.came, self.went) = (self.came + 2 * pods, self.went + 2 * pods);
        }
        changed
    }

    /// Counts what is due. Gives the namespaces that came over their budget, and those that are not any more.
    fn count(
        &mut self,
        cluster: &Cluster,
        isolated: &BTreeSet<PolicyId>,
        changed: &BTreeSet<String>,
        setting: &Setting,
        budgets: &Budgets,
        enforced: &Enforced,
    ) -> BTreeSet<String> {
        let due = self
            .counted
            .iter()
            .filter(|(_, entry)| self.came >= entry.came || self.went >= entry.went);
        let due: BTreeSet<_> = due.map(|(name, _)| name).chain(changed).cloned().collect();
        if due.is_empty() {
            return due;
        }
        let mut asked = cluster.clone();
        for id in isolated {
            isolate(&mut asked, id);
        }
        let cluster = &asked;
        let steps = &self.steps;
        let sizes = |key: SetKey<'_>| {
            let (name, elements) = enforced.size(key, setting)?;
            let steps = *steps.get(&name)?;
            Some(Found { elements, steps })
        };
        let mut sets = Sets::with_sizes(cluster, &sizes);
        let mut all = Vec::new();
        for namespace in due {
            let mut pods = cluster.pods_in(&namespace);
            let has_pods = pods
                .any(|pod| is_local(pod, setting) && cluster.addresses_of(pod).next().is_some());
            let counted = has_pods
                .then(|| budget::count(cluster, &setting.node, &namespace, budgets, &mut sets));
            all.push((namespace, counted));
        }
        let found: Vec<_> = sets
            .found()
            .map(|(key, found)| (setting.name_of(key), found.steps))
            .collect();
        self.steps.extend(found);
        let mut turned = BTreeSet::new();
        for (namespace, counted) in all {
            let was = self.exceeded.contains_key(&namespace);
            self.enter(&namespace, counted);
            if was != self.exceeded.contains_key(&namespace) {
                turned.insert(namespace);
            }
        }
        // What is not enforced has to be found again anyway.
        if self.steps.len() > 2 * enforced.sets() + 1_024 {
            self.steps.retain(|name, _| enforced.has_set(name));
        }
        turned
    }

    fn enter(&mut self, namespace: &str, counted: Option<Counted>) {
        let Some(Counted { exceeded, room }) = counted else {
            self.counted.remove(namespace);
            self.exceeded.remove(namespace);
            self.held.remove(namespace);
            return;
        };
        let was = self.counted.get(namespace);
        match &exceeded {
            None => {
                self.exceeded.remove(namespace);
                self.held.remove(namespace);
            }
            Some(exceeded) => {
                // Policies that nobody counted were not accepted, also if they stood there.
                if was.is_some_and(|was| !was.is_exceeded) {
                    let ids = self.cluster.policies_in(namespace).map(|p| &p.id);
                    let shared = |id| {
                        Some((
                            PolicyId::clone(id),
                            self.cluster.policies.shared(id)?.clone(),
                        ))
                    };
                    let held = ids.filter_map(shared).collect();
                    self.held.insert(namespace.to_owned(), held);
                }
                self.exceeded.insert(namespace.to_owned(), exceeded.clone());
            }
        }
        let of_elements = exceeded
            .as_ref()
            .is_some_and(|exceeded| exceeded.resource == Resource::Elements);
        let many = self.cluster.addresses() / PART_THAT_LEAVES;
        let entry = Entry {
            came: match exceeded {
                Some(_) => usize::MAX,
                None => self.came.saturating_add(room).saturating_add(1),
            },
            went: match of_elements {
                true => self.went + many.max(1),
                false => usize::MAX,
            },
            is_exceeded: exceeded.is_some(),
        };
        self.counted.insert(namespace.to_owned(), entry);
    }
}

fn is_local(pod: &Pod, setting: &Setting) -> bool {
    pod.is_on_pod_network() && pod.node.as_ref() == Some(&setting.node)
}

/// Takes the rules of a policy away, so that it isolates the pods that it selects and allows nothing.
fn isolate(cluster: &mut Cluster, id: &NamespacedName) {
    if let Some(policy) = cluster.policies.get(id) {
        let mut policy = policy.clone();
        policy.ingress = policy.ingress.take().map(|_| Vec::new());
        policy.egress = policy.egress.take().map(|_| Vec::new());
        cluster.add_policy(policy);
    }
}
