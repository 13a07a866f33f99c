//! Sets of what is accepted outside of classes: a pod to itself, an interface with its pod's addresses.
//!
//! They stand before or behind something that says whether a pod is known at all: a map and its closing set, or
//! a set of interfaces. As long as that does not know the pod, everything is accepted and an element says nothing.
//! So it comes before the pod is known, and goes after it is forgotten; else the pod would be cut off meanwhile.

use std::collections::BTreeSet;

use super::elements::{SetChange, meet};
use super::roles::{Role, Side, Sides, set_matches};
use super::verdicts::{closing_set, lookup};
use super::{Key, Step, TableSteps};
use crate::ruleset::{Chain, Field, Name, Rule, Statement};

/// The changes of such a set. None if they are not recognised.
pub(super) fn change(
    sides: &Sides<'_>,
    set: &str,
    change: &SetChange<'_>,
    steps: &mut TableSteps,
) -> Option<()> {
    if change.from.interval {
        return None;
    }
    let (late, gone) = split(&sides.to, set, &change.gone);
    let (early, new) = split(&sides.from, set, &change.new);
    let seen: BTreeSet<_> = gone.union(&new).cloned().collect();
    if !seen.is_empty() && !may_be_seen(sides, set, &seen) {
        return None;
    }
    steps.add_elements(Step::Early, set, change.from, early);
    steps.delete_elements(Step::Tighten, set, change.from, gone);
    steps.add_elements(Step::Loosen, set, change.from, new);
    steps.delete_elements(Step::Late, set, change.from, late);
    Some(())
}

/// The elements that say nothing on that side, and the others.
fn split(side: &Side<'_>, set: &str, elements: &BTreeSet<Key>) -> (BTreeSet<Key>, BTreeSet<Key>) {
    let uses = side.uses(set);
    let says_nothing = |element: &Key| {
        let mut uses = uses.iter();
        uses.all(|one| says_nothing(side, one.chain, one.fields(), element))
    };
    elements.iter().cloned().partition(says_nothing)
}

fn says_nothing(side: &Side<'_>, chain: &Chain, fields: &[Field], element: &Key) -> bool {
    if chain.base.is_some() {
        // Some rule asks a map for a part of it, and the map would not know.
        chain.rules.iter().any(|rule| {
            let Statement::Lookup { map, .. } = &rule.statement else {
                return false;
            };
            let Some(map_value) = side.table.maps.get(map) else {
                return false;
            };
            let part = lookup(rule, map).and_then(|field| part(fields, element, field));
            part.is_some_and(|key| {
                !map_value.elements.contains_key(&key) && closing_set(side, map).is_some()
            })
        })
    } else {
        // No rule that leads to the chain would.
        let mut gates = side.leading_to(&chain.name);
        gates.all(|gate| {
            let mut sets = set_matches(gate);
            sets.any(|(set, key)| {
                let part = match key {
                    [field] => part(fields, element, *field),
                    _ => None,
                };
                let set = side.table.sets.get(set);
                part.is_some_and(|part| set.is_some_and(|set| !set.elements.contains(&part)))
            })
        })
    }
}

/// The part of an element that is compared with a field, as a key.
fn part(fields: &[Field], element: &Key, field: Field) -> Option<Key> {
    let index = fields.iter().position(|other| *other == field)?;
    element.get(index).map(|value| vec![value.clone()])
}

/// Whether elements that packets come to may change: behind gates that do not change for them, in chains where
/// nothing else does that the same packet could meet.
fn may_be_seen(sides: &Sides<'_>, set: &str, seen: &BTreeSet<Key>) -> bool {
    sides.both().iter().all(|side| {
        side.uses(set).iter().all(|one| {
            let (chain, fields) = (one.chain, one.fields());
            let same_gates = side.leading_to(&chain.name).all(|gate| {
                set_matches(gate).all(|(name, key)| match key {
                    [field] => seen.iter().all(|element| {
                        let part = part(fields, element, *field);
                        part.is_some_and(|part| is_in_both_or_none(sides, name, &part))
                    }),
                    _ => !sides.changes.contains_key(name),
                })
            });
            let others = chain.rules.iter().flat_map(set_matches);
            let apart = others
                .filter(|other| *other != (set, fields))
                .all(|(name, key)| {
                    sides.changes.get(name).is_none_or(|other| {
                        let both: BTreeSet<_> = other.gone.union(&other.new).cloned().collect();
                        sides.role(name) == Role::Permits && !meet((fields, seen), (key, &both))
                    })
                });
            let same_rules = sides.both().iter().all(|side| {
                let other = side.chain(&chain.name);
                other.is_none_or(|other| other.rules == chain.rules)
            });
            let same_further = same_gates_further(sides, side, chain, fields, seen);
            chain.base.is_none() && same_gates && same_further && apart && same_rules
        })
    })
}

/// Whether also the gates before its gates stay: else one would close before an element came that leads past what is
/// behind it, and a packet be lost that both rulesets let pass.
fn same_gates_further(
    sides: &Sides<'_>,
    side: &Side<'_>,
    chain: &Chain,
    fields: &[Field],
    seen: &BTreeSet<Key>,
) -> bool {
    let same = |gate: &Rule| {
        set_matches(gate).all(|(name, key)| match key {
            [field] if fields.contains(field) => seen.iter().all(|element| {
                let part = part(fields, element, *field);
                part.is_some_and(|part| is_in_both_or_none(sides, name, &part))
            }),
            [Field::OutputInterface] => sides.changes.get(name).is_none_or(|change| {
                let mut changed = change.gone.union(&change.new);
                changed.all(|to| seen.iter().all(|element| comes_from(fields, element, to)))
            }),
            _ => !sides.changes.contains_key(name),
        })
    };
    // Jumps make no circle: the kernel refuses them.
    let mut before = side.table.chains.referring_to(Name::Target, &chain.name);
    before.all(|gate| {
        gate.base.is_some()
            || side.leading_to(&gate.name).all(same)
                && same_gates_further(sides, side, gate, fields, seen)
    })
}

/// Whether the packets of an element come from that interface: then none of them leaves by it, as what a pod sends to
/// itself from a link-local address stays inside the pod.
fn comes_from(fields: &[Field], element: &Key, interface: &Key) -> bool {
    part(fields, element, Field::InputInterface).as_ref() == Some(interface)
}

fn is_in_both_or_none(sides: &Sides<'_>, set: &str, part: &Key) -> bool {
    let is_in = |side: &Side<'_>| {
        let set = side.table.sets.get(set);
        set.is_some_and(|set| set.elements.contains(part))
    };
    is_in(&sides.from) == is_in(&sides.to)
}
