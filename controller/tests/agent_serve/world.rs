//! A snapshot as an engine would publish it, and an agent without one.

#![allow(dead_code, reason = "each test program uses a part")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use controller::agent::metrics::Metrics;
use controller::agent::rundir::RunDir;
use controller::agent::server::client::Client;
use controller::agent::server::protocol::Kind;
use controller::agent::server::{Running, Server};
use controller::agent::snapshot::Snapshot;
use controller::agent::source::Problem;
use controller::agent::status::Status;
use controller::{cluster, source};
use policy_compiler::budget::{Budgets, Resource};
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::index::{Index, Object};
use policy_compiler::lower::{Attachment, Attachments, Options};
use policy_compiler::model::{Cluster, InterfaceName, NamespacedName, Presence};
use policy_compiler::validate;
use tokio::sync::watch;

/// A namespace with a web server, its database and a policy between them, on two nodes.
pub(crate) const CLUSTER: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: node-2}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.0.1.1, podIPs: [{ip: 10.0.1.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.0.1.2, podIPs: [{ip: 10.0.1.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: shop, labels: {app: far}}
spec: {nodeName: node-2, containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.0.2.1, podIPs: [{ip: 10.0.2.1}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db-from-web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]
";

/// [`CLUSTER`], read.
pub(crate) fn cluster() -> Cluster {
    let loaded = source::load_bytes([("cluster.yaml", CLUSTER.as_bytes())]);
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
    let cluster = cluster::build(&loaded, validate::Options::default());
    cluster.unwrap_or_else(|errors| panic!("{errors}"))
}

/// An index of it on node-1.
pub(crate) fn index(budgets: Budgets) -> Index {
    let cluster = cluster();
    let mut index = Index::new("node-1", Options::default(), budgets);
    let namespaces = cluster.namespaces.into_values().map(Object::Namespace);
    let nodes = cluster.nodes.into_values().map(Object::Node);
    let pods = cluster.pods.into_values().map(Object::Pod);
    let policies = cluster.policies.into_values().map(Object::NetworkPolicy);
    index.reset(namespaces.chain(nodes).chain(pods).chain(policies));
    index.update();
    index
}

/// What is in force of an index, with nothing wrong.
pub(crate) fn snapshot_of(index: &Index) -> Snapshot {
    Snapshot {
        node: "node-1".to_owned(),
        node_egress: NodeEgress::Allow,
        preflight: Vec::new(),
        ready: true,
        cluster: index.cluster().clone(),
        effective: index.effective(),
        ruleset: index.ruleset().clone(),
        generation: 7,
        exceeded: index.exceeded().clone(),
        closed: index.closed().clone(),
        unprotected: [].into(),
        refused: [].into(),
        problems: [].into(),
        failure: None,
        drift_repairs: 0,
        drift_alarm: false,
        last_success: Some(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)),
        interfaces: Default::default(),
        unknown: Default::default(),
        attachments: Default::default(),
        attached: Default::default(),
    }
}

/// With interfaces of pods: of one of these there is no object any more, and of another nobody knows what it may pass.
pub(crate) fn attached(snapshot: Snapshot) -> Snapshot {
    let mut cluster = snapshot.cluster.clone();
    let mut interfaces = Attachments::new();
    for (name, presence) in [("web", Presence::Attached), ("db", Presence::Orphaned)] {
        let mut pod = cluster.pods[&NamespacedName::new("shop", name)].clone();
        pod.presence = presence;
        pod.addresses.push("fe80::1".parse().unwrap());
        let attachment = Attachment {
            interface: InterfaceName::new(&format!("veth-{name}")).unwrap(),
            bridged: name == "db",
            addresses: Some(pod.addresses.iter().copied().collect()),
            routes: false,
        };
        interfaces.insert(pod.id.to_string(), vec![attachment]);
        cluster.add_pod(pod);
    }
    let gone = NamespacedName::new("shop", "gone");
    Snapshot {
        cluster,
        interfaces: Arc::new(interfaces),
        unknown: [("10.0.1.9".parse().unwrap(), gone)].into(),
        ..snapshot
    }
}

/// All is well on node-1.
pub(crate) fn snapshot() -> Snapshot {
    snapshot_of(&index(Budgets::default()))
}

/// Everything that can be wrong.
pub(crate) fn unwell() -> Snapshot {
    let mut budgets = Budgets::default();
    budgets.set(Resource::Rules, 0);
    let problem = Problem {
        message: "a.yaml: NetworkPolicy shop/x: spec: is required\na.yaml: line 7: bad".to_owned(),
        blocks: false,
    };
    Snapshot {
        preflight: vec![
            "error: br_netfilter is not loaded: frames inside of a bridge are not judged"
                .to_owned(),
            "note: no plugin tells whose an interface is".to_owned(),
        ],
        refused: [(
            NamespacedName::new("shop", "db-from-web"),
            "set p: ENOMEM".to_owned(),
        )]
        .into(),
        problems: [("a.yaml".to_owned(), problem)].into(),
        failure: Some("the kernel refused set p: ENOMEM".to_owned()),
        drift_repairs: 3,
        drift_alarm: true,
        ..snapshot_of(&index(budgets))
    }
}

/// Waits for something, at most 30 seconds.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A folder of its own, that is not there yet. Its path is short: that of a socket has 107 bytes at most.
pub(crate) fn folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = env::temp_dir().join(format!("picket-serve-{}-{count}", process::id()));
    let _ = fs::remove_dir_all(&folder);
    folder
}

/// What an agent is without its engine: the test publishes.
pub(crate) struct Agent {
    running: Option<Running>,
    publish: Option<watch::Sender<Arc<Snapshot>>>,
    /// What is done about open connections.
    pub(crate) revoked: watch::Sender<controller::agent::revoke::Status>,
    run_dir: RunDir,
}

impl Agent {
    pub(crate) fn start(snapshot: Snapshot) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), snapshot)
    }

    pub(crate) fn start_at(bind: SocketAddr, snapshot: Snapshot) -> Self {
        Self::with(bind, RunDir::take(&folder()).unwrap(), snapshot)
    }

    pub(crate) fn start_in(run_dir: RunDir, snapshot: Snapshot) -> Self {
        Self::with("127.0.0.1:0".parse().unwrap(), run_dir, snapshot)
    }

    fn with(bind: SocketAddr, run_dir: RunDir, snapshot: Snapshot) -> Self {
        let (publish, snapshots) = watch::channel(Arc::new(snapshot));
        let (revoked, revocation) = watch::channel(Default::default());
        let server = Server {
            bind: Some(bind),
            socket: run_dir.socket(),
            snapshots,
            revocation: Some(revocation),
            metrics: Metrics::new(),
            // Any value would do: what a List is has its own tests.
            dump: |cluster, _| {
                let names = cluster.policies.keys().map(NamespacedName::to_string);
                names.collect()
            },
        };
        Self {
            running: Some(server.start().unwrap()),
            publish: Some(publish),
            revoked,
            run_dir,
        }
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Where health and metrics are.
    pub(crate) fn http(&self) -> SocketAddr {
        until("the port", || self.running().http())
    }

    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.publish
            .as_ref()
            .unwrap()
            .send_replace(Arc::new(snapshot));
    }

    pub(crate) fn latest(&self) -> Arc<Snapshot> {
        self.publish.as_ref().unwrap().borrow().clone()
    }

    pub(crate) fn end_engine(&mut self) {
        self.publish = None;
    }

    pub(crate) fn run_dir(&self) -> &str {
        self.run_dir.path().to_str().unwrap()
    }

    pub(crate) fn socket(&self) -> String {
        self.run_dir.socket().to_str().unwrap().to_owned()
    }

    pub(crate) fn client(&self) -> Result<Client, impl std::error::Error + use<>> {
        Client::connect(self.run_dir.path())
    }

    pub(crate) fn status(&self, client: &mut Client) -> Status {
        client.ask(Kind::Status, None).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.running.take());
        // The server's own end is what some tests are about: only what they put beside it goes.
        for file in ["flows.jsonl", "picket"] {
            let _ = fs::remove_file(self.run_dir.path().join(file));
        }
        let _ = fs::remove_dir(self.run_dir.path());
    }
}
