//! Sets and verdict maps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{class_chain, digit, of_family, peer_set, port_set};
use imbl::OrdSet;

use crate::ir::{NodeIr, PeerMembers};
use crate::model::{Direction, Family, PortRange, Protocol};
use crate::name::comment;
use crate::ruleset::{KeyType, MapElement, Operand, Set, Table, Value, Verdict, VerdictMap};

pub(super) fn add(table: &mut Table, ir: &NodeIr) {
    for family in Family::ALL {
        add_local(table, ir, family);
        add_peers(table, ir, family);
    }
}

pub(super) fn address_type(family: Family) -> KeyType {
    match family {
        Family::Ipv4 => KeyType::Ipv4Address,
        Family::Ipv6 => KeyType::Ipv6Address,
    }
}

/// What is known of the node's own pods.
fn add_local(table: &mut Table, ir: &NodeIr, family: Family) {
    let (kind, digit) = (address_type(family), digit(family));
    let addresses = |isolated_only: bool| {
        let pods = ir.pods.values();
        let pods = pods.filter(move |pod| !isolated_only || pod.is_isolated());
        pods.flat_map(move |pod| of_family(pod.addresses.iter().copied(), family))
    };
    let mut add = |name: &str, key: Vec<KeyType>, text: &str, elements: OrdSet<Vec<Value>>| {
        let set = Set {
            key,
            interval: false,
            comment: text.to_owned(),
            elements,
        };
        table.add_set(format!("{name}{digit}"), set);
    };
    add(
        "local",
        vec![kind],
        "pods of this node",
        addresses(false).map(|a| vec![Value::Address(a)]).collect(),
    );
    add(
        "self",
        vec![kind, kind],
        "each pod of this node with itself",
        addresses(false)
            .map(|a| vec![Value::Address(a), Value::Address(a)])
            .collect(),
    );
    add(
        "strict",
        vec![kind],
        "pods of this node that are isolated in either direction",
        addresses(true).map(|a| vec![Value::Address(a)]).collect(),
    );
    for direction in [Direction::Egress, Direction::Ingress] {
        let mut elements = BTreeMap::new();
        for (id, pod) in &ir.pods {
            let verdict = match pod.class(direction) {
                Some(class) => Verdict::Goto(class_chain(direction, family, class)),
                None => Verdict::Accept,
            };
            for address in of_family(pod.addresses.iter().copied(), family) {
                let element = MapElement {
                    verdict: verdict.clone(),
                    comment: comment(id),
                };
                elements.insert(vec![Value::Address(address)], element);
            }
        }
        let map = VerdictMap {
            key: vec![kind],
            comment: format!("pod of this node to its {direction} class"),
            elements,
        };
        table.add_map(format!("{direction}{digit}"), map);
    }
}

/// The peers of which rules name the set.
fn add_peers(table: &mut Table, ir: &NodeIr, family: Family) {
    let kind = address_type(family);
    let named = named_sets(table);
    let mut sets = BTreeMap::new();
    for (name, peer) in &ir.peers {
        let name = peer_set(family, name);
        if !named.contains(name.as_str()) {
            continue;
        }
        let elements = match &peer.members {
            PeerMembers::Pods(addresses) => of_family(addresses.iter().copied(), family)
                .map(|address| vec![Value::Address(address)])
                .collect(),
            PeerMembers::Block(ranges) => ranges
                .iter()
                .map(|range| vec![Value::Addresses(*range)])
                .collect(),
        };
        let set = Set {
            key: vec![kind],
            interval: matches!(peer.members, PeerMembers::Block(_)),
            comment: comment(&peer.peer),
            elements,
        };
        sets.insert(name, set);
    }
    for (name, ports) in &ir.named_ports {
        let name = port_set(family, name);
        if !named.contains(name.as_str()) {
            continue;
        }
        let members = ports.members.iter();
        let set = Set {
            key: vec![kind, KeyType::Protocol, KeyType::Port],
            interval: false,
            comment: comment(&ports.peer),
            elements: members
                .filter(|(address, ..)| Family::of(*address) == family)
                .map(|(address, protocol, port)| named_port(*address, *protocol, *port))
                .collect(),
        };
        sets.insert(name, set);
    }
    table.sets.extend(sets);
}

/// `10.0.0.1 . tcp . 80`
pub(super) fn named_port(address: IpAddr, protocol: Protocol, port: u16) -> Vec<Value> {
    vec![
        Value::Address(address),
        Value::Protocol(protocol),
        Value::Ports(PortRange::single(port)),
    ]
}

/// The sets that rules look into.
fn named_sets(table: &Table) -> BTreeSet<&str> {
    let rules = table.chains.iter().flat_map(|chain| &chain.rules);
    let operands = rules.flat_map(|rule| &rule.matches).map(|m| &m.operand);
    operands
        .filter_map(|operand| match operand {
            Operand::Set(name) => Some(name.as_str()),
            Operand::Values(_) => None,
        })
        .collect()
}
