//! What follows from the text of selectors, blocks and ports, whatever objects there are. Sound, not complete: what
//! does not follow here may still be so.

use std::collections::BTreeSet;

use crate::model::{
    LabelSelector, NAMESPACE_NAME_LABEL, NamespaceScope, Peer, PolicyPort, PortMatch, PortRange,
    PortRanges, Ports, Requirement,
};

/// Whether all that `narrow` selects, `wide` selects too.
pub fn selector_implies(narrow: &LabelSelector, wide: &LabelSelector) -> bool {
    wide.requirements().all(|wanted| implies(narrow, wanted))
}

fn implies(narrow: &LabelSelector, wanted: &Requirement) -> bool {
    let (Requirement::In(key, _)
    | Requirement::NotIn(key, _)
    | Requirement::Exists(key)
    | Requirement::DoesNotExist(key)) = wanted;
    let key = key.as_str();
    // What is known of the key: the values that it can only have, those that it can not have, whether it is there.
    let (mut only, mut never) = (None::<BTreeSet<&String>>, BTreeSet::new());
    let (mut exists, mut is_missing) = (false, false);
    for requirement in narrow.requirements() {
        match requirement {
            Requirement::In(of, values) if of == key => {
                only = Some(match only {
                    None => values.iter().collect(),
                    Some(only) => only.into_iter().filter(|v| values.contains(*v)).collect(),
                });
                exists = true;
            }
            Requirement::NotIn(of, values) if of == key => never.extend(values),
            Requirement::Exists(of) if of == key => exists = true,
            Requirement::DoesNotExist(of) if of == key => is_missing = true,
            _ => {}
        }
    }
    let mut left = only.map(|only| only.into_iter().filter(|value| !never.contains(value)));
    match wanted {
        Requirement::In(_, values) => left
            .as_mut()
            .is_some_and(|left| left.all(|value| values.contains(value))),
        Requirement::NotIn(_, values) => {
            is_missing
                || values.iter().all(|value| never.contains(value))
                || left
                    .as_mut()
                    .is_some_and(|left| left.all(|value| !values.contains(value)))
        }
        Requirement::Exists(_) => exists,
        Requirement::DoesNotExist(_) => is_missing,
    }
}

/// Whether all that `narrow` matches, `wide` matches too.
pub fn peer_implies(narrow: &Peer, wide: &Peer) -> bool {
    match (narrow, wide) {
        (Peer::Block(narrow), Peer::Block(wide)) => {
            narrow.ranges().minus(&wide.ranges()).is_empty()
        }
        (
            Peer::Pods { namespaces, pods },
            Peer::Pods {
                namespaces: wide_namespaces,
                pods: wide_pods,
            },
        ) => scope_implies(namespaces, wide_namespaces) && selector_implies(pods, wide_pods),
        _ => false,
    }
}

fn scope_implies(narrow: &NamespaceScope, wide: &NamespaceScope) -> bool {
    let by_name = |name: &String| {
        LabelSelector::new([Requirement::In(
            NAMESPACE_NAME_LABEL.to_owned(),
            BTreeSet::from([name.clone()]),
        )])
    };
    match (narrow, wide) {
        (NamespaceScope::Own(narrow), NamespaceScope::Own(wide)) => narrow == wide,
        (NamespaceScope::Own(own), NamespaceScope::Matching(wide)) => {
            selector_implies(&by_name(own), wide)
        }
        (NamespaceScope::Matching(narrow), NamespaceScope::Own(own)) => {
            selector_implies(narrow, &by_name(own))
        }
        (NamespaceScope::Matching(narrow), NamespaceScope::Matching(wide)) => {
            selector_implies(narrow, wide)
        }
    }
}

/// Whether all that `narrow` matches, `wide` matches too. A name follows only from the same name, or from all ports.
pub fn ports_imply(narrow: &Ports, wide: &Ports) -> bool {
    match (narrow, wide) {
        (_, Ports::Any) => true,
        (Ports::Any, Ports::Of(_)) => false,
        (Ports::Of(narrow), Ports::Of(wide)) => narrow.iter().all(|port| port_implies(port, wide)),
    }
}

fn port_implies(narrow: &PolicyPort, wide: &[PolicyPort]) -> bool {
    let mut numbers = PortRanges::default();
    for port in wide.iter().filter(|wide| wide.protocol == narrow.protocol) {
        match &port.port {
            PortMatch::All => numbers.insert(PortRange::ALL),
            PortMatch::Range(range) => numbers.insert(*range),
            PortMatch::Named(_) => {}
        }
    }
    let within = |range: PortRange| {
        let mut ranges = numbers.iter();
        ranges.any(|wide| wide.first() <= range.first() && range.last() <= wide.last())
    };
    match &narrow.port {
        PortMatch::All => numbers.is_all(),
        PortMatch::Range(range) => within(*range),
        PortMatch::Named(_) => numbers.is_all() || wide.contains(narrow),
    }
}
