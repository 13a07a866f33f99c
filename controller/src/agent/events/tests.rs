//! What is sent to an API server in this process, by a clock that does not wait.

use std::collections::BTreeMap;
use std::sync::Mutex;

use http_body_util::BodyExt;
use hyper::{Method, Response, StatusCode};
use kube::client::Body;
use policy_compiler::budget::{self, Budgets};
use policy_compiler::evaluate::NodeEgress;
use policy_compiler::index::{Index, Object};
use policy_compiler::lower::Options;
use policy_compiler::model::NamespacedName;
use policy_compiler::validate;
use serde_json::{Value, json};
use tower::service_fn;

use super::notes::Reason;
use super::*;

/// `db` and `far` select a pod each; that of `far` is on another node, and `none` selects nobody.
const CLUSTER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: n1, containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host, namespace: shop, labels: {app: host}}
spec: {nodeName: n1, hostNetwork: true, containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: shop, labels: {app: far}}
spec: {nodeName: n2, containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.0.1.1, podIPs: [{ip: 10.0.1.1}]}
";

fn snapshot(limit: usize, refused: &[(&str, &str)]) -> Arc<Snapshot> {
    let mut text = CLUSTER.to_owned();
    for app in ["db", "host", "far", "none"] {
        text.push_str(&format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {app}, namespace: shop}}\n\
             spec: {{podSelector: {{matchLabels: {{app: {app}}}}}, ingress: [{{ports: [{{port: 80}}]}}]}}\n"
        ));
    }
    let loaded = crate::source::load_bytes([("cluster.yaml", text.as_bytes())]).unwrap();
    let cluster = crate::cluster::build(&loaded, validate::Options::default()).unwrap();
    let mut budgets = Budgets::default();
    budgets.set(budget::Resource::Rules, limit);
    let mut index = Index::new("n1", Options::default(), budgets);
    let namespaces = cluster.namespaces.into_values().map(Object::Namespace);
    let pods = cluster.pods.into_values().map(Object::Pod);
    let policies = cluster.policies.into_values().map(Object::NetworkPolicy);
    index.reset(namespaces.chain(pods).chain(policies));
    index.update();
    let id = |name: &str| NamespacedName::new("shop", name);
    let refused = refused.iter();
    Arc::new(Snapshot {
        node: "n1".to_owned(),
        node_egress: NodeEgress::Allow,
        preflight: Vec::new(),
        ready: true,
        cluster: index.cluster().clone(),
        effective: index.effective(),
        ruleset: index.ruleset().clone(),
        generation: 1,
        exceeded: index.exceeded().clone(),
        closed: index.closed().clone(),
        unprotected: [].into(),
        refused: refused
            .map(|(name, words)| (id(name), (*words).to_owned()))
            .collect(),
        problems: BTreeMap::new(),
        failure: None,
        drift_repairs: 0,
        drift_alarm: false,
        last_success: None,
        interfaces: Default::default(),
        unknown: Default::default(),
        attachments: Default::default(),
        attached: Default::default(),
    })
}

const ALL: usize = 1000;

#[test]
fn only_policies_that_select_a_pod_of_this_node_are_spoken_of() {
    assert!(notes(&snapshot(ALL, &[])).is_empty());
    let all = [
        ("db", "ENOMEM"),
        ("host", "a"),
        ("far", "b"),
        ("none", "c"),
        ("gone", "d"),
    ];
    let refused = notes(&snapshot(ALL, &all));
    let names: Vec<_> = refused.keys().map(|subject| &subject.policy.name).collect();
    assert_eq!(names, ["db"]);
    let note = refused.values().next().unwrap();
    assert!(
        note.contains("isolates") && note.contains("ENOMEM"),
        "{note}"
    );
    let over = notes(&snapshot(0, &[("db", "ENOMEM")]));
    let over: Vec<_> = over
        .keys()
        .map(|subject| (&*subject.policy.name, subject.reason))
        .collect();
    assert_eq!(over, [("db", Reason::Refused), ("db", Reason::OverBudget)]);
}

/// An API server that takes Events, or answers this status.
#[derive(Clone, Default)]
struct Double {
    status: Arc<Mutex<Option<u16>>>,
    asked: Arc<Mutex<Vec<(Method, String, Value)>>>,
}

impl Double {
    fn sender(&self, snapshots: watch::Receiver<Arc<Snapshot>>, metrics: Metrics) -> Sender {
        let double = self.clone();
        let service =
            service_fn(move |request: hyper::Request<Body>| double.clone().answer(request));
        let client = Client::fixed(kube::Client::new(service, "default"));
        Sender::new(Asked::By(Box::new(client)), snapshots, metrics)
    }

    async fn answer(
        self,
        request: hyper::Request<Body>,
    ) -> Result<Response<Body>, std::convert::Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let is_write = head.method != Method::GET;
        let is_patch = head.method == Method::PATCH;
        if is_write {
            let asked = (head.method, head.uri.path().to_owned(), body);
            self.asked.lock().unwrap().push(asked);
        }
        // Who makes an Event finds it.
        let applies = |code: &u16| is_write && (*code != 404 || is_patch);
        let status = self.status.lock().unwrap().filter(applies);
        let answer = match (status, is_write) {
            (Some(code), _) => json!({"kind": "Status", "code": code, "message": "no"}),
            (None, true) => json!({"metadata": {"name": "picket-abc"}}),
            (None, false) => json!({
                "metadata": {"resourceVersion": "1"},
                "items": [{"metadata": {"name": "db", "uid": "the-uid"}}],
            }),
        };
        let mut answer = Response::new(Body::from(answer.to_string().into_bytes()));
        *answer.status_mut() = StatusCode::from_u16(status.unwrap_or(200)).unwrap();
        Ok(answer)
    }

    fn set(&self, status: Option<u16>) {
        *self.status.lock().unwrap() = status;
    }

    fn taken(&self) -> Vec<(Method, String, Value)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

const EVENTS_PATH: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";

#[tokio::test(start_paused = true)]
async fn what_lasts_is_posted_once_and_patched_each_half_hour() {
    let double = Double::default();
    let (publish, snapshots) = watch::channel(snapshot(ALL, &[("db", "ENOMEM")]));
    let sender = tokio::spawn(double.sender(snapshots, Metrics::new()).run());
    sleep(Duration::from_secs(29 * 60)).await;
    let posted = double.taken();
    assert_eq!(posted.len(), 1, "{posted:?}");
    let (method, path, event) = &posted[0];
    assert_eq!((method, path.as_str()), (&Method::POST, EVENTS_PATH));
    assert_eq!(event["regarding"]["uid"], "the-uid");
    sleep(Duration::from_secs(2 * 60)).await;
    let patched = double.taken();
    assert_eq!(patched.len(), 1, "{patched:?}");
    let (method, path, patch) = &patched[0];
    assert_eq!(method, Method::PATCH);
    assert_eq!(*path, format!("{EVENTS_PATH}/picket-abc"));
    assert_eq!(patch["series"]["count"], 2);
    // An Event that the API server has forgotten is made anew.
    double.set(Some(404));
    sleep(Duration::from_secs(29 * 60 + 30)).await;
    let methods = |asked: Vec<(Method, String, Value)>| -> Vec<_> {
        asked.into_iter().map(|(method, ..)| method).collect()
    };
    sleep(Duration::from_secs(60)).await;
    assert_eq!(methods(double.taken()), [Method::PATCH, Method::POST]);
    // When it is over nothing is sent.
    publish.send_replace(snapshot(ALL, &[]));
    sleep(Duration::from_secs(86400)).await;
    assert_eq!(methods(double.taken()), [Method::GET; 0]);
    drop(publish);
    sender.await.unwrap();
}

/// How often it is tried within an hour while this is answered, and that it goes on within `until` afterwards.
async fn tried(status: u16, until: Duration) -> usize {
    let double = Double::default();
    double.set(Some(status));
    let metrics = Metrics::new();
    let (_publish, snapshots) = watch::channel(snapshot(ALL, &[("db", "ENOMEM")]));
    tokio::spawn(double.sender(snapshots.clone(), metrics.clone()).run());
    sleep(Duration::from_secs(10)).await;
    let soon = double.taken().len();
    assert!((3..=7).contains(&soon), "{soon}");
    sleep(Duration::from_secs(3590)).await;
    let tried = soon + double.taken().len();
    double.set(None);
    sleep(until).await;
    assert_eq!(double.taken().len(), 1);
    let text = metrics.text(&snapshots.borrow()).unwrap();
    assert!(
        text.contains("picket_events_total{result=\"sent\"} 1\n"),
        "{text}"
    );
    assert!(
        text.contains(&format!("result=\"failed\"}} {tried}\n")),
        "{text}"
    );
    tried
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_tried_less_and_less_and_then_goes_on() {
    // Each after 15 to 30 seconds.
    let tried = tried(500, Duration::from_secs(60)).await;
    assert!((120..=250).contains(&tried), "{tried}");
}

#[tokio::test(start_paused = true)]
async fn what_is_forbidden_is_soon_tried_again_and_then_every_ten_minutes() {
    // Each after 5 to 10 minutes.
    let tried = tried(403, Duration::from_secs(600)).await;
    assert!((14..=28).contains(&tried), "{tried}");
}
