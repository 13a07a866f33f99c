//! Kubernetes Events of policies that are not in force as they were asked for, for `kubectl describe`.
//!
//! ```text
//! Snapshot ──▶ notes: what is to be said ──▶ State: when ──▶ Request ──▶ API server
//! ```
//!
//! A thread of its own with its own client. It follows the latest snapshot, so that nothing queues, and whatever becomes
//! of it, enforcement goes on.

mod notes;
mod object;
mod state;

use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::metrics::{EventResult, Metrics};
use super::snapshot::Snapshot;
use super::watches::backoff::Backoff;
use crate::kubernetes::{self, Access, Client, Error, Resource};

use self::notes::{Subject, notes};
pub use self::object::{path, series};
use self::state::{Request, State};

/// So long after a snapshot the latest is looked at: of what changes over and over not each step counts.
const SETTLE: Duration = Duration::from_secs(1);

/// Who lacks a right waits at most so long until it is tried again: until somebody gives it, an attempt is in vain, and
/// each node makes it.
const FORBIDDEN: Duration = Duration::from_secs(600);

/// As a ClusterRole names them.
const EVENTS: &str = "events.events.k8s.io";
const POLICIES: &str = "networkpolicies.networking.k8s.io";

/// Starts to send Events, until nobody publishes snapshots any more.
///
/// # Errors
/// There is no thread.
pub fn start(
    access: Access,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    metrics: Metrics,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let sender = Sender::new(Asked::Not(access), snapshots, metrics);
    let thread = thread::Builder::new().name("events".to_owned());
    thread.spawn(move || runtime.block_on(sender.run()))?;
    Ok(())
}

/// Who is asked. There is a client only once there is something to say.
enum Asked {
    Not(Access),
    By(Box<Client>),
}

struct Sender {
    asked: Asked,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    metrics: Metrics,
    state: State,
    backoff: Backoff,
    /// Nothing is sent before that.
    paused: Option<Instant>,
    /// What failed since something was sent, and as what: verb and status.
    logged: BTreeSet<(&'static str, u16)>,
}

enum Failure {
    /// What an Event is about, or the Event, is not there any more.
    Gone,
    /// This could not be done.
    Api(&'static str, &'static str, Error),
}

/// Says what was tried.
fn to(verb: &'static str, resource: &'static str) -> impl Fn(Error) -> Failure {
    move |error| Failure::Api(verb, resource, error)
}

impl Sender {
    fn new(asked: Asked, mut snapshots: watch::Receiver<Arc<Snapshot>>, metrics: Metrics) -> Self {
        snapshots.mark_changed();
        Self {
            asked,
            snapshots,
            metrics,
            state: State::default(),
            backoff: Backoff::default(),
            paused: None,
            logged: BTreeSet::new(),
        }
    }

    /// Sends until nobody publishes any more.
    async fn run(mut self) {
        loop {
            let next = self.state.next(Instant::now().into_std());
            let paused = self.paused;
            let due = async {
                let Some((at, request)) = next else {
                    return pending().await;
                };
                let at = Instant::from_std(at);
                sleep_until(paused.map_or(at, |paused| paused.max(at))).await;
                request
            };
            tokio::select! {
                request = due => self.send(request).await,
                changed = self.snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    sleep(SETTLE).await;
                    let notes = notes(&self.snapshots.borrow_and_update().clone());
                    self.state.take(notes, Instant::now().into_std());
                }
            }
        }
    }

    async fn send(&mut self, request: Request) {
        self.state.begin(&request, Instant::now().into_std());
        let (wait, failure) = match self.attempt(&request).await {
            Ok(()) => {
                self.metrics.event(EventResult::Sent);
                self.backoff.reset();
                self.paused = None;
                if !std::mem::take(&mut self.logged).is_empty() {
                    tracing::info!("Events are sent again");
                }
                return;
            }
            Err(Failure::Gone) => (None, None),
            Err(Failure::Api(verb, resource, error)) => match &error {
                Error::Refused(refusal) => (
                    refusal.retry_after,
                    Some((verb, refusal.code, error.explain(verb, resource))),
                ),
                _ => (None, Some((verb, 0, error.explain(verb, resource)))),
            },
        };
        let is_forbidden = matches!(failure, Some((_, 403, _)));
        let pause = match is_forbidden {
            true => self.backoff.up_to(FORBIDDEN, wait),
            false => self.backoff.next(wait),
        };
        self.paused = Some(Instant::now() + pause);
        let Some((verb, status, text)) = failure else {
            return;
        };
        self.metrics.event(EventResult::Failed);
        if self.logged.insert((verb, status)) {
            let policy = &request.subject().policy;
            tracing::warn!(
                ns = %policy.namespace,
                policy = %policy.name,
                "no Event tells of this policy, and it is tried again: {text}"
            );
        }
    }

    async fn attempt(&mut self, request: &Request) -> Result<(), Failure> {
        if let Asked::Not(access) = &self.asked {
            let client = Client::new(access.clone()).await;
            let client = client.map_err(|error| to("create", EVENTS)(error.into()))?;
            self.asked = Asked::By(Box::new(client));
        }
        let Asked::By(client) = &self.asked else {
            return Err(Failure::Gone);
        };
        match request {
            Request::Post { subject, note } => {
                let policy = &subject.policy;
                let uid = kubernetes::uid(client, Resource::NetworkPolicies, policy);
                let uid = uid.await.map_err(to("list", POLICIES))?;
                let uid = uid.ok_or(Failure::Gone)?;
                let node = self.snapshots.borrow().node.clone();
                let event = object::event(subject, note, &uid, &node, Timestamp::now());
                let path = path(&policy.namespace, None);
                let made = client.create(&path, &event).await;
                let made = made.map_err(to("create", EVENTS))?;
                let name = made["metadata"]["name"].as_str().unwrap_or_default();
                self.state.posted(request, name, Instant::now().into_std());
            }
            Request::Patch {
                subject,
                event,
                count,
            } => {
                let path = path(&subject.policy.namespace, Some(event));
                let series = series(*count, Timestamp::now());
                match client.merge(&path, &series).await {
                    Ok(_) => self.state.patched(request, Instant::now().into_std()),
                    // The API server forgets Events, after an hour if nobody says otherwise.
                    Err(Error::Refused(refusal)) if refusal.code == 404 => {
                        self.state.forget(subject);
                        return Err(Failure::Gone);
                    }
                    Err(error) => return Err(to("patch", EVENTS)(error)),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
