//! A lowered ruleset as the kernel reads it: verdict maps, class chains and their sets, packet by packet.
//!
//! Base chains and guards are not read: which map is asked comes from [`policy_compiler::ir::NodeIr::judge`].

use std::net::IpAddr;

use policy_compiler::evaluate::{Connection, Transport, Verdict};
use policy_compiler::model::{Family, Protocol};
use policy_compiler::ruleset::{
    Field, Match, Operand, Rule, Ruleset, Statement, Table, TableFamily, Value,
    Verdict as RuleVerdict,
};

/// Where an ICMP message has its checksum, `th dport` reads a port. It may well be one that a rule names.
const ICMP_CHECKSUM: u16 = 3;

/// What the ruleset says of a connection that the node forwards.
pub(crate) fn judge(ruleset: &Ruleset, connection: Connection) -> Verdict {
    let mut tables = ruleset.tables.iter();
    let table = tables.find(|table| table.family == TableFamily::Inet);
    let packet = Packet {
        table: table.expect("a table of family inet"),
        connection,
    };
    let [source, destination] = packet.addresses();
    let digit = match packet.family() {
        Family::Ipv4 => '4',
        Family::Ipv6 => '6',
    };
    if packet.is_in(&[source, destination], &format!("self{digit}")) {
        return Verdict::Allow;
    }
    let accepts = |subject: Field, direction: &str| {
        let rule = Rule::lookup([subject], format!("{direction}{digit}"));
        packet.run(std::slice::from_ref(&rule)).unwrap_or(true)
    };
    if accepts(source, "egress") && accepts(destination, "ingress") {
        Verdict::Allow
    } else {
        Verdict::Deny
    }
}

struct Packet<'a> {
    table: &'a Table,
    connection: Connection,
}

impl Packet<'_> {
    fn family(&self) -> Family {
        Family::of(self.connection.source)
    }

    fn addresses(&self) -> [Field; 2] {
        match self.family() {
            Family::Ipv4 => [Field::Ipv4Source, Field::Ipv4Destination],
            Family::Ipv6 => [Field::Ipv6Source, Field::Ipv6Destination],
        }
    }

    /// Whether the rules accept, if they decide.
    fn run(&self, rules: &[Rule]) -> Option<bool> {
        for rule in rules {
            if !rule.matches.iter().all(|matches| self.matches(matches)) {
                continue;
            }
            let verdict = match &rule.statement {
                Statement::Verdict(verdict) => Some(verdict),
                Statement::Reject(_) => Some(&RuleVerdict::Drop),
                Statement::Lookup { key, map } => {
                    let elements = self.table.maps[map].elements.iter();
                    let mut found = elements.filter(|(values, _)| self.is_at(key, values));
                    found.next().map(|(_, element)| &element.verdict)
                }
            };
            match verdict {
                None => {}
                Some(RuleVerdict::Accept) => return Some(true),
                Some(RuleVerdict::Drop) => return Some(false),
                Some(RuleVerdict::Return) => return None,
                Some(RuleVerdict::Goto(chain)) => return self.run(self.chain(chain)),
                Some(RuleVerdict::Jump(chain)) => {
                    if let Some(accepts) = self.run(self.chain(chain)) {
                        return Some(accepts);
                    }
                }
            }
        }
        None
    }

    fn chain(&self, name: &str) -> &[Rule] {
        let mut chains = self.table.chains.iter();
        let chain = chains.find(|chain| chain.name == name);
        &chain.expect("a chain that is jumped to").rules
    }

    fn matches(&self, matches: &Match) -> bool {
        assert!(matches.mask.is_none(), "no class chain has a mask");
        let found = match &matches.operand {
            Operand::Set(set) => self.is_in(&matches.key, set),
            Operand::Values(values) => {
                let mut values = values.iter();
                values.any(|value| self.is_at(&matches.key, std::slice::from_ref(value)))
            }
        };
        found != matches.negated
    }

    fn is_in(&self, key: &[Field], set: &str) -> bool {
        let mut elements = self.table.sets[set].elements.iter();
        elements.any(|element| self.is_at(key, element))
    }

    fn is_at(&self, key: &[Field], values: &[Value]) -> bool {
        assert_eq!(key.len(), values.len());
        let mut pairs = key.iter().zip(values);
        pairs.all(|(field, value)| self.has(*field, value))
    }

    fn has(&self, field: Field, value: &Value) -> bool {
        let (protocol, port) = match self.connection.transport {
            Transport::Port(protocol, port) => (Some(protocol), port),
            Transport::Icmp => (None, ICMP_CHECKSUM),
        };
        let port_in = |protocol: Option<Protocol>, required: Option<Protocol>| {
            let in_range = matches!(value, Value::Ports(range) if range.contains(port));
            in_range && required.is_none_or(|required| protocol == Some(required))
        };
        match field {
            Field::Ipv4Source => in_family(self.connection.source, Family::Ipv4, value),
            Field::Ipv4Destination => in_family(self.connection.destination, Family::Ipv4, value),
            Field::Ipv6Source => in_family(self.connection.source, Family::Ipv6, value),
            Field::Ipv6Destination => in_family(self.connection.destination, Family::Ipv6, value),
            Field::TransportProtocol => {
                matches!(value, Value::Protocol(given) if protocol == Some(*given))
            }
            Field::TransportDestinationPort => port_in(protocol, None),
            Field::DestinationPort(required) => port_in(protocol, Some(required)),
            other => panic!("no class chain reads {other:?}"),
        }
    }
}

fn in_family(address: IpAddr, family: Family, value: &Value) -> bool {
    Family::of(address) == family
        && match value {
            Value::Address(given) => *given == address,
            Value::Addresses(range) => (range.first()..=range.last()).contains(&address),
            other => panic!("{other:?} is no address"),
        }
}
