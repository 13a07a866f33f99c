//! What the evaluator does not judge: packets without an address of ours in them, and those with somebody else's.
//! What must become of them is the design's list of guards, said here once more.

use std::net::{IpAddr, Ipv4Addr};

use policy_compiler::evaluate::{Connection, NodeEgress, Transport, Verdict, evaluate};
use policy_compiler::model::{Cluster, Direction, Pod, Protocol, is_link_local};

use super::interactions;
use super::network::{Attached, End, Leg, Setting, interface, link_local, number};
use super::walk::Walk;
use super::walk::packet::{Content, Header, Packet, SYN, State};

/// Link layer discovery (LLDP).
const LLDP: u16 = 0x88cc;
const SOLICITATION: u8 = 135;
const ECHO: u8 = 128;
const NEIGHBOUR_DISCOVERY: [u8; 3] = [133, 135, 136];
const ROUTERS_ONLY: [u8; 2] = [134, 137];
const LISTENER_DISCOVERY: [u8; 4] = [130, 131, 132, 143];
/// The frame's type.
const BROADCAST: u8 = 1;
const MULTICAST: u8 = 2;
/// The routing table's type.
const BROADCAST_ADDRESS: u8 = 3;

/// A node, and which of its pods has which guards.
pub(crate) struct Guards<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) setting: &'a Setting,
    pub(crate) node: &'a str,
    pub(crate) walk: &'a Walk,
}

/// A pod that is on the node's network.
struct Local {
    interface: String,
    /// Whether the rules know the interface.
    known: bool,
    egress: bool,
    ingress: bool,
    four: Option<IpAddr>,
    six: Option<IpAddr>,
    /// What it has on its link.
    on_link: IpAddr,
    /// Whether the rules know it by that.
    on_link_known: bool,
}

impl Guards<'_> {
    /// Tries every pod's packets, and says what was wrong with the first. Returns how many.
    pub(crate) fn check(&self) -> Result<u64, String> {
        let local = self.local();
        let mut tried = 0;
        let mut say = |what: &str, leg: &Leg<'_>, packet: Packet, expected: Verdict| {
            tried += 1;
            let stops = leg.stops(self.setting.attached.is_bridged());
            let passes = self.walk.passes(&packet, &stops);
            match passes == (expected == Verdict::Allow) {
                true => Ok(()),
                false => Err(format!(
                    "{what}: {leg:?}: expected {expected}: {packet:?}\n{:?}",
                    self.setting
                )),
            }
        };
        // Where the port of an isolated pod is not known, all of its bridge is guarded.
        let whole = local
            .iter()
            .any(|pod| !pod.known && (pod.egress || pod.ingress));
        for from in &local {
            self.to_host(from, whole, &mut say)?;
            for to in local.iter().filter(|to| to.interface != from.interface) {
                let leg = self.leg(from, End::Pod(to.interface.clone()));
                if from.known {
                    self.forged(from, to, &leg, &mut say)?;
                }
                if self.setting.attached.is_bridged() {
                    self.on_the_bridge(from, to, &leg, whole, &mut say)?;
                }
            }
        }
        Ok(tried)
    }

    fn local(&self) -> Vec<Local> {
        let pods = self.cluster.pods.values();
        let pods = pods.filter(|pod| pod.is_on_pod_network());
        let pods = pods.filter(|pod| pod.node.as_deref() == Some(self.node));
        let isolated = |pod: &Pod, direction| {
            let mut policies = self.cluster.policies_in(&pod.id.namespace);
            policies.any(|policy| {
                policy.rules(direction).is_some() && policy.selector.matches(&pod.labels)
            })
        };
        let local = pods.filter_map(|pod| {
            let addresses: Vec<_> = self.cluster.addresses_of(pod).collect();
            // Without an address of its own there is nothing to judge it by.
            (!addresses.is_empty()).then(|| Local {
                interface: interface(self.cluster, pod),
                known: self.setting.attached.knows(number(self.cluster, pod)),
                egress: isolated(pod, Direction::Egress),
                ingress: isolated(pod, Direction::Ingress),
                four: addresses.iter().copied().find(IpAddr::is_ipv4),
                six: addresses
                    .iter()
                    .copied()
                    .find(|address| address.is_ipv6() && !is_link_local(address)),
                on_link: link_local(number(self.cluster, pod)),
                on_link_known: addresses.iter().any(is_link_local),
            })
        });
        local.collect()
    }

    fn leg(&self, from: &Local, to: End) -> Leg<'_> {
        Leg {
            node: self.node,
            from: End::Pod(from.interface.clone()),
            to,
        }
    }

    /// From an address that is not the interface's, or no IP at all, or what only routers send: never further than the
    /// interface, whatever connection tracking says.
    fn forged(
        &self,
        from: &Local,
        to: &Local,
        leg: &Leg<'_>,
        say: &mut impl FnMut(&str, &Leg<'_>, Packet, Verdict) -> Result<(), String>,
    ) -> Result<(), String> {
        let own = [from.four, from.six];
        let strangers = ["203.0.113.9", "2001:db8::9", "0.0.0.0", "::"].map(address);
        let others = [address("fe80::9"), to.on_link].map(Some);
        let others = others.into_iter().filter(|_| from.on_link_known);
        let sources = strangers.into_iter().map(Some).chain([to.four, to.six]);
        let sources = sources.chain(others);
        for source in sources
            .flatten()
            .filter(|source| !own.contains(&Some(*source)))
        {
            let destination = if source.is_ipv4() {
                "203.0.113.8"
            } else {
                "2001:db8::8"
            };
            for state in [State::New, State::Established] {
                let on_link = is_link_local(&source).then_some(to.on_link);
                let mut packet = udp(source, on_link.unwrap_or(address(destination)));
                packet.state = state;
                say("from another's address", leg, packet, Verdict::Deny)?;
            }
            if is_link_local(&source) {
                let packet = icmpv6(source, address("ff02::1"), SOLICITATION, 255);
                say("discovery as another", leg, packet, Verdict::Deny)?;
            }
        }
        for source in [from.six, Some(from.on_link)].into_iter().flatten() {
            for kind in ROUTERS_ONLY {
                for hop_limit in [255, 64] {
                    let packet = icmpv6(source, address("ff02::1"), kind, hop_limit);
                    say("what routers send", leg, packet, Verdict::Deny)?;
                }
            }
        }
        if !self.setting.attached.is_bridged() {
            return Ok(());
        }
        for source in own.into_iter().flatten() {
            let mut packet = udp(source, source);
            packet.tagged = true;
            say("tagged", leg, packet, Verdict::Deny)?;
        }
        say(
            "no IP",
            leg,
            Packet::new(Content::Other(LLDP)),
            Verdict::Deny,
        )?;
        let arp = |sender| Packet::new(Content::Arp(sender));
        say(
            "an ARP probe",
            leg,
            arp(Ipv4Addr::UNSPECIFIED),
            Verdict::Allow,
        )?;
        say(
            "another's ARP",
            leg,
            arp(Ipv4Addr::new(203, 0, 113, 9)),
            Verdict::Deny,
        )?;
        match from.four {
            Some(IpAddr::V4(four)) => say("its ARP", leg, arp(four), Verdict::Allow),
            _ => Ok(()),
        }
    }

    /// What travels inside a bridge.
    fn on_the_bridge(
        &self,
        from: &Local,
        to: &Local,
        leg: &Leg<'_>,
        whole: bool,
        say: &mut impl FnMut(&str, &Leg<'_>, Packet, Verdict) -> Result<(), String>,
    ) -> Result<(), String> {
        let verdict = |denied| {
            if denied {
                Verdict::Deny
            } else {
                Verdict::Allow
            }
        };
        let link_local = from.on_link;
        for kind in NEIGHBOUR_DISCOVERY {
            let packet = icmpv6(link_local, address("ff02::1"), kind, 255);
            say("neighbour discovery", leg, packet, Verdict::Allow)?;
        }
        if let Some(six) = from.six {
            let packet = icmpv6(six, address("fe80::2"), SOLICITATION, 255);
            say("neighbour discovery", leg, packet, Verdict::Allow)?;
        }
        let unspecified = address("::");
        let packet = icmpv6(unspecified, address("ff02::1"), SOLICITATION, 255);
        say("duplicate address detection", leg, packet, Verdict::Allow)?;
        for kind in LISTENER_DISCOVERY {
            let packet = icmpv6(link_local, address("ff02::16"), kind, 1);
            say("listener discovery", leg, packet, Verdict::Allow)?;
        }
        // The same with another hop limit has been routed, and is like anything else from a link-local address.
        // One that is known is judged; of the others none passes to and from isolated pods.
        let closed = whole
            || (!from.on_link_known && ((from.known && from.egress) || (to.known && to.ingress)));
        let transports = interactions::transports(self.cluster).into_iter();
        let packets = transports.flat_map(|transport| {
            [to.on_link, address("fe80::2"), address("ff02::16")]
                .map(|destination| first(link_local, destination, transport))
        });
        let discovery = [
            (
                icmpv6(link_local, to.on_link, SOLICITATION, 254),
                to.on_link,
            ),
            (
                icmpv6(link_local, address("ff02::16"), 143, 2),
                address("ff02::16"),
            ),
        ];
        let discovery = discovery.map(|(packet, destination)| {
            (packet, connection(link_local, destination, Transport::Icmp))
        });
        for (packet, connection) in packets.chain(discovery) {
            let destination = connection.destination;
            let hidden = to.known && to.ingress && !(to.on_link_known && destination == to.on_link);
            let judged = evaluate(self.cluster, connection, self.setting.node_egress).verdict;
            let expected = judged.max(verdict(closed || hidden));
            say("link-local", leg, packet, expected)?;
        }
        // Link-local on one side only is never routed where ports are known and a pod is isolated.
        let strict = from.known && from.egress || to.known && to.ingress;
        if whole || strict {
            let six = to.six.unwrap_or(address("fd00::99"));
            say(
                "link-local on one side",
                leg,
                udp(link_local, six),
                Verdict::Deny,
            )?;
            if let Some(six) = from.six {
                say(
                    "link-local on one side",
                    leg,
                    udp(six, to.on_link),
                    Verdict::Deny,
                )?;
            }
        }
        // Who sends it is judged as for any destination outside; whom it reaches may only be who is not isolated.
        for (destination, kind, destination_type) in [
            ("255.255.255.255", BROADCAST, BROADCAST_ADDRESS),
            ("10.0.0.255", BROADCAST, BROADCAST_ADDRESS),
            ("224.0.0.251", MULTICAST, 5),
            ("ff02::1", MULTICAST, 5),
        ] {
            let destination = address(destination);
            let source = if destination.is_ipv4() {
                from.four
            } else {
                from.six
            };
            let Some(source) = source else { continue };
            let mut packet = udp(source, destination);
            (packet.kind, packet.destination_type) = (kind, destination_type);
            let connection = Connection {
                source,
                destination,
                transport: Transport::Port(Protocol::Udp, PORT),
            };
            let egress = evaluate(self.cluster, connection, self.setting.node_egress).egress;
            let closed = whole || (to.known && to.ingress);
            let expected = egress.verdict.max(verdict(closed));
            say("multicast or broadcast", leg, packet, expected)?;
        }
        // An unknown port's pod that claims the address of a known one is found out by where replies would go.
        let forged = [to.four, to.six].into_iter().flatten();
        for source in forged.filter(|_| !from.known) {
            let destination = if source.is_ipv4() {
                "203.0.113.8"
            } else {
                "2001:db8::8"
            };
            let mut packet = udp(source, address(destination));
            packet.return_route = false;
            say("from where no reply would go", leg, packet, Verdict::Deny)?;
        }
        if whole || from.known {
            for kind in ROUTERS_ONLY {
                let packet = icmpv6(link_local, address("fe80::2"), kind, 255);
                say("what routers send", leg, packet, Verdict::Deny)?;
            }
        }
        Ok(())
    }

    /// What a pod sends to its own node.
    fn to_host(
        &self,
        from: &Local,
        whole: bool,
        say: &mut impl FnMut(&str, &Leg<'_>, Packet, Verdict) -> Result<(), String>,
    ) -> Result<(), String> {
        let leg = &self.leg(from, End::Host);
        let link_local = from.on_link;
        for kind in NEIGHBOUR_DISCOVERY {
            let packet = icmpv6(link_local, address("fe80::2"), kind, 255);
            say("neighbour discovery", leg, packet, Verdict::Allow)?;
        }
        let packet = icmpv6(link_local, address("ff02::16"), 143, 1);
        say("listener discovery", leg, packet, Verdict::Allow)?;
        // Where not even the bridge is known, the node itself must not accept this.
        if let Attached::Unknown { .. } = self.setting.attached {
            return Ok(());
        }
        let whole = whole && self.setting.attached.is_bridged();
        let closed = match self.setting.node_egress {
            NodeEgress::Allow => false,
            NodeEgress::Policy => whole || (from.known && from.egress && !from.on_link_known),
        };
        for transport in interactions::transports(self.cluster) {
            let (packet, connection) = first(link_local, address("fe80::2"), transport);
            let egress = evaluate(self.cluster, connection, self.setting.node_egress).egress;
            let expected = match self.setting.node_egress {
                _ if closed => Verdict::Deny,
                NodeEgress::Allow => Verdict::Allow,
                NodeEgress::Policy => egress.verdict,
            };
            say("link-local to the node", leg, packet, expected)?;
        }
        for kind in ROUTERS_ONLY.into_iter().filter(|_| from.known || whole) {
            let packet = icmpv6(link_local, address("fe80::2"), kind, 255);
            say("what routers send to the node", leg, packet, Verdict::Deny)?;
        }
        Ok(())
    }
}

const PORT: u16 = 5353;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The first packet of a connection, with that.
fn first(source: IpAddr, destination: IpAddr, transport: Transport) -> (Packet, Connection) {
    let header = match transport {
        Transport::Port(protocol, port) => Header::Port {
            protocol,
            port,
            flags: SYN,
        },
        Transport::Icmp => Header::Icmp {
            kind: ECHO,
            checksum: 3,
        },
    };
    let packet = Packet::new(Content::Ip {
        source,
        destination,
        hop_limit: 64,
        transport: header,
    });
    (packet, connection(source, destination, transport))
}

fn connection(source: IpAddr, destination: IpAddr, transport: Transport) -> Connection {
    Connection {
        source,
        destination,
        transport,
    }
}

fn udp(source: IpAddr, destination: IpAddr) -> Packet {
    Packet::new(Content::Ip {
        source,
        destination,
        hop_limit: 64,
        transport: Header::Port {
            protocol: Protocol::Udp,
            port: PORT,
            flags: SYN,
        },
    })
}

fn icmpv6(source: IpAddr, destination: IpAddr, kind: u8, hop_limit: u8) -> Packet {
    Packet::new(Content::Ip {
        source,
        destination,
        hop_limit,
        transport: Header::Icmp { kind, checksum: 3 },
    })
}
