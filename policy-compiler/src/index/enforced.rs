//! What the node enforces, brought up to date with what changes in the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Collision;
use super::lowered::{Dirty, Lowered};
use super::peers::{MemberChanges, Peers};
use crate::budget::SetKey;
use crate::compile::peers::{PeerPods, identity_of_named_port, identity_of_peer};
use crate::compile::rules::Matches;
use crate::compile::{ClassPlan, compile_closed};
use crate::ir::{LocalPod, NodeIr, PeerMatch, PeerMembers};
use crate::lower::{Options, lower};
use crate::model::{Cluster, Direction, NamespacedName, Owner, Peer, Pod, PolicyId};
use crate::name::Namer;
use crate::ruleset::Ruleset;

/// What rules are made for.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) node: String,
    pub(super) options: Options,
    pub(super) namer: Namer,
}

impl Setting {
    /// How rules name a set.
    pub(super) fn name_of(&self, key: SetKey<'_>) -> PeerMatch {
        match key {
            (None, None) => PeerMatch::Any,
            (Some(peer), None) => {
                let (readable, identity) = identity_of_peer(peer);
                PeerMatch::Set(self.namer.short(&readable, &identity))
            }
            (peer, Some((port, protocol))) => {
                let (readable, identity) = identity_of_named_port(&(peer, port, protocol));
                PeerMatch::NamedPorts(self.namer.short(&readable, &identity))
            }
        }
    }
}

/// The objects that rules are made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Input {
    pub(super) cluster: Cluster,
    /// Pods of the node that send and receive nothing.
    pub(super) closed: BTreeSet<NamespacedName>,
}

/// The rules of some objects.
#[derive(Clone, Debug)]
pub(super) struct Enforced {
    ir: NodeIr,
    ruleset: Ruleset,
    /// None while two short names collide: then all is made from nothing.
    parts: Option<Parts>,
}

#[derive(Clone, Debug)]
struct Parts {
    /// Classes by name.
    classes: BTreeMap<String, KnownClass>,
    /// Those that a pod left since the rules were lowered.
    left: BTreeSet<String>,
    peers: Peers,
    /// What sets gained and lost since the rules were lowered.
    members: MemberChanges,
    lowered: Lowered,
}

#[derive(Clone, Debug)]
struct KnownClass {
    identity: String,
    pods: usize,
}

/// Classes of pods that are looked at, by name, with their identities.
type Plans<'a> = BTreeMap<String, (String, ClassPlan<'a>)>;

impl Enforced {
    /// Of no objects.
    pub(super) fn new(setting: &Setting) -> Self {
        let ir = NodeIr {
            node: setting.node.clone(),
            pods: BTreeMap::new(),
            classes: BTreeMap::new(),
            peers: BTreeMap::new(),
            named_ports: BTreeMap::new(),
        };
        let lowered = Lowered::new(&ir, &setting.options);
        Self {
            ruleset: lowered.ruleset(),
            ir,
            parts: Some(Parts {
                classes: BTreeMap::new(),
                left: BTreeSet::new(),
                peers: Peers::default(),
                members: MemberChanges::new(),
                lowered,
            }),
        }
    }

    pub(super) fn policies_behind(&self, name: &str) -> BTreeSet<PolicyId> {
        self.ir.policies_behind(name)
    }

    /// Whether the pod is one of the node's.
    pub(super) fn has_pod(&self, id: &NamespacedName) -> bool {
        self.ir.pods.contains_key(&id.to_string())
    }

    /// Whether rules may look into the set.
    pub(super) fn has_set(&self, name: &PeerMatch) -> bool {
        match name {
            PeerMatch::Any => false,
            PeerMatch::Set(name) => self.ir.peers.contains_key(name),
            PeerMatch::NamedPorts(name) => self.ir.named_ports.contains_key(name),
        }
    }

    /// How many sets rules may look into.
    pub(super) fn sets(&self) -> usize {
        self.ir.peers.len() + self.ir.named_ports.len()
    }

    /// The name and the size of a set that is known: of pods, since a block's ports are counted for all pods.
    pub(super) fn size(&self, key: SetKey<'_>, setting: &Setting) -> Option<(PeerMatch, usize)> {
        if self.parts.is_none() || matches!(key.0, Some(Peer::Block(_))) {
            return None;
        }
        let name = setting.name_of(key);
        let size = match &name {
            PeerMatch::Any => return None,
            PeerMatch::Set(name) => match &self.ir.peers.get(name)?.members {
                PeerMembers::Pods(members) => members.len(),
                PeerMembers::Block(_) => return None,
            },
            PeerMatch::NamedPorts(name) => self.ir.named_ports.get(name)?.members.len(),
        };
        Some((name, size))
    }

    pub(super) fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// What depends on the node's own pods only is to be lowered again, whatever changes.
    pub(super) fn local_is_stale(&mut self) {
        if let Some(parts) = &mut self.parts {
            parts.lowered.local_is_stale();
        }
    }

    /// Brings the members of known sets up to date, before [`Enforced::follow`] does the rest: how large they are decides
    /// what is enforced.
    pub(super) fn follow_members(&mut self, from: &Cluster, to: &Cluster) {
        if let Some(parts) = &mut self.parts {
            parts.members = parts.peers.follow(from, to, &mut self.ir);
        }
    }

    /// Makes of the rules of `from` those of `to`. Gives the addresses whose connections may have another verdict than
    /// before, or another owner.
    pub(super) fn follow(
        &mut self,
        setting: &Setting,
        from: &Input,
        to: &Input,
    ) -> BTreeSet<IpAddr> {
        let mut touched = new_owners(&from.cluster, &to.cluster);
        let mut before = BTreeSet::new();
        let parts = match self.parts.take() {
            Some(mut parts) => parts
                .follow(setting, from, to, &mut self.ir, &mut touched)
                .map(|()| parts),
            None => Err(Collision),
        };
        let parts = parts.or_else(|Collision| {
            before = local_addresses(&self.ir);
            // It may be over.
            let mut new = Self::new(setting);
            let mut parts = new.parts.take().ok_or(Collision)?;
            let none = Input::default();
            parts.follow(setting, &none, to, &mut new.ir, &mut touched)?;
            self.ir = new.ir;
            Ok::<_, Collision>(parts)
        });
        match parts {
            Ok(parts) => {
                self.ruleset = parts.lowered.ruleset();
                self.parts = Some(parts);
            }
            Err(Collision) => {
                let closed = &to.closed;
                self.ir = compile_closed(&to.cluster, &setting.node, closed, setting.namer);
                self.ruleset = lower(&self.ir, &setting.options);
            }
        }
        if self.parts.is_none() || !before.is_empty() {
            // Nobody knows what of it changed.
            touched.extend(before);
            touched.extend(local_addresses(&self.ir));
        }
        touched
    }
}

impl Parts {
    fn follow(
        &mut self,
        setting: &Setting,
        from: &Input,
        to: &Input,
        ir: &mut NodeIr,
        touched: &mut BTreeSet<IpAddr>,
    ) -> Result<(), Collision> {
        let members = std::mem::take(&mut self.members);
        touched.extend(members.values().flatten().map(|change| change.address));
        let edited = edited(&from.cluster, &to.cluster);
        let mut dirty = Dirty {
            members,
            ..Dirty::default()
        };
        let mut plans = BTreeMap::new();
        for id in self.pods_to_look_at(setting, from, to, &edited, ir) {
            let new = self.local_pod(setting, to, id, &mut plans)?;
            let name = id.to_string();
            let old = match &new {
                Some(new) => ir.pods.insert(name.clone(), new.clone()),
                None => ir.pods.remove(&name),
            };
            self.count(old.as_ref(), new.as_ref(), &plans);
            if old != new {
                for pod in [&old, &new].into_iter().flatten() {
                    touched.extend(pod.addresses.iter().copied());
                }
                dirty.pods.insert(name, old);
            }
        }
        self.make_classes(setting, &to.cluster, plans, &edited, ir, &mut dirty)?;
        let changed = ir.pods.values().filter(|pod| {
            let mut classes = [pod.egress.as_ref(), pod.ingress.as_ref()].into_iter();
            !dirty.classes.is_empty()
                && classes.any(|c| c.is_some_and(|c| dirty.classes.contains(c)))
        });
        touched.extend(changed.flat_map(|pod| pod.addresses.iter().copied()));
        self.lowered
            .follow(ir, &self.peers, &dirty, &setting.options);
        Ok(())
    }

    /// The node's pods of which the class or the addresses may not be what they were.
    fn pods_to_look_at<'a>(
        &self,
        setting: &Setting,
        from: &'a Input,
        to: &'a Input,
        edited: &BTreeSet<&'a PolicyId>,
        ir: &NodeIr,
    ) -> BTreeSet<&'a NamespacedName> {
        let is_local = |pod: &Pod| pod.node.as_ref() == Some(&setting.node);
        let mut ids = BTreeSet::new();
        for (_, old, new) in from.cluster.owner_changes(&to.cluster) {
            for owner in [old, new] {
                if let Owner::Pod(pod) = owner
                    && is_local(pod)
                {
                    ids.insert(&pod.id);
                }
            }
        }
        ids.extend(from.closed.symmetric_difference(&to.closed));
        let namespaces: BTreeSet<_> = edited.iter().map(|id| id.namespace.as_str()).collect();
        for namespace in namespaces {
            let prefix = format!("{namespace}/");
            let local = ir.pods.range(prefix.clone()..).map(|(name, _)| name);
            for name in local.take_while(|name| name.starts_with(&prefix)) {
                let id = NamespacedName::new(namespace, &name[prefix.len()..]);
                ids.extend(to.cluster.pods.get_key_value(&id).map(|(id, _)| id));
            }
        }
        ids
    }

    /// What the rules have to know of a pod of the node; none if there is no such pod that owns an address.
    fn local_pod<'a>(
        &self,
        setting: &Setting,
        to: &'a Input,
        id: &NamespacedName,
        plans: &mut Plans<'a>,
    ) -> Result<Option<LocalPod>, Collision> {
        let pod = to.cluster.pods.get(id);
        let pod =
            pod.filter(|pod| pod.is_on_pod_network() && pod.node.as_ref() == Some(&setting.node));
        let Some(pod) = pod else { return Ok(None) };
        let addresses: Vec<_> = to.cluster.addresses_of(pod).collect();
        if addresses.is_empty() {
            return Ok(None);
        }
        let mut class = |direction| {
            let plan = if to.closed.contains(id) {
                ClassPlan::closed(direction)
            } else {
                match ClassPlan::of(&to.cluster, pod, direction) {
                    Some(plan) => plan,
                    None => return Ok(None),
                }
            };
            let identity = plan.identity();
            let name = setting.namer.short(&plan.readable(), &identity);
            let known = self.classes.get(&name).map(|known| &known.identity);
            let planned = plans.get(&name).map(|(identity, _)| identity);
            if known.or(planned).is_some_and(|other| *other != identity) {
                return Err(Collision);
            }
            plans
                .entry(name.clone())
                .or_insert_with(|| (identity, plan));
            Ok(Some(name))
        };
        Ok(Some(LocalPod {
            egress: class(Direction::Egress)?,
            ingress: class(Direction::Ingress)?,
            addresses,
        }))
    }

    /// Counts the pods of classes. Those without any go in [`Parts::make_classes`].
    fn count(&mut self, old: Option<&LocalPod>, new: Option<&LocalPod>, plans: &Plans<'_>) {
        for direction in [Direction::Egress, Direction::Ingress] {
            if let Some(class) = old.and_then(|pod| pod.class(direction))
                && let Some(known) = self.classes.get_mut(class)
            {
                known.pods -= 1;
                self.left.insert(class.to_owned());
            }
            if let Some(class) = new.and_then(|pod| pod.class(direction))
                && let Some((identity, _)) = plans.get(class)
            {
                let known = self.classes.entry(class.to_owned());
                let known = known.or_insert_with(|| KnownClass {
                    identity: identity.clone(),
                    pods: 0,
                });
                known.pods += 1;
            }
        }
    }

    /// Makes the rules of classes that are new or of which a policy was edited, and forgets those without pods.
    fn make_classes<'a>(
        &mut self,
        setting: &Setting,
        cluster: &'a Cluster,
        plans: Plans<'a>,
        edited: &BTreeSet<&PolicyId>,
        ir: &mut NodeIr,
        dirty: &mut Dirty,
    ) -> Result<(), Collision> {
        let mut matches = Matches::default();
        let mut made = Vec::new();
        for (name, (_, plan)) in plans {
            let is_edited = plan
                .policies
                .iter()
                .any(|policy| edited.contains(&policy.id));
            if is_edited || !ir.classes.contains_key(&name) {
                let rules = plan.rules(&mut matches);
                made.push((name.clone(), plan, rules));
            }
        }
        let mut pods = PeerPods::new(cluster);
        let mut names = BTreeMap::new();
        for key in matches.keys() {
            let name = self.peers.add(key, ir, &mut pods, setting.namer)?;
            names.insert(key, name);
        }
        let matches = matches.named(|key| names[&key].clone());
        for (name, plan, rules) in made {
            let class = plan.class(rules, &matches);
            let old = ir.classes.get(&name);
            if old != Some(&class) {
                self.peers.use_in(&name, old, Some(&class));
                ir.classes.insert(name.clone(), class);
                dirty.classes.insert(name);
            }
        }
        for name in std::mem::take(&mut self.left) {
            if self.classes.get(&name).is_some_and(|known| known.pods == 0) {
                self.classes.remove(&name);
                let old = ir.classes.remove(&name);
                self.peers.use_in(&name, old.as_ref(), None);
                dirty.classes.insert(name);
            }
        }
        self.peers.forget_unused(ir);
        Ok(())
    }
}

/// Policies that came, went or changed.
fn edited<'a>(from: &'a Cluster, to: &'a Cluster) -> BTreeSet<&'a PolicyId> {
    from.policies.changes(&to.policies).collect()
}

/// The addresses that belong to somebody else than before.
fn new_owners(from: &Cluster, to: &Cluster) -> BTreeSet<IpAddr> {
    let changes = from.owner_changes(to);
    let changes = changes.filter(|(_, old, new)| match (old, new) {
        (Owner::Pod(old), Owner::Pod(new)) => (&old.id, &old.uid) != (&new.id, &new.uid),
        (old, new) => old != new,
    });
    changes.map(|(address, ..)| address).collect()
}

fn local_addresses(ir: &NodeIr) -> BTreeSet<IpAddr> {
    let pods = ir.pods.values();
    pods.flat_map(|pod| pod.addresses.iter().copied()).collect()
}
