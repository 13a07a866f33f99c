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
use policy_compiler::model::{Family, PortRange, Protocol};
use policy_compiler::ruleset::{
    Chain, Field, Hook, Mask, Match, Operand, Rule, Ruleset, Set, Statement, Table, TableFamily,
    Value, Verdict, VerdictMap,
};

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
    pub(crate) icmpv6: (u32, u32),
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
}

/// A ruleset that is quick to ask.
pub(crate) struct State<'a>(BTreeMap<TableFamily, Index<'a>>);

impl<'a> State<'a> {
    pub(crate) fn new(ruleset: &'a Ruleset) -> Self {
        let index = |table: &'a Table| {
            let chains = table
                .chains
                .iter()
                .map(|chain| (chain.name.as_str(), chain));
            let chains = chains.collect();
            (table.family, Index { table, chains })
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
    // The possible verdicts of each base chain in order, by the old and by the new rules.
    let mut chains: Vec<[u8; 2]> = Vec::new();
    for (family, hook) in hooks {
        let states = [old, new].map(|state| state.0.get(family));
        for name in base_chains(states, *hook) {
            let flight = Flight {
                family: *family,
                states,
                again,
                packet,
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
    packet: &'p Packet,
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
        let maps = maps.map(|state| state.and_then(|index| index.table.maps.get(map)));
        let found = maps.map(|map: Option<&VerdictMap>| {
            let element = map.and_then(|map| map.elements.get(&key));
            element.map(|element| &element.verdict)
        });
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
        let Some(key) = self.key(&matches.key) else {
            // The packet has no such field; what depends on it does not match, negated or not.
            return [false, true];
        };
        let found: Vec<bool> = match &matches.operand {
            Operand::Set(name) => {
                let sets = self.states.iter();
                let sets = sets.map(|state| state.and_then(|i| i.table.sets.get(name)));
                let found = sets.map(|set| set.is_some_and(|set| contains(set, &key)));
                found.chain(self.is_again(name).then_some(false)).collect()
            }
            Operand::Values(values) => {
                let key = masked(&key[0], matches.mask);
                vec![values.iter().any(|value| is(&key, value))]
            }
        };
        let is_so = |is_so: bool| {
            found
                .iter()
                .any(|found| (*found != matches.negated) == is_so)
        };
        [is_so(true), is_so(false)]
    }

    fn key(&self, fields: &[Field]) -> Option<Vec<Value>> {
        fields.iter().map(|field| self.field(*field)).collect()
    }

    fn field(&self, field: Field) -> Option<Value> {
        let packet = self.packet;
        let family = Family::of(packet.source);
        let four = family == Family::Ipv4;
        let symbol = |yes: bool, one, other| Some(Value::Symbol(if yes { one } else { other }));
        let (protocol, port) = match packet.transport {
            Transport::Port(protocol, port) => (Some(protocol), port),
            Transport::Icmp => (None, ICMP_CHECKSUM),
        };
        let port = Value::Ports(PortRange::single(port));
        let icmpv6 = |number| (!four && protocol.is_none()).then_some(Value::Number(number));
        match field {
            Field::Ipv4Source => four.then_some(Value::Address(packet.source)),
            Field::Ipv4Destination => four.then_some(Value::Address(packet.destination)),
            Field::Ipv6Source => (!four).then_some(Value::Address(packet.source)),
            Field::Ipv6Destination => (!four).then_some(Value::Address(packet.destination)),
            Field::Ipv6HopLimit => (!four).then_some(Value::Number(packet.icmpv6.1)),
            Field::TransportProtocol => {
                Some(protocol.map_or(Value::Symbol("icmp"), Value::Protocol))
            }
            Field::TransportDestinationPort => Some(port),
            Field::DestinationPort(required) => (protocol == Some(required)).then_some(port),
            Field::TcpFlags => {
                let tcp = (protocol == Some(Protocol::Tcp)).then_some(());
                tcp.and_then(|()| symbol(packet.bare_syn, "syn", "ack"))
            }
            Field::Icmpv6Type => icmpv6(packet.icmpv6.0),
            Field::ConnectionState => Some(Value::Symbol("new")),
            Field::ConnectionMark => Some(Value::Number(0)),
            Field::ConnectionStatus => symbol(packet.dnat, "dnat", "none"),
            Field::SourceAddressType => symbol(packet.path == Path::FromHost, "local", "unicast"),
            Field::DestinationAddressType => Some(Value::Symbol("unicast")),
            Field::ReturnRoute => symbol(packet.return_route, "exists", "missing"),
            Field::PacketType => Some(Value::Symbol("unicast")),
            Field::InputInterface => Some(Value::Interface(packet.input.clone())),
            Field::OutputInterface => Some(Value::Interface(packet.output.clone())),
            Field::EtherType => symbol(four, "ip", "ip6"),
            // The first packet of a connection is what it was.
            Field::ConnectionDirection => Some(Value::Symbol("original")),
            Field::OriginalIpv4Source => self.field(Field::Ipv4Source),
            Field::OriginalIpv4Destination => self.field(Field::Ipv4Destination),
            Field::OriginalIpv6Source => self.field(Field::Ipv6Source),
            Field::OriginalIpv6Destination => self.field(Field::Ipv6Destination),
            Field::ArpSource => None,
        }
    }
}

fn masked(value: &Value, mask: Option<Mask>) -> Value {
    match (value, mask) {
        (Value::Number(number), Some(Mask::Bits(bits))) => Value::Number(number & bits),
        _ => value.clone(),
    }
}

fn contains(set: &Set, key: &[Value]) -> bool {
    if !set.interval {
        return set.elements.contains(key);
    }
    let mut elements = set.elements.iter();
    elements.any(|element| key.iter().zip(element).all(|(part, value)| is(part, value)))
}

fn is(part: &Value, value: &Value) -> bool {
    match (part, value) {
        (Value::Address(address), Value::Addresses(range)) => {
            Family::of(*address) == Family::of(range.first())
                && (range.first()..=range.last()).contains(address)
        }
        (Value::Address(address), Value::Network(network)) => network.contains(*address),
        (Value::Ports(port), Value::Ports(range)) => range.contains(port.first()),
        _ => part == value,
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
