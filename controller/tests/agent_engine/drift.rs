//! What others change.

use std::time::Duration;

use controller::agent::source::{Change, Event};
use kernel::{Object, Unknown};
use policy_compiler::ruleset::TableFamily;

use super::world::{CLUSTER, World, chain_of, cluster_of, policy, sorted, wanted};

#[tokio::test(start_paused = true)]
async fn a_flush_by_others_is_repaired_counted_and_everything_judged_again() {
    let (mut world, cluster) = World::ready().await;
    world.events();
    world
        .kernel
        .changed_by_others(|ruleset| ruleset.tables.clear());
    world.until(|snapshot| snapshot.drift_repairs == 1).await;
    assert!(sorted(world.held()) == sorted(wanted(&cluster)));
    assert_eq!(world.events(), ["repaired", "judge All"]);
    // And changes go on from there.
    let delete = Change::Delete(policy(&cluster, "for-b").id());
    world.events.send(Event::Changes(vec![delete])).unwrap();
    world
        .until(|snapshot| snapshot.effective.policies.len() == 1)
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_flushes_in_a_loop_meets_backoff_and_an_alarm_that_ends() {
    let (mut world, cluster) = World::ready().await;
    for _ in 0..1_000 {
        world
            .kernel
            .changed_by_others(|ruleset| ruleset.tables.clear());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Ten seconds: ten at once, then at waits of 50 ms to 1 s.
    let snapshot = world.until(|snapshot| snapshot.drift_alarm).await;
    assert!(
        (15..30).contains(&snapshot.drift_repairs),
        "{}",
        snapshot.drift_repairs
    );
    world.until(|snapshot| !snapshot.drift_alarm).await;
    assert!(sorted(world.held()) == sorted(wanted(&cluster)));
}

#[tokio::test(start_paused = true)]
async fn what_was_in_force_is_repaired_also_while_the_next_state_is_refused() {
    let (mut world, cluster) = World::ready().await;
    // A new chain that the kernel never takes.
    let more = CLUSTER.replace("for-b", "another");
    let changed = cluster_of(&more);
    let chain = chain_of(&changed, "another");
    world.kernel.with(|state| state.refuses.insert(chain));
    let changes = vec![
        Change::Apply(policy(&changed, "another")),
        Change::Delete(policy(&cluster, "for-b").id()),
    ];
    world.events.send(Event::Changes(changes)).unwrap();
    world.until(|snapshot| snapshot.failure.is_some()).await;
    world
        .kernel
        .changed_by_others(|ruleset| ruleset.tables.clear());
    world.until(|snapshot| snapshot.drift_repairs == 1).await;
    assert!(sorted(world.held()) == sorted(wanted(&cluster)));
}

#[tokio::test(start_paused = true)]
async fn what_opened_in_a_flush_that_a_sync_finds_is_judged_and_counted() {
    let (mut world, cluster) = World::ready().await;
    world.events();
    // Flushed after `hear`, before `execute`: the event comes to be heard after.
    world.kernel.with(|state| {
        state.ruleset.tables.clear();
        state.generation += 1;
    });
    let delete = Change::Delete(policy(&cluster, "for-b").id());
    world.events.send(Event::Changes(vec![delete])).unwrap();
    world
        .until(|snapshot| snapshot.effective.policies.len() == 1)
        .await;
    world.kernel.with(|state| {
        state.foreign.push(Object::Table(TableFamily::Inet));
    });
    world.kernel.0.1.notify_one();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let snapshot = world.snapshots.borrow().clone();
    let events = world.events();
    assert!(events.contains(&"judge All".to_owned()), "{events:?}");
    assert_eq!(snapshot.drift_repairs, 1);
}

#[tokio::test(start_paused = true)]
async fn a_sync_that_repairs_while_repairs_wait_counts_and_judges() {
    let (mut world, cluster) = World::ready().await;
    for _ in 0..100 {
        world
            .kernel
            .changed_by_others(|ruleset| ruleset.tables.clear());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.events();
    let before = world.snapshots.borrow().drift_repairs;
    world
        .kernel
        .changed_by_others(|ruleset| ruleset.tables.clear());
    tokio::time::sleep(Duration::from_millis(10)).await;
    let delete = Change::Delete(policy(&cluster, "for-b").id());
    world.events.send(Event::Changes(vec![delete])).unwrap();
    world
        .until(|snapshot| snapshot.effective.policies.len() == 1)
        .await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let after = world.snapshots.borrow().drift_repairs;
    let events = world.events();
    assert!(events.contains(&"judge All".to_owned()), "{events:?}");
    assert_eq!(after, before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_repair_that_has_to_start_again_counts_and_judges() {
    let (mut world, _) = World::ready().await;
    world.events();
    world.kernel.with(|state| {
        state.stale_removal = true;
        state.unknown.push(Unknown {
            object: Object::Chain {
                family: TableFamily::Inet,
                name: "newer".to_owned(),
            },
            reason: "its hook".to_owned(),
        });
    });
    world.kernel.changed_by_others(|_| {});
    tokio::time::sleep(Duration::from_secs(600)).await;
    let events = world.events();
    assert!(events.contains(&"judge All".to_owned()), "{events:?}");
    world.until(|snapshot| snapshot.drift_repairs == 1).await;
}
