//! Changes in place: what keeps its name keeps its object, and only what differs is touched.

use std::collections::BTreeSet;

use super::class::{Relation, relation};
use super::elements::SetChange;
use super::objects::{Objects, add_set};
use super::roles::{Role, Sides, set_matches};
use super::temporary::{Names, Temporaries};
use super::{Action, Step, TableSteps, chains, permits, verdicts};
use crate::ruleset::{Chain, Table, VerdictMap};

/// The steps from one table to the other; none if some change is not recognised.
pub(super) fn steps(from: &Table, to: &Table, names: Names) -> Option<TableSteps> {
    let sides = Sides::new(from, to);
    let mut temporaries = Temporaries::new(&sides, names);
    let mut steps = TableSteps::default();
    for (name, change) in &sides.changes {
        change_set(&sides, name, change, &mut steps)?;
    }
    for (name, map) in &from.maps {
        if let Some(new) = to.maps.get(name) {
            if (&map.key, &map.comment) != (&new.key, &new.comment) {
                return None;
            }
            verdicts::change(&sides, name, [map, new], &mut temporaries, &mut steps)?;
        }
    }
    let mut filled_late = BTreeSet::new();
    for chain in &from.chains {
        match to.chains.iter().find(|other| other.name == chain.name) {
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
    for chain in only_in(to, from) {
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
        _ if from.rules == to.rules => {}
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
        steps.add_elements(Step::Loosen, name, change.to, change.to.elements.clone());
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

fn only_in<'a>(table: &'a Table, other: &'a Table) -> impl Iterator<Item = &'a Chain> {
    let there: BTreeSet<_> = other.chains.iter().map(|chain| &chain.name).collect();
    let chains = table.chains.iter();
    chains.filter(move |chain| !there.contains(&chain.name))
}

/// What is only in one of the tables, base chains excepted.
fn objects_only_in<'a>(table: &'a Table, other: &'a Table) -> Objects<'a> {
    let sets = table.sets.iter();
    let sets = sets.filter(|(name, _)| !other.sets.contains_key(*name));
    let maps = table.maps.iter();
    let maps = maps.filter(|(name, _): &(&String, &VerdictMap)| !other.maps.contains_key(*name));
    Objects {
        sets: sets.map(|(name, set)| (name.as_str(), set)).collect(),
        maps: maps.map(|(name, map)| (name.as_str(), map)).collect(),
        chains: only_in(table, other)
            .filter(|chain| chain.base.is_none())
            .collect(),
    }
}

fn create(
    sides: &Sides<'_>,
    temporaries: &Temporaries<'_>,
    filled_late: &BTreeSet<&str>,
    steps: &mut TableSteps,
) {
    let mut objects = objects_only_in(sides.to.table, sides.from.table);
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
    let objects = objects_only_in(sides.from.table, sides.to.table);
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
