//! Ends with equal rows and columns become one.

use std::collections::BTreeMap;

use policy_compiler::evaluate::NodeEgress;
use policy_compiler::model::{Cluster, Family};
use policy_compiler::reach::{Group, Way, between, groups};

/// What stands for all ends from which, and to which, the same may pass.
pub(super) struct Folded {
    /// The groups of each end, in order; never none.
    pub(super) ends: Vec<Vec<Group>>,
    /// Every different way.
    pub(super) ways: Vec<Way>,
    /// By source, then destination: the way of each family.
    pub(super) cells: Vec<Vec<Passage>>,
}

/// What may pass from one end to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// The end is one alone, and what it does with itself is no policy's.
    Itself,
    /// Neither end is a pod, so that no policy has a say.
    NoPod,
    /// The index of the way by family, in the order of [`Family::ALL`]; none where not both ends have the family.
    Ways([Option<usize>; 2]),
}

/// Folds the ends of a cluster.
pub(super) fn fold(cluster: &Cluster, node_egress: NodeEgress) -> Folded {
    let groups = groups(&[cluster]);
    let mut known = BTreeMap::new();
    let cells: Vec<Vec<Passage>> = groups
        .iter()
        .map(|from| {
            let row = groups
                .iter()
                .map(|to| passage(cluster, node_egress, from, to, &mut known));
            row.collect()
        })
        .collect();
    let mut classes: Vec<Vec<usize>> = Vec::new();
    for end in 0..groups.len() {
        // To be equal is transitive, so that one of a class speaks for it.
        let equal = classes.iter_mut().find(|class| {
            place(&groups[class[0]]) == place(&groups[end]) && equal(&cells, class[0], end)
        });
        match equal {
            Some(class) => class.push(end),
            None => classes.push(vec![end]),
        }
    }
    let cell = |from: &[usize], to: &[usize]| {
        // Within a class: between two that are not one and the same.
        let to = if from == to { to.last() } else { to.first() };
        from.first()
            .zip(to)
            .map_or(Passage::NoPod, |(from, to)| cells[*from][*to])
    };
    let folded = classes
        .iter()
        .map(|from| classes.iter().map(|to| cell(from, to)).collect())
        .collect();
    let mut ways: Vec<(Way, usize)> = known.into_iter().collect();
    ways.sort_by_key(|(_, index)| *index);
    let of = |class: &Vec<usize>| class.iter().map(|end| groups[*end].clone()).collect();
    Folded {
        ends: classes.iter().map(of).collect(),
        ways: ways.into_iter().map(|(way, _)| way).collect(),
        cells: folded,
    }
}

fn passage(
    cluster: &Cluster,
    node_egress: NodeEgress,
    from: &Group,
    to: &Group,
    known: &mut BTreeMap<Way, usize>,
) -> Passage {
    match (from, to) {
        (Group::Pods(pods), _) if from == to && pods.len() == 1 => return Passage::Itself,
        (Group::Pods(_), _) | (_, Group::Pods(_)) => {}
        _ => return Passage::NoPod,
    }
    Passage::Ways(Family::ALL.map(|family| {
        let (source, destination) = from.pair(to, cluster, family)?;
        let way = between(cluster, source, destination, node_egress);
        let next = known.len();
        Some(*known.entry(way).or_insert(next))
    }))
}

/// Only ends of one kind fold, and pods only with those of their namespace.
fn place(group: &Group) -> (u8, Option<&str>) {
    match group {
        Group::Pods(pods) => (0, pods.first().map(|pod| pod.namespace.as_str())),
        Group::Nodes(_) => (1, None),
        Group::Outside(_) => (2, None),
    }
}

/// Whether nobody can tell the two ends apart by what reaches them and what they reach, each other included.
fn equal(cells: &[Vec<Passage>], a: usize, b: usize) -> bool {
    let mut others = (0..cells.len()).filter(|other| ![a, b].contains(other));
    let mut between = [cells[a][b], cells[b][a], cells[a][a], cells[b][b]]
        .into_iter()
        .filter(|passage| *passage != Passage::Itself);
    let first = between.next();
    between.all(|passage| Some(passage) == first)
        && others
            .all(|other| cells[a][other] == cells[b][other] && cells[other][a] == cells[other][b])
}
