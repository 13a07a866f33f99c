//! The reader of what others have, on messages of a real kernel and on such that were changed at random.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use testbed::Namespace;

use super::constants::{family, msg};
use super::foreign::{Foreign, ForeignFamily};
use crate::netlink::attribute::Writer;
use crate::netlink::message::{self, Content, DUMP, Header, Messages};
use crate::netlink::socket::{NETLINK_NETFILTER, Received, Socket};

const RULESET: &str = "
table inet others {
    map marks { type ipv4_addr : mark; elements = { 10.0.0.1 : 0x7 }; }
    chain forward {
        type filter hook forward priority 0;
        ct mark set ct mark | 0x1
        ct mark set meta mark
        ct mark set ct mark and 0xff
        ct mark set ip saddr map @marks
        ct mark 0 ct mark set 0x1
        jump x
    }
    chain x { ct mark set 0x100000; }
}
";

/// The kernel's answers to these requests.
fn messages() -> Vec<(u16, Vec<u8>)> {
    let namespace = Namespace::new().expect("these tests need root");
    let open = || Socket::open(NETLINK_NETFILTER, 1 << 20).expect("a socket");
    let mut socket = namespace.run(open).expect("entered");
    namespace.nft(RULESET).expect("nft loads");
    let mut all = Vec::new();
    for kind in [msg::GETTABLE, msg::GETCHAIN, msg::GETRULE] {
        let header = Header {
            kind: message::NFTABLES << 8 | kind,
            flags: DUMP,
            sequence: 1,
            family: family::UNSPEC,
            resource: 0,
        };
        let mut out = Writer::default();
        message::write(&mut out, header, |_| {});
        socket.send(&out.bytes).expect("sent");
        while let Received::Bytes(bytes) = socket.receive().expect("received") {
            all.push((kind, bytes.to_vec()));
        }
    }
    all
}

fn read(kind: u16, bytes: &[u8], found: &mut Foreign) {
    for message in Messages(bytes).map_while(Result::ok) {
        if let Ok(Content::Object { family, attributes }) = message.content() {
            found.add(kind, ForeignFamily(family), attributes);
        }
    }
}

#[test]
fn real_messages_are_read_to_the_end() {
    let mut found = Foreign::default();
    for (kind, bytes) in messages() {
        read(kind, &bytes, &mut found);
    }
    assert!(!found.partial);
    assert_eq!((found.tables.len(), found.chains.len()), (1, 2));
    assert_eq!(found.mark_writers.len(), 6, "{found:#?}");
}

#[test]
fn flowtables_are_named_but_for_ours() {
    // Made here, as not every kernel has them: `NFTA_FLOWTABLE_TABLE` and `NFTA_FLOWTABLE_NAME`.
    let mut found = Foreign::default();
    for table in ["others", "picket"] {
        let mut out = Writer::default();
        out.put_text(1, table);
        out.put_text(2, "fast");
        found.add(23, ForeignFamily(family::INET), &out.bytes);
    }
    let names: Vec<_> = found.flowtables.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["inet others fast"]);
    assert!(!found.partial && found.chains.is_empty());
}

#[test]
fn no_message_is_fatal() {
    let change = (
        any::<Index>(),
        select(vec![0u8, 1, 3, 4, 5, 0x7f, 0x80, 0xff]),
    );
    let changes = proptest::collection::vec(change, 0..12);
    let strategy = (select(messages()), changes, any::<Index>(), any::<bool>());
    let config = ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let result = proptest::test_runner::TestRunner::new(config).run(
        &strategy,
        |((kind, mut bytes), changes, end, cut)| {
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            read(kind, &bytes, &mut Foreign::default());
            Ok(())
        },
    );
    result.expect("nothing panics");
}
