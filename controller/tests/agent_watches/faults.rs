//! What an API server, or what is on the way to it, may do.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use controller::agent::watches::{LIST_QUIET, QUIET};
use controller::kubernetes::Resource;
use serde_json::json;
use tokio::time::Instant;

use super::double::{Asks, Fault};
use super::world::{World, pod, policy};

#[tokio::test(start_paused = true)]
async fn what_is_forbidden_is_named_with_verb_and_resource_and_blocks_only_the_start() {
    let mut world = World::new();
    let message = "networkpolicies.networking.k8s.io is forbidden: User \"system:serviceaccount:kube-system:picket\" cannot watch resource";
    for _ in 0..3 {
        let forbidden = Fault::status(403, "Forbidden", message);
        world
            .double
            .fault(Resource::NetworkPolicies, Asks::Stream, forbidden);
    }
    world
        .until(|world| world.problems.contains_key("networkpolicies"))
        .await;
    let problem = world.problems["networkpolicies"].clone();
    assert!(problem.blocks);
    for part in [
        "forbids to watch networkpolicies.networking.k8s.io",
        "the ClusterRole",
        message,
    ] {
        assert!(problem.message.contains(part), "{part}: {problem:?}");
    }
    assert_eq!(
        (world.problems.len(), world.resets),
        (1, 0),
        "the others are well"
    );
    world
        .until(|world| world.resets == 1 && world.problems.is_empty())
        .await;

    world.double.end(false);
    let forbidden = Fault::status(403, "Forbidden", message);
    world.double.fault(Resource::Pods, Asks::Watch, forbidden);
    world
        .until(|world| world.problems.contains_key("pods"))
        .await;
    assert!(!world.problems["pods"].blocks, "what was in force stays");
    assert!(world.problems["pods"].message.contains("last heard "));
    world.until(|world| world.problems.is_empty()).await;
    assert_eq!((world.resets, world.names()), (1, vec!["web"]));
}

#[tokio::test(start_paused = true)]
async fn while_the_api_server_is_away_everything_stays_and_it_is_asked_less_and_less() {
    let mut world = World::complete().await;
    world.double.end(true);
    for _ in 0..40 {
        for asks in [Asks::Version, Asks::Watch] {
            world.double.fault(Resource::Pods, asks, Fault::Refused);
        }
    }
    let start = Instant::now();
    world
        .until(|world| world.problems.contains_key("pods"))
        .await;
    assert!(start.elapsed() < Duration::from_secs(2));
    let problem = world.problems["pods"].clone();
    assert!(
        problem.message.contains("cannot be reached") && problem.message.contains("refused"),
        "{problem:?}"
    );
    world.during(Duration::from_secs(300)).await;
    assert_eq!(world.problems["pods"], problem, "it is said once");
    let asked = world.double.asked(Resource::Pods, Asks::Version);
    assert!((8..=40).contains(&asked.len()), "{}", asked.len());
    let gaps: Vec<_> = asked
        .windows(2)
        .map(|pair| pair[1].at - pair[0].at)
        .collect();
    assert!(gaps.last().unwrap() >= &Duration::from_secs(15), "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= Duration::from_secs(31)));
    world.until(|world| world.problems.is_empty()).await;
    assert_eq!((world.resets, world.names()), (1, vec!["web"]));
    // Nothing was listed again.
    assert_eq!(world.double.asked(Resource::Pods, Asks::Stream).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_restarts_is_no_trouble_if_it_is_there_again() {
    let mut world = World::complete().await;
    for round in 0..5 {
        world.double.end(true);
        let name = format!("p{round}");
        world
            .double
            .put(Resource::Pods, pod(&name, &format!("10.0.3.{round}")));
        world.until(|world| world.has_pod(&name)).await;
    }
    assert!(world.problems.is_empty());
    assert_eq!(world.double.asked(Resource::Pods, Asks::Stream).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_stalls_is_given_up_and_goes_on_where_it_was() {
    let mut world = World::complete().await;
    world
        .double
        .quietly(|double| double.put(Resource::Pods, pod("missed", "10.0.0.4")));
    let start = Instant::now();
    world.until(|world| world.has_pod("missed")).await;
    let took = start.elapsed();
    assert!(
        took >= QUIET && took < QUIET + Duration::from_secs(5),
        "{took:?}"
    );
    assert!(world.problems.is_empty());
    assert_eq!(world.double.asked(Resource::Pods, Asks::Stream).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_says_each_minute_how_far_it_is_is_left_alone() {
    let mut world = World::complete().await;
    for _ in 0..20 {
        world.during(Duration::from_secs(60)).await;
        for resource in Resource::ALL {
            world.double.bookmark(resource);
        }
    }
    for resource in Resource::ALL {
        assert_eq!(world.double.watches(resource), 1);
        assert!(world.double.asked(resource, Asks::Watch).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_stalls_is_asked_for_again_in_pages() {
    let mut world = World::new();
    let event = json!({"type": "ADDED", "object": pod("other", "10.0.0.7")});
    world.double.fault(
        Resource::Pods,
        Asks::Stream,
        Fault::Stall(format!("{event}\n")),
    );
    let start = Instant::now();
    world
        .until(|world| world.problems.contains_key("pods"))
        .await;
    assert_eq!(start.elapsed(), LIST_QUIET);
    assert!(world.problems["pods"].message.contains("for 30 seconds"));
    world
        .until(|world| world.resets == 1 && world.problems.is_empty())
        .await;
    assert_eq!(world.names(), ["web"]);
    assert_eq!(world.double.asked(Resource::Pods, Asks::List).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let mut world = World::new();
    world
        .double
        .fault(Resource::Nodes, Asks::Stream, Fault::NoHead);
    let start = Instant::now();
    world
        .until(|world| world.problems.contains_key("nodes"))
        .await;
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    world.until(|world| world.resets == 1).await;
    assert!(start.elapsed() < Duration::from_secs(35));
}

#[test]
fn a_flood_of_bookmarks_on_one_watch_holds_up_no_other() {
    let (done, is_done) = mpsc::channel();
    // If it is held up, nothing in its runtime notices.
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(flooded());
        done.send(()).unwrap();
    });
    let waited = is_done.recv_timeout(Duration::from_secs(60));
    waited.expect("the other watches are held up");
}

async fn flooded() {
    let mut world = World::complete().await;
    let bookmark = json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "2000"}}});
    let flood = Fault::Flood(format!("{bookmark}\n"));
    let double = world.double.clone();
    double.fault(Resource::Namespaces, Asks::Watch, flood);
    double.end_of(Resource::Namespaces);
    while double.asked(Resource::Namespaces, Asks::Watch).is_empty() {
        world.during(Duration::from_millis(5)).await;
    }
    for round in 0..20 {
        let name = format!("p{round}");
        double.put(Resource::Pods, pod(&name, &format!("10.0.4.{round}")));
        double.put(Resource::NetworkPolicies, policy(&name));
        world.until(|world| world.has_pod(&name)).await;
    }
    let heard = r#"picket_watch_last_contact_timestamp_seconds{resource="namespaces"}"#;
    assert!(world.sample(heard) > 0.0);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_breaks_off_is_read_when_it_comes_whole() {
    let mut world = World::complete().await;
    world
        .double
        .quietly(|double| double.put(Resource::Pods, pod("cut", "10.0.0.4")));
    world.double.send(
        Resource::Pods,
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"cu",
    );
    world.double.end(false);
    world.until(|world| world.has_pod("cut")).await;
    assert!(world.problems.is_empty());
    // The same with an end of a line, as no API server sends it.
    world
        .double
        .quietly(|double| double.put(Resource::Pods, pod("torn", "10.0.0.5")));
    world.double.send(
        Resource::Pods,
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\n",
    );
    world.until(|world| world.has_pod("torn")).await;
    world.until(|world| world.problems.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_told_when_to_come_again_comes_then() {
    let mut world = World::complete().await;
    let body = "Too many requests, please try again later.".to_owned();
    let busy = Fault::Status(429, vec![("retry-after", "20".to_owned())], body);
    world.double.fault(Resource::Pods, Asks::Watch, busy);
    world.double.end(false);
    world
        .until(|world| world.problems.contains_key("pods"))
        .await;
    assert!(
        world.problems["pods"]
            .message
            .contains("429 Too many requests")
    );
    world.until(|world| world.problems.is_empty()).await;
    let asked = world.double.asked(Resource::Pods, Asks::Watch);
    let waited = world.double.asked(Resource::Pods, Asks::Version)[0].at - asked[0].at;
    assert!(
        waited >= Duration::from_secs(20) && waited <= Duration::from_secs(26),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_within_a_watch_is_told_and_the_watch_begun_again() {
    let mut world = World::complete().await;
    let status = json!({"type": "ERROR", "object": {"kind": "Status", "code": 500, "reason": "InternalError", "message": "etcd has no leader"}});
    world.double.send(Resource::Pods, &format!("{status}\n"));
    world
        .until(|world| world.problems.contains_key("pods"))
        .await;
    assert!(
        world.problems["pods"]
            .message
            .contains("500 InternalError etcd has no leader")
    );
    world.until(|world| world.problems.is_empty()).await;
    assert_eq!(world.double.asked(Resource::Pods, Asks::Stream).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_cuts_silent_connections_after_some_seconds_makes_no_watch_deaf() {
    let mut world = World::complete().await;
    for round in 0..20 {
        world.during(Duration::from_secs(20)).await;
        let asked = world.double.asked(Resource::NetworkPolicies, Asks::Watch);
        world.double.end(true);
        world.during(Duration::from_secs(2)).await;
        let again = world.double.asked(Resource::NetworkPolicies, Asks::Watch);
        assert!(again.len() > asked.len(), "round {round}");
    }
    assert_eq!(world.problems, [].into());
}
