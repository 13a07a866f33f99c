//! An agent as on a node, in a network namespace of its own, but what it is fed and whom it tells.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use controller::agent::enforcer::Kernel;
use controller::agent::engine::{Engine, Listener, Settings, Sync};
use controller::agent::metrics::FailureReason;
use controller::agent::revoke::{self, Handle, Hold, Judged, Revoker, Scope};
use controller::agent::snapshot::Snapshot;
use controller::agent::source::{Change, Event, Source};
use kernel::Nftables;
use policy_compiler::budget::Budgets;
use policy_compiler::index::Object;
use policy_compiler::lower::Options;
use testbed::Namespace;
use tokio::sync::{mpsc, oneshot, watch};

use crate::cluster::NODE;

/// What an agent is given, and whom it tells.
pub(crate) struct Ends {
    /// All objects, when they are asked for.
    pub(crate) objects: Box<dyn FnOnce() -> Vec<Object> + Send>,
    /// What changes, each with the time at which it was sent.
    pub(crate) changes: mpsc::UnboundedReceiver<(Instant, Change)>,
    /// Told where snapshots are published, and given somebody else's hand on the node's nftables.
    pub(crate) started: std::sync::mpsc::Sender<(watch::Receiver<Arc<Snapshot>>, Nftables)>,
    /// Told of each commit and each repair.
    pub(crate) told: std::sync::mpsc::Sender<anyhow::Result<Told>>,
    /// When to end.
    pub(crate) stop: oneshot::Receiver<()>,
}

/// What the engine tells.
pub(crate) enum Told {
    /// Events are in force.
    Commit(Commit),
    /// What somebody else changed is as it should be again.
    Repaired,
}

/// Events are in force.
pub(crate) struct Commit {
    /// How long each took since it was sent.
    pub(crate) latencies: Vec<Duration>,
    /// What the engine says of it.
    pub(crate) sync: Sync,
    /// Whether connections are judged because of it: else nothing changed for the node's pods.
    pub(crate) judged: bool,
}

/// Runs an agent in a new network namespace until it is told to end.
pub(crate) fn run(ends: Ends) -> anyhow::Result<()> {
    let namespace = Namespace::new()?;
    // Its sockets are opened on the thread that is inside.
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(work(ends))
    })?
}

async fn work(ends: Ends) -> anyhow::Result<()> {
    let kernel = Kernel::open().context("nftables can not be used")?;
    let revoker = Revoker::start(revoke::Options::default(), |_| {})?;
    let seen = Seen::default();
    let feed = Feed {
        objects: Some(ends.objects),
        changes: ends.changes,
        seen: seen.clone(),
    };
    let clock = Clock {
        seen,
        judged: false,
        told: ends.told,
        revoker: revoker.handle(),
        hold: None,
    };
    let settings = Settings {
        node: NODE.to_owned(),
        options: Options::default(),
        budgets: Budgets::default(),
        preflight: watch::channel(Vec::new()).1,
        attached: watch::channel(Default::default()).1,
    };
    let (engine, snapshots) = Engine::new(feed, kernel, clock, settings);
    let _ = ends.started.send((snapshots, Nftables::open()?));
    let stop = async {
        // Whoever is gone wants no more either.
        let _ = ends.stop.await;
    };
    engine.run(stop).await;
    Ok(())
}

/// When the events were sent that the engine has taken and that are not in force yet.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Instant>>>);

impl Seen {
    fn add(&self, sent: Instant) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sent);
    }

    fn take(&self) -> Vec<Instant> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Feed {
    objects: Option<Box<dyn FnOnce() -> Vec<Object> + Send>>,
    changes: mpsc::UnboundedReceiver<(Instant, Change)>,
    seen: Seen,
}

impl Source for Feed {
    async fn next(&mut self) -> Event {
        if let Some(objects) = self.objects.take() {
            return Event::Reset(objects());
        }
        match self.changes.recv().await {
            Some((sent, change)) => {
                self.seen.add(sent);
                Event::Changes(vec![change])
            }
            None => std::future::pending().await,
        }
    }
}

/// Tells of commits, and the revoker what `picket agent` tells it.
struct Clock {
    seen: Seen,
    judged: bool,
    told: std::sync::mpsc::Sender<anyhow::Result<Told>>,
    revoker: Handle,
    hold: Option<Hold>,
}

impl Listener for Clock {
    fn queued(&mut self) {}

    fn applying(&mut self) {
        self.hold = Some(self.revoker.hold());
    }

    fn judge(&mut self, snapshot: &Arc<Snapshot>, scope: Scope) {
        self.judged = true;
        let state = Judged {
            cluster: Arc::new(snapshot.effective.clone()),
            node: snapshot.node.as_str().into(),
            node_egress: snapshot.node_egress,
            closed: Arc::new(snapshot.closed.clone()),
            revoked: Default::default(),
        };
        self.revoker.judge(state, scope);
    }

    fn synced(&mut self, sync: &Sync) {
        let now = Instant::now();
        let seen = self.seen.take().into_iter();
        // If nobody wants to know it any more, the end is near.
        let _ = self.told.send(Ok(Told::Commit(Commit {
            latencies: seen.map(|sent| now.duration_since(sent)).collect(),
            sync: sync.clone(),
            judged: std::mem::take(&mut self.judged),
        })));
    }

    fn failed(&mut self, reason: FailureReason) {
        let _ = self.told.send(Err(anyhow::anyhow!(
            "the kernel did not take it: {reason:?}"
        )));
    }

    fn repaired(&mut self) {
        let _ = self.told.send(Ok(Told::Repaired));
    }

    fn rested(&mut self) {
        self.hold = None;
    }
}
