//! The agent's loop against a kernel that tests can make refuse, fail and forget.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use controller::agent::enforcer::{Enforcer, Foreign};
use controller::agent::engine::{Engine, Listener, Settings, Sync};
use controller::agent::metrics::FailureReason;
use controller::agent::revoke::Scope;
use controller::agent::snapshot::Snapshot;
use controller::agent::source::{Change, Event, Problem, Source};
use controller::{cluster, source};
use kernel::{Error, Found, Generation, Halted, Object, Refusal, Unknown};
use policy_compiler::budget::Budgets;
use policy_compiler::compile::compile;
use policy_compiler::delta::{self, Action, Plan};
use policy_compiler::index::{self, ObjectId};
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::{Cluster, NamespacedName};
use policy_compiler::ruleset::{Ruleset, TableFamily};
use policy_compiler::validate;
use tokio::sync::{Notify, mpsc, watch};

/// Two pods on the node, and one elsewhere; each of the first isolated by a policy of its own.
const CLUSTER: &str = r#"
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

fn cluster_of(text: &str) -> Cluster {
    let loaded = source::load_bytes([("cluster.yaml", text.as_bytes())]).unwrap();
    cluster::build(&loaded, validate::Options::default()).unwrap()
}

fn objects(cluster: &Cluster) -> Vec<index::Object> {
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

fn wanted(cluster: &Cluster) -> Ruleset {
    lower(&compile(cluster, "n1"), &Options::default())
}

/// A kernel as a value, and what tests do to it.
#[derive(Default)]
struct State {
    ruleset: Ruleset,
    generation: u32,
    unknown: Vec<Unknown>,
    /// Names of chains that it refuses to fill.
    refuses: BTreeSet<String>,
    /// Names of chains that it refuses to fill with more than a last rule.
    refuses_rules: BTreeSet<String>,
    /// Names of chains that it refuses to fill with more than three rules.
    refuses_long: BTreeSet<String>,
    /// Whether it answers at all.
    broken: bool,
    foreign: Vec<Object>,
    plans: Vec<usize>,
    replaced: usize,
    reads: usize,
    events: Vec<String>,
    /// Whether the next removal of strange things is followed by somebody's change elsewhere.
    stale_removal: bool,
    /// Whether it refuses for want of memory.
    short: bool,
    stand_in_fails: usize,
    stand_in_removed: usize,
}

#[derive(Clone, Default)]
struct Fake(Arc<(Mutex<State>, Notify)>);

impl Fake {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.0.lock().unwrap())
    }

    /// Somebody else changes our tables.
    fn changed_by_others(&self, change: impl FnOnce(&mut Ruleset)) {
        self.with(|state| {
            change(&mut state.ruleset);
            state.generation += 1;
            state.foreign.push(Object::Table(TableFamily::Inet));
        });
        self.0.1.notify_one();
    }
}

fn gone() -> Error {
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

struct Script(mpsc::UnboundedReceiver<Event>);

impl Source for Script {
    async fn next(&mut self) -> Event {
        match self.0.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

struct Notes(Fake);

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
struct World {
    events: mpsc::UnboundedSender<Event>,
    kernel: Fake,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl World {
    fn start(kernel: Fake) -> Self {
        let lines = tracing_subscriber::fmt().with_writer(|| &LOG);
        // Only the first test can.
        let _ = lines.with_ansi(false).with_thread_names(true).try_init();
        let (events, script) = mpsc::unbounded_channel();
        let settings = Settings {
            node: "n1".to_owned(),
            options: Options::default(),
            budgets: Budgets::default(),
            preflight: Vec::new(),
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
    async fn ready() -> (Self, Cluster) {
        let mut world = Self::start(Fake::default());
        let cluster = cluster_of(CLUSTER);
        world.events.send(Event::Reset(objects(&cluster))).unwrap();
        world.until(|snapshot| snapshot.ready).await;
        (world, cluster)
    }

    async fn until(&mut self, condition: impl FnMut(&Arc<Snapshot>) -> bool) -> Arc<Snapshot> {
        let wait = self.snapshots.wait_for(condition);
        let waited = tokio::time::timeout(Duration::from_secs(3600), wait).await;
        waited.expect("it comes to that").unwrap().clone()
    }

    async fn until_kernel(&self, condition: impl Fn(&State) -> bool) {
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

    fn held(&self) -> Ruleset {
        self.kernel.with(|state| state.ruleset.clone())
    }

    fn events(&self) -> Vec<String> {
        self.kernel.with(|state| std::mem::take(&mut state.events))
    }
}

/// The chains in one order, since the kernel has them in that in which they were made.
fn sorted(mut ruleset: Ruleset) -> Ruleset {
    for table in &mut ruleset.tables {
        table.chains.sort_by(|a, b| {
            let key = |c: &policy_compiler::ruleset::Chain| (c.base.is_none(), c.name.clone());
            key(a).cmp(&key(b))
        });
    }
    ruleset
}

fn policy(cluster: &Cluster, name: &str) -> index::Object {
    index::Object::NetworkPolicy(cluster.policies[&NamespacedName::new("x", name)].clone())
}

/// The ingress chain of a policy's class.
fn chain_of(cluster: &Cluster, name: &str) -> String {
    let ruleset = wanted(cluster);
    let chains = ruleset.tables[0].chains.iter();
    let slug = format!("x_{}", name.replace('-', "_"));
    let mut names = chains.map(|chain| chain.name.clone());
    names
        .find(|name| name.starts_with("ingress4_") && name.contains(&slug))
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_programmed_before_the_first_complete_state() {
    let mut world = World::start(Fake::default());
    let problem = Problem {
        message: "a.yaml: broken".to_owned(),
        blocks: true,
    };
    let problems = BTreeMap::from([("a.yaml".to_owned(), problem)]);
    world
        .events
        .send(Event::Problems(problems.clone()))
        .unwrap();
    let snapshot = world.until(|snapshot| !snapshot.problems.is_empty()).await;
    assert!(!snapshot.ready);
    // Also a day later, and whatever others do.
    world.kernel.changed_by_others(|_| {});
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert_eq!(
        world.kernel.with(|state| (state.reads, state.plans.len())),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_the_source_does_not_have_takes_nothing_out_of_force() {
    let mut world = World::start(Fake::default());
    let elsewhere = cluster_of(&CLUSTER.replace("n1", "n3"));
    world
        .events
        .send(Event::Reset(objects(&elsewhere)))
        .unwrap();
    let blocked = world.until(|snapshot| snapshot.failure.is_some()).await;
    assert!(!blocked.ready);
    assert!(
        blocked
            .failure
            .as_ref()
            .unwrap()
            .contains("there is no node n1")
    );
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    let touched = world.kernel.with(|state| (state.reads, state.plans.len()));
    assert_eq!(touched, (0, 0));
    let cluster = cluster_of(CLUSTER);
    world.events.send(Event::Reset(objects(&cluster))).unwrap();
    let ready = world.until(|snapshot| snapshot.ready).await;
    assert_eq!(ready.failure, None);
    assert!(sorted(world.held()) == sorted(wanted(&cluster)));
}

#[tokio::test(start_paused = true)]
async fn the_first_state_is_applied_whole_and_every_connection_judged() {
    let (world, cluster) = World::ready().await;
    assert!(sorted(world.held()) == sorted(wanted(&cluster)));
    assert_eq!(world.events(), ["judge All", "synced full"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_touches_only_what_it_is_about() {
    let (world, cluster) = World::ready().await;
    let gone = NamespacedName::new("x", "c");
    world.events();
    let change = Change::Delete(ObjectId::Pod(gone.clone()));
    world.events.send(Event::Changes(vec![change])).unwrap();
    world.until_kernel(|state| !state.events.is_empty()).await;
    let others = cluster.pods.values().filter(|pod| pod.id != gone).cloned();
    let after = Cluster::new(
        cluster.namespaces.values().cloned(),
        cluster.nodes.values().cloned(),
        others,
        cluster.policies.values().cloned(),
    );
    assert!(sorted(world.held()) == sorted(wanted(&after)));
    assert_eq!(
        world.events(),
        ["judge Addresses({10.0.1.1})", "synced partial"]
    );
    // The second plan was one transaction, and nothing was read back for it.
    assert_eq!(
        world.kernel.with(|state| (state.plans[1], state.reads)),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_sync() {
    let (world, cluster) = World::ready().await;
    let plans = world.kernel.with(|state| state.plans.len());
    for _ in 0..100 {
        for pod in cluster.pods.values() {
            let id = ObjectId::Pod(pod.id.clone());
            world
                .events
                .send(Event::Changes(vec![Change::Delete(id)]))
                .unwrap();
            let apply = Change::Apply(index::Object::Pod(pod.clone()));
            world.events.send(Event::Changes(vec![apply])).unwrap();
        }
    }
    world.until_kernel(|state| state.plans.len() > plans).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.kernel.with(|state| state.plans.len()), plans + 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_object_isolates_its_policy_and_nobody_else() {
    let cluster = cluster_of(CLUSTER);
    let kernel = Fake::default();
    let chain = chain_of(&cluster, "for-a");
    kernel.with(|state| state.refuses_rules.insert(chain.clone()));
    let mut world = World::start(kernel);
    world.events.send(Event::Reset(objects(&cluster))).unwrap();
    let ready = world.until(|snapshot| snapshot.ready).await;
    let id = NamespacedName::new("x", "for-a");
    assert_eq!(ready.refused.len(), 1);
    assert!(ready.refused[&id].contains(&chain), "{:?}", ready.refused);
    // Its pods are isolated, and everything else is as asked.
    let isolated = CLUSTER.replace(
        "ingress: [{from: [{podSelector: {matchLabels: {app: c}}}]}]",
        "ingress: []",
    );
    assert_ne!(isolated, CLUSTER);
    assert!(sorted(world.held()) == sorted(wanted(&cluster_of(&isolated))));
    assert_eq!(ready.effective.policies[&id].ingress, Some(vec![]));
    // It is tried again and again, at longer and longer intervals.
    let tried = |world: &World| world.kernel.with(|state| state.plans.len());
    let before = tried(&world);
    tokio::time::sleep(Duration::from_secs(3_000)).await;
    let after = tried(&world) - before;
    assert!((20..60).contains(&after), "{after}");
    // When the kernel takes it at last, it counts.
    world.kernel.with(|state| state.refuses_rules.clear());
    world.until(|snapshot| snapshot.refused.is_empty()).await;
    assert!(sorted(world.held()) == sorted(wanted(&cluster)));
}

#[tokio::test(start_paused = true)]
async fn a_refused_object_that_no_policy_asked_for_keeps_what_was_in_force() {
    let kernel = Fake::default();
    kernel.with(|state| state.refuses.insert("egress".to_owned()));
    let mut world = World::start(kernel);
    let cluster = cluster_of(CLUSTER);
    world.events.send(Event::Reset(objects(&cluster))).unwrap();
    let failed = world.until(|snapshot| snapshot.failure.is_some()).await;
    assert!(!failed.ready && failed.refused.is_empty());
    assert!(failed.failure.as_ref().unwrap().contains("egress"));
    world.kernel.with(|state| state.refuses.clear());
    world.until(|snapshot| snapshot.ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_does_not_answer_is_asked_again_at_longer_and_longer_intervals() {
    let (mut world, cluster) = World::ready().await;
    world.kernel.with(|state| state.broken = true);
    let delete = Change::Delete(policy(&cluster, "for-b").id());
    world.events.send(Event::Changes(vec![delete])).unwrap();
    let failed = world.until(|snapshot| snapshot.failure.is_some()).await;
    assert!(
        failed.ready
            && failed
                .failure
                .as_ref()
                .unwrap()
                .contains("the kernel is gone")
    );
    assert!(
        failed.effective.policies.len() == 2,
        "what is in force is what was"
    );
    let attempts = |state: &State| {
        state
            .events
            .iter()
            .filter(|e| *e == "failed netlink")
            .count()
    };
    tokio::time::sleep(Duration::from_secs(600)).await;
    let made = world.kernel.with(|state| attempts(state));
    assert!((20..40).contains(&made), "{made} attempts in ten minutes");
    world.kernel.with(|state| state.broken = false);
    let mended = world.until(|snapshot| snapshot.failure.is_none()).await;
    assert_eq!(mended.effective.policies.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flush_by_others_is_repaired_counted_and_everything_judged_again() {
    let (mut world, cluster) = World::ready().await;
    world.events();
    world
        .kernel
        .changed_by_others(|ruleset| ruleset.tables.clear());
    world.until(|snapshot| snapshot.drift_repairs == 1).await;
    assert!(sorted(world.held()) == sorted(wanted(&cluster)));
    assert_eq!(world.events(), ["repaired", "judge All"]);
    // And changes go on from there.
    let delete = Change::Delete(policy(&cluster, "for-b").id());
    world.events.send(Event::Changes(vec![delete])).unwrap();
    world
        .until(|snapshot| snapshot.effective.policies.len() == 1)
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_flushes_in_a_loop_meets_backoff_and_an_alarm_that_ends() {
    let (mut world, cluster) = World::ready().await;
    for _ in 0..1_000 {
        world
            .kernel
            .changed_by_others(|ruleset| ruleset.tables.clear());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Ten seconds: ten at once, then at waits of 50 ms to 1 s.
    let snapshot = world.until(|snapshot| snapshot.drift_alarm).await;
    assert!(
        (15..30).contains(&snapshot.drift_repairs),
        "{}",
        snapshot.drift_repairs
    );
    world.until(|snapshot| !snapshot.drift_alarm).await;
    assert!(sorted(world.held()) == sorted(wanted(&cluster)));
}

#[tokio::test(start_paused = true)]
async fn what_was_in_force_is_repaired_also_while_the_next_state_is_refused() {
    let (mut world, cluster) = World::ready().await;
    // A new chain that the kernel never takes.
    let more = CLUSTER.replace("for-b", "another");
    let changed = cluster_of(&more);
    let chain = chain_of(&changed, "another");
    world.kernel.with(|state| state.refuses.insert(chain));
    let changes = vec![
        Change::Apply(policy(&changed, "another")),
        Change::Delete(policy(&cluster, "for-b").id()),
    ];
    world.events.send(Event::Changes(changes)).unwrap();
    world.until(|snapshot| snapshot.failure.is_some()).await;
    world
        .kernel
        .changed_by_others(|ruleset| ruleset.tables.clear());
    world.until(|snapshot| snapshot.drift_repairs == 1).await;
    assert!(sorted(world.held()) == sorted(wanted(&cluster)));
}

#[tokio::test(start_paused = true)]
async fn tables_of_another_version_are_replaced_behind_a_copy_and_what_others_add_later_is_taken_out()
 {
    let unknown = || Unknown {
        object: Object::Chain {
            family: TableFamily::Inet,
            name: "newer".to_owned(),
        },
        reason: "its hook".to_owned(),
    };
    let kernel = Fake::default();
    kernel.with(|state| state.unknown.push(unknown()));
    let mut world = World::start(kernel);
    let cluster = cluster_of(CLUSTER);
    world.events.send(Event::Reset(objects(&cluster))).unwrap();
    world.until(|snapshot| snapshot.ready).await;
    assert_eq!(world.kernel.with(|state| state.replaced), 1);
    world.kernel.with(|state| state.unknown.push(unknown()));
    world.kernel.changed_by_others(|_| {});
    world.until(|snapshot| snapshot.drift_repairs == 1).await;
    assert_eq!(
        world
            .kernel
            .with(|state| (state.replaced, state.unknown.len())),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_was_refused_is_tried_again_when_it_changes_and_after_a_while() {
    let (mut world, cluster) = World::ready().await;
    let chain = chain_of(&cluster, "for-b");
    // The kernel refuses to fill the chain with more than the last rule.
    world
        .kernel
        .with(|state| state.refuses_rules.insert(chain.clone()));
    let edited = CLUSTER.replace("app: b}}}]}]}", "app: c}}}]}]}");
    let edited = cluster_of(&edited);
    let change = Change::Apply(policy(&edited, "for-b"));
    world.events.send(Event::Changes(vec![change])).unwrap();
    world.until(|snapshot| !snapshot.refused.is_empty()).await;
    world.kernel.with(|state| state.refuses_rules.clear());
    let again = world.until(|snapshot| snapshot.refused.is_empty() && snapshot.failure.is_none());
    again.await;
    assert!(sorted(world.held()) == sorted(wanted(&edited)));
}

#[tokio::test(start_paused = true)]
async fn what_opened_in_a_flush_that_a_sync_finds_is_judged_and_counted() {
    let (mut world, cluster) = World::ready().await;
    world.events();
    // Flushed after `hear`, before `execute`: the event comes to be heard after.
    world.kernel.with(|state| {
        state.ruleset.tables.clear();
        state.generation += 1;
    });
    let delete = Change::Delete(policy(&cluster, "for-b").id());
    world.events.send(Event::Changes(vec![delete])).unwrap();
    world
        .until(|snapshot| snapshot.effective.policies.len() == 1)
        .await;
    world.kernel.with(|state| {
        state.foreign.push(Object::Table(TableFamily::Inet));
    });
    world.kernel.0.1.notify_one();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let snapshot = world.snapshots.borrow().clone();
    let events = world.events();
    assert!(events.contains(&"judge All".to_owned()), "{events:?}");
    assert_eq!(snapshot.drift_repairs, 1);
}

#[tokio::test(start_paused = true)]
async fn a_sync_that_repairs_while_repairs_wait_counts_and_judges() {
    let (mut world, cluster) = World::ready().await;
    for _ in 0..100 {
        world
            .kernel
            .changed_by_others(|ruleset| ruleset.tables.clear());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.events();
    let before = world.snapshots.borrow().drift_repairs;
    world
        .kernel
        .changed_by_others(|ruleset| ruleset.tables.clear());
    tokio::time::sleep(Duration::from_millis(10)).await;
    let delete = Change::Delete(policy(&cluster, "for-b").id());
    world.events.send(Event::Changes(vec![delete])).unwrap();
    world
        .until(|snapshot| snapshot.effective.policies.len() == 1)
        .await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let after = world.snapshots.borrow().drift_repairs;
    let events = world.events();
    assert!(events.contains(&"judge All".to_owned()), "{events:?}");
    assert_eq!(after, before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_repair_that_has_to_start_again_counts_and_judges() {
    let (mut world, _) = World::ready().await;
    world.events();
    world.kernel.with(|state| {
        state.stale_removal = true;
        state.unknown.push(Unknown {
            object: Object::Chain {
                family: TableFamily::Inet,
                name: "newer".to_owned(),
            },
            reason: "its hook".to_owned(),
        });
    });
    world.kernel.changed_by_others(|_| {});
    tokio::time::sleep(Duration::from_secs(600)).await;
    let events = world.events();
    assert!(events.contains(&"judge All".to_owned()), "{events:?}");
    world.until(|snapshot| snapshot.drift_repairs == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_stand_in_that_could_not_be_removed_once_is_removed_later() {
    let kernel = Fake::default();
    kernel.with(|state| state.stand_in_fails = 1);
    let mut world = World::start(kernel);
    let cluster = cluster_of(CLUSTER);
    world.events.send(Event::Reset(objects(&cluster))).unwrap();
    world.until(|snapshot| snapshot.ready).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let delete = Change::Delete(policy(&cluster, "for-b").id());
    world.events.send(Event::Changes(vec![delete])).unwrap();
    world
        .until(|snapshot| snapshot.effective.policies.len() == 1)
        .await;
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    let removed = world.kernel.with(|state| state.stand_in_removed);
    assert!(removed > 0);
}

#[tokio::test(start_paused = true)]
async fn want_of_memory_cuts_nobody_unless_it_stays() {
    let (mut world, cluster) = World::ready().await;
    let chain = chain_of(&cluster, "for-b");
    let edit = |app: &str| {
        let edited = CLUSTER.replace("app: b}}}]}]}", &format!("app: {app}}}}}}}]}}]}}"));
        assert_ne!(edited, CLUSTER);
        let edited = cluster_of(&edited);
        Event::Changes(vec![Change::Apply(policy(&edited, "for-b"))])
    };
    world.kernel.with(|state| {
        state.short = true;
        state.refuses_rules.insert(chain.clone());
    });
    world.events.send(edit("c")).unwrap();
    let failed = world.until(|snapshot| snapshot.failure.is_some()).await;
    assert!(failed.refused.is_empty());
    world.kernel.with(|state| state.refuses_rules.clear());
    let mended = world.until(|snapshot| snapshot.failure.is_none()).await;
    assert!(mended.refused.is_empty());
    // What is never to be had keeps nobody else waiting.
    world
        .kernel
        .with(|state| state.refuses_rules.insert(chain.clone()));
    world.events.send(edit("d")).unwrap();
    let isolated =
        world.until(|snapshot| snapshot.failure.is_none() && !snapshot.refused.is_empty());
    assert_eq!(isolated.await.refused.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_policy_is_tried_again_though_others_are_refused_over_and_over() {
    let (mut world, cluster) = World::ready().await;
    let a = chain_of(&cluster, "for-a");
    let b = chain_of(&cluster, "for-b");
    let edit = |from: &str, name: &str, to: &str| {
        let text = CLUSTER.replace(from, to);
        assert_ne!(text, CLUSTER);
        Change::Apply(policy(&cluster_of(&text), name))
    };
    world.kernel.with(|state| {
        state.refuses_rules.insert(a.clone());
        state.refuses_rules.insert(b.clone());
    });
    let change = edit("app: c}}}]}]}", "for-a", "app: d}}}]}]}");
    world.events.send(Event::Changes(vec![change])).unwrap();
    world.until(|snapshot| snapshot.refused.len() == 1).await;
    // The kernel would take it now, had it been asked.
    world.kernel.with(|state| state.refuses_rules.remove(&a));
    // Another tenant edits a policy that is always refused, twice a second at first.
    let mut mended = None;
    for n in 0..3_000 {
        let to = format!("app: e{n}}}}}}}]}}]}}");
        let change = edit("app: b}}}]}]}", "for-b", &to);
        world.events.send(Event::Changes(vec![change])).unwrap();
        tokio::time::sleep(Duration::from_millis(900)).await;
        if !world
            .snapshots
            .borrow()
            .refused
            .contains_key(&NamespacedName::new("x", "for-a"))
        {
            mended = Some(n);
            break;
        }
    }
    assert!(mended.is_some_and(|n| n < 100));
}

#[tokio::test(start_paused = true)]
async fn of_several_policies_of_a_class_the_one_that_changed_is_isolated() {
    let text = format!(
        "{CLUSTER}- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {{name: all, namespace: x}}
  spec: {{podSelector: {{}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: a}}}}}}]}}]}}
"
    );
    let cluster = cluster_of(&text);
    let ir = compile(&cluster, "n1");
    let class = ir.pods["x/a"].ingress.clone().unwrap();
    let ruleset = wanted(&cluster);
    let mut chains = ruleset.tables[0].chains.iter();
    let chain =
        chains.find(|chain| chain.base.is_none() && chain.name == format!("ingress4_{class}"));
    let chain = chain.unwrap().name.clone();
    let mut world = World::start(Fake::default());
    world.events.send(Event::Reset(objects(&cluster))).unwrap();
    world.until(|snapshot| snapshot.ready).await;
    // It takes two rules, and not three: those of `all` alone are fine.
    world.kernel.with(|state| state.refuses_long.insert(chain));
    let edited = text.replace(
        "[{from: [{podSelector: {matchLabels: {app: c}}}]}]",
        "[{from: [{podSelector: {matchLabels: {app: c}}}, {podSelector: {matchLabels: {app: d}}}]}]",
    );
    assert_ne!(edited, text);
    let change = Change::Apply(policy(&cluster_of(&edited), "for-a"));
    world.events.send(Event::Changes(vec![change])).unwrap();
    let refused = world.until(|snapshot| !snapshot.refused.is_empty()).await;
    let names: Vec<_> = refused.refused.keys().map(|id| id.name.as_str()).collect();
    assert_eq!(names, ["for-a"]);
}

/// What all tests write to the log, each line with its thread, which is named as its test. One for all: whether a place in
/// the code writes is remembered for all threads.
static LOG: Log = Log(Mutex::new(Vec::new()));

struct Log(Mutex<Vec<u8>>);

impl std::io::Write for &Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn no_trouble_is_written_each_time_that_it_comes() {
    let (world, cluster) = World::ready().await;
    let refused = chain_of(&cluster, "for-a");
    let problem = Problem {
        message: "a.yaml: broken".to_owned(),
        blocks: false,
    };
    const TIMES: usize = 300;
    for _ in 0..TIMES {
        world.events();
        // A file breaks.
        let problems = BTreeMap::from([("a.yaml".to_owned(), problem.clone())]);
        world.events.send(Event::Problems(problems)).unwrap();
        // Others change our tables, and the kernel refuses a policy.
        world
            .kernel
            .changed_by_others(|ruleset| ruleset.tables.clear());
        world
            .until_kernel(|state| state.events.iter().any(|event| event == "repaired"))
            .await;
        world
            .kernel
            .with(|state| state.refuses_rules.insert(refused.clone()));
        let apply = Change::Apply(policy(&cluster, "for-a"));
        let delete = Change::Delete(ObjectId::NetworkPolicy(NamespacedName::new("x", "for-a")));
        world.events.send(Event::Changes(vec![delete])).unwrap();
        world
            .until_kernel(|state| state.events.iter().any(|event| event == "synced partial"))
            .await;
        world.events.send(Event::Changes(vec![apply])).unwrap();
        world
            .until_kernel(|state| state.events.iter().any(|event| event == "failed refused"))
            .await;
        // It does not answer at all.
        world.kernel.with(|state| {
            state.refuses_rules.clear();
            state.broken = true;
        });
        world
            .until_kernel(|state| state.events.iter().any(|event| event == "failed netlink"))
            .await;
        // And all is well again.
        world.kernel.with(|state| state.broken = false);
        world.events.send(Event::Problems(BTreeMap::new())).unwrap();
        world.events();
        world
            .until_kernel(|state| state.events.iter().any(|event| event == "synced partial"))
            .await;
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    let log = String::from_utf8(LOG.0.lock().unwrap().clone()).unwrap();
    let thread = std::thread::current();
    let own = log
        .lines()
        .filter(|line| line.contains(thread.name().unwrap()));
    let log: String = own.collect();
    for text in [
        "what was in force stays in force: a.yaml",
        "mended",
        "our tables were changed",
        "the kernel refused what the policy asks for",
        "could not be brought up to date",
        "is up to date again",
        "over and over",
    ] {
        let count = log.matches(text).count();
        assert!((1..60).contains(&count), "{text}: {count}");
    }
}
