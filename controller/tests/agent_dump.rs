//! The state dump: what `picket compile` makes of it is what the agent has in force.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the compiler's tests use the rest")]
#[path = "../../policy-compiler/tests/support/interactions.rs"]
mod interactions;
#[path = "../../policy-compiler/tests/support/parts.rs"]
mod parts;
#[path = "support/program.rs"]
mod program;
#[allow(dead_code, reason = "the compiler's tests use the rest")]
#[path = "../../policy-compiler/tests/support/random.rs"]
mod random;

use controller::agent::dump;
use controller::cluster::build;
use controller::source::load_bytes;
use interactions::NODES;
use policy_compiler::compile::compile;
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::*;
use policy_compiler::render;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

fn rules(cluster: &Cluster, node: &str) -> String {
    render::text(&lower(&compile(cluster, node), &Options::default()))
}

/// What the command line reads of the dump, and what it assumes.
fn read_back(cluster: &Cluster) -> (Cluster, Vec<String>) {
    let text = dump::list(cluster, "n1").to_string();
    let loaded = load_bytes([("dump.json", text.as_bytes())]).unwrap();
    let notes = loaded.notes.iter().map(ToString::to_string).collect();
    (build(&loaded, Default::default()).unwrap(), notes)
}

fn namespace(name: &str) -> Namespace {
    Namespace {
        name: name.to_owned(),
        labels: [(NAMESPACE_NAME_LABEL.to_owned(), name.to_owned())]
            .into_iter()
            .collect(),
    }
}

fn pod(name: &str, node: Option<&str>) -> Pod {
    Pod {
        id: NamespacedName::new("x", name),
        labels: Default::default(),
        node: node.map(str::to_owned),
        host_network: false,
        phase: Phase::Running,
        uid: None,
        presence: Presence::Listed,
        terminating: false,
        addresses: vec![],
        ports: [].into(),
    }
}

/// Random clusters, in which some pods are on no node, some nodes are known only from their pods or have no address,
/// and each phase is there; with all namespaces.
fn clusters() -> impl Strategy<Value = Cluster> {
    let phases = [
        Phase::Running,
        Phase::Pending,
        Phase::Unknown,
        Phase::Succeeded,
        Phase::Failed,
    ];
    let choices = proptest::collection::vec((0..4u8, 0..5usize), 12);
    (interactions::cluster(), choices).prop_map(move |(cluster, choices)| {
        let names = ["x", "y", "z"];
        let missing = names
            .into_iter()
            .filter(|name| cluster.namespace_labels(name).is_none());
        let namespaces: Vec<_> = missing
            .map(namespace)
            .chain(cluster.namespaces.values().cloned())
            .collect();
        let nodes = cluster.nodes.values().cloned().zip(&choices);
        let nodes = nodes.filter_map(|(mut node, (what, _))| match what {
            0 => None,
            1 => {
                node.addresses.clear();
                node.pod_cidrs = vec![Cidr::parse_strict("10.9.0.0/24").unwrap()];
                Some(node)
            }
            _ => Some(node),
        });
        let pods = cluster.pods.values().cloned().zip(&choices[3..]);
        let pods = pods.map(|(mut pod, (what, phase))| {
            if *what == 0 {
                pod.node = None;
            }
            pod.phase = phases[*phase];
            pod
        });
        let policies: Vec<_> = cluster.policies.values().cloned().collect();
        Cluster::new(namespaces, nodes, pods, policies)
    })
}

proptest! {
    #[test]
    fn the_rules_of_a_dump_are_those_of_the_cluster_to_the_byte(cluster in clusters()) {
        let (read, notes) = read_back(&cluster);
        prop_assert_eq!(notes, Vec::<String>::new());
        for node in NODES {
            prop_assert_eq!(rules(&read, node), rules(&cluster, node));
        }
        // Nodes that only pods name are there now.
        prop_assert!(read.namespaces == cluster.namespaces && read.pods == cluster.pods);
        prop_assert!(read.policies == cluster.policies);
        for (name, node) in read.nodes.iter() {
            match cluster.nodes.get(name) {
                Some(given) => prop_assert_eq!(given, node),
                None => prop_assert!(node.addresses.is_empty()),
            }
        }
        prop_assert_eq!(dump::list(&cluster, "n1").to_string(), dump::list(&cluster.clone(), "n1").to_string());
    }
}

#[test]
fn the_program_prints_of_a_dump_what_the_cluster_is_lowered_to() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..5 {
        let cluster = clusters().new_tree(&mut runner).unwrap().current();
        let dump = dump::list(&cluster, "n1").to_string();
        for node in NODES {
            let known = cluster.nodes.contains_key(node)
                || cluster
                    .pods
                    .values()
                    .any(|pod| pod.node.as_deref() == Some(node));
            let output = program::picket(&["compile", "-f", "-", "--node", node], &dump);
            program::exits(&output, if known { 0 } else { 2 });
            if known {
                assert_eq!(program::text(&output.stdout), rules(&cluster, node));
                // Two pods may claim one address; nothing else is said.
                let said = program::text(&output.stderr).lines();
                let assumed: Vec<_> = said
                    .filter(|line| !line.contains("is also that of"))
                    .collect();
                assert_eq!(assumed, Vec::<&str>::new());
            }
        }
    }
}

#[test]
fn a_node_that_only_pods_name_and_a_pod_on_no_node_stay_as_they_are() {
    let pods = [pod("a", Some("n9")), pod("b", None)];
    let cluster = Cluster::new([namespace("x")], [], pods, []);
    let (read, notes) = read_back(&cluster);
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(read.pods, cluster.pods);
    assert!(read.nodes.get("n9").unwrap().addresses.is_empty());
}

#[test]
fn a_namespace_that_is_not_known_is_left_out_and_the_command_line_says_that_it_makes_it_up() {
    let cluster = Cluster::new([], [], [pod("a", Some("n1"))], []);
    let kinds: Vec<_> = dump::list(&cluster, "n1")["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["Node", "Pod"]);
    let (_, notes) = read_back(&cluster);
    assert_eq!(
        notes,
        ["Namespace x: not given, made up with only its kubernetes.io/metadata.name label"]
    );
}

#[test]
fn a_dump_is_a_list_of_what_is_known() {
    let mut terminating = pod("a", Some("n1"));
    terminating.terminating = true;
    terminating.addresses = vec!["10.0.0.1".parse().unwrap()];
    terminating.ports = [ContainerPort {
        name: Some("http".to_owned()),
        protocol: Protocol::Tcp,
        port: 80,
    }]
    .into();
    let policy = NetworkPolicy {
        id: NamespacedName::new("x", "p"),
        selector: LabelSelector::default(),
        ingress: Some(vec![]),
        egress: None,
    };
    let cluster = Cluster::new([namespace("x")], [], [terminating], [policy]);
    let expected = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "status": {"addresses": []}},
        {"apiVersion": "v1", "kind": "Namespace",
         "metadata": {"name": "x", "labels": {"kubernetes.io/metadata.name": "x"}}},
        {"apiVersion": "v1", "kind": "Pod",
         "metadata": {"namespace": "x", "name": "a", "labels": {}, "deletionTimestamp": "1970-01-01T00:00:00Z"},
         "spec": {"nodeName": "n1", "hostNetwork": false, "containers": [
            {"name": "c0", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}]}]},
         "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
         "metadata": {"namespace": "x", "name": "p"},
         "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": []}},
    ]});
    assert_eq!(dump::list(&cluster, "n1"), expected);
}
