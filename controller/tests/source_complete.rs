//! What files leave out: namespaces, nodes, addresses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up fails"
)]

#[path = "support/loaded.rs"]
mod loaded;

use std::collections::BTreeSet;
use std::net::IpAddr;

use controller::source::{Loaded, Note, Origin, load_bytes, summary};
use loaded::{ips, loaded, namespaces, node, node_ips, node_of, nodes, pod, pods, workload};
use policy_compiler::api::Object;

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
