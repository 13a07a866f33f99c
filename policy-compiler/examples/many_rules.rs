//! Measures new connections per second against the number of rules of a class, with real packets:
//! `many_rules [ROUNDS] [NAME-OF-A-SHAPE]`.
//!
//! Each packet is a new UDP flow from one pod through the node to another. The sender's processor time for it is
//! what the whole way costs, since the kernel forwards a veth's packet on the sender's account. "plain" is a class
//! as it was before rules were merged: one nft rule each, the set of the peer asked before the port.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use policy_compiler::ir::*;
use policy_compiler::lower::{Bridges, Merging, Options, lower};
use policy_compiler::model::{
    AddressRanges, Cidr, Direction, NamespacedName, PortRange, PortRanges, Protocol,
};
use policy_compiler::render;
use testbed::frames::FrameSender;
use testbed::packet::{Ethernet, Ip, Transport, frame};
use testbed::{Namespace, Network, NodeSpec, POD_INTERFACE, Place, PodSpec, Testbed, Topology};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SIZES: [u32; 6] = [1, 10, 50, 100, 1_000, 10_000];
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Processor time of one measurement.
const ENOUGH: f64 = 25e6;
const BATCH: usize = 500;
const COUNTER: &str = "
table inet sink {
  counter arrived {}
  chain drop_all {
    type filter hook prerouting priority -400
    meta l4proto udp counter name arrived drop
  }
}
";

/// What the rules of a class look like.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    /// Of rule `n`: whether its peer is an ipBlock, and its port.
    rule: fn(u32) -> (bool, Option<u16>),
}

fn own_port(rule: u32) -> Option<u16> {
    Some(1000 + rule as u16)
}

const SHAPES: [Shape; 5] = [
    Shape {
        name: "pods, one port",
        rule: |_| (false, Some(80)),
    },
    Shape {
        name: "pods, a port each",
        rule: |n| (false, own_port(n)),
    },
    Shape {
        name: "ipBlocks, one port",
        rule: |_| (true, Some(80)),
    },
    Shape {
        name: "ipBlocks, a port each",
        rule: |n| (true, own_port(n)),
    },
    Shape {
        name: "mixed",
        rule: |n| (n % 2 == 1, if n % 4 < 2 { own_port(n) } else { None }),
    },
];

impl Shape {
    fn peer(&self, rule: u32) -> Ipv4Addr {
        match (self.rule)(rule) {
            (false, _) => Ipv4Addr::from_bits(0x0a01_0000 + rule),
            (true, _) => Ipv4Addr::from_bits(0x1400_0000 + rule * 512),
        }
    }

    fn ir(&self, rules: u32) -> std::result::Result<NodeIr, Box<dyn Error>> {
        let policy = NamespacedName::new("shop", "policy");
        let mut peers = BTreeMap::new();
        let mut class = Vec::new();
        for rule in 0..rules {
            let (is_block, port) = (self.rule)(rule);
            let peer = self.peer(rule);
            let members = if is_block {
                PeerMembers::Block(AddressRanges::union(&[Cidr::parse_lenient(&format!(
                    "{peer}/24"
                ))?]))
            } else {
                PeerMembers::Pods(BTreeSet::from([peer.into()]))
            };
            let name = format!("peer_{rule:05}");
            peers.insert(
                name.clone(),
                PeerSet {
                    peer: name.clone(),
                    members,
                },
            );
            let ports = port.map_or(PortsMatch::Any, |port| {
                let mut ranges = PortRanges::default();
                ranges.insert(PortRange::single(port));
                PortsMatch::Of(BTreeMap::from([(Protocol::Udp, ranges)]))
            });
            class.push(Rule {
                action: Action::Accept,
                matches: Match {
                    peer: PeerMatch::Set(name),
                    ports,
                },
                policies: BTreeSet::from([policy.clone()]),
            });
        }
        let tier = Tier {
            kind: TierKind::NetworkPolicy,
            rules: class,
            default: Action::Deny,
        };
        let class = Class {
            direction: Direction::Ingress,
            policies: vec![policy],
            tiers: vec![tier],
        };
        let server = LocalPod {
            addresses: vec![SERVER.into()],
            egress: None,
            ingress: Some("class".into()),
        };
        Ok(NodeIr {
            node: "node".into(),
            pods: BTreeMap::from([("shop/server".into(), server)]),
            classes: BTreeMap::from([("class".into(), class)]),
            peers,
            named_ports: BTreeMap::new(),
        })
    }

    /// Frames of new flows: those that a rule accepts, each by one of all rules, or those that none does.
    fn frames(&self, bed: &Bed, rules: u32, accepted: bool) -> Vec<Vec<u8>> {
        let packet = |n: u32| {
            let rule = n.wrapping_mul(2_654_435_761) % rules;
            let source = if accepted {
                self.peer(rule)
            } else {
                Ipv4Addr::from_bits(0x1e00_0000 + n)
            };
            let ip = Ip::V4 {
                source,
                destination: SERVER,
                hop_limit: 64,
            };
            let transport = Transport::Udp {
                source_port: 1024 + n as u16,
                destination_port: (self.rule)(rule).1.unwrap_or(80),
                payload: vec![0; 8],
            };
            frame(&bed.ethernet, &ip, &transport)
        };
        (0..20_000).map(packet).collect()
    }
}

/// Two pods on a node, and what sends.
struct Bed {
    testbed: Testbed,
    sender: FrameSender,
    ethernet: Ethernet,
}

impl Bed {
    fn new() -> Result<Bed> {
        let pod = |name: &str, address: Ipv4Addr| PodSpec {
            name: name.into(),
            node: "node".into(),
            addresses: vec![IpAddr::from(address).into()],
        };
        let testbed = Testbed::build(&Topology {
            network: Network::Routed,
            nodes: vec![NodeSpec {
                name: "node".into(),
                addresses: vec!["192.168.0.1".parse()?],
            }],
            pods: vec![pod("client", CLIENT), pod("server", SERVER)],
            externals: vec![],
        })?;
        let attachment = testbed.attachment("client").ok_or("no client")?;
        let ethernet = Ethernet {
            source: attachment.mac,
            destination: attachment.gateway_mac,
            vlan: None,
        };
        let client = testbed
            .namespace(&Place::Pod("client".into()))
            .ok_or("no client")?;
        let sender = FrameSender::new(client, POD_INTERFACE)?;
        let bed = Bed {
            testbed,
            sender,
            ethernet,
        };
        bed.server()?.nft(COUNTER)?;
        Ok(bed)
    }

    fn node(&self) -> Result<&Namespace> {
        let node = self.testbed.namespace(&Place::Node("node".into()));
        Ok(node.ok_or("no node")?)
    }

    fn server(&self) -> Result<&Namespace> {
        let server = self.testbed.namespace(&Place::Pod("server".into()));
        Ok(server.ok_or("no server")?)
    }

    /// Nanoseconds of processor time per packet.
    fn measure(&self, frames: &[Vec<u8>]) -> Result<f64> {
        let start = processor_time()?;
        let mut sent = 0;
        for batch in frames.chunks(BATCH) {
            batch.iter().try_for_each(|frame| self.sender.send(frame))?;
            sent += batch.len();
            if processor_time()? - start > ENOUGH {
                break;
            }
        }
        Ok((processor_time()? - start) / sent as f64)
    }

    /// How many of some frames arrive.
    fn arriving(&self, frames: &[Vec<u8>]) -> Result<u32> {
        frames
            .iter()
            .try_for_each(|frame| self.sender.send(frame))?;
        let listed = self.server()?.nft("reset counter inet sink arrived\n")?;
        let mut words = listed
            .split_whitespace()
            .skip_while(|word| *word != "packets");
        Ok(words.nth(1).ok_or("no counter")?.parse()?)
    }
}

/// What this thread has used, in nanoseconds.
fn processor_time() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().ok_or("no time")?.parse()?)
}

/// A ruleset in the node's kernel, asleep, and what is sent to it.
struct Case {
    table: String,
    frames: [Vec<Vec<u8>>; 2],
    times: [Vec<f64>; 2],
}

fn load(bed: &Bed, shape: Shape, rules: u32, merged: bool, table: &str) -> Result<Case> {
    let mut options = Options {
        bridges: Bridges::Named(BTreeSet::new()),
        ..Options::default()
    };
    if !merged {
        options.merging = Merging {
            above: usize::MAX,
            ..options.merging
        };
    }
    let mut ruleset = lower(&shape.ir(rules)?, &options);
    if !merged {
        let chains = ruleset
            .tables
            .iter_mut()
            .flat_map(|table| &mut table.chains);
        for chain in chains.filter(|chain| chain.name == "ingress4_class") {
            Arc::make_mut(chain)
                .rules
                .iter_mut()
                .for_each(|rule| rule.matches.reverse());
        }
    }
    let text = render::text(&ruleset);
    let head = "table inet picket {";
    bed.node()?
        .nft(&text.replacen(head, &format!("table inet {table} {{"), 1))?;
    let frames = [true, false].map(|accepted| shape.frames(bed, rules, accepted));
    for (frames, expected) in frames.iter().zip([100, 0]) {
        let arrived = bed.arriving(&frames[..100])?;
        if arrived != expected {
            return Err(format!(
                "{}, {rules} rules: {arrived} of {expected} arrived",
                shape.name
            )
            .into());
        }
    }
    bed.node()?.nft(&sleep(table, true))?;
    bed.testbed.forget_connections()?;
    Ok(Case {
        table: table.to_owned(),
        frames,
        times: [vec![], vec![]],
    })
}

fn sleep(table: &str, asleep: bool) -> String {
    let flags = if asleep { "flags dormant" } else { "" };
    format!("table inet {table} {{\n{flags}\n}}\n")
}

/// The median and the quartiles.
fn quartiles(times: &mut [f64]) -> [f64; 3] {
    times.sort_by(f64::total_cmp);
    [times.len() / 2, times.len() / 4, times.len() * 3 / 4].map(|index| times[index])
}

fn main() -> Result<()> {
    testbed::enter()?;
    let mut arguments = std::env::args().skip(1);
    let rounds: u32 = arguments.next().map_or(Ok(15), |rounds| rounds.parse())?;
    let only = arguments.next();
    println!(
        "new connections/s as a ratio to a class of one plain rule: median (quartiles); ns each"
    );
    for shape in SHAPES
        .iter()
        .filter(|shape| only.as_deref().is_none_or(|name| shape.name == name))
    {
        let bed = Bed::new()?;
        let mut cases = Vec::new();
        for rules in SIZES {
            for merged in [false, true] {
                let table = format!("t{rules}_{merged}");
                cases.push((rules, merged, load(&bed, *shape, rules, merged, &table)?));
            }
        }
        for _ in 0..rounds {
            for (_, _, case) in &mut cases {
                bed.node()?.nft(&sleep(&case.table, false))?;
                for (frames, times) in case.frames.iter().zip(&mut case.times) {
                    times.push(bed.measure(frames)?);
                    bed.testbed.forget_connections()?;
                }
                bed.node()?.nft(&sleep(&case.table, true))?;
            }
        }
        let one = [0, 1].map(|kind| quartiles(&mut cases[0].2.times[kind])[0]);
        for (rules, merged, case) in &mut cases {
            print!(
                "{:22} {rules:6} {:6}",
                shape.name,
                if *merged { "merged" } else { "plain" }
            );
            for (kind, name) in ["accepted", "denied"].into_iter().enumerate() {
                let [median, low, high] = quartiles(&mut case.times[kind]);
                let one = one[kind];
                print!(
                    "  {name} {:.3} ({:.3}-{:.3}) {median:7.0}",
                    one / median,
                    one / high,
                    one / low
                );
            }
            println!();
        }
    }
    Ok(())
}
