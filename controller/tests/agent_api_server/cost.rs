//! Each of many watches of pods is told of every change; and what one more of them costs an API server: its processor time
//! and what it sends, for each change.
//!
//! `PICKET_COST_ROUNDS=5 cargo test -p controller --test agent_api_server costs -- --nocapture` measures it, for minutes.

use std::time::Duration;

use controller::kubernetes::{Access, Client, Resource, Selection};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use procfs::process::Process;
use serde_json::json;
use testbed::Namespace;

use crate::api_server::{ApiServer, Program};
use crate::restarts::setting;

/// So many watches at once, the first to compare with: of a measurement, and else.
const WATCHES: [usize; 3] = [1, 50, 200];
const FEW_WATCHES: [usize; 2] = [1, 5];

/// So many pods come and go in a round.
const PODS: usize = 40;

const QUIET: Duration = Duration::from_secs(60);

/// As large as one with an application and a sidecar.
fn pod(name: &str) -> Pod {
    let variables: Vec<_> = (0..12)
        .map(|n| json!({"name": format!("SETTING_{n}"), "value": "a value of some length"}))
        .collect();
    let container = |name: &str| {
        json!({
            "name": name, "image": format!("registry.example/team/{name}:v1.2.3"), "env": variables,
            "ports": [{"name": "http", "containerPort": 8080}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 5},
            "volumeMounts": [{"name": "config", "mountPath": "/etc/config"}],
        })
    };
    let pod = json!({
        "metadata": {"name": name, "labels": {"app": name, "team": "a", "version": "v1"}},
        "spec": {
            "nodeName": "n1",
            "containers": [container("app"), container("sidecar")],
            "volumes": [{"name": "config", "configMap": {"name": "config"}}],
        },
    });
    serde_json::from_value(pod).unwrap()
}

/// What a scheduler, a kubelet and whoever deletes it write of a pod.
async fn come_and_go(pods: &Api<Pod>, name: &str) {
    pods.create(&PostParams::default(), &pod(name))
        .await
        .unwrap();
    let steps = [
        json!({"phase": "Pending", "hostIP": "192.0.2.1"}),
        json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}),
        json!({"conditions": [{"type": "ContainersReady", "status": "True"}]}),
        json!({"conditions": [{"type": "Ready", "status": "True"}]}),
    ];
    for status in steps {
        let patch = Patch::Strategic(json!({"status": status}));
        let params = PatchParams::default();
        pods.patch_status(name, &params, &patch).await.unwrap();
    }
    let now = DeleteParams::default().grace_period(0);
    pods.delete(name, &now).await.unwrap();
}

/// What one watch of all pods is sent until so many were deleted: changes and bytes.
async fn watch(access: Access, begun: tokio::sync::mpsc::Sender<()>) -> (usize, usize) {
    let client = Client::new(access).await.unwrap();
    let selection = Selection::of_node(Resource::Pods, "n1");
    let path = selection.stream(Duration::from_secs(600));
    let mut lines = client.get(&path).await.unwrap();
    let (mut changes, mut bytes, mut gone) = (0, 0, 0);
    while gone < PODS {
        let line = lines.next(QUIET).await.unwrap().unwrap();
        let is = |kind: &str| line.starts_with(format!("{{\"type\":\"{kind}\"").as_bytes());
        if is("BOOKMARK") {
            begun.send(()).await.unwrap();
            continue;
        }
        changes += 1;
        bytes += line.len() + 1;
        gone += usize::from(is("DELETED"));
    }
    (changes, bytes)
}

/// The processor time of a process so far, in seconds.
fn time(id: u32) -> f64 {
    let stat = Process::new(id.cast_signed()).unwrap().stat().unwrap();
    (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
}

/// One round: processor time of the API server, changes, and bytes of each watch.
async fn round(server: &ApiServer, client: &kube::Client, count: usize) -> (f64, usize, usize) {
    let access = Access::Kubeconfig {
        path: server.administrator(),
        context: None,
    };
    let (begun, mut begins) = tokio::sync::mpsc::channel(count);
    let watches = (0..count).map(|_| tokio::spawn(watch(access.clone(), begun.clone())));
    let watches: Vec<_> = watches.collect();
    for _ in 0..count {
        begins.recv().await.unwrap();
    }
    let before = time(server.id(Program::ApiServer));
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    for number in 0..PODS {
        come_and_go(&pods, &format!("pod-{number}")).await;
    }
    let sent = join_all(watches).await;
    let took = time(server.id(Program::ApiServer)) - before;
    let (changes, bytes) = sent[0].as_ref().copied().unwrap();
    // Each pod is made, changed four times, asked to go, and gone.
    assert_eq!(changes, 7 * PODS);
    assert!(sent.iter().all(|sent| sent.as_ref().unwrap().0 == changes));
    (took, changes, bytes)
}

#[test]
fn each_watch_of_pods_is_told_of_every_change_and_what_it_costs_is_measured() {
    let rounds = setting("PICKET_COST_ROUNDS").map(|rounds| rounds as usize);
    let (counts, rounds) = match rounds {
        Some(rounds) => (&WATCHES[..], rounds.max(1)),
        None => (&FEW_WATCHES[..], 1),
    };
    let node = Namespace::new().unwrap();
    node.ip(&["link", "set", "lo", "up"]).unwrap();
    let server = ApiServer::start(&node);
    server.apply("{apiVersion: v1, kind: Namespace, metadata: {name: default}}");
    server.ask(async |client| {
        round(&server, &client, 1).await;
        let mut first = Vec::new();
        for &count in counts {
            let mut each = Vec::new();
            for _ in 0..rounds {
                let (took, changes, bytes) = round(&server, &client, count).await;
                let of_change = took / changes as f64 * 1e6;
                println!(
                    "{count:4} watches: {changes} changes of {} bytes, {of_change:7.0} us of processor time each",
                    bytes / changes
                );
                each.push(of_change);
            }
            each.sort_by(f64::total_cmp);
            let [least, middle, most] = [0, rounds / 2, rounds - 1].map(|index| each[index]);
            println!("{count:4} watches: least {least:.0}, median {middle:.0}, most {most:.0}");
            if first.is_empty() {
                first = each;
                continue;
            }
            let of_one = |of: f64, one: f64| (of - one) / (count - 1) as f64;
            println!(
                "     one more watch: {:.1} to {:.1} us of a change, median {:.1}; {:.3} of what a change costs with one",
                of_one(least, first[rounds - 1]),
                of_one(most, first[0]),
                of_one(middle, first[rounds / 2]),
                of_one(middle, first[rounds / 2]) / first[rounds / 2],
            );
        }
    });
}
