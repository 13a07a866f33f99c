//! `picket agent`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use anyhow::Context;
use cni_chain::attachment::Attachment;
use futures::future::Either;
use kernel::{Error, Feature, Features, Links, Nftables, Refusal};
use nix::errno::Errno;
use policy_compiler::lower::{Options, RevokedBit};
use policy_compiler::validate;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{Outcome, bridges};
use crate::agent::alone::Alone;
use crate::agent::attachments::{self, Bypass, Gate};
use crate::agent::dump;
use crate::agent::enforcer::Kernel;
use crate::agent::engine::{Engine, Listener, Settings, Sync};
use crate::agent::events;
use crate::agent::folder::{self, Folder};
use crate::agent::log;
use crate::agent::metrics::{FailureReason, Metrics, SyncType};
use crate::agent::preflight;
use crate::agent::revoke::{self, Handle, Hold, Judged, Revoker, Scope};
use crate::agent::rundir::RunDir;
use crate::agent::server::Server;
use crate::agent::snapshot::Snapshot;
use crate::agent::source::{Event, Source};
use crate::agent::watches::Watches;
use crate::cli::{Agent, OwnTables, Revocation};
use crate::kubernetes::Access;

pub(super) fn run(arguments: &Agent) -> anyhow::Result<Outcome> {
    let _flush = log::start(
        arguments.log.log_format.into(),
        arguments.log.log_level.into(),
    )?;
    // To stderr itself it could wait for whoever does not read that.
    std::panic::set_hook(Box::new(|info| error!("picket failed: {info}")));
    match enforce(arguments) {
        Ok(outcome) => Ok(outcome),
        Err(error) => {
            // In the format of the other lines.
            error!("{error:#}");
            Ok(Outcome::Failed)
        }
    }
}

fn enforce(arguments: &Agent) -> anyhow::Result<Outcome> {
    let run_dir = RunDir::take(&arguments.run_dir.run_dir)?;
    let _alone = Alone::take()?;
    let bridges = bridges(&arguments.bridges)?;
    let preflight = look_around(arguments)?;
    let surroundings = preflight.clone();
    let options = Options {
        node_egress: arguments.node_egress.node_egress.into(),
        revoked: arguments.mark_bit,
        bridges,
        ..Options::default()
    };
    let attached = attachments::watch(run_dir.path()).with_context(|| {
        format!(
            "the interfaces of pods can not be watched in {}",
            run_dir.path().display()
        )
    })?;
    let settings = Settings {
        node: arguments.node.clone(),
        options,
        budgets: arguments.budget.budgets(),
        preflight,
        attached: attached.clone(),
    };
    let metrics = Metrics::new();
    let (revoker, revocation) = start_revoker(arguments, &metrics)?;
    let asked = Arc::default();
    let listener = Reports {
        metrics: metrics.clone(),
        revoker: revoker.handle(),
        revoked: arguments.mark_bit,
        hold: None,
        asked: Arc::clone(&asked),
        links: None,
    };
    let owns = owns_tables(arguments)?;
    let (mut source, access) = source(arguments, &metrics)?;
    let unwatched = source.ended();
    // The engine blocks while the kernel works, so it has this thread for itself, and the server has another.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let kernel = open(owns)?;
        let (engine, snapshots) = Engine::new(source, kernel, listener, settings);
        if let Some(access) = access
            && let Err(error) = events::start(access, snapshots.clone(), metrics.clone())
        {
            warn!("no Events are sent, since no thread can be started: {error}");
        }
        let bypass = Bypass {
            attached: attached.clone(),
            snapshots: snapshots.clone(),
            revocation: revocation_options(arguments),
            revoked: arguments.mark_bit,
            metrics: metrics.clone(),
        };
        let (bypass, inside) = bypass.start().context("no thread can be started")?;
        let gate = Gate {
            run_dir: run_dir.path().to_owned(),
            attached: attached.clone(),
            snapshots: snapshots.clone(),
            inside,
            revocation: revocation.clone(),
            asked,
            metrics: metrics.clone(),
        };
        let gate = gate.start().context("no thread can be started")?;
        let server = Server {
            bind: Some(arguments.metrics_bind),
            socket: run_dir.socket(),
            snapshots,
            revocation: Some(revocation.clone()),
            metrics,
            dump: dump::list,
        };
        let _server = server.start().context("no thread can be started")?;
        let (mut terminate, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        info!(node = %arguments.node, source = %whence(arguments), "started");
        let mut outcome = Outcome::Done;
        let stop = async {
            let failed = tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                () = ended(revocation) => "judges open connections",
                () = ended(surroundings) => "looks at bridges",
                () = ended(gate.alive()) => "lets interfaces of pods pass",
                () = ended(bypass.alive()) => "holds pods' own network namespaces",
                () = ended(attached) => "watches the interfaces of pods",
                () = unwatched => "watches the source",
            };
            error!("what {failed} has failed: the agent ends with what is in force, to be started again");
            outcome = Outcome::Failed;
        };
        engine.run(stop).await;
        info!("stopped; what is in force stays in force");
        anyhow::Ok(outcome)
    })
}

/// Where the objects come from.
enum Objects {
    Folder(Folder),
    ApiServer(Watches),
}

impl Objects {
    fn ended(&mut self) -> impl Future<Output = ()> + use<> {
        match self {
            Self::Folder(folder) => Either::Left(folder.ended()),
            Self::ApiServer(watches) => Either::Right(watches.ended()),
        }
    }
}

impl Source for Objects {
    async fn next(&mut self) -> Event {
        match self {
            Self::Folder(folder) => folder.next().await,
            Self::ApiServer(watches) => watches.next().await,
        }
    }
}

/// The source; and if that is an API server, the way to it.
fn source(arguments: &Agent, metrics: &Metrics) -> anyhow::Result<(Objects, Option<Access>)> {
    let Some(folder) = &arguments.manifests else {
        let access = match &arguments.kubeconfig {
            Some(path) => Access::Kubeconfig {
                path: path.clone(),
                context: arguments.context.clone(),
            },
            None => Access::of_pod()?,
        };
        let watches = Watches::start(access.clone(), &arguments.node, metrics.clone())?;
        return Ok((Objects::ApiServer(watches), Some(access)));
    };
    let settings = folder::Settings {
        options: validate::Options {
            lenient_cidr: arguments.lenient_cidr,
        },
        allow_empty: arguments.allow_empty,
        ..folder::Settings::default()
    };
    Ok((Objects::Folder(Folder::watch(folder, settings)?), None))
}

fn whence(arguments: &Agent) -> String {
    match (&arguments.manifests, &arguments.kubeconfig) {
        (Some(path), _) | (None, Some(path)) => path.display().to_string(),
        (None, None) => "the API server of this pod".to_owned(),
    }
}

/// Why there can be no second agent.
const ANOTHERS: &str =
    "our tables belong to another agent that runs in this network namespace: stop it first";

fn open(owns: bool) -> anyhow::Result<Kernel> {
    let is_owned = || Nftables::open()?.is_owned();
    if !owns && is_owned().context("nftables can not be used")? {
        anyhow::bail!(ANOTHERS);
    }
    let kernel = if owns {
        Kernel::open_owner()
    } else {
        Kernel::open()
    };
    let is_anothers = |error: &Error| {
        // Whoever may not use nftables at all was told so when its features were asked for.
        let Error::Refused(refusals) = error else {
            return false;
        };
        let refused = |refusal: &Refusal| refusal.errno == Errno::EPERM as i32;
        refusals.iter().any(refused)
    };
    kernel.map_err(|error| {
        let what = match is_anothers(&error) {
            true => ANOTHERS,
            false => "nftables can not be used",
        };
        anyhow::Error::new(error).context(what)
    })
}

/// Says what keeps policies from being enforced here, also later. None of it is a reason not to enforce what can be.
fn look_around(arguments: &Agent) -> anyhow::Result<watch::Receiver<Vec<String>>> {
    let options = preflight::Options {
        bridges: arguments.bridges.clone(),
        set_bridge_netfilter: arguments.set_bridge_netfilter,
        revoked: arguments.mark_bit,
    };
    preflight::watch(options).context("no thread can be started")
}

/// Whether our tables are to belong to us.
fn owns_tables(arguments: &Agent) -> anyhow::Result<bool> {
    if arguments.own_tables == OwnTables::Never {
        return Ok(false);
    }
    let features = Features::probe().context("the kernel can not be asked for its features")?;
    let owns = features.has(Feature::TablePersist);
    if !owns {
        info!(
            "this kernel has no tables with an owner (Linux 6.9): what others change in ours is repaired"
        );
    }
    Ok(owns)
}

/// Is ready when nobody publishes any more: the thread that does has panicked.
async fn ended<T>(mut published: watch::Receiver<T>) {
    while published.changed().await.is_ok() {}
}

fn revocation_options(arguments: &Agent) -> revoke::Options {
    revoke::Options {
        mode: match arguments.revocation {
            Revocation::Revoke => revoke::Mode::Revoke,
            Revocation::Keep => revoke::Mode::Keep,
        },
        ..revoke::Options::default()
    }
}

/// And what it did, until it ends.
fn start_revoker(
    arguments: &Agent,
    metrics: &Metrics,
) -> anyhow::Result<(Revoker, watch::Receiver<revoke::Status>)> {
    let options = revocation_options(arguments);
    let metrics = metrics.clone();
    let mut last = revoke::Status::default();
    let (publish, published) = watch::channel(last.clone());
    let report = move |status: &revoke::Status| {
        metrics.revoked(status.revoked - last.revoked);
        if let Some(warning) = status.warning()
            && last.overwritten.is_none()
        {
            error!("{warning}");
        }
        match (&status.failure, &last.failure) {
            (Some(failure), before) if before.as_ref() != Some(failure) => {
                error!("open connections can not be judged now, and are later: {failure}");
            }
            (None, Some(_)) => info!("open connections are judged again"),
            _ => {}
        }
        last = status.clone();
        publish.send_replace(last.clone());
    };
    let revoker = Revoker::start(options, report).context("open connections can not be judged")?;
    Ok((revoker, published))
}

/// Tells metrics and the revoker what the engine does.
struct Reports {
    metrics: Metrics,
    revoker: Handle,
    revoked: RevokedBit,
    hold: Option<Hold>,
    /// The last request to judge connections.
    asked: Arc<AtomicU64>,
    /// To put interfaces of pods into quarantine.
    links: Option<Links>,
}

impl Listener for Reports {
    fn queued(&mut self) {
        self.metrics.queued(SystemTime::now());
    }

    fn applying(&mut self) {
        self.hold = Some(self.revoker.hold());
    }

    fn unknown(&mut self, interfaces: &[Arc<Attachment>]) {
        for interface in interfaces {
            // The gate tries again, and says what fails.
            if attachments::quarantine(&mut self.links, interface).is_err() {
                self.links = None;
            }
        }
    }

    fn judge(&mut self, snapshot: &Arc<Snapshot>, scope: Scope) {
        let state = Judged {
            cluster: Arc::new(snapshot.effective.clone()),
            node: snapshot.node.as_str().into(),
            node_egress: snapshot.node_egress,
            closed: Arc::new(snapshot.closed.clone()),
            revoked: self.revoked,
        };
        let ticket = self.revoker.judge(state, scope);
        self.asked.store(ticket.0, Ordering::Release);
    }

    fn synced(&mut self, sync: &Sync) {
        let kind = if sync.full {
            SyncType::Full
        } else {
            SyncType::Partial
        };
        self.metrics.synced(kind, sync.duration);
        self.metrics.compiled(sync.compile);
        if let Some(after) = sync.policy {
            self.metrics.policy_programmed(after);
        }
        if let Some(after) = sync.pod {
            self.metrics.pod_programmed(after);
        }
    }

    fn failed(&mut self, reason: FailureReason) {
        self.metrics.sync_failed(reason);
    }

    fn repaired(&mut self) {
        self.metrics.drift_repaired();
    }

    fn rested(&mut self) {
        self.hold = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_ends_is_noticed() {
        let (publish, published) = watch::channel(0);
        let mut ended = std::pin::pin!(ended(published));
        publish.send_replace(1);
        assert!(futures::FutureExt::now_or_never(&mut ended).is_none());
        drop(publish);
        ended.await;
    }
}
