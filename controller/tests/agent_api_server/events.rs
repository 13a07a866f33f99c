//! Policies that are not in force as they were asked for have Events.

use controller::agent::events::{path, series};
use controller::kubernetes;
use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::ListParams;

use crate::cluster::{Cluster, EVENTS, without};
use crate::manifests::NODE;

/// Of the namespace `x` every policy that selects a local pod needs more.
const BUDGET: [&str; 2] = ["--budget", "rules=0"];

/// `d` is on this node, `g` is not.
fn policy(name: &str, app: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: x}}\n\
         spec: {{podSelector: {{matchLabels: {{app: {app}}}}}, ingress: [{{ports: [{{port: 81}}]}}]}}\n"
    )
}

/// What is said of the policy.
pub(crate) fn events(cluster: &Cluster, policy: &str) -> Vec<Event> {
    let all = cluster.server.ask(async |client| {
        let events: Api<Event> = Api::namespaced(client, "x");
        events.list(&ListParams::default()).await.unwrap().items
    });
    let is_of = |event: &Event| {
        let regarding = event.regarding.as_ref().unwrap();
        regarding.name.as_deref() == Some(policy)
    };
    all.into_iter().filter(is_of).collect()
}

pub(crate) fn uid(cluster: &Cluster, policy: &str) -> String {
    cluster.server.ask(async |client| {
        let policies: Api<NetworkPolicy> = Api::namespaced(client, "x");
        policies.get(policy).await.unwrap().metadata.uid.unwrap()
    })
}

#[test]
fn a_policy_over_budget_has_one_event_and_no_flood_of_them() {
    let mut cluster = Cluster::with(&BUDGET);
    cluster.put("far", &policy("far", "g"));
    let agent = cluster.start();
    cluster.until("it is ready", &agent, |cluster| cluster.is_ready());
    // Each change is a snapshot that says it again, and each policy's Event is behind those of what changed before.
    for name in ["base", "one", "two", "three"] {
        if name != "base" {
            cluster.put(name, &policy(name, "d"));
        }
        cluster.until(&format!("{name} has an Event"), &agent, |cluster| {
            !events(cluster, name).is_empty()
        });
    }
    let of_base = events(&cluster, "base");
    assert_eq!(of_base.len(), 1, "{of_base:#?}");
    let event = &of_base[0];
    assert_eq!(event.series, None);
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    assert_eq!(event.reason.as_deref(), Some("OverBudget"));
    assert_eq!(event.reporting_controller.as_deref(), Some("picket"));
    let instance = format!("picket-{NODE}");
    assert_eq!(event.reporting_instance.as_ref(), Some(&instance));
    let note = event.note.as_deref().unwrap();
    assert!(note.contains("rules") && note.contains("budget"), "{note}");
    let regarding = event.regarding.as_ref().unwrap();
    let uid = uid(&cluster, "base");
    assert_eq!(regarding.uid.as_ref(), Some(&uid));
    assert_eq!(regarding.kind.as_deref(), Some("NetworkPolicy"));
    // Another node's.
    assert!(events(&cluster, "far").is_empty());
    let sent = cluster.live.metric("picket_events_total{result=\"sent\"}");
    assert_eq!(sent, 4.0);

    // As `kubectl describe` asks.
    let described = cluster.server.ask(async |client| {
        let events: Api<v1::Event> = Api::namespaced(client, "x");
        let of = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        events.list(&of).await.unwrap().items
    });
    assert_eq!(described.len(), 1);

    // What half an hour later is sent is taken, with these rights.
    let path = path("x", event.metadata.name.as_deref());
    cluster
        .server
        .ask_as(&cluster.account.kubeconfig, async |client| {
            let client = kubernetes::Client::fixed(client);
            client
                .merge(&path, &series(2, Timestamp::now()))
                .await
                .unwrap();
        });
    let of_base = events(&cluster, "base");
    assert_eq!(of_base[0].series.as_ref().unwrap().count, 2);
}

#[test]
fn an_agent_that_may_not_send_events_says_so_and_enforces() {
    let mut cluster = Cluster::with(&BUDGET);
    cluster.server.permit(&cluster.account, &without(&EVENTS));
    let agent = cluster.start();
    let words = "forbids to create events.events.k8s.io";
    cluster.until("it says what it may not", &agent, |_| {
        agent.log().contains(words)
    });
    let failed = "picket_events_total{result=\"failed\"}";
    cluster.until("it tries again", &agent, |cluster| {
        cluster.live.metric(failed) > 2.0
    });
    assert!(cluster.is_ready(), "{}", agent.log());
    let log = agent.log();
    assert_eq!(log.matches(words).count(), 1, "{log}");
    // Once it may, it goes on by itself.
    cluster.server.permit(&cluster.account, &without(&[]));
    cluster.until("the policy has an Event", &agent, |cluster| {
        !events(cluster, "base").is_empty()
    });
    cluster.until("it says so", &agent, |_| {
        agent.log().contains("Events are sent again")
    });
}
