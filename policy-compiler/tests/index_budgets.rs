//! A namespace that comes over its budget keeps what was in force, its new pods are closed, and nobody else notices.

#![allow(clippy::unwrap_used)]

#[path = "support/sequences.rs"]
mod sequences;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::budget::{self, Budgets, Resource};
use policy_compiler::compile::compile_closed;
use policy_compiler::index::{Index, Object, ObjectId};
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::*;
use policy_compiler::name::Namer;
use policy_compiler::ruleset::Ruleset;
use proptest::prelude::*;

use sequences::{Case, Event, Objects, sequence};

const NODE: &str = "n1";

fn pod(namespace: &str, name: &str, host: u8) -> Object {
    Object::Pod(Pod {
        id: NamespacedName::new(namespace, name),
        labels: Default::default(),
        node: Some(if host < 100 { NODE } else { "n2" }.into()),
        host_network: false,
        phase: Phase::Running,
        uid: None,
        presence: Presence::Listed,
        terminating: false,
        addresses: vec![std::net::Ipv4Addr::new(10, 0, 0, host).into()],
        ports: [].into(),
    })
}

/// Allows ingress from all pods of the namespace, so many times.
fn policy(namespace: &str, rules: usize) -> Object {
    let own = Peer::Pods {
        namespaces: NamespaceScope::Own(namespace.into()),
        pods: LabelSelector::default(),
    };
    let rule = |port| Rule {
        peers: Peers::Of(vec![own.clone()]),
        ports: Ports::Of(vec![PolicyPort {
            protocol: Protocol::Tcp,
            port: PortMatch::Range(PortRange::single(port)),
        }]),
    };
    Object::NetworkPolicy(NetworkPolicy {
        id: NamespacedName::new(namespace, "p"),
        selector: LabelSelector::default(),
        ingress: Some((1..=rules as u16).map(rule).collect()),
        egress: None,
    })
}

fn index(limit: Resource, most: usize) -> Index {
    let mut budgets = Budgets::default();
    budgets.set(limit, most);
    Index::new(NODE, Options::default(), budgets)
}

fn exceeded(index: &Index) -> Vec<&str> {
    index.exceeded().keys().map(String::as_str).collect()
}

fn closed(index: &Index) -> Vec<String> {
    index.closed().iter().map(ToString::to_string).collect()
}

/// The rules of the effective cluster with the closed pods.
fn made_anew(index: &Index) -> Ruleset {
    let cluster = index.effective();
    let ir = compile_closed(&cluster, NODE, index.closed(), Namer::default());
    lower(&ir, &Options::default())
}

fn rules_of(index: &Index, namespace: &str) -> usize {
    let cluster = index.effective();
    let policies = cluster.policies_in(namespace);
    policies
        .map(|policy| policy.rules(Direction::Ingress).unwrap().len())
        .sum()
}

#[test]
fn over_its_budget_a_namespace_keeps_its_last_accepted_policies() {
    let mut index = index(Resource::Rules, 3);
    for object in [
        pod("x", "a", 1),
        policy("x", 2),
        pod("y", "a", 2),
        policy("y", 1),
    ] {
        index.apply(object);
    }
    index.update();
    let before = index.ruleset().clone();
    index.apply(policy("x", 4));
    let update = index.update();
    assert!(!update.changed && update.touched.is_empty());
    assert_eq!(exceeded(&index), ["x"]);
    assert!(closed(&index).is_empty() && *index.ruleset() == before);
    // What is in the cluster is one thing, what is in force another.
    assert_eq!(rules_of(&index, "x"), 2);
    let id = NamespacedName::new("x", "p");
    assert_eq!(
        index.cluster().policies[&id]
            .ingress
            .as_ref()
            .unwrap()
            .len(),
        4
    );
    // Others follow as ever.
    index.apply(policy("y", 3));
    assert!(index.update().changed);
    assert_eq!(rules_of(&index, "y"), 3);
    assert_eq!(*index.ruleset(), made_anew(&index));
}

/// What is enforced of policies is the very map of the update before, so that nothing was done about any of them.
#[test]
fn what_a_namespace_over_its_budget_holds_costs_nothing_when_something_else_happens() {
    let mut index = index(Resource::Rules, 100);
    index.apply(pod("x", "a", 1));
    index.apply(pod("y", "a", 2));
    for n in 0..50 {
        let Object::NetworkPolicy(mut small) = policy("x", 1) else {
            unreachable!()
        };
        small.id = NamespacedName::new("x", format!("small{n}"));
        index.apply(Object::NetworkPolicy(small));
    }
    index.apply(policy("y", 1));
    index.update();
    index.apply(policy("x", 200));
    index.update();
    assert_eq!(exceeded(&index), ["x"]);

    let before = index.effective();
    index.apply(pod("y", "b", 3));
    index.apply(pod("y", "c", 101));
    assert!(index.update().changed);
    let after = index.effective();
    assert_eq!(after.policies_in("x").count(), 50);
    assert!(after.policies.is_unchanged_copy_of(&before.policies));

    // Of what changes elsewhere the rest stays the same object.
    index.apply(policy("y", 2));
    index.update();
    let after = index.effective();
    let pairs = before.policies_in("x").zip(after.policies_in("x"));
    assert!(pairs.into_iter().all(|(old, new)| std::ptr::eq(old, new)));
    assert_eq!(rules_of(&index, "y"), 2);
    assert_eq!(*index.ruleset(), made_anew(&index));
}

#[test]
fn over_its_budget_a_namespaces_new_pods_are_closed() {
    let mut index = index(Resource::Rules, 3);
    index.apply(pod("x", "a", 1));
    index.apply(policy("x", 2));
    index.update();
    index.apply(policy("x", 4));
    index.apply(pod("x", "b", 2));
    let update = index.update();
    assert_eq!(
        update.touched,
        BTreeSet::from([std::net::Ipv4Addr::new(10, 0, 0, 2).into()])
    );
    assert_eq!(closed(&index), ["x/b"]);
    assert_eq!(*index.ruleset(), made_anew(&index));
    // One that was in force and comes again is new.
    index.delete(&ObjectId::Pod(NamespacedName::new("x", "a")));
    index.update();
    index.apply(pod("x", "a", 1));
    index.update();
    assert_eq!(closed(&index), ["x/a", "x/b"]);
    assert_eq!(*index.ruleset(), made_anew(&index));
}

#[test]
fn within_its_budget_again_a_namespace_follows() {
    let mut index = index(Resource::Rules, 3);
    index.apply(pod("x", "a", 1));
    index.apply(policy("x", 4));
    index.update();
    // Nothing was accepted before.
    assert_eq!(
        (exceeded(&index), closed(&index)),
        (vec!["x"], vec!["x/a".to_owned()])
    );
    assert_eq!(rules_of(&index, "x"), 0);
    index.apply(policy("x", 3));
    index.update();
    assert!(exceeded(&index).is_empty() && closed(&index).is_empty());
    assert_eq!(rules_of(&index, "x"), 3);
    assert_eq!(*index.ruleset(), made_anew(&index));
}

#[test]
fn a_namespace_whose_peers_grow_past_its_budget_is_over_it_and_follows_when_they_shrink() {
    let mut index = index(Resource::Elements, 2);
    index.apply(pod("x", "a", 1));
    index.apply(policy("x", 1));
    index.apply(pod("x", "b", 101));
    index.update();
    assert!(exceeded(&index).is_empty());
    index.apply(pod("x", "c", 102));
    index.update();
    assert_eq!(exceeded(&index), ["x"]);
    assert!(closed(&index).is_empty());
    index.apply(policy("x", 2));
    index.update();
    assert_eq!(rules_of(&index, "x"), 1);
    index.delete(&ObjectId::Pod(NamespacedName::new("x", "b")));
    index.update();
    assert!(exceeded(&index).is_empty());
    assert_eq!(rules_of(&index, "x"), 2);
    assert_eq!(*index.ruleset(), made_anew(&index));
}

#[test]
fn a_namespace_that_loses_its_last_pod_on_the_node_is_not_counted() {
    let mut index = index(Resource::Rules, 1);
    index.apply(pod("x", "a", 1));
    index.apply(policy("x", 4));
    index.update();
    assert_eq!(exceeded(&index), ["x"]);
    index.delete(&ObjectId::Pod(NamespacedName::new("x", "a")));
    index.update();
    assert!(exceeded(&index).is_empty() && closed(&index).is_empty());
}

#[test]
fn an_accepted_policy_whose_rules_are_ignored_isolates_also_over_budget() {
    let mut index = index(Resource::Rules, 3);
    index.apply(pod("x", "a", 1));
    index.apply(policy("x", 2));
    index.update();
    index.apply(policy("x", 4));
    index.isolate([NamespacedName::new("x", "p")].into());
    index.update();
    // Without its rules it is within the budget.
    assert!(exceeded(&index).is_empty());
    assert_eq!(rules_of(&index, "x"), 0);
    index.isolate(BTreeSet::new());
    index.update();
    assert_eq!(exceeded(&index), ["x"]);
    assert_eq!(*index.ruleset(), made_anew(&index));
}

/// What was decided of each namespace, by a check of everything.
#[derive(Default)]
struct Reference {
    /// What was in force of a namespace that was counted and accepted, as it was written.
    accepted: BTreeMap<String, Vec<NetworkPolicy>>,
    in_force: BTreeSet<NamespacedName>,
    over: BTreeSet<String>,
    closed: BTreeSet<NamespacedName>,
    cluster: Cluster,
}

impl Reference {
    fn update(&mut self, given: &Cluster, isolated: &BTreeSet<PolicyId>, budgets: &Budgets) {
        let ignored = |policy: &NetworkPolicy| NetworkPolicy {
            ingress: policy.ingress.as_ref().map(|_| Vec::new()),
            egress: policy.egress.as_ref().map(|_| Vec::new()),
            ..policy.clone()
        };
        let ignore = |cluster: &mut Cluster| {
            for id in isolated {
                if let Some(policy) = cluster.policies.get(id).map(ignored) {
                    cluster.add_policy(policy);
                }
            }
        };
        let mut cluster = given.clone();
        ignore(&mut cluster);
        let over: BTreeSet<_> = budget::check(&cluster, NODE, budgets).into_keys().collect();
        let local = |pod: &&Pod| pod.is_on_pod_network() && pod.node.as_deref() == Some(NODE);
        self.closed.clear();
        for namespace in &over {
            let ids: Vec<_> = cluster
                .policies_in(namespace)
                .map(|p| p.id.clone())
                .collect();
            ids.iter().for_each(|id| cluster.remove_policy(id));
            for policy in self.accepted.get(namespace).into_iter().flatten() {
                cluster.add_policy(policy.clone());
            }
            let pods = given.pods_in(namespace).filter(local);
            let new = pods.filter(|pod| !self.in_force.contains(&pod.id));
            self.closed.extend(new.map(|pod| pod.id.clone()));
        }
        ignore(&mut cluster);
        let pods = given.pods.values().filter(local);
        let pods: Vec<_> = pods
            .filter(|pod| given.addresses_of(pod).next().is_some())
            .collect();
        let open = pods.iter().filter(|pod| !self.closed.contains(&pod.id));
        self.in_force = open.map(|pod| pod.id.clone()).collect();
        let counted: BTreeSet<_> = pods.iter().map(|pod| pod.id.namespace.clone()).collect();
        self.accepted
            .retain(|namespace, _| over.contains(namespace));
        for namespace in counted.difference(&over) {
            let policies = given.policies_in(namespace).cloned().collect();
            self.accepted.insert(namespace.clone(), policies);
        }
        (self.over, self.cluster) = (over, cluster);
    }
}

fn check(case: &Case, budgets: Budgets) -> Result<(), TestCaseError> {
    let mut index = Index::new(NODE, case.options.clone(), budgets);
    let mut options = case.options.clone();
    let mut objects = Objects::default();
    let mut isolated = BTreeSet::new();
    let mut reference = Reference::default();
    for (number, event) in case.events.iter().enumerate() {
        match event {
            Event::Apply(object) => {
                objects.apply(object.clone());
                index.apply(object.clone());
            }
            Event::Delete(id) => {
                objects.delete(id);
                index.delete(id);
            }
            Event::Reset(all) => {
                objects = Objects::default();
                all.iter().for_each(|object| objects.apply(object.clone()));
                index.reset(all.clone());
            }
            Event::Isolate(policies) => {
                isolated.clone_from(policies);
                index.isolate(policies.clone());
            }
            Event::Attach(attachments) => {
                options.attachments.clone_from(attachments);
                index.attach(attachments.clone());
            }
            Event::Update => {
                reference.update(&objects.cluster(), &isolated, &budgets);
                index.update();
                let over: BTreeSet<_> = index.exceeded().keys().cloned().collect();
                prop_assert_eq!(&over, &reference.over, "after event {}", number);
                prop_assert_eq!(index.closed(), &reference.closed, "after event {}", number);
                let effective = index.effective();
                prop_assert_eq!(&effective.policies, &reference.cluster.policies);
                let closed = &reference.closed;
                let ir = compile_closed(&reference.cluster, NODE, closed, Namer::default());
                prop_assert!(*index.ruleset() == lower(&ir, &options));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_sequence_who_is_over_budget_and_closed_is_as_a_check_of_everything_says(
        case in sequence(),
        resource in 0..5usize,
        most in 1..12usize,
    ) {
        let mut budgets = Budgets::default();
        budgets.set(Resource::ALL[resource], most);
        check(&case, budgets)?;
    }
}
