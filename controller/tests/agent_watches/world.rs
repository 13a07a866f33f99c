//! The source, what it said, and objects.

use std::collections::BTreeMap;
use std::time::Duration;

use controller::agent::metrics::Metrics;
use controller::agent::snapshot::Snapshot;
use controller::agent::source::{Change, Event, Problem, Source};
use controller::agent::watches::Watches;
use controller::kubernetes::Resource;
use policy_compiler::budget::Budgets;
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::index::{Index, Object, ObjectId};
use policy_compiler::lower::Options;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::double::Double;

pub(crate) const NODE: &str = "node-1";

/// The source, and what an engine would know of it.
pub(crate) struct World {
    pub(crate) double: Double,
    pub(crate) metrics: Metrics,
    source: Watches,
    pub(crate) objects: BTreeMap<ObjectId, Object>,
    pub(crate) problems: BTreeMap<String, Problem>,
    pub(crate) resets: usize,
    /// The events so far.
    pub(crate) events: Vec<Event>,
}

impl World {
    /// A source of an API server that has what an API server has.
    pub(crate) fn new() -> Self {
        let double = Double::default();
        double.set_version(1000);
        double.put(Resource::Namespaces, namespace("shop"));
        double.put(Resource::Nodes, node(NODE));
        double.put(Resource::Pods, pod("web", "10.0.0.1"));
        double.put(Resource::NetworkPolicies, policy("web"));
        Self::of(double)
    }

    pub(crate) fn of(double: Double) -> Self {
        let metrics = Metrics::new();
        let (source, work) = Watches::with(double.client(), NODE, metrics.clone());
        tokio::spawn(work);
        Self {
            double,
            metrics,
            source,
            objects: BTreeMap::new(),
            problems: BTreeMap::new(),
            resets: 0,
            events: Vec::new(),
        }
    }

    /// One of four kinds is there.
    pub(crate) async fn complete() -> Self {
        let mut world = Self::new();
        world.until(|world| world.resets == 1).await;
        assert_eq!(world.names(), ["web"]);
        world
    }

    fn take(&mut self, event: Event) {
        self.events.push(event.clone());
        match event {
            Event::Reset(objects) => {
                self.resets += 1;
                self.objects = objects
                    .into_iter()
                    .map(|object| (object.id(), object))
                    .collect();
            }
            Event::Changes(changes) => {
                assert_eq!(self.resets, 1, "changes before there is anything to change");
                for change in changes {
                    match change {
                        Change::Apply(object) => drop(self.objects.insert(object.id(), object)),
                        Change::Delete(id) => {
                            assert!(self.objects.remove(&id).is_some(), "{id} is not known");
                        }
                    }
                }
            }
            Event::Problems(problems) => self.problems = problems,
        }
    }

    /// Takes events until something holds; for an hour at most, of a clock that does not wait.
    pub(crate) async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let start = self.events.len();
        while !holds(self) {
            let event = timeout(Duration::from_secs(3600), self.source.next()).await;
            match event {
                Ok(event) => self.take(event),
                Err(_) => panic!(
                    "it never holds: {:#?} {:#?}",
                    &self.events[start..],
                    self.problems
                ),
            }
        }
    }

    /// Takes what comes within this time.
    pub(crate) async fn during(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while let Ok(event) = tokio::time::timeout_at(end, self.source.next()).await {
            self.take(event);
        }
    }

    /// The names of the pods.
    pub(crate) fn names(&self) -> Vec<&str> {
        let names = self.objects.keys().filter_map(|id| match id {
            ObjectId::Pod(id) => Some(id.name.as_str()),
            _ => None,
        });
        names.collect()
    }

    pub(crate) fn has_pod(&self, name: &str) -> bool {
        self.names().contains(&name)
    }

    /// A sample of the metrics.
    pub(crate) fn sample(&self, name: &str) -> f64 {
        let text = self.metrics.text(&snapshot()).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let mut values = lines.filter_map(|rest| rest.trim().parse().ok());
        values.next().unwrap_or_default()
    }
}

/// Of a cluster without anything.
fn snapshot() -> Snapshot {
    let index = Index::new(NODE, Options::default(), Budgets::default());
    Snapshot {
        node: NODE.to_owned(),
        node_egress: NodeEgress::Allow,
        preflight: Vec::new(),
        ready: true,
        cluster: index.cluster().clone(),
        effective: index.effective(),
        ruleset: index.ruleset().clone(),
        generation: 0,
        exceeded: BTreeMap::new(),
        closed: [].into(),
        unprotected: [].into(),
        refused: [].into(),
        problems: [].into(),
        failure: None,
        drift_repairs: 0,
        drift_alarm: false,
        last_success: None,
        interfaces: Default::default(),
        unknown: Default::default(),
        attachments: Default::default(),
        attached: Default::default(),
    }
}

pub(crate) fn namespace(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}})
}

pub(crate) fn node(name: &str) -> Value {
    json!({"metadata": {"name": name}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}})
}

pub(crate) fn pod(name: &str, address: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80}]}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}

/// Pods of the app may be reached on port 80 only.
pub(crate) fn policy(app: &str) -> Value {
    json!({
        "metadata": {"name": app, "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 80}]}]},
    })
}
