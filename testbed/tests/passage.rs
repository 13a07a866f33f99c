//! Without rules everything passes; a rule drops what it names and nothing else.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use common::*;
use testbed::Outcome::{Dropped, Passed};
use testbed::{Place, Probe, Protocol};

/// The part of an nft rule that names the request of a probe.
fn request(probe: &Probe) -> String {
    let ip = if probe.source.is_ipv4() { "ip" } else { "ip6" };
    let transport = match (probe.protocol, ip) {
        (Protocol::Tcp, _) => "tcp dport 8080",
        (Protocol::Udp, _) => "udp dport 8080",
        (Protocol::Sctp, _) => "sctp dport 8080",
        (Protocol::Icmp, "ip") => "icmp type echo-request",
        (Protocol::Icmp, _) => "icmpv6 type echo-request",
    };
    format!(
        "{ip} saddr {} {ip} daddr {} {transport}",
        probe.source, probe.destination
    )
}

/// The part of an nft rule that names the answer to a probe.
fn answer(probe: &Probe) -> String {
    let ip = if probe.source.is_ipv4() { "ip" } else { "ip6" };
    let transport = match (probe.protocol, ip) {
        (Protocol::Tcp, _) => "tcp sport 8080",
        (Protocol::Udp, _) => "udp sport 8080",
        (Protocol::Sctp, _) => "sctp sport 8080",
        (Protocol::Icmp, "ip") => "icmp type echo-reply",
        (Protocol::Icmp, _) => "icmpv6 type echo-reply",
    };
    format!(
        "{ip} saddr {} {ip} daddr {} {transport}",
        probe.destination, probe.source
    )
}

/// A table with one rule in a chain of this hook; it replaces the one before.
fn table(hook: &str, rule: &str) -> String {
    format!(
        "table inet test\ndelete table inet test\n\
         table inet test {{\nchain c {{\ntype filter hook {hook} priority 0\n{rule}\n}}\n}}\n"
    )
}

#[test]
fn without_rules_everyone_reaches_everyone_over_every_protocol_and_family() {
    let places = [
        node("a"),
        node("b"),
        pod("a1"),
        pod("a2"),
        pod("b1"),
        Place::External,
    ];
    for network in NETWORKS {
        let testbed = cluster(network);
        let pairs = places
            .iter()
            .flat_map(|from| places.iter().map(move |to| (from, to)));
        let probes: Vec<_> = pairs.flat_map(|(from, to)| ask_all(from, to)).collect();
        assert_eq!(probes.len(), 6 * 6 * 4 * 2);
        assert_all(&testbed, probes, Passed);
    }
}

#[test]
fn a_rule_on_a_node_drops_the_request_that_it_names_and_nothing_else() {
    for (network, to) in NETWORKS
        .into_iter()
        .flat_map(|network| [(network, pod("a2")), (network, pod("b1"))])
    {
        let testbed = cluster(network);
        let probes = ask_all(&pod("a1"), &to);
        for refused in &probes {
            let rule = format!("{} drop", request(refused));
            testbed
                .namespace(&node("a"))
                .unwrap()
                .nft(&table("forward", &rule))
                .unwrap();
            let outcome = |probe: &Probe| if probe == refused { Dropped } else { Passed };
            let expected: Vec<_> = probes
                .iter()
                .map(|probe| (probe.clone(), outcome(probe)))
                .collect();
            assert_outcomes(&testbed, &expected);
        }
    }
}

#[test]
fn a_flow_whose_answers_alone_are_dropped_is_dropped() {
    for network in NETWORKS {
        let testbed = cluster(network);
        let probes = ask_all(&pod("b1"), &pod("a1"));
        for unanswered in &probes {
            let rule = format!("{} drop", answer(unanswered));
            testbed
                .namespace(&node("a"))
                .unwrap()
                .nft(&table("forward", &rule))
                .unwrap();
            let outcome = |probe: &Probe| if probe == unanswered { Dropped } else { Passed };
            let expected: Vec<_> = probes
                .iter()
                .map(|probe| (probe.clone(), outcome(probe)))
                .collect();
            assert_outcomes(&testbed, &expected);
        }
    }
}

#[test]
fn rules_see_the_traffic_of_nodes_and_of_the_outside_too() {
    for network in NETWORKS {
        let testbed = cluster(network);
        let namespace = testbed.namespace(&node("a")).unwrap();
        let to_a1 = |from| ask_all(&from, &pod("a1"));
        namespace.nft(&table("output", "drop")).unwrap();
        assert_all(
            &testbed,
            [to_a1(node("a")), ask_all(&pod("a1"), &node("a"))].concat(),
            Dropped,
        );
        assert_all(
            &testbed,
            [to_a1(Place::External), to_a1(pod("b1")), to_a1(node("b"))].concat(),
            Passed,
        );
        namespace
            .nft(&table("forward", "iifname uplink drop"))
            .unwrap();
        assert_all(
            &testbed,
            [to_a1(Place::External), to_a1(pod("b1")), to_a1(node("b"))].concat(),
            Dropped,
        );
        assert_all(&testbed, to_a1(node("a")), Passed);
        namespace.nft(&table("input", "drop")).unwrap();
        assert_all(&testbed, ask_all(&pod("a1"), &node("a")), Dropped);
        assert_all(&testbed, to_a1(Place::External), Passed);
    }
}

#[test]
fn a_refusal_by_a_rule_is_no_passage() {
    for network in NETWORKS {
        let testbed = cluster(network);
        for verdict in [
            "meta l4proto tcp reject with tcp reset",
            "reject with icmpx admin-prohibited",
            "reject",
        ] {
            testbed
                .namespace(&node("a"))
                .unwrap()
                .nft(&table("forward", verdict))
                .unwrap();
            let expected: Vec<_> = ask_all(&pod("a1"), &pod("a2"))
                .into_iter()
                .map(|probe| {
                    let spared = verdict.starts_with("meta") && probe.protocol != Protocol::Tcp;
                    (probe, if spared { Passed } else { Dropped })
                })
                .collect();
            assert_outcomes(&testbed, &expected);
        }
    }
}

#[test]
fn a_rule_in_the_senders_own_namespace_drops_and_is_no_error() {
    let testbed = cluster(NETWORKS[0]);
    for verdict in ["drop", "reject"] {
        testbed
            .namespace(&pod("a1"))
            .unwrap()
            .nft(&table("output", verdict))
            .unwrap();
        assert_all(&testbed, ask_all(&pod("a1"), &pod("a2")), Dropped);
        assert_all(&testbed, ask_all(&pod("a1"), &pod("a1")), Dropped);
    }
}
