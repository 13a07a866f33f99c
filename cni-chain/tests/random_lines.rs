//! Whatever comes over the socket, in either direction: a line that is understood, or an error.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use cni_chain::attachment::AttachmentId;
use cni_chain::protocol::{self, Answer, LINE_LIMIT, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Lines of both, and what a few bytes that are others make of them.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let id = AttachmentId::new("8154", "eth0").unwrap();
    let attach = Request::Attach {
        id: id.clone(),
        wait_milliseconds: 1000,
    };
    let refused = Answer::Refused {
        code: 7,
        message: "a \"message\"".to_owned(),
        details: "é".to_owned(),
    };
    let known = [
        protocol::line(&attach).unwrap(),
        protocol::line(&Request::Detach { id }).unwrap(),
        protocol::line(&Request::Status).unwrap(),
        protocol::line(&Answer::Ready).unwrap(),
        protocol::line(&refused).unwrap(),
    ];
    let damage = (
        0..known.len(),
        vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    );
    let damaged = damage.prop_map(move |(which, changes)| {
        let mut line = known[which].clone();
        for (place, byte) in changes {
            let place = place.index(line.len());
            line[place] = byte;
        }
        line
    });
    prop_oneof![4 => damaged, 1 => vec(any::<u8>(), 0..300)]
}

/// What is understood is what is said again.
fn is_understood_or_refused<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
) -> Result<bool, TestCaseError> {
    let Ok(read) = protocol::read::<T>(bytes) else {
        return Ok(false);
    };
    let line = protocol::line(&read).unwrap();
    prop_assert!(line.len() <= LINE_LIMIT && line.ends_with(b"\n"));
    prop_assert_eq!(protocol::read::<T>(line.as_slice()).unwrap(), read);
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn every_line_is_understood_or_refused(line in lines()) {
        let request = is_understood_or_refused::<Request>(&line)?;
        let answer = is_understood_or_refused::<Answer>(&line)?;
        prop_assert!(!(request && answer), "it is one or the other");
    }
}

#[test]
fn the_lines_that_are_damaged_are_understood_before() {
    let line = protocol::line(&Request::Status).unwrap();
    assert!(is_understood_or_refused::<Request>(&line).unwrap());
    assert!(!is_understood_or_refused::<Answer>(&line).unwrap());
}
