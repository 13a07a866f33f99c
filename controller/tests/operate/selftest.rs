//! `picket selftest` between two pods with real packets, beside a real API server. The test is scheduler and kubelet.

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec as PodSpecOfKubernetes};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use testbed::{Namespace, Network, NodeSpec, Place, PodSpec, Testbed, Topology};

use super::{PICKET, Running};
use crate::api_server::{ApiServer, rule};
use crate::support::Folder;

/// The namespace takes no pod that is not `restricted`.
const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: net, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.168.7.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
status: {addresses: [{type: InternalIP, address: 192.168.7.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: net, labels: {app: client}}
spec:
  nodeName: n1
  nodeSelector: {pool: edge}
  affinity:
    nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 7, preference: {}}]}
    podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: zone}}]}
  tolerations: [{key: edge, operator: Exists}]
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: c
    image: registry.example/picket:1
    imagePullPolicy: Always
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
status: {phase: Running, podIP: 10.1.0.11, podIPs: [{ip: 10.1.0.11}, {ip: \"fd00:a::11\"}]}
";

const SERVER: [&str; 2] = ["10.2.0.11", "fd00:b::11"];

/// Where pods reach the API server, which listens on its own loopback interface.
const RELAY: &str = "192.168.7.2:7443";

struct World {
    testbed: Testbed,
    server: ApiServer,
    folder: Folder,
}

impl World {
    fn new() -> Self {
        let node = |name: &str, v4: &str, v6: &str| NodeSpec {
            name: name.to_owned(),
            addresses: vec![v4.parse().unwrap(), v6.parse().unwrap()],
        };
        let pod = |name: &str, node: &str, v4: &str, v6: &str| PodSpec {
            name: name.to_owned(),
            node: node.to_owned(),
            addresses: vec![
                format!("{v4}/24").parse().unwrap(),
                format!("{v6}/64").parse().unwrap(),
            ],
        };
        let testbed = Testbed::build(&Topology {
            nodes: vec![
                node("n1", "192.168.7.1", "fd00:7::1"),
                node("n2", "192.168.7.2", "fd00:7::2"),
            ],
            pods: vec![
                pod("client", "n1", "10.1.0.11", "fd00:a::11"),
                pod("server", "n2", SERVER[0], SERVER[1]),
            ],
            externals: Vec::new(),
            network: Network::Routed,
        });
        let testbed = testbed.unwrap();
        let node = testbed.namespace(&Place::Node("n2".to_owned())).unwrap();
        let server = ApiServer::start(node);
        server.apply(OBJECTS);
        Self {
            testbed,
            server,
            folder: Folder::new("selftest"),
        }
    }

    fn node(&self) -> &Namespace {
        let place = Place::Node("n2".to_owned());
        self.testbed.namespace(&place).unwrap()
    }

    fn pod(&self, name: &str) -> &Namespace {
        let place = Place::Pod(name.to_owned());
        self.testbed.namespace(&place).unwrap()
    }

    /// For the client's pod.
    fn kubeconfig(&self) -> PathBuf {
        let rules = [
            rule("", "pods", &["create", "get", "delete"]),
            rule(
                "networking.k8s.io",
                "networkpolicies",
                &["create", "delete"],
            ),
        ];
        let account = self.server.account("selftest", &rules);
        let text = std::fs::read_to_string(account.kubeconfig).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        let cluster = &mut config["clusters"][0]["cluster"];
        cluster["server"] = format!("https://{RELAY}").into();
        cluster["tls-server-name"] = "127.0.0.1".into();
        let path = self.folder.path().join("kubeconfig");
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    fn agent(&self) -> Child {
        let mut command = Command::new(PICKET);
        command.args(["agent", "--node", "n2", "--kubeconfig"]);
        command.arg(self.server.administrator());
        command.arg("--run-dir").arg(self.folder.path().join("run"));
        command.stderr(Stdio::null());
        self.node().run(|| command.spawn()).unwrap().unwrap()
    }

    /// What is left of it: pods that nobody deletes, and policies.
    fn left(&self) -> Vec<String> {
        self.server.ask(async |client| {
            let pods: Api<Pod> = Api::namespaced(client.clone(), "net");
            let policies: Api<NetworkPolicy> = Api::namespaced(client, "net");
            let list = ListParams::default();
            let pods = pods.list(&list).await.unwrap().items.into_iter();
            let pods = pods.filter(|pod| pod.metadata.deletion_timestamp.is_none());
            let policies = policies.list(&list).await.unwrap().items;
            let policies = policies.iter().map(ResourceExt::name_any);
            pods.map(|pod| pod.name_any()).chain(policies).collect()
        })
    }
}

/// A process that is killed when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Places the server on its node, runs what its pod says there, and forgets it when it is deleted.
async fn kubelet(client: Client, network: &Namespace, done: &AtomicBool) {
    let pods: Api<Pod> = Api::namespaced(client, "net");
    let of = ListParams::default().labels("app.kubernetes.io/component=selftest");
    let mut running: Option<Killed> = None;
    while !done.load(Ordering::Relaxed) {
        for pod in pods.list(&of).await.unwrap() {
            let name = pod.name_any();
            if pod.metadata.deletion_timestamp.is_some() {
                running = None;
                let now = DeleteParams::default().grace_period(0);
                let _ = pods.delete(&name, &now).await;
            } else if running.is_none() {
                let binding = json!({
                    "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": "n2"},
                });
                let params = PostParams::default();
                let bound =
                    pods.create_subresource::<Value, Value>("binding", &name, &params, &binding);
                bound.await.unwrap();
                let spec = pod.spec.as_ref().unwrap();
                is_where_its_client_may_be(spec);
                let container = &spec.containers[0];
                let mut command = Command::new(PICKET);
                command
                    .args(container.args.as_ref().unwrap())
                    .stdout(Stdio::null());
                let started = network.run(|| command.spawn()).unwrap().unwrap();
                running = Some(Killed(started));
                let status = Patch::Merge(json!({"status": {
                    "phase": "Running", "podIP": SERVER[0],
                    "podIPs": [{"ip": SERVER[0]}, {"ip": SERVER[1]}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                }}));
                let params = PatchParams::default();
                pods.patch_status(&name, &params, &status).await.unwrap();
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Elsewhere may be no agent, and the node cannot run it.
fn is_where_its_client_may_be(server: &PodSpecOfKubernetes) {
    let selector = server.node_selector.as_ref().unwrap();
    let selector: Vec<_> = selector.iter().map(|(k, v)| (&k[..], &v[..])).collect();
    assert_eq!(selector, [("kubernetes.io/os", "linux"), ("pool", "edge")]);
    let mut tolerated = server.tolerations.iter().flatten();
    assert!(tolerated.any(|of| of.key.as_deref() == Some("edge")));
    let affinity = server.affinity.as_ref().unwrap();
    assert!(affinity.node_affinity.is_some() && affinity.pod_anti_affinity.is_none());
    let pull = server.containers[0].image_pull_policy.as_deref();
    assert_eq!(pull, Some("Always"));
}

/// Carries connections to the API server, until the process ends.
fn relay(node: &Namespace) {
    let listener = node.run(|| TcpListener::bind(RELAY)).unwrap().unwrap();
    let inside = std::os::fd::AsFd::as_fd(node).try_clone_to_owned().unwrap();
    std::thread::spawn(move || {
        nix::sched::setns(&inside, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        for from in listener.incoming() {
            let from = from.unwrap();
            let to = TcpStream::connect("127.0.0.1:6443").unwrap();
            let (mut back_to, mut back_from) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let (mut from, mut to) = (from, to);
            std::thread::spawn(move || {
                let _ = copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            std::thread::spawn(move || {
                let _ = copy(&mut back_from, &mut back_to);
                let _ = back_to.shutdown(Shutdown::Write);
            });
        }
    });
}

#[test]
fn it_fails_without_an_agent_and_passes_with_one_and_leaves_nothing() {
    let world = World::new();
    let kubeconfig = world.kubeconfig();
    relay(world.node());
    let (server, done) = (&world.server, AtomicBool::new(false));
    let run = |limit: &str| {
        let kubeconfig = kubeconfig.to_str().unwrap();
        let arguments = [
            "selftest",
            "--namespace",
            "net",
            "--pod",
            "client",
            "--policy-timeout",
            limit,
            "--kubeconfig",
            kubeconfig,
        ];
        Running::start(world.pod("client"), &arguments)
    };
    std::thread::scope(|scope| {
        let network = world.pod("server");
        let done = &done;
        let kubelet =
            scope.spawn(move || server.ask(async |client| kubelet(client, network, done).await));
        // It ends also if something below fails.
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let ended = Done(done);
        let (said, code) = run("1s").ends();
        assert_eq!(code, Some(1), "{said:#?}");
        assert!(said[1].ends_with("it answers"), "{said:#?}");
        assert_eq!(
            said[2],
            "failed            not so: a policy that denies all is in force"
        );
        for address in SERVER {
            let still = format!(
                "{address} still answers this pod, on node n1: see picket status on node n2"
            );
            assert!(said.iter().any(|line| line.ends_with(&still)), "{said:#?}");
        }
        assert_eq!(world.left(), ["client"]);

        // The server of before may be there still.
        let _agent = Killed(world.agent());
        let (said, code) = run("60s").ends();
        assert_eq!(code, Some(0), "{said:#?}");
        assert_eq!(said.len(), 5, "{said:#?}");
        assert!(
            said[0].contains("is ready on node n2, at 10.2.0.11 and fd00:b::11"),
            "{said:#?}"
        );
        assert_eq!(world.left(), ["client"]);

        // Where another policy closes the server it waits. Told to end, it takes away what it made.
        world.server.apply(
            "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: closed, namespace: net},
              spec: {podSelector: {matchLabels: {app.kubernetes.io/component: selftest}}, policyTypes: [Ingress]}}",
        );
        let mut running = run("1h");
        running.says().unwrap();
        running.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(running.ends().1, Some(2));
        assert_eq!(world.left(), ["client", "closed"]);
        drop(ended);
        kubelet.join().unwrap();
    });
}
