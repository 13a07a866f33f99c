//! The bridge table: what enters a bridge by a pod's port, and what of it reaches an isolated pod.
//!
//! Bridged frames that carry IP are judged in the forward hook of IPv4 and IPv6, where br_netfilter hands them
//! over. What it does not hand over (VLAN-tagged and other frames), and what has no address of a pod in it, ends
//! here, at the port.

use super::dropped::{self, Dropped};
use super::guards::{
    dropped, from_link_local, from_no_address, listener_discovery, listener_discovery_matches,
    neighbour_discovery, neighbour_discovery_matches, routers_only, routing,
};
use super::interfaces::{
    add_any_link_local, add_pairs, any_link_local, attached, interface_set, interfaces,
    link_local_pairs, pair,
};
use super::{Options, base};
use crate::evaluate::NodeEgress;
use crate::ir::NodeIr;
use crate::model::{Direction, Family};
use crate::ruleset::{Chain, Field, Hook, Match, Rule, Table, TableFamily, Value, Verdict};

/// Before br_netfilter hands packets to the hooks of IPv4 and IPv6 (-300 is destination NAT in this family).
const PREROUTING_PRIORITY: i32 = -350;
const FILTER_PRIORITY: i32 = -200;

/// The table, if any pod is known to be on a bridge.
pub(super) fn table(ir: &NodeIr, options: &Options) -> Option<Table> {
    attached(ir, options, true).next()?;
    let mut table = Table::new(TableFamily::Bridge);
    dropped::add(&mut table, Dropped::Guard);
    let ports = interfaces(ir, options, true, |_| true);
    let isolated = |direction| interfaces(ir, options, true, |pod| pod.class(direction).is_some());
    for (name, members, text) in [
        ("ports", ports, "ports of pods"),
        (
            "egress_isolated",
            isolated(Direction::Egress),
            "ports of pods isolated for egress",
        ),
        (
            "ingress_isolated",
            isolated(Direction::Ingress),
            "ports of pods isolated for ingress",
        ),
    ] {
        table.add_set(name, interface_set(members, text));
    }
    add_pairs(&mut table, ir, options, true);
    add_any_link_local(&mut table, ir, options, true);
    table.add_set("own_link_local", link_local_pairs(ir, options, true));

    // iifname @ports goto from_pod
    let rules = vec![goto(Field::InputInterface, "ports", "from_pod")];
    table.add_chain(base::chain(
        "prerouting",
        Hook::Prerouting,
        PREROUTING_PRIORITY,
        rules,
    ));
    let rules = vec![
        jump(Field::InputInterface, "egress_isolated", "from_isolated"),
        goto(Field::OutputInterface, "ingress_isolated", "to_isolated"),
    ];
    table.add_chain(base::chain(
        "forward",
        Hook::Forward,
        FILTER_PRIORITY,
        rules,
    ));
    if options.node_egress == NodeEgress::Policy {
        let rules = vec![goto(
            Field::InputInterface,
            "egress_isolated",
            "from_isolated",
        )];
        table.add_chain(base::chain("input", Hook::Input, FILTER_PRIORITY, rules));
    }
    for (name, rules) in [
        ("from_isolated", from_isolated()),
        ("from_pod", from_pod(ir, options)),
        ("link_local", link_local()),
        ("to_isolated", to_isolated()),
    ] {
        table.add_chain(Chain {
            name: name.to_owned(),
            base: None,
            rules,
        });
    }
    Some(table)
}

fn jump(field: Field, set: &str, chain: &str) -> Rule {
    Rule::verdict([Match::in_set([field], set)], Verdict::Jump(chain.into()))
}

fn goto(field: Field, set: &str, chain: &str) -> Rule {
    Rule::verdict([Match::in_set([field], set)], Verdict::Goto(chain.into()))
}

fn drop_rest(why: &str) -> Rule {
    dropped([], why)
}

/// `ether type != { ip, ip6, arp } counter drop`: first where it stands, as the address of a packet is found in a
/// tagged frame too.
fn tagged_or_other() -> Rule {
    let known = ["ip", "ip6", "arp"].map(Value::Symbol);
    let other = Match::is(Field::EtherType, known).negated();
    dropped([other], "neither IP nor ARP, or tagged")
}

/// Untagged IPv4, IPv6 and ARP, from the port's own addresses.
fn from_pod(ir: &NodeIr, options: &Options) -> Vec<Rule> {
    // arp saddr ip 0.0.0.0 accept: a probe for a duplicate (RFC 5227) claims nothing.
    let probe = Match::is(
        Field::ArpSource,
        [Value::Address(std::net::Ipv4Addr::UNSPECIFIED.into())],
    );
    let mut rules = vec![
        tagged_or_other(),
        pair(Field::Ipv4Source, Family::Ipv4),
        pair(Field::ArpSource, Family::Ipv4),
        Rule::verdict([probe], Verdict::Accept).comment("ARP probe"),
        routers_only(),
        pair(Field::Ipv6Source, Family::Ipv6),
    ];
    rules.extend(from_no_address());
    // Where the pod's link-local address is not known, any passes here; none passes from or to an isolated pod.
    rules.push(any_link_local());
    rules.extend(routing(ir, options, true));
    rules.push(drop_rest("forged source"));
    rules
}

/// Of link-local sources only the pod's own, by which the maps of IPv6 find it. What is asked is `pairs6`, not the set of
/// [`link_local`]: a pod that comes is there before it is isolated, which no order of steps allows where also the
/// interface that a packet leaves by says whether it is asked.
fn from_isolated() -> Vec<Rule> {
    // ip6 saddr fe80::/10 iifname . ip6 saddr @pairs6 return
    let key = [Field::InputInterface, Field::Ipv6Source];
    let own = Match::in_set(key, "pairs6");
    vec![
        Rule::verdict(neighbour_discovery_matches(), Verdict::Return)
            .comment("neighbour discovery"),
        Rule::verdict(listener_discovery_matches(), Verdict::Return)
            .comment("multicast listener discovery"),
        Rule::verdict([from_link_local(), own], Verdict::Return),
        dropped([from_link_local()], "link-local"),
    ]
}

/// Only a pod's own link-local address, by which the maps of IPv6 find it: where it is not known, and from a port that
/// is not known, none.
fn link_local() -> Vec<Rule> {
    // iifname . ip6 saddr @own_link_local return
    let key = [Field::InputInterface, Field::Ipv6Source];
    let own = Match::in_set(key, "own_link_local");
    vec![
        Rule::verdict([own], Verdict::Return),
        drop_rest("link-local"),
    ]
}

/// Only what names an address of the pod, and what makes the pod reachable. Not all of it has been through
/// [`from_pod`]: a bridge may have ports that are not known.
fn to_isolated() -> Vec<Rule> {
    let arp = Match::is(Field::EtherType, [Value::Symbol("arp")]);
    let to = |address, set: &str| {
        // oifname . ip daddr @pairs4 accept
        let own = Match::in_set([Field::OutputInterface, address], set);
        Rule::verdict([own], Verdict::Accept)
    };
    vec![
        tagged_or_other(),
        Rule::verdict([arp], Verdict::Accept).comment("ARP"),
        neighbour_discovery(),
        listener_discovery(),
        // ip6 saddr fe80::/10 jump link_local
        Rule::verdict([from_link_local()], Verdict::Jump("link_local".into())),
        to(Field::Ipv4Destination, "pairs4"),
        to(Field::Ipv6Destination, "pairs6"),
        drop_rest("link-local, multicast or broadcast"),
    ]
}
