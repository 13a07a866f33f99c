//! ipBlocks that match more, or less, than they seem to.

use std::collections::BTreeSet;

use policy_compiler::cover::{ports_imply, selector_implies};
use policy_compiler::model::{
    AddressRanges, Cidr, IpBlock, NetworkPolicy, Peer, Peers, PolicyPort, PortMatch, Ports,
};

use super::code::{Code, Severity};
use super::facts::{Facts, WrittenPeer, fields};
use super::finding::Finding;

pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for peer in facts.peers() {
        let Peer::Block(block) = peer.peer else {
            continue;
        };
        let found = [
            empty(block).map(|found| (found, "except")),
            pods(facts, block).map(|found| (found, "cidr")),
            services(facts, block).map(|found| (found, "cidr")),
            reopened(facts, &peer, block).map(|found| (found, "except")),
        ];
        for ((severity, code, message), last) in found.into_iter().flatten() {
            let field = format!("{}.ipBlock.{last}", peer.field());
            let policy = &peer.rule.policy.id;
            findings.push(facts.finding(severity, code, policy, field, message));
        }
    }
    findings
}

type Found = Option<(Severity, Code, String)>;

fn empty(block: &IpBlock) -> Found {
    let message = format!(
        "matches nothing: the excepts leave no address of {}",
        block.cidr()
    );
    let code = Code::PeerMatchesNothing;
    block
        .ranges()
        .is_empty()
        .then_some((Severity::Warning, code, message))
}

fn is_whole_family(block: &IpBlock) -> bool {
    block.cidr().net().prefix_len() == 0
}

fn pods(facts: &Facts<'_>, block: &IpBlock) -> Found {
    let code = Code::BlockCoversPods;
    let shared = first_shared(&block.ranges(), &facts.pod_ranges)?;
    let message = format!("{block} matches pods: {shared} is theirs");
    // The usual way to write "the world", with or without excepts, so that it is only a hint.
    let severity = match is_whole_family(block) {
        true => Severity::Hint,
        false => Severity::Warning,
    };
    Some((severity, code, message))
}

fn services(facts: &Facts<'_>, block: &IpBlock) -> Found {
    if is_whole_family(block) {
        return None;
    }
    let ranges = block.ranges();
    let shared = first_shared(&ranges, &facts.service_ranges)?;
    let code = Code::BlockCoversServices;
    if ranges.minus(&facts.service_ranges).is_empty() {
        let message = format!("{block} holds Service addresses only, and so matches nothing");
        Some((Severity::Warning, code, message))
    } else {
        let message = format!("{block} does not open the Service addresses in it: {shared}");
        Some((Severity::Hint, code, message))
    }
}

fn first_shared(some: &AddressRanges, others: &AddressRanges) -> Option<String> {
    let shared = some
        .iter()
        .flat_map(|range| others.iter().filter_map(|other| range.intersection(other)));
    shared.min().map(|range| range.to_string())
}

/// Whether others allow what the block leaves out. Selectors do not count: to leave out a range and allow some pods
/// in it is what both are for.
fn reopened(facts: &Facts<'_>, place: &WrittenPeer<'_>, block: &IpBlock) -> Found {
    let WrittenPeer {
        rule: own,
        item: own_item,
        ..
    } = place;
    let excepts = block.except();
    if excepts.is_empty() {
        return None;
    }
    let left_out = AddressRanges::union(excepts);
    let mut by = BTreeSet::new();
    let mut on_all_ports: Vec<Cidr> = Vec::new();
    let mut whole_block = Vec::new();
    for policy in facts.cluster.policies_in(&own.policy.id.namespace) {
        if !shares_pods(facts, own.policy, policy) {
            continue;
        }
        let rules = policy.rules(own.direction).unwrap_or_default();
        for (index, rule) in rules.iter().enumerate() {
            let is_own = policy.id == own.policy.id && index == own.index;
            if !ports_overlap(&own.rule.ports, &rule.ports) {
                continue;
            }
            let is_full = ports_imply(&own.rule.ports, &rule.ports);
            let (list, field) = fields(own.direction);
            let name = format!("{} spec.{list}[{index}]", policy.id);
            match &rule.peers {
                Peers::Any => {
                    by.insert(name);
                    if is_full {
                        on_all_ports.extend(excepts);
                    }
                }
                Peers::Of(peers) => {
                    for (item, peer) in peers.iter().enumerate() {
                        let Peer::Block(other) = peer else { continue };
                        let ranges = other.ranges();
                        if (is_own && item == *own_item)
                            || first_shared(&ranges, &left_out).is_none()
                        {
                            continue;
                        }
                        by.insert(format!("{name}.{field}[{item}]"));
                        if is_full {
                            whole_block.push(ranges);
                        }
                    }
                }
            }
        }
    }
    if by.is_empty() {
        return None;
    }
    let is_void = |except: &Cidr| {
        let mut left = AddressRanges::union([except]);
        for ranges in &whole_block {
            left = left.minus(ranges);
        }
        on_all_ports.contains(except) || left.is_empty()
    };
    let by = by.into_iter().collect::<Vec<_>>().join(", ");
    let void: Vec<_> = excepts.iter().filter(|except| is_void(except)).collect();
    Some(match void.first() {
        Some(except) => {
            let message = format!("{except} is allowed all the same, by {by}");
            (Severity::Warning, Code::ExceptReopened, message)
        }
        None => {
            let message = format!("a part of what is left out is allowed by {by}");
            (Severity::Hint, Code::ExceptReopened, message)
        }
    })
}

/// Whether the other policy applies to a pod to which the policy does; without pods, whether it always does.
fn shares_pods(facts: &Facts<'_>, policy: &NetworkPolicy, other: &NetworkPolicy) -> bool {
    let selected = facts.selected(policy);
    policy.id == other.id
        || selected
            .iter()
            .any(|pod| other.selector.matches(&pod.labels))
        || (selected.is_empty() && selector_implies(&policy.selector, &other.selector))
}

/// A name and a number may be the same port, which is known only for each pod; that is no overlap here.
fn ports_overlap(some: &Ports, others: &Ports) -> bool {
    let (Ports::Of(some), Ports::Of(others)) = (some, others) else {
        return true;
    };
    let overlap = |a: &PolicyPort, b: &PolicyPort| {
        a.protocol == b.protocol
            && match (&a.port, &b.port) {
                (PortMatch::All, _) | (_, PortMatch::All) => true,
                (PortMatch::Range(a), PortMatch::Range(b)) => {
                    a.first() <= b.last() && b.first() <= a.last()
                }
                (a, b) => a == b,
            }
    };
    some.iter().any(|a| others.iter().any(|b| overlap(a, b)))
}
