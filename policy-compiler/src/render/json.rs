//! nft's JSON, for `nft -j -f`.
//!
//! Rules go through the types of the crate `nftables`. It cannot declare a verdict map, writes some verdicts
//! wrongly inside one, and its flags have no order (0.6.3), so sets and maps are written here.

use nftables::expr::{
    CT, CTDir, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload,
    PayloadField, Prefix, Range, SetItem,
};
use nftables::schema;
use nftables::stmt;
use nftables::stmt::RejectType;
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook, RejectCode};
use serde_json::{Value as Json, json as object};

use super::text::{is_flags, type_name};
use crate::ruleset::{
    Chain, Field, Hook, KeyType, Mask, Match, Operand, Reject, Rule, Ruleset, Set, Statement,
    TABLE, Table, TableFamily, Value, Verdict, VerdictMap,
};

/// The ruleset as one document for `nft -j -f`, for a kernel without our tables.
///
/// # Errors
/// None that a ruleset can cause; the crate's types are serialised.
pub fn json(ruleset: &Ruleset) -> Result<Json, serde_json::Error> {
    let mut commands = Vec::new();
    for table in &ruleset.tables {
        add_table(&mut commands, table)?;
    }
    let commands: Vec<_> = commands
        .into_iter()
        .map(|new| object!({ "add": new }))
        .collect();
    Ok(object!({ "nftables": commands }))
}

fn add_table(commands: &mut Vec<Json>, table: &Table) -> Result<(), serde_json::Error> {
    let family = family(table.family);
    let mut add = |new: schema::NfListObject<'_>| {
        commands.push(serde_json::to_value(new)?);
        Ok::<_, serde_json::Error>(())
    };
    add(schema::NfListObject::Table(schema::Table {
        family,
        name: TABLE.into(),
        handle: None,
    }))?;
    // Chains before what jumps to them, sets before what looks into them, counters before what counts in them.
    for chain in &table.chains {
        add(schema::NfListObject::Chain(new_chain(family, chain)))?;
    }
    for name in &table.counters {
        // The crate writes a count that is not there as null, which nft refuses.
        add(schema::NfListObject::Counter(schema::Counter {
            family,
            table: TABLE.into(),
            name: name.into(),
            packets: Some(0),
            bytes: Some(0),
            ..schema::Counter::default()
        }))?;
    }
    for (name, set) in &table.sets {
        commands.push(object!({ "set": new_set(family, name, set) }));
    }
    for (name, map) in &table.maps {
        commands.push(object!({ "map": new_map(family, name, map) }));
    }
    for chain in &table.chains {
        for rule in &chain.rules {
            let rule = schema::NfListObject::Rule(new_rule(family, &chain.name, rule));
            let mut rule = serde_json::to_value(rule)?;
            sort_flags(&mut rule);
            commands.push(rule);
        }
    }
    Ok(())
}

/// The crate keeps flags in a hash set, whose order changes from run to run.
fn sort_flags(value: &mut Json) {
    match value {
        Json::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Json::Array(flags) if name == "flags" => {
                        flags.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
                    }
                    field => sort_flags(field),
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(sort_flags),
        _ => {}
    }
}

fn family(family: TableFamily) -> NfFamily {
    match family {
        TableFamily::Inet => NfFamily::INet,
        TableFamily::Bridge => NfFamily::Bridge,
        TableFamily::Netdev => NfFamily::NetDev,
    }
}

fn new_chain(family: NfFamily, chain: &Chain) -> schema::Chain<'static> {
    let base = chain.base.as_ref();
    schema::Chain {
        family,
        table: TABLE.into(),
        name: chain.name.clone().into(),
        _type: base.map(|_| NfChainType::Filter),
        hook: base.map(|base| match base.hook {
            Hook::Prerouting => NfHook::Prerouting,
            Hook::Input => NfHook::Input,
            Hook::Forward => NfHook::Forward,
            Hook::Output => NfHook::Output,
            Hook::Postrouting => NfHook::Postrouting,
            Hook::Ingress => NfHook::Ingress,
        }),
        prio: base.map(|base| base.priority),
        dev: base.and_then(|base| Some(base.device.as_ref()?.to_string().into())),
        policy: base.map(|_| NfChainPolicy::Accept),
        ..schema::Chain::default()
    }
}

fn new_set(family: NfFamily, name: &str, set: &Set) -> Json {
    let mut new = object!({
        "family": family,
        "table": TABLE,
        "name": name,
        "type": key_type(&set.key),
        "comment": set.comment,
    });
    if set.interval {
        new["flags"] = object!(["interval"]);
    }
    if !set.elements.is_empty() {
        new["elem"] = set.elements.iter().map(|element| key(element)).collect();
    }
    new
}

fn new_map(family: NfFamily, name: &str, map: &VerdictMap) -> Json {
    let mut new = object!({
        "family": family,
        "table": TABLE,
        "name": name,
        "type": key_type(&map.key),
        "map": "verdict",
        "comment": map.comment,
    });
    if !map.elements.is_empty() {
        new["elem"] = map
            .elements
            .iter()
            .map(|(parts, element)| {
                let with_comment = object!({ "val": key(parts), "comment": element.comment });
                object!([{ "elem": with_comment }, verdict_json(&element.verdict)])
            })
            .collect();
    }
    new
}

fn key_type(key: &[KeyType]) -> Json {
    match key {
        [one] => object!(type_name(*one)),
        parts => parts.iter().map(|part| type_name(*part)).collect(),
    }
}

fn key(parts: &[Value]) -> Json {
    let mut values = parts.iter().map(|part| object!(value(part)));
    match parts {
        [_] => values.next().unwrap_or_default(),
        _ => object!({ "concat": values.collect::<Vec<_>>() }),
    }
}

fn verdict_json(verdict: &Verdict) -> Json {
    match verdict {
        Verdict::Accept => object!({ "accept": null }),
        Verdict::Drop => object!({ "drop": null }),
        Verdict::Return => object!({ "return": null }),
        Verdict::Jump(target) => object!({ "jump": { "target": target } }),
        Verdict::Goto(target) => object!({ "goto": { "target": target } }),
    }
}

fn new_rule(family: NfFamily, chain: &str, rule: &Rule) -> schema::Rule<'static> {
    let mut statements: Vec<_> = rule.matches.iter().map(comparison).collect();
    if rule.counter {
        statements.push(stmt::Statement::Counter(stmt::Counter::Anonymous(None)));
    }
    if let Some(name) = &rule.named_counter {
        let named = stmt::Counter::Named(name.clone().into());
        statements.push(stmt::Statement::Counter(named));
    }
    if let Some(log) = &rule.log {
        statements.push(stmt::Statement::Log(Some(stmt::Log {
            prefix: Some(log.prefix.clone().into()),
            group: Some(log.group.into()),
            snaplen: (log.snaplen > 0).then_some(log.snaplen),
            queue_threshold: None,
            level: None,
            flags: None,
        })));
    }
    statements.push(match &rule.statement {
        Statement::Verdict(Verdict::Accept) => stmt::Statement::Accept(None),
        Statement::Verdict(Verdict::Drop) => stmt::Statement::Drop(None),
        Statement::Verdict(Verdict::Return) => stmt::Statement::Return(None),
        Statement::Verdict(Verdict::Jump(target)) => stmt::Statement::Jump(stmt::JumpTarget {
            target: target.clone().into(),
        }),
        Statement::Verdict(Verdict::Goto(target)) => stmt::Statement::Goto(stmt::JumpTarget {
            target: target.clone().into(),
        }),
        Statement::Reject(Reject::AdminProhibited) => {
            let (kind, code) = (RejectType::ICMPX, RejectCode::AdminProhibited);
            stmt::Statement::Reject(Some(stmt::Reject::new(Some(kind), Some(code))))
        }
        Statement::Reject(Reject::TcpReset) => {
            let reset = stmt::Reject::new(Some(RejectType::TCPReset), None);
            stmt::Statement::Reject(Some(reset))
        }
        Statement::Lookup { key, map } => stmt::Statement::VerdictMap(stmt::VerdictMap {
            key: fields(key),
            data: Expression::String(format!("@{map}").into()),
        }),
    });
    schema::Rule {
        family,
        table: TABLE.into(),
        chain: chain.to_owned().into(),
        expr: statements.into(),
        comment: rule.comment.clone().map(Into::into),
        ..schema::Rule::default()
    }
}

fn comparison(matches: &Match) -> stmt::Statement<'static> {
    let left = match matches.mask {
        None => fields(&matches.key),
        Some(mask) => {
            let mask = match mask {
                Mask::Bits(bits) => Expression::Number(bits),
                Mask::Flags(flags) => {
                    Expression::List(flags.iter().map(|flag| symbol(flag)).collect())
                }
            };
            let masked = nftables::expr::BinaryOperation::AND(fields(&matches.key), mask);
            Expression::BinaryOperation(Box::new(masked))
        }
    };
    let right = match &matches.operand {
        Operand::Set(name) => Expression::String(format!("@{name}").into()),
        Operand::Values(values) => {
            let mut values: Vec<_> = values.iter().map(value).collect();
            match values.len() {
                1 => values.remove(0),
                _ if is_flags(&matches.key) => Expression::List(values),
                _ => Expression::Named(NamedExpression::Set(
                    values.into_iter().map(SetItem::Element).collect(),
                )),
            }
        }
    };
    let op = match matches.negated {
        true => stmt::Operator::NEQ,
        // "in" tests whether any of the bits is set, "==" the whole field.
        false if is_flags(&matches.key) => stmt::Operator::IN,
        false if matches.key == [Field::TcpFlags] && matches.mask.is_none() => stmt::Operator::IN,
        false => stmt::Operator::EQ,
    };
    stmt::Statement::Match(stmt::Match { left, right, op })
}

fn fields(key: &[Field]) -> Expression<'static> {
    let mut fields: Vec<_> = key.iter().map(|part| field(*part)).collect();
    match fields.len() {
        1 => fields.remove(0),
        _ => Expression::Named(NamedExpression::Concat(fields)),
    }
}

fn field(field: Field) -> Expression<'static> {
    let payload = |protocol: &'static str, name: &'static str| {
        NamedExpression::Payload(Payload::PayloadField(PayloadField {
            protocol: protocol.into(),
            field: name.into(),
        }))
    };
    let meta = |key| NamedExpression::Meta(Meta { key });
    let fib = |result, flags: &[FibFlag]| {
        NamedExpression::Fib(Fib {
            result,
            flags: flags.iter().copied().collect(),
        })
    };
    let conntrack = |key: &'static str| {
        NamedExpression::CT(CT {
            key: key.into(),
            family: None,
            dir: None,
        })
    };
    let original = |key: &'static str| {
        NamedExpression::CT(CT {
            key: key.into(),
            family: None,
            dir: Some(CTDir::Original),
        })
    };
    Expression::Named(match field {
        Field::Ipv4Source => payload("ip", "saddr"),
        Field::Ipv4Destination => payload("ip", "daddr"),
        Field::Ipv6Source => payload("ip6", "saddr"),
        Field::Ipv6Destination => payload("ip6", "daddr"),
        Field::Ipv6HopLimit => payload("ip6", "hoplimit"),
        Field::TransportProtocol => meta(MetaKey::L4proto),
        Field::TransportDestinationPort => payload("th", "dport"),
        Field::DestinationPort(protocol) => payload(protocol.nft_name(), "dport"),
        Field::TcpFlags => payload("tcp", "flags"),
        Field::Icmpv6Type => payload("icmpv6", "type"),
        Field::ConnectionState => conntrack("state"),
        Field::ConnectionMark => conntrack("mark"),
        Field::ConnectionStatus => conntrack("status"),
        Field::SourceAddressType => fib(FibResult::Type, &[FibFlag::Saddr]),
        Field::DestinationAddressType => fib(FibResult::Type, &[FibFlag::Daddr]),
        Field::ReturnRoute => fib(FibResult::Oif, &[FibFlag::Saddr, FibFlag::Iif]),
        Field::PacketType => meta(MetaKey::Pkttype),
        Field::InputInterface => meta(MetaKey::Iifname),
        Field::OutputInterface => meta(MetaKey::Oifname),
        Field::InputInterfaceGroup => meta(MetaKey::Iifgroup),
        Field::OutputInterfaceGroup => meta(MetaKey::Oifgroup),
        Field::EtherType => payload("ether", "type"),
        Field::ArpSource => payload("arp", "saddr ip"),
        Field::ConnectionDirection => conntrack("direction"),
        Field::OriginalIpv4Source => original("ip saddr"),
        Field::OriginalIpv4Destination => original("ip daddr"),
        Field::OriginalIpv6Source => original("ip6 saddr"),
        Field::OriginalIpv6Destination => original("ip6 daddr"),
    })
}

fn value(value: &Value) -> Expression<'static> {
    let address = |address: std::net::IpAddr| Expression::String(address.to_string().into());
    let network = |network: crate::model::Cidr| {
        Expression::Named(NamedExpression::Prefix(Prefix {
            addr: Box::new(address(network.first())),
            len: network.net().prefix_len().into(),
        }))
    };
    let range = |first, last| {
        Expression::Range(Box::new(Range {
            range: [first, last],
        }))
    };
    match value {
        Value::Address(given) => address(*given),
        Value::Network(given) => network(*given),
        Value::Addresses(given) if given.first() == given.last() => address(given.first()),
        Value::Addresses(given) => match given.as_cidr() {
            Some(cidr) => network(cidr),
            None => range(address(given.first()), address(given.last())),
        },
        Value::Protocol(protocol) => symbol(protocol.nft_name()),
        Value::Ports(ports) if ports.first() == ports.last() => {
            Expression::Number(ports.first().into())
        }
        Value::Ports(ports) => range(
            Expression::Number(ports.first().into()),
            Expression::Number(ports.last().into()),
        ),
        Value::Number(number) => Expression::Number(*number),
        Value::Symbol("exists") => Expression::Boolean(true),
        Value::Symbol("missing") => Expression::Boolean(false),
        Value::Symbol(name) => symbol(name),
        Value::Interface(name) => Expression::String(name.clone().into()),
    }
}

fn symbol(name: &'static str) -> Expression<'static> {
    Expression::String(name.into())
}
