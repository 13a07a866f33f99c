//! A policy whose rules a kernel refuses has an Event. The kernel is a double, and the API server is none.

use std::sync::Arc;

use controller::agent::engine::{Engine, Listener, Settings, Sync};
use controller::agent::events;
use controller::agent::metrics::{FailureReason, Metrics};
use controller::agent::revoke::Scope;
use controller::agent::snapshot::Snapshot;
use controller::agent::watches::Watches;
use controller::kubernetes::Access;
use k8s_openapi::api::events::v1::Event;
use policy_compiler::budget::Budgets;
use policy_compiler::lower::Options;
use tokio::sync::{oneshot, watch};

use crate::api_server::PATIENCE;
use crate::cluster::Cluster;
use crate::engine::Fake;
use crate::manifests::NODE;

/// Nobody asks what the engine does.
struct Silent;

impl Listener for Silent {
    fn queued(&mut self) {}
    fn applying(&mut self) {}
    fn rested(&mut self) {}
    fn judge(&mut self, _: &Arc<Snapshot>, _: Scope) {}
    fn synced(&mut self, _: &Sync) {}
    fn failed(&mut self, _: FailureReason) {}
    fn repaired(&mut self) {}
}

/// An agent that has this kernel, on this thread, until it is told to stop.
fn enforce(kernel: Fake, access: Access, stop: oneshot::Receiver<()>) {
    let metrics = Metrics::new();
    let watches = Watches::start(access.clone(), NODE, metrics.clone()).unwrap();
    let settings = Settings {
        node: NODE.to_owned(),
        options: Options::default(),
        budgets: Budgets::default(),
        preflight: watch::channel(Vec::new()).1,
        attached: watch::channel(Default::default()).1,
    };
    let (engine, snapshots) = Engine::new(watches, kernel, Silent, settings);
    events::start(access, snapshots, metrics).unwrap();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(engine.run(async { drop(stop.await) }));
}

#[test]
fn a_policy_that_the_kernel_refuses_has_an_event_with_its_words() {
    let cluster = Cluster::new();
    // That of `base`, which isolates `d` on this node.
    let wanted = cluster.live.wanted();
    let mut chains = wanted.tables.iter().flat_map(|table| &table.chains);
    let is_of_base = |name: &str| name.starts_with("ingress4_") && name.contains("x_base");
    let chain = chains.find(|chain| is_of_base(&chain.name)).unwrap();
    let kernel = Fake::default();
    kernel.with(|state| state.refuses_rules.insert(chain.name.clone()));
    let access = Access::Kubeconfig {
        path: cluster.account.kubeconfig.clone(),
        context: None,
    };
    let (stop, stopped) = oneshot::channel();
    let node = &cluster.live.world.node;
    let told: Vec<Event> = std::thread::scope(|scope| {
        scope.spawn(|| node.run(|| enforce(kernel, access, stopped)).unwrap());
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let told = crate::events::events(&cluster, "base");
            if !told.is_empty() || std::time::Instant::now() > deadline {
                drop(stop);
                return told;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    assert_eq!(told.len(), 1, "{told:#?}");
    let event = &told[0];
    assert_eq!(event.reason.as_deref(), Some("Refused"));
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    let note = event.note.as_deref().unwrap();
    let parts = [NODE, "the kernel refused", &chain.name, "EINVAL"];
    assert!(parts.iter().all(|part| note.contains(part)), "{note}");
    let regarding = event.regarding.as_ref().unwrap();
    let uid = crate::events::uid(&cluster, "base");
    assert_eq!(regarding.uid, Some(uid));
}
