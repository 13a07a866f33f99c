//! How a class changes: what it accepts in the old table against what it accepts in the new one.

use std::collections::BTreeSet;

use super::elements::meet;
use super::roles::{Sides, changed, set_matches};
use crate::ruleset::{Chain, Match, Rule, Statement};

/// How what a class accepts changes. Of a class that is only in one table only its sets can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// Not at all.
    Unchanged,
    /// It accepts more.
    Loosens,
    /// It accepts less.
    Tightens,
    /// Sets gain, sets lose, and no packet could match both what goes and what comes.
    Apart,
    /// Anything else. Its meet is no list of rules.
    Mixed,
}

impl Relation {
    /// In the meet the class is as it was.
    pub(super) fn meet_is_old(self) -> bool {
        matches!(self, Self::Unchanged | Self::Loosens)
    }

    /// In the meet the class is as it will be.
    pub(super) fn meet_is_new(self) -> bool {
        matches!(self, Self::Unchanged | Self::Tightens)
    }
}

/// How the class of this name changes.
pub(super) fn relation(sides: &Sides<'_>, class: &str) -> Relation {
    if let Some(known) = sides.relations.borrow().get(class) {
        return *known;
    }
    let relation = compared(sides, class);
    let mut relations = sides.relations.borrow_mut();
    relations.insert(class.to_owned(), relation);
    relation
}

fn compared(sides: &Sides<'_>, class: &str) -> Relation {
    if !sides.may_change(class) {
        return Relation::Unchanged;
    }
    let chains = sides.both().map(|side| side.chain(class));
    let same = matches!(chains, [Some(from), Some(to)] if std::ptr::eq(from, to));
    // The same one is read once.
    let chains_to_read = if same { &chains[..1] } else { &chains[..] };
    let rules = chains_to_read.iter().flatten().flat_map(|c| &c.rules);
    let changes: Vec<_> = rules
        .flat_map(set_matches)
        .filter_map(|(name, fields)| Some((name, fields, changed(&sides.changes, name)?.1)))
        .collect();
    if changes.iter().any(|(.., change)| change.replaced) {
        return Relation::Mixed;
    }
    let loses = changes.iter().any(|(.., change)| change.loses());
    let gains = changes.iter().any(|(.., change)| change.gains());
    let [more_rules, fewer_rules] = match chains {
        [Some(from), Some(to)] => [!includes(from, to), !includes(to, from)],
        _ => [false, false],
    };
    match (more_rules || gains, fewer_rules || loses) {
        (false, false) => Relation::Unchanged,
        (true, false) => Relation::Loosens,
        (false, true) => Relation::Tightens,
        (true, true) if more_rules || fewer_rules => Relation::Mixed,
        (true, true) => {
            let entangled = changes.iter().any(|(one, fields, gone)| {
                let mut others = changes.iter();
                others.any(|(other, other_fields, new)| {
                    // One set, asked in one way: what goes and what comes is not the same.
                    (one, fields) != (other, other_fields)
                        && meet((fields, &gone.gone), (other_fields, &new.new))
                })
            });
            match entangled {
                true => Relation::Mixed,
                false => Relation::Apart,
            }
        }
    }
}

/// Whether the class has all rules of the other, whatever their order and comments: they all accept.
pub(super) fn includes(class: &Chain, other: &Chain) -> bool {
    if std::ptr::eq(class, other) || class.rules == other.rules {
        return true;
    }
    let rules: BTreeSet<_> = class.rules.iter().map(meaning).collect();
    let mut others = other.rules.iter();
    others.all(|rule| rules.contains(&meaning(rule)))
}

/// The rule without what only a reader sees.
pub(super) fn meaning(rule: &Rule) -> (&[Match], &Statement) {
    (&rule.matches, &rule.statement)
}
