//! What is there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use kernel::{Kind, Link, LinkAddress, LinkError, NamespaceId, OperationalState, Other, Place};
use serde_json::{Value, json};

use testbed::Namespace;

use crate::{agree, hand_over, json, link, links, namespace, prepared};

/// Every kind of link that is told apart, in groups and not, up and down, ports and not.
const LINKS: &str = "
    link add br0 type bridge nf_call_iptables 1 nf_call_arptables 1
    link add br1 type bridge
    link add veth0 type veth peer name pod0
    link add veth1 type veth peer name pod1
    link add left type veth peer name right
    link set veth0 master br0 group 78 alias picket:shop/web-0
    link add mac0 link left type macvlan mode bridge
    link add wire address 02:00:00:00:00:09 type ifb
    link set dev lo up
    link set dev veth0 up
    link set dev veth1 up
    link set dev left up
    link set dev right up
    link set dev br0 up
    link set dev mac0 group 5
";

/// What `ip -d -j link` says of a link, of what a [`Link`] says.
fn by_ip(all: &[Value], of: &Value) -> Value {
    let index = |name: &Value| {
        let found = all.iter().find(|link| &link["ifname"] == name);
        found.map_or(Value::Null, |link| link["ifindex"].clone())
    };
    let info = &of["linkinfo"];
    let flag = |name: &str| of["flags"].as_array().unwrap().contains(&json!(name));
    let bridge = (info["info_kind"] == "bridge").then(|| {
        let flags = ["iptables", "ip6tables", "arptables"];
        flags.map(|of| info["info_data"][format!("nf_call_{of}")].clone())
    });
    // iproute2 names the other end only where it is in the same namespace, and gives its number else.
    let other = match &of["link"] {
        Value::Null => of["link_index"].clone(),
        name => index(name),
    };
    json!({
        "index": of["ifindex"], "name": of["ifname"], "kind": info["info_kind"], "up": flag("UP"),
        "state": of["operstate"], "group": of["group"], "alias": of["ifalias"], "mac": of["address"],
        "master": index(&of["master"]), "port": info["info_slave_kind"] == "bridge",
        "other": other, "namespace": of["link_netnsid"], "bridge": bridge,
    })
}

/// The same of ours.
fn by_us(of: &Link) -> Value {
    let state = match of.operational {
        OperationalState::Unknown => "UNKNOWN",
        OperationalState::Down => "DOWN",
        OperationalState::LowerLayerDown => "LOWERLAYERDOWN",
        OperationalState::Up => "UP",
        other => panic!("{other:?}"),
    };
    let kind = (of.kind != Kind::Device).then(|| of.kind.to_string());
    let other = of.peer.or(of.parent);
    let namespace = match other.map(|other| other.namespace) {
        Some(Place::Numbered(id)) => Some(id.0),
        _ => None,
    };
    let group = match of.group {
        0 => "default".to_owned(),
        group => group.to_string(),
    };
    let bridge = of.bridge.map(|bridge| {
        let flags = bridge.netfilter.unwrap();
        [flags.ipv4, flags.ipv6, flags.arp].map(u8::from)
    });
    json!({
        "index": of.index, "name": of.name, "kind": kind, "up": of.up, "state": state,
        "group": group, "alias": of.alias, "mac": of.mac.unwrap().to_string(),
        "master": of.master.map(|m| m.index), "port": of.master.is_some_and(|m| m.bridge),
        "other": other.map(|o| o.index), "namespace": namespace, "bridge": bridge,
    })
}

#[test]
fn links_are_what_ip_lists() {
    let (node, pod) = (prepared(LINKS), namespace());
    hand_over(&node, "pod0", &pod, "eth0");
    hand_over(&node, "pod1", &pod, "eth1");
    pod.ip_batch("link set dev eth0 up\nlink set dev eth1 up")
        .unwrap();
    for of in [&node, &pod] {
        let expected = || {
            let listed = json(of, "ip", &["-d", "-j", "link"]);
            let by_ip = listed.iter().map(|link| by_ip(&listed, link));
            by_ip.collect::<Vec<_>>()
        };
        let mut links = links(of);
        let found = || links.list().unwrap().iter().map(by_us).collect();
        let found = agree(found, expected);
        assert!(found.len() >= 3, "{found:?}");
    }
    let mut links = links(&node);
    for found in links.list().unwrap() {
        assert_eq!(links.by_index(found.index).unwrap().unwrap(), found);
        assert_eq!(links.by_name(&found.name).unwrap().unwrap(), found);
    }
}

#[test]
fn what_is_not_there_is_no_error() {
    let mut links = links(&namespace());
    let long = "left".repeat(300);
    for name in ["none", "", "a-name-of-16-by-", &long] {
        assert_eq!(links.by_name(name).unwrap(), None, "{name}");
    }
    for index in [0, 77, u32::MAX] {
        assert_eq!(links.by_index(index).unwrap(), None, "{index}");
    }
    // The namespace, however, is.
    let error = links.by_name_in(NamespaceId(7), "eth0").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the kernel refused to find eth0 in namespace 7: EINVAL: Invalid argument"
    );
}

#[test]
fn the_ports_of_a_bridge_are_those_that_bridge_lists() {
    let node = prepared(LINKS);
    node.ip_batch("link set veth1 master br1\nlink set right master br0")
        .unwrap();
    let mut links = links(&node);
    for (bridge, expected) in [("br0", vec!["veth0", "right"]), ("br1", vec!["veth1"])] {
        let of = link(&mut links, bridge);
        let ports = links.ports(&of).unwrap();
        let names: BTreeSet<_> = ports.iter().map(|port| port.name.as_str()).collect();
        let listed = json(&node, "bridge", &["-j", "link"]);
        let listed = listed.iter().filter(|port| port["master"] == bridge);
        let listed: BTreeSet<_> = listed.filter_map(|port| port["ifname"].as_str()).collect();
        assert_eq!(names, listed);
        assert_eq!(names, expected.into_iter().collect());
    }
    let of = link(&mut links, "right");
    assert_eq!(links.ports(&of).unwrap(), []);
}

#[test]
fn a_name_and_an_alias_that_are_no_text_hide_no_link() {
    let node = prepared("link add left type veth peer name right");
    let run = |arguments: &[&[u8]]| {
        let arguments: Vec<_> = arguments.iter().map(|a| OsStr::from_bytes(a)).collect();
        let status = node.run(|| Command::new("ip").args(&arguments).status());
        assert!(status.unwrap().unwrap().success());
    };
    run(&[b"link", b"set", b"dev", b"left", b"alias", b"x\xffy"]);
    run(&[b"link", b"set", b"dev", b"right", b"name", b"right\xc3"]);
    let names: Vec<_> = links(&node).list().unwrap();
    let names: Vec<_> = names
        .iter()
        .map(|l| (&*l.name, l.alias.as_deref()))
        .collect();
    assert!(names.contains(&("left", Some("x\u{fffd}y"))), "{names:?}");
    assert!(names.contains(&("right\u{fffd}", None)), "{names:?}");
}

#[test]
fn a_macvlan_stands_on_a_link_and_has_no_other_end() {
    let node = prepared(LINKS);
    let mut links = links(&node);
    let below = link(&mut links, "left");
    let of = link(&mut links, "mac0");
    assert_eq!(of.kind, Kind::Other("macvlan".into()));
    let parent = Other {
        index: below.index,
        namespace: Place::Same,
    };
    assert_eq!((of.parent, of.peer), (Some(parent), None));
}

fn addresses_by_ip(node: &Namespace) -> Vec<Value> {
    let links = json(node, "ip", &["-j", "address"]);
    let addresses = links.iter().flat_map(|link| {
        let addresses = link["addr_info"].as_array().unwrap().iter();
        addresses.map(|of| (link["ifindex"].clone(), of))
    });
    let mut all: Vec<_> = addresses
        .map(|(link, of)| {
            let address: IpAddr = of["local"].as_str().unwrap().parse().unwrap();
            let value = json!({
                "link": link, "address": address, "prefix": of["prefixlen"], "scope": of["scope"],
                "secondary": of["secondary"] == true, "deprecated": of["deprecated"] == true,
                "tentative": of["tentative"] == true,
            });
            ((link.as_u64(), address), value)
        })
        .collect();
    all.sort_by_key(|(key, _)| *key);
    all.into_iter().map(|(_, value)| value).collect()
}

fn address_by_us(of: &LinkAddress) -> Value {
    json!({
        "link": of.link, "address": of.address, "prefix": of.prefix_length,
        "scope": format!("{:?}", of.scope).to_lowercase(), "secondary": of.flags.is_secondary(),
        "deprecated": of.flags.is_deprecated(), "tentative": of.flags.is_tentative(),
    })
}

#[test]
fn addresses_are_what_ip_lists() {
    let node = prepared(
        "
        link add left type veth peer name right
        link set dev lo up
        link set dev left up
        link set dev right up
        address add 10.0.0.1/24 dev left
        address add 10.0.0.2/24 dev left
        address add 192.0.2.1 peer 192.0.2.9/30 dev left
        address add fd00::1/64 dev left
        address add fd00::2/64 dev right preferred_lft 0
        address add 10.9.0.1/32 dev right scope link
    ",
    );
    let mut links = links(&node);
    let found = agree(
        || {
            links
                .addresses()
                .unwrap()
                .iter()
                .map(address_by_us)
                .collect()
        },
        || addresses_by_ip(&node),
    );
    assert!(
        found.iter().any(|a| a["secondary"] == true)
            && found.iter().any(|a| a["deprecated"] == true)
    );
    assert!(
        found.iter().any(|a| a["scope"] == "link") && found.iter().any(|a| a["scope"] == "host")
    );
    let all = links.addresses().unwrap();
    for name in ["lo", "left", "right"] {
        let index = link(&mut links, name).index;
        let of = links.addresses_of(index).unwrap();
        let filtered: Vec<_> = all.iter().filter(|a| a.link == index).copied().collect();
        assert_eq!(of, filtered);
        assert!(!of.is_empty());
    }
    let error = links.addresses_of(777).unwrap_err();
    assert!(
        matches!(&error, LinkError::Refused { request, .. } if request == "list the addresses of link 777"),
        "{error}"
    );
}

#[test]
fn what_changes_while_it_is_listed_is_listed_whole_or_given_up() {
    let node = prepared("link add stays type veth peer name stayed");
    let stop = AtomicBool::new(false);
    let mut links = links(&node);
    let (mut whole, mut given_up) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let add: String = (0..40)
                .map(|n| format!("link add x{n} type veth peer name y{n}\n"))
                .collect();
            let delete: String = (0..40).map(|n| format!("link delete x{n}\n")).collect();
            while !stop.load(Ordering::Relaxed) {
                node.ip_batch(&add).unwrap();
                node.ip_batch(&delete).unwrap();
            }
        });
        for _ in 0..400 {
            match links.list() {
                Ok(all) => {
                    whole += 1;
                    let indexes: BTreeSet<_> = all.iter().map(|link| link.index).collect();
                    assert_eq!(indexes.len(), all.len(), "no link twice");
                    for name in ["lo", "stays", "stayed"] {
                        assert!(all.iter().any(|link| link.name == name), "{name}");
                    }
                    // Both ends come and go at once.
                    for of in all.iter().filter_map(|link| link.peer) {
                        assert!(indexes.contains(&of.index), "{of:?} of {all:?}");
                    }
                }
                Err(LinkError::Changing { .. }) => given_up += 1,
                Err(error) => panic!("{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(whole > 0, "{given_up}");
}
