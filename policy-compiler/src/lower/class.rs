//! The chains of classes: one per class and family that a pod of it has.
//!
//! A class of few rules has one nft rule per policy rule and protocol, and shares the sets of its peers with
//! other classes. A class of many has them merged into sets of its own ([`Merging`]).

mod group;
mod merge;
mod rectangles;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Dropped, class_chain, peer, peer_set, port_set, set_name};
use crate::ir::{
    Action, Class, NodeIr, PeerMatch, PeerMembers, PortsMatch, Rule as IrRule, Tier, TierKind,
};
use crate::model::{Direction, Family, PolicyId, PortRanges, Protocol};
use crate::name::comment;
use crate::ruleset::{Chain, Field, Match, Operand, Rule, Set, Statement, Value, Verdict};

pub use merge::Merging;

/// What a class needs in a family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoweredClass {
    /// One per tier.
    pub(crate) chains: Vec<Arc<Chain>>,
    /// Its own sets: merged rules.
    pub(crate) sets: BTreeMap<String, Arc<Set>>,
    /// The shared sets that its rules look into, by name.
    pub(crate) peers: BTreeMap<String, PeerMatch>,
    /// Whether it has to be lowered again when the members of a peer change.
    pub(crate) is_merged: bool,
}

/// The class in a family. None if the rules have no class of this name.
pub(crate) fn lower_class(
    ir: &NodeIr,
    family: Family,
    name: &str,
    merging: Merging,
) -> Option<LoweredClass> {
    let class = ir.classes.get(name)?;
    let context = Context {
        ir,
        name,
        class,
        family,
        merging,
    };
    let mut lowered = LoweredClass::default();
    lowered.chains = class_chains(&context, &mut lowered);
    let rules = lowered.chains.iter().flat_map(|chain| &chain.rules);
    let named: BTreeSet<&str> = rules
        .flat_map(|rule| &rule.matches)
        .filter_map(|matches| match &matches.operand {
            Operand::Set(name) => Some(name.as_str()),
            Operand::Values(_) => None,
        })
        .collect();
    let rules = class.tiers.iter().flat_map(|tier| &tier.rules);
    let peers = rules.filter_map(|rule| {
        let peer = &rule.matches.peer;
        let name = set_name(family, peer)?;
        named.contains(name.as_str()).then(|| (name, peer.clone()))
    });
    lowered.peers = peers.collect();
    Some(lowered)
}

/// The classes that pods have, in each family of which they have an address.
pub(crate) fn classes_in_use(ir: &NodeIr) -> BTreeSet<(Family, &str)> {
    let mut classes = BTreeSet::new();
    for pod in ir.pods.values() {
        for direction in [Direction::Egress, Direction::Ingress] {
            if let Some(class) = pod.class(direction) {
                let families = pod.addresses.iter().map(|address| Family::of(*address));
                classes.extend(families.map(|family| (family, class)));
            }
        }
    }
    classes
}

/// A class in a family, with what it takes to lower it.
struct Context<'a> {
    ir: &'a NodeIr,
    name: &'a str,
    class: &'a Class,
    family: Family,
    merging: Merging,
}

/// Whether a packet of the family can match. One for an ipBlock of the other family never does.
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

/// A chain per tier: the class's own for the first, numbered ones to pass on to. Adds the sets that they need
/// besides those of peers.
fn class_chains(context: &Context<'_>, lowered: &mut LoweredClass) -> Vec<Arc<Chain>> {
    let class = context.class;
    let first = class_chain(class.direction, context.family, context.name);
    let chain_of = |tier: usize| match tier {
        0 => first.clone(),
        tier => format!("{first}_tier{tier}"),
    };
    let mut chains = Vec::new();
    for (index, tier) in class.tiers.iter().enumerate() {
        let next = (index + 1 < class.tiers.len()).then(|| chain_of(index + 1));
        chains.push(Arc::new(Chain {
            name: chain_of(index),
            base: None,
            rules: tier_rules(context, tier, next, lowered),
        }));
    }
    chains
}

fn tier_rules(
    context: &Context<'_>,
    tier: &Tier,
    next: Option<String>,
    lowered: &mut LoweredClass,
) -> Vec<Rule> {
    let verdict_of = |action| match (action, &next) {
        (Action::Deny, _) => Verdict::Drop,
        (Action::Pass, Some(next)) => Verdict::Goto(next.clone()),
        // After the last tier the default is to accept.
        (Action::Accept, _) | (Action::Pass, None) => Verdict::Accept,
    };
    let matching = tier.rules.iter();
    let matching = matching.filter(|rule| can_match(context.ir, rule, context.family));
    let parts: Vec<_> = matching.flat_map(parts).collect();
    let mut rules = if parts.len() > context.merging.above && commutes(tier) {
        lowered.is_merged = true;
        merge::merge(context, &parts, &mut lowered.sets)
    } else {
        let plain = |part: &Part<'_>| context.plain(part, verdict_of(part.action));
        parts.iter().map(plain).collect()
    };
    let default = context.counted(Rule::verdict([], verdict_of(tier.default)));
    // nft loses the comments of chains on import, so a rule says what the chain is.
    let direction = context.class.direction;
    let title = match context.class.policies.as_slice() {
        [] => format!("{direction} closed: the namespace is over its budget"),
        policies => format!("{direction} isolated by {}", list(policies)),
    };
    rules.push(default.comment(comment(&title)));
    rules
}

/// Whether the order of the rules is of no account. A class has one tier of NetworkPolicy, so that the names of
/// merged sets, which are the class's, are unique.
fn commutes(tier: &Tier) -> bool {
    let mut rules = tier.rules.iter();
    tier.kind == TierKind::NetworkPolicy && rules.all(|rule| rule.action == Action::Accept)
}

/// What one nft rule can say of a rule: all of it, or its ports of one protocol.
#[derive(Clone, Copy)]
struct Part<'a> {
    action: Action,
    peer: &'a PeerMatch,
    ports: Option<(Protocol, &'a PortRanges)>,
    policies: &'a BTreeSet<PolicyId>,
}

fn parts(rule: &IrRule) -> Vec<Part<'_>> {
    let part = |ports| Part {
        action: rule.action,
        peer: &rule.matches.peer,
        ports,
        policies: &rule.policies,
    };
    match &rule.matches.ports {
        PortsMatch::Any => vec![part(None)],
        PortsMatch::Of(ports) => ports
            .iter()
            .map(|(protocol, ranges)| part(Some((*protocol, ranges))))
            .collect(),
    }
}

impl<'a> Context<'a> {
    /// Whom a peer set holds.
    fn members(&self, peer: &str) -> Option<&'a PeerMembers> {
        self.ir.peers.get(peer).map(|set| &set.members)
    }

    /// `tcp dport { 80, 443 } ip saddr @peer4_x accept`. Ports come first, since a comparison that fails costs a
    /// fifth of a lookup (15 ns against 75).
    fn plain(&self, part: &Part<'_>, verdict: Verdict) -> Rule {
        let ports = part
            .ports
            .map(|(protocol, ranges)| port_match(protocol, ranges));
        let peer = match part.peer {
            PeerMatch::Any => None,
            // ip saddr @peer4_x
            PeerMatch::Set(name) => Some(self.peer_in(peer_set(self.family, name))),
            // ip daddr . meta l4proto . th dport @ports4_x
            PeerMatch::NamedPorts(name) => Some(self.peer_and_port_in(port_set(self.family, name))),
        };
        let rule = Rule::verdict(ports.into_iter().chain(peer), verdict);
        self.counted(rule).comment(comment(&list(part.policies)))
    }

    /// `counter name "dropped_ingress_policy" drop`, if it drops.
    fn counted(&self, rule: Rule) -> Rule {
        let direction = self.class.direction;
        let why = match self.class.policies.as_slice() {
            [] => Dropped::Closed(direction),
            _ => Dropped::Policy(direction),
        };
        match rule.statement {
            Statement::Verdict(Verdict::Drop) => rule.counted_in(why.counter()),
            _ => rule,
        }
    }

    /// `ip saddr @set`
    fn peer_in(&self, set: String) -> Match {
        Match::in_set([peer(self.class.direction, self.family)], set)
    }

    /// `ip saddr . meta l4proto . th dport @set`
    fn peer_and_port_in(&self, set: String) -> Match {
        let key = [
            peer(self.class.direction, self.family),
            Field::TransportProtocol,
            Field::TransportDestinationPort,
        ];
        Match::in_set(key, set)
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
