//! Guards: what address maps alone would let through, in the hooks of IPv4 and IPv6.
//!
//! What a pod sends that is not from its own address is stopped where its interface is known. What travels inside
//! a bridge without an address of ours in it (link-local, multicast, broadcast) is stopped at each isolated pod's
//! port where the ports are known ([`super::bridge`]), and on the whole bridge where they are not. A link-local address
//! that is known as a pod's is an address of ours.

use std::collections::BTreeSet;

use super::base::{self, RAW_PRIORITY};
use super::interfaces::{
    add_any_link_local, add_pairs, any_link_local, attached, interface_set, interfaces,
    knows_link_local, link_local_of, pair,
};
use super::{Bridges, Dropped, Options, destination, digit, has_isolated_pod, source};
use crate::evaluate::NodeEgress;
use crate::ir::NodeIr;
use crate::model::{Cidr, Direction, Family};
use crate::ruleset::{Chain, Field, Hook, Mask, Match, Rule, Table, Value, Verdict};

/// ICMPv6 types of neighbour discovery that a pod may send: router solicitation, neighbour solicitation and
/// advertisement.
const NEIGHBOUR_DISCOVERY: [u32; 3] = [133, 135, 136];
/// Router advertisement (CVE-2020-10749) and redirect: never a pod's to send.
const ROUTERS_ONLY: [u32; 2] = [134, 137];
/// Multicast listener discovery: query, report, done, and the report of version 2.
const LISTENER_DISCOVERY: [u32; 4] = [130, 131, 132, 143];

pub(super) fn add(table: &mut Table, ir: &NodeIr, options: &Options) {
    add_from_pod(table, ir, options);
    let strict = has_isolated_pod(ir);
    let mut guards = vec![neighbour_discovery()];
    if strict
        && has_unknown_port(ir, options)
        && let Some(rule) = to_bridged(&options.bridges)
    {
        guards.push(rule);
        table.add_chain(chain("bridged", bridged_rules()));
    }
    // icmpv6 type { 134, 137 } ip6 saddr @local6 counter drop
    let local = Match::in_set([Field::Ipv6Source], "local6");
    guards.push(dropped(
        [icmpv6(&ROUTERS_ONLY), local],
        "router advertisement or redirect",
    ));
    if strict && attached(ir, options, true).next().is_some() {
        guards.extend(routed_link_local());
        guards.extend(listener_report(ir, options));
    }
    guards.extend(forged_source(ir, options));
    if strict {
        guards.push(not_a_bare_syn());
        table.add_chain(chain("not_a_bare_syn", drop_for_isolated()));
    }
    table.add_chain(chain("guards", guards));
}

/// Where packets inside a bridge whose ports are not known are guarded.
fn to_bridged(bridges: &Bridges) -> Option<Rule> {
    let inside = match bridges {
        Bridges::Any => vec![],
        Bridges::Named(names) if names.is_empty() => return None,
        Bridges::Named(names) => {
            // iifname "br0" oifname "br0" jump bridged
            let names: Vec<_> = names
                .iter()
                .map(|name| Value::Interface(name.to_string()))
                .collect();
            let both = [Field::InputInterface, Field::OutputInterface];
            both.map(|field| Match::is(field, names.clone())).into()
        }
    };
    Some(Rule::verdict(inside, Verdict::Jump("bridged".into())))
}

/// Link-local on one side only: a router forwards that if it goes back out by the interface it came in by, as
/// between two pods of a bridge by way of the node. There the port is not asked whose address it is.
fn routed_link_local() -> [Rule; 2] {
    let inside = || network("fe80::/10").into_iter().chain(network("ff00::/8"));
    let to_link_local = Match::is(Field::Ipv6Destination, network("fe80::/10"));
    [
        // ip6 saddr fe80::/10 ip6 daddr != { fe80::/10, ff00::/8 } counter drop
        dropped(
            [
                from_link_local(),
                Match::is(Field::Ipv6Destination, inside()).negated(),
            ],
            "routed link-local",
        ),
        // ip6 daddr fe80::/10 ip6 saddr != fe80::/10 counter drop
        dropped(
            [to_link_local, from_link_local().negated()],
            "routed link-local",
        ),
    ]
}

/// Multicast listener discovery of pods on a bridge whose link-local addresses are known: else their classes would judge
/// it.
fn listener_report(ir: &NodeIr, options: &Options) -> Option<Rule> {
    // icmpv6 type { 130, 131, 132, 143 } ip6 hoplimit 1 ip6 saddr fe80::/10 ip6 daddr ff00::/8 accept
    let to_group = Match::is(Field::Ipv6Destination, network("ff00::/8"));
    let matches = listener_discovery_matches().into_iter();
    let matches = matches.chain([from_link_local(), to_group]);
    let why = "multicast listener discovery";
    knows_link_local(ir, options, true).then(|| accepted(matches, why))
}

fn chain(name: &str, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.to_owned(),
        base: None,
        rules,
    }
}

/// `... counter counter name "dropped_guard" drop`: the first says which guard it was.
pub(super) fn dropped(matches: impl IntoIterator<Item = Match>, why: &str) -> Rule {
    let drop = Rule::verdict(matches, Verdict::Drop).counted();
    drop.counted_in(Dropped::Guard.counter()).comment(why)
}

fn accepted(matches: impl IntoIterator<Item = Match>, why: &str) -> Rule {
    Rule::verdict(matches, Verdict::Accept).comment(why)
}

fn icmpv6(types: &[u32]) -> Match {
    Match::is(
        Field::Icmpv6Type,
        types.iter().map(|type_| Value::Number(*type_)),
    )
}

fn hop_limit(limit: u32) -> Match {
    Match::is(Field::Ipv6HopLimit, [Value::Number(limit)])
}

/// `fe80::/10`; constant texts always parse.
fn network(text: &str) -> Option<Value> {
    Cidr::parse_strict(text).ok().map(Value::Network)
}

/// Neighbour discovery, only inside a link: what was routed has a lower hop limit.
pub(super) fn neighbour_discovery_matches() -> [Match; 2] {
    // icmpv6 type { 133, 135, 136 } ip6 hoplimit 255
    [icmpv6(&NEIGHBOUR_DISCOVERY), hop_limit(255)]
}

/// Multicast listener discovery, only inside a link.
pub(super) fn listener_discovery_matches() -> [Match; 2] {
    // icmpv6 type { 130, 131, 132, 143 } ip6 hoplimit 1
    [icmpv6(&LISTENER_DISCOVERY), hop_limit(1)]
}

pub(super) fn neighbour_discovery() -> Rule {
    accepted(neighbour_discovery_matches(), "neighbour discovery")
}

pub(super) fn listener_discovery() -> Rule {
    accepted(listener_discovery_matches(), "multicast listener discovery")
}

/// `icmpv6 type { 134, 137 } counter drop`
pub(super) fn routers_only() -> Rule {
    dropped([icmpv6(&ROUTERS_ONLY)], "router advertisement or redirect")
}

/// What a router on the link may send: advertisements and redirects (`icmpv6 type { 134, 137 } ip6 hoplimit 255`).
pub(super) fn from_a_router() -> Rule {
    let matches = [icmpv6(&ROUTERS_ONLY), hop_limit(255), from_link_local()];
    accepted(matches, "router advertisement or redirect")
}

/// What a pod may send from no address: duplicate address detection, and the report that goes with it.
pub(super) fn from_no_address() -> [Rule; 2] {
    let unspecified = || {
        Match::is(
            Field::Ipv6Source,
            [Value::Address(std::net::Ipv6Addr::UNSPECIFIED.into())],
        )
    };
    // ip6 saddr :: icmpv6 type 135 ip6 hoplimit 255 accept
    let solicitation = [unspecified(), icmpv6(&[135]), hop_limit(255)];
    // ip6 saddr :: icmpv6 type 143 ip6 hoplimit 1 accept
    let report = [unspecified(), icmpv6(&[143]), hop_limit(1)];
    let why = "duplicate address detection";
    [accepted(solicitation, why), accepted(report, why)]
}

/// `ip6 saddr fe80::/10`
pub(super) fn from_link_local() -> Match {
    Match::is(Field::Ipv6Source, network("fe80::/10"))
}

/// Whether some isolated pod's port is not known, so that its bridge must be guarded as a whole.
fn has_unknown_port(ir: &NodeIr, options: &Options) -> bool {
    let mut pods = ir.pods.iter();
    pods.any(|(id, pod)| pod.is_isolated() && !options.attachments.contains_key(id))
}

/// A known pod's address from where replies to it would not go: another pod's forgery.
///
/// On a bridge whose ports are not known this cannot tell two pods apart. Routes say nothing of a link-local address: it
/// is on each link that has such addresses at all, and a bridge need not have one for its pods to have some.
fn forged_source(ir: &NodeIr, options: &Options) -> Vec<Rule> {
    let on_links = [true, false].map(|bridged| knows_link_local(ir, options, bridged));
    let on_links = on_links.contains(&true);
    let of_family = |family| {
        // ip saddr @local4 fib saddr . iif oif missing counter drop
        let local = Match::in_set([source(family)], format!("local{}", digit(family)));
        // ip6 saddr != fe80::/10
        let routed = (on_links && family == Family::Ipv6).then(|| from_link_local().negated());
        let nowhere = Match::is(Field::ReturnRoute, [Value::Symbol("missing")]);
        let matches = [local].into_iter().chain(routed).chain([nowhere]);
        dropped(matches, "forged source")
    };
    Family::ALL.into_iter().map(of_family).collect()
}

/// A TCP packet that would open a connection without being a SYN: else one forged RST closes the conntrack entry
/// of a revoked connection, and the other end's next packet opens it anew.
pub(super) fn not_a_bare_syn() -> Rule {
    Rule::verdict(bare_matches(), Verdict::Jump("not_a_bare_syn".into()))
}

/// Of TCP, what opens a connection and is no SYN.
pub(super) fn bare_matches() -> [Match; 2] {
    let new = Match::is(Field::ConnectionState, [Value::Symbol("new")]);
    // tcp flags & (fin | syn | rst | ack) != syn
    let flags = Match::is(Field::TcpFlags, [Value::Symbol("syn")]);
    let flags = flags
        .masked(Mask::Flags(&["fin", "syn", "rst", "ack"]))
        .negated();
    [new, flags]
}

fn drop_for_isolated() -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in Family::ALL {
        for field in [source(family), destination(family)] {
            // ip saddr @strict4 counter drop
            let isolated = Match::in_set([field], format!("strict{}", digit(family)));
            rules.push(dropped([isolated], "TCP without a connection"));
        }
    }
    rules
}

/// What crosses a bridge whose ports are not known, while an isolated pod is on it.
fn bridged_rules() -> Vec<Rule> {
    let links = || network("fe80::/10");
    let multicast6 = links().into_iter().chain(network("ff00::/8"));
    let everyone = std::net::Ipv4Addr::BROADCAST.into();
    let multicast4 = network("224.0.0.0/4")
        .into_iter()
        .chain([Value::Address(everyone)]);
    let types = ["broadcast", "multicast"].map(Value::Symbol);
    let broadcast = [Value::Symbol("broadcast")];
    vec![
        routers_only(),
        listener_discovery(),
        // ip6 saddr fe80::/10 counter drop
        dropped([from_link_local()], "link-local"),
        // ip6 daddr { fe80::/10, ff00::/8 } counter drop
        dropped(
            [Match::is(Field::Ipv6Destination, multicast6)],
            "link-local or multicast",
        ),
        // meta pkttype { broadcast, multicast } counter drop: the frame's type, not the packet's
        dropped(
            [Match::is(Field::PacketType, types)],
            "broadcast or multicast",
        ),
        // ip daddr { 224.0.0.0/4, 255.255.255.255 } counter drop
        dropped(
            [Match::is(Field::Ipv4Destination, multicast4)],
            "broadcast or multicast",
        ),
        // fib daddr type broadcast counter drop
        dropped(
            [Match::is(Field::DestinationAddressType, broadcast)],
            "broadcast",
        ),
    ]
}

/// What is dropped of a pod to its own node besides what its class says: with [`NodeEgress::Policy`].
pub(super) fn to_own_node(ir: &NodeIr, options: &Options) -> Vec<Rule> {
    let mut rules = vec![neighbour_discovery(), listener_discovery()];
    let isolated = attached(ir, options, false).filter(|(attachment, pod)| {
        pod.class(Direction::Egress).is_some() && link_local_of(attachment, pod).next().is_none()
    });
    let isolated: BTreeSet<_> = isolated
        .map(|(attachment, _)| attachment.interface.to_string())
        .collect();
    if !isolated.is_empty() {
        // iifname "veth0" ip6 saddr fe80::/10 counter drop: from which no map finds the pod.
        let from = Match::is(
            Field::InputInterface,
            isolated.into_iter().map(Value::Interface),
        );
        rules.push(dropped([from, from_link_local()], "link-local"));
    }
    if let Some(from) = from_unknown_port(ir, options) {
        rules.push(dropped([from, from_link_local()], "link-local"));
    }
    rules.extend(forged_source(ir, options));
    if has_isolated_pod(ir) {
        rules.push(not_a_bare_syn());
    }
    rules
}

/// `iifname "br0"`, if pods are on bridges that are known while their ports are not.
fn from_unknown_port(ir: &NodeIr, options: &Options) -> Option<Match> {
    let Bridges::Named(names) = &options.bridges else {
        return None;
    };
    let names = names.iter().map(|name| Value::Interface(name.to_string()));
    (names.len() > 0 && has_unknown_port(ir, options))
        .then(|| Match::is(Field::InputInterface, names))
}

/// `iifname "br0" icmpv6 type { 134, 137 } counter drop`: a pod that plays the node's router. Where ports are known
/// it is stopped at the port; where not even the bridge is, the node must not accept advertisements there.
pub(super) fn router_for_this_node(ir: &NodeIr, options: &Options) -> Option<Rule> {
    let from = from_unknown_port(ir, options)?;
    Some(dropped(
        [from, icmpv6(&ROUTERS_ONLY)],
        "router advertisement or redirect",
    ))
}

/// What is dropped of this node to its pods: with [`NodeEgress::Policy`] a pod's connection to its node can be
/// revoked, and must not come back as the node's.
pub(super) fn to_own_pods(ir: &NodeIr, options: &Options) -> Vec<Rule> {
    let revocable = options.node_egress == NodeEgress::Policy && has_isolated_pod(ir);
    revocable.then(not_a_bare_syn).into_iter().collect()
}

/// `iifname "veth0" accept`, if pods may route.
pub(super) fn routing(ir: &NodeIr, options: &Options, bridged: bool) -> Option<Rule> {
    let routing = attached(ir, options, bridged).filter(|(attachment, _)| attachment.routes);
    let names: BTreeSet<_> = routing
        .map(|(attachment, _)| Value::Interface(attachment.interface.to_string()))
        .collect();
    (!names.is_empty()).then(|| routes([Match::is(Field::InputInterface, names)]))
}

/// What a pod that routes may send from addresses that are not its own.
pub(super) fn routes(matches: impl IntoIterator<Item = Match>) -> Rule {
    accepted(matches, "routed by the pod")
}

/// What comes in by a routed pod's interface: only from the pod's addresses.
fn add_from_pod(table: &mut Table, ir: &NodeIr, options: &Options) {
    let routed = interfaces(ir, options, false, |_| true);
    if routed.is_empty() {
        return;
    }
    table.add_set("interfaces", interface_set(routed, "interfaces of pods"));
    add_pairs(table, ir, options, false);
    add_any_link_local(table, ir, options, false);
    // iifname @interfaces goto from_pod
    let known = Match::in_set([Field::InputInterface], "interfaces");
    let rules = vec![Rule::verdict([known], Verdict::Goto("from_pod".into()))];
    // Before conntrack: what is forged leaves no entry.
    table.add_chain(base::chain(
        "prerouting",
        Hook::Prerouting,
        RAW_PRIORITY,
        rules,
    ));
    let mut rules = vec![
        // iifname . ip saddr @pairs4 accept
        pair(Field::Ipv4Source, Family::Ipv4),
        routers_only(),
        pair(Field::Ipv6Source, Family::Ipv6),
    ];
    rules.extend(from_no_address());
    // To this node only: the forward hook never sees link-local packets of a link of its own.
    rules.push(any_link_local());
    rules.extend(routing(ir, options, false));
    rules.push(dropped([], "forged source"));
    table.add_chain(chain("from_pod", rules));
}
