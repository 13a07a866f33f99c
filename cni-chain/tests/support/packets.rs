//! Datagrams between namespaces, and whether the quarantine of one of them drops them.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use testbed::Namespace;

use super::eventually;

static TOKEN: AtomicU32 = AtomicU32::new(1);

const PORT: u16 = 7000;

/// Counts datagrams just before the quarantine's chains and just behind them, in both families and on both ways.
const WITNESS: &str = "
table FAMILY witness {
    counter before { }
    counter behind { }
    chain a { type filter hook prerouting priority -360; udp dport 7000 counter name before; }
    chain b { type filter hook prerouting priority -340; udp dport 7000 counter name behind; }
    chain c { type filter hook postrouting priority -360; udp dport 7000 counter name before; }
    chain d { type filter hook postrouting priority -340; udp dport 7000 counter name behind; }
}
";

pub(crate) fn watch(network: &Namespace) {
    for family in ["inet", "bridge"] {
        network
            .nft(&WITNESS.replace("FAMILY", family))
            .expect("loaded");
    }
}

/// Whether a datagram arrives. It does not if one went into the chains of the quarantine of `by` and did not come out:
/// nobody waits for nothing.
#[track_caller]
pub(crate) fn arrives(
    by: &Namespace,
    (from, source): (&Namespace, IpAddr),
    (to, destination): (&Namespace, IpAddr),
) -> bool {
    let socket = |network: &Namespace, address, port| {
        let bind = || UdpSocket::bind(SocketAddr::new(address, port)).expect("bound");
        network.run(bind).expect("entered")
    };
    let token = TOKEN.fetch_add(1, Ordering::SeqCst).to_be_bytes();
    let listener = socket(to, destination, PORT);
    listener
        .set_read_timeout(Some(Duration::from_millis(1)))
        .expect("set");
    let sender = socket(from, source, 0);
    let before = dropped(by);
    let mut arrived = None;
    eventually("told whether it arrives", || {
        // The first wait for the neighbour's address.
        let _ = sender.send_to(&token, SocketAddr::new(destination, PORT));
        let is_dropped = dropped(by) > before;
        let mut buffer = [0; 16];
        let came = listener
            .recv(&mut buffer)
            .is_ok_and(|length| buffer[..length] == token);
        arrived = (came || is_dropped).then_some(came);
        arrived.is_some()
    });
    arrived == Some(true)
}

/// How many datagrams went in and did not come out.
fn dropped(by: &Namespace) -> u64 {
    let text = by.nft("list counters").expect("listed");
    let (mut name, mut before, mut behind) = ("", 0, 0);
    for line in text.lines().map(str::trim) {
        if let Some(of) = line.strip_prefix("counter ") {
            name = of;
        } else if let Some(count) = line.strip_prefix("packets ") {
            let count: u64 = count
                .split(' ')
                .next()
                .and_then(|count| count.parse().ok())
                .expect("a count");
            match name.starts_with("before") {
                true => before += count,
                false => behind += count,
            }
        }
    }
    // Read one after the other, so that behind may be ahead.
    before.saturating_sub(behind)
}

/// Whether `of` knows the link address of its neighbour, which takes an answer.
pub(crate) fn knows(of: &Namespace, neighbour: IpAddr) -> bool {
    let listed = of
        .ip(&["neigh", "show", "to", &neighbour.to_string()])
        .expect("listed");
    listed.contains("lladdr")
}
