//! The link-local addresses of a pod's interface, which the kernel makes and no plugin before this one says.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use kernel::{LinkError, LinkWatch, Links};

use crate::attachment::is_link_local;

/// How long the kernel may take. It adds them when the interface begins to carry packets, which somebody else's thread
/// sees to (`linkwatch_event`).
pub(super) const PATIENCE: Duration = Duration::from_millis(80);

/// Room for what is heard meanwhile.
const BUFFER: usize = 1 << 16;

/// Those of an interface of the namespace in which this runs, also tentative ones. Where the kernel is about to add one,
/// it is waited for, at most that long; without one in time there is none.
pub(super) fn addresses(
    interface: &str,
    patience: Duration,
) -> Result<BTreeSet<IpAddr>, LinkError> {
    let deadline = Instant::now() + patience;
    // First, so that nothing happens between a look and the wait.
    let mut watch = LinkWatch::open(BUFFER)?;
    let mut links = Links::open()?;
    loop {
        let Some(link) = links.by_name(interface)? else {
            return Err(LinkError::Absent(interface.to_owned()));
        };
        let found = links.addresses_of(link.index)?.into_iter();
        let found = found.filter(|of| is_link_local(of.address) && !of.flags.is_duplicate());
        let found: BTreeSet<_> = found.map(|of| of.address).collect();
        let left = deadline.saturating_duration_since(Instant::now());
        if !found.is_empty() || !link.up || !is_made(interface) || left.is_zero() {
            return Ok(found);
        }
        watch.wait(left)?;
    }
}

/// Whether the kernel makes one: IPv6 is on, and nobody has said that there is to be none
/// (`IN6_ADDR_GEN_MODE_NONE`).
fn is_made(interface: &str) -> bool {
    let setting = |name: &str| -> io::Result<String> {
        // Of the namespace of the thread that opens it. Without IPv6 there is none.
        fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{interface}/{name}"))
    };
    let is = |name: &str, value: &str| setting(name).is_ok_and(|text| text.trim() == value);
    is("disable_ipv6", "0") && !is("addr_gen_mode", "1")
}

#[cfg(test)]
mod tests {
    use testbed::Namespace;

    use super::*;

    /// A pair in one namespace, of which `inside` is up and carries nothing yet.
    fn pair() -> Namespace {
        let namespace = Namespace::new().expect("these tests need root");
        let batch = "link add inside type veth peer name outside\nlink set inside up\n";
        namespace.ip_batch(batch).expect("made");
        namespace
    }

    fn read(of: &Namespace, patience: Duration) -> BTreeSet<IpAddr> {
        let read = of.run(|| addresses("inside", patience));
        read.expect("entered").expect("asked")
    }

    /// Whether somebody listens to links and addresses there (`RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`,
    /// `RTMGRP_IPV6_IFADDR`).
    fn is_watched(namespace: &Namespace) -> bool {
        let sockets = || fs::read_to_string("/proc/thread-self/net/netlink");
        let sockets = namespace.run(sockets).expect("entered").expect("read");
        let groups = |line: &str| line.split_whitespace().nth(3) == Some("00000111");
        sockets.lines().any(groups)
    }

    #[test]
    fn an_address_that_comes_meanwhile_is_heard_of() {
        let namespace = pair();
        let patience = Duration::from_secs(60);
        std::thread::scope(|scope| {
            let started = Instant::now();
            let waiting = scope.spawn(|| read(&namespace, patience));
            while !is_watched(&namespace) {
                assert!(!waiting.is_finished(), "it did not wait");
            }
            namespace.ip(&["link", "set", "outside", "up"]).expect("up");
            assert_eq!(waiting.join().expect("no panic").len(), 1);
            assert!(started.elapsed() < patience / 2);
        });
    }

    #[test]
    fn an_address_that_does_not_come_is_waited_for_no_longer_than_that() {
        let namespace = pair();
        let started = Instant::now();
        assert!(read(&namespace, PATIENCE).is_empty());
        assert!(started.elapsed() >= PATIENCE);
    }

    #[test]
    fn an_address_that_is_not_made_is_not_waited_for() {
        let set = |name: &'static str, value: &'static str| {
            move |namespace: &Namespace| {
                let path = format!("/proc/sys/net/ipv6/conf/inside/{name}");
                let written = namespace.run(|| fs::write(path, value));
                written.expect("entered").expect("written");
            }
        };
        let off = set("disable_ipv6", "1");
        let none = set("addr_gen_mode", "1");
        let down = |namespace: &Namespace| {
            namespace
                .ip(&["link", "set", "inside", "down"])
                .expect("down");
        };
        let cases: [&dyn Fn(&Namespace); 3] = [&off, &none, &down];
        for prepare in cases {
            let namespace = pair();
            prepare(&namespace);
            let patience = Duration::from_secs(60);
            let started = Instant::now();
            assert!(read(&namespace, patience).is_empty());
            assert!(started.elapsed() < patience / 2);
        }
    }
}
