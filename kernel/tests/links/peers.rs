//! The two ends of a pair, in two namespaces.

use kernel::{Kind, LinkError, Links, NetworkNamespace, Other, PeerError, Place};

use crate::{agree, hand_over, json, link, links, namespace, opened, path, prepared};

fn reason(error: &LinkError) -> &PeerError {
    match error {
        LinkError::Peer { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn a_pods_interface_leads_to_its_end_on_the_node_and_back() {
    let (node, pod) = (
        prepared(
            "link add other type veth peer name another\nlink add host0 type veth peer name pod0\naddress add 10.0.0.1/24 dev host0",
        ),
        namespace(),
    );
    hand_over(&node, "pod0", &pod, "eth0");
    pod.ip_batch(
        "address add 10.0.0.2/24 dev eth0\naddress add fd00::2/64 dev eth0\nlink set dev eth0 up",
    )
    .unwrap();
    let (mut on_node, mut in_pod) = (links(&node), links(&pod));
    let pair = on_node.pair(&opened(&pod), "eth0").unwrap();
    assert_eq!(pair.outside, link(&mut on_node, "host0"));
    // From here and from there it is the same link, but for how they number namespaces.
    let inside = link(&mut in_pod, "eth0");
    assert_eq!(
        (pair.inside.index, pair.inside.mac),
        (inside.index, inside.mac)
    );
    assert_eq!(pair.inside.kind, Kind::Veth);
    let host = json(&node, "ip", &["-j", "link", "show", "dev", "host0"]);
    assert_eq!(host[0]["ifindex"], pair.outside.index);
    assert_eq!(host[0]["link_index"], inside.index);
    // By number.
    let id = on_node.namespace_id(&opened(&pod)).unwrap();
    let back = Other {
        index: inside.index,
        namespace: Place::Numbered(id),
    };
    assert_eq!(pair.outside.peer, Some(back));
    assert_eq!(host[0]["link_netnsid"], id.0);
    assert_eq!(on_node.peer(&pair.outside).unwrap(), pair.inside);
    assert_eq!(
        on_node.by_index_in(id, inside.index).unwrap().unwrap(),
        pair.inside
    );
    assert_eq!(on_node.by_name_in(id, "none").unwrap(), None);
    assert_eq!(on_node.by_index_in(id, 0).unwrap(), None);
    // The addresses too, of which that of the link itself may still come.
    let addresses = on_node.addresses_in(id, inside.index).unwrap();
    agree(
        || on_node.addresses_in(id, inside.index).unwrap(),
        || links(&pod).addresses_of(inside.index).unwrap(),
    );
    assert!(
        addresses
            .iter()
            .any(|a| a.address.to_string() == "10.0.0.2")
    );
    assert!(addresses.iter().any(|a| a.address.to_string() == "fd00::2"));
    let here = on_node.addresses_of(pair.outside.index).unwrap();
    assert!(
        here.iter().any(|a| a.address.to_string() == "10.0.0.1"),
        "{here:?}"
    );
    // And from inside.
    assert_eq!(in_pod.peer(&inside).unwrap().mac, pair.outside.mac);
    let within = opened(&pod).run(|| Links::open()?.by_name("eth0")).unwrap();
    assert_eq!(within.unwrap(), Some(inside));
}

#[test]
fn ends_with_the_same_number_are_told_apart() {
    let (node, pod) = (namespace(), namespace());
    let to = path(&pod);
    node.ip(&[
        "link", "add", "host0", "type", "veth", "peer", "name", "eth0", "netns", &to,
    ])
    .unwrap();
    let pair = links(&node).pair(&opened(&pod), "eth0").unwrap();
    assert_eq!(pair.inside.index, pair.outside.index);
    assert_eq!((&*pair.inside.name, &*pair.outside.name), ("eth0", "host0"));
    assert_eq!(links(&node).peer(&pair.outside).unwrap(), pair.inside);
}

#[test]
fn both_ends_in_one_namespace_are_a_pair_there_and_none_outside() {
    // The node's own have the same numbers.
    let lines = "link add left type veth peer name right";
    let (node, pod) = (prepared(lines), prepared(lines));
    let mut in_pod = links(&pod);
    let (a, b) = (link(&mut in_pod, "left"), link(&mut in_pod, "right"));
    assert_eq!(in_pod.peer(&a).unwrap(), b);
    assert_eq!(in_pod.peer(&b).unwrap(), a);
    let error = links(&node).pair(&opened(&pod), "left").unwrap_err();
    assert_eq!(reason(&error), &PeerError::Elsewhere(b.index));
    assert!(
        in_pod.pair(&opened(&pod), "left").is_err(),
        "a namespace is not another"
    );
}

#[test]
fn the_uplink_below_a_macvlan_is_nobodys_other_end() {
    let (node, pod) = (
        prepared(
            "link add uplink type veth peer name wire\nlink add mac0 link uplink type macvlan mode bridge",
        ),
        namespace(),
    );
    hand_over(&node, "mac0", &pod, "eth0");
    let uplink = link(&mut links(&node), "uplink");
    let inside = links(&node).namespace_id(&opened(&pod)).unwrap();
    let inside = links(&node).by_name_in(inside, "eth0").unwrap().unwrap();
    // The trap: its number is there, and a link here has it.
    assert_eq!(inside.parent.map(|parent| parent.index), Some(uplink.index));
    let error = links(&node).pair(&opened(&pod), "eth0").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the other end of {inside} can not be told: a link of kind macvlan has none")
    );
    let error = links(&pod).pair(&opened(&node), "lo").unwrap_err();
    assert_eq!(reason(&error), &PeerError::Kind(Kind::Device));
    let error = links(&node).pair(&opened(&pod), "eth1").unwrap_err();
    assert_eq!(error.to_string(), "there is no link eth1");
}

#[test]
fn the_number_of_another_namespaces_link_is_not_taken_for_one_of_this() {
    // The pod's other end is in a third namespace; here a link of the same kind has the number that it names.
    let (node, pod, third) = (namespace(), namespace(), namespace());
    third
        .ip("link add host0 type veth peer name pod0"
            .split(' ')
            .collect::<Vec<_>>()
            .as_slice())
        .unwrap();
    hand_over(&third, "pod0", &pod, "eth0");
    node.ip_batch("link add left type veth peer name right")
        .unwrap();
    let named = link(&mut links(&third), "host0").index;
    let taken = links(&node).by_index(named).unwrap().unwrap();
    assert_eq!(taken.kind, Kind::Veth);
    let error = links(&node).pair(&opened(&pod), "eth0").unwrap_err();
    assert_eq!(reason(&error), &PeerError::NotMutual(taken.to_string()));
    // Where it is, it is found.
    assert_eq!(
        links(&third)
            .pair(&opened(&pod), "eth0")
            .unwrap()
            .outside
            .index,
        named
    );
}

#[test]
fn a_namespace_keeps_its_number() {
    let (node, one, other) = (namespace(), namespace(), namespace());
    let mut links = links(&node);
    let first = links.namespace_id(&opened(&one)).unwrap();
    assert_eq!(links.namespace_id(&opened(&one)).unwrap(), first);
    let second = links.namespace_id(&opened(&other)).unwrap();
    assert_ne!(first, second);
    assert_eq!(links.by_name_in(first, "lo").unwrap().unwrap().name, "lo");
    let own = NetworkNamespace::open(path(&node)).unwrap();
    assert!(links.namespace_id(&own).is_ok());
}

#[test]
fn an_end_that_is_taken_away_is_an_error_or_gone() {
    let (node, pod) = (
        prepared("link add host0 type veth peer name pod0"),
        namespace(),
    );
    hand_over(&node, "pod0", &pod, "eth0");
    let mut on_node = links(&node);
    let before = link(&mut on_node, "host0");
    pod.ip(&["link", "delete", "eth0"]).unwrap();
    assert_eq!(on_node.by_name("host0").unwrap(), None);
    assert!(on_node.pair(&opened(&pod), "eth0").is_err());
    let error = on_node.peer(&before).unwrap_err();
    assert!(matches!(reason(&error), PeerError::Elsewhere(_)), "{error}");
}
