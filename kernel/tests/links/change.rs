//! What is set, and what is refused.

use std::process::Command;

use kernel::{BridgeNetfilter, LinkError};
use nix::errno::Errno;
use testbed::Namespace;

use crate::{json, link, links, namespace, prepared};

const ALL: [bool; 2] = [false, true];

fn shown(namespace: &Namespace, name: &str) -> serde_json::Value {
    json(namespace, "ip", &["-d", "-j", "link", "show", "dev", name]).remove(0)
}

#[test]
fn a_group_and_an_alias_are_set_and_taken_away() {
    let node = prepared("link add left type veth peer name right");
    let mut links = links(&node);
    let of = link(&mut links, "left");
    let before = (shown(&node, "right"), shown(&node, "lo"));
    for group in [78, 0x7fff_ffff, 0] {
        links.set_group(&of, group).unwrap();
        assert_eq!(link(&mut links, "left").group, group);
        let shown = shown(&node, "left");
        let text = if group == 0 {
            "default".into()
        } else {
            group.to_string()
        };
        assert_eq!(shown["group"], text);
    }
    let longest = "ü".repeat(127) + "x";
    for alias in ["picket:shop/web-0", " spaces\tand\nlines ", &longest, ""] {
        links.set_alias(&of, alias).unwrap();
        let expected = Some(alias).filter(|alias| !alias.is_empty());
        assert_eq!(link(&mut links, "left").alias.as_deref(), expected);
        assert_eq!(shown(&node, "left")["ifalias"].as_str(), expected);
    }
    assert_eq!((shown(&node, "right"), shown(&node, "lo")), before);
}

#[test]
fn an_alias_that_the_kernel_can_not_hold_is_refused_here() {
    let node = prepared("link add left type veth peer name right");
    let mut links = links(&node);
    let of = link(&mut links, "left");
    links.set_alias(&of, "before").unwrap();
    for alias in ["x".repeat(256), "a\0b".to_owned()] {
        let error = links.set_alias(&of, &alias).unwrap_err();
        assert!(matches!(error, LinkError::Alias { length, .. } if length == alias.len()));
        assert!(error.to_string().contains("left (link "), "{error}");
    }
    assert_eq!(link(&mut links, "left").alias.as_deref(), Some("before"));
}

#[test]
fn the_netfilter_flags_of_a_bridge_are_set_one_by_one() {
    let node =
        prepared("link add br0 type bridge ageing_time 777 stp_state 1\nlink add br1 type bridge");
    let mut links = links(&node);
    let before = (shown(&node, "br0"), shown(&node, "br1"));
    for (ipv4, ipv6, arp) in ALL
        .iter()
        .flat_map(|a| ALL.iter().flat_map(move |b| ALL.map(|c| (*a, *b, c))))
    {
        let flags = BridgeNetfilter { ipv4, ipv6, arp };
        let of = link(&mut links, "br0");
        links.set_bridge_netfilter(&of, flags).unwrap();
        let bridge = link(&mut links, "br0").bridge.unwrap();
        assert_eq!(bridge.netfilter, Some(flags));
        assert!(!bridge.vlan_filtering);
        // Nothing else changes, of this bridge or of another.
        let mut expected = before.0.clone();
        let data = &mut expected["linkinfo"]["info_data"];
        data["nf_call_iptables"] = u8::from(ipv4).into();
        data["nf_call_ip6tables"] = u8::from(ipv6).into();
        data["nf_call_arptables"] = u8::from(arp).into();
        let mut after = shown(&node, "br0");
        for timer in [
            "gc_timer",
            "hello_timer",
            "tcn_timer",
            "topology_change_timer",
        ] {
            after["linkinfo"]["info_data"][timer] = data_of(&expected, timer);
        }
        assert_eq!(after, expected);
    }
    assert_eq!(
        shown(&node, "br1")["linkinfo"]["info_data"]["nf_call_iptables"],
        0
    );
    assert_eq!(before.1["ifname"], "br1");
}

fn data_of(of: &serde_json::Value, name: &str) -> serde_json::Value {
    of["linkinfo"]["info_data"][name].clone()
}

#[test]
fn a_link_that_is_no_bridge_has_no_flags() {
    let node = prepared("link add left type veth peer name right");
    let mut links = links(&node);
    let of = link(&mut links, "left");
    let flags = BridgeNetfilter {
        ipv4: true,
        ipv6: true,
        arp: true,
    };
    let error = links.set_bridge_netfilter(&of, flags).unwrap_err();
    assert!(matches!(error, LinkError::NoBridgeNetfilter { .. }));
}

#[test]
fn a_refusal_names_the_link() {
    let node = prepared("link add left type veth peer name right\nlink add br0 type bridge");
    let mut links = links(&node);
    let (gone, bridge) = (link(&mut links, "left"), link(&mut links, "br0"));
    node.ip_batch("link delete left\nlink delete br0").unwrap();
    let flags = bridge.bridge.unwrap().netfilter.unwrap();
    for (error, what) in [
        (links.set_group(&gone, 7), format!("put {gone} in group 7")),
        (
            links.set_alias(&gone, "x"),
            format!("set the alias of {gone}"),
        ),
        (
            links.set_bridge_netfilter(&bridge, flags),
            format!("set the netfilter flags of {bridge}"),
        ),
    ] {
        match error.unwrap_err() {
            LinkError::Refused { request, errno, .. } => {
                assert_eq!((request, errno), (what, Errno::ENODEV as i32));
            }
            other => panic!("{other}"),
        }
    }
    // A number that stands for all links of a group in other requests changes nothing.
    let mut none = gone;
    none.index = 0;
    let before = links.list().unwrap();
    assert!(links.set_group(&none, 7).is_err());
    assert_eq!(links.list().unwrap(), before);
}

#[test]
fn what_takes_a_capability_says_so() {
    const NAME: &str = "change::what_takes_a_capability_says_so";
    if std::env::var_os(NAME).is_some() {
        return without_net_admin();
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

/// What the test above runs in a process without CAP_NET_ADMIN.
fn without_net_admin() {
    let mut links = kernel::Links::open().unwrap();
    // To read takes none.
    let lo = link(&mut links, "lo");
    assert!(links.addresses().is_ok() && links.routes().is_ok());
    let error = links.set_group(&lo, 7).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the kernel refused to put lo (link 1) in group 7: EPERM: Operation not permitted; the process needs CAP_NET_ADMIN"
    );
}
