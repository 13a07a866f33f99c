//! What a class of many rules looks like.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use policy_compiler::compile::compile;
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::*;
use policy_compiler::render;

/// A pod on the node, at `10.0.0.host`, labelled `app=NAME`, with one port named `http`.
fn pod(name: &str, host: u8, http: u16) -> Pod {
    Pod {
        id: NamespacedName::new("x", name),
        labels: Labels::from([("app".to_owned(), name.to_owned())]).into(),
        node: Some("n".into()),
        host_network: false,
        phase: Phase::Running,
        uid: None,
        presence: Presence::Listed,
        terminating: false,
        addresses: vec![format!("10.0.0.{host}").parse().unwrap()],
        ports: [ContainerPort {
            name: Some("http".into()),
            protocol: Protocol::Tcp,
            port: http,
        }]
        .into(),
    }
}

fn app(names: &[&str]) -> Peer {
    let names: BTreeSet<_> = names.iter().map(ToString::to_string).collect();
    Peer::Pods {
        namespaces: NamespaceScope::Own("x".into()),
        pods: LabelSelector::new(vec![Requirement::In("app".into(), names)]),
    }
}

fn block(cidr: &str) -> Peer {
    Peer::Block(IpBlock::new(Cidr::parse_strict(cidr).unwrap(), vec![]).unwrap())
}

fn tcp(first: u16, last: u16) -> PolicyPort {
    PolicyPort {
        protocol: Protocol::Tcp,
        port: PortMatch::Range(PortRange::new(first, last).unwrap()),
    }
}

fn named(name: &str) -> PolicyPort {
    PolicyPort {
        protocol: Protocol::Tcp,
        port: PortMatch::Named(name.into()),
    }
}

/// A rule for a peer, or for everyone; no ports mean every port.
fn rule(peer: Option<Peer>, ports: &[PolicyPort]) -> Rule {
    Rule {
        peers: peer.map_or(Peers::Any, |peer| Peers::Of(vec![peer])),
        ports: match ports {
            [] => Ports::Any,
            ports => Ports::Of(ports.to_vec()),
        },
    }
}

/// Pods `a`, `b` and `c`, and a policy of each list of rules on `a`, in one direction.
fn ruleset(direction: Direction, policies: &[&[Rule]]) -> String {
    let pods = [pod("a", 1, 80), pod("b", 2, 8080), pod("c", 3, 8081)];
    let node = Node {
        name: "n".into(),
        addresses: BTreeSet::new(),
        pod_cidrs: vec![],
    };
    let policies = policies.iter().enumerate().map(|(index, rules)| {
        let rules = |of| (of == direction).then(|| rules.to_vec());
        NetworkPolicy {
            id: NamespacedName::new("x", format!("p{index}")),
            selector: LabelSelector::new(vec![Requirement::In("app".into(), ["a".into()].into())]),
            ingress: rules(Direction::Ingress),
            egress: rules(Direction::Egress),
        }
    });
    let cluster = Cluster::new([], [node], pods, policies);
    render::text(&lower(&compile(&cluster, "n"), &Options::default()))
}

/// The class's chain without its title, and the sets of its own, without white space.
fn class(ruleset: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in ruleset.lines().map(str::trim) {
        let begins = |kinds: &[&str]| kinds.iter().any(|kind| line.starts_with(kind));
        if begins(&["chain ingress4_", "chain egress4_"])
            || begins(&["set flat4_", "set pods4_", "set blocks4_", "set ranges4_"])
        {
            inside = true;
        } else if line == "}" {
            inside = false;
        }
        if inside && !line.starts_with("counter name ") {
            lines.push(line.to_owned());
        }
    }
    lines
}

const CLASS: &str = "x_p0_8694a63b0b4b1680";

#[test]
fn a_class_of_few_rules_has_one_nft_rule_for_each() {
    let rules: Vec<_> = (1..=8)
        .map(|port| rule(Some(app(&["b"])), &[tcp(port, port)]))
        .collect();
    let few = class(&ruleset(Direction::Ingress, &[&rules]));
    assert_eq!(few.len(), 9);
    assert!(
        few[8].starts_with("tcp dport 8 ip saddr @peer4_"),
        "{few:#?}"
    );
}

#[test]
fn a_class_of_many_rules_has_one_lookup_for_each_kind() {
    let one: &[Rule] = &[
        rule(None, &[tcp(443, 443)]),
        rule(Some(app(&["b"])), &[tcp(80, 80), tcp(90, 90)]),
        rule(Some(app(&["b", "c"])), &[tcp(80, 80)]),
        rule(Some(app(&["b"])), &[]),
        rule(Some(app(&["c"])), &[]),
        rule(Some(block("10.1.0.0/24")), &[]),
    ];
    let other: &[Rule] = &[
        rule(Some(block("10.1.1.0/24")), &[]),
        rule(Some(block("10.2.0.0/16")), &[tcp(80, 90)]),
        rule(Some(app(&["c"])), &[tcp(85, 100)]),
        rule(None, &[tcp(440, 442)]),
    ];
    let text = ruleset(Direction::Ingress, &[one, other]);
    let expected = [
        "set blocks4_CLASS {",
        "type ipv4_addr",
        "flags interval",
        "comment \"merged rules of x/p0, x/p1\"",
        "elements = {",
        "10.1.0.0/23,",
        "set flat4_CLASS {",
        "type ipv4_addr . inet_proto . inet_service",
        "comment \"merged rules of x/p0, x/p1\"",
        "elements = {",
        "10.0.0.2 . tcp . 80,",
        "10.0.0.2 . tcp . 90,",
        "10.0.0.3 . tcp . 80,",
        "set pods4_CLASS {",
        "type ipv4_addr",
        "comment \"merged rules of x/p0, x/p1\"",
        "elements = {",
        "10.0.0.2,",
        "10.0.0.3,",
        "set ranges4_CLASS {",
        "type ipv4_addr . inet_proto . inet_service",
        "flags interval",
        "comment \"merged rules of x/p0, x/p1\"",
        "elements = {",
        "10.0.0.3 . tcp . 85-100,",
        "10.2.0.0/16 . tcp . 80-90,",
        "chain ingress4_CLASS {",
        "tcp dport 440-443 accept comment \"x/p0, x/p1\"",
        "ip saddr . meta l4proto . th dport @flat4_CLASS accept comment \"x/p0\"",
        "ip saddr @pods4_CLASS accept comment \"x/p0\"",
        "ip saddr @blocks4_CLASS accept comment \"x/p0, x/p1\"",
        "ip saddr . meta l4proto . th dport @ranges4_CLASS accept comment \"x/p1\"",
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|line| line.replace("CLASS", CLASS))
        .collect();
    assert_eq!(class(&text), expected);
    assert!(!text.contains("set peer4_"), "{text}");
}

#[test]
fn named_ports_of_peers_are_merged_with_numbers() {
    let mut rules = vec![rule(Some(app(&["b"])), &[named("http")])];
    rules.push(rule(Some(app(&["c"])), &[named("http")]));
    rules.extend((1..=8).map(|port| rule(Some(app(&["b"])), &[tcp(port, port)])));
    let merged = class(&ruleset(Direction::Egress, &[&rules]));
    let elements = merged.iter().filter(|line| line.starts_with("10.0.0."));
    assert_eq!(elements.count(), 10);
    assert!(
        merged.contains(&"10.0.0.2 . tcp . 8080,".to_owned()),
        "{merged:#?}"
    );
    assert!(
        merged.contains(&"10.0.0.3 . tcp . 8081,".to_owned()),
        "{merged:#?}"
    );
    let chain = merged.iter().skip_while(|line| !line.starts_with("chain "));
    assert_eq!(chain.count(), 2);
}

#[test]
fn a_rule_for_everything_stands_for_all() {
    let mut rules = vec![rule(None, &[])];
    rules.extend((1..=9).map(|port| rule(Some(app(&["b"])), &[tcp(port, port)])));
    let merged = class(&ruleset(Direction::Ingress, &[&rules]));
    assert_eq!(merged[1..], ["accept comment \"x/p0\""]);
}

#[test]
fn a_rule_alone_of_its_kind_keeps_its_shared_set() {
    let mut rules = vec![rule(Some(block("10.1.0.0/24")), &[tcp(80, 80)])];
    rules.extend((1..=9).map(|port| rule(Some(app(&["b"])), &[tcp(port, port)])));
    let merged = class(&ruleset(Direction::Ingress, &[&rules]));
    let last = merged.last().unwrap();
    assert!(
        last.starts_with("tcp dport 80 ip saddr @peer4_10_1_0_0_24"),
        "{last}"
    );
}

#[test]
fn rules_that_would_need_many_elements_stay_as_they_are() {
    let many: Vec<_> = (1..=65).map(|port| tcp(port * 2, port * 2)).collect();
    let mut rules = vec![rule(Some(app(&["b"])), &many)];
    rules.extend((1..=9).map(|port| rule(Some(app(&["b"])), &[tcp(port, port)])));
    let merged = class(&ruleset(Direction::Ingress, &[&rules]));
    assert!(
        merged.last().unwrap().starts_with("tcp dport { 2, 4, 6,"),
        "{merged:#?}"
    );
    let elements = merged.iter().filter(|line| line.starts_with("10.0.0."));
    assert_eq!(elements.count(), 9);
}

#[test]
fn an_edit_of_a_rule_changes_elements_and_no_name() {
    let rules = |last| -> Vec<_> {
        (1..=last)
            .map(|port| rule(Some(app(&["b"])), &[tcp(port, port)]))
            .collect()
    };
    let before = class(&ruleset(Direction::Ingress, &[&rules(9)]));
    let after = class(&ruleset(Direction::Ingress, &[&rules(10)]));
    let without_elements = |lines: &[String]| -> Vec<String> {
        let lines = lines.iter().filter(|line| !line.starts_with("10."));
        lines.cloned().collect()
    };
    assert_ne!(before, after);
    assert_eq!(without_elements(&before), without_elements(&after));
}
