//! What was dumped, put together.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy_compiler::ruleset::{
    KeyType, MapElement, Match, Operand, Rule, Ruleset, Set, Statement, Table, TableFamily,
    Verdict, VerdictMap,
};

use super::Generation;
use super::constants::set;
use super::element::{WireElement, intervals, read_key, read_key_range};
use super::object::Object;
use super::raise::{FoundSet, raise};
use super::read::{Raw, RawRule, RawSet};
use super::types::{Type, key_type};
use super::userdata;

/// What is in force of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The generation that all of it is of.
    pub generation: Generation,
    /// What was understood, in the kernel's order, which is that in which it was made.
    pub ruleset: Ruleset,
    /// What was not, and so is not in the ruleset. A plan that starts from the ruleset knows nothing of it:
    /// [`crate::Nftables::remove_unknown`] first.
    pub unknown: Vec<Unknown>,
}

/// Something in our tables that is not of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Which.
    pub object: Object,
    /// What is not understood of it.
    pub reason: String,
}

impl Raw {
    /// Puts together what belongs together.
    pub(super) fn found(mut self, generation: Generation) -> Found {
        let mut tables: Vec<_> = self
            .tables
            .iter()
            .map(|family| Table::new(*family))
            .collect();
        let mut anonymous: BTreeMap<TableFamily, BTreeMap<String, FoundSet>> = BTreeMap::new();
        for raw in std::mem::take(&mut self.sets) {
            let (family, name) = (raw.family, raw.name.clone());
            let Some(table) = tables.iter_mut().find(|table| table.family == family) else {
                continue;
            };
            let is_anonymous = raw.flags & set::F_ANONYMOUS != 0;
            match raw.kind() {
                Some(Kind::Set(set)) => table.add_set(name, set),
                Some(Kind::Map(map)) => table.add_map(name, map),
                Some(Kind::Anonymous(set)) => {
                    anonymous.entry(family).or_default().insert(name, set);
                }
                // One without a name is a part of a rule, which then refers to what is not there.
                None if is_anonymous => {}
                None => self.unknown(Object::Set { family, name }, "its type or an element"),
            }
        }
        for (family, name) in std::mem::take(&mut self.counters) {
            let table = tables.iter_mut().find(|table| table.family == family);
            table.into_iter().for_each(|table| {
                table.counters.insert(name.clone());
            });
        }
        for (family, chain) in std::mem::take(&mut self.chains) {
            let table = tables.iter_mut().find(|table| table.family == family);
            table
                .into_iter()
                .for_each(|table| table.add_chain(chain.clone()));
        }
        let none = BTreeMap::new();
        let mut places: BTreeMap<(TableFamily, String), usize> = BTreeMap::new();
        for raw in std::mem::take(&mut self.rules) {
            let place = places.entry((raw.family, raw.chain.clone())).or_default();
            let index = *place;
            *place += 1;
            let sets = anonymous.get(&raw.family).unwrap_or(&none);
            let (family, chain) = (raw.family, raw.chain.clone());
            let table = tables.iter_mut().find(|table| table.family == family);
            let Some(table) = table.filter(|table| has_chain(table, &chain)) else {
                // A part of a chain that is told of, or of a rule.
                continue;
            };
            let rule = raw
                .rule(sets)
                .and_then(|rule| match refers_only_to(table, &rule) {
                    true => Ok(rule),
                    false => Err((rule.comment, "it refers to what is not ours".to_owned())),
                });
            match rule {
                Ok(rule) => {
                    let chains = table.chains.iter_mut();
                    let found = chains.filter(|found| found.name == chain);
                    found.for_each(|found| Arc::make_mut(found).rules.push(rule.clone()));
                }
                Err((comment, reason)) => {
                    let object = Object::Rule {
                        family,
                        chain,
                        index: Some(index),
                        comment,
                    };
                    self.unknown(object, reason);
                }
            }
        }
        Found {
            generation,
            ruleset: Ruleset { tables },
            unknown: self.unknown,
        }
    }
}

fn has_chain(table: &Table, name: &str) -> bool {
    table.chains.iter().any(|chain| chain.name == name)
}

fn target(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
        Verdict::Accept | Verdict::Drop | Verdict::Return => None,
    }
}

/// Whether counters, sets, maps and chains that the rule names are all of the table.
fn refers_only_to(table: &Table, rule: &Rule) -> bool {
    let known = |matches: &Match| match &matches.operand {
        Operand::Set(name) => table.sets.contains_key(name),
        Operand::Values(_) => true,
    };
    let counter = rule.named_counter.as_ref();
    rule.matches.iter().all(known)
        && counter.is_none_or(|counter| table.counters.contains(counter))
        && match &rule.statement {
            Statement::Verdict(verdict) => target(verdict).is_none_or(|to| has_chain(table, to)),
            Statement::Lookup { map, .. } => table.maps.contains_key(map),
            Statement::Reject(_) => true,
        }
}

impl RawRule {
    /// The rule, or its comment and what is not understood.
    fn rule(self, sets: &BTreeMap<String, FoundSet>) -> Result<Rule, (Option<String>, String)> {
        match self.expressions {
            Err(name) => Err((self.comment, format!("expression {name:?}"))),
            Ok(expressions) => raise(&expressions, self.comment.clone(), self.family, sets)
                .ok_or_else(|| (self.comment, "not a rule of ours".to_owned())),
        }
    }
}

enum Kind {
    Set(Set),
    Map(VerdictMap),
    Anonymous(FoundSet),
}

impl RawSet {
    /// What it is, if it is one of ours.
    fn kind(self) -> Option<Kind> {
        if self.odd_element {
            return None;
        }
        let interval = self.flags & set::F_INTERVAL != 0;
        let concatenated = self.flags & set::F_CONCAT != 0;
        let has_last = |element: &WireElement| element.last.is_some();
        if self
            .elements
            .iter()
            .any(|one| has_last(one) != concatenated)
        {
            return None;
        }
        if self.flags & set::F_ANONYMOUS != 0 {
            let known = set::F_ANONYMOUS | set::F_CONSTANT | set::F_INTERVAL;
            let ranges = self.ranges(interval)?;
            return (self.flags & !known == 0).then_some(Kind::Anonymous(FoundSet {
                type_id: self.type_id,
                interval,
                ranges,
            }));
        }
        let key = key_types(self.type_id)?;
        let comment = self.comment.clone().unwrap_or_default();
        match (self.flags & !set::F_INTERVAL, interval) {
            (set::F_CONCAT, true) => {
                let read = |element: &WireElement| {
                    read_key_range(&key, &element.key, element.last.as_deref()?)
                };
                let elements = self.elements.iter().map(read).collect::<Option<_>>()?;
                Some(Kind::Set(Set {
                    key,
                    interval,
                    comment,
                    elements,
                }))
            }
            (0, true) => {
                let [part] = key.as_slice() else { return None };
                let part = Type::from(*part);
                let ranges = self.ranges(true)?;
                let value =
                    |(first, last): &(Vec<u8>, Vec<u8>)| Some(vec![part.value(first, last, true)?]);
                let elements = ranges.iter().map(value).collect::<Option<_>>()?;
                Some(Kind::Set(Set {
                    key,
                    interval,
                    comment,
                    elements,
                }))
            }
            (0, false) => {
                let keys = self
                    .elements
                    .iter()
                    .map(|element| read_key(&key, &element.key));
                let elements = keys.collect::<Option<_>>()?;
                Some(Kind::Set(Set {
                    key,
                    interval,
                    comment,
                    elements,
                }))
            }
            (set::F_MAP, false) if self.data_type == Some(set::VERDICTS) => {
                let element = |element: WireElement| {
                    let text = userdata::text(&element.userdata, userdata::COMMENT);
                    let value = MapElement {
                        verdict: element.verdict?,
                        comment: text.unwrap_or_default().to_owned(),
                    };
                    Some((read_key(&key, &element.key)?, value))
                };
                let elements = self.elements.into_iter().map(element);
                let elements = elements.collect::<Option<_>>()?;
                Some(Kind::Map(VerdictMap {
                    key,
                    comment,
                    elements,
                }))
            }
            _ => None,
        }
    }

    /// First and last values, in order.
    fn ranges(&self, interval: bool) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let keys = self.elements.iter().map(|element| element.key.clone());
        if interval {
            let ends = self.elements.iter().map(|element| element.end);
            return intervals(keys.zip(ends).collect());
        }
        let mut keys: Vec<_> = keys.collect();
        keys.sort();
        Some(keys.into_iter().map(|key| (key.clone(), key)).collect())
    }
}

/// The parts of a concatenation from nft's number of it: six bits each.
fn key_types(mut id: u32) -> Option<Vec<KeyType>> {
    let mut parts = Vec::new();
    while id != 0 {
        parts.insert(0, key_type(id & 0x3f)?);
        id >>= 6;
    }
    (!parts.is_empty()).then_some(parts)
}
