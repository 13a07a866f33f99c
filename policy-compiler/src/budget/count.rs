//! What the policies of one namespace need on one node.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::class::{Merged, RuleSize, more_ports, names_ports, size};
use super::pods::{LocalPod, NamedPort, SetKey, Sets, steps};
use super::{BLAMED, Budgets, Exceeded, Resource};
use crate::model::{
    Cluster, Direction, NetworkPolicy, Peer, Peers, PolicyId, PortMatch, Ports, Rule,
};

/// Both, each at its own index.
const DIRECTIONS: [Direction; 2] = [Direction::Egress, Direction::Ingress];

/// A class by what makes it: policies by index, and the ports behind names.
type ClassKey<'a> = (Direction, Vec<usize>, BTreeSet<NamedPort<'a>>);

/// How much there is of each resource, in the order of [`Resource::ALL`].
type Amounts = [usize; Resource::ALL.len()];

/// What is counted so far.
pub(super) struct Count<'a> {
    budgets: &'a Budgets,
    policies: Vec<&'a NetworkPolicy>,
    spent: Amounts,
    by_policy: Vec<Amounts>,
}

impl<'a> Count<'a> {
    pub(super) fn new(cluster: &'a Cluster, namespace: &str, budgets: &'a Budgets) -> Self {
        let policies: Vec<_> = cluster.policies_in(namespace).collect();
        Self {
            budgets,
            spent: Amounts::default(),
            by_policy: vec![Amounts::default(); policies.len()],
            policies,
        }
    }

    /// That the namespace needs too much.
    pub(super) fn exceeded(&self, resource: Resource, node: &str, namespace: &str) -> Exceeded {
        Exceeded {
            node: node.to_owned(),
            namespace: namespace.to_owned(),
            resource,
            limit: self.budgets.limit(resource),
            found: self.spent(resource),
            policies: self.largest(resource, BLAMED),
        }
    }

    /// How many addresses may come in the cluster before more may be too much: each may be in the set of each rule, and
    /// in a piece for each port at which ranges are cut.
    pub(super) fn room(&self) -> usize {
        let of_one = |most: usize| most.saturating_mul(2).saturating_add(1);
        let (rules, ports) = (self.spent(Resource::Rules), self.spent(Resource::Ports));
        let of_one = rules.saturating_add(1).saturating_mul(of_one(ports));
        let left = |resource| {
            self.budgets
                .limit(resource)
                .saturating_sub(self.spent(resource))
        };
        left(Resource::Elements).min(left(Resource::Steps)) / of_one
    }

    pub(super) fn spent(&self, resource: Resource) -> usize {
        self.spent[resource as usize]
    }

    /// The policies that need the most, the largest first.
    pub(super) fn largest(&self, resource: Resource, most: usize) -> Vec<(PolicyId, usize)> {
        let of_resource = self
            .by_policy
            .iter()
            .map(|needed| needed[resource as usize]);
        let mut largest: Vec<_> = self.policies.iter().zip(of_resource).collect();
        largest.retain(|(_, needed)| *needed > 0);
        largest.sort_by_key(|(_, needed)| Reverse(*needed));
        let largest = largest.into_iter().take(most);
        largest
            .map(|(policy, needed)| (policy.id.clone(), needed))
            .collect()
    }

    /// Counts everything.
    ///
    /// # Errors
    /// The resource of which the namespace needs too much. What is counted is enough to show it.
    pub(super) fn run(
        &mut self,
        pods: &BTreeSet<LocalPod<'_>>,
        sets: &mut Sets<'a>,
    ) -> Result<(), Resource> {
        let classes = self.classes(pods)?;
        let used = classes.iter().flat_map(|(_, policies, _)| policies);
        let used: BTreeSet<usize> = used.copied().collect();
        let sizes = self.sets(&used, sets)?;
        for (direction, policies, ports) in &classes {
            let rules = policies.iter().flat_map(|index| {
                let sizes = sizes.get(&(*index, *direction)).map_or(&[][..], |s| s);
                let rules = self.policies[*index].rules(*direction).unwrap_or_default();
                rules.iter().zip(sizes)
            });
            let merged = Merged::of(*direction, rules, ports);
            // Which of its policies has the most rules tells best whose it is.
            let largest = policies.iter().max_by_key(|index| {
                let rules = sizes.get(&(**index, *direction)).into_iter().flatten();
                (rules.map(|size| size.parts).sum::<usize>(), Reverse(*index))
            });
            if let Some(index) = largest {
                self.charge(Resource::Elements, *index, merged.elements);
                self.charge(Resource::Steps, *index, merged.steps);
            }
            self.check()?;
        }
        Ok(())
    }

    /// The classes, with their rules and ports, and the blocks of their policies.
    fn classes<'p>(
        &mut self,
        pods: &BTreeSet<LocalPod<'p>>,
    ) -> Result<BTreeSet<ClassKey<'p>>, Resource> {
        let mut classes: BTreeSet<ClassKey<'p>> = BTreeSet::new();
        let mut sizes: Vec<Option<PolicySize>> = vec![None; self.policies.len()];
        for pod in pods {
            let mut selecting = Vec::new();
            for (index, size) in sizes.iter_mut().enumerate() {
                let policy = self.policies[index];
                self.charge(Resource::Steps, index, steps(&policy.selector));
                if self.spent(Resource::Steps) > self.budgets.steps {
                    return Err(Resource::Steps);
                }
                if policy.selector.matches(pod.labels) {
                    let size = size.get_or_insert_with(|| {
                        let size = PolicySize::of(policy);
                        self.charge(Resource::IpBlockEntries, index, size.ipblock_entries);
                        size
                    });
                    selecting.push((index, *size));
                }
            }
            for direction in DIRECTIONS {
                let of_direction = |(index, size): &(usize, PolicySize)| {
                    Some((*index, size.rules[direction as usize]?))
                };
                let policies: Vec<_> = selecting.iter().filter_map(of_direction).collect();
                if policies.is_empty() {
                    continue;
                }
                let is_named = |(_, size): &(usize, PolicySize)| size.names_ingress_ports;
                let ports = match direction {
                    Direction::Ingress if selecting.iter().any(is_named) => pod.ports.clone(),
                    _ => BTreeSet::new(),
                };
                let indices = policies.iter().map(|(index, _)| *index).collect();
                if classes.insert((direction, indices, ports.clone())) {
                    self.add_class(&policies, &ports);
                }
            }
            self.check()?;
        }
        Ok(classes)
    }

    /// `ports` are those of its pods, where ingress rules name some.
    fn add_class(&mut self, policies: &[(usize, RuleSize)], ports: &BTreeSet<NamedPort<'_>>) {
        for (index, size) in policies {
            if !ports.is_empty() {
                let rules = self.policies[*index].rules(Direction::Ingress);
                let more = rules.into_iter().flatten();
                let more = more.map(|rule| more_ports(rule, ports)).sum();
                self.charge(Resource::Ports, *index, more);
            }
            // A policy without rules stands in the class's name and comment all the same.
            self.charge(Resource::Rules, *index, size.parts.max(1));
            self.charge(Resource::Ports, *index, size.ports);
            self.charge(Resource::Steps, *index, size.terms);
            self.by_policy[*index][Resource::Classes as usize] += 1;
        }
        self.spent[Resource::Classes as usize] += 1;
    }

    /// The elements of shared sets. The sizes of the rules of each policy and direction.
    fn sets(
        &mut self,
        used: &BTreeSet<usize>,
        sets: &mut Sets<'a>,
    ) -> Result<BTreeMap<(usize, Direction), Vec<RuleSize>>, Resource> {
        let mut counted: BTreeSet<SetKey<'a>> = BTreeSet::new();
        let mut sizes = BTreeMap::new();
        for index in used {
            let policy = self.policies[*index];
            for direction in DIRECTIONS {
                let mut of_rules = Vec::new();
                for rule in policy.rules(direction).unwrap_or_default() {
                    let mut size = size(rule, direction);
                    for key in set_keys(rule, direction) {
                        let left = self
                            .budgets
                            .steps
                            .saturating_sub(self.spent(Resource::Steps));
                        let found = sets.find(key, left);
                        if counted.insert(key) {
                            self.charge(Resource::Steps, *index, found.steps);
                            self.charge(Resource::Elements, *index, found.elements);
                            self.check()?;
                        }
                        match key.1 {
                            Some(_) => size.named += found.elements,
                            None => size.addresses += found.elements,
                        }
                    }
                    of_rules.push(size);
                }
                sizes.insert((*index, direction), of_rules);
            }
        }
        Ok(sizes)
    }

    fn charge(&mut self, resource: Resource, index: usize, needed: usize) {
        let resource = resource as usize;
        for spent in [
            &mut self.spent[resource],
            &mut self.by_policy[index][resource],
        ] {
            *spent = spent.saturating_add(needed);
        }
    }

    fn check(&self) -> Result<(), Resource> {
        let mut resources = Resource::ALL.into_iter();
        let exceeded = resources.find(|r| self.spent(*r) > self.budgets.limit(*r));
        exceeded.map_or(Ok(()), Err)
    }
}

/// The size of a policy but for the pods that it finds.
#[derive(Clone, Copy, Debug)]
struct PolicySize {
    /// Of its rules together, in the order of [`DIRECTIONS`], where it isolates.
    rules: [Option<RuleSize>; DIRECTIONS.len()],
    ipblock_entries: usize,
    names_ingress_ports: bool,
}

impl PolicySize {
    fn of(policy: &NetworkPolicy) -> Self {
        let ingress = policy.rules(Direction::Ingress).into_iter().flatten();
        let rules = DIRECTIONS.iter().filter_map(|d| policy.rules(*d)).flatten();
        let blocks = rules.flat_map(peers).filter_map(|peer| match peer {
            Some(Peer::Block(block)) => Some(1 + block.except().len()),
            _ => None,
        });
        Self {
            rules: DIRECTIONS.map(|direction| {
                let sizes = policy
                    .rules(direction)?
                    .iter()
                    .map(|rule| size(rule, direction));
                Some(sizes.fold(RuleSize::default(), RuleSize::add))
            }),
            ipblock_entries: blocks.sum(),
            names_ingress_ports: ingress.into_iter().any(names_ports),
        }
    }
}

/// The rule's peers; one `None` stands for every peer.
pub(super) fn peers(rule: &Rule) -> impl Iterator<Item = Option<&Peer>> {
    let (any, of) = match &rule.peers {
        Peers::Any => (Some(None), &[][..]),
        Peers::Of(peers) => (None, peers.as_slice()),
    };
    any.into_iter().chain(of.iter().map(Some))
}

/// The sets that the rule needs: its peers, and what they have behind the names of egress ports.
fn set_keys(rule: &Rule, direction: Direction) -> impl Iterator<Item = SetKey<'_>> {
    let mut names = BTreeSet::new();
    let mut numbers = matches!(rule.ports, Ports::Any);
    if let Ports::Of(ports) = &rule.ports {
        for port in ports {
            match &port.port {
                PortMatch::Named(name) if direction == Direction::Egress => {
                    names.insert((name.as_str(), port.protocol));
                }
                _ => numbers = true,
            }
        }
    }
    peers(rule).flat_map(move |peer| {
        let addresses = (numbers && peer.is_some()).then_some((peer, None));
        let named: Vec<_> = names.iter().map(|name| (peer, Some(*name))).collect();
        addresses.into_iter().chain(named)
    })
}
