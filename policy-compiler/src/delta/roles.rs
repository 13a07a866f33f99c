//! What rules mean: who may look into a set, and which way a change of it goes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::class::Relation;
use super::elements::{self, SetChange};
use crate::ruleset::{Chain, Chains, Field, Match, Name, Operand, Rule, Statement, Table, Verdict};

/// Which way a set works, in all rules of both tables that look into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// No rule looks into it.
    Unused,
    /// Classes accept what is in it: more elements loosen.
    Peers,
    /// Other chains accept what is in it, or spare it: more elements loosen.
    Permits,
    /// What is in it is dropped, or judged where it else was not: more elements tighten.
    Denies,
    /// Something else, or both.
    Unknown,
}

/// A table, and what its rules do with the sets that change.
pub(super) struct Side<'a> {
    pub(super) table: &'a Table,
    /// Where the sets that change are looked into.
    uses: BTreeMap<&'a str, Vec<Use<'a>>>,
    /// The chains that look into them, by their places in memory.
    using: BTreeSet<*const Chain>,
    /// The closing sets of maps, of those that somebody asked for: many keys ask for the same.
    pub(super) closing: RefCell<BTreeMap<&'a str, Option<&'a str>>>,
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
    /// The chains of the old table, each with the one of its name in the new one.
    pub(super) chains: Vec<(&'a Arc<Chain>, Option<&'a Arc<Chain>>)>,
    /// The chains that only the new table has.
    pub(super) new_chains: Vec<&'a Chain>,
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
        let using = changes
            .keys()
            .flat_map(|set| table.chains.referring_to(Name::Set, set));
        let using: BTreeSet<_> = using.map(Arc::as_ptr).collect();
        let mut uses: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let chains = table.chains.iter();
        // Each is read once, however many of its sets change.
        for chain in chains.filter(|chain| using.contains(&Arc::as_ptr(chain))) {
            for (set, one) in uses_in(chain, changes) {
                uses.entry(set).or_default().push(one);
            }
        }
        Self {
            table,
            uses,
            using,
            closing: RefCell::default(),
        }
    }

    pub(super) fn chain(&self, name: &str) -> Option<&'a Chain> {
        self.table.chains.named(name).map(Arc::as_ref)
    }

    /// A chain that only maps lead to, with rules that accept and a last one that drops the rest.
    pub(super) fn is_class(&self, name: &str) -> bool {
        self.leading_to(name).next().is_none() && self.chain(name).is_some_and(is_like_class)
    }

    /// The rules that look into a map, with their chains, each at its index.
    pub(super) fn lookups(&self, map: &str) -> impl Iterator<Item = (&'a Chain, usize)> {
        let chains = self.table.chains.referring_to(Name::Map, map);
        chains.flat_map(move |chain| {
            let rules = chain.rules.iter().enumerate();
            let asking = rules.filter(move |(_, rule)| {
                matches!(&rule.statement, Statement::Lookup { map: asked, .. } if asked == map)
            });
            asking.map(|(index, _)| (chain.as_ref(), index))
        })
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
            // What is not in it is dropped there, or comes back as well.
            Statement::Verdict(Verdict::Return)
                if chain.base.is_none() && self.never_accepts(&chain.name) =>
            {
                Role::Permits
            }
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
    pub(super) fn leading_to(&self, name: &str) -> impl Iterator<Item = &'a Rule> {
        let chains = self.table.chains.referring_to(Name::Target, name);
        let rules = chains.flat_map(|chain| &chain.rules);
        rules.filter(move |rule| target(rule) == Some(name))
    }
}

impl<'a> Sides<'a> {
    pub(super) fn new(from: &'a Table, to: &'a Table) -> Self {
        let changes = elements::changes(from, to);
        let (chains, new_chains) = pairs(&from.chains, &to.chains);
        let [from, to] = [from, to].map(|table| Side::new(table, &changes));
        let differ = chains.iter().filter_map(|(old, new)| {
            let new = new.filter(|new| !Arc::ptr_eq(old, new))?;
            (*old != new).then_some(old.name.as_str())
        });
        let mut changed_chains: BTreeSet<_> = differ.collect();
        for side in [&from, &to] {
            let uses = side.uses.values().flatten();
            changed_chains.extend(uses.map(|one| one.chain.name.as_str()));
        }
        Self {
            from,
            to,
            changes,
            chains,
            new_chains,
            changed_chains,
            relations: RefCell::default(),
        }
    }

    /// Whether a chain's rules differ, or a set changes that they look into.
    pub(super) fn may_change(&self, chain: &str) -> bool {
        self.changed_chains.contains(chain)
    }

    /// Whether a set changes that the chain looks into, which is the same in both tables.
    pub(super) fn looks_into_changes(&self, chain: &Arc<Chain>) -> bool {
        self.from.using.contains(&Arc::as_ptr(chain))
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

/// Each chain with the one of its name, and the others. Tables that are much alike have them at the same places.
#[expect(clippy::type_complexity, reason = "it is two fields of Sides")]
fn pairs<'a>(
    from: &'a Chains,
    to: &'a Chains,
) -> (
    Vec<(&'a Arc<Chain>, Option<&'a Arc<Chain>>)>,
    Vec<&'a Chain>,
) {
    let mut next = 0;
    let mut is_paired = vec![false; to.len()];
    let chains = from.iter().map(|chain| {
        let here = to.get(next);
        let is_here = here.is_some_and(|here| Arc::ptr_eq(here, chain) || here.name == chain.name);
        let index = if is_here {
            Some(next)
        } else {
            to.named(&chain.name).and_then(|new| {
                let mut indices = (next..to.len()).chain(0..next);
                indices.find(|index| Arc::ptr_eq(&to[*index], new))
            })
        };
        if let Some(index) = index {
            is_paired[index] = true;
            next = index + 1;
        }
        (chain, index.and_then(|index| to.get(index)))
    });
    let chains = chains.collect();
    let others = to
        .iter()
        .zip(&is_paired)
        .filter(|(_, is_paired)| !**is_paired);
    (chains, others.map(|(chain, _)| chain.as_ref()).collect())
}

/// Where the rules of a chain look into sets that change.
fn uses_in<'a>(
    chain: &'a Chain,
    changes: &BTreeMap<&'a str, SetChange<'a>>,
) -> impl Iterator<Item = (&'a str, Use<'a>)> {
    let rules = chain.rules.iter().enumerate();
    rules.flat_map(move |(index, rule)| {
        rule.matches.iter().filter_map(move |matches| {
            let Operand::Set(set) = &matches.operand else {
                return None;
            };
            let (set, _) = changed(changes, set)?;
            let one = Use {
                chain,
                rule,
                matches,
                last: index + 1 == chain.rules.len(),
            };
            Some((set, one))
        })
    })
}

/// The change of a set. Most sets do not change, and most names differ at their ends.
pub(super) fn changed<'s, 'a>(
    changes: &'s BTreeMap<&'a str, SetChange<'a>>,
    set: &str,
) -> Option<(&'a str, &'s SetChange<'a>)> {
    const FEW: usize = 8;
    let (name, change) = if changes.len() > FEW {
        changes.get_key_value(set)?
    } else {
        let end = set.as_bytes().last_chunk::<8>();
        let mut changes = changes.iter();
        changes.find(|(name, _)| name.as_bytes().last_chunk::<8>() == end && **name == set)?
    };
    Some((name, change))
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
