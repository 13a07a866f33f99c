//! Expressions back to the rule that they are of.
//!
//! What is found is turned into expressions again, and believed only if they are the same: a rule that was read is never
//! another than the one that is in force.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::ruleset::{
    Field, Log, Mask, Match, Operand, Reject, Rule, Statement, TableFamily, Value,
};

use super::constants::{base, family, meta};
use super::expression::{Comparison, Expression, Load, SetName};
use super::field::{self, ICMPV6, Network};
use super::linearize::{AnonymousSet, ETHERNET, ether_type, linearize, of_reject};
use super::types::Type;

/// A set without a name as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundSet {
    /// nft's number of its type.
    pub(crate) type_id: u32,
    pub(crate) interval: bool,
    /// As of [`AnonymousSet`].
    pub(crate) ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

impl FoundSet {
    fn is(&self, set: &AnonymousSet) -> bool {
        let of = field::data_type(set.field);
        of.id() == self.type_id && set.interval == self.interval && set.ranges == self.ranges
    }
}

/// Masks of flags that rules of ours have: a rule borrows their names.
const FLAG_MASKS: [&[&str]; 1] = [&["fin", "syn", "rst", "ack"]];

/// The rule of these expressions, if it is one of ours.
pub(crate) fn raise(
    expressions: &[Expression],
    comment: Option<String>,
    family: TableFamily,
    sets: &BTreeMap<String, FoundSet>,
) -> Option<Rule> {
    let mut reader = Reader {
        rest: expressions,
        sets,
        network: None,
        transport: None,
        matches: Vec::new(),
    };
    let (mut counter, mut named_counter, mut log) = (false, None, None);
    let statement = loop {
        match reader.rest {
            [Expression::Counter, rest @ ..] => {
                counter = true;
                reader.rest = rest;
            }
            [Expression::NamedCounter(name), rest @ ..] => {
                named_counter = Some(name.clone());
                reader.rest = rest;
            }
            [
                Expression::Log {
                    group,
                    prefix,
                    snaplen,
                },
                rest @ ..,
            ] => {
                log = Some(Log {
                    group: *group,
                    prefix: prefix.clone(),
                    snaplen: *snaplen,
                });
                reader.rest = rest;
            }
            [reject @ Expression::Reject { .. }, rest @ ..] => {
                let all = [Reject::AdminProhibited, Reject::TcpReset];
                let of = all.into_iter().find(|known| of_reject(*known) == *reject)?;
                reader.rest = rest;
                break Statement::Reject(of);
            }
            [Expression::Immediate(verdict), rest @ ..] => {
                reader.rest = rest;
                break Statement::Verdict(verdict.clone());
            }
            _ => {
                if let Some(statement) = reader.step()? {
                    break statement;
                }
            }
        }
    };
    let rule = Rule {
        matches: reader.matches,
        counter,
        named_counter,
        log,
        statement,
        comment,
    };
    is_of(&rule, expressions, family, sets).then_some(rule)
}

/// Whether the rule's expressions are these.
fn is_of(
    rule: &Rule,
    expressions: &[Expression],
    family: TableFamily,
    sets: &BTreeMap<String, FoundSet>,
) -> bool {
    let Ok(linear) = linearize(rule, family, 0) else {
        return false;
    };
    let same = |(made, read): (&Expression, &Expression)| match (made, read) {
        (
            Expression::Lookup {
                register,
                set: SetName::Numbered(number),
                inverted,
            },
            Expression::Lookup {
                register: read_register,
                set: SetName::Named(name),
                inverted: read_inverted,
            },
        ) => {
            let made = linear.sets.get(*number as usize);
            let found = sets.get(name).zip(made);
            (register, inverted) == (read_register, read_inverted)
                && found.is_some_and(|(found, made)| found.is(made))
        }
        _ => made == read,
    };
    linear.expressions.len() == expressions.len()
        && linear.expressions.iter().zip(expressions).all(same)
}

struct Reader<'a> {
    rest: &'a [Expression],
    sets: &'a BTreeMap<String, FoundSet>,
    network: Option<Network>,
    transport: Option<u8>,
    matches: Vec<Match>,
}

impl<'a> Reader<'a> {
    /// Reads one comparison, or what stands before one, or a lookup in a map.
    fn step(&mut self) -> Option<Option<Statement>> {
        if self.dependency() {
            return Some(None);
        }
        let loads = loads(self.rest);
        let (key, rest) = self.rest.split_at(loads.len());
        let (end, mut rest) = rest.split_first()?;
        let fields =
            || -> Option<Vec<Field>> { loads.iter().map(|load| self.field(*load)).collect() };
        let mut negated = false;
        let mut mask = None;
        let values = match end {
            Expression::VerdictMap { map, .. } => {
                let key = fields()?;
                self.rest = rest;
                return Some(Some(Statement::Lookup {
                    key,
                    map: map.clone(),
                }));
            }
            Expression::Lookup {
                set: SetName::Named(name),
                inverted,
                ..
            } => {
                negated = *inverted;
                match self.sets.get(name) {
                    None => Operand::Set(name.clone()),
                    Some(set) => Operand::Values(values(&fields()?, set)?),
                }
            }
            Expression::Compare {
                operator: Comparison::AtLeast,
                data: first,
                ..
            } => {
                let (Expression::Compare { data: last, .. }, after) = rest.split_first()? else {
                    return None;
                };
                rest = after;
                let value = one_type(&fields()?)?.value(first, last, false)?;
                Operand::Values([value].into())
            }
            Expression::Range { first, last, .. } => {
                negated = true;
                let value = one_type(&fields()?)?.value(first, last, false)?;
                Operand::Values([value].into())
            }
            Expression::Compare { operator, data, .. } => {
                negated = *operator == Comparison::NotEqual;
                Operand::Values(self.compared(loads.first()?, data, negated)?)
            }
            Expression::Mask { mask: bits, .. } => {
                let (Expression::Compare { operator, data, .. }, after) = rest.split_first()?
                else {
                    return None;
                };
                rest = after;
                negated = *operator == Comparison::NotEqual;
                let of = one_type(&fields()?)?;
                let masked = masked(of, bits, data, &mut negated)?;
                mask = masked.0;
                Operand::Values(masked.1)
            }
            _ => return None,
        };
        let key = match key {
            [Expression::Load { what, .. }] => {
                vec![self.field(*what).or_else(|| self.shortened(what))?]
            }
            _ => fields()?,
        };
        if let ([field], false, Expression::Compare { data, .. }) = (key.as_slice(), negated, end) {
            self.learn(*field, data);
        }
        self.rest = rest;
        self.matches.push(Match {
            key,
            mask,
            negated,
            operand: values,
        });
        Some(None)
    }

    /// Skips what only makes sure that a header is there.
    fn dependency(&mut self) -> bool {
        let [
            Expression::Load { what, .. },
            Expression::Compare {
                operator: Comparison::Equal,
                data,
                ..
            },
            rest @ ..,
        ] = self.rest
        else {
            return false;
        };
        let with_type = || {
            let all = [Network::Ipv4, Network::Ipv6, Network::Arp];
            all.into_iter()
                .find(|network| ether_type(*network) == *data)
        };
        match *what {
            Load::Meta(meta::NFPROTO) => {
                self.network = match data.as_slice() {
                    [family::IPV4] => Some(Network::Ipv4),
                    [family::IPV6] => Some(Network::Ipv6),
                    _ => return false,
                };
            }
            Load::Meta(meta::IIFTYPE) if *data == ETHERNET.to_ne_bytes() => {}
            Load::Meta(meta::PROTOCOL) => self.network = with_type(),
            what if what == field::load(Field::EtherType) => {
                let network = with_type();
                if !needs_frame(network, rest) {
                    return false;
                }
                self.network = network;
            }
            Load::Meta(meta::L4PROTO) => {
                let known = std::mem::replace(&mut self.transport, data.first().copied());
                let above = |load: &Load| self.field(*load).and_then(field::transport).is_some();
                if !loads(rest).iter().any(above) {
                    self.transport = known;
                    return false;
                }
            }
            _ => return false,
        }
        self.rest = rest;
        true
    }

    /// The field that this loads where the packet is what is known of it.
    fn field(&self, load: Load) -> Option<Field> {
        let here = |field: &Field| {
            let network =
                field::network(*field).is_none_or(|network| self.network == Some(network));
            let transport =
                field::transport(*field).is_none_or(|transport| self.transport == Some(transport));
            field::load(*field) == load && network && transport
        };
        field::ALL.into_iter().find(here)
    }

    /// The address of which this loads the first bytes.
    fn shortened(&self, load: &Load) -> Option<Field> {
        let Load::Payload {
            base,
            offset,
            length,
        } = *load
        else {
            return None;
        };
        let whole = [4, 16].into_iter().filter(|whole| length < *whole);
        let mut fields = whole.filter_map(|length| {
            self.field(Load::Payload {
                base,
                offset,
                length,
            })
        });
        fields.find(|field| matches!(field::data_type(*field), Type::Ipv4 | Type::Ipv6))
    }

    fn compared(&self, load: &Load, data: &[u8], negated: bool) -> Option<BTreeSet<Value>> {
        let Some(field) = self.field(*load) else {
            // ip saddr 10.0.0.0/8: one byte of the address.
            let length = field::data_type(self.shortened(load)?).length();
            let (mut first, mut last) = (data.to_vec(), data.to_vec());
            first.resize(length, 0);
            last.resize(length, 0xff);
            let of = field::data_type(self.shortened(load)?);
            return of.value(&first, &last, false).map(|value| [value].into());
        };
        let of = field::data_type(field);
        if negated && of.is_flags() {
            return symbols(of, of.as_number(data)?);
        }
        of.single(data).map(|value| [value].into())
    }

    fn learn(&mut self, field: Field, data: &[u8]) {
        match field {
            Field::TransportProtocol => self.transport = data.first().copied(),
            Field::EtherType => {
                let all = [Network::Ipv4, Network::Ipv6, Network::Arp];
                self.network = all.into_iter().find(|network| ether_type(*network) == data);
            }
            _ => {}
        }
    }
}

/// What the expressions load, up to the first that is something else.
fn loads(expressions: &[Expression]) -> Vec<Load> {
    let load = |expression: &Expression| match expression {
        Expression::Load { what, .. } => Some(*what),
        _ => None,
    };
    expressions.iter().map_while(load).collect()
}

fn one_type(key: &[Field]) -> Option<Type> {
    match key {
        [field] => Some(field::data_type(*field)),
        _ => None,
    }
}

/// Whether what follows is looked at only in frames of that type, so that the comparison of the type is nft's own.
fn needs_frame(network: Option<Network>, rest: &[Expression]) -> bool {
    let icmpv6 = |load: &Load| {
        matches!(
            load,
            Load::Payload {
                base: base::TRANSPORT,
                ..
            }
        )
    };
    match (network, rest) {
        (Some(Network::Arp), rest) => loads(rest).contains(&field::load(Field::ArpSource)),
        (
            Some(Network::Ipv6),
            [
                Expression::Load {
                    what: Load::Meta(meta::L4PROTO),
                    ..
                },
                Expression::Compare { data, .. },
                rest @ ..,
            ],
        ) => *data == [ICMPV6] && loads(rest).iter().any(icmpv6),
        _ => false,
    }
}

fn values(key: &[Field], set: &FoundSet) -> Option<BTreeSet<Value>> {
    let of = one_type(key)?;
    let value = |(first, last): &(Vec<u8>, Vec<u8>)| of.value(first, last, false);
    set.ranges.iter().map(value).collect()
}

fn symbols(of: Type, bits: u32) -> Option<BTreeSet<Value>> {
    let named = of.names().iter().filter(|(_, bit)| bits & bit != 0);
    let all = named.clone().fold(0, |all, (_, bit)| all | bit);
    (all == bits).then(|| named.map(|(name, _)| Value::Symbol(name)).collect())
}

/// A test of bits, a network, or a comparison of some bits.
fn masked(
    of: Type,
    mask: &[u8],
    data: &[u8],
    negated: &mut bool,
) -> Option<(Option<Mask>, BTreeSet<Value>)> {
    let is_zero = data.iter().all(|byte| *byte == 0);
    match of {
        Type::Ipv4 | Type::Ipv6 => {
            let last: Vec<u8> = data
                .iter()
                .zip(mask)
                .map(|(bits, mask)| bits | !mask)
                .collect();
            let value = of.value(data, &last, false)?;
            Some((None, [value].into()))
        }
        _ if (of.is_flags() || of == Type::TcpFlags) && *negated && is_zero => {
            *negated = false;
            Some((None, symbols(of, of.as_number(mask)?)?))
        }
        Type::TcpFlags => {
            let bits = of.as_number(mask)?;
            let all = |names: &&[&str]| {
                let named = of.names().iter().filter(|(name, _)| names.contains(name));
                named.fold(0, |all, (_, bit)| all | bit) == bits
            };
            let flags = FLAG_MASKS.into_iter().find(all)?;
            Some((Some(Mask::Flags(flags)), [of.single(data)?].into()))
        }
        _ => Some((
            Some(Mask::Bits(of.as_number(mask)?)),
            [of.single(data)?].into(),
        )),
    }
}
