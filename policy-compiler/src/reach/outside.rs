//! Addresses that are nobody's in the cluster, by the ipBlocks that hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::{AddressRange, AddressRanges, Cluster, Family, IpBlock, Owner, bits_of};

/// The outside addresses that are in the same ipBlocks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outside {
    /// The ipBlocks of all policies that hold the addresses, in order. None: every address that no ipBlock holds.
    pub blocks: Vec<IpBlock>,
    /// All of them, those that are of the cluster's ends included.
    pub addresses: AddressRanges,
    /// One that stands for all, per family at most.
    pub examples: Vec<IpAddr>,
}

/// Addresses for documentation (RFC 5737, RFC 3849): as an example better than any other.
const DOCUMENTATION: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// What the same ipBlocks hold.
#[derive(Default)]
struct Pieces {
    examples: BTreeMap<Family, IpAddr>,
    ranges: Vec<AddressRange>,
}

/// Divides the addresses of both families. An address that one of the clusters owns is not outside.
pub(super) fn outside(clusters: &[&Cluster], blocks: &BTreeSet<&IpBlock>) -> Vec<Outside> {
    let blocks: Vec<&IpBlock> = blocks.iter().copied().collect();
    let mut groups: BTreeMap<Vec<usize>, Pieces> = BTreeMap::new();
    for family in Family::ALL {
        for (held, first, last) in pieces(&blocks, family) {
            let Pieces { examples, ranges } = groups.entry(held).or_default();
            ranges.push(AddressRange::new(family, first, last));
            if let Some(example) = example(clusters, family, first, last) {
                let known = examples.entry(family).or_insert(example);
                if DOCUMENTATION.contains(&example) && !DOCUMENTATION.contains(known) {
                    *known = example;
                }
            }
        }
    }
    groups
        .into_iter()
        .filter(|(_, pieces)| !pieces.examples.is_empty())
        .map(|(held, pieces)| Outside {
            blocks: held
                .into_iter()
                .map(|index| blocks[index].clone())
                .collect(),
            addresses: pieces.ranges.into_iter().collect(),
            examples: pieces.examples.into_values().collect(),
        })
        .collect()
}

/// Cuts a family's addresses where a block begins or ends: which blocks hold each piece, its first and its last.
fn pieces(blocks: &[&IpBlock], family: Family) -> Vec<(Vec<usize>, u128, u128)> {
    let mut begins: BTreeMap<u128, Vec<usize>> = BTreeMap::from([(0, Vec::new())]);
    let mut ends: BTreeMap<u128, Vec<usize>> = BTreeMap::new();
    let of_family = blocks
        .iter()
        .enumerate()
        .filter(|(_, block)| block.cidr().family() == family);
    for (index, block) in of_family {
        for range in block.ranges().iter() {
            begins
                .entry(bits_of(range.first()))
                .or_default()
                .push(index);
            if let Some(next) = bits_of(range.last())
                .checked_add(1)
                .filter(|next| *next <= family.last())
            {
                begins.entry(next).or_default();
                ends.entry(next).or_default().push(index);
            }
        }
    }
    let starts: Vec<u128> = begins.keys().copied().collect();
    let mut held = BTreeSet::new();
    let mut pieces = Vec::with_capacity(starts.len());
    for (position, first) in starts.iter().enumerate() {
        for index in ends.get(first).into_iter().flatten() {
            held.remove(index);
        }
        held.extend(begins.get(first).into_iter().flatten().copied());
        let last = starts
            .get(position + 1)
            .map_or(family.last(), |next| next - 1);
        pieces.push((held.iter().copied().collect(), *first, last));
    }
    pieces
}

/// An address of the piece that is nobody's: one for documentation, else the first that could be a host's.
fn example(clusters: &[&Cluster], family: Family, first: u128, last: u128) -> Option<IpAddr> {
    let is_outside = |address: &IpAddr| {
        let owners = clusters.iter().map(|cluster| cluster.owner(*address));
        owners.into_iter().all(|owner| owner == Owner::External)
    };
    let documentation = DOCUMENTATION.iter().copied().find(|address| {
        Family::of(*address) == family
            && (first..=last).contains(&bits_of(*address))
            && is_outside(address)
    });
    // A network's own address comes last.
    let second = first.saturating_add(1);
    documentation.or_else(|| {
        let mut others = (second..=last).chain([first]);
        others.find_map(|bits| Some(family.address(bits)).filter(is_outside))
    })
}
