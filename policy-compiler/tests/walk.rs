//! The walk that other tests trust: each rule of nft(8) that it follows, by a ruleset of two or three rules.

#![allow(clippy::unwrap_used)]

#[path = "support/walk/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod walk;

use std::net::{IpAddr, Ipv4Addr};

use policy_compiler::model::{PortRange, Protocol};
use policy_compiler::ruleset::{
    Base, Chain, Field, Hook, KeyType, MapElement, Mask, Match, Rule, Ruleset, Set, Table,
    TableFamily, Value, Verdict, VerdictMap,
};
use walk::packet::{ACK, Content, Header, Packet, SYN, State};
use walk::{Stop, Walk};

const SOURCE: &str = "10.0.0.1";
const DESTINATION: &str = "10.0.0.2";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn packet(transport: Header) -> Packet {
    Packet::new(Content::Ip {
        source: address(SOURCE),
        destination: address(DESTINATION),
        hop_limit: 64,
        transport,
    })
}

fn port(protocol: Protocol, port: u16) -> Packet {
    packet(Header::Port {
        protocol,
        port,
        flags: SYN,
    })
}

fn tcp() -> Packet {
    port(Protocol::Tcp, 80)
}

fn base(name: &str, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.to_owned(),
        base: Some(Base {
            hook: Hook::Forward,
            device: None,
            priority,
        }),
        rules,
    }
}

fn chain(name: &str, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.to_owned(),
        base: None,
        rules,
    }
}

fn table(family: TableFamily, chains: Vec<Chain>) -> Table {
    let mut table = Table::new(family);
    chains.into_iter().for_each(|chain| table.add_chain(chain));
    table
}

fn passes_table(table: Table, packet: &Packet) -> bool {
    let stop = Stop {
        family: table.family,
        hook: Hook::Forward,
        input: Some("veth0".to_owned()),
        output: Some("eth0".to_owned()),
    };
    let ruleset = Ruleset {
        tables: vec![table],
    };
    Walk::new(&ruleset).passes(packet, &[stop])
}

fn passes(chains: Vec<Chain>, packet: &Packet) -> bool {
    passes_table(table(TableFamily::Inet, chains), packet)
}

fn jump(chain: &str) -> Rule {
    Rule::verdict([], Verdict::Jump(chain.to_owned()))
}

fn goto(chain: &str) -> Rule {
    Rule::verdict([], Verdict::Goto(chain.to_owned()))
}

fn accept() -> Rule {
    Rule::verdict([], Verdict::Accept)
}

fn drop() -> Rule {
    Rule::verdict([], Verdict::Drop)
}

/// Whether the match holds.
fn holds(matches: Match, packet: &Packet) -> bool {
    !passes(
        vec![base("a", 0, vec![Rule::verdict([matches], Verdict::Drop)])],
        packet,
    )
}

/// Whether the fields are in the set.
fn is_in(key: &[(Field, KeyType)], interval: bool, element: Vec<Value>, packet: &Packet) -> bool {
    let matches = Match::in_set(key.iter().map(|(field, _)| *field), "s");
    let rules = vec![Rule::verdict([matches], Verdict::Drop)];
    let mut table = table(TableFamily::Inet, vec![base("a", 0, rules)]);
    let set = Set {
        key: key.iter().map(|(_, kind)| *kind).collect(),
        interval,
        comment: String::new(),
        elements: [element].into_iter().collect(),
    };
    table.add_set("s", set);
    !passes_table(table, packet)
}

#[test]
fn an_accept_ends_its_base_chain_and_a_drop_ends_the_packet() {
    let accepts = || base("first", -1, vec![accept(), drop()]);
    assert!(passes(vec![accepts()], &tcp()));
    assert!(passes(vec![base("empty", 0, vec![])], &tcp()));
    // Whichever stands first in the table.
    assert!(!passes(
        vec![accepts(), base("second", 0, vec![drop()])],
        &tcp()
    ));
    assert!(!passes(
        vec![base("second", 0, vec![drop()]), accepts()],
        &tcp()
    ));
}

#[test]
fn a_jump_comes_back_a_goto_does_not_and_a_return_ends_only_its_chain() {
    let walk = |first: Rule, other: Vec<Rule>| {
        let chains = vec![base("a", 0, vec![first, drop()]), chain("b", other)];
        passes(chains, &tcp())
    };
    assert!(!walk(jump("b"), vec![]));
    assert!(!walk(
        jump("b"),
        vec![Rule::verdict([], Verdict::Return), accept()]
    ));
    assert!(walk(jump("b"), vec![accept()]));
    assert!(walk(goto("b"), vec![]));
    assert!(!walk(goto("b"), vec![drop()]));
    assert!(walk(Rule::verdict([], Verdict::Return), vec![]));
    // What follows a goto is the end of whoever jumped.
    let chains = vec![
        base("a", 0, vec![jump("b"), accept()]),
        chain("b", vec![goto("c"), drop()]),
        chain("c", vec![]),
    ];
    assert!(passes(chains, &tcp()));
}

#[test]
fn what_a_packet_does_not_have_matches_neither_way() {
    let six = Match::is(Field::Ipv6Source, [Value::Address(address("fd00::1"))]);
    assert!(!holds(six.clone(), &tcp()) && !holds(six.negated(), &tcp()));
    let flags = Match::is(Field::TcpFlags, [Value::Symbol("syn")]);
    assert!(holds(flags.clone(), &tcp()));
    let udp = port(Protocol::Udp, 80);
    assert!(!holds(flags.clone(), &udp) && !holds(flags.negated(), &udp));
    let dport = Match::is(
        Field::DestinationPort(Protocol::Tcp),
        [Value::Ports(PortRange::single(80))],
    );
    assert!(holds(dport.clone(), &tcp()) && !holds(dport, &udp));
    let mark = Match::is(Field::ConnectionMark, [Value::Number(0)]);
    let mut untracked = tcp();
    untracked.state = State::Untracked;
    assert!(holds(mark.clone(), &tcp()) && !holds(mark, &untracked));
}

#[test]
fn a_range_has_both_its_ends_and_a_key_all_its_parts() {
    let range = PortRange::new(79, 81).unwrap();
    let dport = || Match::is(Field::DestinationPort(Protocol::Tcp), [Value::Ports(range)]);
    for (number, inside) in [(78, false), (79, true), (81, true), (82, false)] {
        assert_eq!(holds(dport(), &port(Protocol::Tcp, number)), inside);
        assert_eq!(
            holds(dport().negated(), &port(Protocol::Tcp, number)),
            !inside
        );
    }
    let key = [
        (Field::Ipv4Destination, KeyType::Ipv4Address),
        (Field::TransportProtocol, KeyType::Protocol),
        (Field::TransportDestinationPort, KeyType::Port),
    ];
    let element = |protocol, ports| {
        let address = Value::Address(address(DESTINATION));
        vec![address, Value::Protocol(protocol), Value::Ports(ports)]
    };
    let single = PortRange::single(80);
    assert!(is_in(&key, false, element(Protocol::Tcp, single), &tcp()));
    assert!(!is_in(&key, false, element(Protocol::Udp, single), &tcp()));
    assert!(is_in(&key, true, element(Protocol::Tcp, range), &tcp()));
    // The checksum is where a port would be, and the protocol is another.
    let icmp = packet(Header::Icmp {
        kind: 8,
        checksum: 80,
    });
    assert!(!is_in(&key, false, element(Protocol::Tcp, single), &icmp));
    let port_only = [(Field::TransportDestinationPort, KeyType::Port)];
    assert!(is_in(&port_only, false, vec![Value::Ports(single)], &icmp));
}

#[test]
fn a_verdict_map_decides_by_its_key_and_goes_on_without_it() {
    let judged = |key: &str| {
        let rules = vec![Rule::lookup([Field::Ipv4Source], "m"), drop()];
        let mut table = table(TableFamily::Inet, vec![base("a", 0, rules)]);
        let element = MapElement {
            verdict: Verdict::Accept,
            comment: String::new(),
        };
        let map = VerdictMap {
            key: vec![KeyType::Ipv4Address],
            comment: String::new(),
            elements: [(vec![Value::Address(address(key))], element)]
                .into_iter()
                .collect(),
        };
        table.add_map("m", map);
        passes_table(table, &tcp())
    };
    assert!(judged(SOURCE) && !judged(DESTINATION));
}

#[test]
fn states_are_bits_and_masks_choose_some() {
    let states = ["established", "related"].map(Value::Symbol);
    let known = Match::is(Field::ConnectionState, states);
    let mut packet = tcp();
    assert!(!holds(known.clone(), &packet) && holds(known.clone().negated(), &packet));
    packet.state = State::Related;
    assert!(holds(known, &packet));
    let bit = Match::is(Field::ConnectionMark, [Value::Number(4)]).masked(Mask::Bits(4));
    packet.mark = 3;
    assert!(!holds(bit.clone(), &packet));
    packet.mark = 7;
    assert!(holds(bit, &packet));
    let syn = || {
        let syn = Match::is(Field::TcpFlags, [Value::Symbol("syn")]);
        syn.masked(Mask::Flags(&["syn", "ack"]))
    };
    let both = self::packet(Header::Port {
        protocol: Protocol::Tcp,
        port: 80,
        flags: SYN | ACK,
    });
    assert!(holds(syn(), &tcp()) && !holds(syn(), &both));
}

#[test]
fn a_bridge_sees_frames_and_ip_only_plain_packets() {
    let ip = || Match::is(Field::EtherType, [Value::Symbol("ip")]);
    let dropped = |matches: Match, packet: &Packet| {
        let rules = vec![Rule::verdict([matches], Verdict::Drop)];
        !passes_table(
            table(TableFamily::Bridge, vec![base("a", 0, rules)]),
            packet,
        )
    };
    let mut tagged = tcp();
    tagged.tagged = true;
    assert!(dropped(ip(), &tcp()) && !dropped(ip(), &tagged));
    assert!(dropped(ip().negated(), &tagged));
    // The address is found behind the tag.
    let source = Match::is(Field::Ipv4Source, [Value::Address(address(SOURCE))]);
    assert!(dropped(source, &tagged));
    let arp = Packet::new(Content::Arp(Ipv4Addr::new(10, 0, 0, 1)));
    assert!(!passes(vec![base("a", 0, vec![drop()])], &tcp()));
    assert!(passes(vec![base("a", 0, vec![drop()])], &arp));
}

#[test]
fn what_it_does_not_know_is_never_passed_over() {
    let walks = |matches: Match| std::panic::catch_unwind(|| holds(matches, &tcp()));
    let of_other_type = Match::is(Field::Ipv4Source, [Value::Address(address("fd00::1"))]);
    for unknown in [
        Match::is(Field::ConnectionState, [Value::Symbol("nonsense")]),
        Match::is(Field::PacketType, [Value::Number(1)]),
        Match::in_set([Field::Ipv4Source], "missing"),
        of_other_type,
    ] {
        assert!(walks(unknown.clone()).is_err(), "{unknown:?}");
    }
    let lost = std::panic::catch_unwind(|| passes(vec![base("a", 0, vec![jump("b")])], &tcp()));
    assert!(lost.is_err());
}
