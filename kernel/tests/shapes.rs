//! What the compiler may write one day and does not yet: every shape of a comparison, a set and a map, by hand.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::IpAddr;
use std::sync::Arc;

use policy_compiler::model::{
    AddressRange, AddressRanges, Cidr, InterfaceName, PortRange, Protocol,
};
use policy_compiler::render;
use policy_compiler::ruleset::{
    Base, Chain, Field, Hook, KeyType, Log, MapElement, Mask, Match, Reject, Rule, Ruleset, Set,
    Statement, Table, TableFamily, Value, Verdict, VerdictMap,
};
use support::{instructions, listed, loaded_by_nft, namespace, nftables};

fn address(text: &str) -> Value {
    Value::Address(text.parse::<IpAddr>().unwrap())
}

fn network(text: &str) -> Value {
    Value::Network(Cidr::parse_strict(text).unwrap())
}

fn ports(first: u16, last: u16) -> Value {
    Value::Ports(PortRange::new(first, last).unwrap())
}

/// The addresses of one list of networks without another.
fn ranges(networks: &[&str], without: &[&str]) -> Vec<AddressRange> {
    let parse = |texts: &[&str]| -> Vec<Cidr> {
        texts
            .iter()
            .map(|text| Cidr::parse_strict(text).unwrap())
            .collect()
    };
    let ranges = AddressRanges::union(&parse(networks));
    let ranges = ranges.minus(&AddressRanges::union(&parse(without)));
    ranges.iter().copied().collect()
}

/// Each match alone in a rule.
fn chain(matches: impl IntoIterator<Item = Vec<Match>>) -> Chain {
    let rules = matches.into_iter();
    Chain {
        name: "shapes".into(),
        base: Some(Base {
            hook: Hook::Prerouting,
            device: None,
            priority: -300,
        }),
        rules: rules
            .map(|matches| Rule::verdict(matches, Verdict::Accept))
            .collect(),
    }
}

fn table(family: TableFamily, chain: Chain) -> Table {
    let mut table = Table::new(family);
    table.add_chain(chain);
    table
}

fn witnessed(table: Table) {
    let ruleset = Ruleset {
        tables: vec![table],
    };
    let (ours, theirs) = (namespace(), loaded_by_nft(&ruleset));
    let mut nftables = nftables(&ours);
    let text = render::text(&ruleset);
    nftables
        .load(&ruleset, None)
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(listed(&ours), listed(&theirs));
    assert_eq!(instructions(&ours), instructions(&theirs));
    let by_json = namespace();
    let json = render::json(&ruleset).unwrap().to_string();
    by_json
        .nft_json(&json)
        .unwrap_or_else(|error| panic!("{error}\n{json}"));
    // nft 1.0.6 drops the comments of sets and maps when it reads JSON.
    let without_comments = |list: String| -> Vec<String> {
        let own = |line: &&str| !line.trim_start().starts_with("comment ");
        list.lines().filter(own).map(str::to_owned).collect()
    };
    assert_eq!(
        without_comments(listed(&by_json)),
        without_comments(listed(&ours))
    );
    let found = nftables.read().unwrap();
    assert_eq!(found.unknown, [], "{text}");
    assert_eq!(render::text(&found.ruleset), text);
    assert_eq!(found.ruleset, ruleset);
}

#[test]
fn comparisons() {
    let mut rules = Vec::new();
    for (field, value) in [
        (Field::Ipv4Source, network("0.0.0.0/0")),
        (Field::Ipv4Source, network("10.0.0.0/7")),
        (Field::Ipv4Destination, network("10.0.0.0/8")),
        (Field::Ipv4Source, network("10.1.2.0/24")),
        (Field::Ipv4Source, network("10.1.2.4/31")),
        (Field::Ipv4Source, address("10.1.2.4")),
        (Field::Ipv6Source, network("::/0")),
        (Field::Ipv6Source, network("2001:db8::/33")),
        (Field::Ipv6Destination, network("2001:db8::/64")),
        (Field::Ipv6Destination, address("2001:db8::1")),
        (Field::Ipv6HopLimit, Value::Number(255)),
        (Field::TransportProtocol, Value::Protocol(Protocol::Sctp)),
        (Field::TransportDestinationPort, ports(53, 53)),
        (Field::TransportDestinationPort, ports(53, 54)),
        (Field::DestinationPort(Protocol::Udp), ports(0, 100)),
        (Field::DestinationPort(Protocol::Tcp), ports(100, 65535)),
        (Field::DestinationPort(Protocol::Sctp), ports(9, 9)),
        (Field::Icmpv6Type, Value::Number(143)),
        (Field::ConnectionState, Value::Symbol("new")),
        (Field::ConnectionState, Value::Symbol("untracked")),
        (Field::ConnectionStatus, Value::Symbol("dnat")),
        (Field::SourceAddressType, Value::Symbol("local")),
        (Field::DestinationAddressType, Value::Symbol("broadcast")),
        (Field::ReturnRoute, Value::Symbol("exists")),
        (Field::ReturnRoute, Value::Symbol("missing")),
        (Field::PacketType, Value::Symbol("multicast")),
        (
            Field::InputInterface,
            Value::Interface("fifteen-letters".into()),
        ),
        (Field::OutputInterface, Value::Interface("a".into())),
        (Field::InputInterfaceGroup, Value::Number(770_701)),
        (Field::OutputInterfaceGroup, Value::Number(7)),
        (Field::TcpFlags, Value::Symbol("syn")),
        (Field::ConnectionDirection, Value::Symbol("original")),
        (Field::ConnectionDirection, Value::Symbol("reply")),
        (Field::OriginalIpv4Source, address("10.1.2.4")),
        (Field::OriginalIpv4Destination, network("10.0.0.0/9")),
        (Field::OriginalIpv6Source, address("2001:db8::1")),
        (Field::OriginalIpv6Destination, address("2001:db8::2")),
    ] {
        let one = Match::is(field, [value]);
        // Output interfaces are not known before routing, but may be named.
        rules.push(vec![one.clone()]);
        if field != Field::ReturnRoute {
            rules.push(vec![one.negated()]);
        }
    }
    for bits in [0x10_0000, 0x1] {
        let mark = Match::is(Field::ConnectionMark, [Value::Number(bits)]).masked(Mask::Bits(bits));
        rules.push(vec![mark.clone()]);
        rules.push(vec![mark.negated()]);
    }
    let flags = Match::is(Field::TcpFlags, [Value::Symbol("syn")]);
    let flags = flags.masked(Mask::Flags(&["fin", "syn", "rst", "ack"]));
    rules.extend([vec![flags.clone()], vec![flags.negated()]]);
    witnessed(table(TableFamily::Inet, chain(rules)));
}

#[test]
fn reports_and_rejections() {
    let report = |prefix: &str, snaplen| Log {
        group: 7,
        prefix: prefix.into(),
        snaplen,
    };
    let reject = |matches: Vec<Match>, reject| Rule {
        statement: Statement::Reject(reject),
        ..Rule::verdict(matches, Verdict::Drop)
    };
    let tcp = || Match::is(Field::TransportProtocol, [Value::Protocol(Protocol::Tcp)]);
    let port = Match::is(Field::DestinationPort(Protocol::Tcp), [ports(80, 80)]);
    let mut chain = chain([]);
    chain.base = Some(Base {
        hook: Hook::Forward,
        device: None,
        priority: 0,
    });
    chain.rules = vec![
        Rule::verdict([], Verdict::Drop).logged(report("y/default-deny", 0)),
        Rule::verdict([tcp()], Verdict::Accept)
            .counted()
            .logged(report("x/a", 96))
            .comment("reported"),
        reject(vec![], Reject::AdminProhibited),
        reject(vec![tcp()], Reject::TcpReset).logged(report("reset", 0)),
        reject(vec![port], Reject::TcpReset).counted(),
    ];
    witnessed(table(TableFamily::Inet, chain));
}

#[test]
fn frames_that_arrive_on_an_interface() {
    let ether = |types: &[&'static str]| {
        Match::is(
            Field::EtherType,
            types.iter().map(|name| Value::Symbol(name)),
        )
    };
    let pair = [Field::InputInterface, Field::Ipv4Source];
    let mut table = table(
        TableFamily::Netdev,
        chain([
            vec![ether(&["ip", "ip6", "arp"]).negated()],
            vec![ether(&["arp"])],
            vec![Match::is(Field::Ipv4Source, [address("10.0.0.1")]).negated()],
            vec![Match::is(Field::Ipv6Source, [network("fe80::/10")])],
            vec![Match::is(Field::ArpSource, [address("10.0.0.1")])],
            vec![Match::is(Field::Icmpv6Type, [Value::Number(134)])],
            vec![Match::is(Field::PacketType, [Value::Symbol("broadcast")])],
            vec![Match::in_set(pair, "pairs").negated()],
        ]),
    );
    Arc::make_mut(&mut table.chains[0]).base = Some(Base {
        hook: Hook::Ingress,
        device: Some(InterfaceName::new("lo").unwrap()),
        priority: -500,
    });
    let pairs = Set {
        key: vec![KeyType::Interface, KeyType::Ipv4Address],
        interval: false,
        comment: "pods' interfaces with their addresses".into(),
        elements: [vec![Value::Interface("lo".into()), address("10.0.0.1")]]
            .into_iter()
            .collect(),
    };
    table.add_set("pairs", pairs);
    witnessed(table);
}

#[test]
fn lists_of_values() {
    let symbols = |names: &[&'static str]| -> Vec<Value> {
        names.iter().map(|name| Value::Symbol(name)).collect()
    };
    let mut rules = Vec::new();
    for (field, values) in [
        (
            Field::Ipv4Source,
            vec![address("10.0.0.1"), address("10.0.0.2")],
        ),
        (
            Field::Ipv4Source,
            vec![network("0.0.0.0/8"), address("255.255.255.255")],
        ),
        (
            Field::Ipv4Source,
            vec![network("10.0.0.0/8"), network("12.0.0.0/8")],
        ),
        (
            Field::Ipv6Source,
            vec![network("fe80::/10"), network("ff00::/8")],
        ),
        // What touches is left out: nft 1.0.6 merges it in some rulesets and not in others.
        (
            Field::Ipv6Source,
            vec![address("::1"), address("::3"), network("::100/120")],
        ),
        (
            Field::Ipv6HopLimit,
            vec![Value::Number(1), Value::Number(255)],
        ),
        (
            Field::TransportProtocol,
            Protocol::ALL.map(Value::Protocol).to_vec(),
        ),
        (
            Field::TransportDestinationPort,
            vec![ports(1, 1), ports(3, 3)],
        ),
        (
            Field::DestinationPort(Protocol::Udp),
            vec![ports(0, 2), ports(9, 9)],
        ),
        (
            Field::DestinationPort(Protocol::Sctp),
            vec![ports(1, 2), ports(9, 65535)],
        ),
        (Field::Icmpv6Type, [133, 135].map(Value::Number).to_vec()),
        (Field::ConnectionState, symbols(&["new", "established"])),
        (Field::ConnectionStatus, symbols(&["dnat", "snat"])),
        (Field::SourceAddressType, symbols(&["local", "broadcast"])),
        (
            Field::DestinationAddressType,
            symbols(&["local", "multicast"]),
        ),
        (Field::PacketType, symbols(&["multicast", "broadcast"])),
        (
            Field::InputInterface,
            ["a", "b"].map(|n| Value::Interface(n.into())).to_vec(),
        ),
        (
            Field::OutputInterface,
            ["a", "b"].map(|n| Value::Interface(n.into())).to_vec(),
        ),
        (Field::ConnectionMark, [1, 2].map(Value::Number).to_vec()),
    ] {
        // nft lists a mark's numbers in eight digits, and takes any.
        let one = Match::is(field, values);
        rules.push(vec![one.clone()]);
        if field != Field::ConnectionState && field != Field::ConnectionStatus {
            rules.push(vec![one.negated()]);
        }
    }
    witnessed(table(TableFamily::Inet, chain(rules)));
}

#[test]
fn several_comparisons_share_what_they_need() {
    let tcp = Match::is(Field::DestinationPort(Protocol::Tcp), [ports(80, 80)]);
    let source = Match::is(Field::Ipv4Source, [address("10.0.0.1")]);
    let destination = Match::is(Field::Ipv4Destination, [network("10.0.0.0/16")]);
    let source6 = Match::is(Field::Ipv6Source, [address("::")]);
    let icmpv6 = Match::is(Field::Icmpv6Type, [Value::Number(135)]);
    let syn = Match::is(Field::TcpFlags, [Value::Symbol("syn")]);
    let hops = Match::is(Field::Ipv6HopLimit, [Value::Number(255)]);
    let l4 = |protocol| Match::is(Field::TransportProtocol, [Value::Protocol(protocol)]);
    let from = Match::is(Field::InputInterface, [Value::Interface("a".into())]);
    witnessed(table(
        TableFamily::Inet,
        chain([
            vec![tcp.clone(), source.clone(), destination.clone()],
            vec![tcp.clone(), syn, tcp.clone().negated()],
            vec![source.clone(), destination.clone(), tcp.clone()],
            vec![source6.clone(), icmpv6.clone(), hops.clone()],
            vec![icmpv6.clone(), source6.clone()],
            vec![hops.clone(), icmpv6.clone(), from.clone()],
            vec![l4(Protocol::Udp), source.clone()],
            vec![from.clone(), l4(Protocol::Tcp)],
            vec![],
        ]),
    ));
    let ether = |name| Match::is(Field::EtherType, [Value::Symbol(name)]);
    let arp = Match::is(Field::ArpSource, [address("10.0.0.1")]);
    witnessed(table(
        TableFamily::Bridge,
        chain([
            vec![arp.clone()],
            vec![from.clone(), arp.negated()],
            vec![ether("ip"), source.clone()],
            vec![source.clone(), ether("ip")],
            vec![ether("ip6"), source6.clone()],
            vec![ether("arp")],
            vec![ether("ip6")],
            vec![ether("ip").negated()],
            vec![tcp.clone(), source],
            vec![source6, icmpv6.clone(), hops.clone()],
            vec![icmpv6, hops],
            vec![Match::is(
                Field::EtherType,
                ["ip", "arp"].map(Value::Symbol),
            )],
        ]),
    ));
}

#[test]
fn sets_and_maps() {
    let set = |key: &[KeyType], interval, elements: Vec<Vec<Value>>| Set {
        key: key.to_vec(),
        interval,
        comment: "a comment".into(),
        elements: elements.into_iter().collect(),
    };
    let interval = |key, ranges: Vec<AddressRange>| {
        let elements = ranges
            .into_iter()
            .map(|range| vec![Value::Addresses(range)]);
        set(&[key], true, elements.collect())
    };
    let (v4, v6) = (KeyType::Ipv4Address, KeyType::Ipv6Address);
    let name = |name: &str| Value::Interface(name.into());
    let mut table = table(TableFamily::Inet, chain([]));
    let sets = [
        set(&[v4], false, vec![]),
        set(
            &[v4],
            false,
            vec![vec![address("10.0.0.1")], vec![address("0.0.0.0")]],
        ),
        set(&[v6], false, vec![vec![address("2001:db8::1")]]),
        set(
            &[KeyType::Protocol],
            false,
            vec![vec![Value::Protocol(Protocol::Udp)]],
        ),
        set(&[KeyType::Port], false, vec![vec![ports(80, 80)]]),
        set(
            &[KeyType::Interface],
            false,
            vec![vec![name("a")], vec![name("fifteen-letters")]],
        ),
        set(
            &[KeyType::Interface, v6],
            false,
            vec![vec![name("a"), address("::1")]],
        ),
        set(
            &[v6, KeyType::Protocol, KeyType::Port],
            false,
            vec![vec![
                address("::1"),
                Value::Protocol(Protocol::Tcp),
                ports(80, 80),
            ]],
        ),
        interval(v4, vec![]),
        interval(v4, ranges(&["0.0.0.0/0"], &[])),
        interval(v4, ranges(&["0.0.0.0/0"], &["10.0.0.0/8", "127.0.0.1/32"])),
        interval(v4, ranges(&["0.0.0.0/8", "255.255.255.255/32"], &[])),
        interval(
            v4,
            ranges(&["10.0.0.0/24", "10.0.2.0/24"], &["10.0.0.0/32"]),
        ),
        interval(v6, ranges(&["::/0"], &[])),
        interval(v6, ranges(&["::/0"], &["fd00::/8", "fe80::1/128"])),
    ];
    let blocks = |networks: &[&str], without: &[&str], last| {
        let elements = ranges(networks, without).into_iter().map(|range| {
            vec![
                Value::Addresses(range),
                Value::Protocol(Protocol::Sctp),
                ports(1, last),
            ]
        });
        elements.collect::<Vec<_>>()
    };
    let (v4_ports, v6_ports) = (
        [v4, KeyType::Protocol, KeyType::Port],
        [v6, KeyType::Protocol, KeyType::Port],
    );
    let concatenated = [
        set(&v4_ports, true, vec![]),
        set(
            &v4_ports,
            true,
            blocks(&["0.0.0.0/0"], &["10.1.2.3/32"], 65535),
        ),
        set(&v6_ports, true, blocks(&["::/0"], &["fd00::/8"], 1)),
        set(
            &[KeyType::Protocol, KeyType::Port],
            true,
            vec![
                vec![Value::Protocol(Protocol::Tcp), ports(0, 79)],
                vec![Value::Protocol(Protocol::Udp), ports(80, 80)],
            ],
        ),
    ];
    let named = sets.into_iter().chain(concatenated).enumerate();
    table.sets = named
        .map(|(index, set)| (format!("set{index:02}"), set))
        .collect();
    // Ranges that touch, which the compiler would have merged, stay two.
    let touching = ranges(&["10.0.0.0/24"], &[])
        .into_iter()
        .chain(ranges(&["10.0.1.0/24"], &[]));
    table.add_set("touching", interval(v4, touching.collect()));
    let verdicts = [
        Verdict::Accept,
        Verdict::Drop,
        Verdict::Return,
        Verdict::Jump("target".into()),
        Verdict::Goto("target".into()),
    ];
    let elements = verdicts.iter().enumerate().map(|(index, verdict)| {
        let element = MapElement {
            verdict: verdict.clone(),
            comment: format!("x/{index}"),
        };
        (
            vec![name("a"), address(&format!("10.0.0.{index}"))],
            element,
        )
    });
    let map = VerdictMap {
        key: vec![KeyType::Interface, v4],
        comment: "verdicts".into(),
        elements: elements.collect(),
    };
    table.add_map("verdicts", map);
    let rules = verdicts
        .map(|verdict| Rule::verdict([], verdict).counted().comment("x"))
        .to_vec();
    Arc::make_mut(&mut table.chains[0]).rules = vec![Rule::lookup(
        [Field::InputInterface, Field::Ipv4Source],
        "verdicts",
    )];
    table.add_chain(Chain {
        name: "target".into(),
        base: None,
        rules: vec![],
    });
    table.add_chain(Chain {
        name: "rules".into(),
        base: None,
        rules,
    });
    witnessed(table);
}
