//! Objects that cannot be read, or that an API server should have refused.

use controller::kubernetes::Resource;
use policy_compiler::index::{Object, ObjectId};
use policy_compiler::model::{LabelSelector, NamespacedName, NetworkPolicy, Requirement};
use serde_json::{Value, json};

use super::double::{Asks, NoStreams};
use super::world::{NODE, World, namespace, node, pod, policy};

fn id(name: &str) -> ObjectId {
    ObjectId::NetworkPolicy(NamespacedName::new("shop", name))
}

fn policy_of<'a>(world: &'a World, name: &str) -> &'a NetworkPolicy {
    match &world.objects[&id(name)] {
        Object::NetworkPolicy(policy) => policy,
        other => panic!("{other:?}"),
    }
}

fn is_isolating(
    policy: &NetworkPolicy,
    selector: &LabelSelector,
    directions: (bool, bool),
) -> bool {
    let rules = |direction: &Option<Vec<_>>| direction.as_ref().is_none_or(Vec::is_empty);
    policy.selector == *selector
        && (policy.ingress.is_some(), policy.egress.is_some()) == directions
        && rules(&policy.ingress)
        && rules(&policy.egress)
}

fn app(name: &str) -> LabelSelector {
    let value = [name.to_owned()].into();
    LabelSelector::new([Requirement::In("app".to_owned(), value)])
}

/// A policy that no API server would take, with an app and what is wrong.
fn wrong(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_becomes_invalid_stays_as_it_was_and_is_named_with_its_field() {
    let mut world = World::complete().await;
    let good = policy_of(&world, "web").clone();
    let mut bad = policy("web");
    bad["spec"]["ingress"] = json!([{"from": [{}]}]);
    world.double.put(Resource::NetworkPolicies, bad);
    world.until(|world| !world.problems.is_empty()).await;
    let problem = &world.problems["NetworkPolicy shop/web"];
    assert!(!problem.blocks);
    assert_eq!(
        problem.message,
        "spec.ingress[0].from[0]: Required value: must specify a peer"
    );
    assert_eq!(*policy_of(&world, "web"), good);
    let mut undecodable = policy("web");
    undecodable["spec"]["ingress"][0]["ports"][0]["endPort"] = json!("many");
    world.double.put(Resource::NetworkPolicies, undecodable);
    world
        .until(|world| {
            world.problems["NetworkPolicy shop/web"]
                .message
                .contains("endPort")
        })
        .await;
    let message = &world.problems["NetworkPolicy shop/web"].message;
    assert!(
        message.starts_with("spec.ingress[0].ports[0].endPort: invalid type: string"),
        "{message}"
    );
    assert_eq!(*policy_of(&world, "web"), good);
    // A list has it as bad as the watch.
    world.double.compact();
    world.double.end(false);
    world
        .double
        .quietly(|double| double.put(Resource::Pods, pod("api", "10.0.0.2")));
    world.double.compact();
    world.until(|world| world.has_pod("api")).await;
    assert_eq!(*policy_of(&world, "web"), good);
    world.double.put(Resource::NetworkPolicies, policy("web"));
    world.until(|world| world.problems.is_empty()).await;
    // And one that is deleted while it is bad is gone.
    world.double.put(
        Resource::NetworkPolicies,
        wrong("web", json!({"podSelector": 7})),
    );
    world.until(|world| !world.problems.is_empty()).await;
    world.double.remove(Resource::NetworkPolicies, "shop/web");
    world.until(|world| world.problems.is_empty()).await;
    world
        .until(|world| !world.objects.contains_key(&id("web")))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_never_was_valid_isolates_what_it_selects_and_allows_nothing() {
    let mut world = World::new();
    let selector = json!({"matchLabels": {"app": "web"}});
    let cases = [
        (
            "ingress",
            json!({"podSelector": selector, "policyTypes": ["Ingress"], "ingress": [{}, {"from": [{}]}]}),
            (true, false),
        ),
        (
            "egress",
            json!({"podSelector": selector, "policyTypes": ["Egress"], "egress": [{"to": 7}]}),
            (false, true),
        ),
        (
            "default",
            json!({"podSelector": selector, "ingress": [{"from": [{}]}]}),
            (true, false),
        ),
        (
            "both",
            json!({"podSelector": selector, "egress": [{"to": [{}]}]}),
            (true, true),
        ),
        (
            "unknown",
            json!({"podSelector": selector, "policyTypes": ["Ingress", "Sideways"]}),
            (true, true),
        ),
        (
            "untyped",
            json!({"podSelector": selector, "policyTypes": "Ingress"}),
            (true, true),
        ),
    ];
    for (name, spec, _) in &cases {
        world
            .double
            .put(Resource::NetworkPolicies, wrong(name, spec.clone()));
    }
    let everything = [
        (
            "no-selector",
            json!({"podSelector": "web", "policyTypes": ["Ingress"]}),
        ),
        (
            "bad-selector",
            json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Like", "values": ["w*"]}]}}),
        ),
        ("no-spec", json!("none")),
    ];
    for (name, spec) in &everything {
        world
            .double
            .put(Resource::NetworkPolicies, wrong(name, spec.clone()));
    }
    world.until(|world| world.resets == 1).await;
    for (name, _, directions) in &cases {
        let policy = policy_of(&world, name);
        assert!(
            is_isolating(policy, &app("web"), *directions),
            "{name}: {policy:?}"
        );
        let problem = &world.problems[&id(name).to_string()];
        assert!(!problem.blocks);
        assert!(
            problem
                .message
                .contains("it isolates the pods that it selects, and allows nothing"),
            "{problem:?}"
        );
    }
    for (name, _) in &everything {
        let policy = policy_of(&world, name);
        assert!(
            is_isolating(policy, &LabelSelector::default(), (true, true)),
            "{name}: {policy:?}"
        );
        let problem = &world.problems[&id(name).to_string()];
        assert!(
            problem
                .message
                .contains("it isolates all pods of its namespace"),
            "{problem:?}"
        );
    }
    world
        .double
        .put(Resource::NetworkPolicies, policy("ingress"));
    world
        .until(|world| !world.problems.contains_key("NetworkPolicy shop/ingress"))
        .await;
    world
        .until(|world| !is_isolating(policy_of(world, "ingress"), &app("ingress"), (true, false)))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_becomes_invalid_stays_as_it_was_and_others_go_on() {
    let mut world = World::complete().await;
    let web = ObjectId::Pod(NamespacedName::new("shop", "web"));
    let before = world.objects[&web].clone();
    let mut bad = pod("web", "10.0.0.1");
    bad["status"]["podIPs"] = json!([{"ip": "10.0.0.256"}]);
    world.double.put(Resource::Pods, bad);
    world.double.put(Resource::Pods, pod("api", "10.0.0.2"));
    world
        .until(|world| world.has_pod("api") && !world.problems.is_empty())
        .await;
    assert_eq!(world.objects[&web], before);
    let message = &world.problems["Pod shop/web"].message;
    assert!(
        message.starts_with("status.podIPs[0].ip: Invalid value"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_never_was_valid_is_known_without_its_ports_or_not_at_all() {
    let mut world = World::complete().await;
    let mut ports = pod("ports", "10.0.0.3");
    ports["spec"]["containers"][0]["ports"][0]["containerPort"] = json!("http");
    world.double.put(Resource::Pods, ports);
    let mut labels = pod("labels", "10.0.0.4");
    labels["metadata"]["labels"] = json!(["app"]);
    world.double.put(Resource::Pods, labels);
    world
        .until(|world| world.problems.len() == 2 && world.has_pod("ports"))
        .await;
    assert_eq!(world.names(), ["ports", "web"]);
    let known = &world.objects[&ObjectId::Pod(NamespacedName::new("shop", "ports"))];
    assert!(matches!(known, Object::Pod(pod) if pod.ports.is_empty() && pod.addresses.len() == 1));
    let message = &world.problems["Pod shop/ports"].message;
    assert!(
        message.contains("spec.containers[0].ports[0].containerPort"),
        "{message}"
    );
    assert!(
        world.problems["Pod shop/labels"]
            .message
            .contains("no policy is enforced for it")
    );
}

#[tokio::test(start_paused = true)]
async fn the_own_node_holds_up_nothing_either() {
    let mut world = World::new();
    let address = json!({"type": "InternalIP", "address": "node.example"});
    world.double.put(
        Resource::Nodes,
        json!({"metadata": {"name": NODE}, "status": {"addresses": [address]}}),
    );
    world.until(|world| world.resets == 1).await;
    assert_eq!(world.names(), ["web"]);
    let names: Vec<_> = world.problems.keys().cloned().collect();
    assert_eq!(names, [format!("Node {NODE}")]);
    assert!(!world.problems[&names[0]].blocks);
}

#[tokio::test(start_paused = true)]
async fn bad_objects_in_a_list_hold_up_nothing() {
    for streams in [true, false] {
        let mut world = World::new();
        if !streams {
            world.double.has_no_streams(NoStreams::Refuses);
        }
        world.double.put(
            Resource::Namespaces,
            json!({"metadata": {"name": "torn", "labels": 7}}),
        );
        world.double.put(
            Resource::Nodes,
            json!({"metadata": {"name": "n2"}, "status": {"addresses": "none"}}),
        );
        world.double.put(
            Resource::Pods,
            json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": [7]}),
        );
        world
            .double
            .put(Resource::Pods, json!({"metadata": {"namespace": "shop"}}));
        world.double.put(
            Resource::NetworkPolicies,
            wrong("w", json!({"ingress": {}})),
        );
        world.until(|world| world.resets == 1).await;
        assert_eq!(world.names(), ["web"]);
        let names: Vec<_> = world.problems.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "Namespace torn",
                "NetworkPolicy shop/w",
                "Node n2",
                "Pod shop/p",
                "pods without a name"
            ]
        );
        assert_eq!(
            world.double.asked(Resource::Pods, Asks::List).is_empty(),
            streams
        );
    }
}

#[tokio::test(start_paused = true)]
async fn fields_and_versions_of_the_future_are_left_aside() {
    let mut world = World::complete().await;
    let mut future = pod("future", "10.0.0.9");
    future["apiVersion"] = json!("v9");
    future["spec"]["quantum"] = json!({"entangled": [true]});
    future["status"]["podIPs"][0]["zone"] = json!("z");
    world.double.put(Resource::Pods, future);
    let mut later = policy("later");
    later["apiVersion"] = json!("networking.k8s.io/v9");
    later["spec"]["audit"] = json!(true);
    // A peer of a kind that is not known is none.
    later["spec"]["ingress"] = json!([{"from": [{"serviceSelector": {}}]}]);
    world.double.put(Resource::NetworkPolicies, later);
    world
        .until(|world| world.has_pod("future") && world.objects.contains_key(&id("later")))
        .await;
    assert!(is_isolating(
        policy_of(&world, "later"),
        &app("later"),
        (true, false)
    ));
    assert!(!world.problems.contains_key("Pod shop/future"));
}

#[tokio::test(start_paused = true)]
async fn a_byte_that_is_no_text_spoils_only_the_object_that_has_it() {
    let mut world = World::complete().await;
    let event = json!({"type": "ADDED", "object": pod("x", "10.0.0.5")}).to_string();
    let bytes = event.replace("\"x\"", "\"\\ud800\"");
    world.double.send(Resource::Pods, &format!("{bytes}\n"));
    world.double.put(Resource::Pods, pod("after", "10.0.0.6"));
    world.until(|world| world.has_pod("after")).await;
    assert!(
        world.problems.contains_key("pods without a name"),
        "{:?}",
        world.problems
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_problems_are_named_than_a_person_reads() {
    let mut world = World::new();
    for index in 0..150 {
        world.double.put(
            Resource::NetworkPolicies,
            wrong(&format!("w{index:03}"), json!({"ingress": 7})),
        );
    }
    world.until(|world| world.resets == 1).await;
    assert_eq!(world.problems.len(), 101);
    assert_eq!(
        world.problems["networkpolicies besides these"].message,
        "50 more are not valid"
    );
    assert_eq!(world.objects.len(), 4 + 150);
}

#[tokio::test(start_paused = true)]
async fn only_what_the_api_server_has_is_there() {
    let mut world = World::new();
    world.double.put(Resource::Namespaces, namespace("bare"));
    world.double.put(Resource::Nodes, node("other"));
    world.until(|world| world.resets == 1).await;
    let Object::Namespace(bare) = &world.objects[&ObjectId::Namespace("bare".to_owned())] else {
        panic!();
    };
    assert_eq!(bare.labels.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_made_anew_under_a_name_is_not_what_had_the_name_before() {
    let mut world = World::complete().await;
    let with_uid = |mut object: Value, uid: &str| {
        object["metadata"]["uid"] = uid.into();
        object
    };
    let both = [Resource::NetworkPolicies, Resource::Pods];
    let bad = |uid: &str| {
        let mut bad = with_uid(policy("web"), uid);
        bad["spec"]["ingress"] = json!([{"from": [{}]}]);
        let mut bad_pod = with_uid(pod("web", "10.0.0.1"), uid);
        bad_pod["status"]["podIPs"] = json!([{"ip": "10.0.0.256"}]);
        [bad, bad_pod]
    };
    let put = |world: &World, objects: [Value; 2]| {
        for (resource, object) in both.into_iter().zip(objects) {
            world.double.put(resource, object);
        }
    };
    let good = [policy("web"), pod("web", "10.0.0.1")].map(|object| with_uid(object, "one"));
    put(&world, good);
    // The same objects, which become bad.
    put(&world, bad("one"));
    world.until(|world| world.problems.len() == 2).await;
    assert!(world.has_pod("web"));
    assert!(!is_isolating(
        policy_of(&world, "web"),
        &app("web"),
        (true, false)
    ));
    // Others, and nobody sees that the first are deleted.
    world.double.quietly(|_| {
        for resource in both {
            world.double.remove(resource, "shop/web");
        }
        put(&world, bad("two"));
    });
    world.double.compact();
    world.double.end(false);
    world.until(|world| !world.has_pod("web")).await;
    let closed = |world: &World| is_isolating(policy_of(world, "web"), &app("web"), (true, false));
    world.until(closed).await;
    assert_eq!(world.problems.len(), 2);
    // Both are mended.
    let good = [policy("web"), pod("web", "10.0.0.1")].map(|object| with_uid(object, "two"));
    put(&world, good);
    world
        .until(|world| world.has_pod("web") && !closed(world))
        .await;
    world.until(|world| world.problems.is_empty()).await;
}
