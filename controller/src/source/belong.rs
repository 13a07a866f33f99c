//! Which workload each pod belongs to, so that what is printed can name it instead of its pods.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::model::NamespacedName;

use super::decode::Decoded;
use super::origin::ObjectRef;
use super::workload::{Owner, StandIn, Workload, guess, in_namespace};

/// The way from what is owned to who owns it.
pub(super) struct Ownership {
    /// The workloads of the input, and the owner of each that has one.
    above: BTreeMap<ObjectRef, Option<ObjectRef>>,
}

impl Ownership {
    pub(super) fn of(workloads: &[Workload]) -> Self {
        let above = workloads.iter().map(|workload| {
            let reference = &workload.reference;
            let above = first(&workload.owners)
                .map(|owner| in_namespace(&reference.namespace, &owner.kind, &owner.name));
            (reference.clone(), above)
        });
        Self {
            above: above.collect(),
        }
    }

    /// The workload at the top, for each pod that has one: a Deployment rather than its ReplicaSet.
    pub(super) fn workloads(
        &self,
        objects: &[Decoded],
        stand_ins: &[StandIn],
    ) -> BTreeMap<NamespacedName, ObjectRef> {
        let given = objects
            .iter()
            .filter(|decoded| decoded.object.kind() == "Pod")
            .filter_map(|decoded| {
                let metadata = decoded.object.metadata();
                let id = id(&metadata.namespace, &metadata.name)?;
                let owner = first(&decoded.owners)?;
                Some((id, self.top(&metadata.namespace, owner)))
            });
        let made = stand_ins.iter().filter_map(|stand_in| {
            let namespace = &stand_in.workload.namespace;
            let id = id(namespace, &stand_in.pod.metadata.name)?;
            Some((id, self.climb(stand_in.workload.clone())))
        });
        given.chain(made).collect()
    }

    fn top(&self, namespace: &Option<String>, owner: &Owner) -> ObjectRef {
        let direct = in_namespace(namespace, &owner.kind, &owner.name);
        let is_given = self.above.contains_key(&direct);
        match guess(owner).filter(|_| !is_given) {
            Some((kind, name)) => in_namespace(namespace, kind, name),
            None => self.climb(direct),
        }
    }

    fn climb(&self, mut workload: ObjectRef) -> ObjectRef {
        // Files may hold workloads that own each other.
        let mut passed = BTreeSet::new();
        while let Some(Some(above)) = self.above.get(&workload)
            && passed.insert(workload.clone())
        {
            workload = above.clone();
        }
        workload
    }
}

/// A static pod's owner is its node, which is no workload.
fn first(owners: &[Owner]) -> Option<&Owner> {
    owners.iter().find(|owner| owner.kind != "Node")
}

fn id(namespace: &Option<String>, name: &Option<String>) -> Option<NamespacedName> {
    Some(NamespacedName::new(namespace.clone()?, name.clone()?))
}
