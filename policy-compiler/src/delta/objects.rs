//! Whole objects: creating and deleting them so that each operation finds what it names.

use super::{Action, Step, TableSteps};
use crate::ruleset::{Chain, Set, Table, VerdictMap};

/// Counters, sets, maps and chains of a table, some or all.
#[derive(Default)]
pub(super) struct Objects<'a> {
    pub(super) counters: Vec<&'a str>,
    pub(super) sets: Vec<(&'a str, &'a Set)>,
    pub(super) maps: Vec<(&'a str, &'a VerdictMap)>,
    pub(super) chains: Vec<&'a Chain>,
}

impl<'a> Objects<'a> {
    /// The counters that only the one table has.
    pub(super) fn counters_only_in(one: &'a Table, other: &Table) -> Vec<&'a str> {
        let counters = one.counters.iter().map(String::as_str);
        let new = counters.filter(|name| !other.counters.contains(*name));
        new.collect()
    }

    /// Chains come first without rules, since maps and rules name them; rules last.
    pub(super) fn add(&self, steps: &mut TableSteps, step: Step) {
        for name in &self.counters {
            steps.push(step, Action::AddCounter((*name).to_owned()));
        }
        for chain in &self.chains {
            let (chain, base) = (chain.name.clone(), chain.base.clone());
            steps.push(step, Action::AddChain { chain, base });
        }
        for (name, set) in &self.sets {
            steps.push(step, add_set(name, set));
            steps.add_elements(step, name, set, set.elements.iter().cloned());
        }
        for (name, map) in &self.maps {
            let (key, comment) = (map.key.clone(), map.comment.clone());
            let map_name = (*name).to_owned();
            let action = Action::AddMap {
                map: map_name.clone(),
                key: key.clone(),
                comment,
            };
            steps.push(step, action);
            if !map.elements.is_empty() {
                let elements = map.elements.iter();
                let elements = elements.map(|(key, element)| (key.clone(), element.clone()));
                let elements = elements.collect();
                let map = map_name;
                let action = Action::AddVerdicts { map, key, elements };
                steps.push(step, action);
            }
        }
        for chain in self.chains.iter().filter(|chain| !chain.rules.is_empty()) {
            steps.refill(step, &chain.name, chain.rules.clone());
        }
    }

    /// Rules go first, then maps, since both name chains.
    pub(super) fn delete(&self, steps: &mut TableSteps, step: Step) {
        for chain in self.chains.iter().filter(|chain| !chain.rules.is_empty()) {
            steps.refill(step, &chain.name, Vec::new());
        }
        for (name, _) in &self.maps {
            steps.push(step, Action::DeleteMap((*name).to_owned()));
        }
        for chain in &self.chains {
            steps.push(step, Action::DeleteChain(chain.name.clone()));
        }
        for (name, _) in &self.sets {
            steps.push(step, Action::DeleteSet((*name).to_owned()));
        }
        for name in &self.counters {
            steps.push(step, Action::DeleteCounter((*name).to_owned()));
        }
    }
}

/// The action that creates a set; its elements come after.
pub(super) fn add_set(name: &str, set: &Set) -> Action {
    Action::AddSet {
        set: name.to_owned(),
        key: set.key.clone(),
        interval: set.interval,
        comment: set.comment.clone(),
    }
}
