//! What sets gain and lose.

use std::collections::{BTreeMap, BTreeSet};

use imbl::ordmap;
use imbl::ordset::DiffItem;

use super::Key;
use crate::model::PortRange;
use crate::ruleset::{Field, Set, Table, Value};

/// Pairs of elements beyond which nobody looks what two sets have in common.
const PAIRS: usize = 1_000_000;

/// A set that is in both tables and not the same.
pub(super) struct SetChange<'a> {
    pub(super) from: &'a Set,
    pub(super) to: &'a Set,
    /// Elements that go. Of a set of ranges, part of one may come back with another.
    pub(super) gone: BTreeSet<Key>,
    /// Elements that come.
    pub(super) new: BTreeSet<Key>,
    /// Whether it is another set under the same name: its type or comment is not the same.
    pub(super) replaced: bool,
}

impl<'a> SetChange<'a> {
    fn new(from: &'a Set, to: &'a Set) -> Self {
        let replaced =
            (&from.key, from.interval, &from.comment) != (&to.key, to.interval, &to.comment);
        let (gone, new) = match replaced {
            true => [from, to]
                .map(|set| set.elements.iter().cloned().collect())
                .into(),
            false => difference(from, to),
        };
        Self {
            from,
            to,
            gone,
            new,
            replaced,
        }
    }

    /// Whether it may lose keys.
    pub(super) fn loses(&self) -> bool {
        self.replaced || !self.gone.is_empty()
    }

    /// Whether it may gain keys.
    pub(super) fn gains(&self) -> bool {
        self.replaced || !self.new.is_empty()
    }

    /// What the keys that go and those that come have in common: parts of ranges. None if there are too many to look.
    pub(super) fn kept(&self) -> Option<BTreeSet<Key>> {
        if !self.from.interval {
            return Some(BTreeSet::new());
        }
        if self.from.key.len() == 1 {
            return Some(in_both(&self.gone, &self.new));
        }
        if self.gone.len().saturating_mul(self.new.len()) > PAIRS {
            return None;
        }
        let pairs = self
            .gone
            .iter()
            .flat_map(|gone| self.new.iter().map(move |new| (gone, new)));
        let kept = pairs.filter_map(|(gone, new)| intersection(gone, new));
        Some(kept.collect())
    }
}

/// The elements that only the one has, and those that only the other has. What they share takes no time.
fn difference(from: &Set, to: &Set) -> (BTreeSet<Key>, BTreeSet<Key>) {
    let (mut gone, mut new) = (BTreeSet::new(), BTreeSet::new());
    for item in from.elements.diff(&to.elements) {
        match item {
            DiffItem::Remove(key) => drop(gone.insert(key.clone())),
            DiffItem::Add(key) => drop(new.insert(key.clone())),
        }
    }
    (gone, new)
}

/// What two lists of ranges have in common, each in order and without overlaps.
fn in_both(one: &BTreeSet<Key>, other: &BTreeSet<Key>) -> BTreeSet<Key> {
    let (mut ones, mut others) = (one.iter().peekable(), other.iter().peekable());
    let mut both = BTreeSet::new();
    while let (Some(one), Some(other)) = (ones.peek(), others.peek()) {
        both.extend(intersection(one, other));
        // The one that ends first has met all that it can.
        if last(one) <= last(other) {
            ones.next();
        } else {
            others.next();
        }
    }
    both
}

/// The last value of a key of one part.
fn last(key: &Key) -> Option<Value> {
    Some(match key.first()? {
        Value::Addresses(range) => Value::Address(range.last()),
        Value::Ports(range) => Value::Ports(PortRange::single(range.last())),
        other => other.clone(),
    })
}

/// The sets that are in both tables and differ, by name.
pub(super) fn changes<'a>(from: &'a Table, to: &'a Table) -> BTreeMap<&'a str, SetChange<'a>> {
    let changed = from.sets.diff(&to.sets).filter_map(|item| match item {
        ordmap::DiffItem::Update { old, new } => Some((old, new.1)),
        ordmap::DiffItem::Add(..) | ordmap::DiffItem::Remove(..) => None,
    });
    changed
        .map(|((name, from), to)| (name.as_str(), SetChange::new(from, to)))
        .collect()
}

/// The keys that are in both elements.
fn intersection(one: &Key, other: &Key) -> Option<Key> {
    let parts = one.iter().zip(other);
    parts.map(|(one, other)| common(one, other)).collect()
}

fn common(one: &Value, other: &Value) -> Option<Value> {
    match (one, other) {
        (Value::Addresses(one), Value::Addresses(other)) => {
            one.intersection(other).map(Value::Addresses)
        }
        (Value::Ports(one), Value::Ports(other)) => {
            let first = one.first().max(other.first());
            PortRange::new(first, one.last().min(other.last())).map(Value::Ports)
        }
        (Value::Addresses(range), Value::Address(address))
        | (Value::Address(address), Value::Addresses(range)) => {
            let is_in = (range.first()..=range.last()).contains(address);
            is_in.then_some(Value::Address(*address))
        }
        _ => (one == other).then(|| one.clone()),
    }
}

/// Whether one packet may match an element of each, compared with these fields.
pub(super) fn meet(
    (fields, elements): (&[Field], &BTreeSet<Key>),
    (other_fields, other_elements): (&[Field], &BTreeSet<Key>),
) -> bool {
    if elements.is_empty() || other_elements.is_empty() || other_family(fields, other_fields) {
        return false;
    }
    let shared: Vec<_> = fields
        .iter()
        .enumerate()
        .filter_map(|(index, field)| Some((index, other_fields.iter().position(|f| f == field)?)))
        .collect();
    if shared.is_empty() || elements.len().saturating_mul(other_elements.len()) > PAIRS {
        return true;
    }
    let alike = |one: &Key, other: &Key| {
        let mut shared = shared.iter();
        shared.all(|(i, j)| common(&one[*i], &other[*j]).is_some())
    };
    elements
        .iter()
        .any(|one| other_elements.iter().any(|other| alike(one, other)))
}

/// Whether no packet has fields of both.
pub(super) fn other_family(fields: &[Field], other: &[Field]) -> bool {
    let is4 = |f: &Field| matches!(f, Field::Ipv4Source | Field::Ipv4Destination);
    let is6 = |f: &Field| matches!(f, Field::Ipv6Source | Field::Ipv6Destination);
    (fields.iter().any(is4) && other.iter().any(is6))
        || (fields.iter().any(is6) && other.iter().any(is4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cidr;

    fn ranges(networks: &[&str]) -> BTreeSet<Key> {
        let range = |text: &&str| Cidr::parse_strict(text).expect("a network").range();
        let values = networks.iter().map(|text| Value::Addresses(range(text)));
        values.map(|value| vec![value]).collect()
    }

    #[test]
    fn what_lists_of_ranges_have_in_common_is_what_their_pairs_have() {
        let lists = [
            ranges(&[]),
            ranges(&["0.0.0.0/0"]),
            ranges(&["10.0.0.0/8", "192.168.0.0/16"]),
            ranges(&[
                "10.0.0.0/24",
                "10.0.1.0/24",
                "10.1.0.0/16",
                "192.168.3.4/32",
            ]),
            ranges(&[
                "10.0.0.128/25",
                "10.0.1.0/25",
                "11.0.0.0/8",
                "255.255.255.255/32",
            ]),
        ];
        for one in &lists {
            for other in &lists {
                let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
                let expected: BTreeSet<_> = pairs.filter_map(|(a, b)| intersection(a, b)).collect();
                assert_eq!(in_both(one, other), expected, "{one:?} {other:?}");
            }
        }
    }
}
