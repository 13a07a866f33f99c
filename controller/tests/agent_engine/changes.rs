//! Changes of objects.

use std::time::Duration;

use controller::agent::source::{Change, Event};
use policy_compiler::index::{self, ObjectId};
use policy_compiler::model::{Cluster, NamespacedName};

use super::world::{World, sorted, wanted};

#[tokio::test(start_paused = true)]
async fn a_change_touches_only_what_it_is_about() {
    let (world, cluster) = World::ready().await;
    let gone = NamespacedName::new("x", "c");
    world.events();
    let change = Change::Delete(ObjectId::Pod(gone.clone()));
    world.events.send(Event::Changes(vec![change])).unwrap();
    world.until_kernel(|state| !state.events.is_empty()).await;
    let others = cluster.pods.values().filter(|pod| pod.id != gone).cloned();
    let after = Cluster::new(
        cluster.namespaces.values().cloned(),
        cluster.nodes.values().cloned(),
        others,
        cluster.policies.values().cloned(),
    );
    assert!(sorted(world.held()) == sorted(wanted(&after)));
    assert_eq!(
        world.events(),
        ["judge Addresses({10.0.1.1})", "synced partial"]
    );
    // The second plan was one transaction, and nothing was read back for it.
    assert_eq!(
        world.kernel.with(|state| (state.plans[1], state.reads)),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_sync() {
    let (world, cluster) = World::ready().await;
    let plans = world.kernel.with(|state| state.plans.len());
    for _ in 0..100 {
        for pod in cluster.pods.values() {
            let id = ObjectId::Pod(pod.id.clone());
            world
                .events
                .send(Event::Changes(vec![Change::Delete(id)]))
                .unwrap();
            let apply = Change::Apply(index::Object::Pod(pod.clone()));
            world.events.send(Event::Changes(vec![apply])).unwrap();
        }
    }
    world.until_kernel(|state| state.plans.len() > plans).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.kernel.with(|state| state.plans.len()), plans + 1);
}
