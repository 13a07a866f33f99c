//! The peers that classes name, and who is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Collision;
use super::selectors::Selectors;
use crate::compile::peers::{PeerPods, identity_of_named_port, identity_of_peer};
use crate::compile::rules::PeerKey;
use crate::ir::{Class, NamedPortSet, NodeIr, PeerMatch, PeerMembers, PeerSet};
use crate::model::{Cluster, Labels, Owner, Peer, Pod, Protocol};
use crate::name::Namer;

/// Each peer, and each port of a name that a peer has, with the classes that name it.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    known: BTreeMap<PeerMatch, Known>,
    selectors: Selectors,
    /// Those that no class named when it was looked last.
    unused: BTreeSet<PeerMatch>,
}

#[derive(Clone, Debug)]
struct Known {
    peer: Option<Peer>,
    port: Option<(String, Protocol)>,
    /// Names of classes.
    users: BTreeSet<String>,
}

/// An address, with a port of it, that a set gains or loses.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemberChange {
    pub(super) address: IpAddr,
    pub(super) port: Option<(Protocol, u16)>,
    pub(super) comes: bool,
}

/// What sets gain and lose.
pub(super) type MemberChanges = BTreeMap<PeerMatch, Vec<MemberChange>>;

/// Who has an address, and the labels of its namespace.
type Place<'a> = (Owner<'a>, Option<&'a Labels>);

impl Peers {
    /// The name of what a match finds, which is known from now on.
    pub(super) fn add(
        &mut self,
        key: PeerKey<'_>,
        ir: &mut NodeIr,
        pods: &mut PeerPods<'_>,
        namer: Namer,
    ) -> Result<PeerMatch, Collision> {
        let (name, known) = match key {
            PeerKey::Any => return Ok(PeerMatch::Any),
            PeerKey::Set(peer) => {
                let (readable, identity) = identity_of_peer(peer);
                let name = namer.short(&readable, &identity);
                match ir.peers.get(&name) {
                    Some(set) if set.peer == identity => return Ok(PeerMatch::Set(name)),
                    Some(_) => return Err(Collision),
                    None => {}
                }
                let set = PeerSet {
                    peer: identity,
                    members: pods.members(peer),
                };
                ir.peers.insert(name.clone(), set);
                (PeerMatch::Set(name), (Some(peer), None))
            }
            PeerKey::NamedPorts(key) => {
                let (readable, identity) = identity_of_named_port(&key);
                let name = namer.short(&readable, &identity);
                match ir.named_ports.get(&name) {
                    Some(set) if set.peer == identity => return Ok(PeerMatch::NamedPorts(name)),
                    Some(_) => return Err(Collision),
                    None => {}
                }
                let set = NamedPortSet {
                    peer: identity,
                    members: pods.named_ports(key),
                };
                ir.named_ports.insert(name.clone(), set);
                let (peer, port, protocol) = key;
                let port = Some((port.to_owned(), protocol));
                (PeerMatch::NamedPorts(name), (peer, port))
            }
        };
        let (peer, port) = known;
        // The addresses of a block are what they are, whoever has them.
        if port.is_some() || !matches!(peer, Some(Peer::Block(_))) {
            self.selectors.add(peer, &name);
        }
        let known = Known {
            peer: peer.cloned(),
            port,
            users: BTreeSet::new(),
        };
        self.known.insert(name.clone(), known);
        self.unused.insert(name.clone());
        Ok(name)
    }

    /// The class has other rules, or none any more.
    pub(super) fn use_in(&mut self, class: &str, old: Option<&Class>, new: Option<&Class>) {
        for peer in old.into_iter().flat_map(peers) {
            if let Some(known) = self.known.get_mut(peer) {
                known.users.remove(class);
                if known.users.is_empty() {
                    self.unused.insert(peer.clone());
                }
            }
        }
        for peer in new.into_iter().flat_map(peers) {
            if let Some(known) = self.known.get_mut(peer) {
                known.users.insert(class.to_owned());
            }
        }
    }

    /// Forgets what no class names.
    pub(super) fn forget_unused(&mut self, ir: &mut NodeIr) {
        for name in std::mem::take(&mut self.unused) {
            let unused = self
                .known
                .get(&name)
                .is_some_and(|known| known.users.is_empty());
            if !unused {
                continue;
            }
            if let Some(known) = self.known.remove(&name) {
                self.selectors.remove(known.peer.as_ref(), &name);
            }
            match &name {
                PeerMatch::Any => {}
                PeerMatch::Set(name) => drop(ir.peers.remove(name)),
                PeerMatch::NamedPorts(name) => drop(ir.named_ports.remove(name)),
            }
        }
    }

    /// The classes that name the peer.
    pub(super) fn users(&self, peer: &PeerMatch) -> impl Iterator<Item = &str> {
        let known = self.known.get(peer);
        let users = known.into_iter().flat_map(|known| &known.users);
        users.map(String::as_str)
    }

    /// Brings members up to date: addresses have another owner, or the same as another object, and namespaces other
    /// labels. Gives what changed.
    pub(super) fn follow(&self, from: &Cluster, to: &Cluster, ir: &mut NodeIr) -> MemberChanges {
        let mut changes = MemberChanges::new();
        for (address, old, new) in from.owner_changes(to) {
            let places = [(old, from), (new, to)].map(|(owner, cluster)| place(owner, cluster));
            self.change(address, places, &mut changes);
        }
        for name in relabelled(from, to) {
            let labels = [from, to].map(|cluster| cluster.namespace_labels(name));
            if !self.selectors.tells_apart(labels[0], labels[1]) {
                continue;
            }
            for pod in to.pods_in(name) {
                for address in to.addresses_of(pod) {
                    // Others are among those above.
                    if let Owner::Pod(old) = from.owner(address)
                        && old == pod
                    {
                        let places = labels.map(|labels| (Owner::Pod(old), labels));
                        self.change(address, places, &mut changes);
                    }
                }
            }
        }
        for (set, changes) in &changes {
            apply(set, changes, ir);
        }
        changes
    }

    fn change(&self, address: IpAddr, places: [Place<'_>; 2], changes: &mut MemberChanges) {
        let [before, after] = places.map(|place| self.sets_of(address, place));
        let moves = [
            (before.difference(&after), false),
            (after.difference(&before), true),
        ];
        for (sets, comes) in moves {
            for (set, port) in sets {
                let change = MemberChange {
                    address,
                    port: *port,
                    comes,
                };
                changes.entry((*set).clone()).or_default().push(change);
            }
        }
    }

    /// The sets in which an address is, and with which ports.
    fn sets_of(
        &self,
        address: IpAddr,
        (owner, namespace): Place<'_>,
    ) -> BTreeSet<(&PeerMatch, Option<(Protocol, u16)>)> {
        let mut sets = BTreeSet::new();
        let Owner::Pod(pod) = owner else {
            return sets;
        };
        if !pod.is_peer() {
            return sets;
        }
        for set in self.selectors.find(pod, namespace) {
            let Some(Known { peer, port, .. }) = self.known.get(set) else {
                continue;
            };
            if matches!(peer, Some(Peer::Block(block)) if !block.contains(address)) {
                continue;
            }
            match port {
                None => drop(sets.insert((set, None))),
                Some((name, protocol)) => {
                    let numbers = pod.numbers_of(name, *protocol);
                    sets.extend(numbers.map(|number| (set, Some((*protocol, number)))));
                }
            }
        }
        sets
    }
}

fn place<'a>(owner: Owner<'a>, cluster: &'a Cluster) -> Place<'a> {
    let labels = |pod: &Pod| cluster.namespace_labels(&pod.id.namespace);
    match owner {
        Owner::Pod(pod) => (owner, labels(pod)),
        Owner::Node(_) | Owner::External => (owner, None),
    }
}

/// Namespaces that have other labels than before, or come or go.
fn relabelled<'a>(from: &'a Cluster, to: &'a Cluster) -> impl Iterator<Item = &'a String> {
    from.namespaces.changes(&to.namespaces)
}

fn peers(class: &Class) -> impl Iterator<Item = &PeerMatch> {
    let rules = class.tiers.iter().flat_map(|tier| &tier.rules);
    rules.map(|rule| &rule.matches.peer)
}

fn apply(set: &PeerMatch, changes: &[MemberChange], ir: &mut NodeIr) {
    for change in changes {
        match (set, change.port) {
            (PeerMatch::Set(name), None) => {
                let members = ir.peers.get_mut(name).map(|set| &mut set.members);
                if let Some(PeerMembers::Pods(members)) = members {
                    match change.comes {
                        true => members.insert(change.address),
                        false => members.remove(&change.address),
                    };
                }
            }
            (PeerMatch::NamedPorts(name), Some((protocol, number))) => {
                if let Some(set) = ir.named_ports.get_mut(name) {
                    let member = (change.address, protocol, number);
                    match change.comes {
                        true => set.members.insert(member),
                        false => set.members.remove(&member),
                    };
                }
            }
            _ => {}
        }
    }
}
