//! Which rules and policies others cover: without them no connection is judged differently.
//!
//! What is covered is proved on exact sets: for every selected pod, every address and every port that a rule allows,
//! the rules that stay allow the same. Findings add up: all of them may be followed at once, so two rules that cover
//! each other are one finding.

mod imply;
mod space;

use std::collections::{BTreeMap, BTreeSet};

pub use imply::{peer_implies, ports_imply, selector_implies};
pub use space::selects;

use self::space::{Allowed, Space, Subject};
use crate::model::{Cluster, Direction, NetworkPolicy, Peers, PolicyId, Rule};

/// A rule by its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId {
    /// The policy.
    pub policy: PolicyId,
    /// The list.
    pub direction: Direction,
    /// The place in the list, counted from 0.
    pub index: usize,
}

/// What is covered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// One rule.
    Rule(RuleId),
    /// A policy as a whole: others isolate its pods too.
    Policy(PolicyId),
}

/// A rule or a policy that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    /// What.
    pub target: Target,
    /// The rules that allow the same; none for a policy that only isolates.
    pub by: BTreeSet<RuleId>,
    /// The policies that isolate the same pods. Only for a policy.
    pub isolated_by: BTreeSet<PolicyId>,
    /// Whether it holds whatever pods there are, and not only with those at hand.
    pub in_every_cluster: bool,
}

/// Everything that is covered, in order. Removing all of it changes no verdict.
///
/// Where a rule matches nothing, or a policy selects no pod, only what follows from their text is said. A policy without
/// rules, as the default-deny, is covered only by another such policy.
pub fn covered(cluster: &Cluster) -> Vec<Covered> {
    let mut namespaces: BTreeSet<&str> = BTreeSet::new();
    namespaces.extend(cluster.policies.keys().map(|id| id.namespace.as_str()));
    let mut found: Vec<Covered> = namespaces
        .into_iter()
        .flat_map(|namespace| Analysis::of(cluster, namespace).run())
        .collect();
    found.sort_by(|a, b| a.target.cmp(&b.target));
    found
}

/// The policies of one namespace.
struct Analysis<'a> {
    policies: BTreeMap<&'a PolicyId, &'a NetworkPolicy>,
    subjects: BTreeMap<Direction, Vec<Subject<'a>>>,
    /// What a rule allows, by subject and then by kind of address; only for subjects that its policy selects.
    allowed: BTreeMap<RuleId, BTreeMap<usize, Vec<Allowed>>>,
    /// What is already found to be covered, and so covers nothing.
    gone: BTreeSet<RuleId>,
    gone_policies: BTreeSet<PolicyId>,
}

const DIRECTIONS: [Direction; 2] = [Direction::Egress, Direction::Ingress];

impl<'a> Analysis<'a> {
    fn of(cluster: &'a Cluster, namespace: &str) -> Self {
        let policies: BTreeMap<_, _> = cluster
            .policies_in(namespace)
            .map(|policy| (&policy.id, policy))
            .collect();
        let space = Space::of(cluster, policies.values().copied());
        let mut analysis = Self {
            policies,
            subjects: BTreeMap::new(),
            allowed: BTreeMap::new(),
            gone: BTreeSet::new(),
            gone_policies: BTreeSet::new(),
        };
        for direction in DIRECTIONS {
            let subjects = space::subjects(cluster, namespace, direction);
            for (index, subject) in subjects.iter().enumerate() {
                for policy in &subject.policies {
                    for (id, rule) in rules_of(policy, direction) {
                        let allowed = space.allowed(rule, direction, subject);
                        analysis
                            .allowed
                            .entry(id)
                            .or_default()
                            .insert(index, allowed);
                    }
                }
            }
            analysis.subjects.insert(direction, subjects);
        }
        analysis
    }

    fn run(mut self) -> Vec<Covered> {
        let mut found = Vec::new();
        // From the last to the first: of two that are alike, the first stays.
        let policies: Vec<_> = self.policies.values().rev().copied().collect();
        for policy in &policies {
            if let Some(covered) = self.covered_policy(policy) {
                self.gone_policies.insert(policy.id.clone());
                found.push(covered);
            }
        }
        let candidates: Vec<RuleId> = policies
            .iter()
            .flat_map(|policy| last_first(policy))
            .collect();
        // One rule that covers another says more than several together do, so those are looked for first.
        for alone in [true, false] {
            for id in &candidates {
                if self.is_gone(id) {
                    continue;
                }
                let Some(by) = self.covered_rule(id, alone, |other| other != id) else {
                    continue;
                };
                let in_every_cluster = self.is_implied(id, by.iter());
                self.gone.insert(id.clone());
                found.push(Covered {
                    target: Target::Rule(id.clone()),
                    by,
                    isolated_by: BTreeSet::new(),
                    in_every_cluster,
                });
            }
        }
        found
    }

    fn is_gone(&self, id: &RuleId) -> bool {
        self.gone.contains(id) || self.gone_policies.contains(&id.policy)
    }

    /// The rules that together allow everything that the rule does: one rule, or the fewest that are easily found.
    fn covered_rule(
        &self,
        id: &RuleId,
        alone: bool,
        may: impl Fn(&RuleId) -> bool,
    ) -> Option<BTreeSet<RuleId>> {
        let is_empty = |allowed: &&BTreeMap<usize, Vec<Allowed>>| {
            allowed.values().flatten().all(Allowed::is_empty)
        };
        let may =
            |other: &RuleId| other.direction == id.direction && may(other) && !self.is_gone(other);
        let Some(wanted) = self.allowed.get(id).filter(|wanted| !is_empty(wanted)) else {
            let all = self.policies.values().copied();
            let mut all = all.flat_map(|policy| rules_of(policy, id.direction));
            let (one, _) = all.find(|(other, _)| may(other) && self.is_implied(id, [other]))?;
            return Some(BTreeSet::from([one]));
        };
        let others: Vec<&RuleId> = self.allowed.keys().filter(|other| may(other)).collect();
        if alone {
            // What holds in every cluster is said rather than what holds with these pods.
            let mut covering = others
                .into_iter()
                .filter(|other| self.allow_together(wanted, &[other]))
                .peekable();
            let first = *covering.peek()?;
            let one = covering.find(|other| self.is_implied(id, [*other]));
            return Some(BTreeSet::from([one.unwrap_or(first).clone()]));
        }
        if !self.allow_together(wanted, &others) {
            return None;
        }
        let mut needed = others.clone();
        for other in others {
            let without: Vec<_> = needed.iter().copied().filter(|id| *id != other).collect();
            if self.allow_together(wanted, &without) {
                needed = without;
            }
        }
        Some(needed.into_iter().cloned().collect())
    }

    fn allow_together(&self, wanted: &BTreeMap<usize, Vec<Allowed>>, rules: &[&RuleId]) -> bool {
        wanted.iter().all(|(subject, wanted)| {
            let there: Vec<_> = rules
                .iter()
                .filter_map(|id| self.allowed.get(*id)?.get(subject))
                .collect();
            wanted.iter().enumerate().all(|(address, wanted)| {
                let together = there.iter().fold(Allowed::default(), |sum, allowed| {
                    sum.plus(&allowed[address])
                });
                together.contains(wanted)
            })
        })
    }

    /// Whether others isolate the policy's pods and allow what it allows.
    fn covered_policy(&self, policy: &NetworkPolicy) -> Option<Covered> {
        let mut covered = Covered {
            target: Target::Policy(policy.id.clone()),
            by: BTreeSet::new(),
            isolated_by: BTreeSet::new(),
            in_every_cluster: true,
        };
        let directions = DIRECTIONS.into_iter();
        let mut directions = directions
            .filter(|direction| policy.rules(*direction).is_some())
            .peekable();
        directions.peek()?;
        for direction in directions {
            let (isolating, always) = self.isolating(policy, direction)?;
            covered.isolated_by.extend(isolating);
            covered.in_every_cluster &= always;
            for (id, _) in rules_of(policy, direction) {
                let other = |other: &RuleId| other.policy != policy.id;
                let by = self.covered_rule(&id, true, other);
                let by = by.or_else(|| self.covered_rule(&id, false, other))?;
                covered.in_every_cluster &= self.is_implied(&id, by.iter());
                covered.by.extend(by);
            }
        }
        Some(covered)
    }

    /// The policies that stay and isolate the pods of this one, and whether they do whatever pods there are. A
    /// default-deny is meant to be there beside policies that allow, so only another one takes its place.
    fn isolating(
        &self,
        policy: &NetworkPolicy,
        direction: Direction,
    ) -> Option<(BTreeSet<PolicyId>, bool)> {
        let only_isolates = policy.rules(direction)?.is_empty();
        let is_other = |other: &&NetworkPolicy| {
            let rules = other.rules(direction);
            other.id != policy.id
                && !self.gone_policies.contains(&other.id)
                && rules.is_some_and(|rules| !only_isolates || rules.is_empty())
        };
        let mut others = self.policies.values().copied().filter(is_other);
        if let Some(other) =
            others.find(|other| selector_implies(&policy.selector, &other.selector))
        {
            return Some((BTreeSet::from([other.id.clone()]), true));
        }
        if only_isolates {
            return None;
        }
        let subjects = self.subjects[&direction].iter();
        let mut selected = subjects
            .filter(|subject| subject.policies.iter().any(|other| other.id == policy.id))
            .peekable();
        selected.peek()?;
        let mut isolating = BTreeSet::new();
        for subject in selected {
            let other = subject
                .policies
                .iter()
                .copied()
                .find(|other| is_other(other))?;
            isolating.insert(other.id.clone());
        }
        Some((isolating, false))
    }

    /// Whether the selectors, blocks and ports of `by` cover the rule by what they say, whatever pods there are.
    fn is_implied<'r>(&self, id: &RuleId, by: impl IntoIterator<Item = &'r RuleId>) -> bool {
        let Some((policy, rule)) = self.rule(id) else {
            return false;
        };
        let by: Vec<_> = by
            .into_iter()
            .filter_map(|id| self.rule(id))
            .filter(|(other, _)| selector_implies(&policy.selector, &other.selector))
            .map(|(_, rule)| rule)
            .collect();
        let covers = |peer: Option<&_>| {
            by.iter().any(|other| {
                let peers = match (&other.peers, peer) {
                    (Peers::Any, _) => true,
                    (Peers::Of(_), None) => false,
                    (Peers::Of(others), Some(peer)) => {
                        others.iter().any(|other| peer_implies(peer, other))
                    }
                };
                peers && ports_imply(&rule.ports, &other.ports)
            })
        };
        match &rule.peers {
            Peers::Any => covers(None),
            Peers::Of(peers) => peers.iter().all(|peer| covers(Some(peer))),
        }
    }

    fn rule(&self, id: &RuleId) -> Option<(&'a NetworkPolicy, &'a Rule)> {
        let policy = self.policies.get(&id.policy)?;
        Some((policy, policy.rules(id.direction)?.get(id.index)?))
    }
}

/// The policy's rules, the last first.
fn last_first(policy: &NetworkPolicy) -> Vec<RuleId> {
    let rules = DIRECTIONS
        .into_iter()
        .flat_map(|direction| rules_of(policy, direction));
    let mut rules: Vec<_> = rules.map(|(id, _)| id).collect();
    rules.reverse();
    rules
}

fn rules_of(policy: &NetworkPolicy, direction: Direction) -> impl Iterator<Item = (RuleId, &Rule)> {
    let rules = policy.rules(direction).unwrap_or_default().iter();
    rules.enumerate().map(move |(index, rule)| {
        let id = RuleId {
            policy: policy.id.clone(),
            direction,
            index,
        };
        (id, rule)
    })
}
