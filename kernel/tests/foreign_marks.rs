//! Rules of others that write the mark of a connection, as nft makes them.

#![allow(clippy::unwrap_used)]

mod support;

use kernel::{Foreign, MarkWritten};
use support::{namespace, nftables};

const BIT: u32 = 0x10_0000;

fn read(ruleset: &str) -> Foreign {
    let namespace = namespace();
    namespace.nft(ruleset).unwrap();
    let found = nftables(&namespace).read_foreign().unwrap();
    assert!(!found.partial);
    found
}

/// What a rule does to the mark.
fn written(rule: &str) -> MarkWritten {
    let text = format!(
        "table ip others {{\nmap of {{ type ipv4_addr : mark; }}\nchain forward {{\n\
         type filter hook forward priority 0\n{rule}\n}}\n}}"
    );
    let found = read(&text);
    let mut writers = found.mark_writers.into_iter();
    let first = writers.next().map(|writer| writer.written);
    assert_eq!(writers.next(), None);
    first.unwrap_or_default()
}

#[test]
fn what_a_rule_does_to_each_bit_is_known() {
    for (rule, cleared, set) in [
        ("ct mark set meta mark", !0, !0),
        ("ct mark set 0x1", !1, 1),
        ("ct mark set ct mark", 0, 0),
        ("ct mark set ct mark | 0x1", 0, 1),
        ("ct mark set ct mark | 0x100000", 0, BIT),
        ("ct mark set ct mark & 0xff", !0xff, 0),
        ("ct mark set ct mark & 0xffefffff", BIT, 0),
        ("ct mark set ct mark & 0xffffff00 | 0x42", 0xbd, 0x42),
        ("ct mark set ct mark ^ 0x100000", BIT, BIT),
        ("ct mark set ip saddr map @of", !0, !0),
        ("ct mark set ct mark << 1", !0, !0),
        // Only where the bits are so.
        ("ct mark 0x0 ct mark set 0x1", 0, 1),
        ("ct mark & 0x100000 == 0x0 ct mark set 0x1", !1 & !BIT, 1),
        (
            "ct mark & 0x100000 == 0x100000 ct mark set 0x100000",
            !BIT,
            0,
        ),
        ("ct mark != 0x0 ct mark set 0x1", !1, 1),
        // What is between changes nothing.
        ("ct mark 0x0 counter log ct mark set 0x1", 0, 1),
        // After it was written, nothing is known of it.
        ("ct mark 0x0 ct mark set meta mark ct mark set 0x1", !1, !0),
        // It is not the connection's that is written.
        ("meta mark set ct mark", 0, 0),
        ("meta mark set 0x1 ct state new accept", 0, 0),
    ] {
        let expected = MarkWritten { cleared, set };
        assert_eq!(written(rule), expected, "{rule}");
    }
}

#[test]
fn tables_and_chains_of_others_are_named_and_ours_are_not() {
    let found = read(
        "table inet picket { chain x { ct mark set 0x1; }\n}\n\
         table ip nat { chain KUBE-SERVICES { }\n}\n\
         table ip6 mangle { chain CNI { ct mark set 0x7; }\n}\n\
         table bridge filter { }\ntable arp filter { }\ntable netdev filter { }\n",
    );
    let names = |of: Vec<String>| of.join(", ");
    let tables = found.tables.iter().map(ToString::to_string).collect();
    assert_eq!(
        names(tables),
        "ip nat, arp filter, netdev filter, bridge filter, ip6 mangle"
    );
    let chains = found.chains.iter().map(ToString::to_string).collect();
    assert_eq!(names(chains), "ip nat KUBE-SERVICES, ip6 mangle CNI");
    let writers = found.mark_writers.iter();
    let writers = writers.map(|writer| writer.chain.to_string()).collect();
    assert_eq!(names(writers), "ip6 mangle CNI");
    assert_eq!(found.flowtables.len(), 0);
}
