//! Changes, as the parts of a batch.

use policy_compiler::ruleset::{Base, KeyType, MapElement, Rule, Ruleset, TableFamily, Value};

use super::object::Object;

/// One change of one of our tables.
///
/// What is added must not be there yet (EEXIST) and what is deleted or flushed must be (ENOENT), so that a plan which
/// starts from another state than the kernel's is refused.
#[derive(Clone, Debug)]
pub enum Operation<'a> {
    /// A new table.
    AddTable(TableFamily),
    /// A table, new or not, without flags: before [`Operation::DeleteTable`], where it is not known whether it is there,
    /// and to wake one that sleeps (`flags dormant`).
    EnsureTable(TableFamily),
    /// A table with all that is in it.
    DeleteTable(TableFamily),
    /// A chain without rules.
    AddChain {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: &'a str,
        /// Where it is hooked in.
        base: Option<&'a Base>,
    },
    /// A chain that nothing jumps to (EBUSY), with its rules.
    DeleteChain {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: &'a str,
    },
    /// The rules of a chain.
    FlushChain {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: &'a str,
    },
    /// A rule at the end of its chain. Its sets, and the chains that it jumps to, are there, or earlier in the batch.
    AppendRule {
        /// The chain's table.
        family: TableFamily,
        /// The chain's name.
        chain: &'a str,
        /// The rule.
        rule: &'a Rule,
    },
    /// A counter at 0.
    AddCounter {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: &'a str,
    },
    /// A counter that no rule counts in (EBUSY).
    DeleteCounter {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: &'a str,
    },
    /// A set without elements.
    AddSet {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: &'a str,
        /// The parts of a key.
        key: &'a [KeyType],
        /// Whether elements may be ranges.
        interval: bool,
        /// What it holds.
        comment: &'a str,
    },
    /// A verdict map without elements.
    AddMap {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: &'a str,
        /// The parts of a key.
        key: &'a [KeyType],
        /// What it holds.
        comment: &'a str,
    },
    /// A set or a map that no rule uses (EBUSY), with its elements.
    DeleteSet {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: &'a str,
    },
    /// The elements of a set or a map.
    FlushSet {
        /// Its table.
        family: TableFamily,
        /// Its name.
        name: &'a str,
    },
    /// Elements of a set.
    AddElements(Elements<'a>),
    /// Elements of a set or a map, by their keys.
    DeleteElements(Elements<'a>),
    /// Elements of a map. The chains that they name are there, or earlier in the batch.
    AddMapElements {
        /// The map's table.
        family: TableFamily,
        /// The map's name.
        map: &'a str,
        /// The parts of a key.
        key: &'a [KeyType],
        /// The elements.
        elements: Vec<(&'a [Value], &'a MapElement)>,
    },
}

/// Elements of one set, or keys of one map.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    /// The table of the set.
    pub family: TableFamily,
    /// The set's name.
    pub set: &'a str,
    /// The parts of a key.
    pub key: &'a [KeyType],
    /// Whether elements are ranges.
    pub interval: bool,
    /// The elements; those of an interval set in ascending order.
    pub keys: Vec<&'a [Value]>,
}

impl Elements<'_> {
    /// Whether the kernel has starts and ends as elements of their own (`nft_set_rbtree.c`). Ranges of a key with several
    /// parts are one element each (`nft_set_pipapo.c`).
    pub(crate) fn is_rbtree(&self) -> bool {
        self.interval && self.key.len() == 1
    }
}

impl<'a> Operation<'a> {
    pub(crate) fn add_verdicts(
        family: TableFamily,
        map: &'a str,
        key: &'a [KeyType],
        elements: impl IntoIterator<Item = (&'a Vec<Value>, &'a MapElement)>,
    ) -> Self {
        let elements = elements.into_iter();
        Self::AddMapElements {
            family,
            map,
            key,
            elements: elements
                .map(|(key, element)| (key.as_slice(), element))
                .collect(),
        }
    }

    /// The first and the second half of its elements, if it has several.
    pub(crate) fn halves(&self) -> Option<[Self; 2]> {
        let of_keys = |of: &Elements<'a>| {
            let (first, second) = of.keys.split_at(of.keys.len() / 2);
            let with = |keys: &[&'a [Value]]| Elements {
                keys: keys.to_vec(),
                ..*of
            };
            (!first.is_empty()).then(|| [with(first), with(second)])
        };
        match self {
            Self::AddElements(of) => of_keys(of).map(|halves| halves.map(Self::AddElements)),
            Self::DeleteElements(of) => of_keys(of).map(|halves| halves.map(Self::DeleteElements)),
            Self::AddMapElements {
                family,
                map,
                key,
                elements,
            } => {
                let (first, second) = elements.split_at(elements.len() / 2);
                let with = |elements: &[(&'a [Value], &'a MapElement)]| Self::AddMapElements {
                    family: *family,
                    map,
                    key,
                    elements: elements.to_vec(),
                };
                (!first.is_empty()).then(|| [with(first), with(second)])
            }
            _ => None,
        }
    }

    /// What it changes. Of elements, all of them.
    pub fn object(&self) -> Object {
        let chain = |family: &TableFamily, name: &str| Object::Chain {
            family: *family,
            name: name.to_owned(),
        };
        let set = |family: &TableFamily, name: &str| Object::Set {
            family: *family,
            name: name.to_owned(),
        };
        let elements = |family: &TableFamily, set: &str| Object::Element {
            family: *family,
            set: set.to_owned(),
            key: None,
        };
        match self {
            Self::AddTable(family) | Self::EnsureTable(family) | Self::DeleteTable(family) => {
                Object::Table(*family)
            }
            Self::AddChain { family, name, .. }
            | Self::DeleteChain { family, name }
            | Self::FlushChain { family, name } => chain(family, name),
            Self::AppendRule {
                family,
                chain,
                rule,
            } => Object::Rule {
                family: *family,
                chain: (*chain).to_owned(),
                index: None,
                comment: rule.comment.clone(),
            },
            Self::AddCounter { family, name } | Self::DeleteCounter { family, name } => {
                Object::Counter {
                    family: *family,
                    name: (*name).to_owned(),
                }
            }
            Self::AddSet { family, name, .. }
            | Self::DeleteSet { family, name }
            | Self::FlushSet { family, name } => set(family, name),
            Self::AddMap { family, name, .. } => Object::Map {
                family: *family,
                name: (*name).to_owned(),
            },
            Self::AddElements(of) | Self::DeleteElements(of) => elements(&of.family, of.set),
            Self::AddMapElements { family, map, .. } => elements(family, map),
        }
    }

    /// The key of one of its elements.
    pub(crate) fn key(&self, index: usize) -> Option<&[Value]> {
        match self {
            Self::AddElements(of) | Self::DeleteElements(of) => of.keys.get(index).copied(),
            Self::AddMapElements { elements, .. } => elements.get(index).map(|(key, _)| *key),
            _ => None,
        }
    }
}

/// All that makes the ruleset where there is nothing of it: chains, counters, sets and maps, elements, then rules, as nft
/// does.
pub fn load(ruleset: &Ruleset) -> Vec<Operation<'_>> {
    let mut operations = Vec::new();
    for table in &ruleset.tables {
        let family = table.family;
        operations.push(Operation::AddTable(family));
        let chains = table.chains.iter();
        operations.extend(chains.map(|chain| Operation::AddChain {
            family,
            name: &chain.name,
            base: chain.base.as_ref(),
        }));
        let counters = table.counters.iter();
        operations.extend(counters.map(|name| Operation::AddCounter { family, name }));
        for (name, set) in &table.sets {
            operations.push(Operation::AddSet {
                family,
                name,
                key: &set.key,
                interval: set.interval,
                comment: &set.comment,
            });
            if !set.elements.is_empty() {
                operations.push(Operation::AddElements(Elements {
                    family,
                    set: name,
                    key: &set.key,
                    interval: set.interval,
                    keys: set.elements.iter().map(Vec::as_slice).collect(),
                }));
            }
        }
        for (name, map) in &table.maps {
            operations.push(Operation::AddMap {
                family,
                name,
                key: &map.key,
                comment: &map.comment,
            });
            if !map.elements.is_empty() {
                let elements = Operation::add_verdicts(family, name, &map.key, &map.elements);
                operations.push(elements);
            }
        }
        for chain in &table.chains {
            let rules = chain.rules.iter();
            operations.extend(rules.map(|rule| Operation::AppendRule {
                family,
                chain: &chain.name,
                rule,
            }));
        }
    }
    operations
}
