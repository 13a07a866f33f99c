//! What the agent counts, for Prometheus; `docs/metrics.md` has a line for each.
//!
//!
//! `prometheus-client` 0.26 (Apache-2.0 or MIT) is the Prometheus organisation's own: no global registry, no `unsafe`,
//! labels are types, it writes `_total` and the unit by itself, and all in the order of registration. `prometheus` 0.14
//! (Apache-2.0) has a global registry, labels as lists of strings, and names that nobody checks. `metrics` and
//! `opentelemetry` are a layer more each.
//!
//! Numbers that follow from the [`Snapshot`] are not kept: [`Metrics::text`] takes them from the latest one.

mod dropped;
mod labels;
mod objects;
mod process;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use policy_compiler::model::Presence;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub use self::labels::{CniCommand, CniResult, EventResult, FailureReason, SyncType};
use self::labels::{
    CniLabels, ObjectLabels, ObjectType, ReasonLabels, ResourceLabels, ResultLabels, SyncLabels,
};
use self::objects::Objects;
use super::snapshot::Snapshot;
use super::status::{is_note, local_pods};
use crate::kubernetes::Resource;

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Upper bounds of histograms, in seconds: from one change of a set's element to a full sync of a very large node.
const SECONDS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

type Seconds = Gauge<f64, AtomicU64>;
type SyncDurations = Family<SyncLabels, Histogram, fn() -> Histogram>;
type CniDurations = Family<CniLabels, Histogram, fn() -> Histogram>;

/// The counters of one agent. A clone counts for the same agent.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    policy_programming: Histogram,
    pod_programming: Histogram,
    sync_duration: SyncDurations,
    sync_failures: Family<ReasonLabels, Counter>,
    last_queued: Seconds,
    compile: Histogram,
    drift_repairs: Counter,
    revoked: Counter,
    watch_restarts: Family<ResourceLabels, Counter>,
    watch_heard: Family<ResourceLabels, Seconds>,
    events: Family<ResultLabels, Counter>,
    cni_request: CniDurations,
    of_snapshot: OfSnapshot,
}

/// What follows from the snapshot.
#[derive(Clone, Debug, Default)]
struct OfSnapshot {
    ready: Gauge,
    last_success: Seconds,
    policies: Gauge,
    local_endpoints: Gauge,
    unattached: Gauge,
    nft_objects: Family<ObjectLabels, Gauge>,
    drift_alarm: Gauge,
    source_problems: Gauge,
    isolated_policies: Gauge,
    over_budget: Gauge,
    closed_pods: Gauge,
    unprotected: Gauge,
    preflight_findings: Gauge,
}

impl Metrics {
    /// All at nothing.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let help = "The version of this agent";
        registry.register("picket_build", help, build);
        let metrics = Self {
            policy_programming: seconds(
                &mut registry,
                "picket_policy_programming_duration",
                "From the event of a NetworkPolicy or a Namespace to the kernel's commit",
                histogram(),
            ),
            pod_programming: seconds(
                &mut registry,
                "picket_pod_programming_duration",
                "From the event of a Pod to the kernel's commit",
                histogram(),
            ),
            sync_duration: seconds(
                &mut registry,
                "picket_sync_duration",
                "Time of a sync that the kernel took, by whether all was compared or only what changed",
                Family::new_with_constructor(histogram),
            ),
            sync_failures: plain(
                &mut registry,
                "picket_sync_failures",
                "Syncs that the kernel did not take, by why; what was in force stayed in force",
                Family::default(),
            ),
            last_queued: seconds(
                &mut registry,
                "picket_last_queued_timestamp",
                "When the last change of an object came, since 1970",
                Seconds::default(),
            ),
            compile: seconds(
                &mut registry,
                "picket_compile_duration",
                "Time that it takes to make rules of objects",
                histogram(),
            ),
            drift_repairs: plain(
                &mut registry,
                "picket_drift_repairs",
                "Changes of others to our tables that were repaired",
                Counter::default(),
            ),
            revoked: plain(
                &mut registry,
                "picket_revoked_connections",
                "Open connections that a change of policies forbade and that were cut",
                Counter::default(),
            ),
            watch_restarts: plain(
                &mut registry,
                "picket_watch_restarts",
                "Watches of the API server that ended, as each does after some minutes, or failed",
                Family::default(),
            ),
            watch_heard: seconds(
                &mut registry,
                "picket_watch_last_contact_timestamp",
                "When the API server last gave what it was asked for, since 1970; 0 for never",
                Family::default(),
            ),
            events: plain(
                &mut registry,
                "picket_events",
                "Events of policies that were sent to the API server, or were to be",
                Family::default(),
            ),
            cni_request: seconds(
                &mut registry,
                "picket_cni_request_duration",
                "From a request of the CNI plugin to its answer, by what it was called for and what it was answered",
                Family::new_with_constructor(histogram),
            ),
            of_snapshot: OfSnapshot::register(&mut registry),
            registry: Arc::default(),
        };
        dropped::register(&mut registry);
        process::register(&mut registry);
        for kind in SyncType::ALL {
            drop(
                metrics
                    .sync_duration
                    .get_or_create(&SyncLabels { r#type: kind }),
            );
        }
        // So that the first failure is an increase, and not a series that was not there before.
        for reason in FailureReason::ALL {
            drop(
                metrics
                    .sync_failures
                    .get_or_create(&ReasonLabels { reason }),
            );
        }
        for result in EventResult::ALL {
            drop(metrics.events.get_or_create(&ResultLabels { result }));
        }
        for result in CniResult::ALL {
            let command = CniCommand::Add;
            let labels = CniLabels { command, result };
            drop(metrics.cni_request.get_or_create(&labels));
        }
        Self {
            registry: Arc::new(registry),
            ..metrics
        }
    }

    /// A change of a NetworkPolicy or a Namespace is in force, this long after its event was seen.
    pub fn policy_programmed(&self, after: Duration) {
        self.policy_programming.observe(after.as_secs_f64());
    }

    /// A change of a Pod is in force, this long after its event was seen.
    pub fn pod_programmed(&self, after: Duration) {
        self.pod_programming.observe(after.as_secs_f64());
    }

    /// The kernel is equal to the objects, after this long.
    pub fn synced(&self, kind: SyncType, took: Duration) {
        let labels = SyncLabels { r#type: kind };
        let histogram = self.sync_duration.get_or_create(&labels);
        histogram.observe(took.as_secs_f64());
    }

    /// The kernel did not become equal to the objects.
    pub fn sync_failed(&self, reason: FailureReason) {
        let labels = ReasonLabels { reason };
        self.sync_failures.get_or_create(&labels).inc();
    }

    /// A change of an object came.
    pub fn queued(&self, at: SystemTime) {
        self.last_queued.set(since_1970(at));
    }

    /// Rules were made of the objects.
    pub fn compiled(&self, took: Duration) {
        self.compile.observe(took.as_secs_f64());
    }

    /// Somebody's change of our tables was repaired.
    pub fn drift_repaired(&self) {
        self.drift_repairs.inc();
    }

    /// So many open connections were cut.
    pub fn revoked(&self, connections: u64) {
        self.revoked.inc_by(connections);
    }

    /// The API server is asked for this kind, and has not given anything yet.
    pub fn watch_begun(&self, resource: Resource) {
        let labels = ResourceLabels { resource };
        // So that the first restart is an increase.
        drop(self.watch_restarts.get_or_create(&labels));
        drop(self.watch_heard.get_or_create(&labels));
    }

    /// A watch of the API server is over, and is begun again.
    pub fn watch_restarted(&self, resource: Resource) {
        let labels = ResourceLabels { resource };
        self.watch_restarts.get_or_create(&labels).inc();
    }

    /// The API server gave what it was asked for.
    pub fn watch_heard(&self, resource: Resource, at: SystemTime) {
        let labels = ResourceLabels { resource };
        self.watch_heard.get_or_create(&labels).set(since_1970(at));
    }

    /// An Event was to be sent.
    pub fn event(&self, result: EventResult) {
        self.events.get_or_create(&ResultLabels { result }).inc();
    }

    /// The CNI plugin was answered, this long after it asked.
    pub fn cni_answered(&self, command: CniCommand, result: CniResult, took: Duration) {
        let labels = CniLabels { command, result };
        let histogram = self.cni_request.get_or_create(&labels);
        histogram.observe(took.as_secs_f64());
    }

    /// Everything in Prometheus' text format ([`CONTENT_TYPE`]), with the numbers of this snapshot.
    ///
    /// # Errors
    /// None of ours: writing to a text does not fail.
    pub fn text(&self, snapshot: &Snapshot) -> Result<String, fmt::Error> {
        self.of_snapshot.set(snapshot);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl OfSnapshot {
    #[rustfmt::skip]
    fn register(registry: &mut Registry) -> Self {
        let of = Self::default();
        let mut gauge = |name, help, gauge: &Gauge| {
            plain(registry, name, help, gauge.clone());
        };
        gauge("picket_ready", "1 from the first complete state that was applied since the start", &of.ready);
        gauge("picket_policies", "NetworkPolicies", &of.policies);
        gauge("picket_local_endpoints", "Pods on this node that have a network of their own", &of.local_endpoints);
        gauge("picket_unattached_endpoints", "Local pods whose interface is not known: with NET_RAW they can forge their source address", &of.unattached);
        gauge("picket_drift_alarm", "1 while somebody changes our tables over and over", &of.drift_alarm);
        gauge("picket_source_problems", "Files or kinds of objects that cannot be read; what was in force of them stays", &of.source_problems);
        gauge("picket_isolated_policies", "NetworkPolicies whose rules the kernel refused: they isolate their pods and allow nothing", &of.isolated_policies);
        gauge("picket_namespaces_over_budget", "Namespaces whose policies need more than their budget", &of.over_budget);
        gauge("picket_closed_endpoints", "Local pods that send and receive nothing: their namespace is over its budget, or the kernel does not take what they need", &of.closed_pods);
        gauge("picket_unprotected_endpoints", "Local pods that are open because the kernel does not even take that they be closed", &of.unprotected);
        gauge("picket_preflight_findings", "Errors and warnings about the kernel or its surroundings; picket status names them", &of.preflight_findings);
        plain(registry, "picket_nft_objects", "Objects in our tables, by what they are", of.nft_objects.clone());
        seconds(registry, "picket_sync_last_success_timestamp", "When the kernel was last equal to the objects, since 1970; 0 for never", of.last_success.clone());
        of
    }

    fn set(&self, snapshot: &Snapshot) {
        self.ready.set(i64::from(snapshot.ready));
        let success = snapshot.last_success.map_or(0.0, since_1970);
        self.last_success.set(success);
        self.policies.set(number(snapshot.cluster.policies.len()));
        self.local_endpoints
            .set(number(local_pods(snapshot).count()));
        let unattached = local_pods(snapshot).filter(|pod| pod.presence == Presence::Listed);
        self.unattached.set(number(unattached.count()));
        self.drift_alarm.set(i64::from(snapshot.drift_alarm));
        self.source_problems.set(number(snapshot.problems.len()));
        self.isolated_policies.set(number(snapshot.refused.len()));
        self.over_budget.set(number(snapshot.exceeded.len()));
        self.closed_pods.set(number(snapshot.closed.len()));
        self.unprotected.set(number(snapshot.unprotected.len()));
        let findings = snapshot.preflight.iter();
        let wrong = findings.filter(|finding| !is_note(finding)).count();
        self.preflight_findings.set(number(wrong));
        let objects = Objects::of(&snapshot.ruleset);
        for r#type in ObjectType::ALL {
            let gauge = self.nft_objects.get_or_create(&ObjectLabels { r#type });
            gauge.set(number(objects.count(r#type)));
        }
    }
}

/// Registers a number without a unit.
fn plain<M>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M
where
    M: prometheus_client::registry::Metric + Clone,
{
    registry.register(name, help, metric.clone());
    metric
}

/// Registers a number of seconds; the name ends with its unit then.
fn seconds<M>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M
where
    M: prometheus_client::registry::Metric + Clone,
{
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Seconds since 1970; 0 for a clock before that.
fn since_1970(at: SystemTime) -> f64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}
