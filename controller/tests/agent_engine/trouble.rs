//! A kernel that does not answer, and what is written of trouble.

use std::collections::BTreeMap;
use std::time::Duration;

use controller::agent::source::{Change, Event, Problem};
use policy_compiler::index::ObjectId;
use policy_compiler::model::NamespacedName;

use super::world::{LOG, State, World, chain_of, policy};

#[tokio::test(start_paused = true)]
async fn a_kernel_that_does_not_answer_is_asked_again_at_longer_and_longer_intervals() {
    let (mut world, cluster) = World::ready().await;
    world.kernel.with(|state| state.broken = true);
    let delete = Change::Delete(policy(&cluster, "for-b").id());
    world.events.send(Event::Changes(vec![delete])).unwrap();
    let failed = world.until(|snapshot| snapshot.failure.is_some()).await;
    assert!(
        failed.ready
            && failed
                .failure
                .as_ref()
                .unwrap()
                .contains("the kernel is gone")
    );
    assert!(
        failed.effective.policies.len() == 2,
        "what is in force is what was"
    );
    let attempts = |state: &State| {
        state
            .events
            .iter()
            .filter(|e| *e == "failed netlink")
            .count()
    };
    tokio::time::sleep(Duration::from_secs(600)).await;
    let made = world.kernel.with(|state| attempts(state));
    assert!((20..40).contains(&made), "{made} attempts in ten minutes");
    world.kernel.with(|state| state.broken = false);
    let mended = world.until(|snapshot| snapshot.failure.is_none()).await;
    assert_eq!(mended.effective.policies.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_trouble_is_written_each_time_that_it_comes() {
    let (world, cluster) = World::ready().await;
    let refused = chain_of(&cluster, "for-a");
    let problem = Problem {
        message: "a.yaml: broken".to_owned(),
        blocks: false,
    };
    const TIMES: usize = 300;
    for _ in 0..TIMES {
        world.events();
        // A file breaks.
        let problems = BTreeMap::from([("a.yaml".to_owned(), problem.clone())]);
        world.events.send(Event::Problems(problems)).unwrap();
        // Others change our tables, and the kernel refuses a policy.
        world
            .kernel
            .changed_by_others(|ruleset| ruleset.tables.clear());
        world
            .until_kernel(|state| state.events.iter().any(|event| event == "repaired"))
            .await;
        world
            .kernel
            .with(|state| state.refuses_rules.insert(refused.clone()));
        let apply = Change::Apply(policy(&cluster, "for-a"));
        let delete = Change::Delete(ObjectId::NetworkPolicy(NamespacedName::new("x", "for-a")));
        world.events.send(Event::Changes(vec![delete])).unwrap();
        world
            .until_kernel(|state| state.events.iter().any(|event| event == "synced partial"))
            .await;
        world.events.send(Event::Changes(vec![apply])).unwrap();
        world
            .until_kernel(|state| state.events.iter().any(|event| event == "failed refused"))
            .await;
        // It does not answer at all.
        world.kernel.with(|state| {
            state.refuses_rules.clear();
            state.broken = true;
        });
        world
            .until_kernel(|state| state.events.iter().any(|event| event == "failed netlink"))
            .await;
        // And all is well again.
        world.kernel.with(|state| state.broken = false);
        world.events.send(Event::Problems(BTreeMap::new())).unwrap();
        world.events();
        world
            .until_kernel(|state| state.events.iter().any(|event| event == "synced partial"))
            .await;
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    let log = String::from_utf8(LOG.0.lock().unwrap().clone()).unwrap();
    let thread = std::thread::current();
    let own = log
        .lines()
        .filter(|line| line.contains(thread.name().unwrap()));
    let log: String = own.collect();
    for text in [
        "what was in force stays in force: a.yaml",
        "mended",
        "our tables were changed",
        "the kernel refused what the policy asks for",
        "could not be brought up to date",
        "is up to date again",
        "over and over",
    ] {
        let count = log.matches(text).count();
        assert!((1..60).contains(&count), "{text}: {count}");
    }
}
