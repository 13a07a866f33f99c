//! The parser of the kernel's messages, on messages of a real kernel that were changed at random.

use policy_compiler::ruleset::TableFamily;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use testbed::Namespace;

use super::Generation;
use super::constants::{element, family, msg, table};
use super::read::{Raw, RawSet};
use super::read_elements::read_elements;
use super::watch;
use crate::netlink::attribute::Writer;
use crate::netlink::message::{self, Content, DUMP, Header, Messages};
use crate::netlink::socket::{NETLINK_NETFILTER, Received, Socket};

/// Every expression, kind of set and element that is read, and some that are not.
const RULESET: &str = r#"
table inet picket {
    set a { type ipv4_addr; comment "one"; elements = { 10.0.0.1, 10.0.0.2 }; }
    set b { type ipv6_addr; flags interval; comment "two"; elements = { fe80::/10, ff00::/8 }; }
    set c { type ifname . ipv4_addr . inet_proto . inet_service; elements = { "a" . 1.1.1.1 . tcp . 80 }; }
    set d { type ipv4_addr; flags timeout; elements = { 1.1.1.1 timeout 1h }; }
    counter n {
    }
    quota q {
        1 mbytes
    }
    map m { type ipv4_addr : verdict; elements = { 10.0.0.1 comment "x/a" : goto x, 10.0.0.2 : drop }; }
    chain f {
        type filter hook forward priority -6; policy accept;
        ct mark & 0x100000 == 0x100000 counter drop comment "revoked"
        ct state established,related counter name "n" accept
        ip saddr . ip daddr { 1.1.1.1 . 1.1.1.1 } accept
        ip6 daddr != { fe80::/10, ff00::/8 } accept
        tcp dport { 80, 8000-8080 } accept
        udp dport != 1-10 accept
        tcp dport 1-10 accept
        tcp flags & (fin | syn | rst | ack) != syn jump x
        ip saddr 10.0.0.0/8 fib saddr . iif oif missing drop
        ip saddr vmap @m
        limit rate 1/second return
    }
    chain x { iifname "a" goto y; }
    chain y { }
}
"#;

/// What a kernel with the ruleset answers, and what it tells a watch.
fn messages() -> Vec<Vec<u8>> {
    let namespace = Namespace::new().expect("these tests need root");
    let open = || Socket::open(NETLINK_NETFILTER, 1 << 20).expect("a socket");
    let (mut socket, mut group) = namespace.run(|| (open(), open())).expect("entered");
    group.join(7).expect("joined");
    namespace.nft(RULESET).expect("nft loads");
    let mut all = received(&mut group);
    let sets = ["", "a", "b", "c", "d", "m"];
    for (kind, set) in [
        (msg::GETTABLE, ""),
        (msg::GETCHAIN, ""),
        (msg::GETRULE, ""),
        (msg::GETSET, ""),
        (msg::GETOBJ, ""),
        (msg::GETGEN, ""),
        (msg::DELTABLE, ""),
    ]
    .into_iter()
    .chain(sets.map(|set| (msg::GETSETELEM, set)))
    {
        let header = Header {
            kind: message::NFTABLES << 8 | kind,
            flags: if kind == msg::DELTABLE { 0 } else { DUMP },
            sequence: 1,
            family: family::INET,
            resource: 0,
        };
        let mut out = Writer::default();
        message::write(&mut out, header, |out| {
            out.put_text(table::NAME, "picket");
            if kind == msg::GETSETELEM {
                out.put_text(element::LIST_SET, set);
            }
        });
        socket.send(&out.bytes).expect("sent");
        all.extend(received(&mut socket));
    }
    all
}

fn received(socket: &mut Socket) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Received::Bytes(bytes) = socket.receive().expect("received") {
        all.push(bytes.to_vec());
    }
    all
}

/// Reads everything that the bytes may be, and returns how much of it was understood.
fn read(bytes: &[u8]) -> usize {
    let mut raw = Raw::new("picket", 0);
    let mut elements = Vec::new();
    for message in Messages(bytes).map_while(Result::ok) {
        let Ok(Content::Object { family, attributes }) = message.content() else {
            continue;
        };
        let kind = message.kind & 0xff;
        let inet = TableFamily::Inet;
        let _ = match kind {
            msg::NEWTABLE => raw.table(family, attributes),
            msg::NEWCHAIN => raw.object(msg::GETCHAIN, inet, attributes),
            msg::NEWRULE => raw.object(msg::GETRULE, inet, attributes),
            msg::NEWSET => raw.object(msg::GETSET, inet, attributes),
            msg::NEWOBJ => raw.object(msg::GETOBJ, inet, attributes),
            _ => read_elements(attributes, &mut elements, &mut false),
        };
    }
    // Nothing is kept that did not arrive: an element takes at least a header.
    assert!(elements.len() <= bytes.len() / 4);
    for set in &mut raw.sets {
        let RawSet { elements: all, .. } = set;
        all.clone_from(&elements);
    }
    let found = raw.found(Generation(1));
    let events = watch::read(bytes);
    let rules = |table: &policy_compiler::ruleset::Table| {
        let rules: usize = table.chains.iter().map(|chain| chain.rules.len()).sum();
        let sets = table.sets.len() + table.maps.len() + table.counters.len();
        table.chains.len() + sets + rules
    };
    found.unknown.len()
        + found.ruleset.tables.iter().map(rules).sum::<usize>()
        + events.len()
        + elements.len()
}

#[test]
fn real_messages_are_read() {
    let messages = messages();
    let understood: Vec<_> = messages.iter().map(|bytes| read(bytes)).collect();
    assert!(messages.len() > 8, "{}", messages.len());
    assert!(
        understood.iter().filter(|count| **count > 0).count() > 8,
        "{understood:?}"
    );
    // Some of what belongs together, so that chains have rules and sets elements.
    assert!(read(&messages.concat()) > 60, "{understood:?}");
}

#[test]
fn no_message_is_fatal() {
    let mut messages = messages();
    messages.push(messages.concat());
    let change = (
        any::<Index>(),
        select(vec![0u8, 1, 3, 4, 5, 0x7f, 0x80, 0xff]),
    );
    let changes = proptest::collection::vec(change, 0..12);
    let strategy = (select(messages), changes, any::<Index>(), any::<bool>());
    let config = ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let result = proptest::test_runner::TestRunner::new(config).run(
        &strategy,
        |(mut bytes, changes, end, cut)| {
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            read(&bytes);
            Ok(())
        },
    );
    result.expect("nothing panics");
}
