use policy_compiler::model::{Labels, Phase};

use super::*;

const NODE: &str = "n1";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn pod(uid: &str, addresses: &[&str]) -> Pod {
    Pod {
        id: NamespacedName::new("x", "a"),
        uid: Some(uid.into()),
        presence: Presence::Listed,
        labels: Labels::new().into(),
        node: Some(NODE.to_owned()),
        host_network: false,
        phase: Phase::Running,
        terminating: false,
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        ports: Vec::new().into(),
    }
}

fn attachments(all: &[(&str, Option<&str>, &[&str])]) -> Accepted {
    let attachment =
        |(number, (container, uid, addresses)): (u32, &(&str, Option<&str>, &[&str]))| {
            let id = AttachmentId::new(container, "eth0").expect("valid");
            let attachment = Attachment {
                id: id.clone(),
                network: "pods".to_owned(),
                netns: "/run/netns/a".to_owned(),
                netns_inode: 1,
                pod: cni_chain::attachment::PodIdentity {
                    namespace: "x".to_owned(),
                    name: "a".to_owned(),
                    uid: uid.map(str::to_owned),
                },
                addresses: addresses.iter().map(|text| ip(text)).collect(),
                routes: false,
                path: Path::Routed {
                    host: format!("veth{number}"),
                    index: number,
                },
            };
            (id, Arc::new(attachment))
        };
    (1..).zip(all).map(attachment).collect()
}

fn apply(pod: Pod) -> Change {
    Change::Apply(Object::Pod(pod))
}

fn delete() -> Change {
    Change::Delete(ObjectId::Pod(NamespacedName::new("x", "a")))
}

/// A pod as it is told on.
#[track_caller]
fn assert_told(change: &Change, presence: Presence, addresses: &[&str]) {
    let Change::Apply(Object::Pod(pod)) = change else {
        panic!("{change:?}");
    };
    let expected: Vec<_> = addresses.iter().map(|text| ip(text)).collect();
    assert_eq!((pod.presence, &pod.addresses), (presence, &expected));
}

fn known(joined: &Joined) -> Vec<bool> {
    let standings = joined.standings();
    standings
        .values()
        .map(|standing| matches!(standing, Standing::Known(_)))
        .collect()
}

#[test]
fn a_pod_has_the_addresses_of_its_interfaces_whichever_comes_first() {
    let both = attachments(&[
        ("one", Some("u"), &["10.0.0.1"]),
        ("two", Some("u"), &["10.9.0.1", "fd00::1"]),
    ]);
    // Also what its status alone says: another interface may have it.
    let told = ["10.7.7.7", "fd00::1", "10.0.0.1", "10.9.0.1"];
    let mut joined = Joined::new(NODE);
    assert_eq!(joined.attach(&both), [delete()]);
    assert_eq!(known(&joined), [false, false]);
    assert!(joined.interfaces().is_empty());
    let change = joined.change(apply(pod("u", &["10.7.7.7", "fd00::1"])));
    assert_told(&change, Presence::Attached, &told);
    assert_eq!(known(&joined), [true, true]);
    assert_eq!(joined.interfaces()["x/a"].len(), 2);

    let mut joined = Joined::new(NODE);
    let change = joined.change(apply(pod("u", &["10.7.7.7", "fd00::1"])));
    assert_told(&change, Presence::Listed, &["10.7.7.7", "fd00::1"]);
    assert_told(&joined.attach(&both)[0], Presence::Attached, &told);
    assert_told(
        &joined.attach(&Accepted::default())[0],
        Presence::Listed,
        &["10.7.7.7", "fd00::1"],
    );
}

#[test]
fn a_pod_of_which_only_what_bypasses_the_node_is_recorded_is_not_known_to_have_no_port_of_a_bridge()
{
    let mut recorded = attachments(&[("one", Some("u"), &["10.9.0.1"])]);
    for attachment in recorded.values_mut() {
        Arc::make_mut(attachment).path = Path::Bypass {
            link: "macvlan".to_owned(),
            index: 2,
        };
    }
    let mut joined = Joined::new(NODE);
    joined.attach(&recorded);
    // Its status names the address of an interface that nobody recorded.
    joined.change(apply(pod("u", &["10.0.0.1"])));
    assert_eq!(known(&joined), [true]);
    assert!(joined.interfaces().is_empty());
}

#[test]
fn what_the_interface_of_another_pod_has_is_not_this_ones_whatever_its_status_says() {
    let mut joined = Joined::new(NODE);
    joined.attach(&attachments(&[("one", Some("u"), &["10.0.0.1"])]));
    joined.change(apply(pod("u", &["10.0.0.1", "10.0.0.2"])));
    let mut both = attachments(&[
        ("one", Some("u"), &["10.0.0.1"]),
        ("two", Some("u"), &["10.0.0.2"]),
    ]);
    for attachment in both
        .values_mut()
        .filter(|attachment| attachment.id.container_id() == "two")
    {
        Arc::make_mut(attachment).pod.name = "b".to_owned();
    }
    let changes = joined.attach(&both);
    assert_told(&changes[0], Presence::Attached, &["10.0.0.1"]);
    assert_eq!(joined.unknown().len(), 1);
}

#[test]
fn a_pod_that_is_gone_is_a_subject_until_its_last_interface_goes() {
    let one = attachments(&[("one", Some("u"), &["10.0.0.1"])]);
    for by_reset in [false, true] {
        let mut joined = Joined::new(NODE);
        joined.attach(&one);
        joined.change(apply(pod("u", &[])));
        let change = match by_reset {
            false => joined.change(delete()),
            true => Change::Apply(joined.reset(Vec::new()).pop().expect("the pod is told on")),
        };
        assert_told(&change, Presence::Orphaned, &["10.0.0.1"]);
        assert_eq!(known(&joined), [true]);
        // Another list does not forget it.
        assert_eq!(joined.reset(Vec::new()).len(), 1);
        assert_eq!(joined.attach(&Accepted::default()), [delete()]);
        assert!(joined.reset(Vec::new()).is_empty());
    }
}

#[test]
fn a_pod_that_has_ended_is_a_subject_as_long_as_it_has_an_interface() {
    let mut joined = Joined::new(NODE);
    joined.attach(&attachments(&[("one", Some("u"), &["10.0.0.1"])]));
    let ended = Pod {
        phase: Phase::Failed,
        ..pod("u", &["10.0.0.1"])
    };
    let change = joined.change(apply(ended));
    assert_told(&change, Presence::Orphaned, &["10.0.0.1"]);
}

#[test]
fn interfaces_of_a_pod_of_the_same_name_before_it_are_nobodys() {
    let old = ("one", Some("old"), &["10.0.0.1"][..]);
    let new = ("two", Some("new"), &["10.0.0.2"][..]);
    let mut joined = Joined::new(NODE);
    joined.attach(&attachments(&[old]));
    joined.change(apply(pod("old", &[])));
    let change = joined.change(apply(pod("new", &["10.0.0.3"])));
    assert_told(&change, Presence::Listed, &["10.0.0.3"]);
    assert_eq!(known(&joined), [false]);
    let changes = joined.attach(&attachments(&[old, new]));
    assert_told(&changes[0], Presence::Attached, &["10.0.0.3", "10.0.0.2"]);
    assert_eq!(known(&joined), [false, true]);
    // The new one goes: the old one does not come back by that.
    let change = joined.change(delete());
    assert_told(&change, Presence::Orphaned, &["10.0.0.3", "10.0.0.2"]);
    assert_eq!(known(&joined), [false, true]);
}

#[test]
fn without_a_uid_the_name_decides() {
    let mut joined = Joined::new(NODE);
    joined.attach(&attachments(&[("one", None, &["10.0.0.1"])]));
    let change = joined.change(apply(pod("u", &[])));
    assert_told(&change, Presence::Attached, &["10.0.0.1"]);
}

#[test]
fn a_pod_of_another_node_or_with_its_nodes_network_has_no_interface_here() {
    for other in [
        Pod {
            node: Some("n2".to_owned()),
            ..pod("u", &["10.0.0.5"])
        },
        Pod {
            host_network: true,
            ..pod("u", &["10.0.0.5"])
        },
    ] {
        let mut joined = Joined::new(NODE);
        joined.attach(&attachments(&[("one", Some("u"), &["10.0.0.1"])]));
        let change = joined.change(apply(other));
        assert_told(&change, Presence::Listed, &["10.0.0.5"]);
        assert_eq!(known(&joined), [false]);
    }
}
