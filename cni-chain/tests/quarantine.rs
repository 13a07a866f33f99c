//! The tables of the quarantine, as nft lists them.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use cni_chain::attachment::PodIdentity;
use cni_chain::quarantine::{alias, ensure, is_there};
use kernel::Nftables;
use testbed::Namespace;

const LISTED: &str = "\
table inet picket-quarantine {
	chain prerouting {
		type filter hook prerouting priority -350; policy accept;
		iifgroup 770701 icmpv6 type nd-router-solicit ip6 hoplimit 255 accept
		iifgroup 770701 icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 accept
		iifgroup 770701 icmpv6 type nd-neighbor-advert ip6 hoplimit 255 accept
		iifgroup 770701 counter packets 0 bytes 0 drop
	}

	chain postrouting {
		type filter hook postrouting priority -350; policy accept;
		oifgroup 770701 icmpv6 type nd-router-solicit ip6 hoplimit 255 accept
		oifgroup 770701 icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 accept
		oifgroup 770701 icmpv6 type nd-neighbor-advert ip6 hoplimit 255 accept
		oifgroup 770701 counter packets 0 bytes 0 drop
	}
}
table bridge picket-quarantine {
	chain prerouting {
		type filter hook prerouting priority -350; policy accept;
		iifgroup 770701 ether type arp accept
		iifgroup 770701 icmpv6 type nd-router-solicit ip6 hoplimit 255 accept
		iifgroup 770701 icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 accept
		iifgroup 770701 icmpv6 type nd-neighbor-advert ip6 hoplimit 255 accept
		iifgroup 770701 counter packets 0 bytes 0 drop
	}

	chain postrouting {
		type filter hook postrouting priority -350; policy accept;
		oifgroup 770701 ether type arp accept
		oifgroup 770701 icmpv6 type nd-router-solicit ip6 hoplimit 255 accept
		oifgroup 770701 icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 accept
		oifgroup 770701 icmpv6 type nd-neighbor-advert ip6 hoplimit 255 accept
		oifgroup 770701 counter packets 0 bytes 0 drop
	}
}
";

fn node() -> (Namespace, Nftables) {
    let namespace = Namespace::new().expect("these tests need root");
    let nftables = namespace.run(Nftables::open).unwrap().unwrap();
    (namespace, nftables)
}

fn listed(namespace: &Namespace) -> String {
    let text = namespace.nft("list ruleset").unwrap();
    // Other versions of nft have names for priorities.
    text.replace("priority raw - 50", "priority -350")
        .replace("priority dstnat - 50", "priority -350")
}

#[test]
fn it_drops_all_but_arp_and_neighbour_discovery() {
    let (namespace, mut nftables) = node();
    assert!(!is_there(&mut nftables).unwrap());
    ensure(&mut nftables).unwrap();
    assert_eq!(listed(&namespace), LISTED);
    assert!(is_there(&mut nftables).unwrap());
}

#[test]
fn what_is_there_is_not_made_again_and_what_is_different_is_in_one_transaction() {
    let (namespace, mut nftables) = node();
    namespace.nft("add table inet other").unwrap();
    ensure(&mut nftables).unwrap();
    let generation = nftables.generation().unwrap();
    ensure(&mut nftables).unwrap();
    assert_eq!(nftables.generation().unwrap(), generation);
    for change in [
        "insert rule inet picket-quarantine prerouting accept",
        "add rule bridge picket-quarantine postrouting drop",
        "flush chain bridge picket-quarantine prerouting",
        "add chain inet picket-quarantine more",
        "add set inet picket-quarantine s { type mark; }",
        "add table bridge picket-quarantine { flags dormant; }",
        "delete table inet picket-quarantine",
        "delete table bridge picket-quarantine",
    ] {
        namespace.nft(change).unwrap();
        assert!(!is_there(&mut nftables).unwrap(), "{change}");
        let before = nftables.generation().unwrap();
        ensure(&mut nftables).unwrap();
        assert_eq!(nftables.generation().unwrap().0, before.0 + 1, "{change}");
        assert!(is_there(&mut nftables).unwrap(), "{change}");
    }
    assert!(listed(&namespace).contains("table inet other"));
}

#[test]
fn it_belongs_to_nobody_whoever_makes_it() {
    let (namespace, _) = node();
    let Ok(mut owner) = namespace.run(Nftables::open_owner).unwrap() else {
        // Before Linux 6.9 the kernel refuses the agent's own tables so.
        return;
    };
    ensure(&mut owner).unwrap();
    assert_eq!(listed(&namespace), LISTED);
    ensure(&mut owner).unwrap();
    drop(owner);
    assert_eq!(listed(&namespace), LISTED);
}

#[test]
fn an_alias_names_the_pod_and_is_never_too_long() {
    let pod = |name: &str| PodIdentity {
        namespace: "default".into(),
        name: name.into(),
        uid: None,
    };
    assert_eq!(alias(&pod("web-0")), "picket:default/web-0");
    assert_eq!(alias(&pod(&"a".repeat(253))).len(), 255);
    assert_eq!(alias(&pod(&"ä".repeat(253))).len(), 255);
}
