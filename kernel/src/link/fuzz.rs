//! The readers of rtnetlink's messages, on messages of a real kernel that were changed at random.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use testbed::Namespace;

use super::address::LinkAddress;
use super::constants::{family, group, msg};
use super::properties::{Kind, Link};
use super::route::Route;
use super::watch;
use crate::netlink::attribute::Writer;
use crate::netlink::message::{self, DUMP, Messages};
use crate::netlink::socket::{NETLINK_ROUTE, Received, Socket};

/// Every attribute that is read.
const LINKS: &str = "
    link add br0 type bridge
    link add left type veth peer name right
    link set left master br0 alias some group 7
    link add mac0 link right type macvlan
    link set dev left up
    link set dev right up
    address add 10.0.0.1/24 dev right
    address add 10.9.0.1 peer 10.9.0.2/30 dev right
    address add fd00::1/64 dev right
    route add 10.2.0.0/16 via inet6 fe80::9 dev right
    route add 10.4.0.0/16 nexthop via 10.0.0.7 dev right nexthop via 10.0.0.8 dev right
    route add default via fd00::9
    route add 10.5.0.0/16 via 10.0.0.4 dev right table 1000 metric 7
";

/// What a kernel with those answers, and what it tells a watch.
fn messages() -> Vec<Vec<u8>> {
    let namespace = Namespace::new().expect("these tests need root");
    let open = || Socket::open(NETLINK_ROUTE, 1 << 20).expect("a socket");
    let (mut socket, mut group) = namespace.run(|| (open(), open())).expect("entered");
    for of in [group::LINK, group::IPV4_IFADDR, group::IPV6_IFADDR] {
        group.join(of).expect("joined");
    }
    namespace.ip_batch(LINKS).expect("ip makes them");
    namespace.ip(&["link", "delete", "mac0"]).expect("deleted");
    let mut all = received(&mut group);
    for kind in [msg::GETLINK, msg::GETADDR, msg::GETROUTE] {
        let mut out = Writer::default();
        message::write_with(&mut out, kind, DUMP, 1, &[0; 16], |_| {});
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
    let events = watch::read(bytes);
    let mut understood = events.len();
    for message in Messages(bytes).map_while(Result::ok) {
        let _ = message.content().map(drop);
        let _ = message.done_text();
        let payload = message.payload;
        if let Ok(link) = Link::read(payload) {
            // Nothing is kept that did not arrive: a byte that is no text becomes three.
            let alias = link.alias.as_ref().map_or(0, String::len);
            assert!(link.name.len() + alias <= 3 * payload.len());
            understood += usize::from(link.kind != Kind::Device);
        }
        understood += usize::from(matches!(LinkAddress::read(payload), Ok(Some(_))));
        for of in [family::INET, family::INET6] {
            if let Ok(Some(route)) = Route::read(of, payload) {
                assert!(route.next_hops.len() <= 1 + payload.len() / 8);
                understood += route.next_hops.len();
            }
        }
    }
    understood
}

#[test]
fn real_messages_are_read() {
    let understood: Vec<_> = messages().iter().map(|bytes| read(bytes)).collect();
    assert!(understood.iter().sum::<usize>() > 60, "{understood:?}");
    // The watch's, and the three lists with their ends.
    assert!(understood.len() > 10, "{understood:?}");
}

#[test]
fn an_odd_attribute_hides_neither_its_link_nor_another() {
    let mut out = Writer::default();
    for (index, alias) in [(1u32, &b"\xff\xfe\xfd"[..]), (2, b"text")] {
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        message::write_with(&mut out, msg::NEWLINK, 0, 1, &header, |out| {
            out.put_text(3, "name");
            out.put(20, alias);
            // A group of three bytes, an address of four, a state of two, and one of whatever.
            out.put(27, &[1, 2, 3]);
            out.put(1, &[1, 2, 3, 4]);
            out.put(16, &[6, 6]);
            out.put(0x3fff, &[]);
        });
    }
    let events = watch::read(&out.bytes);
    assert_eq!(events.len(), 2, "{events:?}");
    for (event, alias) in events.iter().zip(["\u{fffd}\u{fffd}\u{fffd}", "text"]) {
        let watch::LinkEvent::Link(link) = event else {
            panic!("{event:?}");
        };
        assert_eq!(
            (link.alias.as_deref(), link.group, link.mac),
            (Some(alias), 0, None)
        );
    }
}

#[test]
fn a_bridge_that_filters_vlans_is_known_by_its_flag() {
    for (value, expected) in [(0u8, false), (1, true)] {
        let mut out = Writer::default();
        let mut header = [0; 16];
        header[4] = 1;
        message::write_with(&mut out, msg::NEWLINK, 0, 1, &header, |out| {
            out.put_text(3, "br0");
            out.nested(18, |out| {
                out.put_text(1, "bridge");
                // Without CONFIG_BRIDGE_NETFILTER there are no flags of it.
                out.nested(2, |out| out.put(7, &[value]));
            });
        });
        let events = watch::read(&out.bytes);
        let [watch::LinkEvent::Link(link)] = events.as_slice() else {
            panic!("{events:?}");
        };
        let bridge = link.bridge.expect("a bridge");
        assert_eq!((bridge.vlan_filtering, bridge.netfilter), (expected, None));
    }
}

#[test]
fn no_message_is_fatal() {
    let mut messages = messages();
    messages.push(messages.concat());
    let change = (
        any::<Index>(),
        select(vec![0u8, 1, 3, 4, 5, 8, 0x7f, 0x80, 0xff]),
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
