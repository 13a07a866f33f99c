//! Valid objects of a tenant who means ill. Each is little to write and could be much to compile.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::cluster::{Manifests, NODE, manifest};

const NAMESPACE: &str = "tenant-0";

/// Every case with what it is.
pub(crate) fn cases() -> Vec<(&'static str, Manifests)> {
    vec![
        ("one ipBlock 0.0.0.0/0 with 10,000 excepts", excepts()),
        ("one policy with 10,000 ports", ports()),
        ("100 policies of 1,000 ipBlocks each", blocks()),
        ("10,000 policies on 250 pods, no two alike", classes()),
    ]
}

/// A node of 100 pods in the namespace, and policies there.
fn with(policies: impl IntoIterator<Item = Value>) -> Manifests {
    let mut manifests = Manifests::new(0, 100);
    let policies = policies.into_iter().enumerate();
    manifests.policies = policies.map(|(index, spec)| policy(index, spec)).collect();
    manifests
}

fn policy(index: usize, spec: Value) -> Value {
    json!({"metadata": {"name": format!("policy-{index}"), "namespace": NAMESPACE}, "spec": spec})
}

fn excepts() -> Manifests {
    let except: Vec<_> = (0..10_000).map(|n| host(3 * n)).collect();
    let block = json!({"cidr": "0.0.0.0/0", "except": except});
    with([json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": block}]}]})])
}

fn ports() -> Manifests {
    let ports: Vec<_> = (0..10_000).map(|n| json!({"port": 1 + 3 * n})).collect();
    let from = json!([{"podSelector": {}}]);
    with([json!({"podSelector": {}, "ingress": [{"from": from, "ports": ports}]})])
}

fn blocks() -> Manifests {
    let blocks = |policy: u32| {
        let block = move |n| json!({"ipBlock": {"cidr": host(3 * (1_000 * policy + n))}});
        (0..1_000).map(block).collect::<Vec<_>>()
    };
    with((0..100).map(|n| {
        let ports = json!([{"port": 1 + n}]);
        json!({"podSelector": {}, "ingress": [{"from": blocks(n), "ports": ports}]})
    }))
}

/// Each policy leaves one pod out, so that each pod has policies that no other has.
fn classes() -> Manifests {
    let mut manifests = with((0..10_000).map(|n| {
        let but_one =
            json!({"key": "number", "operator": "NotIn", "values": [(n % 250).to_string()]});
        let from = json!([{"podSelector": {"matchLabels": {"app": format!("app-{}", n % 20)}}}]);
        let rule = json!({"from": from, "ports": [{"port": 1 + n / 20 % 50}]});
        json!({"podSelector": {"matchExpressions": [but_one]}, "ingress": [rule]})
    }));
    manifests.pods = (0..250)
        .map(|index| {
            let labels = json!({"number": index.to_string(), "app": format!("app-{}", index % 20)});
            manifest((NAMESPACE, &format!("pod-{index}")), &labels, NODE, index)
        })
        .collect();
    manifests
}

/// An address outside of the cluster as a network.
fn host(number: u32) -> String {
    format!("{}/32", Ipv4Addr::from_bits(0xac10_0000 + number))
}
