//! What was dumped, put together.

use std::collections::BTreeMap;

use policy_compiler::ruleset::{
    KeyType, MapElement, Rule, Ruleset, Set, Table, TableFamily, VerdictMap,
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
    /// What was not, and so is not in the ruleset.
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
            .map(|family| Table {
                family: *family,
                sets: BTreeMap::new(),
                maps: BTreeMap::new(),
                chains: Vec::new(),
            })
            .collect();
        let mut anonymous: BTreeMap<TableFamily, BTreeMap<String, FoundSet>> = BTreeMap::new();
        for raw in std::mem::take(&mut self.sets) {
            let (family, name) = (raw.family, raw.name.clone());
            let Some(table) = tables.iter_mut().find(|table| table.family == family) else {
                continue;
            };
            match raw.kind() {
                Some(Kind::Set(set)) => drop(table.sets.insert(name, set)),
                Some(Kind::Map(map)) => drop(table.maps.insert(name, map)),
                Some(Kind::Anonymous(set)) => {
                    anonymous.entry(family).or_default().insert(name, set);
                }
                None => self.unknown(Object::Set { family, name }, "its type or an element"),
            }
        }
        for (family, chain) in std::mem::take(&mut self.chains) {
            let table = tables.iter_mut().find(|table| table.family == family);
            table
                .into_iter()
                .for_each(|table| table.chains.push(chain.clone()));
        }
        let none = BTreeMap::new();
        let mut places: BTreeMap<(TableFamily, String), usize> = BTreeMap::new();
        for raw in std::mem::take(&mut self.rules) {
            let place = places.entry((raw.family, raw.chain.clone())).or_default();
            let index = *place;
            *place += 1;
            let sets = anonymous.get(&raw.family).unwrap_or(&none);
            let (family, chain) = (raw.family, raw.chain.clone());
            match raw.rule(sets) {
                Ok(rule) => {
                    let table = tables.iter_mut().find(|table| table.family == family);
                    let chains = table.into_iter().flat_map(|table| &mut table.chains);
                    if let Some(found) = chains.into_iter().find(|found| found.name == chain) {
                        found.rules.push(rule);
                    }
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
