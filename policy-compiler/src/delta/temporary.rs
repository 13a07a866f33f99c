//! Temporary chains: what the old rules and the new ones both accept.
//!
//! ```text
//! set  delta_0 { 10.0.0.7 }                     # what @peer4_a loses
//! chain delta_1 { ip saddr @peer4_b accept; drop }                 # the new rules
//! chain ingress4_x {                            # the old rules, and then the new ones
//!   ip saddr @peer4_a goto delta_1
//!   ip saddr @delta_0 goto delta_1
//!   drop
//! }
//! ```
//!
//! While a set goes from old to meet to new, the old rules also accept its elements that go, and the new rules
//! those that come, from sets of their own: old rules never accept less than they did, new ones never less than
//! they will. The chain is thus exact in the meet, falls towards it and rises from it, without a copy of any set.

use std::collections::BTreeMap;

use super::class::{Relation, relation};
use super::roles::{Side, Sides};
use crate::ruleset::{Chain, Operand, Rule, Set, Statement, Table, Verdict};

/// Unused names: `delta_0`, `delta_1`, ... What a plan that was cut off has left keeps its names, and goes with
/// the next plan.
pub(super) struct Names<'a> {
    tables: [&'a Table; 2],
    next: usize,
}

impl<'a> Names<'a> {
    /// Names that neither table has.
    pub(super) fn new(tables: [&'a Table; 2]) -> Self {
        Self { tables, next: 0 }
    }

    pub(super) fn next(&mut self) -> String {
        loop {
            let name = format!("delta_{}", self.next);
            self.next += 1;
            if !self.is_taken(&name) {
                return name;
            }
        }
    }

    fn is_taken(&self, name: &str) -> bool {
        self.tables.iter().any(|table| {
            table.sets.contains_key(name)
                || table.maps.contains_key(name)
                || table.chains.named(name).is_some()
        })
    }
}

/// Which rules.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    Old,
    New,
}

/// The temporary chains and sets of a table.
pub(super) struct Temporaries<'a> {
    sides: &'a Sides<'a>,
    names: Names<'a>,
    set_names: BTreeMap<(String, Version), String>,
    chain_names: BTreeMap<(Option<String>, Option<String>), String>,
    pub(super) sets: BTreeMap<String, Set>,
    pub(super) chains: Vec<Chain>,
}

impl<'a> Temporaries<'a> {
    pub(super) fn new(sides: &'a Sides<'a>, names: Names<'a>) -> Self {
        Self {
            sides,
            names,
            set_names: BTreeMap::new(),
            chain_names: BTreeMap::new(),
            sets: BTreeMap::new(),
            chains: Vec::new(),
        }
    }

    /// A chain that accepts what the class did.
    pub(super) fn old(&mut self, class: &str) -> String {
        if relation(self.sides, class) == Relation::Unchanged {
            return class.to_owned();
        }
        let key = (Some(class.to_owned()), None);
        self.chain(key, |this| {
            this.rules(&this.sides.from, class, Version::Old, Verdict::Accept)
        })
    }

    /// A chain that accepts what the class will.
    pub(super) fn new_rules(&mut self, class: &str) -> String {
        if relation(self.sides, class) == Relation::Unchanged {
            return class.to_owned();
        }
        let key = (None, Some(class.to_owned()));
        self.chain(key, |this| {
            this.rules(&this.sides.to, class, Version::New, Verdict::Accept)
        })
    }

    /// A chain that accepts what the one class did and the other will.
    pub(super) fn both(&mut self, old: &str, new: &str) -> String {
        let key = (Some(old.to_owned()), Some(new.to_owned()));
        self.chain(key, |this| this.both_rules(old, new))
    }

    /// The rules of such a chain.
    pub(super) fn both_rules(&mut self, old: &str, new: &str) -> Vec<Rule> {
        let then = Verdict::Goto(self.new_rules(new));
        self.rules(&self.sides.from, old, Version::Old, then)
    }

    fn chain(
        &mut self,
        key: (Option<String>, Option<String>),
        rules: impl FnOnce(&mut Self) -> Vec<Rule>,
    ) -> String {
        if let Some(name) = self.chain_names.get(&key) {
            return name.clone();
        }
        let rules = rules(self);
        let name = self.names.next();
        self.chains.push(Chain {
            name: name.clone(),
            base: None,
            rules,
        });
        self.chain_names.insert(key, name.clone());
        name
    }

    /// The class's rules with the sets of its version, and another verdict in place of accept.
    fn rules(
        &mut self,
        side: &Side<'_>,
        class: &str,
        version: Version,
        accept: Verdict,
    ) -> Vec<Rule> {
        let rules = side.chain(class).map_or(&[][..], |chain| &chain.rules);
        let mut all = Vec::new();
        for rule in rules {
            let mut variants = vec![Rule {
                matches: Vec::new(),
                ..rule.clone()
            }];
            for matches in &rule.matches {
                let operands = self.operands(&matches.operand, version);
                let with = |rule: &Rule| {
                    let operands = operands.iter().cloned();
                    let extended = operands.map(|operand| {
                        let mut rule = rule.clone();
                        let mut matches = matches.clone();
                        matches.operand = operand;
                        rule.matches.push(matches);
                        rule
                    });
                    extended.collect::<Vec<_>>()
                };
                variants = variants.iter().flat_map(with).collect();
            }
            for mut rule in variants {
                if rule.statement == Statement::Verdict(Verdict::Accept) {
                    rule.statement = Statement::Verdict(accept.clone());
                }
                all.push(rule);
            }
        }
        all
    }

    /// What together is the set in its old or new version, also while it changes.
    fn operands(&mut self, operand: &Operand, version: Version) -> Vec<Operand> {
        let mut operands = vec![operand.clone()];
        let Operand::Set(name) = operand else {
            return operands;
        };
        let sides = self.sides;
        let Some(change) = sides.changes.get(name.as_str()) else {
            return operands;
        };
        if change.replaced {
            operands.clear();
        }
        let (set, elements) = match version {
            Version::Old => (change.from, &change.gone),
            Version::New => (change.to, &change.new),
        };
        if change.replaced || !elements.is_empty() {
            let names = &mut self.names;
            let key = (name.clone(), version);
            let temporary = self.set_names.entry(key).or_insert_with(|| names.next());
            let set = || Set {
                elements: elements.iter().cloned().collect(),
                ..set.clone()
            };
            self.sets.entry(temporary.clone()).or_insert_with(set);
            operands.push(Operand::Set(temporary.clone()));
        }
        operands
    }
}
