//! Sets and verdict maps of the node's own pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::sets::address_type;
use super::{class_chain, digit};
use crate::ir::{LocalPod, NodeIr};
use crate::model::{Direction, Family};
use crate::name::comment;
use crate::ruleset::{MapElement, Set, Table, Value, Verdict, VerdictMap};

/// What is known of the node's own pods.
pub(super) fn add(table: &mut Table, ir: &NodeIr) {
    for family in Family::ALL {
        add_empty(table, family);
    }
    let mut elements = LocalElements::default();
    for (id, pod) in &ir.pods {
        elements.add(id, pod);
    }
    elements.replace(&LocalElements::default(), table);
}

fn add_empty(table: &mut Table, family: Family) {
    let (kind, digit) = (address_type(family), digit(family));
    for (name, parts, text) in [
        ("local", 1, "pods of this node"),
        ("self", 2, "each pod of this node with itself"),
        (
            "strict",
            1,
            "pods of this node that are isolated in either direction",
        ),
    ] {
        let set = Set {
            key: vec![kind; parts],
            interval: false,
            comment: text.to_owned(),
            elements: OrdSet::new(),
        };
        table.add_set(format!("{name}{digit}"), set);
    }
    for direction in [Direction::Egress, Direction::Ingress] {
        let map = VerdictMap {
            key: vec![kind],
            comment: format!("pod of this node to its {direction} class"),
            elements: OrdMap::new(),
        };
        table.add_map(format!("{direction}{digit}"), map);
    }
}

/// Elements of the sets and maps that [`add`] makes, by set and key.
#[derive(Debug, Default)]
pub(crate) struct LocalElements {
    sets: BTreeSet<(String, Vec<Value>)>,
    maps: BTreeMap<(String, Vec<Value>), MapElement>,
}

impl LocalElements {
    /// Adds a pod's.
    pub(crate) fn add(&mut self, id: &str, pod: &LocalPod) {
        for address in &pod.addresses {
            let family = Family::of(*address);
            let (digit, address) = (digit(family), Value::Address(*address));
            let mut add = |name: &str, key| {
                self.sets.insert((format!("{name}{digit}"), key));
            };
            add("local", vec![address.clone()]);
            add("self", vec![address.clone(), address.clone()]);
            if pod.is_isolated() {
                add("strict", vec![address.clone()]);
            }
            for direction in [Direction::Egress, Direction::Ingress] {
                let verdict = match pod.class(direction) {
                    Some(class) => Verdict::Goto(class_chain(direction, family, class)),
                    None => Verdict::Accept,
                };
                let element = MapElement {
                    verdict,
                    comment: comment(id),
                };
                let key = (format!("{direction}{digit}"), vec![address.clone()]);
                self.maps.insert(key, element);
            }
        }
    }

    /// Puts these in place of the old ones. An address may go from one pod to another: so all that goes is known before
    /// anything comes.
    pub(crate) fn replace(self, old: &Self, table: &mut Table) {
        for (name, key) in old.sets.difference(&self.sets) {
            if let Some(set) = table.sets.get_mut(name) {
                Arc::make_mut(set).elements.remove(key);
            }
        }
        for place in old.maps.keys() {
            if !self.maps.contains_key(place)
                && let Some(map) = table.maps.get_mut(&place.0)
            {
                Arc::make_mut(map).elements.remove(&place.1);
            }
        }
        for element in self.sets {
            if !old.sets.contains(&element)
                && let Some(set) = table.sets.get_mut(&element.0)
            {
                Arc::make_mut(set).elements.insert(element.1);
            }
        }
        for (place, element) in self.maps {
            if old.maps.get(&place) != Some(&element)
                && let Some(map) = table.maps.get_mut(&place.0)
            {
                Arc::make_mut(map).elements.insert(place.1, element);
            }
        }
    }
}
