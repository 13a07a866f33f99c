//! Answers to requests, from a snapshot and nothing else.

use policy_compiler::render;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::protocol::{Kind, Request};
use super::{Dump, LiveAnswer};
use crate::agent::revoke;
use crate::agent::snapshot::Snapshot;
use crate::agent::status::Status;
use crate::attachments::Document;
use crate::flow::read_lines;

/// Answers a line; or says why not.
pub(super) fn answer(
    snapshot: &Snapshot,
    revoked: &revoke::Status,
    dump: Dump,
    line: &[u8],
) -> Result<Box<RawValue>, String> {
    let request = Request::read(line)?;
    match request.request {
        Kind::Status => raw(&Status::of(snapshot, revoked)),
        Kind::Objects => {
            let list = serde_json::to_string_pretty(&dump(&snapshot.cluster, &snapshot.node));
            raw(&list.map_err(|error| error.to_string())?)
        }
        Kind::Attachments => {
            let document = serde_json::to_string_pretty(&Document::of(snapshot));
            raw(&document.map_err(|error| error.to_string())?)
        }
        Kind::Rules => raw(&render::text(&snapshot.ruleset)),
        Kind::Explain => {
            let flow = request.flow.as_deref().map_or("", RawValue::get);
            let questions = read_lines(flow).map_err(|error| error.to_string())?;
            match questions.as_slice() {
                [question] => raw(&LiveAnswer::to(snapshot, question)),
                _ => Err("flow: is one object".to_owned()),
            }
        }
    }
}

fn raw(answer: &impl Serialize) -> Result<Box<RawValue>, String> {
    to_raw_value(answer).map_err(|error| error.to_string())
}
