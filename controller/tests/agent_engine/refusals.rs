//! What the kernel refuses, and whom it concerns.

use std::time::Duration;

use controller::agent::source::{Change, Event};
use policy_compiler::compile::compile;
use policy_compiler::model::NamespacedName;

use super::world::{CLUSTER, Fake, World, chain_of, cluster_of, objects, policy, sorted, wanted};

#[tokio::test(start_paused = true)]
async fn a_refused_object_isolates_its_policy_and_nobody_else() {
    let cluster = cluster_of(CLUSTER);
    let kernel = Fake::default();
    let chain = chain_of(&cluster, "for-a");
    kernel.with(|state| state.refuses_rules.insert(chain.clone()));
    let mut world = World::start(kernel);
    world.events.send(Event::Reset(objects(&cluster))).unwrap();
    let ready = world.until(|snapshot| snapshot.ready).await;
    let id = NamespacedName::new("x", "for-a");
    assert_eq!(ready.refused.len(), 1);
    assert!(ready.refused[&id].contains(&chain), "{:?}", ready.refused);
    // Its pods are isolated, and everything else is as asked.
    let isolated = CLUSTER.replace(
        "ingress: [{from: [{podSelector: {matchLabels: {app: c}}}]}]",
        "ingress: []",
    );
    assert_ne!(isolated, CLUSTER);
    assert!(sorted(world.held()) == sorted(wanted(&cluster_of(&isolated))));
    assert_eq!(ready.effective.policies[&id].ingress, Some(vec![]));
    // It is tried again and again, at longer and longer intervals.
    let tried = |world: &World| world.kernel.with(|state| state.plans.len());
    let before = tried(&world);
    tokio::time::sleep(Duration::from_secs(3_000)).await;
    let after = tried(&world) - before;
    assert!((20..60).contains(&after), "{after}");
    // When the kernel takes it at last, it counts.
    world.kernel.with(|state| state.refuses_rules.clear());
    world.until(|snapshot| snapshot.refused.is_empty()).await;
    assert!(sorted(world.held()) == sorted(wanted(&cluster)));
}

#[tokio::test(start_paused = true)]
async fn a_refused_object_that_no_policy_asked_for_keeps_what_was_in_force() {
    let kernel = Fake::default();
    kernel.with(|state| state.refuses.insert("egress".to_owned()));
    let mut world = World::start(kernel);
    let cluster = cluster_of(CLUSTER);
    world.events.send(Event::Reset(objects(&cluster))).unwrap();
    let failed = world.until(|snapshot| snapshot.failure.is_some()).await;
    assert!(!failed.ready && failed.refused.is_empty());
    assert!(failed.failure.as_ref().unwrap().contains("egress"));
    world.kernel.with(|state| state.refuses.clear());
    world.until(|snapshot| snapshot.ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_was_refused_is_tried_again_when_it_changes_and_after_a_while() {
    let (mut world, cluster) = World::ready().await;
    let chain = chain_of(&cluster, "for-b");
    // The kernel refuses to fill the chain with more than the last rule.
    world
        .kernel
        .with(|state| state.refuses_rules.insert(chain.clone()));
    let edited = CLUSTER.replace("app: b}}}]}]}", "app: c}}}]}]}");
    let edited = cluster_of(&edited);
    let change = Change::Apply(policy(&edited, "for-b"));
    world.events.send(Event::Changes(vec![change])).unwrap();
    world.until(|snapshot| !snapshot.refused.is_empty()).await;
    world.kernel.with(|state| state.refuses_rules.clear());
    let again = world.until(|snapshot| snapshot.refused.is_empty() && snapshot.failure.is_none());
    again.await;
    assert!(sorted(world.held()) == sorted(wanted(&edited)));
}

#[tokio::test(start_paused = true)]
async fn want_of_memory_cuts_nobody_unless_it_stays() {
    let (mut world, cluster) = World::ready().await;
    let chain = chain_of(&cluster, "for-b");
    let edit = |app: &str| {
        let edited = CLUSTER.replace("app: b}}}]}]}", &format!("app: {app}}}}}}}]}}]}}"));
        assert_ne!(edited, CLUSTER);
        let edited = cluster_of(&edited);
        Event::Changes(vec![Change::Apply(policy(&edited, "for-b"))])
    };
    world.kernel.with(|state| {
        state.short = true;
        state.refuses_rules.insert(chain.clone());
    });
    world.events.send(edit("c")).unwrap();
    let failed = world.until(|snapshot| snapshot.failure.is_some()).await;
    assert!(failed.refused.is_empty());
    world.kernel.with(|state| state.refuses_rules.clear());
    let mended = world.until(|snapshot| snapshot.failure.is_none()).await;
    assert!(mended.refused.is_empty());
    // What is never to be had keeps nobody else waiting.
    world
        .kernel
        .with(|state| state.refuses_rules.insert(chain.clone()));
    world.events.send(edit("d")).unwrap();
    let isolated =
        world.until(|snapshot| snapshot.failure.is_none() && !snapshot.refused.is_empty());
    assert_eq!(isolated.await.refused.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_policy_is_tried_again_though_others_are_refused_over_and_over() {
    let (mut world, cluster) = World::ready().await;
    let a = chain_of(&cluster, "for-a");
    let b = chain_of(&cluster, "for-b");
    let edit = |from: &str, name: &str, to: &str| {
        let text = CLUSTER.replace(from, to);
        assert_ne!(text, CLUSTER);
        Change::Apply(policy(&cluster_of(&text), name))
    };
    world.kernel.with(|state| {
        state.refuses_rules.insert(a.clone());
        state.refuses_rules.insert(b.clone());
    });
    let change = edit("app: c}}}]}]}", "for-a", "app: d}}}]}]}");
    world.events.send(Event::Changes(vec![change])).unwrap();
    world.until(|snapshot| snapshot.refused.len() == 1).await;
    // The kernel would take it now, had it been asked.
    world.kernel.with(|state| state.refuses_rules.remove(&a));
    // Another tenant edits a policy that is always refused, twice a second at first.
    let mut mended = None;
    for n in 0..3_000 {
        let to = format!("app: e{n}}}}}}}]}}]}}");
        let change = edit("app: b}}}]}]}", "for-b", &to);
        world.events.send(Event::Changes(vec![change])).unwrap();
        tokio::time::sleep(Duration::from_millis(900)).await;
        if !world
            .snapshots
            .borrow()
            .refused
            .contains_key(&NamespacedName::new("x", "for-a"))
        {
            mended = Some(n);
            break;
        }
    }
    assert!(mended.is_some_and(|n| n < 100));
}

#[tokio::test(start_paused = true)]
async fn of_several_policies_of_a_class_the_one_that_changed_is_isolated() {
    let text = format!(
        "{CLUSTER}- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {{name: all, namespace: x}}
  spec: {{podSelector: {{}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: a}}}}}}]}}]}}
"
    );
    let cluster = cluster_of(&text);
    let ir = compile(&cluster, "n1");
    let class = ir.pods["x/a"].ingress.clone().unwrap();
    let ruleset = wanted(&cluster);
    let mut chains = ruleset.tables[0].chains.iter();
    let chain =
        chains.find(|chain| chain.base.is_none() && chain.name == format!("ingress4_{class}"));
    let chain = chain.unwrap().name.clone();
    let mut world = World::start(Fake::default());
    world.events.send(Event::Reset(objects(&cluster))).unwrap();
    world.until(|snapshot| snapshot.ready).await;
    // It takes two rules, and not three: those of `all` alone are fine.
    world.kernel.with(|state| state.refuses_long.insert(chain));
    let edited = text.replace(
        "[{from: [{podSelector: {matchLabels: {app: c}}}]}]",
        "[{from: [{podSelector: {matchLabels: {app: c}}}, {podSelector: {matchLabels: {app: d}}}]}]",
    );
    assert_ne!(edited, text);
    let change = Change::Apply(policy(&cluster_of(&edited), "for-a"));
    world.events.send(Event::Changes(vec![change])).unwrap();
    let refused = world.until(|snapshot| !snapshot.refused.is_empty()).await;
    let names: Vec<_> = refused.refused.keys().map(|id| id.name.as_str()).collect();
    assert_eq!(names, ["for-a"]);
}
