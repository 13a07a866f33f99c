//! A kubeconfig that comes to name another cluster.

use std::fs;
use std::path::Path;
use std::time::Duration;

use controller::agent::source::{Change, Event, Source};
use controller::agent::watches::Watches;
use controller::kubernetes::{Access, Resource};
use tokio::time::timeout;

use super::double::{Asks, Fault};
use super::rotation::{Server, folder, kubeconfig, until, until_pod, watch};
use super::world::{NODE, pod, policy};

/// Writes a kubeconfig that names the server.
fn name(server: &Server, folder: &Path) -> Access {
    let text = kubeconfig(&format!("http://{}", server.address), "", "token: t");
    let path = folder.join("config");
    fs::write(&path, text).unwrap();
    let context = None;
    Access::Kubeconfig { path, context }
}

async fn started(server: &Server, folder: &Path) -> Watches {
    let mut watches = watch(name(server, folder)).await;
    let is_start = |event: &Event| matches!(event, Event::Reset(_));
    until(&mut watches, "a start", is_start).await;
    watches
}

/// The next changes, and what was named as wrong before them.
async fn changes(watches: &mut Watches) -> (Vec<String>, Vec<String>) {
    let mut wrong = Vec::new();
    loop {
        let event = timeout(Duration::from_secs(60), watches.next()).await;
        match event.expect("changes") {
            Event::Changes(changes) => {
                let change = |change: Change| match change {
                    Change::Apply(object) => format!("{} is there", object.id()),
                    Change::Delete(id) => format!("{id} is gone"),
                };
                return (changes.into_iter().map(change).collect(), wrong);
            }
            Event::Problems(problems) => wrong.extend(problems.into_keys()),
            Event::Reset(_) => panic!("there is one reset"),
        }
    }
}

/// Another than the first, which has objects that the second has not, and the reverse.
async fn two() -> (Server, Server) {
    let (one, two) = (Server::start().await, Server::start().await);
    one.double.set_version(1000);
    for (server, app) in [(&one, "old"), (&two, "new")] {
        server.double.put(Resource::Pods, pod(app, "10.0.0.8"));
        server.double.put(Resource::NetworkPolicies, policy(app));
    }
    (one, two)
}

#[tokio::test]
async fn another_cluster_counts_when_all_of_it_is_listed_and_then_at_once() {
    let (one, two) = two().await;
    let folder = folder("moved");
    let mut watches = started(&one, &folder).await;
    for _ in 0..2 {
        let forbidden = Fault::status(403, "Forbidden", "not yet");
        let policies = Resource::NetworkPolicies;
        two.double.fault(policies, Asks::Stream, forbidden);
    }
    name(&two, &folder);
    // The first request shows it, and all watches follow.
    one.double.end_of(Resource::Pods);
    let (changes, wrong) = changes(&mut watches).await;
    assert_eq!(
        changes,
        [
            "Pod shop/new is there",
            "Pod shop/old is gone",
            "NetworkPolicy shop/new is there",
            "NetworkPolicy shop/old is gone",
        ]
    );
    assert!(wrong.contains(&"networkpolicies".to_owned()), "{wrong:?}");
    assert!(wrong.contains(&"API server".to_owned()), "{wrong:?}");
    for resource in Resource::ALL {
        assert_eq!(one.double.watches(resource), 0, "{resource}");
        // Nobody asked for what comes after a version of the other.
        for asks in [Asks::Watch, Asks::Version] {
            assert!(two.double.asked(resource, asks).is_empty(), "{resource}");
        }
    }
    until_pod(&mut watches, &two, "later").await;
}

#[tokio::test]
async fn another_cluster_without_the_node_does_not_count_and_the_one_before_may_come_again() {
    let (one, two) = two().await;
    two.double.remove(Resource::Nodes, &format!("/{NODE}"));
    let folder = folder("moved-back");
    let mut watches = started(&one, &folder).await;
    name(&two, &folder);
    one.double.end_of(Resource::Pods);
    let has_no_node = |event: &Event| match event {
        Event::Problems(problems) => problems.values().any(|problem| {
            let message = &problem.message;
            !problem.blocks && message.contains(&format!("there is no Node {NODE}"))
        }),
        other => panic!("{other:?}"),
    };
    until(&mut watches, "a missing node", has_no_node).await;
    one.double.remove(Resource::Pods, "shop/old");
    name(&one, &folder);
    two.double.end_of(Resource::Pods);
    let (changes, _) = changes(&mut watches).await;
    assert_eq!(changes, ["Pod shop/old is gone"]);
    until_pod(&mut watches, &one, "later").await;
}
