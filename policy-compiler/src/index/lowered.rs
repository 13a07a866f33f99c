//! The ruleset in parts that are lowered again only when what they are made of changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::peers::{MemberChange, MemberChanges, Peers};
use crate::ir::{LocalPod, NodeIr};
use crate::lower::{
    LocalElements, LoweredClass, Options, local_tables, lower_class, lower_peer, named_port,
    set_name,
};
use crate::model::Family;
use crate::ruleset::{Chain, Chains, References, Ruleset, Set, Table, TableFamily, Value};

/// The parts.
#[derive(Clone, Debug)]
pub(super) struct Lowered {
    /// What depends on the node's own pods only.
    local: Vec<Table>,
    /// Whether it is to be lowered again, whatever changes.
    is_stale: bool,
    /// How many pods of the node are isolated.
    isolated: usize,
    /// How many pods each class has, in each family of which they have an address.
    in_use: BTreeMap<(Family, String), usize>,
    classes: BTreeMap<(Family, String), LoweredClass>,
    /// The chains of classes by name.
    chains: BTreeMap<String, Arc<Chain>>,
    /// How many classes look into each shared set.
    named: BTreeMap<String, usize>,
    /// Those that none did when it was looked last.
    unused: BTreeSet<String>,
    /// All of the inet table.
    inet: Table,
    /// What its chains refer to.
    references: References,
    /// Whether they are not those of the table any more.
    chains_changed: bool,
}

/// What changed in the rules of the node.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// Pods of the node that came, went, or changed their class or addresses, as they were.
    pub(super) pods: BTreeMap<String, Option<LocalPod>>,
    /// Classes that are new or have other rules, or are gone.
    pub(super) classes: BTreeSet<String>,
    /// What sets gained and lost.
    pub(super) members: MemberChanges,
}

impl Lowered {
    /// Of a node without pods.
    pub(super) fn new(ir: &NodeIr, options: &Options) -> Self {
        let mut lowered = Self {
            local: Vec::new(),
            is_stale: false,
            isolated: 0,
            in_use: BTreeMap::new(),
            classes: BTreeMap::new(),
            chains: BTreeMap::new(),
            named: BTreeMap::new(),
            unused: BTreeSet::new(),
            inet: Table::new(TableFamily::Inet),
            references: References::default(),
            chains_changed: false,
        };
        lowered.lower_local(ir, options);
        lowered.gather_chains();
        lowered
    }

    /// What depends on the node's own pods only is to be lowered again.
    pub(super) fn local_is_stale(&mut self) {
        self.is_stale = true;
    }

    /// Lowers what changed.
    pub(super) fn follow(&mut self, ir: &NodeIr, peers: &Peers, dirty: &Dirty, options: &Options) {
        let looked_at = self.change_pods(ir, &dirty.pods, options);
        // Those that are there before anything is lowered: what is new is made of the members as they are now.
        self.change_members(&dirty.members);
        let mut again = self.merged(peers, &dirty.members);
        let of_both = |class: &String| Family::ALL.map(|family| (family, class.clone()));
        let edited: BTreeSet<_> = dirty.classes.iter().flat_map(of_both).collect();
        for key in looked_at.union(&edited) {
            match (
                self.in_use.contains_key(key),
                self.classes.contains_key(key),
            ) {
                (true, here) if !here || edited.contains(key) => drop(again.insert(key.clone())),
                (false, true) => {
                    again.remove(key);
                    self.put(key.clone(), None, ir);
                }
                _ => {}
            }
        }
        for key in again {
            let lowered = lower_class(ir, key.0, &key.1, options.merging);
            self.put(key, lowered, ir);
        }
        for name in std::mem::take(&mut self.unused) {
            if self.named.get(&name) == Some(&0) {
                self.named.remove(&name);
                self.inet.sets.remove(&name);
            }
        }
        self.gather_chains();
    }

    /// All parts together.
    pub(super) fn ruleset(&self) -> Ruleset {
        let others = self.local.iter().skip(1);
        Ruleset {
            tables: [&self.inet].into_iter().chain(others).cloned().collect(),
        }
    }

    fn gather_chains(&mut self) {
        if std::mem::take(&mut self.chains_changed) {
            let local = self.local.first().into_iter();
            let local = local.flat_map(|table| &table.chains);
            let all = local.chain(self.chains.values()).cloned().collect();
            self.inet.chains = Chains::with_references(all, self.references.clone());
        }
    }

    /// A chain of a class, in place of what was there; none to remove it.
    fn set_chain(&mut self, name: &str, new: Option<&Arc<Chain>>) {
        let old = match new {
            Some(new) => self.chains.insert(name.to_owned(), Arc::clone(new)),
            None => self.chains.remove(name),
        };
        if let (Some(old), Some(new)) = (&old, new)
            && Arc::ptr_eq(old, new)
        {
            return;
        }
        if let Some(old) = &old {
            self.references.remove(old);
        }
        if let Some(new) = new {
            self.references.add(new);
        }
        self.chains_changed = true;
    }

    /// Brings what depends on the node's own pods up to date. Gives the classes that pods came to or left.
    fn change_pods(
        &mut self,
        ir: &NodeIr,
        changed: &BTreeMap<String, Option<LocalPod>>,
        options: &Options,
    ) -> BTreeSet<(Family, String)> {
        let was_isolated = self.isolated > 0;
        let mut classes = BTreeSet::new();
        let (mut before, mut after) = (LocalElements::default(), LocalElements::default());
        for (id, old) in changed {
            if let Some(old) = old {
                before.add(id, old);
                self.isolated -= usize::from(old.is_isolated());
                for key in classes_of(old) {
                    if let Some(pods) = self.in_use.get_mut(&key) {
                        *pods -= 1;
                    }
                    classes.insert(key);
                }
            }
            if let Some(new) = ir.pods.get(id) {
                after.add(id, new);
                self.isolated += usize::from(new.is_isolated());
                for key in classes_of(new) {
                    *self.in_use.entry(key.clone()).or_default() += 1;
                    classes.insert(key);
                }
            }
        }
        for key in &classes {
            if self.in_use.get(key) == Some(&0) {
                self.in_use.remove(key);
            }
        }
        let is_attached = !changed.is_empty() && !options.attachments.is_empty();
        if std::mem::take(&mut self.is_stale) || was_isolated != (self.isolated > 0) || is_attached
        {
            self.lower_local(ir, options);
        } else {
            after.replace(&before, &mut self.inet);
        }
        classes
    }

    fn lower_local(&mut self, ir: &NodeIr, options: &Options) {
        let mut local = local_tables(ir, options);
        for table in &mut local {
            let old = self.local.iter().find(|old| old.family == table.family);
            for chain in &mut table.chains {
                let mut chains = old.into_iter().flat_map(|old| &old.chains);
                share(chains.find(|old| old.name == chain.name), chain);
            }
            if let Some(old) = old {
                table.sets = shared(&old.sets, &table.sets);
                table.maps = shared(&old.maps, &table.maps);
            }
        }
        let old = self.local.first().map(|table| &table.sets);
        for name in old.into_iter().flat_map(OrdMap::keys) {
            self.inet.sets.remove(name);
        }
        if let Some(inet) = local.first() {
            for (name, set) in &inet.sets {
                self.inet.sets.insert(name.clone(), Arc::clone(set));
            }
            self.inet.maps = inet.maps.clone();
            self.inet.counters = inet.counters.clone();
        }
        let chains = |tables: &[Table]| tables.first().map(|table| table.chains.clone());
        for old in chains(&self.local).iter().flatten() {
            self.references.remove(old);
        }
        for new in chains(&local).iter().flatten() {
            self.references.add(new);
        }
        self.chains_changed = true;
        self.local = local;
    }

    /// A class in place of what was there.
    fn put(&mut self, key: (Family, String), new: Option<LoweredClass>, ir: &NodeIr) {
        let family = key.0;
        let old = self.classes.remove(&key).unwrap_or_default();
        let mut new_sets = BTreeSet::new();
        if let Some(mut new) = new {
            for chain in &mut new.chains {
                share(old.chains.iter().find(|old| old.name == chain.name), chain);
            }
            for (name, set) in &mut new.sets {
                if let Some(old) = old.sets.get(name) {
                    *set = with_elements_of(old, set);
                }
                self.inet.sets.insert(name.clone(), Arc::clone(set));
                new_sets.insert(name.clone());
            }
            for chain in old.chains.iter().map(|chain| &chain.name) {
                if !new.chains.iter().any(|new| new.name == *chain) {
                    self.set_chain(chain, None);
                }
            }
            for chain in &new.chains {
                self.set_chain(&chain.name, Some(chain));
            }
            for (name, peer) in &new.peers {
                *self.named.entry(name.clone()).or_default() += 1;
                if !self.inet.sets.contains_key(name)
                    && let Some(set) = lower_peer(ir, family, peer)
                {
                    self.inet.add_set(name, set);
                }
            }
            self.classes.insert(key, new);
        } else {
            for chain in &old.chains {
                self.set_chain(&chain.name, None);
            }
        }
        for name in old.sets.keys().filter(|name| !new_sets.contains(*name)) {
            self.inet.sets.remove(name);
        }
        for name in old.peers.keys() {
            if let Some(users) = self.named.get_mut(name) {
                *users = users.saturating_sub(1);
                if *users == 0 {
                    self.unused.insert(name.clone());
                }
            }
        }
    }

    /// Merged classes that look for whom a set gained or lost.
    fn merged(&self, peers: &Peers, changes: &MemberChanges) -> BTreeSet<(Family, String)> {
        let mut merged = BTreeSet::new();
        for (peer, changes) in changes {
            let families: BTreeSet<_> = changes.iter().map(|c| Family::of(c.address)).collect();
            for class in peers.users(peer) {
                let keys = families.iter().map(|family| (*family, class.to_owned()));
                merged.extend(keys.filter(|key| {
                    let lowered = self.classes.get(key);
                    lowered.is_some_and(|lowered| lowered.is_merged)
                }));
            }
        }
        merged
    }

    fn change_members(&mut self, changes: &MemberChanges) {
        for (peer, changes) in changes {
            for family in Family::ALL {
                let Some(name) = set_name(family, peer) else {
                    continue;
                };
                let of_family = |change: &&MemberChange| Family::of(change.address) == family;
                let mut changes = changes.iter().filter(of_family).peekable();
                if changes.peek().is_none() {
                    continue;
                }
                if let Some(set) = self.inet.sets.get_mut(&name) {
                    let set = Arc::make_mut(set);
                    for change in changes {
                        let key = key(change);
                        match change.comes {
                            true => set.elements.insert(key),
                            false => set.elements.remove(&key),
                        };
                    }
                }
            }
        }
    }
}

/// The pod's classes, in each family of which it has an address.
fn classes_of(pod: &LocalPod) -> BTreeSet<(Family, String)> {
    let mut classes = BTreeSet::new();
    for address in &pod.addresses {
        for class in [&pod.egress, &pod.ingress].into_iter().flatten() {
            classes.insert((Family::of(*address), class.clone()));
        }
    }
    classes
}

fn key(change: &MemberChange) -> Vec<Value> {
    match change.port {
        Some((protocol, port)) => named_port(change.address, protocol, port),
        None => vec![Value::Address(change.address)],
    }
}

/// The new value, but the old one where they are equal.
fn share<T: Eq>(old: Option<&Arc<T>>, new: &mut Arc<T>) {
    if let Some(old) = old
        && old == new
    {
        new.clone_from(old);
    }
}

/// The new map, with as much of the old one as is the same.
fn shared<T: Eq>(
    old: &OrdMap<String, Arc<T>>,
    new: &OrdMap<String, Arc<T>>,
) -> OrdMap<String, Arc<T>> {
    use imbl::ordmap::DiffItem;
    let mut all = old.clone();
    for item in old.diff(new) {
        match item {
            DiffItem::Add(name, value)
            | DiffItem::Update {
                new: (name, value), ..
            } => {
                all.insert(name.clone(), Arc::clone(value));
            }
            DiffItem::Remove(name, _) => drop(all.remove(name)),
        }
    }
    all
}

/// The new set, with as much of the old one as is the same.
fn with_elements_of(old: &Arc<Set>, new: &Arc<Set>) -> Arc<Set> {
    use imbl::ordset::DiffItem;
    let mut elements: OrdSet<_> = old.elements.clone();
    let mut differs = false;
    for item in old.elements.diff(&new.elements) {
        differs = true;
        match item {
            DiffItem::Add(key) => drop(elements.insert(key.clone())),
            DiffItem::Remove(key) => drop(elements.remove(key)),
        }
    }
    let same_type =
        (&old.key, old.interval, &old.comment) == (&new.key, new.interval, &new.comment);
    if same_type && !differs {
        return Arc::clone(old);
    }
    Arc::new(Set {
        elements,
        ..Set::clone(new)
    })
}
