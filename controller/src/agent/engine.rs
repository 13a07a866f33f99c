//! The loop of the agent: what the source says becomes what the kernel holds, and stays so.
//!
//! ```text
//! Source ─▶ take ─▶ Index ─▶ sync: update ─▶ plan ─▶ execute ─▶ publish: Snapshot, addresses to judge
//! others' changes ─▶ Repairs ─▶ repair: read ─▶ plan ─▶ execute ─▶ publish: Snapshot, everything to judge
//! ```
//!
//! The first change of a burst is applied at once. What comes while the kernel is busy waits, and is taken together.
//! Time is the monotonic clock's: a clock that is set moves nothing.

mod apply;
mod backoff;
mod drift;
mod newcomers;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cni_chain::attachment::{Attachment, AttachmentId};
use futures::FutureExt;
use policy_compiler::budget::Budgets;
use policy_compiler::index::{Index, Object, ObjectId};
use policy_compiler::lower::{self, Options};
use policy_compiler::model::{Cluster, NamespacedName, PolicyId};
use policy_compiler::ruleset::Ruleset;
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use self::backoff::Backoff;
use self::drift::Repairs;
use self::written::Written;
use super::attachments::Attached;
use super::attachments::joined::{Joined, Standing};
use super::enforcer::Enforcer;
use super::metrics::FailureReason;
use super::revoke::Scope;
use super::snapshot::Snapshot;
use super::source::{Change, Event, Problem, Source};

/// So many events are taken together at most, that a source which never rests does not keep them from the kernel.
const TOGETHER: usize = 1000;

/// While the kernel fails, news are tried so long after the last attempt at the earliest.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What the engine has to know from the start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node.
    pub node: String,
    /// How rules are lowered.
    pub options: Options,
    /// What a namespace may need.
    pub budgets: Budgets,
    /// What preflight finds, for the snapshot.
    pub preflight: watch::Receiver<Vec<String>>,
    /// The interfaces of pods.
    pub attached: watch::Receiver<Arc<Attached>>,
}

/// Who hears what the engine does.
pub trait Listener: Send {
    /// Objects changed.
    fn queued(&mut self);

    /// Our tables are about to change.
    fn applying(&mut self);

    /// Nobody knows what these interfaces may pass, and the rules are about to forget what their pods might: what comes from
    /// them is to be stopped before.
    fn unknown(&mut self, _interfaces: &[Arc<Attachment>]) {}

    /// A snapshot is in force; connections in the scope are to be judged again by it.
    fn judge(&mut self, snapshot: &Arc<Snapshot>, scope: Scope);

    /// The kernel was brought up to date.
    fn synced(&mut self, sync: &Sync);

    /// It could not be, for this reason.
    fn failed(&mut self, reason: FailureReason);

    /// Drift was repaired.
    fn repaired(&mut self);

    /// Our tables rest again, whatever became of it.
    fn rested(&mut self);
}

/// One bringing up to date.
#[derive(Clone, Debug)]
pub struct Sync {
    /// Whether it was the first, of everything.
    pub full: bool,
    /// How long it took, planning and applying.
    pub duration: Duration,
    /// How long of that the rules took.
    pub compile: Duration,
    /// How long ago the first of its events was seen, by what it was about.
    pub policy: Option<Duration>,
    /// The same for pods.
    pub pod: Option<Duration>,
}

/// What our tables hold.
#[derive(Clone, Debug)]
struct Known {
    ruleset: Ruleset,
    generation: u32,
}

/// What was in force last, and is again when others change it, whatever is to come.
#[derive(Clone, Debug)]
struct InForce {
    ruleset: Ruleset,
    effective: Cluster,
    closed: BTreeSet<NamespacedName>,
    interfaces: Arc<lower::Attachments>,
    unknown: BTreeMap<IpAddr, NamespacedName>,
    attachments: Arc<BTreeMap<AttachmentId, Standing>>,
}

/// Owns the index, and is the only one that changes our tables.
pub struct Engine<S, E, L> {
    source: S,
    enforcer: E,
    listener: L,
    settings: Settings,
    index: Index,
    joined: Joined,
    /// Whether the source has said what there is.
    complete: bool,
    /// Whether it has been in force since the start.
    ready: bool,
    /// Whether an agent before this one left something in force, which is understood.
    inherited: bool,
    /// None where it has to be read first.
    known: Option<Known>,
    in_force: InForce,
    refused: BTreeMap<PolicyId, String>,
    /// Whether something may be open that nothing in force knows.
    unexamined: bool,
    /// Addresses to close that the kernel did not take yet.
    closing: BTreeMap<IpAddr, NamespacedName>,
    /// Pods that could not be closed.
    unprotected: BTreeSet<NamespacedName>,
    /// Namespaces of which it was said that they are over their budget.
    over_budget: BTreeSet<String>,
    problems: BTreeMap<String, Problem>,
    written: Written,
    failure: Option<String>,
    repairs: Repairs,
    drift_repairs: u64,
    /// Whether others may have changed our tables since what is in force was put there.
    suspected: bool,
    /// Whether they have. Stays until our tables are as they should be again.
    drifted: bool,
    /// Who did, until it is repaired.
    culprit: Option<String>,
    /// Addresses of changes that are not in force yet.
    touched: BTreeSet<IpAddr>,
    /// Whether something came that is not in force yet.
    news: bool,
    /// When the first of it came, by what it is about.
    seen_policy: Option<Instant>,
    seen_pod: Option<Instant>,
    retry: Backoff,
    started: Instant,
    /// When the last sync was tried.
    attempted: Option<Instant>,
    retry_refused: Backoff,
    /// What an interrupted replacement left, as long as it can not be removed.
    leftover: Option<String>,
    retry_stand_in: Backoff,
    last_success: Option<SystemTime>,
    snapshots: watch::Sender<Arc<Snapshot>>,
}

impl<S: Source, E: Enforcer, L: Listener> Engine<S, E, L> {
    /// An engine that has not asked anybody yet, and where its snapshots are published.
    pub fn new(
        source: S,
        enforcer: E,
        listener: L,
        settings: Settings,
    ) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let index = Index::new(
            settings.node.clone(),
            settings.options.clone(),
            settings.budgets,
        );
        let first = Snapshot {
            node: settings.node.clone(),
            node_egress: settings.options.node_egress,
            preflight: settings.preflight.borrow().clone(),
            ready: false,
            cluster: index.cluster().clone(),
            effective: index.effective(),
            ruleset: Ruleset::default(),
            generation: 0,
            exceeded: BTreeMap::new(),
            closed: BTreeSet::new(),
            unprotected: BTreeSet::new(),
            refused: BTreeMap::new(),
            problems: BTreeMap::new(),
            failure: None,
            drift_repairs: 0,
            drift_alarm: false,
            last_success: None,
            interfaces: Arc::default(),
            unknown: BTreeMap::new(),
            attachments: Arc::default(),
            attached: Arc::default(),
        };
        let (snapshots, receiver) = watch::channel(Arc::new(first));
        let seconds = Duration::from_secs;
        let engine = Self {
            source,
            enforcer,
            listener,
            joined: Joined::new(settings.node.clone()),
            settings,
            complete: false,
            ready: false,
            inherited: false,
            known: None,
            in_force: InForce {
                ruleset: Ruleset::default(),
                effective: index.effective(),
                closed: BTreeSet::new(),
                interfaces: Arc::default(),
                unknown: BTreeMap::new(),
                attachments: Arc::default(),
            },
            refused: BTreeMap::new(),
            unexamined: false,
            closing: BTreeMap::new(),
            unprotected: BTreeSet::new(),
            over_budget: BTreeSet::new(),
            problems: BTreeMap::new(),
            written: Written::default(),
            failure: None,
            repairs: Repairs::default(),
            drift_repairs: 0,
            suspected: false,
            drifted: false,
            culprit: None,
            touched: BTreeSet::new(),
            news: false,
            seen_policy: None,
            seen_pod: None,
            started: Instant::now(),
            attempted: None,
            retry: Backoff::new(Duration::from_millis(100), seconds(30)),
            retry_refused: Backoff::new(seconds(1), seconds(300)),
            leftover: None,
            retry_stand_in: Backoff::new(seconds(1), seconds(60)),
            last_success: None,
            snapshots,
            index,
        };
        (engine, receiver)
    }

    /// Works until `stop` is ready. What is in force then stays in force.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        self.inherit();
        self.take_attached();
        self.publish(None);
        loop {
            let due = self.due(Instant::now());
            let timer = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut stop => return,
                () = self.enforcer.changed() => {}
                () = timer => {}
                Ok(()) = self.settings.preflight.changed() => {}
                Ok(()) = self.settings.attached.changed() => self.take_attached(),
                event = self.source.next() => self.take_all(event),
            }
            self.step(Instant::now());
        }
    }

    /// When there is something to do though nothing happens.
    fn due(&self, now: Instant) -> Option<Instant> {
        [
            self.repairs.due(),
            self.repairs.alarm_ends(now),
            self.retry.due(),
            self.retry_refused.due(),
            self.retry_stand_in.due(),
            self.news_due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Interfaces of pods came or went.
    fn take_attached(&mut self) {
        let attached = self.settings.attached.borrow_and_update().clone();
        let changes = self.joined.attach(&attached.accepted);
        if changes.is_empty() {
            return;
        }
        self.listener.queued();
        self.seen_pod.get_or_insert(Instant::now());
        self.unexamined = true;
        self.news = true;
        changes.into_iter().for_each(|change| self.put(change));
    }

    /// The event, and what else there is by now.
    fn take_all(&mut self, event: Event) {
        self.take(event);
        for _ in 1..TOGETHER {
            // Else the runtime would have a busy source wait now and then.
            match unconstrained(self.source.next()).now_or_never() {
                Some(event) => self.take(event),
                None => return,
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Reset(objects) => {
                self.listener.queued();
                self.unexamined = true;
                info!(objects = objects.len(), "the source is complete");
                self.index.reset(self.joined.reset(objects));
                self.complete = true;
                self.news = true;
                self.refused.clear();
                self.index.isolate(BTreeSet::new());
                let now = Instant::now();
                self.seen_policy.get_or_insert(now);
                self.seen_pod.get_or_insert(now);
            }
            Event::Changes(changes) => {
                self.listener.queued();
                self.unexamined = true;
                self.news = true;
                changes.into_iter().for_each(|change| self.change(change));
            }
            Event::Problems(problems) => self.take_problems(problems),
        }
    }

    fn change(&mut self, change: Change) {
        let now = Instant::now();
        let id = match &change {
            Change::Apply(object) => object.id(),
            Change::Delete(id) => id.clone(),
        };
        match &id {
            ObjectId::NetworkPolicy(id) => {
                self.seen_policy.get_or_insert(now);
                // It is another one now, and gets another chance.
                if self.refused.remove(id).is_some() {
                    self.index.isolate(self.refused.keys().cloned().collect());
                }
            }
            ObjectId::Pod(_) => {
                self.seen_pod.get_or_insert(now);
            }
            ObjectId::Namespace(_) => {
                self.seen_policy.get_or_insert(now);
            }
            ObjectId::Node(_) => {}
        }
        match &change {
            Change::Apply(object) => note(object),
            Change::Delete(id) => tracing::debug!(object = %id, "deleted"),
        }
        let change = self.joined.change(change);
        self.put(change);
    }

    fn put(&mut self, change: Change) {
        match change {
            Change::Apply(object) => self.index.apply(object),
            Change::Delete(id) => self.index.delete(&id),
        }
    }

    fn take_problems(&mut self, problems: BTreeMap<String, Problem>) {
        for (place, problem) in &problems {
            if self.problems.get(place) == Some(problem)
                || !self.written.comes(place, &problem.message)
            {
                continue;
            }
            if problem.blocks {
                error!(source = %place, "nothing is applied until this is mended: {}", problem.message);
            } else {
                warn!(source = %place, "what was in force stays in force: {}", problem.message);
            }
        }
        let is_mended = |place: &&String| !problems.contains_key(*place);
        for place in self.problems.keys().filter(is_mended) {
            if self.written.ends(place) {
                info!(source = %place, "mended");
            }
        }
        self.problems = problems;
    }

    /// Does all that there is to do by now.
    fn step(&mut self, now: Instant) {
        self.hear(now);
        if is_due(self.repairs.due(), now) {
            self.listener.applying();
            self.repair();
            self.listener.rested();
        }
        if self.lacks_own_node() {
            self.say_that_the_node_is_unknown();
        } else if self.complete {
            self.follow(now);
        }
        self.publish(None);
    }

    /// Brings what the source says into force, as far as it is due.
    fn follow(&mut self, now: Instant) {
        if is_due(self.retry_refused.due(), now) {
            self.retry_refused.attempted();
            self.refused.clear();
            self.index.isolate(BTreeSet::new());
            self.news = true;
        }
        if is_due(self.retry_stand_in.due(), now) {
            self.retry_stand_in.attempted();
            self.forget_stand_in();
        }
        if is_due(self.news_due(), now) || is_due(self.retry.due(), now) {
            self.listener.applying();
            self.sync();
            self.listener.rested();
        }
        if self.failure.is_some() && self.holds() && std::mem::take(&mut self.unexamined) {
            self.listener.applying();
            self.close_newcomers();
            self.listener.rested();
        }
    }

    /// Whether it is known what is in force.
    fn holds(&self) -> bool {
        self.ready || self.inherited
    }

    /// Whether the source has nodes, but not ours. A misspelt name would else take everything out of force; once
    /// something is in force, a Node that goes takes nothing with it.
    fn lacks_own_node(&self) -> bool {
        let nodes = &self.index.cluster().nodes;
        self.complete
            && !self.ready
            && nodes.values().next().is_some()
            && !nodes.contains_key(&self.settings.node)
    }

    fn say_that_the_node_is_unknown(&mut self) {
        let nodes = self.index.cluster().nodes.values();
        let some: Vec<_> = nodes.take(5).map(|node| node.name.as_str()).collect();
        let message = format!(
            "there is no node {}, and so nothing is applied and what was in force stays in force; there is {}: mend --node, or add the Node",
            self.settings.node,
            some.join(", ")
        );
        if self.failure.as_ref() != Some(&message) {
            error!("{message}");
            self.failure = Some(message);
        }
    }

    /// When news are taken: at once, but while the kernel fails only now and then, since each attempt reads all it holds.
    fn news_due(&self) -> Option<Instant> {
        let attempted = self.attempted.filter(|_| self.failure.is_some());
        let at = attempted.map_or(self.started, |attempted| attempted + AFTER_FAILURE);
        (self.news && self.complete && !self.lacks_own_node()).then_some(at)
    }

    /// Publishes what is the case, and has the connections in the scope judged by it.
    fn publish(&mut self, scope: Option<Scope>) {
        let generation = match &self.known {
            Some(known) => known.generation,
            None => self.snapshots.borrow().generation,
        };
        let snapshot = Arc::new(Snapshot {
            node: self.settings.node.clone(),
            node_egress: self.settings.options.node_egress,
            preflight: self.settings.preflight.borrow().clone(),
            ready: self.ready,
            cluster: self.index.cluster().clone(),
            effective: self.in_force.effective.clone(),
            ruleset: self.in_force.ruleset.clone(),
            generation,
            exceeded: self.index.exceeded().clone(),
            closed: self.in_force.closed.clone(),
            unprotected: self.unprotected.clone(),
            refused: self.refused.clone(),
            problems: self.problems.clone(),
            failure: self.failure.clone().or_else(|| self.leftover.clone()),
            drift_repairs: self.drift_repairs,
            drift_alarm: self.repairs.alarm(Instant::now()),
            last_success: self.last_success,
            interfaces: Arc::clone(&self.in_force.interfaces),
            unknown: self.in_force.unknown.clone(),
            attachments: Arc::clone(&self.in_force.attachments),
            attached: self.settings.attached.borrow().clone(),
        });
        if let Some(scope) = scope {
            self.listener.judge(&snapshot, scope);
        }
        self.snapshots.send_replace(snapshot);
    }
}

fn is_due(due: Option<Instant>, now: Instant) -> bool {
    due.is_some_and(|due| due <= now)
}

fn note(object: &Object) {
    match object {
        Object::Pod(pod) => {
            tracing::debug!(ns = %pod.id.namespace, pod = %pod.id.name, "changed");
        }
        Object::NetworkPolicy(policy) => {
            tracing::debug!(ns = %policy.id.namespace, policy = %policy.id.name, "changed");
        }
        Object::Node(node) => tracing::debug!(node = %node.name, "changed"),
        Object::Namespace(namespace) => tracing::debug!(ns = %namespace.name, "changed"),
    }
}
