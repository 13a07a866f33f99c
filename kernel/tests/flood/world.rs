//! A node through which packets are routed, and a count of those that came and of those that got through.
//!
//! ```text
//!   outside ──frames──▶ n0 ─▶ prerouting: arrived + 1 ─▶ forward: picket ─▶ forward: passed + 1 ─▶ n0 ──▶ outside
//! ```
//!
//! A frame says by its Ethernet source whether it is always denied or always allowed. It is not tracked, so that rules
//! judge each packet, not only the first of a connection. The packet is judged inside of the call that sends the frame,
//! so that the counts are complete when the sender has ended.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kernel::Nftables;
use policy_compiler::evaluate::{Connection, Transport};
use policy_compiler::model::Protocol;
use testbed::frames::FrameSender;
use testbed::packet::{self, Ethernet, Ip, SYN};
use testbed::{Mac, Namespace};

const NODE: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OUTSIDE: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// Before connections are tracked, and after picket. A table of its own program, so that nobody flushes it.
const WITNESS: &str = "\
add table inet witness { flags owner; }
add counter inet witness denied_arrived
add counter inet witness denied_passed
add counter inet witness allowed_arrived
add counter inet witness allowed_passed
add counter inet witness open_arrived
add counter inet witness open_passed
add chain inet witness arrived { type filter hook prerouting priority -300; policy accept; }
add rule inet witness arrived ether saddr & ff:ff:00:00:00:00 == 02:0e:00:00:00:00 counter name open_arrived accept
add rule inet witness arrived notrack
add rule inet witness arrived ether saddr & ff:ff:00:00:00:00 == 02:dd:00:00:00:00 counter name denied_arrived
add rule inet witness arrived ether saddr & ff:ff:00:00:00:00 == 02:aa:00:00:00:00 counter name allowed_arrived
add chain inet witness passed { type filter hook forward priority 100; policy accept; }
add rule inet witness passed ether saddr & ff:ff:00:00:00:00 == 02:dd:00:00:00:00 counter name denied_passed
add rule inet witness passed ether saddr & ff:ff:00:00:00:00 == 02:aa:00:00:00:00 counter name allowed_passed
add rule inet witness passed ether saddr & ff:ff:00:00:00:00 == 02:0e:00:00:00:00 counter name open_passed
add chain inet witness complete
";

/// The program that owns the witness, until this is dropped.
struct Owner(Child);

impl Owner {
    fn of(node: &Namespace, table: &str) -> Self {
        let mut nft = Command::new("nft");
        nft.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = node.run(|| nft.spawn()).unwrap().unwrap();
        child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(table.as_bytes())
            .unwrap();
        let owner = Self(child);
        let is_complete = || {
            let list = node.nft("list chains inet").unwrap();
            list.contains("chain complete {")
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_complete() {
            assert!(Instant::now() < deadline, "nft makes no witness");
            std::thread::yield_now();
        }
        owner
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What became of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) denied: u64,
    pub(crate) leaked: u64,
    pub(crate) allowed: u64,
    pub(crate) lost: u64,
    /// Of connections that are tracked, and allowed.
    pub(crate) open: u64,
    pub(crate) broken: u64,
}

pub(crate) struct World {
    pub(crate) node: Namespace,
    pub(crate) nftables: Nftables,
    _outside: Namespace,
    _owner: Owner,
    sender: Arc<FrameSender>,
    /// The witness' counters when they were last looked at.
    seen: [u64; 6],
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
        let owner = Owner::of(&node, WITNESS);
        let sender = Arc::new(FrameSender::new(&outside, "o0").unwrap());
        let nftables = node.run(Nftables::open).unwrap().unwrap();
        let mut world = Self {
            node,
            nftables,
            _outside: outside,
            _owner: owner,
            sender,
            seen: [0; 6],
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
        let _flood = self.start_flood(frames.to_vec());
        work(&mut self.nftables)
    }

    /// The same for as long as what is returned lives.
    pub(crate) fn start_flood(&self, frames: Vec<Vec<u8>>) -> Flood {
        let (ending, rounds) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let sender = Arc::clone(&self.sender);
        let (end, counted) = (Arc::clone(&ending), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                for frame in &frames {
                    sender.send(frame).unwrap();
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let flood = Flood {
            ending,
            rounds,
            thread: Some(thread),
        };
        flood.reach(1);
        flood
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
            open: since(4),
            broken: since(4) - since(5),
        };
        self.seen = now;
        counts
    }

    /// The witness' counters, in their order.
    fn counters(&self) -> [u64; 6] {
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
            of("open_arrived"),
            of("open_passed"),
        ]
    }
}

/// Frames that are sent again and again, twice more when this is dropped.
pub(crate) struct Flood {
    ending: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn reach(&self, round: u64) {
        let is_alive = || {
            self.thread
                .as_ref()
                .is_some_and(|thread| !thread.is_finished())
        };
        while self.rounds.load(Ordering::Relaxed) < round && is_alive() {
            std::thread::yield_now();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.reach(self.rounds.load(Ordering::Relaxed) + 2);
        }
        self.ending.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

/// The first packet of the connection, in a frame that says whether it is always allowed.
pub(crate) fn frame(connection: Connection, allowed: bool) -> Vec<u8> {
    marked(connection, if allowed { 0xaa } else { 0xdd })
}

/// The same, but tracked. Between two connections that differ only in their direction, and have the ports that
/// [`frame`] has, it is one connection that is answered.
#[allow(dead_code, reason = "each test program uses a part")]
pub(crate) fn open_frame(connection: Connection) -> Vec<u8> {
    marked(connection, 0x0e)
}

fn marked(connection: Connection, mark: u8) -> Vec<u8> {
    let ethernet = Ethernet {
        source: Mac([2, mark, 0, 0, 0, 3]),
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
