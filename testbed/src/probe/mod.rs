//! Probes: a request from one place to another, and whether its answer came back.
//!
//! All probes of a batch are in flight at once on non-blocking sockets, in one loop that also plays the destinations.
//! Each carries a token of its own, and its answer is accepted only if the token came to the socket that was meant to
//! get it, and back. No verdict depends on a fixed sleep: a batch is over when everything is answered, or when
//! nothing more happens and every silent probe was sent again.

mod batch;
mod exchange;
mod icmp;
mod raw;
mod sctp;
mod sockets;
mod token;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::error::Error;
use crate::testbed::Testbed;
use crate::topology::Place;

/// What a probe speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// A connection, and data over it that is echoed.
    Tcp,
    /// A datagram that is echoed.
    Udp,
    /// An INIT chunk that is answered by an INIT ACK chunk.
    Sctp,
    /// An echo request that the destination's kernel answers: ICMPv6 for IPv6 addresses.
    Icmp,
}

/// A question: does a request get from here to there, and its answer back?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Where the request is sent.
    pub from: Place,
    /// Its source address: one of `from`.
    pub source: IpAddr,
    /// Where it should arrive and be answered.
    pub to: Place,
    /// Its destination address: one of `to`, unless a rule rewrites it.
    pub destination: IpAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its destination port; 0 for ICMP.
    pub port: u16,
    /// Where in `to` it is waited for, if a DNAT rule rewrites `destination` and `port`.
    pub listen: Option<(IpAddr, u16)>,
    /// What the caller expects. It decides only how patient to be: silence where an answer is expected is tried for
    /// [`ProbeOptions::patience`] before it counts.
    pub expect: Option<Outcome>,
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The request reached the destination and its answer came back.
    Passed,
    /// No answer came back: request or answer was dropped, or refused by something on the way.
    Dropped,
}

/// How probes are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeOptions {
    /// Nothing must arrive for this long before silence counts.
    pub settle: Duration,
    /// How often a probe is sent before its silence counts.
    pub attempts: u32,
    /// For how long a probe that is expected to pass is sent again while it is silent.
    pub patience: Duration,
    /// How many probes are in flight at most. The limit of open files may lower it.
    pub in_flight: usize,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        ProbeOptions {
            settle: Duration::from_millis(200),
            attempts: 2,
            patience: Duration::from_secs(5),
            in_flight: 4000,
        }
    }
}

/// Sends every probe and returns their outcomes, in the order of the probes.
///
/// `progress` is told how many probes are decided, of how many. Once `cancelled` is set the call returns
/// [`Error::Cancelled`] within `settle`.
pub fn probe(
    testbed: &Testbed,
    probes: &[Probe],
    options: &ProbeOptions,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Outcome>, Error> {
    for (index, probe) in probes.iter().enumerate() {
        testbed.require(&probe.from)?;
        testbed.require(&probe.to)?;
        probe
            .check()
            .map_err(|reason| Error::InvalidProbe { index, reason })?;
    }
    let size = sockets::make_room(options.in_flight)?;
    let mut outcomes = Vec::with_capacity(probes.len());
    progress(0, probes.len());
    for chunk in probes.chunks(size) {
        let before = outcomes.len();
        let mut report = |decided| progress(before + decided, probes.len());
        outcomes.extend(batch::run(testbed, chunk, options, cancelled, &mut report)?);
        progress(outcomes.len(), probes.len());
    }
    Ok(outcomes)
}

impl Probe {
    /// Where the request goes, as the sender sees it.
    fn target(&self) -> SocketAddr {
        SocketAddr::new(self.destination, self.port)
    }

    /// Where the request arrives.
    fn arrival(&self) -> SocketAddr {
        self.listen.map_or(self.target(), SocketAddr::from)
    }

    fn check(&self) -> Result<(), String> {
        if self.source.is_ipv4() != self.destination.is_ipv4() {
            return Err(format!(
                "{} and {} are of different families",
                self.source, self.destination
            ));
        }
        let ports = [self.port, self.arrival().port()];
        match self.protocol {
            Protocol::Icmp if self.port != 0 => {
                Err(format!("ICMP has no port, and it names {}", self.port))
            }
            Protocol::Tcp | Protocol::Udp | Protocol::Sctp if ports.contains(&0) => {
                Err("its port, or the one where it is waited for, is 0".to_owned())
            }
            _ => Ok(()),
        }
    }
}
