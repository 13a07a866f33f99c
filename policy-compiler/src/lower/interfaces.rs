//! Interfaces of pods, with the addresses that each may send from.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::guards::from_link_local;
use super::{Attachment, Options, digit};
use crate::ir::{LocalPod, NodeIr};
use crate::model::{Family, is_link_local};
use crate::name::comment;
use crate::ruleset::{Field, KeyType, Match, Rule, Set, Table, Value, Verdict};

/// The host's interfaces of the pods that the predicate finds, bridged or routed.
pub(super) fn interfaces(
    ir: &NodeIr,
    options: &Options,
    bridged: bool,
    predicate: impl Fn(&LocalPod) -> bool,
) -> BTreeSet<String> {
    attached(ir, options, bridged)
        .filter(|(_, pod)| predicate(pod))
        .map(|(attachment, _)| attachment.interface.to_string())
        .collect()
}

/// Pods with the host's end of their veth pair.
pub(super) fn attached<'a>(
    ir: &'a NodeIr,
    options: &'a Options,
    bridged: bool,
) -> impl Iterator<Item = (&'a Attachment, &'a LocalPod)> {
    let all = ir.pods.iter().flat_map(|(id, pod)| {
        let attachments = options.attachments.get(id).into_iter().flatten();
        attachments.map(move |attachment| (attachment, pod))
    });
    all.filter(move |(attachment, _)| attachment.bridged == bridged)
}

/// The set of interfaces.
pub(super) fn interface_set(interfaces: BTreeSet<String>, text: &str) -> Set {
    Set {
        key: vec![KeyType::Interface],
        interval: false,
        comment: comment(text),
        elements: interfaces
            .into_iter()
            .map(|name| vec![Value::Interface(name)])
            .collect(),
    }
}

/// `pairs4` and `pairs6`: each interface with its pod's addresses.
pub(super) fn add_pairs(table: &mut Table, ir: &NodeIr, options: &Options, bridged: bool) {
    for (family, kind) in [
        (Family::Ipv4, KeyType::Ipv4Address),
        (Family::Ipv6, KeyType::Ipv6Address),
    ] {
        let elements = attached(ir, options, bridged)
            .flat_map(|(attachment, pod)| {
                let addresses = super::of_family(addresses_at(attachment, pod), family);
                addresses.map(|address| on_interface(attachment, address))
            })
            .collect();
        let set = Set {
            key: vec![KeyType::Interface, kind],
            interval: false,
            comment: comment("interface of each pod with the pod's addresses"),
            elements,
        };
        table.add_set(format!("pairs{}", digit(family)), set);
    }
}

/// The pod's addresses that are there.
fn addresses_at<'a>(
    attachment: &'a Attachment,
    pod: &'a LocalPod,
) -> impl Iterator<Item = IpAddr> + 'a {
    let is_there = |address: &IpAddr| {
        let there = attachment.addresses.as_ref();
        there.is_none_or(|there| there.contains(address))
    };
    pod.addresses.iter().copied().filter(is_there)
}

/// The pod's link-local addresses that are there; none if they are not known.
pub(super) fn link_local_of<'a>(
    attachment: &'a Attachment,
    pod: &'a LocalPod,
) -> impl Iterator<Item = IpAddr> + 'a {
    addresses_at(attachment, pod).filter(is_link_local)
}

/// Whether the link-local address of some pod is known, of those that are bridged or of those that are routed.
pub(super) fn knows_link_local(ir: &NodeIr, options: &Options, bridged: bool) -> bool {
    let mut all = attached(ir, options, bridged);
    all.any(|(attachment, pod)| link_local_of(attachment, pod).next().is_some())
}

/// `"veth0" . fe80::1`
fn on_interface(attachment: &Attachment, address: IpAddr) -> Vec<Value> {
    let interface = Value::Interface(attachment.interface.to_string());
    vec![interface, Value::Address(address)]
}

/// Each interface with its pod's link-local addresses.
pub(super) fn link_local_pairs(ir: &NodeIr, options: &Options, bridged: bool) -> Set {
    let elements = attached(ir, options, bridged).flat_map(|(attachment, pod)| {
        let addresses = link_local_of(attachment, pod);
        addresses.map(|address| on_interface(attachment, address))
    });
    Set {
        key: vec![KeyType::Interface, KeyType::Ipv6Address],
        interval: false,
        comment: comment("interface of each pod with the pod's link-local addresses"),
        elements: elements.collect(),
    }
}

/// `any_link_local`: the interfaces of pods whose link-local address is not known.
pub(super) fn add_any_link_local(table: &mut Table, ir: &NodeIr, options: &Options, bridged: bool) {
    let unknown = attached(ir, options, bridged)
        .filter(|(attachment, pod)| link_local_of(attachment, pod).next().is_none());
    let unknown = unknown.map(|(attachment, _)| attachment.interface.to_string());
    let text = "interfaces of pods whose link-local address is not known";
    table.add_set("any_link_local", interface_set(unknown.collect(), text));
}

/// `iifname @any_link_local ip6 saddr fe80::/10 accept`
pub(super) fn any_link_local() -> Rule {
    let unknown = Match::in_set([Field::InputInterface], "any_link_local");
    Rule::verdict([unknown, from_link_local()], Verdict::Accept)
        .comment("link-local of a pod that is not known by it")
}

/// `iifname . ip saddr @pairs4 accept`
pub(super) fn pair(address: Field, family: Family) -> Rule {
    let matches = Match::in_set(
        [Field::InputInterface, address],
        format!("pairs{}", digit(family)),
    );
    Rule::verdict([matches], Verdict::Accept)
}
