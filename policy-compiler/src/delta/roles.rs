//! What rules mean: who may look into a set, and which way a change of it goes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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

/// A table, and what its rules do with each other and with the sets that change.
pub(super) struct Side<'a> {
    pub(super) table: &'a Table,
    /// By name.
    chains: Vec<KnownChain<'a>>,
    /// The rules that lead to a chain.
    leading: BTreeMap<&'a str, Vec<&'a Rule>>,
    /// Where maps are looked into.
    lookups: BTreeMap<&'a str, Vec<(&'a Chain, usize)>>,
    /// Where the sets that change are looked into.
    uses: BTreeMap<&'a str, Vec<Use<'a>>>,
    /// The closing sets of maps, of those that somebody asked for: many keys ask for the same.
    pub(super) closing: RefCell<BTreeMap<&'a str, Option<&'a str>>>,
}

struct KnownChain<'a> {
    chain: &'a Arc<Chain>,
    /// Whether its rules are like those of a class.
    like_class: bool,
}

/// A rule that looks into a set.
#[derive(Clone, Copy)]
pub(super) struct Use<'a> {
    pub(super) chain: &'a Chain,
    pub(super) rule: &'a Rule,
    matches: &'a Match,
    /// Whether it is the chain's last rule.
    last: bool,
}

impl<'a> Use<'a> {
    /// The fields that are looked up.
    pub(super) fn fields(&self) -> &'a [Field] {
        &self.matches.key
    }
}

/// The old and the new table.
pub(super) struct Sides<'a> {
    pub(super) from: Side<'a>,
    pub(super) to: Side<'a>,
    pub(super) changes: BTreeMap<&'a str, SetChange<'a>>,
    /// Chains that are not the same in both tables, and those that look into sets that change.
    changed_chains: BTreeSet<&'a str>,
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
    fn new(table: &'a Table, changes: &BTreeMap<&'a str, SetChange<'a>>) -> Self {
        let mut side = Self {
            table,
            chains: Vec::with_capacity(table.chains.len()),
            leading: BTreeMap::new(),
            lookups: BTreeMap::new(),
            uses: BTreeMap::new(),
            closing: RefCell::default(),
        };
        for chain in &table.chains {
            let like_class = is_like_class(chain);
            side.chains.push(KnownChain { chain, like_class });
            for (index, rule) in chain.rules.iter().enumerate() {
                side.read(chain, index, rule, changes);
            }
        }
        side.chains.sort_by_key(|known| known.chain.name.as_str());
        side
    }

    fn read(
        &mut self,
        chain: &'a Chain,
        index: usize,
        rule: &'a Rule,
        changes: &BTreeMap<&'a str, SetChange<'a>>,
    ) {
        if let Some(to) = target(rule) {
            self.leading.entry(to).or_default().push(rule);
        }
        if let Statement::Lookup { map, .. } = &rule.statement {
            self.lookups.entry(map).or_default().push((chain, index));
        }
        if changes.is_empty() {
            return;
        }
        for matches in &rule.matches {
            if let Operand::Set(set) = &matches.operand
                && let Some((set, _)) = changes.get_key_value(set.as_str())
            {
                let last = index + 1 == chain.rules.len();
                self.uses.entry(set).or_default().push(Use {
                    chain,
                    rule,
                    matches,
                    last,
                });
            }
        }
    }

    fn known(&self, name: &str) -> Option<&KnownChain<'a>> {
        let by_name = |known: &KnownChain<'a>| known.chain.name.as_str().cmp(name);
        let index = self.chains.binary_search_by(by_name).ok()?;
        self.chains.get(index)
    }

    pub(super) fn chain(&self, name: &str) -> Option<&'a Chain> {
        self.known(name).map(|known| known.chain.as_ref())
    }

    /// A chain that only maps lead to, with rules that accept and a last one that drops the rest.
    pub(super) fn is_class(&self, name: &str) -> bool {
        self.known(name).is_some_and(|known| known.like_class) && !self.leading.contains_key(name)
    }

    /// The rules that look into a map, with their chains, each at its index.
    pub(super) fn lookups(&self, map: &str) -> &[(&'a Chain, usize)] {
        self.lookups.get(map).map_or(&[], Vec::as_slice)
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
        self.uses(set).iter().fold(Role::Unused, |role, one| {
            let here = self.role_here(one);
            match role {
                Role::Unused => here,
                same if same == here => same,
                _ => Role::Unknown,
            }
        })
    }

    fn role_here(&self, one: &Use<'_>) -> Role {
        let Use {
            chain,
            rule,
            matches,
            last,
        } = *one;
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

    /// The rules that look into a set that changes.
    pub(super) fn uses(&self, set: &str) -> &[Use<'a>] {
        self.uses.get(set).map_or(&[], Vec::as_slice)
    }

    /// The rules that lead to a chain.
    pub(super) fn leading_to(&self, chain: &str) -> &[&'a Rule] {
        self.leading.get(chain).map_or(&[], Vec::as_slice)
    }
}

impl<'a> Sides<'a> {
    pub(super) fn new(from: &'a Table, to: &'a Table) -> Self {
        let changes = elements::changes(from, to);
        let (from, to) = (Side::new(from, &changes), Side::new(to, &changes));
        let mut changed_chains = BTreeSet::new();
        let mut others = to.chains.iter().peekable();
        for KnownChain { chain, .. } in &from.chains {
            while others
                .next_if(|other| other.chain.name < chain.name)
                .is_some()
            {}
            if let Some(other) = others.next_if(|other| other.chain.name == chain.name)
                // The same one takes no time.
                && other.chain != *chain
            {
                changed_chains.insert(chain.name.as_str());
            }
        }
        for side in [&from, &to] {
            let uses = side.uses.values().flatten();
            changed_chains.extend(uses.map(|one| one.chain.name.as_str()));
        }
        Self {
            from,
            to,
            changes,
            changed_chains,
            relations: RefCell::default(),
        }
    }

    /// Whether a chain's rules differ, or a set changes that they look into.
    pub(super) fn may_change(&self, chain: &str) -> bool {
        self.changed_chains.contains(chain)
    }

    pub(super) fn both(&self) -> [&Side<'a>; 2] {
        [&self.from, &self.to]
    }

    /// Which way a set that changes works.
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

fn is_like_class(chain: &Chain) -> bool {
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
