//! The document of interfaces: what belongs to the objects is taken, and everything else is refused with its place.

#![allow(clippy::unwrap_used)]

#[path = "support/program.rs"]
mod program;

use std::fs;

use controller::attachments::Document;
use controller::{cluster, source};
use policy_compiler::model::{Cluster, NamespacedName, Presence};
use policy_compiler::validate::Options;
use serde_json::{Value, json};

const OBJECTS: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: v1
kind: Pod
metadata: {namespace: x, name: a}
spec: {nodeName: n1, containers: [{name: c, image: i}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: x, name: ended}
spec: {nodeName: n1, containers: [{name: c, image: i}]}
status: {phase: Succeeded, podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: x, name: far}
spec: {nodeName: n2, containers: [{name: c, image: i}]}
status: {phase: Running, podIPs: [{ip: 10.0.1.1}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: x, name: host}
spec: {nodeName: n1, hostNetwork: true, containers: [{name: c, image: i}]}
status: {phase: Running, podIPs: [{ip: 192.0.2.1}]}
";

fn objects() -> Cluster {
    let loaded = source::load_bytes([("objects.yaml", OBJECTS.as_bytes())]).unwrap();
    cluster::build(&loaded, Options::default()).unwrap()
}

/// A pod of each kind.
fn document() -> Value {
    json!({
        "node": "n1",
        "pods": [
            {"pod": "x/a", "presence": "attached", "addresses": ["10.0.0.1", "fe80::1"], "interfaces": [
                {"interface": "veth1", "bridged": true, "addresses": ["10.0.0.1", "fe80::1"]}]},
            {"pod": "x/ended", "presence": "orphaned", "addresses": ["10.0.0.2"], "interfaces": []},
            {"pod": "x/gone", "presence": "orphaned", "addresses": ["10.0.0.3"], "interfaces": [
                {"interface": "veth3", "bridged": false, "addresses": ["10.0.0.3"]}],
             "object": {"apiVersion": "v1", "kind": "Pod",
                "metadata": {"namespace": "x", "name": "gone", "labels": {"app": "gone"}},
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
                "status": {"phase": "Running", "podIPs": []}}},
        ],
        "closed": [{"address": "10.0.0.9", "pod": "x/unknown"}],
    })
}

fn applied(text: &str) -> Result<controller::attachments::Applied, String> {
    let read = Document::read("node.json", text).map_err(|error| error.to_string())?;
    let applied = read.apply("node.json", "n1", objects());
    applied.map_err(|error| error.to_string())
}

#[test]
fn what_interfaces_say_of_pods_is_what_rules_are_made_of() {
    let applied = applied(&document().to_string()).unwrap();
    let pod = |name: &str| applied.cluster.pods[&NamespacedName::new("x", name)].clone();
    assert_eq!(pod("a").presence, Presence::Attached);
    assert_eq!(pod("a").addresses.len(), 2);
    assert_eq!(pod("ended").presence, Presence::Orphaned);
    assert_eq!(pod("gone").presence, Presence::Orphaned);
    assert_eq!(pod("gone").labels["app"], "gone");
    assert_eq!(pod("gone").addresses, document_addresses("10.0.0.3"));
    assert_eq!(pod("far").presence, Presence::Listed);
    let interfaces: Vec<_> = applied.interfaces.keys().map(String::as_str).collect();
    assert_eq!(interfaces, ["x/a", "x/gone"]);
    assert_eq!(applied.closed.len(), 1);
}

fn document_addresses(text: &str) -> Vec<std::net::IpAddr> {
    vec![text.parse().unwrap()]
}

/// What is said with another value at a place; with none, of the place without it.
fn refused(place: &str, value: Option<Value>) -> String {
    let mut document = document();
    let (parent, field) = place.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(fields), Some(value)) => drop(fields.insert(field.to_owned(), value)),
        (Value::Object(fields), None) => drop(fields.remove(field).unwrap()),
        (Value::Array(items), Some(value)) => items[field.parse::<usize>().unwrap()] = value,
        _ => panic!("{place}"),
    }
    match applied(&document.to_string()) {
        Ok(_) => panic!("{place} is taken"),
        Err(message) => message,
    }
}

#[test]
fn what_is_wrong_is_refused_with_file_entry_and_field() {
    let twice = json!(["10.0.0.1", "10.0.0.1"]);
    #[rustfmt::skip]
    let cases = [
        ("/node", Some(json!("n2")), "node.json: node: is n2, and --node is n1"),
        ("/nodes", Some(json!(1)), "unknown field `nodes`"),
        ("/closed", None, "missing field `closed`"),
        ("/pods/0/pod", Some(json!("a")), "node.json: pods[0].pod: \"a\" is no NAMESPACE/NAME"),
        ("/pods/0/pod", Some(json!("x/a/b")), "node.json: pods[0].pod: \"x/a/b\" is no NAMESPACE/NAME"),
        ("/pods/0/pod", Some(json!("x/nobody")), "node.json: pods[0].pod: there is no Pod x/nobody"),
        ("/pods/0/pod", Some(json!("x/far")), "node.json: pods[0].pod: x/far is not on node n1"),
        ("/pods/0/pod", Some(json!("x/host")), "node.json: pods[0].pod: x/host has the network of its node, and no interface"),
        ("/pods/1/pod", Some(json!("x/a")), "node.json: pods[1].presence: x/a is among the objects, and has not ended"),
        ("/pods/0/presence", Some(json!("orphaned")), "node.json: pods[0].presence: x/a is among the objects, and has not ended"),
        ("/pods/1/presence", Some(json!("attached")), "node.json: pods[1].presence: x/ended has ended, and is orphaned"),
        ("/pods/2/presence", Some(json!("attached")), "node.json: pods[2].object: is of orphaned pods only"),
        ("/pods/2/presence", Some(json!("listed")), "node.json: pods[2].presence: unknown variant `listed`"),
        ("/pods/2/object", None, "node.json: pods[2].pod: there is no Pod x/gone"),
        ("/pods/2/pod", Some(json!("x/other")), "node.json: pods[2].object: is not the Pod x/other"),
        ("/pods/2/pod", Some(json!("x/a")), "node.json: pods[2]"),
        ("/pods/2/object/kind", Some(json!("Node")), "node.json: pods[2].object: "),
        ("/pods/2/object/metadata/labels", Some(json!({"app": "-"})), "node.json: pods[2].object: "),
        ("/pods/2/object/spec/nodeName", Some(json!("n2")), "node.json: pods[2].pod: x/gone is not on node n1"),
        ("/pods/0/addresses/1", Some(json!("fe80")), "node.json: pods[0].addresses[1]: "),
        ("/pods/0/addresses/1", Some(json!("ff02::1")), "node.json: pods[0].addresses[1]: ff02::1 is no address of a pod"),
        ("/pods/0/addresses", Some(twice.clone()), "node.json: pods[0].addresses[1]: 10.0.0.1 is there twice"),
        ("/pods/0/addresses", Some(json!([])), "node.json: pods[0].interfaces[0].addresses: 10.0.0.1 is not among those of x/a"),
        ("/pods/0/interfaces/0/interface", Some(json!("a b")), "node.json: pods[0].interfaces[0].interface: \"a b\" is no interface name"),
        ("/pods/2/interfaces/0/interface", Some(json!("veth1")), "node.json: pods[2].interfaces[0].interface: veth1 is there twice"),
        ("/pods/0/interfaces/0/bridged", Some(json!("no")), "node.json: pods[0].interfaces[0].bridged: invalid type"),
        ("/pods/0/interfaces/0/bridged", None, "node.json: pods[0].interfaces[0]: missing field `bridged`"),
        ("/pods/0/interfaces/0/addresses", Some(twice), "node.json: pods[0].interfaces[0].addresses[1]: 10.0.0.1 is there twice"),
        ("/closed/0/pod", Some(json!("unknown")), "node.json: closed[0].pod: \"unknown\" is no NAMESPACE/NAME"),
        ("/closed/0/address", Some(json!("::")), "node.json: closed[0].address: :: is no address of a pod"),
    ];
    for (place, value, expected) in cases {
        let message = refused(place, value);
        assert!(message.contains(expected), "{place}: {message}");
    }
    let text = document().to_string();
    let message = applied(&format!("{text} {text}")).unwrap_err();
    assert!(message.contains("trailing characters"), "{message}");
    let mut twice = document();
    let first = twice["pods"][0].clone();
    twice["pods"][1] = first;
    let message = applied(&twice.to_string()).unwrap_err();
    assert!(message.starts_with("node.json: pods[1]"), "{message}");
    assert!(message.ends_with("is there twice"), "{message}");
}

#[test]
fn compile_takes_the_document_and_exits_with_2_where_it_is_wrong() {
    let file = |name: &str, text: &str| {
        let path = format!("{}/attachments-{name}", env!("CARGO_TARGET_TMPDIR"));
        fs::write(&path, text).unwrap();
        path
    };
    let compile = |attachments: &str| {
        let arguments = [
            "compile",
            "-f",
            "-",
            "--node",
            "n1",
            "--attachments",
            attachments,
        ];
        program::picket(&arguments, OBJECTS)
    };
    let output = compile(&file("good.json", &document().to_string()));
    program::exits(&output, 0);
    let rules = program::text(&output.stdout);
    for expected in [
        "\"veth1\" . fe80::1",
        "\"veth3\" . 10.0.0.3",
        "egress4_newcomers",
        "table bridge picket",
    ] {
        assert!(rules.contains(expected), "{expected}: {rules}");
    }
    let bad = file("bad.json", "{}");
    let output = compile(&bad);
    program::exits(&output, 2);
    let said = program::text(&output.stderr);
    assert!(
        said.contains(&format!("error: {bad}: missing field `node`")),
        "{said}"
    );
    let missing = format!("{bad}.missing");
    let output = compile(&missing);
    program::exits(&output, 2);
    assert!(program::text(&output.stderr).contains(&missing));
}
