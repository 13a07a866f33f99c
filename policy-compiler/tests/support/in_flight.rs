//! A ruleset as the kernel reads it while a transaction is committed.
//!
//! A packet reads the rules of a base chain, and of what that leads to, as they are when it comes to the base
//! chain: old, or new if an earlier one was. Each lookup in a set or map finds the old or the new elements,
//! whatever the others found: newer kernels switch some sets after the rules. So a packet has a set of possible
//! verdicts, which is computed here by following every branch.
//!
//! Rules point to objects, not to names. What is deleted and created again in one transaction is another object,
//! and who still points to the old one, or already to the new one, may find it empty.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy_compiler::delta::{Action, Transaction, apply};
use policy_compiler::evaluate::Transport;
use policy_compiler::ruleset::{
    Chain, Field, Hook, Match, Operand, Rule, Ruleset, Statement, Table, TableFamily, Verdict,
};

use super::walk::index::{Elements, elements, exact, literal, mask};
use super::walk::packet::{ACK, Content, Header, SYN};
use super::walk::{self, Stop};

/// Where a packet comes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Bridged,
    Routed,
    FromHost,
    ToHost,
}

/// The first packet of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) transport: Transport,
    pub(crate) path: Path,
    pub(crate) input: String,
    pub(crate) output: String,
    /// Its destination was rewritten.
    pub(crate) dnat: bool,
    /// Replies would go where it came from.
    pub(crate) return_route: bool,
    pub(crate) bare_syn: bool,
    /// ICMPv6 type and hop limit.
    pub(crate) icmpv6: (u8, u8),
}

impl Packet {
    fn walked(&self) -> walk::packet::Packet {
        let transport = match self.transport {
            Transport::Port(protocol, port) => Header::Port {
                protocol,
                port,
                flags: if self.bare_syn { SYN } else { ACK },
            },
            Transport::Icmp => Header::Icmp {
                kind: self.icmpv6.0,
                checksum: ICMP_CHECKSUM,
            },
        };
        walk::packet::Packet {
            dnat: self.dnat,
            from_here: self.path == Path::FromHost,
            return_route: self.return_route,
            ..walk::packet::Packet::new(Content::Ip {
                source: self.source,
                destination: self.destination,
                hop_limit: self.icmpv6.1,
                transport,
            })
        }
    }

    fn stop(&self, family: TableFamily, hook: Hook) -> Stop {
        Stop {
            family,
            hook,
            input: Some(self.input.clone()),
            output: Some(self.output.clone()),
        }
    }
}

const ACCEPT: u8 = 1;
const DROP: u8 = 2;
const CONTINUE: u8 = 4;

/// Where an ICMP message has its checksum, `th dport` reads a port. It may well be one that a rule names.
const ICMP_CHECKSUM: u16 = 3;

/// A table that is quick to ask.
struct Index<'a> {
    table: &'a Table,
    chains: BTreeMap<&'a str, &'a Chain>,
    sets: BTreeMap<&'a str, Elements>,
    maps: BTreeMap<&'a str, BTreeMap<Vec<u128>, &'a Verdict>>,
}

/// A ruleset that is quick to ask.
pub(crate) struct State<'a>(BTreeMap<TableFamily, Index<'a>>);

impl<'a> State<'a> {
    pub(crate) fn new(ruleset: &'a Ruleset) -> Self {
        let index = |table: &'a Table| {
            let chains = table
                .chains
                .iter()
                .map(|chain| (chain.name.as_str(), chain.as_ref()));
            let sets = table.sets.iter();
            let sets = sets.map(|(name, set)| (name.as_str(), elements(set)));
            let maps = table.maps.iter().map(|(name, map)| {
                let elements = map.elements.iter();
                let elements =
                    elements.map(|(key, element)| (exact(&map.key, key), &element.verdict));
                (name.as_str(), elements.collect())
            });
            let index = Index {
                table,
                chains: chains.collect(),
                sets: sets.collect(),
                maps: maps.collect(),
            };
            (table.family, index)
        };
        Self(ruleset.tables.iter().map(index).collect())
    }
}

/// The verdict outside of any transaction: whether it is accepted.
pub(crate) fn verdict(state: &State<'_>, packet: &Packet) -> bool {
    match outcomes(state, state, &BTreeSet::new(), packet) {
        ACCEPT => true,
        DROP => false,
        other => panic!("{other} is no verdict: {packet:?}"),
    }
}

/// What may become of a packet while a transaction leads from one state to the other. `again` is what it deletes and
/// creates again.
fn outcomes(
    old: &State<'_>,
    new: &State<'_>,
    again: &BTreeSet<(TableFamily, &str)>,
    packet: &Packet,
) -> u8 {
    use TableFamily::{Bridge, Inet};
    let hooks: &[(TableFamily, Hook)] = match packet.path {
        Path::Bridged => &[
            (Bridge, Hook::Prerouting),
            (Inet, Hook::Prerouting),
            (Bridge, Hook::Forward),
            (Inet, Hook::Forward),
        ],
        Path::Routed => &[(Inet, Hook::Prerouting), (Inet, Hook::Forward)],
        Path::FromHost => &[(Inet, Hook::Output)],
        Path::ToHost => &[(Inet, Hook::Prerouting), (Inet, Hook::Input)],
    };
    let walked = packet.walked();
    // The possible verdicts of each base chain in order, by the old and by the new rules.
    let mut chains: Vec<[u8; 2]> = Vec::new();
    for (family, hook) in hooks {
        let states = [old, new].map(|state| state.0.get(family));
        for name in base_chains(states, *hook) {
            let flight = Flight {
                family: *family,
                states,
                again,
                packet: &walked,
                stop: packet.stop(*family, *hook),
            };
            chains.push([0, 1].map(|generation| flight.base(generation, name)));
        }
    }
    let mut outcomes = 0;
    for first_new in 0..=chains.len() {
        let seen = chains.iter().enumerate();
        let seen = seen.map(|(index, chain)| chain[usize::from(index >= first_new)]);
        let mut all_accept = true;
        for possible in seen {
            if all_accept && possible & DROP != 0 {
                outcomes |= DROP;
            }
            all_accept &= possible & ACCEPT != 0;
        }
        if all_accept {
            outcomes |= ACCEPT;
        }
    }
    outcomes
}

/// Names of base chains of a hook in either state, by priority.
fn base_chains<'a>(states: [Option<&Index<'a>>; 2], hook: Hook) -> Vec<&'a str> {
    let chains = states.into_iter().flatten().flat_map(|i| &i.table.chains);
    let hooked = chains.filter_map(|chain| {
        let base = chain.base.as_ref().filter(|base| base.hook == hook)?;
        Some((base.priority, chain.name.as_str()))
    });
    let names: BTreeSet<_> = hooked.collect();
    names.into_iter().map(|(_, name)| name).collect()
}

/// A packet in a table while a transaction is committed.
struct Flight<'a, 'p> {
    family: TableFamily,
    again: &'p BTreeSet<(TableFamily, &'p str)>,
    states: [Option<&'p Index<'a>>; 2],
    packet: &'p walk::packet::Packet,
    stop: Stop,
}

impl<'a> Flight<'a, '_> {
    /// What a base chain may say by the old (0) or new (1) rules. The policy is accept. One that comes or goes may
    /// not be met at all.
    fn base(&self, generation: usize, name: &str) -> u8 {
        let there =
            |state: &Option<&Index<'a>>| state.is_some_and(|index| index.chains.contains_key(name));
        let mut outcomes = self.chain(generation, name);
        if outcomes & CONTINUE != 0 || !self.states.iter().all(there) {
            outcomes |= ACCEPT;
        }
        outcomes & !CONTINUE
    }

    fn is_again(&self, name: &str) -> bool {
        self.again.contains(&(self.family, name))
    }

    fn chain(&self, generation: usize, name: &str) -> u8 {
        // A chain that is not there yet, or not any more, has no rules.
        let chain = self.states[generation].and_then(|index| index.chains.get(name));
        let rules = chain.map_or(&[][..], |chain| &chain.rules);
        let mut outcomes = if self.is_again(name) { CONTINUE } else { 0 };
        for rule in rules {
            let [may_match, mut may_go_on] = self.rule(rule);
            if may_match {
                for verdict in self.verdicts(&rule.statement) {
                    match verdict {
                        None => may_go_on = true,
                        Some(Verdict::Accept) => outcomes |= ACCEPT,
                        Some(Verdict::Drop) => outcomes |= DROP,
                        Some(Verdict::Return) => outcomes |= CONTINUE,
                        Some(Verdict::Goto(chain)) => outcomes |= self.chain(generation, chain),
                        Some(Verdict::Jump(chain)) => {
                            let there = self.chain(generation, chain);
                            may_go_on |= there & CONTINUE != 0;
                            outcomes |= there & !CONTINUE;
                        }
                    }
                }
            }
            if !may_go_on {
                return outcomes;
            }
        }
        outcomes | CONTINUE
    }

    fn verdicts<'s>(&'s self, statement: &'s Statement) -> Vec<Option<&'s Verdict>> {
        let (key, map) = match statement {
            Statement::Verdict(verdict) => return vec![Some(verdict)],
            Statement::Reject(_) => return vec![Some(&Verdict::Drop)],
            Statement::Lookup { key, map } => (key, map),
        };
        let Some(key) = self.key(key) else {
            return vec![None];
        };
        let maps = self.states.iter();
        let maps = maps.map(|state| state.and_then(|index| index.maps.get(map.as_str())));
        let found = maps.map(|map| map.and_then(|map| map.get(&key)).copied());
        found.chain(self.is_again(map).then_some(None)).collect()
    }

    /// Whether the rule may match, and whether it may not.
    fn rule(&self, rule: &Rule) -> [bool; 2] {
        let mut possible = [true, false];
        for matches in &rule.matches {
            let [may, may_not] = self.matches(matches);
            possible = [possible[0] && may, possible[1] || (possible[0] && may_not)];
        }
        possible
    }

    fn matches(&self, matches: &Match) -> [bool; 2] {
        let Some(mut key) = self.key(&matches.key) else {
            // The packet has no such field; what depends on it does not match, negated or not.
            return [false, true];
        };
        if let Some(mask) = mask(matches) {
            key[0] &= mask;
        }
        let found: Vec<bool> = match &matches.operand {
            Operand::Set(name) => {
                let sets = self.states.iter();
                let sets = sets.map(|state| state.and_then(|i| i.sets.get(name.as_str())));
                let found = sets.map(|set| set.is_some_and(|set| set.have(&key)));
                found.chain(self.is_again(name).then_some(false)).collect()
            }
            Operand::Values(values) => vec![literal(&matches.key, values).have(&key)],
        };
        let is_so = |is_so: bool| {
            found
                .iter()
                .any(|found| (*found != matches.negated) == is_so)
        };
        [is_so(true), is_so(false)]
    }

    fn key(&self, fields: &[Field]) -> Option<Vec<u128>> {
        let field = |field: &Field| self.packet.field(*field, &self.stop);
        fields.iter().map(field).collect()
    }
}

/// What is wrong with a plan.
#[derive(Debug)]
#[allow(dead_code, reason = "read by being printed")]
pub(crate) struct Wrong {
    pub(crate) packet: Packet,
    pub(crate) transaction: Transaction,
    /// Whether both rulesets accept the packet, so that it may be lost; else it may leak.
    pub(crate) lost: bool,
}

/// Applies the transactions to a value, and checks that each packet that both rulesets accept or both deny has the
/// same verdict on all the way. Returns the last state.
pub(crate) fn follow(
    from: &Ruleset,
    to: &Ruleset,
    transactions: &[Transaction],
    packets: &[Packet],
) -> Result<Ruleset, Box<Wrong>> {
    let mut steady = Vec::new();
    {
        let (from, to) = (State::new(from), State::new(to));
        for packet in packets {
            let before = verdict(&from, packet);
            if before == verdict(&to, packet) {
                steady.push((packet, before));
            }
        }
    }
    let mut state = from.clone();
    for transaction in transactions {
        let mut next = state.clone();
        if let Err(error) = apply(&mut next, transaction) {
            panic!("{error}: {transaction:#?}");
        }
        let (old, new) = (State::new(&state), State::new(&next));
        let again = created_again(transaction, &state);
        for (packet, accepted) in &steady {
            let expected = if *accepted { ACCEPT } else { DROP };
            if outcomes(&old, &new, &again, packet) != expected {
                return Err(Box::new(Wrong {
                    packet: (*packet).clone(),
                    transaction: transaction.clone(),
                    lost: *accepted,
                }));
            }
        }
        state = next;
    }
    Ok(state)
}

/// What the transaction deletes and creates again.
fn created_again<'a>(
    transaction: &'a Transaction,
    before: &'a Ruleset,
) -> BTreeSet<(TableFamily, &'a str)> {
    let operations = || transaction.operations.iter();
    let created: BTreeSet<_> = operations()
        .filter_map(|operation| match &operation.action {
            Action::AddSet { set, .. } => Some((operation.family, set.as_str())),
            Action::AddMap { map, .. } => Some((operation.family, map.as_str())),
            Action::AddChain { chain, .. } => Some((operation.family, chain.as_str())),
            _ => None,
        })
        .collect();
    let there = before.tables.iter().flat_map(|table| {
        let chains = table.chains.iter().map(|chain| &chain.name);
        let names = chains.chain(table.sets.keys()).chain(table.maps.keys());
        names.map(|name| (table.family, name.as_str()))
    });
    there.filter(|object| created.contains(object)).collect()
}

/// The ruleset with its chains by name: their order is of no account.
pub(crate) fn sorted(mut ruleset: Ruleset) -> Ruleset {
    for table in &mut ruleset.tables {
        table.chains.sort_by(|one, other| one.name.cmp(&other.name));
    }
    ruleset
}
