//! What random clusters are made of: few labels, and selectors that often find them.

use policy_compiler::model::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

pub(crate) fn labels() -> impl Strategy<Value = Labels> {
    btree_map(
        prop_oneof![Just("a".to_owned()), Just("b".to_owned())],
        prop_oneof![
            Just("1".to_owned()),
            Just("2".to_owned()),
            Just(String::new())
        ],
        0..=2,
    )
}

pub(crate) fn selector() -> impl Strategy<Value = LabelSelector> {
    let key = prop_oneof![Just("a".to_owned()), Just("b".to_owned())];
    let values = proptest::collection::btree_set(
        prop_oneof![
            Just("1".to_owned()),
            Just("2".to_owned()),
            Just(String::new())
        ],
        1..=2,
    );
    let requirement = (0..4, key, values).prop_map(|(operator, key, values)| match operator {
        0 => Requirement::In(key, values),
        1 => Requirement::NotIn(key, values),
        2 => Requirement::Exists(key),
        _ => Requirement::DoesNotExist(key),
    });
    vec(requirement, 0..=2).prop_map(LabelSelector::new)
}

pub(crate) fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![3 => Just(Protocol::Tcp), 1 => Just(Protocol::Udp), 1 => Just(Protocol::Sctp)]
}
