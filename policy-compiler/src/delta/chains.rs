//! Base chains, and chains that rules jump to.
//!
//! Of these only rules that tighten are recognised as coming and going: drops, and jumps to where nothing is
//! accepted. The meet has those of both: a packet that it drops would have met the same rule, or be dropped
//! before, in one of the two.

use super::class::meaning;
use super::roles::{Side, Sides};
use super::{Action, Step, TableSteps};
use crate::ruleset::{Chain, Rule, Statement, Verdict};

/// The changes of a chain that stays. None if they are not recognised.
pub(super) fn change<'a>(
    sides: &Sides<'a>,
    from: &'a Chain,
    to: &'a Chain,
    steps: &mut TableSteps,
) -> Option<()> {
    if from.base != to.base {
        return None;
    }
    if from.rules == to.rules {
        return Some(());
    }
    let meet = merge(sides, from, to)?;
    let same = |one: &[Rule], other: &[Rule]| one.iter().map(meaning).eq(other.iter().map(meaning));
    if !same(&meet, &from.rules) {
        steps.refill(Step::Tighten, &from.name, meet.clone());
    }
    if meet != to.rules || same(&meet, &from.rules) {
        steps.refill(Step::Loosen, &from.name, to.rules.clone());
    }
    Some(())
}

/// The rules of both: what stays, in its order, and between that what goes and what comes.
fn merge<'a>(sides: &Sides<'a>, from: &'a Chain, to: &'a Chain) -> Option<Vec<Rule>> {
    let old: Vec<_> = from.rules.iter().map(meaning).collect();
    let new: Vec<_> = to.rules.iter().map(meaning).collect();
    let (mut i, mut j) = (0, 0);
    let mut merged = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            merged.push(to.rules[j].clone());
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && !new[j..].contains(&old[i]) {
            let rule = &from.rules[i];
            let fits = tightens(sides, rule) && is_still(sides, &sides.from, rule, |c| c.gains());
            merged.push(fits.then(|| rule.clone())?);
            i += 1;
        } else {
            let rule = to.rules.get(j)?;
            let fits = tightens(sides, rule) && is_still(sides, &sides.to, rule, |c| c.loses());
            merged.push(fits.then(|| rule.clone())?);
            j += 1;
        }
    }
    Some(merged)
}

fn tightens(sides: &Sides<'_>, rule: &Rule) -> bool {
    match &rule.statement {
        Statement::Verdict(Verdict::Drop) | Statement::Reject(_) => true,
        Statement::Verdict(Verdict::Jump(chain)) => {
            sides.both().iter().all(|side| side.never_accepts(chain))
        }
        _ => false,
    }
}

/// Whether what a rule that comes or goes says in the meet is what it says in the one table that has it.
fn is_still<'a>(
    sides: &Sides<'a>,
    side: &Side<'a>,
    rule: &'a Rule,
    moves: impl Fn(&super::elements::SetChange<'_>) -> bool,
) -> bool {
    let rules = std::slice::from_ref(rule);
    let reach = side.reach(rules);
    let chains = reach.chains.iter().all(|name| same_rules(sides, name));
    let mut sets = reach.sets.iter().filter_map(|set| sides.changes.get(set));
    chains && reach.maps.is_empty() && !sets.any(moves)
}

fn same_rules(sides: &Sides<'_>, name: &str) -> bool {
    match sides.both().map(|side| side.chain(name)) {
        [Some(from), Some(to)] => from.rules == to.rules,
        _ => true,
    }
}

/// Whether a set that is dropped, or leads to where it may be, may change: not while what it leads to drops more
/// or less itself.
pub(super) fn is_gate_recognised(sides: &Sides<'_>, set: &str) -> bool {
    sides.both().iter().all(|side| {
        side.uses(set).iter().all(|one| {
            let reach = side.reach(std::slice::from_ref(one.rule));
            let chains = reach.chains.iter().all(|name| same_rules(sides, name));
            let mut others = reach.sets.iter().filter(|name| **name != set);
            let denies = others.any(|name| {
                sides.changes.contains_key(name) && sides.role(name) != super::roles::Role::Permits
            });
            chains && !denies
        })
    })
}

/// A base chain comes when all that it asks is there.
pub(super) fn add_base(chain: &Chain, steps: &mut TableSteps) {
    let (name, base) = (chain.name.clone(), chain.base.clone());
    steps.push(Step::Tighten, Action::AddChain { chain: name, base });
    steps.refill(Step::Tighten, &chain.name, chain.rules.clone());
}

/// A base chain goes before what it asks.
pub(super) fn delete_base(chain: &Chain, steps: &mut TableSteps) {
    steps.refill(Step::Loosen, &chain.name, Vec::new());
    steps.push(Step::Loosen, Action::DeleteChain(chain.name.clone()));
}
