//! Tables with their names resolved and their values as numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use policy_compiler::ruleset::{
    Field, Hook, KeyType, Mask, Match, Operand, Rule, Set, Statement, Table, TableFamily, Value,
    Verdict as Given,
};

use super::value::{bit, number, of_type, range};
use super::{Exact, Map};

pub(super) struct Index {
    pub(super) family: TableFamily,
    pub(super) bases: Vec<Base>,
    pub(super) chains: Vec<Vec<Indexed>>,
}

pub(super) struct Base {
    pub(super) hook: Hook,
    pub(super) device: Option<String>,
    pub(super) priority: i32,
    pub(super) chain: usize,
}

pub(super) struct Indexed {
    pub(super) tests: Vec<Test>,
    pub(super) action: Action,
}

pub(super) struct Test {
    pub(super) key: Vec<Field>,
    pub(super) mask: Option<u128>,
    pub(super) negated: bool,
    pub(super) elements: Rc<Elements>,
}

pub(crate) enum Elements {
    /// One of these bits.
    Bits(u128),
    Exact(Exact),
    Ranges(Vec<Vec<(u128, u128)>>),
}

pub(super) enum Action {
    Verdict(Verdict),
    Lookup { key: Vec<Field>, map: Rc<Map> },
}

#[derive(Clone, Copy)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(usize),
    Goto(usize),
}

impl Index {
    pub(super) fn new(table: &Table) -> Self {
        let names = table.chains.iter().zip(0..);
        let names: BTreeMap<&str, usize> = names
            .map(|(chain, index)| (chain.name.as_str(), index))
            .collect();
        assert_eq!(names.len(), table.chains.len(), "two chains of one name");
        let sets = table.sets.iter();
        let sets: BTreeMap<_, _> = sets
            .map(|(name, set)| (name.as_str(), (set.as_ref(), Rc::new(elements(set)))))
            .collect();
        let maps = table.maps.iter().map(|(name, map)| {
            let elements = map.elements.iter().map(|(key, element)| {
                let verdict = verdict(&element.verdict, &names);
                (exact(&map.key, key), verdict)
            });
            (
                name.as_str(),
                (map.key.as_slice(), Rc::new(elements.collect::<Map>())),
            )
        });
        let maps: BTreeMap<_, _> = maps.collect();
        let rule = |rule: &Rule| Indexed {
            tests: rule
                .matches
                .iter()
                .map(|matches| test(matches, &sets))
                .collect(),
            action: match &rule.statement {
                Statement::Verdict(given) => Action::Verdict(verdict(given, &names)),
                Statement::Reject(_) => Action::Verdict(Verdict::Drop),
                Statement::Lookup { key, map } => {
                    let (types, map) = &maps[map.as_str()];
                    check_types(key, types);
                    Action::Lookup {
                        key: key.clone(),
                        map: map.clone(),
                    }
                }
            },
        };
        let bases = table.chains.iter().zip(0..).filter_map(|(chain, index)| {
            let base = chain.base.as_ref()?;
            Some(Base {
                hook: base.hook,
                device: base.device.as_ref().map(ToString::to_string),
                priority: base.priority,
                chain: index,
            })
        });
        Self {
            family: table.family,
            bases: bases.collect(),
            chains: table
                .chains
                .iter()
                .map(|chain| chain.rules.iter().map(rule).collect())
                .collect(),
        }
    }
}

fn verdict(given: &Given, names: &BTreeMap<&str, usize>) -> Verdict {
    match given {
        Given::Accept => Verdict::Accept,
        Given::Drop => Verdict::Drop,
        Given::Return => Verdict::Return,
        Given::Jump(chain) => Verdict::Jump(names[chain.as_str()]),
        Given::Goto(chain) => Verdict::Goto(names[chain.as_str()]),
    }
}

fn test(matches: &Match, sets: &BTreeMap<&str, (&Set, Rc<Elements>)>) -> Test {
    let elements = match &matches.operand {
        Operand::Set(name) => {
            let (set, elements) = &sets[name.as_str()];
            check_types(&matches.key, &set.key);
            elements.clone()
        }
        Operand::Values(values) => Rc::new(literal(&matches.key, values)),
    };
    Test {
        key: matches.key.clone(),
        mask: mask(matches),
        negated: matches.negated,
        elements,
    }
}

/// The values that a rule names itself.
pub(crate) fn literal(key: &[Field], values: &BTreeSet<Value>) -> Elements {
    let [field] = key else {
        panic!("values of a concatenation: {key:?}");
    };
    assert!(!values.is_empty(), "nft has no empty list: {field:?}");
    if matches!(field, Field::ConnectionState | Field::ConnectionStatus) {
        // `ct state established,related` asks whether one of the bits is there.
        Elements::Bits(
            values
                .iter()
                .fold(0, |bits, value| bits | bit(*field, value)),
        )
    } else {
        let ranges = values.iter().map(|value| vec![range(*field, value)]);
        Elements::Ranges(ranges.collect())
    }
}

/// The bits of the match's field that count.
pub(crate) fn mask(matches: &Match) -> Option<u128> {
    Some(match matches.mask? {
        Mask::Bits(bits) => u128::from(bits),
        Mask::Flags(flags) => {
            let [field] = matches.key.as_slice() else {
                panic!("a mask of a concatenation: {matches:?}");
            };
            let flags = flags
                .iter()
                .map(|flag| number(*field, &Value::Symbol(flag)));
            flags.fold(0, |mask, flag| mask | flag)
        }
    })
}

impl Elements {
    /// Whether the key is one of them.
    pub(crate) fn have(&self, key: &[u128]) -> bool {
        match self {
            Elements::Bits(bits) => key[0] & bits != 0,
            Elements::Exact(elements) => elements.contains(key),
            Elements::Ranges(elements) => elements.iter().any(|element| {
                let mut parts = key.iter().zip(element);
                parts.all(|(part, (first, last))| (first..=last).contains(&part))
            }),
        }
    }
}

/// The elements of a set.
pub(crate) fn elements(set: &Set) -> Elements {
    let parts = |element: &Vec<Value>| {
        assert_eq!(element.len(), set.key.len());
        let parts = set.key.iter().zip(element);
        parts.map(|(kind, value)| of_type(*kind, value)).collect()
    };
    if set.interval {
        Elements::Ranges(set.elements.iter().map(parts).collect())
    } else {
        let exact = set.elements.iter().map(|element| exact(&set.key, element));
        Elements::Exact(exact.collect())
    }
}

/// A key where there are no ranges.
pub(crate) fn exact(types: &[KeyType], key: &[Value]) -> Vec<u128> {
    assert_eq!(types.len(), key.len());
    let parts = types.iter().zip(key);
    let part = |(kind, value): (&KeyType, &Value)| {
        let (first, last) = of_type(*kind, value);
        assert_eq!(first, last, "a range where there are none: {value:?}");
        first
    };
    parts.map(part).collect()
}

/// A field can only be compared with what is of its type.
fn check_types(key: &[Field], types: &[KeyType]) {
    let kind = |field: &Field| match field {
        Field::Ipv4Source
        | Field::Ipv4Destination
        | Field::ArpSource
        | Field::OriginalIpv4Source
        | Field::OriginalIpv4Destination => KeyType::Ipv4Address,
        Field::Ipv6Source
        | Field::Ipv6Destination
        | Field::OriginalIpv6Source
        | Field::OriginalIpv6Destination => KeyType::Ipv6Address,
        Field::TransportProtocol => KeyType::Protocol,
        Field::TransportDestinationPort | Field::DestinationPort(_) => KeyType::Port,
        Field::InputInterface | Field::OutputInterface => KeyType::Interface,
        other => panic!("no set has {other:?}"),
    };
    let kinds: Vec<_> = key.iter().map(kind).collect();
    assert_eq!(kinds, types, "a key of other types than its set");
}
