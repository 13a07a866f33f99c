//! An engine with a source and a kernel that tests have in hand.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use controller::agent::enforcer::{Enforcer, Foreign};
use controller::agent::engine::{Engine, Listener, Settings, Sync};
use controller::agent::metrics::FailureReason;
use controller::agent::revoke::Scope;
use controller::agent::snapshot::Snapshot;
use controller::agent::source::{Event, Source};
use controller::{cluster, source};
use kernel::{Error, Found, Generation, Halted, Object, Refusal, Unknown};
use policy_compiler::budget::Budgets;
use policy_compiler::compile::compile;
use policy_compiler::delta::{self, Action, Plan};
use policy_compiler::index;
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::{Cluster, NamespacedName};
use policy_compiler::ruleset::{Ruleset, TableFamily, Verdict};
use policy_compiler::validate;
use tokio::sync::{Notify, mpsc, watch};

/// Two pods on the node, and one elsewhere; each of the first isolated by a policy of its own.
pub(crate) const CLUSTER: &str = r#"
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x, labels: {app: a}}, spec: {nodeName: n1, containers: []}, status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: b, namespace: x, labels: {app: b}}, spec: {nodeName: n1, containers: []}, status: {phase: Running, podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: c, namespace: x, labels: {app: c}}, spec: {nodeName: n2, containers: []}, status: {phase: Running, podIP: 10.0.1.1, podIPs: [{ip: 10.0.1.1}]}}
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: for-a, namespace: x}
  spec: {podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: c}}}]}]}
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: for-b, namespace: x}
  spec: {podSelector: {matchLabels: {app: b}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]}
"#;

pub(crate) fn cluster_of(text: &str) -> Cluster {
    let loaded = source::load_bytes([("cluster.yaml", text.as_bytes())]).unwrap();
    cluster::build(&loaded, validate::Options::default()).unwrap()
}

pub(crate) fn objects(cluster: &Cluster) -> Vec<index::Object> {
    let namespaces = cluster.namespaces.values().cloned();
    let nodes = cluster.nodes.values().cloned();
    let pods = cluster.pods.values().cloned();
    let policies = cluster.policies.values().cloned();
    namespaces
        .map(index::Object::Namespace)
        .chain(nodes.map(index::Object::Node))
        .chain(pods.map(index::Object::Pod))
        .chain(policies.map(index::Object::NetworkPolicy))
        .collect()
}

pub(crate) fn wanted(cluster: &Cluster) -> Ruleset {
    lower(&compile(cluster, "n1"), &Options::default())
}

/// A kernel as a value, and what tests do to it.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) ruleset: Ruleset,
    pub(crate) generation: u32,
    pub(crate) unknown: Vec<Unknown>,
    /// Names of chains that it refuses to fill.
    pub(crate) refuses: BTreeSet<String>,
    /// Names of chains that it refuses to fill with more than a last rule.
    pub(crate) refuses_rules: BTreeSet<String>,
    /// Names of chains that it refuses to fill with more than three rules.
    pub(crate) refuses_long: BTreeSet<String>,
    /// Whether it answers at all.
    pub(crate) broken: bool,
    pub(crate) foreign: Vec<Object>,
    pub(crate) plans: Vec<usize>,
    pub(crate) replaced: usize,
    pub(crate) reads: usize,
    pub(crate) events: Vec<String>,
    /// Whether the next removal of strange things is followed by somebody's change elsewhere.
    pub(crate) stale_removal: bool,
    /// Whether it refuses for want of memory.
    pub(crate) short: bool,
    /// Whether it refuses elements of verdict maps that accept.
    pub(crate) refuses_verdicts: bool,
    /// Whether it refuses whatever it is told.
    pub(crate) refuses_all: bool,
    pub(crate) stand_in_fails: usize,
    pub(crate) stand_in_removed: usize,
}

#[derive(Clone, Default)]
pub(crate) struct Fake(pub(crate) Arc<(Mutex<State>, Notify)>);

impl Fake {
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.0.lock().unwrap())
    }

    /// Somebody else changes our tables.
    pub(crate) fn changed_by_others(&self, change: impl FnOnce(&mut Ruleset)) {
        self.with(|state| {
            change(&mut state.ruleset);
            state.generation += 1;
            state.foreign.push(Object::Table(TableFamily::Inet));
        });
        self.0.1.notify_one();
    }
}

pub(crate) fn gone() -> Error {
    Error::Receive(std::io::Error::other("the kernel is gone"))
}

impl Enforcer for Fake {
    fn read(&mut self) -> Result<Found, Error> {
        self.with(|state| {
            state.reads += 1;
            if state.broken {
                return Err(gone());
            }
            Ok(Found {
                generation: Generation(state.generation),
                ruleset: state.ruleset.clone(),
                unknown: state.unknown.clone(),
            })
        })
    }

    fn remove_unknown(&mut self, _: &Found) -> Result<Generation, Error> {
        self.with(|state| {
            state.unknown.clear();
            state.generation += 1;
            if std::mem::take(&mut state.stale_removal) {
                // Somebody changed another table right after.
                state.generation += 1;
                let expected = Generation(state.generation - 1);
                return Err(Error::Stale { expected });
            }
            Ok(Generation(state.generation))
        })
    }

    fn execute(&mut self, plan: &Plan) -> Result<Generation, Halted> {
        self.with(|state| {
            state.plans.push(plan.transactions.len());
            for (committed, transaction) in plan.transactions.iter().enumerate() {
                let halted = |error| Halted {
                    committed,
                    step: transaction.step,
                    error,
                };
                if state.broken {
                    return Err(halted(gone()));
                }
                if committed == 0 && plan.generation != state.generation {
                    let expected = Generation(plan.generation);
                    return Err(halted(Error::Stale { expected }));
                }
                let refused = transaction
                    .operations
                    .iter()
                    .find_map(|op| match &op.action {
                        Action::Refill { chain, rules } => {
                            let refused = state.refuses.contains(chain)
                                || (rules.len() > 1 && state.refuses_rules.contains(chain))
                                || (rules.len() > 3 && state.refuses_long.contains(chain));
                            refused.then_some(chain)
                        }
                        _ => None,
                    });
                let unblamed = transaction
                    .operations
                    .iter()
                    .find_map(|op| match &op.action {
                        Action::AddVerdicts { map, elements, .. }
                        | Action::Retarget { map, elements, .. }
                            if state.refuses_verdicts
                                && elements.values().any(|e| e.verdict == Verdict::Accept) =>
                        {
                            Some(map.clone())
                        }
                        _ if state.refuses_all => Some("all".to_owned()),
                        _ => None,
                    });
                if let Some(set) = unblamed {
                    let object = Object::Element {
                        family: TableFamily::Inet,
                        set,
                        key: None,
                    };
                    let refusal = Refusal {
                        object,
                        errno: 22,
                        text: None,
                    };
                    return Err(halted(Error::Refused(vec![refusal])));
                }
                if let Some(chain) = refused {
                    let object = Object::Chain {
                        family: TableFamily::Inet,
                        name: chain.clone(),
                    };
                    let refusal = Refusal {
                        object,
                        errno: if state.short { 12 } else { 22 },
                        text: None,
                    };
                    return Err(halted(Error::Refused(vec![refusal])));
                }
                delta::apply(&mut state.ruleset, transaction).unwrap();
                state.generation += 1;
            }
            Ok(Generation(state.generation))
        })
    }

    fn replace(&mut self, ruleset: &Ruleset) -> Result<Generation, Error> {
        self.with(|state| {
            state.replaced += 1;
            state.unknown.clear();
            state.ruleset = ruleset.clone();
            state.generation += 4;
            Ok(Generation(state.generation))
        })
    }

    fn remove_stand_in(&mut self) -> Result<Generation, Error> {
        self.with(|state| {
            if state.stand_in_fails > 0 {
                state.stand_in_fails -= 1;
                return Err(Error::Lost);
            }
            state.stand_in_removed += 1;
            Ok(Generation(state.generation))
        })
    }

    fn foreign_changes(&mut self) -> Result<Foreign, Error> {
        let objects = self.with(|state| std::mem::take(&mut state.foreign));
        Ok(match objects.is_empty() {
            true => Foreign::Nothing(None),
            false => Foreign::Objects {
                objects,
                program: Some("nft".to_owned()),
            },
        })
    }

    async fn changed(&self) {
        self.0.1.notified().await;
    }
}

pub(crate) struct Script(mpsc::UnboundedReceiver<Event>);

impl Source for Script {
    async fn next(&mut self) -> Event {
        match self.0.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

pub(crate) struct Notes(Fake);

impl Listener for Notes {
    fn queued(&mut self) {}

    fn applying(&mut self) {}

    fn rested(&mut self) {}

    fn judge(&mut self, _: &Arc<Snapshot>, scope: Scope) {
        self.0
            .with(|state| state.events.push(format!("judge {scope:?}")));
    }

    fn synced(&mut self, sync: &Sync) {
        let kind = if sync.full { "full" } else { "partial" };
        self.0
            .with(|state| state.events.push(format!("synced {kind}")));
    }

    fn failed(&mut self, reason: FailureReason) {
        let reason = format!("{reason:?}").to_lowercase();
        self.0
            .with(|state| state.events.push(format!("failed {reason}")));
    }

    fn repaired(&mut self) {
        self.0
            .with(|state| state.events.push("repaired".to_owned()));
    }
}

/// An engine that runs, its source and its kernel.
pub(crate) struct World {
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) kernel: Fake,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) _stop: tokio::sync::oneshot::Sender<()>,
}

impl World {
    pub(crate) fn start(kernel: Fake) -> Self {
        let lines = tracing_subscriber::fmt().with_writer(|| &LOG);
        // Only the first test can.
        let _ = lines.with_ansi(false).with_thread_names(true).try_init();
        let (events, script) = mpsc::unbounded_channel();
        let settings = Settings {
            node: "n1".to_owned(),
            options: Options::default(),
            budgets: Budgets::default(),
            preflight: watch::channel(Vec::new()).1,
            attached: watch::channel(Default::default()).1,
        };
        let notes = Notes(kernel.clone());
        let (engine, snapshots) = Engine::new(Script(script), kernel.clone(), notes, settings);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        tokio::spawn(engine.run(async {
            drop(stopped.await);
        }));
        Self {
            events,
            kernel,
            snapshots,
            _stop: stop,
        }
    }

    /// With the cluster in force.
    pub(crate) async fn ready() -> (Self, Cluster) {
        let mut world = Self::start(Fake::default());
        let cluster = cluster_of(CLUSTER);
        world.events.send(Event::Reset(objects(&cluster))).unwrap();
        world.until(|snapshot| snapshot.ready).await;
        (world, cluster)
    }

    pub(crate) async fn until(
        &mut self,
        condition: impl FnMut(&Arc<Snapshot>) -> bool,
    ) -> Arc<Snapshot> {
        let wait = self.snapshots.wait_for(condition);
        let waited = tokio::time::timeout(Duration::from_secs(3600), wait).await;
        waited.expect("it comes to that").unwrap().clone()
    }

    pub(crate) async fn until_kernel(&self, condition: impl Fn(&State) -> bool) {
        for _ in 0..100_000 {
            if self.kernel.with(|state| condition(state)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!(
            "it never comes to that: {:?}",
            self.kernel.with(|s| s.events.clone())
        );
    }

    pub(crate) fn held(&self) -> Ruleset {
        self.kernel.with(|state| state.ruleset.clone())
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.kernel.with(|state| std::mem::take(&mut state.events))
    }
}

/// The chains in one order, since the kernel has them in that in which they were made.
pub(crate) fn sorted(mut ruleset: Ruleset) -> Ruleset {
    for table in &mut ruleset.tables {
        table.chains.sort_by(|a, b| {
            let key = |c: &policy_compiler::ruleset::Chain| (c.base.is_none(), c.name.clone());
            key(a).cmp(&key(b))
        });
    }
    ruleset
}

pub(crate) fn policy(cluster: &Cluster, name: &str) -> index::Object {
    index::Object::NetworkPolicy(cluster.policies[&NamespacedName::new("x", name)].clone())
}

/// The ingress chain of a policy's class.
pub(crate) fn chain_of(cluster: &Cluster, name: &str) -> String {
    let ruleset = wanted(cluster);
    let chains = ruleset.tables[0].chains.iter();
    let slug = format!("x_{}", name.replace('-', "_"));
    let mut names = chains.map(|chain| chain.name.clone());
    names
        .find(|name| name.starts_with("ingress4_") && name.contains(&slug))
        .unwrap()
}

/// What all tests write to the log, each line with its thread, which is named as its test. One for all: whether a place in
/// the code writes is remembered for all threads.
pub(crate) static LOG: Log = Log(Mutex::new(Vec::new()));

pub(crate) struct Log(pub(crate) Mutex<Vec<u8>>);

impl std::io::Write for &Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
