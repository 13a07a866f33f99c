//! How much there is in our tables.

use policy_compiler::ruleset::Ruleset;

use super::labels::ObjectType;

/// Objects of a ruleset by type. No element is visited, so that it takes no longer with a hundred thousand of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Objects {
    chains: usize,
    rules: usize,
    sets: usize,
    maps: usize,
    elements: usize,
}

impl Objects {
    pub(super) fn of(ruleset: &Ruleset) -> Self {
        let mut objects = Self::default();
        for table in &ruleset.tables {
            objects.chains += table.chains.len();
            objects.rules += table
                .chains
                .iter()
                .map(|chain| chain.rules.len())
                .sum::<usize>();
            objects.sets += table.sets.len();
            objects.maps += table.maps.len();
            let of_sets = table.sets.values().map(|set| set.elements.len());
            let of_maps = table.maps.values().map(|map| map.elements.len());
            objects.elements += of_sets.chain(of_maps).sum::<usize>();
        }
        objects
    }

    pub(super) fn count(self, of: ObjectType) -> usize {
        match of {
            ObjectType::Chain => self.chains,
            ObjectType::Rule => self.rules,
            ObjectType::Set => self.sets,
            ObjectType::Map => self.maps,
            ObjectType::Element => self.elements,
        }
    }
}
