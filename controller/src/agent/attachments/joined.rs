//! What the source says of this node's pods, and what the plugin says of their interfaces, as one.
//!
//! A pod has the addresses of its interfaces where these are known: its object learns of them late, and of an address that
//! is another's by now later still. A pod whose object is gone, or says that it has ended, stays a subject as long as it
//! has an interface: a forced deletion removes the object first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use cni_chain::attachment::{Attachment, AttachmentId, Path};
use policy_compiler::index::{Object, ObjectId};
use policy_compiler::lower;
use policy_compiler::model::{InterfaceName, NamespacedName, Pod, Presence};

use super::Accepted;
use crate::agent::source::Change;

/// Whether the policies of an interface's pod can be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They are among the rules.
    Known(Arc<Attachment>),
    /// They can not be, for this reason. The interface must pass nothing.
    Unknown(Arc<Attachment>, String),
}

impl Standing {
    /// The interface.
    pub fn attachment(&self) -> &Arc<Attachment> {
        match self {
            Self::Known(attachment) | Self::Unknown(attachment, _) => attachment,
        }
    }
}

/// Pods and interfaces.
#[derive(Debug)]
pub struct Joined {
    node: String,
    /// This node's pods as the source has them.
    pods: BTreeMap<NamespacedName, Pod>,
    /// Pods that the source has no more, as they were, as long as they have an interface.
    orphans: BTreeMap<NamespacedName, Pod>,
    attachments: Accepted,
    by_pod: BTreeMap<NamespacedName, BTreeSet<AttachmentId>>,
}

impl Joined {
    /// Of a node of which nothing is known.
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            pods: BTreeMap::new(),
            orphans: BTreeMap::new(),
            attachments: Accepted::default(),
            by_pod: BTreeMap::new(),
        }
    }

    /// What a change at the source is, with what is known of interfaces.
    pub fn change(&mut self, change: Change) -> Change {
        match change {
            Change::Apply(Object::Pod(pod)) => {
                let id = pod.id.clone();
                if !self.is_local(&pod) {
                    // One that was here is not moved, but made anew.
                    self.pods.remove(&id);
                    self.orphans.remove(&id);
                    return Change::Apply(Object::Pod(pod));
                }
                let before = self.pods.insert(id.clone(), pod);
                self.keep(&id, before);
                self.now(&id)
            }
            Change::Delete(ObjectId::Pod(id)) => {
                let before = self.pods.remove(&id);
                self.keep(&id, before);
                self.now(&id)
            }
            other => other,
        }
    }

    /// What everything that the source has is, with what is known of interfaces.
    pub fn reset(&mut self, objects: Vec<Object>) -> Vec<Object> {
        let mut before = std::mem::take(&mut self.pods);
        let mut all = Vec::with_capacity(objects.len());
        for object in objects {
            match object {
                Object::Pod(pod) if self.is_local(&pod) => {
                    drop(self.pods.insert(pod.id.clone(), pod))
                }
                other => all.push(other),
            }
        }
        let ids: BTreeSet<_> = self
            .pods
            .keys()
            .chain(before.keys())
            .chain(self.orphans.keys())
            .cloned()
            .collect();
        for id in ids {
            self.keep(&id, before.remove(&id));
            if let Change::Apply(pod) = self.now(&id) {
                all.push(pod);
            }
        }
        all
    }

    /// These are the interfaces: what is to be changed because of it.
    pub fn attach(&mut self, attachments: &Accepted) -> Vec<Change> {
        let changed = |id: &&AttachmentId| self.attachments.get(*id) != attachments.get(*id);
        let ids: BTreeSet<_> = self
            .attachments
            .keys()
            .chain(attachments.keys())
            .filter(changed)
            .cloned()
            .collect();
        let mut touched = BTreeSet::new();
        let changed = ids
            .iter()
            .flat_map(|id| [self.attachments.get(id), attachments.get(id)]);
        let addresses: BTreeSet<IpAddr> = changed
            .flatten()
            .flat_map(|attachment| attachment.addresses.iter().copied())
            .collect();
        for (id, pod) in &self.pods {
            if self.by_pod.contains_key(id)
                && pod
                    .addresses
                    .iter()
                    .any(|address| addresses.contains(address))
            {
                touched.insert(id.clone());
            }
        }
        for id in ids {
            if let Some(old) = self.attachments.remove(&id) {
                let pod = pod_of(&old);
                if let Some(of_pod) = self.by_pod.get_mut(&pod) {
                    of_pod.remove(&id);
                }
                touched.insert(pod);
            }
            if let Some(new) = attachments.get(&id) {
                let pod = pod_of(new);
                self.by_pod
                    .entry(pod.clone())
                    .or_default()
                    .insert(id.clone());
                self.attachments.insert(id, Arc::clone(new));
                touched.insert(pod);
            }
        }
        self.by_pod.retain(|_, of_pod| !of_pod.is_empty());
        touched.iter().map(|pod| self.now(pod)).collect()
    }

    /// The interfaces of pods that are known, for the rules.
    pub fn interfaces(&self) -> lower::Attachments {
        let mut interfaces = lower::Attachments::new();
        for id in self.by_pod.keys() {
            let Some((pod, attachments)) = self.of(id) else {
                continue;
            };
            let of_pod: Vec<_> = attachments.into_iter().filter_map(interface).collect();
            // A pod of which only what bypasses the node is recorded may have a port of a bridge besides, of which nobody
            // knows: it is not said to be known, so that whole bridges stay guarded.
            if !of_pod.is_empty() {
                interfaces.insert(pod.id.to_string(), of_pod);
            }
        }
        interfaces
    }

    /// How each interface stands.
    pub fn standings(&self) -> BTreeMap<AttachmentId, Standing> {
        let mut standings = BTreeMap::new();
        for (id, of_pod) in &self.by_pod {
            let known = self
                .of(id)
                .map(|(_, attachments)| attachments)
                .unwrap_or_default();
            for attachment in of_pod.iter().filter_map(|id| self.attachments.get(id)) {
                let is_known = known.iter().any(|known| known.id == attachment.id);
                let standing = match is_known {
                    true => Standing::Known(Arc::clone(attachment)),
                    false => {
                        Standing::Unknown(Arc::clone(attachment), self.why_unknown(attachment))
                    }
                };
                standings.insert(attachment.id.clone(), standing);
            }
        }
        standings
    }

    fn is_local(&self, pod: &Pod) -> bool {
        pod.node.as_ref() == Some(&self.node)
    }

    /// Keeps a pod that the source has no more, or has made anew, if it has an interface.
    fn keep(&mut self, id: &NamespacedName, before: Option<Pod>) {
        match (before, self.pods.get(id)) {
            // The same, as it is now.
            (Some(before), Some(now)) if before.uid == now.uid => {}
            (Some(before), None) if !self.matching(&before).is_empty() => {
                self.orphans.insert(id.clone(), before);
            }
            (_, None) => {}
            // A name is one pod's: the interface of the one before passes nothing any more.
            (_, Some(_)) => drop(self.orphans.remove(id)),
        }
    }

    /// The pod as it is to be, or that it is to be none.
    fn now(&mut self, id: &NamespacedName) -> Change {
        if let Some(orphan) = self.orphans.get(id)
            && (self.pods.contains_key(id) || self.matching(orphan).is_empty())
        {
            self.orphans.remove(id);
        }
        if let Some((pod, attachments)) = self.of(id) {
            let is_over = !self.pods.contains_key(id) || pod.phase.is_terminal();
            let mut pod = pod.clone();
            pod.presence = match is_over {
                true => Presence::Orphaned,
                false => Presence::Attached,
            };
            pod.addresses = self.addresses(&pod, &attachments);
            return Change::Apply(Object::Pod(pod));
        }
        match self.pods.get(id) {
            Some(pod) => Change::Apply(Object::Pod(pod.clone())),
            None => Change::Delete(ObjectId::Pod(id.clone())),
        }
    }

    /// A pod that has interfaces, with these.
    fn of(&self, id: &NamespacedName) -> Option<(&Pod, Vec<&Arc<Attachment>>)> {
        let pod = self.pods.get(id).or_else(|| self.orphans.get(id))?;
        let matching = self.matching(pod);
        (!pod.host_network && !matching.is_empty()).then_some((pod, matching))
    }

    /// The interfaces of this pod, and of none of its name before or after it.
    fn matching(&self, pod: &Pod) -> Vec<&Arc<Attachment>> {
        let of_name = self.by_pod.get(&pod.id).into_iter().flatten();
        let of_name = of_name.filter_map(|id| self.attachments.get(id));
        let is_same = |attachment: &&Arc<Attachment>| match (&attachment.pod.uid, &pod.uid) {
            (Some(one), Some(other)) => **one == **other,
            _ => true,
        };
        of_name.filter(is_same).collect()
    }

    /// Those that the pod's status names, in its order, and then the others of its interfaces. Not all of a pod's interfaces
    /// need be known; but what another pod's interface has is not this one's, whatever the status of this one says.
    fn addresses(&self, pod: &Pod, attachments: &[&Arc<Attachment>]) -> Vec<IpAddr> {
        let own: BTreeSet<IpAddr> = attachments
            .iter()
            .flat_map(|attachment| &attachment.addresses)
            .copied()
            .collect();
        let is_anothers = |address: &IpAddr| {
            let mut all = self.attachments.values();
            !own.contains(address) && all.any(|other| other.addresses.contains(address))
        };
        let status = pod.addresses.iter().copied();
        let mut addresses: Vec<_> = status.filter(|address| !is_anothers(address)).collect();
        for address in own {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// The addresses of interfaces of which nobody knows what they may pass, each with the pod that it was made for.
    pub fn unknown(&self) -> BTreeMap<IpAddr, NamespacedName> {
        let mut unknown = BTreeMap::new();
        for standing in self.standings().values() {
            if let Standing::Unknown(attachment, _) = standing {
                let of = attachment.addresses.iter();
                unknown.extend(of.map(|address| (*address, pod_of(attachment))));
            }
        }
        unknown
    }

    fn why_unknown(&self, attachment: &Attachment) -> String {
        let pod = &attachment.pod;
        let name = pod_of(attachment);
        let uid = pod
            .uid
            .as_deref()
            .map(|uid| format!(" with the UID {uid}"))
            .unwrap_or_default();
        match self.pods.get(&name) {
            Some(known) if known.host_network => {
                format!(
                    "the Pod {name} has the network of its node, and this interface is not of it"
                )
            }
            Some(known) => {
                let other = known.uid.as_deref().unwrap_or("none");
                format!(
                    "no Pod {name}{uid} is known on this node: the one of this name has the UID {other}"
                )
            }
            None => format!("no Pod {name}{uid} is known on this node"),
        }
    }
}

fn pod_of(attachment: &Attachment) -> NamespacedName {
    NamespacedName::new(
        attachment.pod.namespace.clone(),
        attachment.pod.name.clone(),
    )
}

/// The node's end, where there is one with a name that rules can hold.
fn interface(attachment: &Arc<Attachment>) -> Option<lower::Attachment> {
    let host = InterfaceName::new(attachment.path.host()?).ok()?;
    Some(lower::Attachment {
        interface: host,
        bridged: matches!(attachment.path, Path::Bridged { .. }),
        addresses: Some(attachment.addresses.clone()),
        routes: attachment.routes,
    })
}

#[cfg(test)]
mod tests;
