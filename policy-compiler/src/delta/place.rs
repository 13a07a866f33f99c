//! Changes in place: what keeps its name keeps its object, and only what differs is touched.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::class::{Relation, relation};
use super::elements::SetChange;
use super::objects::{Objects, add_set};
use super::roles::{Role, Side, Sides, set_matches};
use super::temporary::{Names, Temporaries};
use super::{Action, Step, TableSteps, chains, permits, verdicts};
use crate::ruleset::{Chain, Table};

/// The steps from one table to the other; none if some change is not recognised.
pub(super) fn steps(from: &Table, to: &Table, names: Names<'_>) -> Option<TableSteps> {
    let sides = Sides::new(from, to);
    let mut temporaries = Temporaries::new(&sides, names);
    let mut steps = TableSteps::default();
    for (name, change) in &sides.changes {
        change_set(&sides, name, change, &mut steps)?;
    }
    for item in from.maps.diff(&to.maps) {
        if let DiffItem::Update { old, new } = item {
            let (name, [map, new]) = (old.0, [old.1, new.1]);
            if (&map.key, &map.comment) != (&new.key, &new.comment) {
                return None;
            }
            verdicts::change(&sides, name, [map, new], &mut temporaries, &mut steps)?;
        }
    }
    let mut filled_late = BTreeSet::new();
    for (chain, new) in &sides.chains {
        match new {
            // The same one says the same, whatever is in its sets.
            Some(new) if Arc::ptr_eq(chain, new) && !sides.looks_into_changes(chain) => {}
            Some(new) if sides.from.is_class(&chain.name) && sides.to.is_class(&new.name) => {
                change_class(&sides, chain, new, &mut temporaries, &mut steps);
            }
            Some(new) => chains::change(&sides, chain, new, &mut steps)?,
            None if chain.base.is_some() => {
                if !sides.is_untouched(&sides.from, &chain.rules) {
                    return None;
                }
                chains::delete_base(chain, &mut steps);
            }
            // Nothing leads there any more, and its sets may become others under the same name.
            None if names_replaced(&sides, chain) => {
                steps.refill(Step::Tighten, &chain.name, Vec::new());
            }
            None => {}
        }
    }
    for chain in sides.new_chains.iter().copied() {
        if chain.base.is_some() {
            if !sides.is_untouched(&sides.to, &chain.rules) {
                return None;
            }
            chains::add_base(chain, &mut steps);
        } else if names_replaced(&sides, chain) {
            filled_late.insert(chain.name.as_str());
            steps.refill(Step::RecoupleChains, &chain.name, chain.rules.clone());
        }
    }
    replace_sets(&sides, &mut steps);
    create(&sides, &temporaries, &filled_late, &mut steps);
    delete(&sides, &temporaries, &mut steps);
    Some(steps)
}

/// Elements of a set that stays.
fn change_set(
    sides: &Sides<'_>,
    name: &str,
    change: &SetChange<'_>,
    steps: &mut TableSteps,
) -> Option<()> {
    let role = sides.role(name);
    if change.replaced {
        return (role == Role::Peers).then_some(());
    }
    let (gone, new) = (&change.gone, &change.new);
    match role {
        Role::Peers | Role::Unused => {
            let kept = change.kept()?;
            let less = |elements: &BTreeSet<_>| elements.difference(&kept).cloned().collect();
            let within = |elements: &BTreeSet<_>| kept.difference(elements).cloned().collect();
            steps.delete_elements(Step::Tighten, name, change.from, less(gone));
            steps.add_elements(Step::Tighten, name, change.from, within(gone));
            steps.delete_elements(Step::Loosen, name, change.from, within(new));
            steps.add_elements(Step::Loosen, name, change.from, less(new));
        }
        Role::Denies => {
            if change.from.interval || !chains::is_gate_recognised(sides, name) {
                return None;
            }
            steps.add_elements(Step::Close, name, change.from, new.clone());
            steps.delete_elements(Step::Open, name, change.from, gone.clone());
        }
        Role::Permits => permits::change(sides, name, change, steps)?,
        Role::Unknown => return None,
    }
    Some(())
}

/// Rules of a class that stays.
fn change_class(
    sides: &Sides<'_>,
    from: &Chain,
    to: &Chain,
    temporaries: &mut Temporaries<'_>,
    steps: &mut TableSteps,
) {
    let name = &from.name;
    match relation(sides, name) {
        Relation::Mixed => {
            let both = temporaries.both_rules(name, name);
            steps.refill(Step::DecoupleChains, name, both);
            steps.refill(Step::RecoupleChains, name, to.rules.clone());
        }
        _ if std::ptr::eq(from, to) || from.rules == to.rules => {}
        Relation::Tightens => steps.refill(Step::Tighten, name, to.rules.clone()),
        // Also if only comments or the order differ.
        _ => steps.refill(Step::Loosen, name, to.rules.clone()),
    }
}

/// Another set under the same name. All classes that look into it ask temporary sets meanwhile.
fn replace_sets(sides: &Sides<'_>, steps: &mut TableSteps) {
    let replaced = sides.changes.iter().filter(|(_, change)| change.replaced);
    for (name, change) in replaced {
        steps.push(Step::Tighten, Action::DeleteSet((*name).to_owned()));
        steps.push(Step::Loosen, add_set(name, change.to));
        let elements = change.to.elements.iter().cloned();
        steps.add_elements(Step::Loosen, name, change.to, elements);
    }
}

fn names_replaced(sides: &Sides<'_>, chain: &Chain) -> bool {
    let mut sets = chain.rules.iter().flat_map(set_matches);
    sets.any(|(name, _)| {
        sides
            .changes
            .get(name)
            .is_some_and(|change| change.replaced)
    })
}

/// What is only in one of the tables, base chains excepted.
fn objects_only_in<'a>(
    side: &Side<'a>,
    other: &Side<'a>,
    chains: impl Iterator<Item = &'a Chain>,
) -> Objects<'a> {
    Objects {
        counters: Objects::counters_only_in(side.table, other.table),
        sets: new_in(&side.table.sets, &other.table.sets),
        maps: new_in(&side.table.maps, &other.table.maps),
        chains: chains.filter(|chain| chain.base.is_none()).collect(),
    }
}

/// What only the one map has.
fn new_in<'a, T: Eq>(
    one: &'a OrdMap<String, Arc<T>>,
    other: &OrdMap<String, Arc<T>>,
) -> Vec<(&'a str, &'a T)> {
    let new = other.diff(one).filter_map(|item| match item {
        DiffItem::Add(name, value) => Some((name.as_str(), value.as_ref())),
        DiffItem::Update { .. } | DiffItem::Remove(..) => None,
    });
    new.collect()
}

fn create(
    sides: &Sides<'_>,
    temporaries: &Temporaries<'_>,
    filled_late: &BTreeSet<&str>,
    steps: &mut TableSteps,
) {
    let mut objects = objects_only_in(&sides.to, &sides.from, sides.new_chains.iter().copied());
    let empty = |chain: &Chain| Chain {
        rules: Vec::new(),
        ..chain.clone()
    };
    let late = objects.chains.iter();
    let late: Vec<_> = late
        .filter(|chain| filled_late.contains(chain.name.as_str()))
        .map(|chain| empty(chain))
        .collect();
    objects
        .chains
        .retain(|chain| !filled_late.contains(chain.name.as_str()));
    objects.chains.extend(&late);
    with_temporaries(objects, temporaries).add(steps, Step::Create);
}

fn delete(sides: &Sides<'_>, temporaries: &Temporaries<'_>, steps: &mut TableSteps) {
    let chains = sides.chains.iter().copied();
    let gone = chains.filter_map(|(chain, new)| new.is_none().then_some(chain.as_ref()));
    let objects = objects_only_in(&sides.from, &sides.to, gone);
    with_temporaries(objects, temporaries).delete(steps, Step::Delete);
}

fn with_temporaries<'a>(mut objects: Objects<'a>, temporaries: &'a Temporaries<'_>) -> Objects<'a> {
    let sets = temporaries.sets.iter();
    objects
        .sets
        .extend(sets.map(|(name, set)| (name.as_str(), set)));
    objects.chains.extend(&temporaries.chains);
    objects
}
