//! Objects come in any order, and again, and with the addresses of others: after each update the rules are those of the
//! objects that are there.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::budget::Budgets;
use policy_compiler::compile::compile;
use policy_compiler::evaluate::{Connection, NodeEgress, Transport, Verdict, evaluate};
use policy_compiler::index::{Index, Object, ObjectId, Update};
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::*;
use policy_compiler::ruleset::Value;

const NODE: &str = "n1";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs = pairs.iter();
    pairs.map(|(k, v)| ((*k).into(), (*v).into())).collect()
}

fn pod(namespace: &str, name: &str, node: &str, addresses: &[&str]) -> Pod {
    Pod {
        id: NamespacedName::new(namespace, name),
        labels: labels(&[("app", name)]).into(),
        node: Some(node.into()),
        host_network: false,
        phase: Phase::Running,
        uid: None,
        presence: Presence::Listed,
        terminating: false,
        addresses: addresses.iter().map(|text| address(text)).collect(),
        ports: [].into(),
    }
}

fn namespace(name: &str, team: &str) -> Object {
    Object::Namespace(Namespace {
        name: name.into(),
        labels: labels(&[(NAMESPACE_NAME_LABEL, name), ("team", team)]),
    })
}

fn node(name: &str, addresses: &[&str]) -> Object {
    Object::Node(Node {
        name: name.into(),
        addresses: addresses.iter().map(|text| address(text)).collect(),
        pod_cidrs: vec![],
    })
}

fn is(key: &str, value: &str) -> LabelSelector {
    LabelSelector::new([Requirement::In(key.into(), [value.to_owned()].into())])
}

/// In namespace `x`: from pods `app=client` of namespaces `team=red`.
fn policy() -> Object {
    Object::NetworkPolicy(NetworkPolicy {
        id: NamespacedName::new("x", "allow-red"),
        selector: is("app", "server"),
        ingress: Some(vec![Rule {
            peers: Peers::Of(vec![Peer::Pods {
                namespaces: NamespaceScope::Matching(is("team", "red")),
                pods: is("app", "client"),
            }]),
            ports: Ports::Any,
        }]),
        egress: None,
    })
}

fn server() -> Object {
    Object::Pod(pod("x", "server", NODE, &["10.0.0.1", "fd00::1"]))
}

fn client() -> Pod {
    pod("y", "client", "n2", &["10.0.0.2", "fd00::2"])
}

/// An index, and the objects in it.
struct World {
    index: Index,
    objects: BTreeMap<ObjectId, Object>,
}

impl World {
    fn new(objects: impl IntoIterator<Item = Object>) -> Self {
        let mut world = Self {
            index: Index::new(NODE, Options::default(), Budgets::default()),
            objects: BTreeMap::new(),
        };
        objects.into_iter().for_each(|object| world.apply(object));
        world.update();
        world
    }

    /// Server, client, their namespaces and the policy between them.
    fn usual() -> Self {
        let client = Object::Pod(client());
        Self::new([
            namespace("x", "blue"),
            namespace("y", "red"),
            policy(),
            server(),
            client,
        ])
    }

    fn apply(&mut self, object: Object) {
        self.objects.insert(object.id(), object.clone());
        self.index.apply(object);
    }

    fn apply_pod(&mut self, pod: Pod) {
        self.apply(Object::Pod(pod));
    }

    fn delete(&mut self, id: ObjectId) {
        self.objects.remove(&id);
        self.index.delete(&id);
    }

    fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::default();
        for object in self.objects.values().cloned() {
            match object {
                Object::Namespace(object) => cluster.add_namespace(object),
                Object::Node(object) => cluster.add_node(object),
                Object::Pod(object) => cluster.add_pod(object),
                Object::NetworkPolicy(object) => cluster.add_policy(object),
            }
        }
        cluster
    }

    fn update(&mut self) -> Update {
        let update = self.index.update();
        let expected = lower(&compile(&self.cluster(), NODE), &Options::default());
        assert_eq!(*self.index.ruleset(), expected);
        update
    }

    /// Applies a pod, and gives what is touched.
    fn touched_by(&mut self, pod: Pod) -> BTreeSet<IpAddr> {
        self.apply_pod(pod);
        self.update().touched
    }

    /// Whether the server lets an address in.
    fn allows(&self, source: &str) -> bool {
        let source = address(source);
        let server = match source {
            IpAddr::V4(_) => "10.0.0.1",
            IpAddr::V6(_) => "fd00::1",
        };
        let connection = Connection {
            source,
            destination: address(server),
            transport: Transport::Icmp,
        };
        let verdict = evaluate(&self.index.effective(), connection, NodeEgress::Allow).verdict;
        assert_eq!(self.has_peer(source), verdict == Verdict::Allow, "{source}");
        verdict == Verdict::Allow
    }

    /// Whether the address is in a peer set.
    fn has_peer(&self, address: IpAddr) -> bool {
        let tables = &self.index.ruleset().tables;
        let sets = tables.iter().flat_map(|table| &table.sets);
        let mut peers = sets.filter(|(name, _)| name.starts_with("peer"));
        peers.any(|(_, set)| set.elements.contains(&vec![Value::Address(address)]))
    }
}

fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| address(text)).collect()
}

#[test]
fn a_pod_that_comes_before_its_namespace_is_found_when_the_namespace_comes() {
    let mut world = World::new([namespace("x", "blue"), policy(), server()]);
    assert!(
        world
            .touched_by(client())
            .is_superset(&addresses(&["10.0.0.2"]))
    );
    assert!(!world.allows("10.0.0.2"));
    world.apply(namespace("y", "red"));
    assert_eq!(world.update().touched, addresses(&["10.0.0.2", "fd00::2"]));
    assert!(world.allows("10.0.0.2") && world.allows("fd00::2"));
}

#[test]
fn a_policy_that_comes_before_its_pods_is_in_force_when_they_come() {
    let mut world = World::new([policy(), namespace("y", "red")]);
    world.apply_pod(client());
    world.apply(server());
    world.update();
    assert!(world.allows("10.0.0.2") && !world.allows("10.0.0.3"));
}

#[test]
fn of_two_pods_with_one_address_one_owns_it_until_it_goes() {
    let mut world = World::usual();
    let pending = Pod {
        phase: Phase::Pending,
        ..pod("z", "other", "n2", &["10.0.0.2"])
    };
    assert!(world.touched_by(pending.clone()).is_empty());
    assert!(world.allows("10.0.0.2"));
    world.delete(ObjectId::Pod(client().id));
    assert_eq!(world.update().touched, addresses(&["10.0.0.2", "fd00::2"]));
    assert!(!world.allows("10.0.0.2"));
    // Also of the node's own pods.
    let touched = world.touched_by(Pod {
        uid: None,
        presence: Presence::Listed,
        terminating: true,
        ..pod("x", "server", NODE, &["10.0.0.1"])
    });
    assert_eq!(touched, addresses(&["10.0.0.1", "fd00::1"]));
    let touched = world.touched_by(pod("z", "heir", NODE, &["10.0.0.1"]));
    assert_eq!(touched, addresses(&["10.0.0.1"]));
}

#[test]
fn an_address_that_another_pod_gets_before_the_old_one_is_deleted_is_the_new_ones() {
    let mut world = World::usual();
    let old = Pod {
        uid: None,
        presence: Presence::Listed,
        terminating: true,
        ..client()
    };
    assert!(world.touched_by(old.clone()).is_empty());
    assert!(world.allows("10.0.0.2"));
    let new = pod("z", "client", "n2", &["10.0.0.2"]);
    assert_eq!(world.touched_by(new), addresses(&["10.0.0.2"]));
    assert!(!world.allows("10.0.0.2") && world.allows("fd00::2"));
    world.delete(ObjectId::Pod(old.id));
    assert_eq!(world.update().touched, addresses(&["fd00::2"]));
    assert!(!world.allows("10.0.0.2"));
}

#[test]
fn a_new_pod_under_an_old_name_has_nothing_of_the_old_one() {
    let mut world = World::usual();
    let new = Pod {
        labels: labels(&[("app", "stranger")]).into(),
        ..pod("y", "client", "n3", &["10.0.0.7"])
    };
    let touched = world.touched_by(new);
    assert_eq!(touched, addresses(&["10.0.0.2", "10.0.0.7", "fd00::2"]));
    assert!(!world.allows("10.0.0.2") && !world.allows("10.0.0.7"));
}

#[test]
fn a_namespace_that_is_relabelled_moves_its_pods() {
    let mut world = World::usual();
    world.apply(namespace("y", "green"));
    assert_eq!(world.update().touched, addresses(&["10.0.0.2", "fd00::2"]));
    assert!(!world.allows("10.0.0.2"));
    world.apply(namespace("y", "red"));
    world.update();
    assert!(world.allows("10.0.0.2"));
    // At once with a pod that moves.
    world.apply(namespace("y", "green"));
    world.apply_pod(pod("y", "client", "n2", &["10.0.0.9"]));
    let touched = world.update().touched;
    assert_eq!(touched, addresses(&["10.0.0.2", "10.0.0.9", "fd00::2"]));
}

#[test]
fn pods_whose_namespace_is_deleted_first_are_in_no_namespace_that_a_selector_finds() {
    let mut world = World::usual();
    world.delete(ObjectId::Namespace("y".into()));
    assert_eq!(world.update().touched, addresses(&["10.0.0.2", "fd00::2"]));
    assert!(!world.allows("10.0.0.2"));
    world.delete(ObjectId::Pod(client().id));
    assert!(!world.update().changed);
}

#[test]
fn an_address_that_a_node_gets_is_no_pods_any_more() {
    let mut world = World::usual();
    world.apply(node("n2", &["10.0.0.2"]));
    assert_eq!(world.update().touched, addresses(&["10.0.0.2"]));
    assert!(!world.has_peer(address("10.0.0.2")));
    world.apply(node("n2", &["10.1.0.2"]));
    let touched = world.update().touched;
    assert_eq!(touched, addresses(&["10.0.0.2", "10.1.0.2"]));
    assert!(world.allows("10.0.0.2"));
    // The pod's own node may always reach it.
    world.apply(node(NODE, &["10.1.0.1"]));
    assert_eq!(world.update().touched, addresses(&["10.1.0.1"]));
}

#[test]
fn a_pod_that_gets_an_address_of_the_other_family_is_known_by_both() {
    let mut world = World::usual();
    let four = pod("y", "client", "n2", &["10.0.0.2"]);
    assert_eq!(world.touched_by(four), addresses(&["fd00::2"]));
    assert!(world.allows("10.0.0.2") && !world.allows("fd00::2"));
    assert_eq!(world.touched_by(client()), addresses(&["fd00::2"]));
    assert!(world.allows("fd00::2"));
    // Of the node's own pods, the class gains a chain.
    let four = pod("x", "server", NODE, &["10.0.0.1"]);
    world.touched_by(four);
    let Object::Pod(both) = server() else {
        unreachable!()
    };
    assert_eq!(world.touched_by(both), addresses(&["10.0.0.1", "fd00::1"]));
}

#[test]
fn a_pod_that_has_ended_has_no_address() {
    let mut world = World::usual();
    let ended = Pod {
        phase: Phase::Succeeded,
        ..client()
    };
    assert_eq!(world.touched_by(ended), addresses(&["10.0.0.2", "fd00::2"]));
    assert!(!world.allows("10.0.0.2"));
    let heir = pod("y", "heir", "n2", &["10.0.0.2"]);
    let heir = Pod {
        labels: client().labels,
        ..heir
    };
    assert_eq!(world.touched_by(heir), addresses(&["10.0.0.2"]));
    assert!(world.allows("10.0.0.2"));
}

#[test]
fn a_pod_with_its_nodes_network_is_the_node() {
    let mut world = World::usual();
    let host = Pod {
        host_network: true,
        ..client()
    };
    assert_eq!(world.touched_by(host), addresses(&["10.0.0.2", "fd00::2"]));
    assert!(!world.has_peer(address("10.0.0.2")));
}

#[test]
fn a_reset_with_fewer_objects_forgets_the_others() {
    let mut world = World::usual();
    let kept = [namespace("x", "blue"), policy(), server()];
    world.objects = kept
        .iter()
        .map(|object| (object.id(), object.clone()))
        .collect();
    world.index.reset(kept);
    assert_eq!(world.update().touched, addresses(&["10.0.0.2", "fd00::2"]));
    world.objects.clear();
    world.index.reset([]);
    assert_eq!(world.update().touched, addresses(&["10.0.0.1", "fd00::1"]));
}

#[test]
fn an_event_that_changes_nothing_touches_nothing() {
    let mut world = World::usual();
    let update = world.update();
    assert!(!update.changed && update.touched.is_empty());
    world.apply_pod(client());
    world.apply(policy());
    world
        .index
        .reset(world.objects.values().cloned().collect::<Vec<_>>());
    let update = world.update();
    assert!(!update.changed && update.touched.is_empty());
    // Labels that no selector asks for.
    let mut labels = labels(&[("app", "client")]);
    labels.insert("version".into(), "2".into());
    let update = world.touched_by(Pod {
        labels: labels.into(),
        ..client()
    });
    assert!(update.is_empty());
}

#[test]
fn a_policy_whose_rules_are_ignored_isolates() {
    let mut world = World::usual();
    let isolated = BTreeSet::from([NamespacedName::new("x", "allow-red")]);
    world.index.isolate(isolated);
    let update = world.index.update();
    assert_eq!(update.touched, addresses(&["10.0.0.1", "fd00::1"]));
    assert!(update.changed && !world.allows("10.0.0.2"));
    world.index.isolate(BTreeSet::new());
    assert!(world.update().changed && world.allows("10.0.0.2"));
}
