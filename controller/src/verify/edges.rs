//! What is worth asking about: the ports and addresses at the edges of rules.

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy_compiler::model::{
    AddressRanges, Cidr, Direction, NetworkPolicy, Peer, Peers, Pod, PolicyPort, PortMatch, Ports,
    Rule,
};

use crate::flow::{Port, ProtocolName};

/// A protocol and a port to ask about.
pub(super) type Target = (ProtocolName, Option<u16>);

/// Outside of everything that policies usually name: TEST-NET-3 and the IPv6 documentation range.
const OUTSIDE: [&str; 2] = ["203.0.113.99", "2001:db8:ffff::99"];

/// The rules of both directions.
pub(super) fn rules(policy: &NetworkPolicy) -> impl Iterator<Item = &Rule> {
    [Direction::Egress, Direction::Ingress]
        .into_iter()
        .flat_map(|direction| policy.rules(direction).unwrap_or_default())
}

/// The first and last port of each entry, the ports beside them, the numbers behind names, other protocols with
/// the same numbers, and ICMP.
pub(super) fn targets<'a>(
    pods: impl Iterator<Item = &'a Pod>,
    rules: impl IntoIterator<Item = &'a Rule>,
) -> BTreeSet<Target> {
    let pods: Vec<_> = pods.collect();
    let mut targets = BTreeSet::from([(ProtocolName::Icmp, None)]);
    let mut add = |protocol, port: u16| {
        if port > 0 {
            targets.insert((protocol, Some(port)));
        }
    };
    let mut is_any = true;
    for rule in rules {
        let Ports::Of(ports) = &rule.ports else {
            continue;
        };
        for entry in ports {
            is_any = false;
            let protocol = protocol_name(entry);
            let numbers = match &entry.port {
                PortMatch::All => vec![1, 80, u16::MAX],
                PortMatch::Range(range) => vec![
                    range.first().saturating_sub(1),
                    range.first(),
                    range.last(),
                    range.last().saturating_add(1),
                ],
                PortMatch::Named(name) => pods
                    .iter()
                    .flat_map(|pod| pod.numbers_of(name, entry.protocol))
                    .flat_map(|number| [number, number.saturating_add(1)])
                    .collect(),
            };
            let other = match protocol {
                ProtocolName::Tcp => ProtocolName::Udp,
                _ => ProtocolName::Tcp,
            };
            let inside = match &entry.port {
                PortMatch::All => Some(80),
                PortMatch::Range(range) => Some(range.first()),
                PortMatch::Named(_) => numbers.first().copied(),
            };
            numbers.into_iter().for_each(|number| add(protocol, number));
            inside.into_iter().for_each(|number| add(other, number));
        }
    }
    if is_any {
        add(ProtocolName::Tcp, 80);
        add(ProtocolName::Udp, 53);
        add(ProtocolName::Sctp, 9000);
    }
    targets
}

fn protocol_name(entry: &PolicyPort) -> ProtocolName {
    use policy_compiler::model::Protocol;
    match entry.protocol {
        Protocol::Tcp => ProtocolName::Tcp,
        Protocol::Udp => ProtocolName::Udp,
        Protocol::Sctp => ProtocolName::Sctp,
    }
}

/// A question's form of a target.
pub(super) fn port((protocol, number): Target) -> (ProtocolName, Option<Port>) {
    (protocol, number.map(Port::Number))
}

/// Addresses at the edges of the rules' blocks, inside, outside and in their excepts, that can be sent to and
/// from; and one of each family that no rule should know.
pub(super) fn addresses<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> BTreeSet<IpAddr> {
    let mut addresses: BTreeSet<IpAddr> = OUTSIDE
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    for rule in rules {
        let Peers::Of(peers) = &rule.peers else {
            continue;
        };
        for peer in peers {
            let Peer::Block(block) = peer else { continue };
            let excepts = AddressRanges::union(block.except());
            let whole = AddressRanges::union([&block.cidr()]);
            for ranges in [block.ranges(), excepts, whole] {
                addresses.extend(ranges.iter().take(4).flat_map(|r| [r.first(), r.last()]));
            }
        }
    }
    addresses.retain(|address| is_ordinary(*address));
    addresses
}

/// Whether a host can have the address: neither unspecified, loopback, link-local, multicast nor reserved.
fn is_ordinary(address: IpAddr) -> bool {
    let reserved = [
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/3",
        "::/8",
        "fe80::/10",
        "ff00::/8",
    ];
    !reserved
        .iter()
        .filter_map(|text| Cidr::parse_strict(text).ok())
        .any(|cidr| cidr.contains(address))
}
