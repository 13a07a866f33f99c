//! What the agent is told: a part that always holds, and policies that come and go beside it.
//!
//! Whatever they are: `d` is isolated and nothing allows port 9999 to it, every pod may ask it on port 80, `a` is never
//! isolated for egress, and nothing selects `e`.

use std::fmt::Write;
use std::net::IpAddr;

use policy_compiler::evaluate::{Connection, Transport};
use policy_compiler::model::Protocol;

pub(crate) const NODE: &str = "n1";

/// Name and last byte of the addresses; the last two are on another node.
const PODS: [(&str, u8); 8] = [
    ("a", 1),
    ("b", 2),
    ("c", 3),
    ("d", 4),
    ("e", 5),
    ("f", 6),
    ("g", 7),
    ("h", 8),
];

fn node_of(pod: &str) -> &'static str {
    if pod < "g" { NODE } else { "n2" }
}

/// The pods that may have other labels, and may not be there.
pub(crate) const CHANGING: [&str; 5] = ["b", "c", "f", "g", "h"];

pub(crate) fn address(pod: &str, six: bool) -> IpAddr {
    let (_, last) = PODS.iter().find(|(name, _)| *name == pod).unwrap();
    match six {
        false => IpAddr::from([10, 0, 0, *last]),
        true => format!("fd00::{last:x}").parse().unwrap(),
    }
}

pub(crate) fn pod(name: &str, group: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\n\
         metadata: {{name: {name}, namespace: x, labels: {{app: {name}, group: {group}}}}}\n\
         spec: {{nodeName: {}, containers: [{{name: c, image: registry.example/c:1, ports: [{{name: web, containerPort: 80}}]}}]}}\n\
         status: {{phase: Running, podIP: {four}, podIPs: [{{ip: {four}}}, {{ip: \"{six}\"}}]}}\n",
        node_of(name),
        four = address(name, false),
        six = address(name, true),
    )
}

/// What always holds.
pub(crate) fn base() -> String {
    let mut text = "\
apiVersion: v1
kind: Namespace
metadata: {name: x}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: base, namespace: x}
spec:
  podSelector: {matchLabels: {app: d}}
  ingress: [{ports: [{port: 80, protocol: TCP}, {port: 80, protocol: UDP}]}]
"
    .to_owned();
    for name in ["a", "d", "e"] {
        write!(text, "---\n{}", pod(name, "fixed")).unwrap();
    }
    text
}

/// One of many policies that leave alone what always holds.
pub(crate) fn policy(name: &str, random: &mut impl FnMut(u32) -> u32) -> String {
    let mut one_of = |list: &[&str]| list[random(list.len() as u32) as usize].to_owned();
    let selector = one_of(&["{matchLabels: {group: one}}", "{matchLabels: {group: two}}"]);
    let peers = [
        "podSelector: {matchLabels: {group: one}}",
        "podSelector: {matchLabels: {group: two}}",
        "podSelector: {}",
        "namespaceSelector: {}",
        "ipBlock: {cidr: 10.0.0.0/29, except: [10.0.0.2/32]}",
        "ipBlock: {cidr: \"fd00::/124\"}",
        "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: x}}\n      podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [h]}]}",
    ];
    let ports = [
        "{port: 80}",
        "{port: 443, endPort: 8080}",
        "{port: web}",
        "{protocol: UDP, port: 80}",
    ];
    let mut rule = |side: &str| {
        let rules = [
            String::new(),
            format!("\n  - {side}:\n    - {}", one_of(&peers)),
            format!(
                "\n  - {side}:\n    - {}\n    ports: [{}]",
                one_of(&peers),
                one_of(&ports)
            ),
            format!("\n  - ports: [{}, {}]", one_of(&ports), one_of(&ports)),
        ];
        one_of(&rules.each_ref().map(String::as_str))
    };
    let (ingress, egress) = (rule("from"), rule("to"));
    let list = |rules: &str| {
        if rules.is_empty() {
            " []".to_owned()
        } else {
            rules.to_owned()
        }
    };
    // To `d` only ingress, and never on other ports than these.
    let more_for_d = one_of(&["{port: 81}", "{protocol: UDP, port: 82}"]);
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: x}}\nspec:\n  \
         podSelector: {selector}\n  policyTypes: [Ingress, Egress]\n  ingress:{}\n  egress:{}\n---\n\
         apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}-d, namespace: x}}\nspec:\n  \
         podSelector: {{matchLabels: {{app: d}}}}\n  policyTypes: [Ingress]\n  ingress:\n  - ports: [{more_for_d}]\n",
        list(&ingress),
        list(&egress),
    )
}

/// Connections that are open all the time, in both directions: the policy that always holds allows them, or nothing
/// isolates their ends.
pub(crate) fn open() -> Vec<Connection> {
    // The source port of every frame, so that one is the other's answer.
    let port = Transport::Port(Protocol::Udp, 40_000);
    let both = |six| {
        [
            connection("a", "e", six, port),
            connection("e", "a", six, port),
        ]
    };
    [false, true].into_iter().flat_map(both).collect()
}

fn connection(from: &str, to: &str, six: bool, transport: Transport) -> Connection {
    Connection {
        source: address(from, six),
        destination: address(to, six),
        transport,
    }
}

/// What is denied, and what is allowed, whatever policies there are.
pub(crate) fn always() -> (Vec<Connection>, Vec<Connection>) {
    let (mut denied, mut allowed) = (Vec::new(), Vec::new());
    for six in [false, true] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let to = |port| Transport::Port(protocol, port);
            for from in ["a", "e"] {
                denied.push(connection(from, "d", six, to(9999)));
                allowed.push(connection(from, "d", six, to(80)));
            }
            denied.push(connection("g", "d", six, to(9999)));
            allowed.push(connection("a", "e", six, to(9999)));
        }
        denied.push(connection("a", "d", six, Transport::Icmp));
        allowed.push(connection("a", "e", six, Transport::Icmp));
    }
    (denied, allowed)
}
