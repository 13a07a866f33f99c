//! The chains of classes: one per class and family that a pod of it has.

use super::{class_chain, peer, peer_set, port_set};
use crate::ir::{
    Action, Class, Match as IrMatch, NodeIr, PeerMatch, PeerMembers, PortsMatch, Rule as IrRule,
    Tier,
};
use crate::model::{Direction, Family, PolicyId, PortRanges, Protocol};
use crate::name::comment;
use crate::ruleset::{Chain, Field, Match, Rule, Table, Value, Verdict};

pub(super) fn add(table: &mut Table, ir: &NodeIr) {
    let mut chains = Vec::new();
    for family in Family::ALL {
        for (name, class) in classes_of_family(ir, family) {
            chains.extend(class_chains(ir, name, class, family));
        }
    }
    chains.sort_by(|one, other| one.name.cmp(&other.name));
    table.chains.extend(chains);
}

fn classes_of_family(ir: &NodeIr, family: Family) -> impl Iterator<Item = (&String, &Class)> {
    ir.classes.iter().filter(move |(name, class)| {
        ir.pods.values().any(|pod| {
            pod.class(class.direction) == Some(name.as_str())
                && pod.addresses.iter().any(|a| Family::of(*a) == family)
        })
    })
}

/// The rules of a family's chains. Rules for an ipBlock of the other family are not among them.
pub(super) fn rules_of_family(ir: &NodeIr, family: Family) -> impl Iterator<Item = &IrRule> {
    classes_of_family(ir, family)
        .flat_map(|(_, class)| &class.tiers)
        .flat_map(|tier| &tier.rules)
        .filter(move |rule| can_match(ir, rule, family))
}

fn can_match(ir: &NodeIr, rule: &IrRule, family: Family) -> bool {
    let PeerMatch::Set(name) = &rule.matches.peer else {
        return true;
    };
    match ir.peers.get(name).map(|set| &set.members) {
        Some(PeerMembers::Block(ranges)) => {
            let mut ranges = ranges.iter();
            // A block without addresses left belongs to no family, and no rule needs it.
            ranges
                .next()
                .is_some_and(|range| Family::of(range.first()) == family)
        }
        _ => true,
    }
}

/// A chain per tier: the class's own for the first, numbered ones to pass on to.
fn class_chains(ir: &NodeIr, name: &str, class: &Class, family: Family) -> Vec<Chain> {
    let first = class_chain(class.direction, family, name);
    let chain_of = |tier: usize| match tier {
        0 => first.clone(),
        tier => format!("{first}_tier{tier}"),
    };
    let title = policies_comment(class.direction, &class.policies);
    let tiers = class.tiers.iter().enumerate();
    tiers
        .map(|(index, tier)| {
            let next = (index + 1 < class.tiers.len()).then(|| chain_of(index + 1));
            Chain {
                name: chain_of(index),
                base: None,
                rules: tier_rules(ir, class.direction, tier, family, next, &title),
            }
        })
        .collect()
}

fn tier_rules(
    ir: &NodeIr,
    direction: Direction,
    tier: &Tier,
    family: Family,
    next: Option<String>,
    title: &str,
) -> Vec<Rule> {
    let verdict_of = |action| match (action, &next) {
        (Action::Deny, _) => Verdict::Drop,
        (Action::Pass, Some(next)) => Verdict::Goto(next.clone()),
        // After the last tier the default is to accept.
        (Action::Accept, _) | (Action::Pass, None) => Verdict::Accept,
    };
    let mut rules = Vec::new();
    for rule in tier.rules.iter().filter(|rule| can_match(ir, rule, family)) {
        let text = comment(&list(&rule.policies));
        for matches in rule_matches(&rule.matches, direction, family) {
            rules.push(Rule::verdict(matches, verdict_of(rule.action)).comment(text.clone()));
        }
    }
    rules.push(Rule::verdict([], verdict_of(tier.default)));
    // nft loses the comments of chains on import, so the first rule says what the chain is; a chain with a
    // single rule has no other place for it.
    if rules.len() == 1 || rules.first().is_some_and(|rule| rule.comment.is_none()) {
        rules[0].comment = Some(title.to_owned());
    } else if let Some(last) = rules.last_mut() {
        last.comment = Some(title.to_owned());
    }
    rules
}

/// `ip saddr @peer4_x tcp dport { 80, 443 }`: one list of matches per protocol.
fn rule_matches(matches: &IrMatch, direction: Direction, family: Family) -> Vec<Vec<Match>> {
    let peer = match &matches.peer {
        PeerMatch::Any => vec![],
        PeerMatch::Set(name) => {
            vec![Match::in_set(
                [peer(direction, family)],
                peer_set(family, name),
            )]
        }
        PeerMatch::NamedPorts(name) => {
            // ip daddr . meta l4proto . th dport @ports4_x
            let key = [
                peer(direction, family),
                Field::TransportProtocol,
                Field::TransportDestinationPort,
            ];
            vec![Match::in_set(key, port_set(family, name))]
        }
    };
    match &matches.ports {
        PortsMatch::Any => vec![peer],
        PortsMatch::Of(ports) => ports
            .iter()
            .map(|(protocol, ranges)| {
                let mut matches = peer.clone();
                matches.push(port_match(*protocol, ranges));
                matches
            })
            .collect(),
    }
}

fn port_match(protocol: Protocol, ranges: &PortRanges) -> Match {
    if ranges.is_all() {
        // meta l4proto tcp
        Match::is(Field::TransportProtocol, [Value::Protocol(protocol)])
    } else {
        // tcp dport { 80, 8000-8080 }
        Match::is(
            Field::DestinationPort(protocol),
            ranges.iter().map(Value::Ports),
        )
    }
}

fn list<'a>(policies: impl IntoIterator<Item = &'a PolicyId>) -> String {
    let policies: Vec<_> = policies.into_iter().map(ToString::to_string).collect();
    policies.join(", ")
}

fn policies_comment(direction: Direction, policies: &[PolicyId]) -> String {
    comment(&format!("{direction} isolated by {}", list(policies)))
}
