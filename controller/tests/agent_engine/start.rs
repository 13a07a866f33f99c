//! What is in force when an agent starts.

use std::collections::BTreeMap;
use std::time::Duration;

use controller::agent::source::{Change, Event, Problem};
use kernel::{Object, Unknown};
use policy_compiler::ruleset::TableFamily;

use super::world::{CLUSTER, Fake, World, cluster_of, objects, policy, sorted, wanted};

#[tokio::test(start_paused = true)]
async fn nothing_is_programmed_before_the_first_complete_state() {
    let mut world = World::start(Fake::default());
    let problem = Problem {
        message: "a.yaml: broken".to_owned(),
        blocks: true,
    };
    let problems = BTreeMap::from([("a.yaml".to_owned(), problem)]);
    world
        .events
        .send(Event::Problems(problems.clone()))
        .unwrap();
    let snapshot = world.until(|snapshot| !snapshot.problems.is_empty()).await;
    assert!(!snapshot.ready);
    // Also a day later, and whatever others do.
    world.kernel.changed_by_others(|_| {});
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert_eq!(
        world.kernel.with(|state| (state.reads, state.plans.len())),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_the_source_does_not_have_takes_nothing_out_of_force() {
    let mut world = World::start(Fake::default());
    let elsewhere = cluster_of(&CLUSTER.replace("n1", "n3"));
    world
        .events
        .send(Event::Reset(objects(&elsewhere)))
        .unwrap();
    let blocked = world.until(|snapshot| snapshot.failure.is_some()).await;
    assert!(!blocked.ready);
    assert!(
        blocked
            .failure
            .as_ref()
            .unwrap()
            .contains("there is no node n1")
    );
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    let touched = world.kernel.with(|state| (state.reads, state.plans.len()));
    assert_eq!(touched, (1, 0));
    let cluster = cluster_of(CLUSTER);
    world.events.send(Event::Reset(objects(&cluster))).unwrap();
    let ready = world.until(|snapshot| snapshot.ready).await;
    assert_eq!(ready.failure, None);
    assert!(sorted(world.held()) == sorted(wanted(&cluster)));
}

#[tokio::test(start_paused = true)]
async fn the_first_state_is_applied_whole_and_every_connection_judged() {
    let (world, cluster) = World::ready().await;
    assert!(sorted(world.held()) == sorted(wanted(&cluster)));
    assert_eq!(world.events(), ["judge All", "synced full"]);
}

#[tokio::test(start_paused = true)]
async fn tables_of_another_version_are_replaced_behind_a_copy_and_what_others_add_later_is_taken_out()
 {
    let unknown = || Unknown {
        object: Object::Chain {
            family: TableFamily::Inet,
            name: "newer".to_owned(),
        },
        reason: "its hook".to_owned(),
    };
    let kernel = Fake::default();
    kernel.with(|state| state.unknown.push(unknown()));
    let mut world = World::start(kernel);
    let cluster = cluster_of(CLUSTER);
    world.events.send(Event::Reset(objects(&cluster))).unwrap();
    world.until(|snapshot| snapshot.ready).await;
    assert_eq!(world.kernel.with(|state| state.replaced), 1);
    world.kernel.with(|state| state.unknown.push(unknown()));
    world.kernel.changed_by_others(|_| {});
    world.until(|snapshot| snapshot.drift_repairs == 1).await;
    assert_eq!(
        world
            .kernel
            .with(|state| (state.replaced, state.unknown.len())),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_stand_in_that_could_not_be_removed_once_is_removed_later() {
    let kernel = Fake::default();
    kernel.with(|state| state.stand_in_fails = 1);
    let mut world = World::start(kernel);
    let cluster = cluster_of(CLUSTER);
    world.events.send(Event::Reset(objects(&cluster))).unwrap();
    world.until(|snapshot| snapshot.ready).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let delete = Change::Delete(policy(&cluster, "for-b").id());
    world.events.send(Event::Changes(vec![delete])).unwrap();
    world
        .until(|snapshot| snapshot.effective.policies.len() == 1)
        .await;
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    let removed = world.kernel.with(|state| state.stand_in_removed);
    assert!(removed > 0);
}
