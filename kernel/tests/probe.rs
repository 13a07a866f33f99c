//! The kernel is asked for its features in real namespaces, and nothing is left behind.

#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;
use std::time::Duration;

use kernel::{Availability, Feature, Features, Need, ProbeError, Watch};
use support::{listed, namespace, nftables};
use testbed::Namespace;

fn probed(namespace: &Namespace) -> Features {
    namespace.run(Features::probe).unwrap().unwrap()
}

/// What nft says of the same, where it has words for it: the rules as text, checked and not loaded.
fn nft_has(namespace: &Namespace, feature: Feature) -> Option<bool> {
    let table = |family: &str, what: &str| format!("table {family} probe {{\n{what}\n}}\n");
    let inet = |what: &str| table("inet", what);
    let chain = |what: &str| format!("chain c {{\n{what}\n}}");
    let rule = |what: &str| inet(&chain(what));
    let hooked = |family: &str, hook: &str| {
        table(
            family,
            &chain(&format!("type filter hook {hook} priority 0;")),
        )
    };
    let text = match feature {
        Feature::NfTables => inet(""),
        Feature::InetFamily => hooked("inet", "forward"),
        Feature::BridgeFamily => hooked("bridge", "forward"),
        Feature::NetdevFamily => hooked("netdev", "ingress device lo"),
        Feature::Matches => rule("meta iifgroup 7 meta l4proto != 6 th dport 1-9 counter return"),
        Feature::NamedCounters => inet("counter n {\n}\nchain c {\ncounter name \"n\"\n}"),
        Feature::HashSets => inet("set s { type ipv4_addr; }"),
        Feature::ConcatenatedKeys => inet("set s { type ipv6_addr . inet_proto . inet_service; }"),
        Feature::VerdictMaps => inet("map m { type ipv4_addr : verdict; }"),
        Feature::IntervalSets => inet("set s { type ipv6_addr; flags interval; }"),
        Feature::ConcatenatedIntervalSets => {
            inet("set s { type ipv6_addr . inet_proto . inet_service; flags interval; }")
        }
        Feature::Conntrack => rule("ct state new"),
        Feature::ConntrackMark => rule("ct mark 1"),
        Feature::ConntrackZones => rule("ct zone 1"),
        Feature::ConntrackEvents => rule("ct event set new"),
        Feature::Fib => rule("fib saddr . iif oif exists"),
        Feature::Log => rule("log group 1"),
        Feature::Reject => rule("reject with icmpx admin-prohibited"),
        Feature::BridgeConntrack => table("bridge", &chain("ct state new")),
        // nft 1.0.6 deletes an owned table when it ends, and has no word for persist.
        Feature::Nfnetlink
        | Feature::ConntrackNetlink
        | Feature::NfnetlinkLog
        | Feature::BridgeNetfilter
        | Feature::TableOwner
        | Feature::TablePersist => return None,
    };
    Some(
        namespace
            .nft(&text)
            .map(|_| namespace.nft("flush ruleset").unwrap())
            .is_ok(),
    )
}

#[test]
fn what_this_kernel_has_is_found_and_what_it_has_not_is_missing() {
    let features = probed(&namespace());
    println!("{features}");
    let mut asked = 0;
    for finding in features.findings() {
        // Each by itself, where nothing else is.
        if let Some(has) = nft_has(&namespace(), finding.feature) {
            assert_eq!(features.has(finding.feature), has, "{finding}");
            asked += 1;
        }
        assert!(
            !matches!(finding.availability, Availability::Unclear(_)),
            "{finding}"
        );
    }
    assert!(asked > 16, "{asked}");
    assert_eq!(features.missing_required().count(), 0, "{features}");
    // The other tests of this crate need these.
    for feature in [Feature::ConntrackNetlink, Feature::BridgeNetfilter] {
        assert!(features.has(feature), "{feature}");
    }
    assert!(
        features
            .missing()
            .all(|finding| finding.feature.need() != Need::Required)
    );
}

#[test]
fn what_came_with_a_version_is_there_from_that_version_on() {
    let number = |text: &str| {
        let mut parts = text
            .split(['.', '-'])
            .map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap(), parts.next().unwrap())
    };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let features = probed(&namespace());
    // These depend on nothing else.
    for feature in [
        Feature::ConcatenatedIntervalSets,
        Feature::TableOwner,
        Feature::TablePersist,
    ] {
        let expected = number(&release) >= number(feature.since().unwrap());
        assert_eq!(features.has(feature), expected, "{feature} on {release}");
    }
}

#[test]
fn nothing_is_left_behind_and_nobody_is_told() {
    let namespace = namespace();
    namespace
        .nft(
            "add table inet other
            add set inet other s { type ipv4_addr; }
            add element inet other s { 10.0.0.1 }
            add chain inet other c { type filter hook input priority 0; }
            add rule inet other c counter accept",
        )
        .unwrap();
    let mut watch = namespace.run(|| Watch::open(1 << 20)).unwrap().unwrap();
    let mut nftables = nftables(&namespace);
    let (before, generation) = (listed(&namespace), nftables.generation().unwrap());
    let first = probed(&namespace);
    assert_eq!(
        probed(&namespace),
        first,
        "asking changes nothing that is asked for"
    );
    assert_eq!(listed(&namespace), before);
    assert_eq!(nftables.generation().unwrap(), generation);
    assert_eq!(watch.wait(Duration::from_millis(100)).unwrap(), []);
    let empty = support::namespace();
    probed(&empty);
    assert_eq!(listed(&empty), "");
}

#[test]
fn no_packet_is_lost_while_the_kernel_is_asked() {
    // Which chains are hooked in the kernel tells only with CONFIG_NETFILTER_NETLINK_HOOK. So what is looked at is what
    // packets do: none is lost while the kernel is asked over and over.
    let namespace = namespace();
    namespace.ip(&["link", "set", "lo", "up"]).unwrap();
    let lost = namespace.run(|| {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                for _ in 0..5 {
                    Features::probe().unwrap();
                }
            });
            let mut sent = 0u32;
            while !asking.is_finished() || sent < 1000 {
                sender.send(&sent.to_ne_bytes()).unwrap();
                let mut bytes = [0; 4];
                let received = receiver.recv(&mut bytes);
                if received.is_err() || u32::from_ne_bytes(bytes) != sent {
                    return Some(sent);
                }
                sent += 1;
            }
            None
        })
    });
    assert_eq!(lost.unwrap(), None);
}

#[test]
fn without_the_capability_it_is_an_error_and_no_feature_is_missing() {
    const NAME: &str = "without_the_capability_it_is_an_error_and_no_feature_is_missing";
    if std::env::var_os(NAME).is_some() {
        let error = Features::probe().unwrap_err();
        assert!(
            matches!(error, ProbeError::NotPermitted(Feature::NfTables)),
            "{error}"
        );
        return;
    }
    let child = || {
        Command::new("setpriv")
            .args(["--bounding-set", "-net_admin", "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env(NAME, "")
            .output()
    };
    let output = namespace().run(child).unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}
