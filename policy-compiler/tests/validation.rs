//! What the API server refuses is refused with its field path; what is odd but valid passes.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use policy_compiler::api;
use policy_compiler::model::{NetworkPolicy, Peers, Ports};
use policy_compiler::validate::{FieldError, Options, namespace, network_policy, node, pod};
use serde_json::{Value, json};

fn validate(spec: Value, options: Options) -> Result<NetworkPolicy, Vec<FieldError>> {
    let object = json!({ "metadata": { "name": "p", "namespace": "x" }, "spec": spec });
    let policy: api::NetworkPolicy = serde_json::from_value(object).unwrap();
    network_policy(&policy, options)
}

fn errors(spec: Value) -> Vec<String> {
    match validate(spec, Options::default()) {
        Ok(policy) => panic!("accepted as {policy:#?}"),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

/// Refused with exactly one error that starts so.
#[track_caller]
fn refused(spec: Value, start: &str) {
    let errors = errors(spec);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(
        errors[0].starts_with(start),
        "{errors:#?}\nshould start with {start}"
    );
}

#[track_caller]
fn accepted(spec: Value) -> NetworkPolicy {
    validate(spec, Options::default()).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn port(port: Value) -> Value {
    json!({ "ingress": [{ "ports": [port] }] })
}

fn peer(peer: Value) -> Value {
    json!({ "egress": [{}, { "to": [peer] }] })
}

#[test]
fn ports_are_checked_as_the_api_server_does() {
    let path = "spec.ingress[0].ports[0]";
    for (given, error) in [
        (
            json!({"protocol": "tcp"}),
            r#"protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP""#,
        ),
        (
            json!({"protocol": ""}),
            r#"protocol: Unsupported value: """#,
        ),
        (
            json!({"protocol": "ICMP"}),
            r#"protocol: Unsupported value: "ICMP""#,
        ),
        (
            json!({"port": 0}),
            "port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"port": -1}),
            "port: Invalid value: -1: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"port": 65536}),
            "port: Invalid value: 65536: must be between 1 and 65535",
        ),
        (
            json!({"port": "80"}),
            r#"port: Invalid value: "80": must contain at least one letter (a-z)"#,
        ),
        (
            json!({"port": "a--b"}),
            r#"port: Invalid value: "a--b": must not contain consecutive hyphens"#,
        ),
        (
            json!({"port": "-a"}),
            r#"port: Invalid value: "-a": must not begin or end with a hyphen"#,
        ),
        (
            json!({"port": "Http"}),
            r#"port: Invalid value: "Http": must contain only alpha-numeric"#,
        ),
        (
            json!({"port": "sixteen-letters0"}),
            r#"port: Invalid value: "sixteen-letters0": must be no more than 15"#,
        ),
        (
            json!({"endPort": 80}),
            "endPort: Forbidden: may not be specified when `port` is not specified",
        ),
        (
            json!({"port": "http", "endPort": 80}),
            "endPort: Forbidden: may not be specified when `port` is non-numeric",
        ),
        (
            json!({"port": 81, "endPort": 80}),
            "endPort: Invalid value: 80: must be greater than or equal to `port`",
        ),
        (
            json!({"port": 80, "endPort": 65536}),
            "endPort: Invalid value: 65536: must be between 1 and 65535",
        ),
    ] {
        refused(port(given), &format!("{path}.{error}"));
    }
    for given in [
        json!({}),
        json!({"protocol": "SCTP"}),
        json!({"port": 1}),
        json!({"port": 65535}),
        json!({"port": 80, "endPort": 80}),
        json!({"port": 1, "endPort": 65535}),
        json!({"port": "a-very-long-one"}),
    ] {
        accepted(port(given));
    }
}

#[test]
fn peers_are_checked_as_the_api_server_does() {
    let path = "spec.egress[1].to[0]";
    for (given, error) in [
        (json!({}), ": Required value: must specify a peer"),
        (
            json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}),
            ": Forbidden: may not specify both ipBlock and another peer",
        ),
        (
            json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "namespaceSelector": {}}),
            ": Forbidden: may not specify both ipBlock and another peer",
        ),
        (json!({"ipBlock": {}}), ".ipBlock.cidr: Required value"),
        (
            json!({"ipBlock": {"cidr": ""}}),
            ".ipBlock.cidr: Required value",
        ),
        (
            json!({"ipBlock": {"cidr": "10.0.0.1"}}),
            r#".ipBlock.cidr: Invalid value: "10.0.0.1": must be a valid CIDR value"#,
        ),
        (
            json!({"ipBlock": {"cidr": "10.0.0.5/8"}}),
            r#".ipBlock.cidr: Invalid value: "10.0.0.5/8": must not have bits set beyond the prefix length"#,
        ),
        (
            json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.0.0.0/8"]}}),
            r#".ipBlock.except[1]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`"#,
        ),
        (
            json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["::/64"]}}),
            r#".ipBlock.except[0]: Invalid value: "::/64": must be a strict subset of `cidr`"#,
        ),
        (
            json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["nonsense"]}}),
            r#".ipBlock.except[0]: Invalid value: "nonsense": must be a valid CIDR value"#,
        ),
    ] {
        refused(peer(given), &format!("{path}{error}"));
    }
    accepted(peer(json!({"podSelector": {}})));
    accepted(peer(
        json!({"ipBlock": {"cidr": "2001:DB8::/32", "except": ["2001:db8:1::/48"]}}),
    ));
}

#[test]
fn selectors_are_checked_wherever_they_stand() {
    let bad = json!({"matchExpressions": [{"key": "a", "operator": "In"}]});
    let wrong = "matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'";
    refused(
        json!({"podSelector": bad}),
        &format!("spec.podSelector.{wrong}"),
    );
    refused(
        peer(json!({"podSelector": bad})),
        &format!("spec.egress[1].to[0].podSelector.{wrong}"),
    );
    refused(
        peer(json!({"namespaceSelector": bad})),
        &format!("spec.egress[1].to[0].namespaceSelector.{wrong}"),
    );
    let select = |selector: Value| json!({ "podSelector": selector });
    for (given, error) in [
        (
            json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": []}]}),
            "matchExpressions[0].values: Required value",
        ),
        (
            json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
            "matchExpressions[0].values: Forbidden",
        ),
        (
            json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist", "values": ["b"]}]}),
            "matchExpressions[0].values: Forbidden",
        ),
        (
            json!({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}),
            r#"matchExpressions[0].operator: Invalid value: "Gt": not a valid selector operator"#,
        ),
        (
            json!({"matchExpressions": [{"key": "a", "operator": "in", "values": ["1"]}]}),
            "matchExpressions[0].operator: Invalid value",
        ),
        (
            json!({"matchExpressions": [{"key": "-a", "operator": "Exists"}]}),
            "matchExpressions[0].key: Invalid value",
        ),
        (
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["ok", "not ok"]}]}),
            r#"matchExpressions[0].values[1]: Invalid value: "not ok""#,
        ),
        (
            json!({"matchLabels": {"a/b/c": "d"}}),
            r#"matchLabels: Invalid value: "a/b/c""#,
        ),
        (
            json!({"matchLabels": {"a": "-d"}}),
            r#"matchLabels: Invalid value: "-d""#,
        ),
    ] {
        refused(select(given), &format!("spec.podSelector.{error}"));
    }
    accepted(select(json!({"matchLabels": {"example.com/a": ""}})));
    accepted(select(json!({"matchLabels": null})));
}

#[test]
fn policy_types_are_a_short_list_of_known_words() {
    refused(
        json!({"policyTypes": ["Ingress", "Egress", "Ingress"]}),
        "spec.policyTypes: Invalid value",
    );
    refused(
        json!({"policyTypes": ["ingress"]}),
        r#"spec.policyTypes[0]: Unsupported value: "ingress": supported values: "Egress", "Ingress""#,
    );
    accepted(json!({"policyTypes": ["Ingress", "Ingress"]}));
}

#[test]
fn policy_types_default_to_ingress_and_to_egress_if_there_is_a_rule_for_it() {
    let isolates = |spec: Value| {
        let policy = accepted(spec);
        (policy.ingress.is_some(), policy.egress.is_some())
    };
    for absent in [
        json!({}),
        json!({"policyTypes": null}),
        json!({"policyTypes": []}),
    ] {
        assert_eq!(isolates(absent.clone()), (true, false));
        for empty in [json!(null), json!([])] {
            let mut spec = absent.clone();
            spec["egress"] = empty;
            assert_eq!(isolates(spec), (true, false));
        }
        let mut spec = absent;
        spec["egress"] = json!([{}]);
        assert_eq!(isolates(spec), (true, true));
    }
    assert_eq!(
        isolates(json!({"policyTypes": ["Egress"], "ingress": [{}]})),
        (false, true)
    );
    assert_eq!(
        isolates(json!({"policyTypes": ["Ingress"], "egress": [{}]})),
        (true, false)
    );
    assert_eq!(isolates(json!(null)), (true, false));
}

#[test]
fn null_missing_and_empty_lists_mean_everything() {
    for rule in [
        json!({}),
        json!({"from": null, "ports": null}),
        json!({"from": [], "ports": []}),
    ] {
        let policy = accepted(json!({ "ingress": [rule] }));
        let rule = &policy.ingress.unwrap()[0];
        assert_eq!((&rule.peers, &rule.ports), (&Peers::Any, &Ports::Any));
    }
}

#[test]
fn every_error_of_an_object_is_reported() {
    let spec = json!({
        "policyTypes": ["x"],
        "ingress": [{"from": [{}], "ports": [{"port": 0}]}],
        "egress": [{"to": [{"ipBlock": {"cidr": "x"}}]}],
    });
    assert_eq!(errors(spec).len(), 4);
}

#[test]
fn lenient_reading_accepts_what_old_clusters_hold() {
    let lenient = Options { lenient_cidr: true };
    for cidr in [
        "10.0.0.5/8",
        "010.0.0.0/8",
        "10.0.0.0/08",
        "::ffff:10.0.0.0/104",
    ] {
        let spec = peer(json!({"ipBlock": {"cidr": cidr}}));
        assert!(validate(spec.clone(), lenient).is_ok(), "{cidr}");
        refused(spec, "spec.egress[1].to[0].ipBlock.cidr: Invalid value");
    }
    let spec = peer(json!({"ipBlock": {"cidr": "10.0.0.0/33"}}));
    assert!(validate(spec, lenient).is_err());
}

#[test]
fn metadata_is_checked() {
    let named = |metadata: Value| {
        let policy: api::NetworkPolicy =
            serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        network_policy(&policy, Options::default())
    };
    assert_eq!(
        named(json!({"name": "a.b"})).unwrap().id.to_string(),
        "default/a.b"
    );
    assert!(named(json!({"name": "a".repeat(253)})).is_ok());
    for bad in [
        json!({}),
        json!({"name": ""}),
        json!({"name": "A"}),
        json!({"name": "a".repeat(254)}),
        json!({"name": "a", "namespace": "a.b"}),
        json!({"name": "a", "labels": {"a b": "c"}}),
    ] {
        assert!(named(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn pods_nodes_and_namespaces_are_checked() {
    let read = |value: Value| -> api::Pod { serde_json::from_value(value).unwrap() };
    let with = |spec: Value, status: Value| {
        pod(&read(
            json!({ "metadata": { "name": "a" }, "spec": spec, "status": status }),
        ))
    };
    let ports = |ports: Value| json!({ "containers": [{ "name": "c", "ports": ports }] });
    for (spec, status, error) in [
        (
            json!({"nodeName": "node-"}),
            json!({}),
            "spec.nodeName: Invalid value",
        ),
        (
            json!({}),
            json!({"phase": "running"}),
            "status.phase: Unsupported value",
        ),
        (
            json!({}),
            json!({"podIPs": [{"ip": "10.0.0"}]}),
            "status.podIPs[0].ip: Invalid value",
        ),
        (
            json!({}),
            json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}),
            "status.podIPs[1].ip: Invalid value",
        ),
        (
            json!({}),
            json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.2"}]}),
            "status.podIP: Invalid value",
        ),
        (
            ports(json!([{"containerPort": 0}])),
            json!({}),
            "spec.containers[0].ports[0].containerPort: Invalid",
        ),
        (
            ports(json!([{"containerPort": 1, "protocol": "x"}])),
            json!({}),
            "spec.containers[0].ports[0].protocol: Unsupported value",
        ),
        (
            ports(json!([{"containerPort": 1, "name": "UPPER"}])),
            json!({}),
            "spec.containers[0].ports[0].name: Invalid value",
        ),
        (
            ports(json!([
                {"containerPort": 1, "name": "dns", "protocol": "TCP"},
                {"containerPort": 2, "name": "dns", "protocol": "UDP"},
            ])),
            json!({}),
            "spec.containers[0].ports[1].name: Duplicate value: \"dns\"",
        ),
        (
            json!({"initContainers": [{"name": "i", "ports": [{"containerPort": 70000}]}]}),
            json!({}),
            "spec.initContainers[0].ports[0].containerPort: Invalid value: 70000",
        ),
    ] {
        let errors = with(spec, status).unwrap_err();
        assert!(
            errors[0].to_string().starts_with(error),
            "{errors:?} should start with {error}"
        );
    }
    let sidecar = json!({
        "initContainers": [
            {"name": "init", "ports": [{"containerPort": 1}]},
            {"name": "sidecar", "restartPolicy": "Always", "ports": [{"containerPort": 2}]},
        ],
        "containers": [{"name": "c", "ports": [{"containerPort": 3}]}],
    });
    let numbers: Vec<_> = with(sidecar, json!({}))
        .unwrap()
        .ports
        .iter()
        .map(|p| p.port)
        .collect();
    assert_eq!(numbers, [3, 2]);

    let shared = json!({"containers": [
        {"name": "a", "ports": [{"containerPort": 1, "name": "http"}]},
        {"name": "b", "ports": [{"containerPort": 2, "name": "http"}]},
    ]});
    assert_eq!(with(shared, json!({})).unwrap().ports.len(), 2);
    let mapped = with(json!({}), json!({"podIPs": [{"ip": "::ffff:10.0.0.1"}]})).unwrap();
    assert_eq!(mapped.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()]);

    let label = |value: &str| {
        let labels = json!({ "kubernetes.io/metadata.name": value });
        let object = json!({ "metadata": { "name": "x", "labels": labels } });
        namespace(&serde_json::from_value(object).unwrap())
    };
    assert!(label("x").is_ok() && label("y").is_err());
    let addresses = json!([
        {"type": "Hostname", "address": "n"},
        {"type": "InternalIP", "address": "10.0.0.1"},
        {"type": "ExternalIP", "address": "not-an-address"},
    ]);
    let object = json!({ "metadata": { "name": "n" }, "status": { "addresses": addresses } });
    let errors = node(&serde_json::from_value(object).unwrap()).unwrap_err();
    assert_eq!(errors[0].path, "status.addresses[2].address");
}

#[test]
fn a_static_pod_has_the_uid_by_which_its_kubelet_knows_it() {
    let uid = |metadata: Value| {
        let read: api::Pod = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        pod(&read).unwrap().uid.map(String::from)
    };
    assert_eq!(uid(json!({"name": "a"})), None);
    let mirrored = json!({
        "name": "a",
        "uid": "of-the-mirror",
        "annotations": {"kubernetes.io/config.hash": "of-the-manifest", "kubernetes.io/config.mirror": "x"},
    });
    assert_eq!(uid(mirrored).as_deref(), Some("of-the-manifest"));
    // Whoever makes a pod can write this alone.
    let claims =
        json!({"name": "a", "uid": "own", "annotations": {"kubernetes.io/config.hash": "other"}});
    assert_eq!(uid(claims).as_deref(), Some("own"));
    let own = json!({"name": "a", "uid": "own", "annotations": null});
    assert_eq!(uid(own).as_deref(), Some("own"));
}
