//! What the agent answers while it works: health and metrics over HTTP, and `picket status`, `picket dump` and
//! `picket explain --live` over a socket that only root and its own user may use.
//!
//! ```text
//! kubelet, Prometheus ──▶ http ───┐
//!                                 ├──▶ the latest Snapshot, Metrics
//! picket status       ──▶ socket ─┘
//! ```
//!
//! It runs on a thread of its own and asks nobody: a sync in progress, a source or an engine that waits delay no answer.
//! Enforcement never depends on it. If the port is another's, or the socket cannot be made, the agent says so, goes on,
//! and tries again.

mod answer;
mod bounded;
pub mod client;
mod explain;
mod http;
pub mod protocol;
mod socket;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use policy_compiler::model::Cluster;
use serde_json::Value;
use tokio::sync::{oneshot, watch};
use tokio::time::{self, Duration};

pub use self::explain::{InForce, LiveAnswer};
use super::log::{Repeated, Seen};
use super::metrics::Metrics;
use super::revoke;
use super::snapshot::Snapshot;

/// Where health and metrics are if nobody says otherwise: a port above those of Kubernetes (10248 to 10259) and of
/// exporters (9100 to 9999), and below NodePorts (30000) and what the kernel gives to clients (32768).
pub const DEFAULT_BIND: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10491);

/// Threads that make answers which take long: a dump of a large cluster.
const WORKERS: usize = 2;

/// How long until what could not be opened is tried again: the first time, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Makes objects a List that `picket compile -f -` reads.
pub type Dump = fn(&Cluster, &str) -> Value;

/// What is answered, and where.
#[derive(Debug)]
pub struct Server {
    /// Address and port of health and metrics; nothing for none.
    pub bind: Option<SocketAddr>,
    /// The socket ([`RunDir::socket`](super::rundir::RunDir::socket)). The directory is held by this process.
    pub socket: PathBuf,
    /// What the engine publishes. Once its sender is gone the engine has ended, and `/healthz` says so.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What was done about open connections; nothing where nobody judges them.
    pub revocation: Option<watch::Receiver<revoke::Status>>,
    /// What the engine counts.
    pub metrics: Metrics,
    /// How objects are dumped.
    pub dump: Dump,
}

/// A server that runs. It ends, and its socket goes, when this is dropped.
#[derive(Debug)]
pub struct Running {
    /// Gone when this is.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    http: watch::Receiver<Option<SocketAddr>>,
}

impl Server {
    /// Starts answering, on a thread of its own.
    ///
    /// # Errors
    /// There can be no thread. A port or a socket that cannot be had is no error: it is logged, and tried again.
    pub fn start(self) -> io::Result<Running> {
        let (stop, stopped) = oneshot::channel();
        let (bound, http) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(WORKERS)
            .build()?;
        let work = move || {
            let app = Arc::new(self);
            runtime.block_on(async {
                tokio::select! {
                    never = http::serve(&app, &bound) => never,
                    never = socket::serve(&app) => never,
                    _ = stopped => {}
                }
            });
            // A dump that is being made for nobody is not waited for.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new()
            .name("server".to_owned())
            .spawn(work)?;
        Ok(Running {
            stop: Some(stop),
            thread: Some(thread),
            http,
        })
    }

    /// The latest snapshot.
    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// What was done about open connections.
    fn revoked(&self) -> revoke::Status {
        let revocation = self.revocation.as_ref();
        revocation.map_or_else(Default::default, |status| status.borrow().clone())
    }

    /// Whether there is still somebody who publishes.
    fn has_engine(&self) -> bool {
        self.snapshots.has_changed().is_ok()
    }
}

impl Running {
    /// Where health and metrics are answered now; nothing as long as the port is another's.
    pub fn http(&self) -> Option<SocketAddr> {
        *self.http.borrow()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was printed; there is nothing to do about it here.
            let _ = thread.join();
        }
    }
}

/// Opens something, and goes on trying until it is open.
pub(super) async fn open<T, F>(what: &str, remedy: &str, open: impl Fn() -> F) -> T
where
    F: Future<Output = io::Result<T>>,
{
    let mut failures = Repeated::default();
    let (mut wait, longest) = RETRY;
    loop {
        let error = match open().await {
            Ok(opened) => {
                if failures.ended(&(), Instant::now()).is_some() {
                    tracing::info!("{what} is open now");
                }
                return opened;
            }
            Err(error) => error,
        };
        match failures.seen(&(), Instant::now()) {
            Some(Seen::First) => tracing::error!(
                "{what} cannot be opened: {error}; the agent goes on without it and tries again: {remedy}"
            ),
            Some(Seen::Again { times, .. }) => {
                tracing::error!("{what} cannot be opened, tried {times} times: {error}: {remedy}");
            }
            None => {}
        }
        time::sleep(wait).await;
        wait = (wait * 2).min(longest);
    }
}
