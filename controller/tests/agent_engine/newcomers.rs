//! Pods that come while the kernel does not take what is wanted.

use std::net::IpAddr;
use std::time::Duration;

use controller::agent::source::{Change, Event};
use policy_compiler::index::{self, ObjectId};
use policy_compiler::lower::knows;
use policy_compiler::model::{NamespacedName, Owner, Pod};
use policy_compiler::ruleset::{MapElement, Ruleset, Statement, Value, Verdict};

use super::world::{CLUSTER, Fake, World, cluster_of, objects, sorted, wanted};

const NEW: &str = "10.0.0.3";

/// A pod of the node that no policy selects, with this address.
fn newcomer(name: &str, address: &str) -> Pod {
    let text = CLUSTER.replace("name: b", &format!("name: {name}"));
    let text = text
        .replace("10.0.0.2", address)
        .replace("app: b", "app: none");
    cluster_of(&text).pods[&NamespacedName::new("x", name)].clone()
}

fn apply(pod: &Pod) -> Event {
    Event::Changes(vec![Change::Apply(index::Object::Pod(pod.clone()))])
}

/// Whether the address is closed: known, and in both maps only with a class that drops all.
fn is_closed(ruleset: &Ruleset, address: &str) -> bool {
    let address: IpAddr = address.parse().unwrap();
    let key = vec![Value::Address(address)];
    let table = &ruleset.tables[0];
    let drops_all = |verdict: &Verdict| {
        let Verdict::Goto(class) = verdict else {
            return false;
        };
        let chain = table.chains.iter().find(|chain| chain.name == *class);
        let first = chain.and_then(|chain| chain.rules.first()).unwrap();
        first.matches.is_empty() && first.statement == Statement::Verdict(Verdict::Drop)
    };
    let maps = ["egress4", "ingress4"].map(|map| table.maps[map].elements.get(&key));
    let is = |element: Option<&MapElement>| element.is_some_and(|e| drops_all(&e.verdict));
    knows(ruleset, address) && maps.into_iter().all(is)
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_while_nobody_can_be_blamed_for_a_refusal_is_closed() {
    let (mut world, mut cluster) = World::ready().await;
    world.kernel.with(|state| state.refuses_verdicts = true);
    world.events();
    world.events.send(apply(&newcomer("new", NEW))).unwrap();
    let id = NamespacedName::new("x", "new");
    let closed = world.until(|snapshot| snapshot.closed.contains(&id)).await;
    assert!(closed.failure.is_some() && closed.refused.is_empty());
    assert!(closed.unprotected.is_empty());
    assert!(is_closed(&world.held(), NEW));
    assert!(is_closed(&closed.ruleset, NEW));
    // The others are as they were.
    for address in ["10.0.0.1", "10.0.0.2"] {
        assert!(!is_closed(&world.held(), address));
    }
    let events = world.events();
    let judged = events.iter().filter(|event| event.starts_with("judge"));
    let judged: Vec<_> = judged.collect();
    assert_eq!(judged, [&format!("judge Addresses({{{NEW}}})")]);
    // Also after somebody flushed our tables.
    world
        .kernel
        .changed_by_others(|ruleset| ruleset.tables.clear());
    world.kernel.with(|state| state.refuses_verdicts = false);
    world.until(|snapshot| snapshot.failure.is_none()).await;
    // Then it is as any other.
    let well = world.until(|snapshot| snapshot.closed.is_empty()).await;
    cluster.add_pod(newcomer("new", NEW));
    assert!(sorted(world.held()) == sorted(wanted(&cluster)));
    assert!(well.ruleset == wanted(&cluster));
}

#[tokio::test(start_paused = true)]
async fn a_second_pod_that_comes_then_does_not_wait_for_the_next_attempt() {
    let (mut world, _) = World::ready().await;
    world.kernel.with(|state| state.refuses_verdicts = true);
    world.events.send(apply(&newcomer("new", NEW))).unwrap();
    world.until(|snapshot| !snapshot.closed.is_empty()).await;
    let start = tokio::time::Instant::now();
    world
        .events
        .send(apply(&newcomer("two", "10.0.0.4")))
        .unwrap();
    world.until(|snapshot| snapshot.closed.len() == 2).await;
    assert!(start.elapsed() < Duration::from_millis(10));
    assert!(is_closed(&world.held(), "10.0.0.4"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_then_does_not_have_what_its_addresses_last_owner_had() {
    let (mut world, _) = World::ready().await;
    let old = ObjectId::Pod(NamespacedName::new("x", "b"));
    world.kernel.with(|state| state.refuses_all = true);
    let new = newcomer("new", "10.0.0.2");
    let changes = vec![
        Change::Delete(old),
        Change::Apply(index::Object::Pod(new.clone())),
    ];
    world.events.send(Event::Changes(changes)).unwrap();
    let open = world
        .until(|snapshot| !snapshot.unprotected.is_empty())
        .await;
    assert_eq!(open.unprotected, [new.id.clone()].into());
    assert!(open.closed.is_empty());
    assert!(!is_closed(&world.held(), "10.0.0.2"));
    // It takes that at least, and does with the next attempt.
    world.kernel.with(|state| {
        state.refuses_all = false;
        state.refuses_verdicts = true;
    });
    let closed = world.until(|snapshot| !snapshot.closed.is_empty()).await;
    assert!(is_closed(&world.held(), "10.0.0.2"));
    assert!(closed.unprotected.is_empty());
    let owner = closed.effective.owner("10.0.0.2".parse().unwrap());
    assert!(matches!(owner, Owner::Pod(pod) if pod.id == new.id));
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_agent_left_is_repaired_before_there_is_a_first_state() {
    let kernel = Fake::default();
    let left = wanted(&cluster_of(CLUSTER));
    kernel.with(|state| state.ruleset = left.clone());
    let mut world = World::start(kernel);
    let blocked = world.until(|snapshot| snapshot.ruleset == left).await;
    assert!(!blocked.ready);
    world
        .kernel
        .changed_by_others(|ruleset| ruleset.tables.clear());
    let repaired = world.until(|snapshot| snapshot.drift_repairs == 1).await;
    assert!(!repaired.ready);
    assert!(sorted(world.held()) == sorted(left));
    // Nothing is known yet by which connections could be judged.
    let events = world.events();
    assert!(!events.iter().any(|event| event.starts_with("judge")));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_came_while_no_agent_ran_is_closed_if_the_first_state_is_refused() {
    let kernel = Fake::default();
    let mut cluster = cluster_of(CLUSTER);
    kernel.with(|state| state.ruleset = wanted(&cluster));
    kernel.with(|state| state.refuses_verdicts = true);
    let world = World::start(kernel);
    cluster.add_pod(newcomer("new", NEW));
    world.events.send(Event::Reset(objects(&cluster))).unwrap();
    world
        .until_kernel(|state| is_closed(&state.ruleset, NEW))
        .await;
    assert!(!is_closed(&world.held(), "10.0.0.1"));
}
