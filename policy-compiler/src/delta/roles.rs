//! What rules mean: who may look into a set, and which way a change of it goes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::class::Relation;
use super::elements::{self, SetChange};
use crate::ruleset::{Chain, Field, Match, Operand, Rule, Statement, Table, Verdict};

/// Which way a set works, in all rules of both tables that look into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// No rule looks into it.
    Unused,
    /// Classes accept what is in it: more elements loosen.
    Peers,
    /// Other chains accept what is in it: more elements loosen.
    Permits,
    /// What is in it is dropped, or judged where it else was not: more elements tighten.
    Denies,
    /// Something else, or both.
    Unknown,
}

/// A table, and what its chains are.
pub(super) struct Side<'a> {
    pub(super) table: &'a Table,
    chains: BTreeMap<&'a str, &'a Chain>,
    classes: BTreeSet<&'a str>,
}

/// The old and the new table.
pub(super) struct Sides<'a> {
    pub(super) from: Side<'a>,
    pub(super) to: Side<'a>,
    pub(super) changes: BTreeMap<&'a str, SetChange<'a>>,
    /// How classes change, of those that somebody asked for: many pods ask for the same.
    pub(super) relations: RefCell<BTreeMap<String, Relation>>,
}

/// What rules lead to, themselves included.
#[derive(Default)]
pub(super) struct Reach<'a> {
    pub(super) chains: BTreeSet<&'a str>,
    pub(super) sets: BTreeSet<&'a str>,
    pub(super) maps: BTreeSet<&'a str>,
}

impl<'a> Side<'a> {
    fn new(table: &'a Table) -> Self {
        let chains: BTreeMap<_, _> = table
            .chains
            .iter()
            .map(|chain| (chain.name.as_str(), chain))
            .collect();
        let rules = table.chains.iter().flat_map(|chain| &chain.rules);
        let jumped_to: BTreeSet<_> = rules.filter_map(target).collect();
        let classes = table.chains.iter().filter(|chain| is_class(chain));
        let classes = classes.map(|chain| chain.name.as_str());
        Self {
            table,
            chains,
            classes: classes.filter(|name| !jumped_to.contains(name)).collect(),
        }
    }

    pub(super) fn chain(&self, name: &str) -> Option<&'a Chain> {
        self.chains.get(name).copied()
    }

    /// A chain that only maps lead to, with rules that accept and a last one that drops the rest.
    pub(super) fn is_class(&self, name: &str) -> bool {
        self.classes.contains(name)
    }

    /// Whether what jumps there is dropped or comes back.
    pub(super) fn never_accepts(&self, name: &str) -> bool {
        let Some(chain) = self.chain(name) else {
            return true;
        };
        chain.rules.iter().all(|rule| match &rule.statement {
            Statement::Verdict(Verdict::Drop | Verdict::Return) | Statement::Reject(_) => true,
            Statement::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => {
                self.never_accepts(chain)
            }
            Statement::Verdict(Verdict::Accept) | Statement::Lookup { .. } => false,
        })
    }

    /// What the rules lead to.
    pub(super) fn reach(&self, rules: &'a [Rule]) -> Reach<'a> {
        let mut reach = Reach::default();
        self.follow(rules, &mut reach);
        reach
    }

    fn follow(&self, rules: &'a [Rule], reach: &mut Reach<'a>) {
        for rule in rules {
            reach.sets.extend(set_matches(rule).map(|(set, _)| set));
            let mut targets: Vec<&str> = target(rule).into_iter().collect();
            if let Statement::Lookup { map, .. } = &rule.statement
                && reach.maps.insert(map)
                && let Some(map) = self.table.maps.get(map)
            {
                let verdicts = map.elements.values().map(|element| &element.verdict);
                targets.extend(verdicts.filter_map(chain_of));
            }
            for name in targets {
                if let Some(chain) = self.chain(name)
                    && reach.chains.insert(&chain.name)
                {
                    self.follow(&chain.rules, reach);
                }
            }
        }
    }

    fn role(&self, set: &str) -> Role {
        let mut role = Role::Unused;
        for chain in &self.table.chains {
            for (index, rule) in chain.rules.iter().enumerate() {
                for matches in rule.matches.iter().filter(|m| looks_into(m, set)) {
                    let last = index + 1 == chain.rules.len();
                    let here = self.role_here(chain, rule, last, matches);
                    role = match role {
                        Role::Unused => here,
                        same if same == here => same,
                        _ => Role::Unknown,
                    };
                }
            }
        }
        role
    }

    fn role_here(&self, chain: &Chain, rule: &Rule, last: bool, matches: &Match) -> Role {
        if matches.negated || matches.mask.is_some() {
            return Role::Unknown;
        }
        match &rule.statement {
            Statement::Verdict(Verdict::Accept) if self.is_class(&chain.name) => Role::Peers,
            Statement::Verdict(Verdict::Accept) => Role::Permits,
            Statement::Verdict(Verdict::Drop) | Statement::Reject(_) => Role::Denies,
            Statement::Verdict(Verdict::Jump(to)) if self.never_accepts(to) => Role::Denies,
            // What does not go there falls out of the base chain, which accepts it.
            Statement::Verdict(Verdict::Goto(_)) if chain.base.is_some() && last => Role::Denies,
            _ => Role::Unknown,
        }
    }

    /// The rules that look into a set, with their chains and the fields that are looked up.
    pub(super) fn uses(&self, set: &str) -> Vec<(&'a Chain, &'a Rule, &'a [Field])> {
        let mut uses = Vec::new();
        for chain in &self.table.chains {
            for rule in &chain.rules {
                for matches in rule.matches.iter().filter(|m| looks_into(m, set)) {
                    uses.push((chain, rule, matches.key.as_slice()));
                }
            }
        }
        uses
    }

    /// The rules that lead to a chain.
    pub(super) fn leading_to(&self, chain: &str) -> Vec<&'a Rule> {
        let rules = self.table.chains.iter().flat_map(|chain| &chain.rules);
        rules.filter(|rule| target(rule) == Some(chain)).collect()
    }
}

impl<'a> Sides<'a> {
    pub(super) fn new(from: &'a Table, to: &'a Table) -> Self {
        Self {
            from: Side::new(from),
            to: Side::new(to),
            changes: elements::changes(from, to),
            relations: RefCell::default(),
        }
    }

    pub(super) fn both(&self) -> [&Side<'a>; 2] {
        [&self.from, &self.to]
    }

    /// Which way a set works.
    pub(super) fn role(&self, set: &str) -> Role {
        match self.both().map(|side| side.role(set)) {
            [Role::Unused, role] | [role, Role::Unused] => role,
            [one, other] if one == other => one,
            _ => Role::Unknown,
        }
    }

    /// Whether all that the rules lead to is the same in both tables, or only in one of them.
    pub(super) fn is_untouched(&self, side: &Side<'a>, rules: &'a [Rule]) -> bool {
        let reach = side.reach(rules);
        let same_chain = |name: &&str| match self.both().map(|side| side.chain(name)) {
            [Some(from), Some(to)] => from == to,
            _ => true,
        };
        let same_map = |name: &&str| match self.both().map(|side| side.table.maps.get(*name)) {
            [Some(from), Some(to)] => from == to,
            _ => true,
        };
        reach.chains.iter().all(same_chain)
            && reach.maps.iter().all(same_map)
            && !reach.sets.iter().any(|set| self.changes.contains_key(set))
    }
}

/// The sets that a rule looks into, with the fields that are looked up.
pub(super) fn set_matches(rule: &Rule) -> impl Iterator<Item = (&str, &[Field])> {
    rule.matches
        .iter()
        .filter_map(|matches| match &matches.operand {
            Operand::Set(set) => Some((set.as_str(), matches.key.as_slice())),
            Operand::Values(_) => None,
        })
}

fn looks_into(matches: &Match, set: &str) -> bool {
    matches!(&matches.operand, Operand::Set(name) if name == set)
}

fn is_class(chain: &Chain) -> bool {
    let Some((last, others)) = chain.rules.split_last() else {
        return false;
    };
    let accepts = |rule: &Rule| rule.statement == Statement::Verdict(Verdict::Accept);
    chain.base.is_none()
        && last.matches.is_empty()
        && matches!(
            last.statement,
            Statement::Verdict(Verdict::Drop) | Statement::Reject(_)
        )
        && others.iter().all(accepts)
}

fn target(rule: &Rule) -> Option<&str> {
    match &rule.statement {
        Statement::Verdict(verdict) => chain_of(verdict),
        Statement::Lookup { .. } | Statement::Reject(_) => None,
    }
}

fn chain_of(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
        _ => None,
    }
}
