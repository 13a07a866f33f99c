//! Tiers and names, on rules made by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::evaluate::{Connection, Transport, Verdict};
use policy_compiler::ir::{
    Action, Class, LocalPod, Match, NodeIr, PeerMatch, PeerMembers, PeerSet, PortsMatch, Rule,
    Tier, TierKind,
};
use policy_compiler::lower::{Options, lower};
use policy_compiler::model::{Direction, NamespacedName, Protocol};
use policy_compiler::render;

fn address(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn rule(action: Action, peer: &str) -> Rule {
    Rule {
        action,
        matches: Match {
            peer: PeerMatch::Set(peer.into()),
            ports: PortsMatch::Any,
        },
        policies: BTreeSet::from([NamespacedName::new("x", "p")]),
    }
}

fn tier(kind: TierKind, rules: Vec<Rule>, default: Action) -> Tier {
    Tier {
        kind,
        rules,
        default,
    }
}

fn peers(sets: &[(&str, &[u8])]) -> BTreeMap<String, PeerSet> {
    let set = |(name, members): &(&str, &[u8])| {
        let set = PeerSet {
            peer: (*name).into(),
            members: PeerMembers::Pods(members.iter().map(|last| address(*last)).collect()),
        };
        ((*name).into(), set)
    };
    sets.iter().map(set).collect()
}

/// Admin: deny 1, pass 2, accept 3. NetworkPolicy: accept 2. Baseline: never asked.
fn three_tiers() -> NodeIr {
    let class = Class {
        direction: Direction::Ingress,
        policies: vec![NamespacedName::new("x", "p")],
        tiers: vec![
            tier(
                TierKind::Admin,
                vec![
                    rule(Action::Deny, "one"),
                    rule(Action::Pass, "two"),
                    rule(Action::Accept, "three"),
                ],
                Action::Pass,
            ),
            tier(
                TierKind::NetworkPolicy,
                vec![rule(Action::Accept, "two")],
                Action::Pass,
            ),
            tier(
                TierKind::Baseline,
                vec![rule(Action::Deny, "four")],
                Action::Pass,
            ),
        ],
    };
    NodeIr {
        node: "n".into(),
        pods: BTreeMap::from([(
            "x/a".into(),
            LocalPod {
                addresses: vec![address(9)],
                egress: None,
                ingress: Some("c".into()),
            },
        )]),
        classes: BTreeMap::from([("c".into(), class)]),
        peers: peers(&[
            ("one", &[1]),
            ("two", &[1, 2]),
            ("three", &[3]),
            ("four", &[2, 4]),
        ]),
        named_ports: BTreeMap::new(),
    }
}

#[test]
fn the_first_matching_rule_of_the_first_tier_decides_and_pass_asks_the_next() {
    let ir = three_tiers();
    let from = |last| {
        ir.judge(Connection {
            source: address(last),
            destination: address(9),
            transport: Transport::Port(Protocol::Tcp, 80),
        })
    };
    let verdicts: Vec<_> = (1..=5).map(from).collect();
    use Verdict::{Allow, Deny};
    assert_eq!(verdicts, [Deny, Allow, Allow, Deny, Allow]);
}

#[test]
fn each_tier_is_a_chain_and_pass_goes_to_the_next() {
    let text = render::text(&lower(&three_tiers(), &Options::default()));
    let classes: Vec<_> = text
        .lines()
        .skip_while(|line| !line.contains("chain ingress4_c {"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(
        classes,
        [
            "chain ingress4_c {",
            "ip saddr @peer4_one counter name \"dropped_ingress_policy\" drop comment \"x/p\"",
            "ip saddr @peer4_two goto ingress4_c_tier1 comment \"x/p\"",
            "ip saddr @peer4_three accept comment \"x/p\"",
            "goto ingress4_c_tier1 comment \"ingress isolated by x/p\"",
            "}",
            "chain ingress4_c_tier1 {",
            "ip saddr @peer4_two accept comment \"x/p\"",
            "goto ingress4_c_tier2 comment \"ingress isolated by x/p\"",
            "}",
            "chain ingress4_c_tier2 {",
            "ip saddr @peer4_four counter name \"dropped_ingress_policy\" drop comment \"x/p\"",
            "accept comment \"ingress isolated by x/p\"",
            "}",
            "}",
        ]
    );
}
