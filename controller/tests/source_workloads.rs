//! Pods that stand for workloads, and the workloads that pods belong to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up fails"
)]

#[path = "support/loaded.rs"]
mod loaded;

use controller::source::{Note, Origin};
use loaded::{loaded, names, node, node_of, pod, pods, workload};

fn owner(kind: &str, name: &str) -> String {
    format!(
        ", ownerReferences: [{{apiVersion: apps/v1, kind: {kind}, name: {name}, uid: u, controller: true}}]"
    )
}

fn owned_pod(name: &str, owner: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: ns{owner}}}\nstatus: {{phase: Running, podIP: 10.0.0.9}}\n"
    )
}

#[test]
fn each_workload_kind_stands_for_its_pods() {
    let nodes = node("n1", "") + &node("n2", "");
    for kind in ["Deployment", "StatefulSet", "ReplicaSet", "Job", "CronJob"] {
        let loaded = loaded(&(nodes.clone() + &workload(kind, "web", "")));
        assert_eq!(names(&loaded), ["ns/web-0"], "{kind}");
        let pod = &pods(&loaded)["ns/web-0"];
        let spec = pod.spec.clone().unwrap();
        assert_eq!(pod.metadata.labels.clone().unwrap()["app"], "web", "{kind}");
        assert_eq!(
            pod.status.clone().unwrap().phase.as_deref(),
            Some("Running"),
            "{kind}"
        );
        assert_eq!(
            spec.containers.unwrap()[0].ports.clone().unwrap()[0]
                .name
                .as_deref(),
            Some("http")
        );
        assert_eq!(
            spec.init_containers.unwrap()[0].restart_policy.as_deref(),
            Some("Always")
        );
        assert_eq!(spec.host_network, Some(false));
    }
    let set = loaded(&(nodes + &workload("DaemonSet", "web", "")));
    assert_eq!(names(&set), ["ns/web-n1", "ns/web-n2"]);
    assert_eq!(node_of(&pods(&set)["ns/web-n2"]), "n2");
    let controller = "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: rc}\nspec: {template: {metadata: {labels: {a: b}}}}\n";
    assert_eq!(names(&loaded(controller)), ["default/rc-0"]);
}

#[test]
fn a_stand_in_tells_the_workload_it_is_from() {
    let loaded = loaded(&workload("Deployment", "web", ""));
    let origin = loaded
        .objects
        .iter()
        .find(|sourced| sourced.object.kind() == "Pod")
        .unwrap()
        .origin
        .clone();
    assert!(
        matches!(&origin, Origin::StandIn(place) if place.line == 2),
        "{origin:?}"
    );
    let notes: Vec<String> = loaded.notes.iter().map(Note::to_string).collect();
    assert_eq!(
        notes,
        [
            "Namespace ns: not given, made up with only its kubernetes.io/metadata.name label",
            "Node node-1: not given, made up",
            "Node node-1: addresses made up: 172.18.0.10, fd00:172:18::a",
            "Deployment ns/web: stood for by web-0",
            "Pod ns/web-0: taken to be Running, on node-1, at 10.244.0.10, fd00:10:244::a",
        ]
    );
}

#[test]
fn a_workload_scaled_to_zero_still_has_its_stand_in() {
    let text = workload("Deployment", "web", "")
        .replace("spec: {template", "spec: {replicas: 0, template");
    assert_eq!(names(&loaded(&text)), ["ns/web-0"]);
}

#[test]
fn labels_that_controllers_always_add_are_there() {
    let all = loaded(&(workload("StatefulSet", "db", "") + &workload("Job", "once", "")));
    assert_eq!(
        pods(&all)["ns/db-0"].metadata.labels.clone().unwrap()["statefulset.kubernetes.io/pod-name"],
        "db-0"
    );
    assert_eq!(
        pods(&all)["ns/once-0"].metadata.labels.clone().unwrap()["batch.kubernetes.io/job-name"],
        "once"
    );
}

#[test]
fn a_given_pod_of_the_same_name_stands_for_the_workload() {
    let text = workload("StatefulSet", "web", "") + &pod("web-0", "");
    let loaded = loaded(&text);
    assert_eq!(names(&loaded), ["ns/web-0"]);
    assert_eq!(pods(&loaded)["ns/web-0"].metadata.labels, None);
}

#[test]
fn workloads_of_one_name_get_a_stand_in_each() {
    let text = workload("Job", "web", "")
        + &workload("Deployment", "web", "")
        + &workload("StatefulSet", "web", "");
    let loaded = loaded(&text);
    assert_eq!(
        names(&loaded),
        ["ns/web-0", "ns/web-deployment-0", "ns/web-job-0"]
    );
    assert!(
        pods(&loaded)["ns/web-0"]
            .metadata
            .labels
            .clone()
            .unwrap()
            .contains_key("apps.kubernetes.io/pod-index")
    );
}

#[test]
fn a_dump_of_a_cluster_needs_no_stand_ins() {
    let replica_set = workload("ReplicaSet", "web-5d8f9c7b6", &owner("Deployment", "web"));
    let pod = owned_pod("web-5d8f9c7b6-abcde", &owner("ReplicaSet", "web-5d8f9c7b6"));
    let deployment = workload("Deployment", "web", "");
    assert_eq!(
        names(&loaded(
            &[deployment.clone(), replica_set.clone(), pod.clone()].concat()
        )),
        ["ns/web-5d8f9c7b6-abcde"]
    );
    // Without the ReplicaSet, or without the Deployment.
    assert_eq!(
        names(&loaded(&[deployment.clone(), pod.clone()].concat())),
        ["ns/web-5d8f9c7b6-abcde"]
    );
    assert_eq!(
        names(&loaded(&[replica_set.clone(), pod].concat())),
        ["ns/web-5d8f9c7b6-abcde"]
    );
    // Without pods the Deployment stands for them, once.
    assert_eq!(
        names(&loaded(&[deployment, replica_set.clone()].concat())),
        ["ns/web-0"]
    );
    // A ReplicaSet of an earlier revision.
    let old = replica_set.replace("spec: {template", "spec: {replicas: 0, template");
    assert_eq!(names(&loaded(&old)), [""; 0]);
    for kind in ["StatefulSet", "DaemonSet", "Job"] {
        let text = workload(kind, "web", "") + &owned_pod("web-x", &owner(kind, "web"));
        assert_eq!(names(&loaded(&text)), ["ns/web-x"], "{kind}");
    }
    let text = workload("CronJob", "web", "") + &owned_pod("web-28-x", &owner("Job", "web-28"));
    assert_eq!(names(&loaded(&text)), ["ns/web-28-x"]);
    let text = workload("CronJob", "web", "") + &workload("Job", "run", &owner("CronJob", "web"));
    assert_eq!(names(&loaded(&text)), ["ns/web-0"]);
}

#[test]
fn pods_of_another_workload_or_namespace_are_not_taken_for_its_own() {
    let deployment = workload("Deployment", "web", "");
    let other = owned_pod(
        "web-api-5d8f9c7b6-x",
        &owner("ReplicaSet", "web-api-5d8f9c7b6"),
    );
    assert_eq!(
        names(&loaded(&(deployment.clone() + &other))),
        ["ns/web-0", "ns/web-api-5d8f9c7b6-x"]
    );
    let elsewhere = owned_pod("web-5d8f9c7b6-x", &owner("ReplicaSet", "web-5d8f9c7b6"))
        .replace("namespace: ns", "namespace: there");
    assert_eq!(
        names(&loaded(&(deployment + &elsewhere))),
        ["ns/web-0", "there/web-5d8f9c7b6-x"]
    );
    // A ReplicaSet of its own, not one that the Deployment made: no hash has vowels.
    let blue = owned_pod("web-blue-x", &owner("ReplicaSet", "web-blue"));
    assert_eq!(
        names(&loaded(&(workload("Deployment", "web", "") + &blue))),
        ["ns/web-0", "ns/web-blue-x"]
    );
}

#[test]
fn a_pod_belongs_to_the_workload_at_the_top_of_its_owners() {
    let pod = |name: &str, kind: &str, owner: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, ownerReferences: \
             [{{apiVersion: v1, kind: {kind}, name: {owner}, uid: u}}]}}}}\n"
        )
    };
    let set = |name: &str, owner: &str| {
        format!(
            "---\n{{apiVersion: apps/v1, kind: ReplicaSet, metadata: {{name: {name}, namespace: shop, \
             ownerReferences: [{owner}]}}, spec: {{selector: {{}}, template: {{}}}}}}\n"
        )
    };
    let owned_by = |kind: &str, name: &str| {
        format!("{{apiVersion: apps/v1, kind: {kind}, name: {name}, uid: u}}")
    };
    let text = [
        pod("a", "ReplicaSet", "web-6c8f7d9b54"),
        pod("b", "ReplicaSet", "given-6c8f7d9b54"),
        set("given-6c8f7d9b54", &owned_by("Rollout", "canary")),
        // Of this name is no Deployment, the input knows.
        pod("c", "ReplicaSet", "alone-6c8f7d9b54"),
        set("alone-6c8f7d9b54", ""),
        pod("d", "Job", "nightly-29627712"),
        pod("e", "StatefulSet", "db"),
        pod("static", "Node", "node-1"),
        pod("round", "ReplicaSet", "x"),
        set("x", &owned_by("ReplicaSet", "z")),
        set("z", &owned_by("ReplicaSet", "x")),
        "---\n{apiVersion: v1, kind: Pod, metadata: {name: bare, namespace: shop}}\n".to_owned(),
        "---\n{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: log, namespace: shop}, \
         spec: {selector: {}, template: {}}}\n"
            .to_owned(),
    ];
    let loaded = loaded(&text.concat());
    let workloads: Vec<String> = loaded
        .workloads
        .iter()
        .map(|(pod, workload)| format!("{}: {workload}", pod.name))
        .collect();
    let expected = [
        "a: Deployment shop/web",
        "b: Rollout shop/canary",
        "c: ReplicaSet shop/alone-6c8f7d9b54",
        "d: CronJob shop/nightly",
        "e: StatefulSet shop/db",
        "log-node-1: DaemonSet shop/log",
        "round: ReplicaSet shop/x",
    ];
    assert_eq!(workloads, expected);
}
