//! nft's native text, for a person and for `nft -f`.
//!
//! Nothing here is quoted by escaping, since nft's strings have no escapes: names come from
//! [`crate::name::Namer`] and comments from [`crate::name::comment`], which only make what needs none, and an
//! interface's name is refused where it enters ([`crate::lower::InterfaceName`]).

use std::fmt::{self, Write};

use crate::ruleset::{
    Base, Chain, Field, Hook, KeyType, Mask, Match, Operand, Rule, Ruleset, Set, Statement, TABLE,
    Table, TableFamily, Value, Verdict, VerdictMap,
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
    let family = match table.family {
        TableFamily::Inet => "inet",
        TableFamily::Bridge => "bridge",
    };
    writeln!(out, "table {family} {TABLE} {{")?;
    let mut separator = "";
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
        write_chain(out, chain)?;
        separator = "\n";
    }
    out.push_str("}\n");
    Ok(())
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
    let elements = map.elements.iter().map(|(key, element)| {
        format!(
            "{} comment \"{}\" : {}",
            concatenation(key),
            element.comment,
            verdict(&element.verdict)
        )
    });
    write_elements(out, elements)?;
    writeln!(out, "\t}}")
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

fn key_type(key: &[KeyType]) -> String {
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

fn concatenation(values: &[Value]) -> String {
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

fn write_chain(out: &mut String, chain: &Chain) -> fmt::Result {
    writeln!(out, "\tchain {} {{", chain.name)?;
    if let Some(Base { hook, priority }) = chain.base {
        let hook = match hook {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
        };
        writeln!(
            out,
            "\t\ttype filter hook {hook} priority {priority}; policy accept;"
        )?;
    }
    for rule in &chain.rules {
        write_rule(out, rule)?;
    }
    writeln!(out, "\t}}")
}

fn write_rule(out: &mut String, rule: &Rule) -> fmt::Result {
    out.push_str("\t\t");
    for matches in &rule.matches {
        write!(out, "{} ", comparison(matches))?;
    }
    if rule.counter {
        out.push_str("counter ");
    }
    match &rule.statement {
        Statement::Verdict(given) => out.push_str(&verdict(given)),
        Statement::Lookup { key, map } => write!(out, "{} vmap @{map}", fields(key))?,
    }
    if let Some(comment) = &rule.comment {
        write!(out, " comment \"{comment}\"")?;
    }
    out.push('\n');
    Ok(())
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
        // The states are bits of one field: `established,related` is one test, not a set.
        _ if matches.key == [Field::ConnectionState] => text.push_str(&values.join(",")),
        _ => text.push_str(&format!("{{ {} }}", values.join(", "))),
    }
    text
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
        Field::SourceAddressType => "fib saddr type",
        Field::PacketType => "meta pkttype",
        Field::InputInterface => "iifname",
        Field::EtherType => "ether type",
        Field::ArpSource => "arp saddr ip",
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
