//! A node with two pods and rules that rewrite some of their traffic, and the kernel's own list of its connections.
//!
//! ```text
//!     n: 192.168.7.1      10.96.0.1 is the Service of b: its destination is rewritten to b, and its source to n
//!   a       b
//! ```

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use kernel::conntrack::{Conntrack, Entry, Filter, Status, Transport, Tuple};
use testbed::frames::FrameSender;
use testbed::packet::{self, Ethernet, Ip, frame};
use testbed::{
    Namespace, Network, NodeSpec, Outcome, POD_INTERFACE, Place, PodSpec, Probe, ProbeOptions,
    Protocol, Testbed, Topology, probe,
};

/// How long something that must come about may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const PROTOCOLS: [Protocol; 4] =
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Icmp];

/// Tracks connections, in a zone if they are to port 85, 86 or 87, and rewrites those to the Service.
const RULES: &str = "
table inet world {
  chain zones {
    type filter hook prerouting priority raw
    meta l4proto { tcp, udp, sctp } th dport 85 ct zone set 5
    meta l4proto { tcp, udp, sctp } th sport 85 ct zone set 5
    meta l4proto { tcp, udp, sctp } th dport 86 ct original zone set 6
    meta l4proto { tcp, udp, sctp } th sport 87 ct reply zone set 7
    meta l4proto { tcp, udp, sctp } th dport 87 ct reply zone set 7
  }
  chain forward {
    type filter hook forward priority filter
    ct state new counter
  }
  chain prerouting {
    type nat hook prerouting priority dstnat
    ip daddr 10.96.0.1 meta l4proto { tcp, udp, sctp } th dport 80 dnat ip to 10.1.0.12:8080
    ip6 daddr fd00:96::1 meta l4proto { tcp, udp, sctp } th dport 80 dnat ip6 to [fd00:a::12]:8080
    ip daddr 10.96.0.1 ip protocol icmp dnat ip to 10.1.0.12
    ip6 daddr fd00:96::1 meta l4proto icmpv6 dnat ip6 to fd00:a::12
  }
  chain postrouting {
    type nat hook postrouting priority srcnat
    ct status dnat masquerade
  }
}";

pub(super) struct World {
    testbed: Testbed,
}

/// Addresses of both families, or one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

pub(super) fn pod(name: &str) -> Place {
    Place::Pod(name.to_owned())
}

/// The address of `a`, `b` or their Service.
pub(super) fn address(name: &str, family: Family) -> IpAddr {
    let (v4, v6) = match name {
        "a" => ("10.1.0.11", "fd00:a::11"),
        "b" => ("10.1.0.12", "fd00:a::12"),
        "service" => ("10.96.0.1", "fd00:96::1"),
        _ => panic!("{name} has no address"),
    };
    match family {
        Family::V4 => v4.parse().unwrap(),
        Family::V6 => v6.parse().unwrap(),
    }
}

impl World {
    pub(super) fn new() -> World {
        let addresses = |name: &str| FAMILIES.map(|family| address(name, family).into()).to_vec();
        let of_pod = |name: &str| PodSpec {
            name: name.to_owned(),
            node: "n".to_owned(),
            addresses: addresses(name),
        };
        let topology = Topology {
            network: Network::Routed,
            nodes: vec![NodeSpec {
                name: "n".to_owned(),
                addresses: vec!["192.168.7.1".parse().unwrap(), "fd00:7::1".parse().unwrap()],
            }],
            pods: vec![of_pod("a"), of_pod("b")],
            externals: Vec::new(),
        };
        let testbed = Testbed::build(&topology).expect("these tests need root");
        let world = World { testbed };
        world.node().nft(RULES).unwrap();
        world
    }

    /// Whose connections are tracked.
    pub(super) fn node(&self) -> &Namespace {
        self.namespace(&Place::Node("n".to_owned()))
    }

    pub(super) fn namespace(&self, place: &Place) -> &Namespace {
        self.testbed.namespace(place).unwrap()
    }

    pub(super) fn conntrack(&self) -> Conntrack {
        self.node().run(Conntrack::open).unwrap().unwrap()
    }

    /// A connection of each protocol and family from `a` to `b` on the port, each answered.
    pub(super) fn connect(&self, port: u16) {
        self.probe("b", port, port);
    }

    /// The same to the Service.
    pub(super) fn connect_to_service(&self) {
        self.probe("service", 80, 8080);
    }

    fn probe(&self, to: &str, port: u16, arrival: u16) {
        let mut probes = Vec::new();
        for protocol in PROTOCOLS {
            for family in FAMILIES {
                // Pings have no port.
                let [port, arrival] =
                    [port, arrival].map(|port| if protocol == Protocol::Icmp { 0 } else { port });
                probes.push(Probe {
                    from: pod("a"),
                    source: address("a", family),
                    to: pod("b"),
                    destination: address(to, family),
                    protocol,
                    port,
                    listen: Some((address("b", family), arrival)),
                    expect: Some(Outcome::Passed),
                });
            }
        }
        let (options, never) = (ProbeOptions::default(), AtomicBool::new(false));
        let outcomes = probe(&self.testbed, &probes, &options, &never, &mut |_, _| {}).unwrap();
        assert_eq!(outcomes, vec![Outcome::Passed; probes.len()]);
    }

    /// A packet of a protocol that the kernel knows nothing of, from `a` to `b`.
    pub(super) fn send_other(&self, protocol: u8) {
        let attachment = self.testbed.attachment("a").unwrap();
        let ethernet = Ethernet {
            source: attachment.mac,
            destination: attachment.gateway_mac,
            vlan: None,
        };
        let ip = Ip::V4 {
            source: Ipv4Addr::new(10, 1, 0, 11),
            destination: Ipv4Addr::new(10, 1, 0, 12),
            hop_limit: 64,
        };
        let bytes = b"anything".to_vec();
        let carried = packet::Transport::Other { protocol, bytes };
        let sender = FrameSender::new(self.namespace(&pod("a")), POD_INTERFACE).unwrap();
        sender.send(&frame(&ethernet, &ip, &carried)).unwrap();
    }

    /// Two sockets between which datagrams go, by way of the node.
    pub(super) fn datagrams(&self, family: Family, port: u16) -> (UdpSocket, UdpSocket) {
        let bind = |name: &str, port: u16| {
            let at = (address(name, family), port);
            let bound = self.namespace(&pod(name)).run(|| UdpSocket::bind(at));
            let socket = bound.unwrap().unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (client, server) = (bind("a", 0), bind("b", port));
        client.connect(server.local_addr().unwrap()).unwrap();
        server.connect(client.local_addr().unwrap()).unwrap();
        (client, server)
    }
}

/// Sends a datagram, and waits until it is there.
pub(super) fn say(from: &UdpSocket, to: &UdpSocket) {
    from.send(b"hello").unwrap();
    assert_eq!(to.recv(&mut [0; 16]).unwrap(), 5);
}

/// Every entry that the filter asks for.
pub(super) fn dump(conntrack: &mut Conntrack, filter: &Filter) -> Vec<Entry> {
    let mut entries = Vec::new();
    conntrack.dump(filter, |entry| entries.push(entry)).unwrap();
    entries
}

/// What the kernel lists in `/proc/net/nf_conntrack`, each line cut to what an [`Entry`] has.
pub(super) fn listed(namespace: &Namespace) -> BTreeSet<String> {
    let read = || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack");
    let text = namespace.run(read).unwrap().unwrap();
    text.lines().map(cut).collect()
}

/// `ipv4 2 tcp 6 9 CLOSE src=10.1.0.11 .. [ASSURED] mark=0 zone=5 use=2`, and addresses as everybody writes them.
fn cut(line: &str) -> String {
    let mut words = line.split_whitespace();
    let protocol = words.nth(3).unwrap();
    let mut kept = format!("protocol {protocol}");
    for word in words {
        match word.split_once('=') {
            Some(("use" | "packets" | "bytes" | "secctx", _)) => {}
            Some((name @ ("src" | "dst"), address)) => {
                let address: IpAddr = address.parse().unwrap();
                write!(kept, " {name}={address}").unwrap();
            }
            Some(_) => write!(kept, " {word}").unwrap(),
            None if word.starts_with('[') => write!(kept, " {word}").unwrap(),
            // The timeout, and the state of the protocol.
            None => {}
        }
    }
    kept
}

/// What `/proc` says of an entry. It has a word for the zone of each direction, and one for that of both.
pub(super) fn line(entry: &Entry) -> String {
    let (zone, status) = (entry.zone, entry.status);
    let mut words = vec![format!("protocol {}", entry.original.transport.protocol())];
    words.push(tuple(&entry.original));
    if zone.reply == 0 && zone.original != 0 {
        words.push(format!("zone-orig={}", zone.original));
    }
    if !status.contains(Status::SEEN_REPLY) {
        words.push("[UNREPLIED]".to_owned());
    }
    words.push(tuple(&entry.reply));
    if zone.original == 0 && zone.reply != 0 {
        words.push(format!("zone-reply={}", zone.reply));
    }
    if status.contains(Status::ASSURED) {
        words.push("[ASSURED]".to_owned());
    }
    words.push(format!("mark={}", entry.mark));
    if zone.original == zone.reply {
        words.push(format!("zone={}", zone.original));
    }
    words.join(" ")
}

fn tuple(tuple: &Tuple) -> String {
    let ends = format!("src={} dst={}", tuple.source, tuple.destination);
    match tuple.transport {
        Transport::Icmp(icmp) | Transport::Icmpv6(icmp) => {
            format!(
                "{ends} type={} code={} id={}",
                icmp.kind, icmp.code, icmp.id
            )
        }
        transport => match transport.ports() {
            Some(ports) => format!("{ends} sport={} dport={}", ports.source, ports.destination),
            None => ends,
        },
    }
}

/// Waits until something holds.
#[track_caller]
pub(super) fn await_that(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}
