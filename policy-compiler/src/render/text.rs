//! nft's native text, for a person and for `nft -f`.
//!
//! Nothing here is quoted by escaping, since nft's strings have no escapes: names come from
//! [`crate::name::Namer`] and comments from [`crate::name::comment`], which only make what needs none, and an
//! interface's name is refused where it enters ([`crate::model::InterfaceName`]).

use std::fmt::{self, Write};

use crate::ruleset::{
    Base, Chain, Field, Hook, KeyType, Log, MapElement, Mask, Match, Operand, Reject, Rule,
    Ruleset, Set, Statement, TABLE, Table, TableFamily, Value, Verdict, VerdictMap,
};

/// The ruleset as one file for `nft -f`, for a kernel without our tables.
pub fn text(ruleset: &Ruleset) -> String {
    let mut text = String::new();
    for (index, table) in ruleset.tables.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        // Writing to a String can not fail.
        let _ = write_table(&mut text, table);
    }
    text
}

fn write_table(out: &mut String, table: &Table) -> fmt::Result {
    writeln!(out, "table {} {TABLE} {{", family(table.family))?;
    let mut separator = "";
    for name in &table.counters {
        out.push_str(separator);
        writeln!(out, "\tcounter {name} {{\n\t}}")?;
        separator = "\n";
    }
    for (name, set) in &table.sets {
        out.push_str(separator);
        write_set(out, name, set)?;
        separator = "\n";
    }
    for (name, map) in &table.maps {
        out.push_str(separator);
        write_map(out, name, map)?;
        separator = "\n";
    }
    for chain in &table.chains {
        out.push_str(separator);
        write_chain(out, table.family, chain)?;
        separator = "\n";
    }
    out.push_str("}\n");
    Ok(())
}

/// nft's name of a family.
pub(super) fn family(family: TableFamily) -> &'static str {
    match family {
        TableFamily::Inet => "inet",
        TableFamily::Bridge => "bridge",
        TableFamily::Netdev => "netdev",
    }
}

fn write_set(out: &mut String, name: &str, set: &Set) -> fmt::Result {
    writeln!(out, "\tset {name} {{")?;
    writeln!(out, "\t\ttype {}", key_type(&set.key))?;
    if set.interval {
        writeln!(out, "\t\tflags interval")?;
    }
    writeln!(out, "\t\tcomment \"{}\"", set.comment)?;
    write_elements(
        out,
        set.elements.iter().map(|element| concatenation(element)),
    )?;
    writeln!(out, "\t}}")
}

fn write_map(out: &mut String, name: &str, map: &VerdictMap) -> fmt::Result {
    writeln!(out, "\tmap {name} {{")?;
    writeln!(out, "\t\ttype {} : verdict", key_type(&map.key))?;
    writeln!(out, "\t\tcomment \"{}\"", map.comment)?;
    let elements = map
        .elements
        .iter()
        .map(|(key, element)| map_element(key, element));
    write_elements(out, elements)?;
    writeln!(out, "\t}}")
}

/// `10.0.0.1 comment "x/a" : goto chain`
pub(super) fn map_element(key: &[Value], element: &MapElement) -> String {
    let (key, verdict) = (concatenation(key), verdict(&element.verdict));
    format!("{key} comment \"{}\" : {verdict}", element.comment)
}

/// One element a line, so that a difference shows which.
fn write_elements(out: &mut String, elements: impl Iterator<Item = String>) -> fmt::Result {
    let mut elements = elements.peekable();
    if elements.peek().is_none() {
        return Ok(());
    }
    writeln!(out, "\t\telements = {{")?;
    for element in elements {
        writeln!(out, "\t\t\t{element},")?;
    }
    writeln!(out, "\t\t}}")
}

/// nft's name of a key's type.
pub(super) fn key_type(key: &[KeyType]) -> String {
    let parts: Vec<_> = key.iter().map(|part| type_name(*part)).collect();
    parts.join(" . ")
}

/// nft's name of a type.
pub(super) fn type_name(part: KeyType) -> &'static str {
    match part {
        KeyType::Ipv4Address => "ipv4_addr",
        KeyType::Ipv6Address => "ipv6_addr",
        KeyType::Protocol => "inet_proto",
        KeyType::Port => "inet_service",
        KeyType::Interface => "ifname",
    }
}

/// A key.
pub(super) fn concatenation(values: &[Value]) -> String {
    let values: Vec<_> = values.iter().map(value).collect();
    values.join(" . ")
}

fn value(value: &Value) -> String {
    match value {
        Value::Address(address) => address.to_string(),
        Value::Network(network) => network.to_string(),
        Value::Addresses(range) => range.to_string(),
        Value::Protocol(protocol) => protocol.nft_name().to_owned(),
        Value::Ports(range) => range.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Symbol(symbol) => (*symbol).to_owned(),
        Value::Interface(name) => format!("\"{name}\""),
    }
}

fn write_chain(out: &mut String, family: TableFamily, chain: &Chain) -> fmt::Result {
    writeln!(out, "\tchain {} {{", chain.name)?;
    if let Some(base) = &chain.base {
        writeln!(out, "\t\t{}", hooked(family, base))?;
    }
    for rule in &chain.rules {
        writeln!(out, "\t\t{}", rule_text(rule))?;
    }
    writeln!(out, "\t}}")
}

/// `type filter hook forward priority filter; policy accept;`
pub(super) fn hooked(family: TableFamily, base: &Base) -> String {
    let hook = match base.hook {
        Hook::Prerouting => "prerouting",
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Output => "output",
        Hook::Postrouting => "postrouting",
        Hook::Ingress => "ingress",
    };
    let priority = priority_name(family, base.priority);
    let device = base.device.as_ref();
    let device = device.map_or(String::new(), |name| format!(" device \"{name}\""));
    format!("type filter hook {hook}{device} priority {priority}; policy accept;")
}

/// As nft lists it: relative to the nearest name that a person knows.
fn priority_name(family: TableFamily, priority: i32) -> String {
    let (name, named) = match family {
        TableFamily::Inet if priority < -200 => ("raw", -300),
        TableFamily::Inet => ("filter", 0),
        TableFamily::Bridge if priority < -250 => ("dstnat", -300),
        TableFamily::Bridge => ("filter", -200),
        TableFamily::Netdev => ("filter", 0),
    };
    match priority - named {
        0 => name.to_owned(),
        after @ 1.. => format!("{name} + {after}"),
        before => format!("{name} - {}", -before),
    }
}

/// A rule as it stands in its chain.
pub(super) fn rule_text(rule: &Rule) -> String {
    let mut parts: Vec<_> = rule.matches.iter().map(comparison).collect();
    if rule.counter {
        parts.push("counter".into());
    }
    let named = rule.named_counter.as_ref();
    parts.extend(named.map(|name| format!("counter name \"{name}\"")));
    parts.extend(rule.log.as_ref().map(log));
    parts.push(match &rule.statement {
        Statement::Verdict(given) => verdict(given),
        Statement::Reject(Reject::AdminProhibited) => "reject with icmpx admin-prohibited".into(),
        Statement::Reject(Reject::TcpReset) => "reject with tcp reset".into(),
        Statement::Lookup { key, map } => format!("{} vmap @{map}", fields(key)),
    });
    if let Some(comment) = &rule.comment {
        parts.push(format!("comment \"{comment}\""));
    }
    parts.join(" ")
}

/// `log prefix "x/a" group 7 snaplen 96`
fn log(log: &Log) -> String {
    let Log {
        group,
        prefix,
        snaplen,
    } = log;
    let mut text = format!("log prefix \"{prefix}\" group {group}");
    if *snaplen > 0 {
        text.push_str(&format!(" snaplen {snaplen}"));
    }
    text
}

fn comparison(matches: &Match) -> String {
    let mut text = fields(&matches.key);
    match matches.mask {
        Some(Mask::Bits(bits)) => text.push_str(&format!(" & {bits:#010x}")),
        Some(Mask::Flags(flags)) => text.push_str(&format!(" & ({})", flags.join(" | "))),
        None => {}
    }
    text.push(' ');
    let hexadecimal = matches!(matches.mask, Some(Mask::Bits(_)));
    if matches.negated {
        text.push_str("!= ");
    } else if matches.mask.is_some() {
        text.push_str("== ");
    }
    let values: Vec<_> = match &matches.operand {
        Operand::Set(name) => {
            text.push_str(&format!("@{name}"));
            return text;
        }
        Operand::Values(values) => values
            .iter()
            .map(|operand| match operand {
                Value::Number(number) if hexadecimal => format!("{number:#010x}"),
                other => value(other),
            })
            .collect(),
    };
    match values.as_slice() {
        [one] => text.push_str(one),
        // `established,related` is one test of bits, not a set.
        _ if is_flags(&matches.key) => text.push_str(&values.join(",")),
        _ => text.push_str(&format!("{{ {} }}", values.join(", "))),
    }
    text
}

/// Whether the key's values are bits of one field.
pub(super) fn is_flags(key: &[Field]) -> bool {
    matches!(key, [Field::ConnectionState | Field::ConnectionStatus])
}

fn fields(key: &[Field]) -> String {
    let fields: Vec<_> = key.iter().map(|part| field(*part)).collect();
    fields.join(" . ")
}

fn field(field: Field) -> String {
    match field {
        Field::Ipv4Source => "ip saddr",
        Field::Ipv4Destination => "ip daddr",
        Field::Ipv6Source => "ip6 saddr",
        Field::Ipv6Destination => "ip6 daddr",
        Field::Ipv6HopLimit => "ip6 hoplimit",
        Field::TransportProtocol => "meta l4proto",
        Field::TransportDestinationPort => "th dport",
        Field::DestinationPort(protocol) => return format!("{} dport", protocol.nft_name()),
        Field::TcpFlags => "tcp flags",
        Field::Icmpv6Type => "icmpv6 type",
        Field::ConnectionState => "ct state",
        Field::ConnectionMark => "ct mark",
        Field::ConnectionStatus => "ct status",
        Field::SourceAddressType => "fib saddr type",
        Field::DestinationAddressType => "fib daddr type",
        Field::ReturnRoute => "fib saddr . iif oif",
        Field::PacketType => "meta pkttype",
        Field::InputInterface => "iifname",
        Field::OutputInterface => "oifname",
        Field::InputInterfaceGroup => "iifgroup",
        Field::OutputInterfaceGroup => "oifgroup",
        Field::EtherType => "ether type",
        Field::ArpSource => "arp saddr ip",
        Field::ConnectionDirection => "ct direction",
        Field::OriginalIpv4Source => "ct original ip saddr",
        Field::OriginalIpv4Destination => "ct original ip daddr",
        Field::OriginalIpv6Source => "ct original ip6 saddr",
        Field::OriginalIpv6Destination => "ct original ip6 daddr",
    }
    .to_owned()
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".into(),
        Verdict::Drop => "drop".into(),
        Verdict::Return => "return".into(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}
