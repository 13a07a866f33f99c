//! A node through which packets are routed, and a count of those that came and of those that got through.
//!
//! ```text
//!   outside ──frames──▶ n0 ─▶ prerouting: arrived + 1 ─▶ forward: picket ─▶ forward: passed + 1 ─▶ n0 ──▶ outside
//! ```
//!
//! A frame says by its Ethernet source whether it is always denied or always allowed. It is not tracked, so that rules
//! judge each packet, not only the first of a connection. The packet is judged inside of the call that sends the frame,
//! so that the counts are complete when the sender has ended.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernel::Nftables;
use policy_compiler::evaluate::{Connection, Transport};
use policy_compiler::model::Protocol;
use testbed::frames::FrameSender;
use testbed::packet::{self, Ethernet, Ip, SYN};
use testbed::{Mac, Namespace};

const NODE: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OUTSIDE: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// Before connections are tracked, and after picket.
const WITNESS: &str = "
table inet witness {
	counter denied_arrived { }
	counter denied_passed { }
	counter allowed_arrived { }
	counter allowed_passed { }
	chain arrived {
		type filter hook prerouting priority -300; policy accept;
		notrack
		ether saddr & ff:ff:00:00:00:00 == 02:dd:00:00:00:00 counter name denied_arrived
		ether saddr & ff:ff:00:00:00:00 == 02:aa:00:00:00:00 counter name allowed_arrived
	}
	chain passed {
		type filter hook forward priority 100; policy accept;
		ether saddr & ff:ff:00:00:00:00 == 02:dd:00:00:00:00 counter name denied_passed
		ether saddr & ff:ff:00:00:00:00 == 02:aa:00:00:00:00 counter name allowed_passed
	}
}";

/// What became of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) denied: u64,
    pub(crate) leaked: u64,
    pub(crate) allowed: u64,
    pub(crate) lost: u64,
}

pub(crate) struct World {
    pub(crate) node: Namespace,
    pub(crate) nftables: Nftables,
    _outside: Namespace,
    sender: FrameSender,
    /// The witness' counters when they were last looked at.
    seen: [u64; 4],
}

impl World {
    pub(crate) fn new() -> Self {
        let (node, outside) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        let forward = || -> std::io::Result<()> {
            std::fs::write("/proc/sys/net/ipv4/conf/all/forwarding", "1")?;
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
        };
        node.run(forward).unwrap().unwrap();
        // Both ends are made in one namespace, since this one's has a number that nobody knows; then one moves.
        let outside_name = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&outside))
        );
        node.ip(&[
            "link",
            "add",
            "n0",
            "address",
            &NODE.to_string(),
            "type",
            "veth",
            "peer",
            "name",
            "o0",
            "address",
            &OUTSIDE.to_string(),
            "netns",
            &outside_name,
        ])
        .unwrap();
        outside.ip(&["link", "set", "o0", "up"]).unwrap();
        node.ip_batch(&format!(
            "link set lo up\nlink set n0 up\n\
             addr add 192.0.2.1/24 dev n0\n\
             addr add 2001:db8::1/64 dev n0 nodad\n\
             neigh add 192.0.2.2 lladdr {OUTSIDE} dev n0 nud permanent\n\
             neigh add 2001:db8::2 lladdr {OUTSIDE} dev n0 nud permanent\n\
             route add 10.0.0.0/8 via 192.0.2.2\n\
             route add fd00::/8 via 2001:db8::2\n"
        ))
        .unwrap();
        node.nft(WITNESS).unwrap();
        let sender = FrameSender::new(&outside, "o0").unwrap();
        let nftables = node.run(Nftables::open).unwrap().unwrap();
        let mut world = Self {
            node,
            nftables,
            _outside: outside,
            sender,
            seen: [0; 4],
        };
        world.seen = world.counters();
        world
    }

    /// Sends the frames again and again, each at least once before `work` and twice after it.
    pub(crate) fn flood<T>(
        &mut self,
        frames: &[Vec<u8>],
        work: impl FnOnce(&mut Nftables) -> T,
    ) -> T {
        /// Ends the sender also if `work` panics.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let (done, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
        let (sender, nftables) = (&self.sender, &mut self.nftables);
        std::thread::scope(|scope| {
            let end = End(&done);
            let flood = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for frame in frames {
                        sender.send(frame).unwrap();
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
            let reach = |round| {
                while rounds.load(Ordering::Relaxed) < round && !flood.is_finished() {
                    std::thread::yield_now();
                }
            };
            reach(1);
            let outcome = work(nftables);
            reach(rounds.load(Ordering::Relaxed) + 2);
            drop(end);
            flood.join().unwrap();
            outcome
        })
    }

    /// What became of the packets since the last call. No flood is on.
    pub(crate) fn counts(&mut self) -> Counts {
        let now = self.counters();
        let since = |index: usize| now[index] - self.seen[index];
        let counts = Counts {
            denied: since(0),
            leaked: since(1),
            allowed: since(2),
            lost: since(2) - since(3),
        };
        self.seen = now;
        counts
    }

    /// `denied_arrived`, `denied_passed`, `allowed_arrived`, `allowed_passed`.
    fn counters(&self) -> [u64; 4] {
        let list = self.node.nft("list counters table inet witness").unwrap();
        let of = |name: &str| -> u64 {
            let (_, rest) = list.split_once(&format!("counter {name} {{")).unwrap();
            let (_, rest) = rest.split_once("packets ").unwrap();
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        [
            of("denied_arrived"),
            of("denied_passed"),
            of("allowed_arrived"),
            of("allowed_passed"),
        ]
    }
}

/// The first packet of the connection, in a frame that says whether it is always allowed.
pub(crate) fn frame(connection: Connection, allowed: bool) -> Vec<u8> {
    let ethernet = Ethernet {
        source: Mac([2, if allowed { 0xaa } else { 0xdd }, 0, 0, 0, 3]),
        destination: NODE,
        vlan: None,
    };
    let hop_limit = 64;
    let ip = match (connection.source, connection.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Ip::V4 {
            source,
            destination,
            hop_limit,
        },
        (IpAddr::V6(source), IpAddr::V6(destination)) => Ip::V6 {
            source,
            destination,
            hop_limit,
        },
        other => panic!("two families: {other:?}"),
    };
    let source_port = 40_000;
    let transport = match connection.transport {
        Transport::Port(Protocol::Tcp, destination_port) => packet::Transport::Tcp {
            source_port,
            destination_port,
            sequence: 1,
            acknowledgment: 0,
            flags: SYN,
            payload: vec![],
        },
        Transport::Port(Protocol::Udp, destination_port) => packet::Transport::Udp {
            source_port,
            destination_port,
            payload: vec![0; 8],
        },
        // An INIT's head is all that the rules look at.
        Transport::Port(Protocol::Sctp, destination_port) => packet::Transport::Other {
            protocol: 132,
            bytes: [
                &source_port.to_be_bytes()[..],
                &destination_port.to_be_bytes(),
                &[0; 8],
                &[
                    1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 255, 255, 0, 1, 0, 1, 0, 0, 0, 1,
                ],
            ]
            .concat(),
        },
        Transport::Icmp => packet::Transport::Icmp {
            kind: if connection.source.is_ipv4() { 8 } else { 128 },
            code: 0,
            body: vec![0; 8],
        },
    };
    packet::frame(&ethernet, &ip, &transport)
}
