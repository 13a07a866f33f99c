//! Rules to expressions, as nft 1.0.6 does it (nftables' `src/netlink_linearize.c`, and `src/payload.c` for what it adds
//! of its own accord: a field of a header is only looked at where that header is).

use policy_compiler::ruleset::{
    Field, Mask, Match, Operand, Reject, Rule, Statement, TableFamily, Value,
};

use super::constants::{expr, family, meta};
use super::expression::{Comparison, Expression, Load, SetName};
use super::field::{self, Network};
use super::types::Type;

/// `NFT_REG_1`; each of the first four is 16 bytes.
const FIRST: u32 = 1;
/// `NFT_REG32_00`; each is 4 bytes of the same memory.
const FIRST_SMALL: u32 = 8;
/// `NFT_DATA_VALUE_MAXLEN`, and all the memory of the registers.
const ROOM: usize = 64;

/// `ARPHRD_ETHER`
pub(crate) const ETHERNET: u16 = 1;

/// A set without a name that belongs to one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AnonymousSet {
    /// Of which its elements are values.
    pub(crate) field: Field,
    /// Whether elements are ranges.
    pub(crate) interval: bool,
    /// First and last value of each, ordered; ranges do not touch.
    pub(crate) ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A rule's expressions, with the sets that they refer to by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Linear {
    /// In order.
    pub(crate) expressions: Vec<Expression>,
    /// Numbered in order, from the number that was given.
    pub(crate) sets: Vec<AnonymousSet>,
}

/// Why a rule has no expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// No field, or more than the registers hold.
    #[error("its key does not fit the registers")]
    Key,
    /// An empty list, or a value of another type than the field.
    #[error("a value is not of its field's type")]
    Value,
    /// A mask on something else than one number.
    #[error("a mask is not for its field")]
    Mask,
    /// A field of one protocol after a field of another, or one that the table's family has not.
    #[error("a field is of another protocol than the packet")]
    Protocol,
}

/// The rule's expressions; sets are numbered from `first_set`.
pub(crate) fn linearize(
    rule: &Rule,
    family: TableFamily,
    first_set: u32,
) -> Result<Linear, RuleError> {
    let mut state = State {
        family,
        first_set,
        linear: Linear::default(),
        has_frame: false,
        network: None,
        transport: None,
    };
    for matches in &rule.matches {
        state.comparison(matches)?;
    }
    if rule.counter {
        state.push(Expression::Counter);
    }
    if let Some(name) = &rule.named_counter {
        state.push(Expression::NamedCounter(name.clone()));
    }
    if let Some(log) = &rule.log {
        state.push(Expression::Log {
            group: log.group,
            prefix: log.prefix.clone(),
            snaplen: log.snaplen,
        });
    }
    match &rule.statement {
        Statement::Verdict(verdict) => state.push(Expression::Immediate(verdict.clone())),
        Statement::Reject(reject) => state.push(of_reject(*reject)),
        Statement::Lookup { key, map } => {
            state.load(key)?;
            state.push(Expression::VerdictMap {
                register: FIRST,
                map: map.clone(),
            });
        }
    }
    Ok(state.linear)
}

/// `reject with icmpx admin-prohibited`
pub(crate) fn of_reject(reject: Reject) -> Expression {
    let (kind, code) = match reject {
        Reject::AdminProhibited => (expr::REJECT_ICMPX, expr::REJECT_ADMIN_PROHIBITED),
        Reject::TcpReset => (expr::REJECT_TCP_RESET, 0),
    };
    Expression::Reject { kind, code }
}

/// What is known of the packet where the next expression stands.
struct State {
    family: TableFamily,
    first_set: u32,
    linear: Linear,
    /// Whether it is in an Ethernet frame, where not all are.
    has_frame: bool,
    network: Option<Network>,
    transport: Option<u8>,
}

impl State {
    fn push(&mut self, expression: Expression) {
        self.linear.expressions.push(expression);
    }

    fn equal(&mut self, what: Load, data: Vec<u8>) {
        self.push(Expression::Load {
            what,
            register: FIRST,
        });
        self.compare(Comparison::Equal, data);
    }

    fn compare(&mut self, operator: Comparison, data: Vec<u8>) {
        self.push(Expression::Compare {
            register: FIRST,
            operator,
            data,
        });
    }

    /// Makes sure that the field's headers are there.
    fn require(&mut self, field: Field) -> Result<(), RuleError> {
        if field == Field::EtherType && self.family != TableFamily::Bridge && !self.has_frame {
            // meta iiftype ether
            self.equal(Load::Meta(meta::IIFTYPE), ETHERNET.to_ne_bytes().to_vec());
            self.has_frame = true;
        }
        let transport = field::transport(field);
        if let Some(network) = field::network(field) {
            match self.network {
                Some(known) if known != network => return Err(RuleError::Protocol),
                Some(_) => {}
                None => self.require_network(network, transport.is_some())?,
            }
        }
        match (transport, self.transport) {
            (Some(needed), None) => {
                // meta l4proto tcp
                self.equal(Load::Meta(meta::L4PROTO), vec![needed]);
                self.transport = transport;
                Ok(())
            }
            (Some(needed), Some(known)) if needed != known => Err(RuleError::Protocol),
            _ => Ok(()),
        }
    }

    fn require_network(&mut self, network: Network, by_frame: bool) -> Result<(), RuleError> {
        let ether_type = ether_type(network);
        match (self.family, network) {
            // meta nfproto ipv4
            (TableFamily::Inet, Network::Ipv4) => {
                self.equal(Load::Meta(meta::NFPROTO), vec![family::IPV4]);
            }
            (TableFamily::Inet, Network::Ipv6) => {
                self.equal(Load::Meta(meta::NFPROTO), vec![family::IPV6]);
            }
            (TableFamily::Inet, Network::Arp) => return Err(RuleError::Protocol),
            // ether type arp
            (TableFamily::Bridge, _) if by_frame || network == Network::Arp => {
                self.equal(field::load(Field::EtherType), ether_type);
            }
            // meta protocol ip
            (TableFamily::Bridge | TableFamily::Netdev, _) => {
                self.equal(Load::Meta(meta::PROTOCOL), ether_type)
            }
        }
        self.network = Some(network);
        Ok(())
    }

    /// Loads the fields side by side, the first into the first register.
    fn load(&mut self, key: &[Field]) -> Result<(), RuleError> {
        for field in key {
            self.require(*field)?;
        }
        let mut at = 0;
        for field in key {
            let what = field::load(*field);
            self.push(Expression::Load {
                what,
                register: register(at),
            });
            at += field::data_type(*field).length().next_multiple_of(4);
        }
        match at {
            1..=ROOM => Ok(()),
            _ => Err(RuleError::Key),
        }
    }

    fn comparison(&mut self, matches: &Match) -> Result<(), RuleError> {
        if let Operand::Set(name) = &matches.operand {
            if matches.mask.is_some() {
                return Err(RuleError::Mask);
            }
            self.load(&matches.key)?;
            self.push(Expression::Lookup {
                register: FIRST,
                set: SetName::Named(name.clone()),
                inverted: matches.negated,
            });
            return Ok(());
        }
        let (&[field], Operand::Values(values)) = (matches.key.as_slice(), &matches.operand) else {
            return Err(RuleError::Key);
        };
        let of = field::data_type(field);
        let values: Vec<_> = values.iter().collect();
        match (values.as_slice(), matches.mask) {
            ([], _) => Err(RuleError::Value),
            (values, None) if of.is_flags() => self.flags(field, values, matches.negated),
            // A single flag of TCP is a test of a bit too; several are a set.
            ([_], None) if of == Type::TcpFlags => self.flags(field, &values, matches.negated),
            ([value], None) => self.single(field, value, matches.negated),
            ([value], Some(mask)) => {
                let mask = mask_bytes(of, mask).ok_or(RuleError::Mask)?;
                let (data, _) = of.range(value).ok_or(RuleError::Value)?;
                self.load(&[field])?;
                self.masked(mask, data, matches.negated);
                Ok(())
            }
            (_, Some(_)) => Err(RuleError::Mask),
            (values, None) => self.anonymous(field, values, matches.negated),
        }
    }

    /// `ct state established,related`: any of the bits; negated: another number than all of them.
    fn flags(&mut self, field: Field, values: &[&Value], negated: bool) -> Result<(), RuleError> {
        let of = field::data_type(field);
        let mut bits = 0;
        for value in values {
            let (data, _) = of.range(value).ok_or(RuleError::Value)?;
            bits |= of.as_number(&data).ok_or(RuleError::Value)?;
        }
        let data = of.number(bits).ok_or(RuleError::Value)?;
        self.load(&[field])?;
        if negated {
            self.compare(Comparison::NotEqual, data);
        } else {
            let zero = vec![0; data.len()];
            self.masked(data, zero, true);
        }
        Ok(())
    }

    fn masked(&mut self, mask: Vec<u8>, data: Vec<u8>, negated: bool) {
        self.push(Expression::Mask {
            register: FIRST,
            mask,
        });
        self.compare(equality(negated), data);
    }

    fn single(&mut self, field: Field, value: &Value, negated: bool) -> Result<(), RuleError> {
        let (first, last) = field::data_type(field)
            .range(value)
            .ok_or(RuleError::Value)?;
        if first == last {
            self.load(&[field])?;
            if !negated {
                self.learn(field, &first);
            }
            self.compare(equality(negated), first);
            return Ok(());
        }
        if let Some(bits) = prefix(&first, &last) {
            return self.network_of(field, first, bits, negated);
        }
        self.load(&[field])?;
        if negated {
            self.push(Expression::Range {
                register: FIRST,
                outside: true,
                first,
                last,
            });
        } else {
            self.compare(Comparison::AtLeast, first);
            self.compare(Comparison::AtMost, last);
        }
        Ok(())
    }

    /// A network: only its bytes are loaded if its length is a number of bytes, else the others are masked.
    fn network_of(
        &mut self,
        field: Field,
        mut first: Vec<u8>,
        bits: usize,
        negated: bool,
    ) -> Result<(), RuleError> {
        self.load(&[field])?;
        if bits == 0 || !bits.is_multiple_of(8) {
            let mask = (0..first.len()).map(|byte| byte_mask(bits, byte)).collect();
            self.masked(mask, first, negated);
            return Ok(());
        }
        first.truncate(bits / 8);
        if let Some(Expression::Load {
            what: Load::Payload { length, .. },
            ..
        }) = self.linear.expressions.last_mut()
        {
            // At most 16.
            *length = first.len() as u32;
        }
        self.compare(equality(negated), first);
        Ok(())
    }

    /// `tcp dport { 80, 443 }`
    fn anonymous(
        &mut self,
        field: Field,
        values: &[&Value],
        negated: bool,
    ) -> Result<(), RuleError> {
        let of = field::data_type(field);
        if of == Type::Presence {
            return Err(RuleError::Value);
        }
        let ranges: Option<Vec<_>> = values.iter().map(|value| of.range(value)).collect();
        let ranges = ranges.ok_or(RuleError::Value)?;
        let interval = ranges.iter().any(|(first, last)| first != last);
        let set = AnonymousSet {
            field,
            interval,
            ranges: normal(ranges, interval),
        };
        self.load(&[field])?;
        // A rule has few sets.
        let number = self.first_set + self.linear.sets.len() as u32;
        self.linear.sets.push(set);
        self.push(Expression::Lookup {
            register: FIRST,
            set: SetName::Numbered(number),
            inverted: negated,
        });
        Ok(())
    }

    /// What an explicit comparison says of the headers that follow.
    fn learn(&mut self, field: Field, data: &[u8]) {
        match field {
            Field::TransportProtocol => self.transport = data.first().copied(),
            Field::EtherType => {
                let all = [Network::Ipv4, Network::Ipv6, Network::Arp];
                self.network = all.into_iter().find(|known| ether_type(*known) == data);
            }
            _ => {}
        }
    }
}

/// `ETH_P_*` in network order.
pub(crate) fn ether_type(network: Network) -> Vec<u8> {
    match network {
        Network::Ipv4 => vec![0x08, 0x00],
        Network::Ipv6 => vec![0x86, 0xdd],
        Network::Arp => vec![0x08, 0x06],
    }
}

fn equality(negated: bool) -> Comparison {
    match negated {
        true => Comparison::NotEqual,
        false => Comparison::Equal,
    }
}

/// The register at a byte of the registers' memory.
pub(crate) fn register(at: usize) -> u32 {
    // At most 64 bytes are addressed.
    let word = (at / 4) as u32;
    match word % 4 {
        0 => FIRST + word / 4,
        _ => FIRST_SMALL + word,
    }
}

/// Number of leading bits that all values of the range share, if it is a network.
pub(crate) fn prefix(first: &[u8], last: &[u8]) -> Option<usize> {
    // Only addresses are written as networks.
    if !matches!(first.len(), 4 | 16) {
        return None;
    }
    let differ = |byte: usize| first[byte] ^ last[byte];
    let bits = (0..8 * first.len())
        .find(|bit| differ(bit / 8) & (0x80 >> (bit % 8)) != 0)
        .unwrap_or(8 * first.len());
    let is_network = (0..first.len()).all(|byte| {
        let mask = byte_mask(bits, byte);
        first[byte] & !mask == 0 && last[byte] | mask == 0xff
    });
    is_network.then_some(bits)
}

/// A byte of the mask of this many bits.
pub(crate) fn byte_mask(bits: usize, byte: usize) -> u8 {
    match bits.saturating_sub(8 * byte) {
        0 => 0,
        some @ 1..8 => 0xff << (8 - some),
        _ => 0xff,
    }
}

fn mask_bytes(of: Type, mask: Mask) -> Option<Vec<u8>> {
    let bits = match mask {
        Mask::Bits(bits) => bits,
        Mask::Flags(flags) => {
            let named = |flag: &&str| of.names().iter().find(|(name, _)| name == flag);
            let bits: Option<Vec<_>> = flags
                .iter()
                .map(|flag| named(flag).map(|(_, bit)| *bit))
                .collect();
            bits?.into_iter().fold(0, |all, bit| all | bit)
        }
    };
    of.number(bits)
}

/// Ordered; what touches is merged, as nft does in a set without a name.
fn normal(mut ranges: Vec<(Vec<u8>, Vec<u8>)>, interval: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    ranges.sort();
    ranges.dedup();
    if !interval {
        return ranges;
    }
    let mut merged: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if after(end).is_none_or(|after| first <= after) => {
                if last > *end {
                    *end = last;
                }
            }
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// The next value in network order, unless this is the last.
pub(crate) fn after(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    for byte in next.iter_mut().rev() {
        let (sum, carried) = byte.overflowing_add(1);
        *byte = sum;
        if !carried {
            return Some(next);
        }
    }
    None
}
