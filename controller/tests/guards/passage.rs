//! Whether packets arrive.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use policy_compiler::evaluate::NodeEgress;
use testbed::frames::Capture;
use testbed::{Outcome, Place, Probe, ProbeOptions, Protocol, probe};

use super::packets::{At, CLOSED, OPEN, Packet};
use super::world::{Family, Known, World, address};

/// How long something that must arrive may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked of a guard.
pub(super) struct Guard<'a> {
    pub(super) known: Known,
    pub(super) node_egress: NodeEgress,
    /// Packets that must be dropped, and the comments of the rules without which they arrive.
    pub(super) attacks: Vec<(Packet, &'a [&'a str])>,
    /// Packets that must pass all the same.
    pub(super) twins: Vec<Packet>,
}

impl World {
    /// Attacks are dropped, their twins pass, and without the guard's rules the attacks arrive.
    #[track_caller]
    pub(super) fn check(&self, guard: &Guard<'_>) {
        let (known, node_egress) = (guard.known, guard.node_egress);
        let attacks = guard.attacks.iter().map(|(attack, _)| attack);
        let names: BTreeSet<_> = attacks
            .chain(&guard.twins)
            .map(|packet| &packet.name)
            .collect();
        assert_eq!(
            names.len(),
            guard.attacks.len() + guard.twins.len(),
            "names repeat: {names:?}"
        );
        self.load(known, node_egress);
        let mut wrong = Vec::new();
        let mut sinks = Sinks::of(self);
        for (attack, _) in &guard.attacks {
            if sinks.arrives_before_fence(attack) {
                wrong.push(format!("arrives: {}", attack.name));
            }
        }
        for twin in &guard.twins {
            if !sinks.arrives(twin) {
                wrong.push(format!("is lost: {}", twin.name));
            }
        }
        let mut loaded: Option<&[&str]> = None;
        for (attack, rules) in &guard.attacks {
            if loaded != Some(rules) {
                self.load_without(known, node_egress, rules);
                loaded = Some(rules);
            }
            if !sinks.arrives(attack) {
                wrong.push(format!("is lost without the guard: {}", attack.name));
            }
        }
        assert!(
            wrong.is_empty(),
            "{:?}, {known:?}\n{}",
            self.network,
            wrong.join("\n")
        );
    }

    /// Every probe ends as said, all in one batch.
    #[track_caller]
    pub(super) fn assert_outcomes(&self, expected: &[(Vec<Probe>, Outcome)], what: &str) {
        let mut probes = Vec::new();
        for (of_outcome, outcome) in expected {
            let expecting = |probe: &Probe| Probe {
                expect: Some(*outcome),
                ..probe.clone()
            };
            probes.extend(of_outcome.iter().map(expecting));
        }
        let never = AtomicBool::new(false);
        let options = ProbeOptions::default();
        let outcomes = probe(&self.testbed, &probes, &options, &never, &mut |_, _| {}).unwrap();
        let wrong = probes
            .iter()
            .zip(outcomes)
            .filter(|(probe, is)| probe.expect != Some(*is));
        let wrong: Vec<_> = wrong
            .map(|(probe, is)| {
                let Probe {
                    from,
                    destination,
                    protocol,
                    port,
                    ..
                } = probe;
                format!("{is:?}: {from} to {destination} port {port}/{protocol:?}")
            })
            .collect();
        assert!(
            wrong.is_empty(),
            "{:?}, {what}\n{}",
            self.network,
            wrong.join("\n")
        );
    }

    /// None of these packets arrives.
    #[track_caller]
    pub(super) fn assert_dropped(&self, known: Known, packets: &[Packet]) {
        let mut sinks = Sinks::of(self);
        let arrived = packets
            .iter()
            .filter(|packet| sinks.arrives_before_fence(packet));
        let names: Vec<_> = arrived.map(|packet| packet.name.as_str()).collect();
        assert!(
            names.is_empty(),
            "{:?}, {known:?}: {names:?} arrive",
            self.network
        );
    }

    /// Whether a datagram to [`OPEN`] of a node arrives before one that was sent after it.
    pub(super) fn arrives_open(&self, packet: &Packet) -> bool {
        let socket = self.listener(&packet.to, OPEN);
        self.send(&packet.from, &packet.frame);
        let (fence, token) = self.fence(&packet.from, &packet.to);
        self.send(&packet.from, &fence);
        let deadline = Instant::now() + PATIENCE;
        let mut arrived = false;
        let mut buffer = [0; 65_536];
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((length, _)) if buffer[..length] == token[..] => return arrived,
                Ok((length, _)) => arrived |= buffer[..length] == *packet.name.as_bytes(),
                Err(_) => assert!(Instant::now() < deadline, "the fence is lost"),
            }
        }
    }

    /// All of these packets arrive.
    #[track_caller]
    pub(super) fn assert_arrive(&self, known: Known, packets: &[Packet]) {
        let mut sinks = Sinks::of(self);
        let lost = packets.iter().filter(|packet| !sinks.arrives(packet));
        let names: Vec<_> = lost.map(|packet| packet.name.as_str()).collect();
        assert!(
            names.is_empty(),
            "{:?}, {known:?}: {names:?} are lost",
            self.network
        );
    }
}

/// What receives packets of a group, which are all of different names.
struct Sinks<'w> {
    world: &'w World,
    open: HashMap<(Place, At), Sink>,
}

enum Sink {
    Wire(Capture),
    Sockets { closed: UdpSocket, open: UdpSocket },
}

impl Sinks<'_> {
    fn of(world: &World) -> Sinks<'_> {
        Sinks {
            world,
            open: HashMap::new(),
        }
    }

    /// Whether a packet arrives, given time.
    fn arrives(&mut self, packet: &Packet) -> bool {
        self.open(packet);
        self.world.send(&packet.from, &packet.frame);
        self.has(packet, PATIENCE)
    }

    /// Whether a packet arrives before one that was sent after it on the same way, and that nothing drops.
    fn arrives_before_fence(&mut self, packet: &Packet) -> bool {
        self.open(packet);
        self.world.send(&packet.from, &packet.frame);
        let (fence, token) = self.world.fence(&packet.from, &packet.to);
        self.world.send(&packet.from, &fence);
        let arrived = match self.open(packet) {
            Sink::Wire(capture) => capture.arrives(&token, PATIENCE).unwrap(),
            Sink::Sockets { open, .. } => receives(open, &token, PATIENCE),
        };
        assert!(arrived, "the fence after {} is lost", packet.name);
        self.has(packet, Duration::ZERO)
    }

    fn has(&mut self, packet: &Packet, patience: Duration) -> bool {
        let token = packet.name.as_bytes();
        match self.open(packet) {
            Sink::Wire(capture) => capture.arrives(token, patience).unwrap(),
            Sink::Sockets { closed, .. } => receives(closed, token, patience),
        }
    }

    /// What receives a packet, opened before it is sent.
    fn open(&mut self, packet: &Packet) -> &mut Sink {
        let (world, to) = (self.world, &packet.to);
        self.open
            .entry((to.clone(), packet.at))
            .or_insert_with(|| match (packet.at, to) {
                (At::Wire, Place::Pod(_) | Place::External) => Sink::Wire(world.capture(to)),
                (At::Socket, _) | (At::Wire, Place::Node(_)) => Sink::Sockets {
                    closed: world.listener(to, CLOSED),
                    open: world.listener(to, OPEN),
                },
            })
    }
}

/// Whether a datagram with this content has come to the socket, or comes.
pub(super) fn receives(socket: &UdpSocket, token: &[u8], patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let mut buffer = [0; 65_536];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((length, _)) if &buffer[..length] == token => return true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() >= deadline {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            // An ICMP error that answered an earlier datagram; it is reported once.
            Err(_) => {}
        }
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

/// A probe to an address and port, and where it arrives if not there.
pub(super) fn probe_from(
    from: &Place,
    to: &Place,
    family: Family,
    protocol: Protocol,
    (destination, port, listen): (IpAddr, u16, Option<(IpAddr, u16)>),
) -> Probe {
    Probe {
        from: from.clone(),
        source: address(from, family),
        to: to.clone(),
        destination,
        protocol,
        port,
        listen,
        expect: None,
    }
}
