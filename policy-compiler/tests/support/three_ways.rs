//! One cluster, three answers to each connection: the evaluator's, the nodes' rules', and the walk of the rulesets.

use std::collections::BTreeMap;
use std::fmt::Write;

use policy_compiler::compile::compile;
use policy_compiler::evaluate::{Connection, NodeEgress, Transport, Verdict, evaluate};
use policy_compiler::ir::NodeIr;
use policy_compiler::lower::{Merging, lower};
use policy_compiler::model::{Cluster, Direction, Owner, Protocol};
use policy_compiler::render;
use policy_compiler::ruleset::{Hook, Ruleset, TableFamily};
use proptest::prelude::*;

use super::guards::Guards;
use super::interactions::{self, NODES};
use super::network::{self, Attached, End, Leg, Setting, UPLINK, legs};
use super::owners;
use super::walk::packet::{ACK, Content, Header, Packet, RST, SYN, State};
use super::walk::{Stop, Walk};

/// Connections of a cluster that are tried.
const CONNECTIONS: usize = 500;
/// An ICMP message has its checksum where other protocols have their port. It may well be one that a rule names.
const CHECKSUM: u16 = 3;
/// GRE, which has no ports.
const GRE: u8 = 47;
const ECHO: u8 = 8;
const ECHO6: u8 = 128;
/// ICMP errors: unreachable.
const UNREACHABLE: u8 = 3;
const UNREACHABLE6: u8 = 1;

/// A cluster, and how its nodes are.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    setting: Setting,
}

impl World {
    pub(crate) fn setting(&self) -> String {
        format!("{:?}", self.setting)
    }
}

/// What was tried.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) flows: u64,
    pub(crate) allowed: u64,
    pub(crate) denied: u64,
    pub(crate) packets: u64,
    pub(crate) rulesets: u64,
    /// Packets that guards are there for.
    pub(crate) guarded: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Counts) {
        self.flows += other.flows;
        self.allowed += other.allowed;
        self.denied += other.denied;
        self.packets += other.packets;
        self.rulesets += other.rulesets;
        self.guarded += other.guarded;
    }
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    let merging = prop_oneof![
        1 => Just(Merging::default()),
        2 => Just(Merging { above: 0, elements_per_rule: 1000, ranges: 1000 }),
        1 => (0..4usize, 0..8usize, 0..40usize).prop_map(|(above, elements_per_rule, ranges)| {
            Merging { above, elements_per_rule, ranges }
        }),
    ];
    let node_egress = prop_oneof![Just(NodeEgress::Allow), Just(NodeEgress::Policy)];
    let attached = prop::sample::select(Attached::ALL.to_vec());
    let setting = (attached, node_egress, merging);
    (interactions::cluster(), setting).prop_map(|(cluster, (attached, node_egress, merging))| {
        World {
            cluster: network::with_link_local(cluster, attached),
            setting: Setting {
                attached,
                node_egress,
                merging,
            },
        }
    })
}

struct Node {
    ir: NodeIr,
    ruleset: Ruleset,
    walk: Walk,
}

/// Compares the three, and gives every ruleset to `load`. What differs is said.
pub(crate) fn check(
    world: &World,
    load: &dyn Fn(&Ruleset) -> Result<(), String>,
) -> Result<Counts, String> {
    let World { cluster, setting } = world;
    let mut counts = Counts::default();
    let mut nodes = BTreeMap::new();
    for name in NODES {
        let ir = compile(cluster, name);
        let ruleset = lower(&ir, &setting.options(cluster, name));
        load(&ruleset).map_err(|error| format!("{error}\n{}", render::text(&ruleset)))?;
        counts.rulesets += 1;
        let walk = Walk::new(&ruleset);
        let guards = Guards {
            cluster,
            setting,
            node: name,
            walk: &walk,
        };
        let tried = guards.check();
        counts.guarded += tried.map_err(|error| format!("{error}\n{}", render::text(&ruleset)))?;
        nodes.insert(name, Node { ir, ruleset, walk });
    }
    for address in interactions::addresses(cluster) {
        let (known, expected) = (cluster.owner(address), owners::owner(cluster, address));
        if known != expected {
            return Err(format!(
                "{address} is that of {known:?}, not of {expected:?}"
            ));
        }
    }
    let connections = interactions::connections(cluster, CONNECTIONS);
    for (index, connection) in connections.into_iter().enumerate() {
        let asked = Asked {
            world,
            nodes: &nodes,
            connection,
            legs: legs(cluster, connection),
        };
        let verdict = asked.agree(&mut counts)?;
        match verdict {
            Verdict::Allow => counts.allowed += 1,
            Verdict::Deny => counts.denied += 1,
        }
        counts.flows += 1;
        asked.variant(index, verdict, &mut counts)?;
    }
    Ok(counts)
}

struct Asked<'a> {
    world: &'a World,
    nodes: &'a BTreeMap<&'static str, Node>,
    connection: Connection,
    legs: Vec<Leg<'a>>,
}

impl Asked<'_> {
    /// The verdict of all three.
    fn agree(&self, counts: &mut Counts) -> Result<Verdict, String> {
        let World { cluster, setting } = self.world;
        let evaluation = evaluate(cluster, self.connection, setting.node_egress);
        let verdict = evaluation.verdict;
        let legs = self.legs.iter().filter(|leg| self.judges(leg));
        let judged = legs.map(|leg| self.nodes[leg.node].ir.judge(self.connection));
        let judged = judged.max().unwrap_or(Verdict::Allow);
        if judged != verdict {
            return Err(self.differs("the nodes' rules", judged, &format!("{evaluation:?}")));
        }
        self.expect(&self.first(SYN), verdict, "the ruleset", counts)?;
        self.sent_here(counts)?;
        Ok(verdict)
    }

    /// What the node sends for others, as with kube-proxy's IPVS, is judged as what it forwards.
    fn sent_here(&self, counts: &mut Counts) -> Result<(), String> {
        let forwarded = |leg: &&Leg<'_>| leg.from != End::Host && leg.to != End::Host;
        for leg in self.legs.iter().filter(forwarded) {
            let node = &self.nodes[leg.node];
            let expected = node.ir.judge(self.connection);
            let stop = Stop {
                family: TableFamily::Inet,
                hook: Hook::Output,
                input: None,
                output: Some(UPLINK.to_owned()),
            };
            counts.packets += 1;
            let passes = node.walk.passes(&self.first(SYN), &[stop]);
            if passes != (expected == Verdict::Allow) {
                let walked = if passes {
                    Verdict::Allow
                } else {
                    Verdict::Deny
                };
                return Err(self.differs("sent by the node", walked, &format!("{leg:?}")));
            }
        }
        Ok(())
    }

    /// Whether the node's rules have a say: not in what it sends itself, and only by option in what it receives.
    fn judges(&self, leg: &Leg<'_>) -> bool {
        match (&leg.from, &leg.to) {
            (End::Host, _) => false,
            (_, End::Host) => self.world.setting.node_egress == NodeEgress::Policy,
            _ => true,
        }
    }

    /// The first packet of the connection, with these flags if it is TCP.
    fn first(&self, flags: u8) -> Packet {
        let Connection {
            source,
            destination,
            transport,
        } = self.connection;
        let transport = match transport {
            Transport::Port(protocol, port) => Header::Port {
                protocol,
                port,
                flags,
            },
            Transport::Icmp => Header::Icmp {
                kind: if source.is_ipv4() { ECHO } else { ECHO6 },
                checksum: CHECKSUM,
            },
        };
        let mut packet = Packet::new(Content::Ip {
            source,
            destination,
            hop_limit: 64,
            transport,
        });
        // A pod meets itself only by way of a Service.
        packet.dnat = source == destination;
        packet
    }

    /// Another packet of the connection, with what must become of it.
    fn variant(&self, index: usize, verdict: Verdict, counts: &mut Counts) -> Result<(), String> {
        let mut packet = self.first(SYN);
        let (what, expected) = match index % 8 {
            0 => {
                packet = self.first(ACK);
                packet.state = State::Established;
                ("a later packet", Verdict::Allow)
            }
            1 => {
                packet = self.first(ACK);
                packet.state = State::Established;
                packet.mark = 0xff5f_ffff | 0x0010_0000;
                ("a packet of a revoked connection", Verdict::Deny)
            }
            2 => {
                packet.mark = 0xffef_ffff;
                ("with a mark of others", verdict)
            }
            3 => {
                packet.state = State::Untracked;
                // Without an entry nobody knows that it came by way of a Service.
                let itself = self.connection.source == self.connection.destination;
                if itself {
                    return Ok(());
                }
                ("not tracked", verdict)
            }
            4 => {
                let Content::Ip {
                    transport, source, ..
                } = &mut packet.content
                else {
                    return Ok(());
                };
                let kind = if source.is_ipv4() {
                    UNREACHABLE
                } else {
                    UNREACHABLE6
                };
                *transport = Header::Icmp {
                    kind,
                    checksum: CHECKSUM,
                };
                packet.state = State::Related;
                ("an ICMP error of it", Verdict::Allow)
            }
            5 => {
                let Content::Ip { transport, .. } = &mut packet.content else {
                    return Ok(());
                };
                if self.connection.transport != Transport::Icmp {
                    return Ok(());
                }
                *transport = Header::Other {
                    number: GRE,
                    port: CHECKSUM,
                };
                ("another protocol without ports", verdict)
            }
            6 => {
                if !matches!(self.connection.transport, Transport::Port(Protocol::Tcp, _)) {
                    return Ok(());
                }
                packet = self.first([ACK, RST, SYN | ACK, 0][index / 8 % 4]);
                let guarded = self.legs.iter().any(|leg| self.guards_tcp(leg));
                let expected = if guarded { Verdict::Deny } else { verdict };
                ("TCP without a connection", expected)
            }
            _ => {
                if self.connection.source == self.connection.destination {
                    // Forged: no Service sent it back.
                    packet.dnat = false;
                    return self.forged(packet, counts);
                }
                packet.state = State::Invalid;
                ("an invalid packet", verdict)
            }
        };
        self.expect(&packet, expected, what, counts)
    }

    /// Whether a TCP packet that is no bare SYN is dropped on this way: one of a pod that is isolated in any
    /// direction, on its node.
    fn guards_tcp(&self, leg: &Leg<'_>) -> bool {
        let policy = self.world.setting.node_egress == NodeEgress::Policy;
        let here = |end: &End, address| matches!(end, End::Pod(_)) && self.is_isolated(address);
        let Connection {
            source,
            destination,
            ..
        } = self.connection;
        let any = here(&leg.from, source) || here(&leg.to, destination);
        let with_host = leg.from == End::Host || leg.to == End::Host;
        any && (!with_host || policy)
    }

    fn is_isolated(&self, address: std::net::IpAddr) -> bool {
        let Owner::Pod(pod) = self.world.cluster.owner(address) else {
            return false;
        };
        let mut policies = self.world.cluster.policies_in(&pod.id.namespace);
        policies.any(|policy| {
            let directions = [Direction::Egress, Direction::Ingress];
            let isolates = directions.iter().any(|d| policy.rules(*d).is_some());
            isolates && policy.selector.matches(&pod.labels)
        })
    }

    /// A packet that claims to be from the pod that it goes to: judged as from anybody.
    fn forged(&self, packet: Packet, counts: &mut Counts) -> Result<(), String> {
        let mut packet = packet;
        packet.return_route = false;
        let is_pod = matches!(
            self.world.cluster.owner(self.connection.source),
            Owner::Pod(_)
        );
        match is_pod {
            true => self.expect(&packet, Verdict::Deny, "forged", counts),
            false => Ok(()),
        }
    }

    fn expect(
        &self,
        packet: &Packet,
        expected: Verdict,
        what: &str,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let bridged = self.world.setting.attached.is_bridged();
        let passes = self.legs.iter().all(|leg| {
            let mut packet = packet.clone();
            packet.from_here = leg.from == End::Host;
            counts.packets += 1;
            self.nodes[leg.node]
                .walk
                .passes(&packet, &leg.stops(bridged))
        });
        let walked = if passes {
            Verdict::Allow
        } else {
            Verdict::Deny
        };
        // Without a node of ours on the way nobody is asked.
        if walked == expected || self.legs.is_empty() {
            return Ok(());
        }
        Err(self.differs(what, walked, &format!("expected {expected}, {packet:?}")))
    }

    fn differs(&self, who: &str, verdict: Verdict, expected: &str) -> String {
        let Connection {
            source,
            destination,
            transport,
        } = self.connection;
        let mut text =
            format!("{source} -> {destination} {transport}: {who}: {verdict}; {expected}\n");
        for leg in &self.legs {
            let ruleset = render::text(&self.nodes[leg.node].ruleset);
            let _ = write!(text, "{leg:?}\n{ruleset}");
        }
        text
    }
}
