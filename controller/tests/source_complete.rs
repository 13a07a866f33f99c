//! What files leave out: stand-ins, namespaces, nodes, addresses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use controller::source::{Loaded, Note, Origin, load_bytes, summary};
use policy_compiler::api::{Namespace, Node, Object, Pod};

#[track_caller]
fn loaded(text: &str) -> Loaded {
    match load_bytes([("x.yaml", text.as_bytes())]) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{errors}"),
    }
}

fn pods(loaded: &Loaded) -> BTreeMap<String, Pod> {
    let pods = loaded
        .objects
        .iter()
        .filter_map(|sourced| match &sourced.object {
            Object::Pod(pod) => Some(pod.clone()),
            _ => None,
        });
    let name = |pod: &Pod| {
        format!(
            "{}/{}",
            pod.metadata.namespace.clone().unwrap(),
            pod.metadata.name.clone().unwrap()
        )
    };
    pods.map(|pod| (name(&pod), pod)).collect()
}

fn nodes(loaded: &Loaded) -> BTreeMap<String, Node> {
    let nodes = loaded
        .objects
        .iter()
        .filter_map(|sourced| match &sourced.object {
            Object::Node(node) => Some((node.metadata.name.clone().unwrap(), node.clone())),
            _ => None,
        });
    nodes.collect()
}

fn namespaces(loaded: &Loaded) -> BTreeMap<String, Namespace> {
    let namespaces = loaded
        .objects
        .iter()
        .filter_map(|sourced| match &sourced.object {
            Object::Namespace(namespace) => {
                Some((namespace.metadata.name.clone().unwrap(), namespace.clone()))
            }
            _ => None,
        });
    namespaces.collect()
}

fn names(loaded: &Loaded) -> Vec<String> {
    pods(loaded).into_keys().collect()
}

fn ips(pod: &Pod) -> Vec<String> {
    let status = pod.status.clone().unwrap_or_default();
    let all: Vec<String> = status
        .pod_ips
        .unwrap_or_default()
        .into_iter()
        .map(|ip| ip.ip)
        .collect();
    assert_eq!(
        all.first(),
        status.pod_ip.as_ref(),
        "podIP is the first of podIPs"
    );
    all
}

fn node_of(pod: &Pod) -> String {
    pod.spec.clone().unwrap().node_name.unwrap()
}

fn node_ips(node: &Node) -> Vec<String> {
    let addresses = node.status.clone().unwrap().addresses.unwrap();
    addresses
        .into_iter()
        .map(|address| address.address)
        .collect()
}

fn pod(name: &str, rest: &str) -> String {
    format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: ns}}\n{rest}\n")
}

fn node(name: &str, rest: &str) -> String {
    format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n{rest}\n")
}

fn workload(kind: &str, name: &str, rest: &str) -> String {
    let version = if kind.ends_with("Job") {
        "batch/v1"
    } else {
        "apps/v1"
    };
    let spec = "template: {metadata: {labels: {app: web}}, spec: {hostNetwork: false, containers: [{name: c, ports: \
                [{name: http, containerPort: 80}]}], initContainers: [{name: i, restartPolicy: Always}]}}";
    let spec = if kind == "CronJob" {
        format!("schedule: '* * * * *', jobTemplate: {{spec: {{{spec}}}}}")
    } else {
        spec.to_owned()
    };
    format!(
        "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: ns{rest}}}\nspec: {{{spec}}}\n"
    )
}

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
fn namespaces_that_objects_name_exist_with_their_label() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: given, labels: {a: b}}\n---\n\
                apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: named}\nspec: {podSelector: {}}\n---\n\
                apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n";
    let loaded = loaded(text);
    let labels: Vec<String> = namespaces(&loaded)
        .into_iter()
        .map(|(name, namespace)| format!("{name} {:?}", namespace.metadata.labels.unwrap()))
        .collect();
    assert_eq!(
        labels,
        [
            "default {\"kubernetes.io/metadata.name\": \"default\"}",
            "given {\"a\": \"b\", \"kubernetes.io/metadata.name\": \"given\"}",
            "named {\"kubernetes.io/metadata.name\": \"named\"}",
        ]
    );
    let notes: Vec<String> = loaded.notes.iter().map(Note::to_string).collect();
    assert!(
        notes.contains(&"Pod default/p: has no namespace, taken to be in `default`".to_owned()),
        "{notes:?}"
    );
    let origin = |name: &str| {
        let found = loaded
            .objects
            .iter()
            .find(|sourced| sourced.object.metadata().name.as_deref() == Some(name));
        found.unwrap().origin.clone()
    };
    assert_eq!(origin("named"), Origin::MadeUp);
}

#[test]
fn a_namespace_with_another_name_in_its_label_is_refused() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {kubernetes.io/metadata.name: b}}\n";
    let errors = load_bytes([("x.yaml", text.as_bytes())]).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "x.yaml:1: Namespace a: metadata.labels[kubernetes.io/metadata.name]: is `b`, but an API server sets it to the namespace's name"
    );
    loaded(&text.replace("metadata.name: b", "metadata.name: a"));
}

#[test]
fn cluster_scoped_objects_lose_a_namespace_as_on_the_api_server() {
    let loaded = loaded("apiVersion: v1\nkind: Node\nmetadata: {name: n1, namespace: x}\n");
    assert_eq!(nodes(&loaded)["n1"].metadata.namespace, None);
    assert_eq!(namespaces(&loaded).len(), 0);
}

#[test]
fn nodes_that_pods_name_exist_and_others_are_placed_in_turn() {
    let text = pod("c", "spec: {nodeName: n2, containers: []}")
        + &node("n1", "")
        + &pod("a", "")
        + &pod("b", "")
        + &pod("d", "");
    let loaded = loaded(&text);
    let places: Vec<String> = pods(&loaded).values().map(node_of).collect();
    assert_eq!(places, ["n1", "n2", "n2", "n1"]);
    assert_eq!(nodes(&loaded).into_keys().collect::<Vec<_>>(), ["n1", "n2"]);
}

#[test]
fn without_any_node_there_is_one() {
    assert_eq!(
        nodes(&loaded("")).into_keys().collect::<Vec<_>>(),
        ["node-1"]
    );
    assert_eq!(node_of(&pods(&loaded(&pod("a", "")))["ns/a"]), "node-1");
}

#[test]
fn a_pod_of_a_repository_runs_at_made_up_addresses_of_both_families() {
    let loaded = loaded(&(pod("a", "") + &pod("b", "")));
    assert_eq!(
        ips(&pods(&loaded)["ns/a"]),
        ["10.244.0.10", "fd00:10:244::a"]
    );
    assert_eq!(
        ips(&pods(&loaded)["ns/b"]),
        ["10.244.0.11", "fd00:10:244::b"]
    );
    assert_eq!(
        node_ips(&nodes(&loaded)["node-1"]),
        ["172.18.0.10", "fd00:172:18::a"]
    );
}

#[test]
fn a_live_pod_without_an_address_keeps_having_none() {
    let loaded = loaded(&pod("a", "status: {phase: Pending}"));
    assert_eq!(ips(&pods(&loaded)["ns/a"]), [""; 0]);
    assert_eq!(
        pods(&loaded)["ns/a"]
            .status
            .clone()
            .unwrap()
            .phase
            .as_deref(),
        Some("Pending")
    );
}

#[test]
fn addresses_that_are_given_stay() {
    let status = "status: {podIP: 10.9.9.9, podIPs: [{ip: 10.9.9.9}]}";
    let loaded = loaded(
        &(pod("a", status)
            + &node(
                "nx",
                "status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}",
            )),
    );
    assert_eq!(ips(&pods(&loaded)["ns/a"]), ["10.9.9.9"]);
    assert_eq!(node_ips(&nodes(&loaded)["nx"]), ["192.0.2.1"]);
}

#[test]
fn the_families_are_those_of_the_input() {
    let cases = [
        (
            node(
                "nx",
                "status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}",
            ),
            vec!["10.244.0.10"],
        ),
        (
            node(
                "nx",
                "status: {addresses: [{type: Hostname, address: nx}, {type: InternalIP, address: '2001:db8::1'}]}",
            ),
            vec!["fd00:10:244::a"],
        ),
        (
            node("nx", "spec: {podCIDR: 10.1.0.0/24}"),
            vec!["10.1.0.10"],
        ),
        (
            node(
                "nx",
                "spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, 'fd01::/64']}",
            ),
            vec!["10.1.0.10", "fd01::a"],
        ),
        (
            pod("z", "status: {phase: Running, podIP: 'fd09::9'}"),
            vec!["fd00:10:244::a"],
        ),
        (
            node("nx", "spec: {podCIDR: 10.1.0.0/24}")
                + &pod("z", "status: {phase: Running, hostIP: '2001:db8::1'}"),
            vec!["10.1.0.10", "fd00:10:244::a"],
        ),
        (
            node("nx", "status: {addresses: [{type: Hostname, address: nx}]}"),
            vec!["10.244.0.10", "fd00:10:244::a"],
        ),
    ];
    for (given, expected) in cases {
        let loaded = loaded(&(given.clone() + &pod("a", "")));
        assert_eq!(ips(&pods(&loaded)["ns/a"]), expected, "{given}");
    }
}

#[test]
fn a_node_without_addresses_has_those_that_its_pods_tell() {
    let text = node("nx", "")
        + &pod(
            "a",
            "spec: {nodeName: nx}\nstatus: {phase: Running, hostIP: 192.0.2.7, hostIPs: [{ip: 192.0.2.7}]}",
        );
    let loaded = loaded(&text);
    assert_eq!(node_ips(&nodes(&loaded)["nx"]), ["192.0.2.7"]);
    assert!(loaded.notes.iter().any(|note| matches!(
        note,
        Note::NodeAddressed {
            from_pods: true,
            ..
        }
    )));
}

#[test]
fn a_pod_on_the_host_network_has_its_nodes_addresses() {
    let loaded = loaded(&pod("a", "spec: {hostNetwork: true, containers: []}"));
    assert_eq!(
        ips(&pods(&loaded)["ns/a"]),
        ["172.18.0.10", "fd00:172:18::a"]
    );
    let external = node(
        "nx",
        "status: {addresses: [{type: ExternalIP, address: 203.0.113.1}, {type: InternalIP, address: 192.0.2.1}]}",
    );
    let loaded = self::loaded(&(external + &pod("a", "spec: {hostNetwork: true}")));
    assert_eq!(ips(&pods(&loaded)["ns/a"]), ["192.0.2.1"]);
}

#[test]
fn no_address_of_the_input_is_made_up_again() {
    let text = pod(
        "z",
        "status: {phase: Running, podIP: 10.244.0.10, podIPs: [{ip: 10.244.0.10}, {ip: 'fd00:10:244::b'}]}",
    ) + "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: ns}\nspec:\n  podSelector: {}\n  \
           ingress: [{from: [{ipBlock: {cidr: 10.244.0.0/24, except: [10.244.0.11/32]}}]}]\n"
        + &node(
            "m",
            "spec: {podCIDR: 172.18.0.0/28}\nstatus: {addresses: [{type: InternalIP, address: 172.18.0.17}]}",
        )
        + &pod("a", "spec: {nodeName: nx}")
        + &pod("b", "spec: {nodeName: nx}");
    let loaded = loaded(&text);
    // Node nx is the second in order, so its block is 1.
    assert_eq!(
        ips(&pods(&loaded)["ns/a"]),
        ["10.244.1.10", "fd00:10:244:1::a"]
    );
    assert_eq!(
        node_ips(&nodes(&loaded)["nx"]),
        ["172.18.0.16", "fd00:172:18::b"]
    );
    let text = text.replace("nodeName: nx}", "nodeName: k}");
    let loaded = self::loaded(&text);
    assert_eq!(
        ips(&pods(&loaded)["ns/a"]),
        ["10.244.0.12", "fd00:10:244::a"]
    );
    assert_eq!(
        ips(&pods(&loaded)["ns/b"]),
        ["10.244.0.13", "fd00:10:244::c"]
    );
}

#[test]
fn a_full_block_rolls_over_to_one_that_no_node_has() {
    let mut text = node("n1", "") + &node("n2", "spec: {podCIDR: 10.1.0.0/30}");
    for index in 0..300 {
        text += &pod(&format!("a{index:03}"), "spec: {nodeName: n1}");
    }
    text += &pod("b0", "spec: {nodeName: n2}");
    text += &pod("b1", "spec: {nodeName: n2}");
    let loaded = loaded(&text);
    let pods = pods(&loaded);
    assert_eq!(ips(&pods["ns/a244"]), ["10.244.0.254"]);
    assert_eq!(ips(&pods["ns/a245"]), ["10.244.2.10"]);
    assert_eq!(ips(&pods["ns/b0"]), ["10.1.0.2"]);
    assert_eq!(ips(&pods["ns/b1"]), ["10.244.1.10"]);
    let all: BTreeSet<IpAddr> = pods
        .values()
        .map(|pod| ips(pod)[0].parse().unwrap())
        .collect();
    assert_eq!(all.len(), 302);
}

#[test]
fn a_large_cluster_has_addresses_for_all() {
    let mut text = String::new();
    for index in 0..3200 {
        text += &node(&format!("n{index:04}"), "");
    }
    text += &workload("DaemonSet", "ds", "");
    let loaded = loaded(&text);
    let all: BTreeSet<String> = pods(&loaded).values().flat_map(ips).collect();
    assert_eq!(all.len(), 2 * 3200);
    assert_eq!(ips(&pods(&loaded)["ns/ds-n3071"])[0], "10.255.255.10");
    assert_eq!(
        ips(&pods(&loaded)["ns/ds-n3072"]),
        ["100.64.0.10", "fd00:10:244:c00::a"]
    );
}

#[test]
fn an_input_that_leaves_no_address_is_refused() {
    let text = node("m", "spec: {podCIDRs: [0.0.0.0/0]}")
        + &node("nx", "")
        + &pod("a", "spec: {nodeName: nx}");
    let errors = load_bytes([("x.yaml", text.as_bytes())])
        .unwrap_err()
        .to_string();
    assert!(
        errors.contains("Pod ns/a: no address is left to make up for it"),
        "{errors}"
    );
}

#[test]
fn the_order_of_files_and_documents_changes_nothing() {
    let parts = [
        pod("b", ""),
        pod("a", "spec: {nodeName: n2}"),
        node("n1", ""),
        workload("Deployment", "web", ""),
        workload("DaemonSet", "ds", ""),
    ];
    let bare = |loaded: Loaded| {
        let objects: Vec<Object> = loaded
            .objects
            .into_iter()
            .map(|sourced| sourced.object)
            .collect();
        (objects, loaded.notes)
    };
    let forward = bare(loaded(&parts.concat()));
    let backward = bare(loaded(&parts.iter().rev().cloned().collect::<String>()));
    assert_eq!(forward, backward);
    let kinds: Vec<&str> = forward.0.iter().map(Object::kind).collect();
    assert_eq!(
        kinds,
        [
            "Namespace",
            "Node",
            "Node",
            "Pod",
            "Pod",
            "Pod",
            "Pod",
            "Pod"
        ]
    );
}

#[test]
fn an_address_that_no_pod_can_have_is_left_out_and_said() {
    let pod = |name: &str, status: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nstatus: {{{status}}}\n---\n"
        )
    };
    let text = pod(
        "any",
        "phase: Running, podIP: 0.0.0.0, podIPs: [{ip: 0.0.0.0}, {ip: 'fd00::1'}]",
    ) + &pod("group", "podIP: 224.0.0.1")
        + &pod("loopback", "phase: Running, podIPs: [{ip: '::1'}]")
        + &pod("mapped", "phase: Running, podIP: '::ffff:127.0.0.1'");
    let loaded = loaded(&text);
    let said: Vec<_> = loaded
        .notes
        .iter()
        .filter(|note| matches!(note, Note::AddressLeftOut { .. }))
        .map(Note::to_string)
        .collect();
    let expected = [
        ("any", "0.0.0.0"),
        ("group", "224.0.0.1"),
        ("loopback", "::1"),
        ("mapped", "127.0.0.1"),
    ]
    .map(|(name, address)| {
        format!("Pod default/{name}: {address} is no address that a pod can have, and is left out")
    });
    assert_eq!(said, expected);
    let left = |name: &str| {
        let status = pods(&loaded)[&format!("default/{name}")]
            .status
            .clone()
            .unwrap();
        let listed = status.pod_ips.unwrap_or_default();
        (
            status.pod_ip,
            listed.into_iter().map(|ip| ip.ip).collect::<Vec<_>>(),
        )
    };
    assert_eq!(left("any"), (None, vec!["fd00::1".to_owned()]));
    assert!(
        left("group")
            .0
            .is_some_and(|address| address.starts_with("fd00:10:244:"))
    );
    assert_eq!(left("loopback"), (None, vec![]));
    assert_eq!(left("mapped"), (None, vec![]));
}

#[test]
fn what_is_no_address_is_not_replaced_by_a_made_up_one() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus: {podIP: garbage}\n";
    let status = pods(&loaded(text))["default/p"].status.clone().unwrap();
    assert_eq!(status.pod_ip.as_deref(), Some("garbage"));
}

#[test]
fn notes_without_number_are_summarised() {
    let text: String = (0..40_000)
        .map(|number| {
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: p{number}, namespace: x}}}}\n---\n"
            )
        })
        .collect();
    let lines = summary(&loaded(&text).notes);
    assert!(lines.len() < 20, "{} lines", lines.len());
    assert_eq!(
        lines.last().map(String::as_str),
        Some("... and 39990 more like these")
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

#[test]
fn a_bad_name_that_makes_something_up_is_refused_where_it_stands() {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x_}, spec: {nodeName: n-, containers: []}}";
    let built =
        controller::cluster::build(&loaded(pod), policy_compiler::validate::Options::default());
    let text = built.unwrap_err().to_string();
    let lines = text
        .lines()
        .map(|line| line.split(": Invalid").next().unwrap());
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [
            "x.yaml:1: Pod x_/a: metadata.namespace",
            "x.yaml:1: Pod x_/a: spec.nodeName",
        ]
    );
}
