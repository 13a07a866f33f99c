//! Verdict maps: pods that come, go, or change their class.

use std::collections::{BTreeMap, BTreeSet};

use imbl::ordmap::DiffItem;

use super::class::{includes, relation};
use super::elements::other_family;
use super::roles::{Side, Sides};
use super::temporary::Temporaries;
use super::{Action, Key, Step, TableSteps};
use crate::ruleset::{Chain, Field, MapElement, Operand, Rule, Statement, Verdict, VerdictMap};

/// What a map does with a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Judge<'a> {
    /// Nobody judges: accepted, or no key of the map and then not known either.
    Nobody,
    /// A class does.
    Class(&'a str),
}

/// The changes of a map. None if they are not recognised.
pub(super) fn change(
    sides: &Sides<'_>,
    name: &str,
    [from, to]: [&VerdictMap; 2],
    temporaries: &mut Temporaries<'_>,
    steps: &mut TableSteps,
) -> Option<()> {
    // What the maps share takes no time.
    let items: Vec<_> = from.elements.diff(&to.elements).collect();
    let same_keys = items
        .iter()
        .all(|item| matches!(item, DiffItem::Update { .. }));
    if !same_keys
        && !sides
            .both()
            .iter()
            .all(|side| closing_set(side, name).is_some())
    {
        return None;
    }
    let mut changes = MapChanges::default();
    for item in items {
        let (key, old, new) = match item {
            DiffItem::Add(key, new) => (key, None, Some(new)),
            DiffItem::Update { old, new } => (old.0, Some(old.1), Some(new.1)),
            DiffItem::Remove(key, old) => (key, Some(old), None),
        };
        let then = match (judge(&sides.from, old)?, judge(&sides.to, new)?) {
            (Judge::Nobody, Judge::Nobody) if old.is_none() => Way::At(Step::Tighten),
            (Judge::Nobody, Judge::Nobody) => Way::At(Step::Loosen),
            (Judge::Nobody, Judge::Class(class)) => {
                if relation(sides, class).meet_is_new() {
                    Way::At(Step::Tighten)
                } else {
                    Way::By(temporaries.new_rules(class))
                }
            }
            (Judge::Class(class), Judge::Nobody) => {
                if relation(sides, class).meet_is_old() {
                    Way::At(Step::Loosen)
                } else {
                    Way::By(temporaries.old(class))
                }
            }
            (Judge::Class(old), Judge::Class(new)) if old == new => Way::At(Step::Loosen),
            (Judge::Class(old), Judge::Class(new)) => match direct(sides, old, new) {
                Some(step) => Way::At(step),
                None => Way::By(temporaries.both(old, new)),
            },
        };
        match then {
            Way::At(step) => changes.set(step, key, old.is_some(), new),
            Way::By(chain) => {
                let element = old.or(new)?;
                let element = MapElement {
                    verdict: Verdict::Goto(chain),
                    comment: element.comment.clone(),
                };
                changes.set(Step::DecoupleKeys, key, old.is_some(), Some(&element));
                changes.set(Step::RecoupleKeys, key, true, new);
            }
        }
    }
    changes.write(name, from, steps);
    Some(())
}

/// How a key comes to its new verdict.
enum Way {
    /// At once.
    At(Step),
    /// By way of a temporary chain.
    By(String),
}

fn judge<'a>(side: &Side<'_>, element: Option<&'a MapElement>) -> Option<Judge<'a>> {
    match element.map(|element| &element.verdict) {
        None | Some(Verdict::Accept) => Some(Judge::Nobody),
        Some(Verdict::Goto(chain)) if side.is_class(chain) => Some(Judge::Class(chain)),
        Some(_) => None,
    }
}

/// When a pod may change directly between two classes: if neither changes itself, and one accepts all that the
/// other does.
fn direct(sides: &Sides<'_>, old: &str, new: &str) -> Option<Step> {
    use super::class::Relation::Unchanged;
    if relation(sides, old) != Unchanged || relation(sides, new) != Unchanged {
        return None;
    }
    let (old, new) = (sides.from.chain(old)?, sides.to.chain(new)?);
    if includes(old, new) {
        Some(Step::Tighten)
    } else if includes(new, old) {
        Some(Step::Loosen)
    } else {
        None
    }
}

/// The set whose elements are dropped if the map has nothing for them, if it has the map's keys, so that nothing
/// ever is. A key of neither is accepted.
///
/// ```text
/// ip saddr vmap @egress4
/// ip saddr @local4 drop
/// ```
pub(super) fn closing_set<'a>(side: &Side<'a>, map: &str) -> Option<&'a str> {
    let (map, _) = side.table.maps.get_key_value(map)?;
    let mut known = side.closing.borrow_mut();
    *known
        .entry(map)
        .or_insert_with(|| find_closing_set(side, map))
}

fn find_closing_set<'a>(side: &Side<'a>, map: &str) -> Option<&'a str> {
    let mut closing = None;
    for (chain, index) in side.lookups(map) {
        let Some(field) = lookup(chain.rules.get(index)?, map) else {
            continue;
        };
        let set = closes(chain, index + 1, field)?;
        if closing.is_some_and(|other| other != set) {
            return None;
        }
        closing = Some(set);
    }
    let set = closing?;
    let elements = &side.table.sets.get(set)?.elements;
    let keys = &side.table.maps.get(map)?.elements;
    elements.iter().eq(keys.keys()).then_some(set)
}

/// The field that the rule looks up in the map.
pub(super) fn lookup(rule: &Rule, map: &str) -> Option<Field> {
    match &rule.statement {
        Statement::Lookup { key, map: name } if name == map && rule.matches.is_empty() => {
            match key.as_slice() {
                [field] => Some(*field),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The set that the rule drops, if the rest of the base chain is about the other family.
fn closes(chain: &Chain, index: usize, field: Field) -> Option<&str> {
    let (first, rest) = chain.rules.get(index..)?.split_first()?;
    let [matches] = first.matches.as_slice() else {
        return None;
    };
    let is_drop = first.statement == Statement::Verdict(Verdict::Drop);
    let Operand::Set(set) = &matches.operand else {
        return None;
    };
    let other = |rule: &Rule| {
        let mut keys = rule.matches.iter().map(|matches| matches.key.as_slice());
        let looked_up = match &rule.statement {
            Statement::Lookup { key, .. } => key.as_slice(),
            Statement::Verdict(_) | Statement::Reject(_) => &[],
        };
        other_family(&[field], looked_up) || keys.any(|key| other_family(&[field], key))
    };
    let whole = is_drop && !matches.negated && matches.mask.is_none() && matches.key == [field];
    (whole && chain.base.is_some() && rest.iter().all(other)).then_some(set)
}

/// The changes of a map by step.
#[derive(Default)]
struct MapChanges {
    steps: BTreeMap<Step, OneStep>,
}

#[derive(Default)]
struct OneStep {
    add: BTreeMap<Key, MapElement>,
    retarget: BTreeMap<Key, MapElement>,
    delete: BTreeSet<Key>,
}

impl MapChanges {
    fn set(&mut self, step: Step, key: &Key, present: bool, element: Option<&MapElement>) {
        let one = self.steps.entry(step).or_default();
        match element {
            Some(element) if present => {
                one.retarget.insert(key.clone(), element.clone());
            }
            Some(element) => {
                one.add.insert(key.clone(), element.clone());
            }
            None => {
                one.delete.insert(key.clone());
            }
        }
    }

    /// `of` is the map, of which only the type matters.
    fn write(self, name: &str, of: &VerdictMap, steps: &mut TableSteps) {
        for (step, one) in self.steps {
            let (map, key) = (|| name.to_owned(), || of.key.clone());
            if !one.delete.is_empty() {
                let (map, key, keys) = (map(), key(), one.delete);
                steps.push(step, Action::DeleteVerdicts { map, key, keys });
            }
            if !one.retarget.is_empty() {
                let (map, key, elements) = (map(), key(), one.retarget);
                steps.push(step, Action::Retarget { map, key, elements });
            }
            if !one.add.is_empty() {
                let (map, key, elements) = (map(), key(), one.add);
                steps.push(step, Action::AddVerdicts { map, key, elements });
            }
        }
    }
}
