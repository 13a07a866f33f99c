//! Any change at all: the new beside the old.
//!
//! The kernel accepts a packet only if every base chain of the hook does. So the old base chains, copied under
//! temporary names, stay while the new ones are added: together they are the meet of both rulesets, whatever the
//! two have in common. Sets that do not change are shared, all else is there twice for a moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdSet;

use super::objects::Objects;
use super::temporary::Names;
use super::{Step, TableSteps};
use crate::ruleset::{Chain, MapElement, Operand, Rule, Statement, Table, Verdict, VerdictMap};

/// The steps from one table to the other.
pub(super) fn steps(from: &Table, to: &Table, mut names: Names<'_>) -> TableSteps {
    let shared = |name: &String| from.sets.get(name) == to.sets.get(name);
    let copy = Renaming::of(from, shared, &mut names).copy(from);
    let [whole_from, whole_to] = [from, to];
    let (mut from, mut to) = (from.clone(), to.clone());
    from.counters.clear();
    to.counters.clear();
    let is_shared = |name: &String| from.sets.contains_key(name) && copy.shares(name);
    to.sets = to
        .sets
        .into_iter()
        .filter(|(name, _)| !is_shared(name))
        .collect();
    from.sets = from
        .sets
        .into_iter()
        .filter(|(name, _)| !copy.shares(name))
        .collect();

    let mut steps = TableSteps::default();
    // Counters say nothing of what passes: those of both are shared.
    let only_in = |one, other| Objects {
        counters: Objects::counters_only_in(one, other),
        ..Objects::default()
    };
    let (new, gone) = (only_in(whole_to, whole_from), only_in(whole_from, whole_to));
    add(&mut steps, Step::Copy, Step::CopyBase, &copy.table);
    delete(&mut steps, Step::Vacate, Step::Free, &from);
    new.add(&mut steps, Step::Create);
    add(&mut steps, Step::Create, Step::Tighten, &to);
    delete(&mut steps, Step::Loosen, Step::Delete, &copy.table);
    gone.delete(&mut steps, Step::Delete);
    steps
}

/// Everything that base chains ask, then the base chains.
pub(super) fn add(steps: &mut TableSteps, others: Step, base: Step, table: &Table) {
    let [first, last] = parts(table);
    last.add(steps, others);
    first.add(steps, base);
}

/// The base chains, then everything that they asked.
pub(super) fn delete(steps: &mut TableSteps, base: Step, others: Step, table: &Table) {
    let [first, last] = parts(table);
    first.delete(steps, base);
    last.delete(steps, others);
}

/// Base chains, and everything else.
fn parts(table: &Table) -> [Objects<'_>; 2] {
    let chains = table.chains.iter().map(Arc::as_ref);
    let (base, chains) = chains.partition(|chain| chain.base.is_some());
    let base = Objects {
        chains: base,
        ..Objects::default()
    };
    let sets = table.sets.iter();
    let sets = sets.map(|(name, set)| (name.as_str(), set.as_ref()));
    let maps = table.maps.iter();
    let maps = maps.map(|(name, map)| (name.as_str(), map.as_ref()));
    let counters = table.counters.iter().map(String::as_str);
    let others = Objects {
        counters: counters.collect(),
        sets: sets.collect(),
        maps: maps.collect(),
        chains,
    };
    [base, others]
}

/// Temporary names for a table's objects.
struct Renaming {
    sets: BTreeMap<String, String>,
    maps: BTreeMap<String, String>,
    chains: BTreeMap<String, String>,
}

/// A table under temporary names, without the sets that it shares.
struct Copy {
    table: Table,
    renaming: Renaming,
}

impl Copy {
    fn shares(&self, set: &str) -> bool {
        !self.renaming.sets.contains_key(set)
    }
}

impl Renaming {
    fn of(table: &Table, shared: impl Fn(&String) -> bool, names: &mut Names<'_>) -> Self {
        let mut rename = |name: &String| (name.clone(), names.next());
        Self {
            sets: table
                .sets
                .keys()
                .filter(|name| !shared(name))
                .map(&mut rename)
                .collect(),
            maps: table.maps.keys().map(&mut rename).collect(),
            chains: table
                .chains
                .iter()
                .map(|chain| rename(&chain.name))
                .collect(),
        }
    }

    fn copy(self, table: &Table) -> Copy {
        let sets = table.sets.iter();
        let sets = sets.filter_map(|(name, set)| Some((self.sets.get(name)?.clone(), set.clone())));
        let maps = table.maps.iter().map(|(name, map)| {
            let elements = map.elements.iter().map(|(key, element)| {
                let element = MapElement {
                    verdict: self.verdict(&element.verdict),
                    comment: element.comment.clone(),
                };
                (key.clone(), element)
            });
            let map = VerdictMap {
                key: map.key.clone(),
                comment: map.comment.clone(),
                elements: elements.collect(),
            };
            (new_name(&self.maps, name), Arc::new(map))
        });
        let chains = table.chains.iter().map(|chain| {
            Arc::new(Chain {
                name: new_name(&self.chains, &chain.name),
                base: chain.base.clone(),
                rules: chain.rules.iter().map(|rule| self.rule(rule)).collect(),
            })
        });
        let table = Table {
            family: table.family,
            counters: OrdSet::new(),
            sets: sets.collect(),
            maps: maps.collect(),
            chains: chains.collect(),
        };
        Copy {
            table,
            renaming: self,
        }
    }

    fn rule(&self, rule: &Rule) -> Rule {
        let mut rule = rule.clone();
        for matches in &mut rule.matches {
            if let Operand::Set(set) = &mut matches.operand {
                *set = new_name(&self.sets, set);
            }
        }
        match &mut rule.statement {
            Statement::Verdict(verdict) => *verdict = self.verdict(verdict),
            Statement::Lookup { map, .. } => *map = new_name(&self.maps, map),
            Statement::Reject(_) => {}
        }
        rule
    }

    fn verdict(&self, verdict: &Verdict) -> Verdict {
        match verdict {
            Verdict::Jump(chain) => Verdict::Jump(new_name(&self.chains, chain)),
            Verdict::Goto(chain) => Verdict::Goto(new_name(&self.chains, chain)),
            other => other.clone(),
        }
    }
}

fn new_name(names: &BTreeMap<String, String>, name: &str) -> String {
    names
        .get(name)
        .map_or_else(|| name.to_owned(), Clone::clone)
}
