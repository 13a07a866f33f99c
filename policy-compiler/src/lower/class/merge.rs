//! Many rules of a class as a few lookups.
//!
//! ```text
//! chain ingress4_x {
//!   tcp dport { 80, 443 } accept                            # every peer
//!   ip saddr . meta l4proto . th dport @flat4_x accept      # pods with single ports, and named ports
//!   ip saddr @pods4_x accept                                # pods with every port
//!   ip saddr @blocks4_x accept                              # ipBlocks with every port
//!   ip saddr . meta l4proto . th dport @ranges4_x accept    # ipBlocks with ports, and pods with ranges of ports
//!   drop
//! }
//! ```
//!
//! All rules accept, so their order is of no account, and a set holds exactly what its rules accept together. It is
//! named by its class, and the rule that looks into it says which policies its elements came from. A rule that is
//! alone of its kind stays a plain rule, and its peer a shared set.
//!
//! New connections per second as a ratio to a class of one rule, with one nft rule for each rule (the set asked
//! before the port) and merged, for packets that one of all rules accepts. Linux 6.18, 2 CPUs with AVX2, medians of
//! 11 interleaved rounds of `examples/many_rules.rs`; quartiles of merged classes are at most 9 % from that.
//!
//! | rules of               | 10          | 50          | 100         | 1,000       | 10,000       |
//! |------------------------|-------------|-------------|-------------|-------------|--------------|
//! | pods, one port         | 0.94 → 1.00 | 0.74 → 1.00 | 0.57 → 1.00 | 0.12 → 0.99 | 0.010 → 0.96 |
//! | pods, a port each      | 0.95 → 0.98 | 0.73 → 0.98 | 0.57 → 1.00 | 0.11 → 0.97 | 0.009 → 0.95 |
//! | ipBlocks, one port     | 0.91 → 0.94 | 0.65 → 0.95 | 0.47 → 0.92 | 0.08 → 0.94 | 0.003 → 0.83 |
//! | ipBlocks, a port each  | 0.92 → 0.95 | 0.68 → 0.96 | 0.48 → 0.95 | 0.08 → 0.91 | 0.003 → 0.82 |
//! | all four kinds of sets | 0.90 → 0.92 | 0.67 → 0.93 | 0.49 → 0.93 | 0.09 → 0.89 | 0.004 → 0.82 |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::group::{Group, Kind, elements, groups};
use super::{Context, Part, list, port_match};
use crate::lower::digit;
use crate::lower::sets::address_type;
use crate::model::{PolicyId, PortRange, PortRanges, Protocol};
use crate::name::comment;
use crate::ruleset::{KeyType, Match, Rule, Set, Value, Verdict};

/// When the rules of a class merge, and how far. The bounds keep what is loaded in proportion to what was
/// written; rules beyond them stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merging {
    /// The most nft rules that a class has in a family without being merged.
    pub above: usize,
    /// The most elements that rules with the same ports may need, per rule.
    pub elements_per_rule: usize,
    /// The most that a class may need in its set of ranges of addresses and ports, an element counted as often as
    /// the kernel splits it: for each change it copies all of the set.
    pub ranges: usize,
}

impl Default for Merging {
    /// Merging breaks even between 2 rules (pods with one port) and 20 (ipBlocks with a port each); at 8 it gains or
    /// loses 7 % at most. A set of ranges that the kernel splits into 65,536 answers in 1 us and loads in 0.1 s.
    fn default() -> Self {
        Self {
            above: 8,
            elements_per_rule: 64,
            ranges: 65_536,
        }
    }
}

/// The rules for parts that all accept. Adds the sets that they look into.
pub(super) fn merge(
    context: &Context<'_>,
    parts: &[Part<'_>],
    sets: &mut BTreeMap<String, Arc<Set>>,
) -> Vec<Rule> {
    let mut kinds: BTreeMap<Kind, Vec<Group<'_>>> = BTreeMap::new();
    let mut plain = Vec::new();
    for group in groups(context, parts) {
        match group {
            Ok(group) => kinds.entry(group.kind).or_default().push(group),
            Err(parts) => plain.extend(parts),
        }
    }
    let mut rules = Vec::new();
    for (kind, groups) in kinds {
        let parts: Vec<_> = groups
            .iter()
            .flat_map(|group| &group.parts)
            .copied()
            .collect();
        match kind {
            // The first kind: nothing was added yet, and no other rule is needed.
            Kind::Everything => return vec![accept([], &parts)],
            Kind::EveryPeer => rules.extend(every_peer(&parts)),
            _ if parts.len() == 1 => plain.extend(parts),
            _ => match elements(kind, &groups, context.merging.ranges) {
                Some(elements) => rules.push(look_up(context, kind, &parts, elements, sets)),
                None => plain.extend(parts),
            },
        }
    }
    rules.extend(
        plain
            .iter()
            .map(|part| context.plain(part, Verdict::Accept)),
    );
    rules
}

/// `tcp dport { 80, 443 } accept`: one rule per protocol.
fn every_peer(parts: &[Part<'_>]) -> Vec<Rule> {
    let mut protocols: BTreeMap<Protocol, (Vec<PortRange>, Vec<Part<'_>>)> = BTreeMap::new();
    for part in parts {
        if let Some((protocol, ranges)) = part.ports {
            let (ports, parts) = protocols.entry(protocol).or_default();
            ports.extend(ranges.iter());
            parts.push(*part);
        }
    }
    protocols
        .into_iter()
        .map(|(protocol, (ports, parts))| {
            let ports: PortRanges = ports.into_iter().collect();
            accept([port_match(protocol, &ports)], &parts)
        })
        .collect()
}

/// `ip saddr . meta l4proto . th dport @flat4_x accept`, and the set.
fn look_up(
    context: &Context<'_>,
    kind: Kind,
    parts: &[Part<'_>],
    elements: BTreeSet<Vec<Value>>,
    sets: &mut BTreeMap<String, Arc<Set>>,
) -> Rule {
    let (prefix, with_port, interval) = match kind {
        Kind::Everything | Kind::EveryPeer | Kind::Flat => ("flat", true, false),
        Kind::Pods => ("pods", false, false),
        Kind::Blocks => ("blocks", false, true),
        Kind::Ranges => ("ranges", true, true),
    };
    let name = format!("{prefix}{}_{}", digit(context.family), context.name);
    let mut key = vec![address_type(context.family)];
    if with_port {
        key.extend([KeyType::Protocol, KeyType::Port]);
    }
    let set = Set {
        key,
        interval,
        // What the name stands for, so that it stays the same: another comment is another set.
        comment: comment(&format!(
            "merged rules of {}",
            list(&context.class.policies)
        )),
        elements: elements.into_iter().collect(),
    };
    sets.insert(name.clone(), Arc::new(set));
    let matches = if with_port {
        context.peer_and_port_in(name)
    } else {
        context.peer_in(name)
    };
    accept([matches], parts)
}

fn accept(matches: impl IntoIterator<Item = Match>, parts: &[Part<'_>]) -> Rule {
    Rule::verdict(matches, Verdict::Accept).comment(comment(&policies(parts)))
}

/// The policies that ask for the parts, each once.
fn policies(parts: &[Part<'_>]) -> String {
    let policies: BTreeSet<&PolicyId> = parts.iter().flat_map(|part| part.policies).collect();
    list(policies)
}
