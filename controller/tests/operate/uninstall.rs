//! `picket uninstall` against a real API server. The test is the controller of DaemonSets and the garbage collector.

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testbed::Namespace;

use super::{Running, namespace};
use crate::api_server::{Account, ApiServer, Program, rule};

const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: net}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: picket, namespace: net}
spec:
  selector: {matchLabels: {app: picket}}
  template:
    metadata: {labels: {app: picket}}
    spec: {containers: [{name: agent, image: registry.example/picket:1}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: clean, namespace: net}
spec:
  selector: {matchLabels: {app: clean}}
  template:
    metadata: {labels: {app: clean}}
    spec: {containers: [{name: idle, image: registry.example/picket:1}]}
";

struct World {
    namespace: Namespace,
    server: ApiServer,
    account: Account,
}

impl World {
    fn new() -> Self {
        let namespace = namespace();
        let server = ApiServer::start(&namespace);
        server.apply(OBJECTS);
        let rules = [
            rule("apps", "daemonsets", &["get", "delete"]),
            rule("", "pods", &["list"]),
        ];
        let account = server.account("uninstall", &rules);
        Self {
            namespace,
            server,
            account,
        }
    }

    fn run(&self, arguments: &[&str]) -> Running {
        let kubeconfig = self.account.kubeconfig.to_str().unwrap();
        let all = [
            "uninstall",
            "--namespace",
            "net",
            "--kubeconfig",
            kubeconfig,
        ];
        Running::start(&self.namespace, &[&all[..], arguments].concat())
    }

    fn get(&self, name: &str) -> Option<DaemonSet> {
        self.server.ask(async |client| {
            let sets: Api<DaemonSet> = Api::namespaced(client, "net");
            sets.get_opt(name).await.unwrap()
        })
    }

    /// The garbage collector lets a DaemonSet go when its pods have ended.
    fn collect(&self) {
        self.server.ask(async |client| {
            let sets: Api<DaemonSet> = Api::namespaced(client, "net");
            let set = sets.get("picket").await.unwrap();
            assert!(set.metadata.deletion_timestamp.is_some());
            assert_eq!(set.metadata.finalizers.unwrap(), ["foregroundDeletion"]);
            let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            let params = PatchParams::default();
            sets.patch("picket", &params, &none).await.unwrap();
        });
    }

    /// The controller has seen this generation, and so many of so many pods are ready.
    fn status(&self, generation: i64, ready: i32, all: i32) {
        self.server.ask(async |client| {
            let sets: Api<DaemonSet> = Api::namespaced(client, "net");
            let status = Patch::Merge(json!({"status": {
                "observedGeneration": generation, "desiredNumberScheduled": all, "currentNumberScheduled": all,
                "updatedNumberScheduled": all, "numberReady": ready, "numberMisscheduled": 0,
            }}));
            let params = PatchParams::default();
            sets.patch_status("clean", &params, &status).await.unwrap();
        });
    }

    /// A pod of a DaemonSet.
    fn pod(&self, set: &str, node: &str, status: &Value) {
        let uid = self.get(set).unwrap().metadata.uid.unwrap();
        let owner = json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": set, "uid": uid, "controller": true}]);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("{set}-{node}"), "namespace": "net", "labels": {"app": set}, "ownerReferences": owner},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "registry.example/picket:1"}]},
            "status": status,
        });
        self.server.apply(&pod.to_string());
    }
}

#[test]
fn the_agents_go_first_and_then_it_waits_for_every_node() {
    let mut world = World::new();
    let both = [
        "--daemonset",
        "picket",
        "--cleanup",
        "clean",
        "--timeout",
        "10m",
    ];
    let mut running = world.run(&both);
    let deleting = "DaemonSet net/picket is being deleted";
    assert_eq!(running.says().unwrap(), deleting);
    // It goes on, whatever becomes of the API server.
    world.server.kill(Program::ApiServer);
    world.server.run(Program::ApiServer);
    world.collect();
    let gone = "DaemonSet net/picket is gone, and its agents have ended";
    assert_eq!(running.says().unwrap(), gone);
    assert!(world.get("picket").is_none());
    let waiting = "waiting for the controller of DaemonSets";
    assert_eq!(running.says().unwrap(), waiting);
    // What it has seen before is of no use.
    world.status(0, 2, 2);
    world.status(1, 0, 2);
    assert_eq!(running.says().unwrap(), "0 of 2 nodes are cleaned up");
    world.status(1, 1, 2);
    assert_eq!(running.says().unwrap(), "1 of 2 nodes are cleaned up");
    world.status(1, 2, 2);
    let all = vec!["2 of 2 nodes are cleaned up".to_owned()];
    assert_eq!(running.ends(), (all.clone(), Some(0)));

    let again = world.run(&both).ends();
    let gone = vec!["DaemonSet net/picket is gone".to_owned()];
    assert_eq!(again, ([gone, all].concat(), Some(0)));
    world.status(1, 0, 0);
    let none = world.run(&["--cleanup", "clean"]).ends();
    assert_eq!(
        none,
        (vec!["there is no node to clean up".to_owned()], Some(0))
    );
}

#[test]
fn nodes_that_are_late_are_named() {
    let world = World::new();
    world.pod("picket", "n1", &json!({"phase": "Running"}));
    // Nothing is deleted where nobody would clean up.
    let without = world
        .run(&["--daemonset", "picket", "--cleanup", "other"])
        .ends();
    assert_eq!(without, (vec![], Some(2)));
    assert!(
        world
            .get("picket")
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_none()
    );

    let late = world
        .run(&["--daemonset", "picket", "--timeout", "1s"])
        .ends();
    assert_eq!(late.1, Some(1));
    let named = "  node n1: pod picket-n1 is not gone";
    assert_eq!(late.0.last().unwrap(), named);
    world.collect();

    let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    let failing = json!({"phase": "Pending", "initContainerStatuses": [
        {"name": "cleanup", "image": "", "imageID": "", "ready": false, "restartCount": 4,
         "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
    world.pod("clean", "n1", &ready);
    world.pod("clean", "n2", &failing);
    world.status(1, 1, 3);
    let late = world.run(&["--cleanup", "clean", "--timeout", "1s"]).ends();
    let said = [
        "1 of 3 nodes are cleaned up",
        "DaemonSet net/clean is not ready everywhere in time:",
        "  node n2: pod clean-n2 container cleanup: CrashLoopBackOff, see its log",
        "  nodes without a pod of it: 1",
    ];
    assert_eq!(late, (said.map(str::to_owned).to_vec(), Some(1)));

    // What is forbidden is not asked again.
    world.server.permit(&world.account, &[]);
    let forbidden = world.run(&["--cleanup", "clean", "--timeout", "1h"]).ends();
    assert_eq!(forbidden, (vec![], Some(2)));
}
