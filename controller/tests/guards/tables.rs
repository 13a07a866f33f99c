//! What is not ours stays as it is.

use policy_compiler::evaluate::NodeEgress;
use testbed::Outcome::{Dropped, Passed};
use testbed::{Network, Protocol};

use super::packets::{CLOSED, OPEN};
use super::passage::probe_from;
use super::world::{Family, Known, NETWORKS, World, address, node, pod};

/// A table that marks packets and connections, and refuses those whose marks have changed.
const OTHER: &str = "
table inet other {
  set s {
    type ipv4_addr
    elements = { 192.0.2.1 }
  }
  chain marking {
    type filter hook prerouting priority mangle
    meta mark set 0x4001
    ct mark set 0x4002
  }
  chain checking {
    type filter hook forward priority filter
    meta mark != 0x4001 drop
    ct mark != 0x4002 drop
  }
}
table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat
    ip saddr 192.0.2.1 masquerade
  }
}
table bridge other {
  chain forward {
    type filter hook forward priority filter
    ether type 0x88b5 drop
  }
}";

#[test]
fn only_tables_named_picket_appear_and_other_tables_and_marks_stay() {
    for network in NETWORKS {
        let world = World::new(network);
        let n = world.namespace(&node("n1"));
        assert_eq!(n.nft("list ruleset").unwrap(), "");
        n.nft(OTHER).unwrap();
        let others = n.nft("list ruleset").unwrap();
        for known in Known::ALL {
            for node_egress in [NodeEgress::Allow, NodeEgress::Policy] {
                world.load(known, node_egress);
                let tables = n.nft("list tables").unwrap();
                let mut ours: Vec<_> = tables.lines().collect();
                ours.retain(|table| !others.contains(table));
                let bridge = network == Network::Bridged && known.guards_ports();
                let expected: &[&str] = if bridge {
                    &["table inet picket", "table bridge picket"]
                } else {
                    &["table inet picket"]
                };
                assert_eq!(ours, expected);
                let probes = |port| {
                    let (a, b) = (pod("a"), pod("b"));
                    let over = |family| {
                        let ends = (address(&b, family), port, None);
                        probe_from(&a, &b, family, Protocol::Tcp, ends)
                    };
                    Family::ALL.map(over).to_vec()
                };
                let expected = [(probes(OPEN), Passed), (probes(CLOSED), Dropped)];
                world.assert_outcomes(&expected, "beside other tables");
            }
        }
        world.unload();
        assert_eq!(n.nft("list ruleset").unwrap(), others);
    }
}
