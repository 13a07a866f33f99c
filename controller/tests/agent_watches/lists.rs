//! How all there is becomes known, and becomes known again.

use std::collections::BTreeSet;
use std::time::Duration;

use controller::agent::source::{Change, Event};
use controller::kubernetes::Resource;
use policy_compiler::index::ObjectId;
use serde_json::json;

use super::double::{Asks, Double, Fault, NoStreams};
use super::world::{NODE, World, namespace, node, pod, policy};

#[tokio::test(start_paused = true)]
async fn nothing_is_told_before_all_four_kinds_are_there_and_then_all_of_it_at_once() {
    let mut world = World::new();
    for resource in [
        Resource::NetworkPolicies,
        Resource::Pods,
        Resource::Nodes,
        Resource::Namespaces,
    ] {
        world.double.fault(resource, Asks::Stream, Fault::Refused);
        world.double.fault(resource, Asks::Stream, Fault::Refused);
    }
    world.until(|world| world.resets == 1).await;
    let all = [
        ObjectId::Namespace("shop".to_owned()),
        ObjectId::Node(NODE.to_owned()),
        ObjectId::Pod(policy_compiler::model::NamespacedName::new("shop", "web")),
        ObjectId::NetworkPolicy(policy_compiler::model::NamespacedName::new("shop", "web")),
    ];
    assert!(
        all.iter().all(|id| world.objects.contains_key(id)),
        "{:?}",
        world.objects
    );
    let told = world.events.iter().map_while(|event| match event {
        Event::Reset(_) => None,
        Event::Problems(problems) => Some(problems.keys()),
        Event::Changes(changes) => panic!("{changes:?}"),
    });
    let told: BTreeSet<_> = told.flatten().map(String::as_str).collect();
    for resource in Resource::ALL {
        let name = resource.name();
        assert!(told.contains(name), "{name} was a problem first: {told:?}");
    }
    world.until(|world| world.problems.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_the_cluster_does_not_have_blocks_the_start_and_not_what_follows() {
    let mut world = World::new();
    world.double.remove(Resource::Nodes, &format!("/{NODE}"));
    world
        .until(|world| world.problems.contains_key("nodes"))
        .await;
    let problem = &world.problems["nodes"];
    assert!(
        problem.blocks && problem.message.contains("there is no Node node-1"),
        "{problem:?}"
    );
    world.during(Duration::from_secs(600)).await;
    assert_eq!(world.resets, 0);
    world.double.put(Resource::Nodes, node(NODE));
    world
        .until(|world| world.resets == 1 && world.problems.is_empty())
        .await;
    world.double.remove(Resource::Nodes, &format!("/{NODE}"));
    world
        .until(|world| !world.objects.contains_key(&ObjectId::Node(NODE.to_owned())))
        .await;
    assert!(world.has_pod("web"));
}

#[tokio::test(start_paused = true)]
async fn lists_stream_consistently_and_pods_that_ended_are_not_asked_for() {
    let world = World::complete().await;
    for resource in Resource::ALL {
        let asked = world.double.asked(resource, Asks::Stream);
        assert_eq!(asked.len(), 1, "{resource}");
        let query = &asked[0].query;
        assert!(
            !query.contains_key("resourceVersion"),
            "as new as etcd: {query:?}"
        );
        assert_eq!(query["allowWatchBookmarks"], "true");
        assert_eq!(query["resourceVersionMatch"], "NotOlderThan");
        let fields = query.get("fieldSelector").map(String::as_str);
        let expected = match resource {
            Resource::Pods => Some("status.phase!=Succeeded,status.phase!=Failed"),
            Resource::Nodes => Some("metadata.name=node-1"),
            Resource::Namespaces | Resource::NetworkPolicies => None,
        };
        assert_eq!(fields, expected);
        assert!(world.double.asked(resource, Asks::List).is_empty());
    }
}

async fn lists_pages(how: NoStreams) {
    let mut world = World::new();
    world.double.has_no_streams(how);
    world.double.pages_of(2);
    for index in 0..5 {
        world.double.put(
            Resource::Pods,
            pod(&format!("p{index}"), &format!("10.0.1.{index}")),
        );
    }
    if matches!(how, NoStreams::Ignores) {
        let double = world.double.clone();
        tokio::spawn(async move {
            // As it says each minute how far it is.
            loop {
                tokio::time::sleep(Duration::from_secs(20)).await;
                for resource in Resource::ALL {
                    double.bookmark(resource);
                }
            }
        });
    }
    world.until(|world| world.resets == 1).await;
    assert_eq!(world.names().len(), 6);
    let pages = world.double.asked(Resource::Pods, Asks::List);
    let next = pages
        .iter()
        .map(|asked| asked.query.get("continue").map(String::as_str));
    assert_eq!(next.collect::<Vec<_>>(), [None, Some("2"), Some("4")]);
    assert_eq!(pages[0].query["limit"], "500");
    world.double.put(Resource::Pods, pod("more", "10.0.2.1"));
    world.until(|world| world.has_pod("more")).await;
    // It is known from now on.
    world.double.compact();
    world.double.end(false);
    world
        .double
        .quietly(|double| double.remove(Resource::Pods, "shop/more"));
    world.double.compact();
    world.until(|world| !world.has_pod("more")).await;
    assert_eq!(world.double.asked(Resource::Pods, Asks::Stream).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_streaming_lists_are_refused_pages_are_listed() {
    lists_pages(NoStreams::Refuses).await;
}

#[tokio::test(start_paused = true)]
async fn where_streaming_lists_are_not_known_pages_are_listed() {
    lists_pages(NoStreams::Ignores).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_version_is_forgotten_between_two_pages_is_begun_anew() {
    let mut world = World::new();
    world.double.has_no_streams(NoStreams::Refuses);
    world.double.pages_of(1);
    world.double.put(Resource::Pods, pod("api", "10.0.0.2"));
    let gone = Fault::status(410, "Expired", "The provided continue parameter is too old");
    let first = json!({"metadata": {"resourceVersion": "1001", "continue": "1"}, "items": [pod("old", "10.0.0.9")]});
    let first = Fault::Text(first.to_string());
    world.double.fault(Resource::Pods, Asks::List, first);
    world.double.fault(Resource::Pods, Asks::List, gone);
    world.until(|world| world.resets == 1).await;
    assert_eq!(world.names(), ["api", "web"]);
    let pages = world.double.asked(Resource::Pods, Asks::List);
    let next = pages
        .iter()
        .map(|asked| asked.query.get("continue").map(String::as_str));
    assert_eq!(next.collect::<Vec<_>>(), [None, Some("1"), None, Some("1")]);
}

#[tokio::test(start_paused = true)]
async fn a_list_page_with_truncated_json_is_asked_for_again() {
    let mut world = World::new();
    world.double.has_no_streams(NoStreams::Refuses);
    let text = r#"{"metadata":{"resourceVersion":"1"},"items":[{"metadata":{"na"#;
    world
        .double
        .fault(Resource::Pods, Asks::List, Fault::Text(text.to_owned()));
    world
        .until(|world| world.problems.contains_key("pods"))
        .await;
    assert!(world.problems["pods"].message.contains("cannot be read"));
    world
        .until(|world| world.resets == 1 && world.problems.is_empty())
        .await;
    assert_eq!(world.names(), ["web"]);
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_that_ends_or_expires_in_the_middle_is_not_believed() {
    let mut world = World::new();
    let other = json!({"type": "ADDED", "object": pod("other", "10.0.0.7")});
    let gone =
        json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}});
    world.double.fault(
        Resource::Pods,
        Asks::Stream,
        Fault::Text(format!("{other}\n")),
    );
    world.double.fault(
        Resource::Pods,
        Asks::Stream,
        Fault::Text(format!("{other}\n{gone}\n")),
    );
    world.until(|world| world.resets == 1).await;
    assert_eq!(world.names(), ["web"]);
    assert_eq!(world.double.asked(Resource::Pods, Asks::Stream).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_expired_is_listed_again_and_what_is_gone_is_found_without_passing_through_nothing()
 {
    let mut world = World::complete().await;
    world.double.put(Resource::Pods, pod("api", "10.0.0.2"));
    world.double.put(Resource::NetworkPolicies, policy("api"));
    world
        .until(|world| world.has_pod("api") && world.objects.len() == 6)
        .await;
    let before = world.events.len();
    world.double.quietly(|double| {
        double.remove(Resource::Pods, "shop/api");
        double.put(Resource::Pods, pod("db", "10.0.0.3"));
        double.remove(Resource::NetworkPolicies, "shop/api");
    });
    world.double.compact();
    let gone = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}});
    for resource in Resource::ALL {
        world.double.send(resource, &format!("{gone}\n"));
    }
    world
        .until(|world| world.has_pod("db") && world.objects.len() == 5)
        .await;
    assert_eq!(world.names(), ["db", "web"]);
    assert_eq!(world.resets, 1);
    // Only what differs is told.
    let changes = world.events[before..]
        .iter()
        .filter_map(|event| match event {
            Event::Changes(changes) => Some(changes),
            _ => None,
        });
    let told: Vec<_> = changes.flatten().collect();
    let deleted = told
        .iter()
        .filter(|change| matches!(change, Change::Delete(_)));
    assert_eq!((told.len(), deleted.count()), (3, 2), "{told:?}");
    assert!(world.problems.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_goes_on_where_it_was() {
    let mut world = World::complete().await;
    world.double.end(false);
    world
        .double
        .quietly(|double| double.remove(Resource::Pods, "shop/web"));
    world.until(|world| world.names().is_empty()).await;
    assert_eq!(world.double.asked(Resource::Pods, Asks::Stream).len(), 1);
    let asked = world.double.asked(Resource::Pods, Asks::Watch);
    assert_eq!(asked[0].query["resourceVersion"], "1004");
    let seconds: u64 = asked[0].query["timeoutSeconds"].parse().unwrap();
    assert!((300..=600).contains(&seconds));
    assert!(world.problems.is_empty());
    let restarts = r#"picket_watch_restarts_total{resource="pods"}"#;
    assert!(world.sample(restarts) >= 1.0);
    let heard = r#"picket_watch_last_contact_timestamp_seconds{resource="pods"}"#;
    assert!(world.sample(heard) > 1.0);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_twice_or_says_nothing_new_is_no_news() {
    let mut world = World::complete().await;
    let before = world.events.len();
    world.double.put(Resource::Pods, pod("web", "10.0.0.1"));
    let mut noisy = pod("web", "10.0.0.1");
    noisy["metadata"]["managedFields"] = json!([{"manager": "kubelet"}]);
    noisy["status"]["conditions"] = json!([{"type": "Ready", "lastProbeTime": "now"}]);
    world.double.put(Resource::Pods, noisy);
    world.double.put(Resource::Namespaces, namespace("other"));
    world.until(|world| world.objects.len() == 5).await;
    world.during(Duration::from_secs(5)).await;
    assert_eq!(world.events.len(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_restored_to_an_older_state_is_noticed_and_listed_again() {
    let mut world = World::complete().await;
    world.double.set_version(5000);
    world.double.put(Resource::Pods, pod("new", "10.0.0.5"));
    world.double.put(Resource::NetworkPolicies, policy("new"));
    world.until(|world| world.objects.len() == 6).await;
    let restored = |double: &Double| {
        double.put(Resource::Namespaces, namespace("shop"));
        double.put(Resource::Nodes, node(NODE));
        double.put(Resource::Pods, pod("web", "10.0.0.1"));
        double.put(Resource::Pods, pod("old", "10.0.0.6"));
        double.put(Resource::NetworkPolicies, policy("web"));
    };
    world.double.end(true);
    world.double.restore(2000, restored);
    world
        .until(|world| world.names() == ["old", "web"] && world.objects.len() == 5)
        .await;
    assert_eq!(world.resets, 1);
    // And it goes on from there.
    world.double.put(Resource::Pods, pod("late", "10.0.0.8"));
    world.until(|world| world.has_pod("late")).await;
}

#[tokio::test(start_paused = true)]
async fn a_version_from_before_is_proof_of_a_restored_store_whatever_it_grows_to() {
    let mut world = World::complete().await;
    world.double.set_version(5000);
    world.double.put(Resource::Pods, pod("lost", "10.0.0.5"));
    world.until(|world| world.has_pod("lost")).await;
    // It goes back, somebody hears of it, and it has grown past what was known before anybody asks.
    let restored = |double: &Double| {
        double.put(Resource::Namespaces, namespace("shop"));
        double.put(Resource::Nodes, node(NODE));
        double.put(Resource::Pods, pod("web", "10.0.0.1"));
        double.put(Resource::NetworkPolicies, policy("web"));
    };
    let older = r#"{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "2001"}}}"#;
    for resource in Resource::ALL {
        world.double.send(resource, &format!("{older}\n"));
    }
    world
        .double
        .quietly(|double| double.restore(9000, restored));
    world.until(|world| world.names() == ["web"]).await;
    assert_eq!(world.resets, 1);
}
