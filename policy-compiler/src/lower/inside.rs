//! The rules of one pod, for its own network namespace: where its packets do not pass its node's.
//!
//! ```text
//! output ─▶ leaving ──(verdict map by the pod's address)──▶ its egress class ─▶ accept | drop
//! input ──▶ arriving ─(verdict map by the pod's address)──▶ its ingress class ─▶ accept | drop
//! ```
//!
//! The classes are those of the node's ruleset, taken from it with the sets that they look into.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::base::{self, EGRESS_PRIORITY, INGRESS_PRIORITY};
use super::guards;
use super::{RevokedBit, destination, digit, dropped, of_family, source, subject};
use crate::evaluate::NodeEgress;
use crate::model::{Direction, Family, InterfaceName};
use crate::ruleset::{
    Chain, Field, Hook, Match, Operand, Rule, Ruleset, Statement, Table, TableFamily, Value,
    Verdict, VerdictMap,
};

/// Interfaces of a pod whose packets do not pass its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The interfaces, by their names in the pod's network namespace.
    pub interfaces: BTreeSet<InterfaceName>,
    /// The pod's addresses there.
    pub addresses: BTreeSet<IpAddr>,
    /// The addresses of its node, which may always reach it.
    pub node: BTreeSet<IpAddr>,
    /// Whether the pod may send from other addresses there, and route.
    pub routes: bool,
}

/// The rules for a pod's own network namespace, out of those of its node. What the node's rules say nothing of passes
/// nothing. The table has the node's table's name.
///
/// Packets of other interfaces of the namespace are not judged. Nothing is routed by way of these, unless it is said that
/// the pod routes: it would lend others its address.
pub fn inside(
    node: &Ruleset,
    pod: &Inside,
    node_egress: NodeEgress,
    revoked: RevokedBit,
) -> Ruleset {
    let mut table = Table::new(TableFamily::Inet);
    dropped::add_all(&mut table);
    let mut tables = node.tables.iter();
    let of_node = tables.find(|table| table.family == TableFamily::Inet);
    let mut classes = BTreeSet::new();
    for family in Family::ALL {
        for direction in [Direction::Egress, Direction::Ingress] {
            let map = of_node.map(|of_node| own(of_node, pod, direction, family));
            let map = map.unwrap_or_else(|| empty(direction, family));
            classes.extend(
                map.elements
                    .values()
                    .filter_map(|element| match &element.verdict {
                        Verdict::Goto(class) => Some(class.clone()),
                        _ => None,
                    }),
            );
            table.add_map(format!("{direction}{}", digit(family)), map);
        }
    }
    let through = |field| {
        let names = pod.interfaces.iter();
        let names = names.map(|name| Value::Interface(name.to_string()));
        Match::is(field, names)
    };
    let (leaves, arrives) = (Field::OutputInterface, Field::InputInterface);
    let goto = |field, chain: &str| Rule::verdict([through(field)], Verdict::Goto(chain.into()));
    for (name, hook, priority, rules) in [
        (
            "egress",
            Hook::Output,
            EGRESS_PRIORITY,
            vec![goto(leaves, "leaving")],
        ),
        (
            "ingress",
            Hook::Input,
            INGRESS_PRIORITY,
            vec![goto(arrives, "arriving")],
        ),
        (
            "forward",
            Hook::Forward,
            EGRESS_PRIORITY,
            match pod.routes {
                true => vec![],
                false => vec![routed(through(arrives)), routed(through(leaves))],
            },
        ),
    ] {
        table.add_chain(base::chain(name, hook, priority, rules));
    }
    let isolated = !classes.is_empty();
    let open = is_open(&table, pod);
    for (name, rules) in [
        ("leaving", leaving(pod, node_egress, revoked, isolated)),
        ("arriving", arriving(pod, revoked, isolated, open)),
    ] {
        table.add_chain(Chain {
            name: name.to_owned(),
            base: None,
            rules,
        });
    }
    if let Some(of_node) = of_node {
        add_classes(&mut table, of_node, classes);
    }
    Ruleset {
        tables: vec![table],
    }
}

fn empty(direction: Direction, family: Family) -> VerdictMap {
    VerdictMap {
        key: vec![super::sets::address_type(family)],
        comment: format!("the pod's address to its {direction} class"),
        elements: Default::default(),
    }
}

/// What the node's map says of the pod's addresses.
fn own(of_node: &Table, pod: &Inside, direction: Direction, family: Family) -> VerdictMap {
    let mut map = empty(direction, family);
    if let Some(all) = of_node.maps.get(&format!("{direction}{}", digit(family))) {
        for address in of_family(pod.addresses.iter().copied(), family) {
            let key = vec![Value::Address(address)];
            if let Some(element) = all.elements.get(&key) {
                map.elements.insert(key, element.clone());
            }
        }
    }
    map
}

/// Whether the pod may get everything.
fn is_open(table: &Table, pod: &Inside) -> bool {
    let mut addresses = pod.addresses.iter();
    addresses.all(|address| {
        let map = format!("{}{}", Direction::Ingress, digit(Family::of(*address)));
        let key = vec![Value::Address(*address)];
        let element = table.maps.get(&map).and_then(|map| map.elements.get(&key));
        element.is_some_and(|element| element.verdict == Verdict::Accept)
    }) && !pod.addresses.is_empty()
}

fn routed(through: Match) -> Rule {
    guards::dropped([through], "routed by the pod")
}

/// What the pod sends: from its own addresses, as its class says.
fn leaving(
    pod: &Inside,
    node_egress: NodeEgress,
    revoked: RevokedBit,
    isolated: bool,
) -> Vec<Rule> {
    let mut rules = base::opening(revoked);
    rules.extend([guards::neighbour_discovery(), guards::listener_discovery()]);
    rules.push(guards::routers_only());
    if isolated {
        rules.push(not_a_bare_syn());
    }
    for family in Family::ALL {
        let (node, own) = (
            addresses(&pod.node, family),
            addresses(&pod.addresses, family),
        );
        if node_egress == NodeEgress::Allow && !node.is_empty() && !own.is_empty() {
            // ip saddr { own } ip daddr { node } accept
            let to_node = [
                Match::is(source(family), own),
                Match::is(destination(family), node),
            ];
            rules.push(Rule::verdict(to_node, Verdict::Accept).comment("the pod to its node"));
        }
        rules.push(judge(Direction::Egress, family));
    }
    rules.extend(guards::from_no_address());
    rules.push(match pod.routes {
        true => guards::routes([]),
        false => guards::dropped([], "forged source"),
    });
    rules
}

/// What the pod gets: as its class says, and what is for everybody on the link if no class says anything.
fn arriving(pod: &Inside, revoked: RevokedBit, isolated: bool, open: bool) -> Vec<Rule> {
    let mut rules = base::opening(revoked);
    rules.extend([guards::neighbour_discovery(), guards::listener_discovery()]);
    rules.push(guards::from_a_router());
    if isolated {
        rules.push(not_a_bare_syn());
    }
    for family in Family::ALL {
        let node = addresses(&pod.node, family);
        if !node.is_empty() {
            // ip saddr { node } accept
            let from_node = Match::is(source(family), node);
            rules
                .push(Rule::verdict([from_node], Verdict::Accept).comment("this node to its pods"));
        }
        rules.push(judge(Direction::Ingress, family));
    }
    rules.push(match open {
        true => Rule::verdict([], Verdict::Accept).comment("multicast and broadcast"),
        false => guards::dropped([], "to no address of the pod, multicast or broadcast"),
    });
    rules
}

/// `ip saddr vmap @egress4`
fn judge(direction: Direction, family: Family) -> Rule {
    let map = format!("{direction}{}", digit(family));
    Rule::lookup([subject(direction, family)], map)
}

/// As on the node ([`guards::not_a_bare_syn`]); here all packets are the pod's.
fn not_a_bare_syn() -> Rule {
    guards::dropped(guards::bare_matches(), "TCP without a connection")
}

fn addresses(of: &BTreeSet<IpAddr>, family: Family) -> BTreeSet<Value> {
    of_family(of.iter().copied(), family)
        .map(Value::Address)
        .collect()
}

/// Adds the chains of these classes, those that they go on to, and the sets that all of them look into.
fn add_classes(table: &mut Table, of_node: &Table, classes: BTreeSet<String>) {
    let mut wanted: Vec<String> = classes.into_iter().collect();
    let mut chains = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if chains.contains_key(&name) {
            continue;
        }
        let Some(chain) = of_node.chains.named(&name) else {
            // The kernel refuses a map that points to nothing: nothing changes then.
            continue;
        };
        for rule in &chain.rules {
            if let Statement::Verdict(Verdict::Goto(next) | Verdict::Jump(next)) = &rule.statement {
                wanted.push(next.clone());
            }
            for matches in &rule.matches {
                if let Operand::Set(set) = &matches.operand
                    && let Some(members) = of_node.sets.get(set)
                {
                    table.sets.insert(set.clone(), Arc::clone(members));
                }
            }
        }
        chains.insert(name, Arc::clone(chain));
    }
    table.chains.extend(chains.into_values());
}
