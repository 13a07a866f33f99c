//! Strict field validation: a value against the full API type.
//!
//! The types of `k8s-openapi` read unknown fields as `IgnoredAny`, which `serde_ignored` reports; for a wrong type
//! `serde_path_to_error` tells where. Serde stops at the first wrong type, so the value is tried again without it
//! until nothing more is wrong.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::Cause;
use super::path::{Step, notation};

/// More passes than this find nothing new: so many wrong types in one object are one mistake.
const MAX_PASSES: usize = 64;

/// What in `value` is not as the API type `T` has it, with field paths, in the order of the fields.
#[derive(Debug)]
pub(super) struct Faults {
    /// What the API server refuses.
    pub(super) refused: Vec<(String, Cause)>,
    /// Unknown fields under `status`, without the indexes of lists. Nobody writes a status by hand, and each server
    /// version adds to it, so that refusing them would refuse the dump of a cluster that is a version ahead.
    pub(super) unknown_status: BTreeSet<String>,
}

/// Checks `value` against the API type `T`.
pub(super) fn check<T: DeserializeOwned>(value: &Value) -> Faults {
    let mut unknown = BTreeSet::new();
    let mut wrong: Vec<(Vec<Step>, String)> = Vec::new();
    let mut patched: Option<Value> = None;
    let mut repeats = 0;
    for _ in 0..MAX_PASSES {
        let tried = patched.as_ref().unwrap_or(value);
        let Err((path, message)) = try_decode::<T>(tried, &mut unknown) else {
            break;
        };
        let value = patched.get_or_insert_with(|| value.clone());
        repeats = if wrong.last().is_some_and(|(last, _)| *last == path) {
            repeats + 1
        } else {
            0
        };
        let stepped_over = step_over(value, &path, repeats);
        if repeats == 0 {
            wrong.push((path, message));
        }
        if !stepped_over {
            break;
        }
    }
    let (status, unknown): (Vec<_>, Vec<_>) = unknown
        .into_iter()
        .partition(|path| matches!(path.first(), Some(Step::Key(key)) if key == "status"));
    let unknown = unknown.into_iter().map(|path| (path, Cause::UnknownField));
    let wrong = wrong
        .into_iter()
        .map(|(path, message)| (path, Cause::WrongType(message)));
    let mut all: Vec<_> = unknown.chain(wrong).collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    let is_key = |step: &Step| matches!(step, Step::Key(_));
    Faults {
        refused: all
            .into_iter()
            .map(|(path, cause)| (notation(&path), cause))
            .collect(),
        unknown_status: status
            .into_iter()
            .map(|path| notation(&path.into_iter().filter(is_key).collect::<Vec<_>>()))
            .collect(),
    }
}

/// One pass; adds what is unknown and returns the first wrong type.
fn try_decode<T: DeserializeOwned>(
    value: &Value,
    unknown: &mut BTreeSet<Vec<Step>>,
) -> Result<(), (Vec<Step>, String)> {
    let mut track = serde_path_to_error::Track::new();
    let mut ignored = |path: serde_ignored::Path<'_>| {
        let mut steps = Vec::new();
        ignored_steps(&path, &mut steps);
        unknown.insert(steps);
    };
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let result = T::deserialize(serde_ignored::Deserializer::new(tracked, &mut ignored));
    result.map(|_| ()).map_err(|error| {
        let steps: Vec<Step> = track.path().iter().filter_map(error_step).collect();
        let message = message(&error.to_string());
        (steps, message)
    })
}

fn ignored_steps(path: &serde_ignored::Path<'_>, steps: &mut Vec<Step>) {
    use serde_ignored::Path;
    match path {
        Path::Root => {}
        Path::Seq { parent, index } => {
            ignored_steps(parent, steps);
            steps.push(Step::Index(*index));
        }
        Path::Map { parent, key } => {
            ignored_steps(parent, steps);
            steps.push(Step::Key(key.clone()));
        }
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => {
            ignored_steps(parent, steps);
        }
    }
}

fn error_step(segment: &serde_path_to_error::Segment) -> Option<Step> {
    use serde_path_to_error::Segment;
    match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    }
}

/// Takes what is wrong out of the value. A field can be left out; a list item cannot, as those after it would move,
/// so one stand-in after another is tried for it. Whether there was anything left to try.
fn step_over(value: &mut Value, path: &[Step], repeats: usize) -> bool {
    let Some((last, parents)) = path.split_last() else {
        return false;
    };
    let parent = parents.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(*index),
    });
    match (parent, last) {
        (Some(Value::Object(map)), Step::Key(key)) => map.remove(key).is_some(),
        (Some(Value::Array(list)), Step::Index(index)) => {
            let stand_ins = [
                Value::String(String::new()),
                Value::Object(Map::new()),
                0.into(),
                false.into(),
            ];
            let stand_in = stand_ins.into_iter().nth(repeats);
            match (list.get_mut(*index), stand_in) {
                (Some(item), Some(stand_in)) => {
                    *item = stand_in;
                    true
                }
                _ => false,
            }
        }
        _ => false,
    }
}

/// Serde's message with the types called as the API calls them, and with the remedy.
fn message(serde: &str) -> String {
    let text = serde
        .replace("expected i32", "expected a 32-bit integer")
        .replace("expected i64", "expected a 64-bit integer")
        .replace("expected u32", "expected a 32-bit integer")
        .replace(
            "expected IntOrString",
            "expected a 32-bit integer or a string",
        );
    let found = |kind: &str| text.starts_with(&format!("invalid type: {kind}"));
    let remedy = if text.ends_with("expected a string") && found("boolean") {
        ": quote it (unquoted yes, no, on, off, y, n, true and false are booleans in YAML)"
    } else if text.ends_with("expected a string") && (found("integer") || found("floating")) {
        ": quote it"
    } else if found("null") {
        ": give it a value (\"\" or {}) or leave it out"
    } else if found("string") && (text.ends_with("integer") || text.ends_with("boolean")) {
        ": remove the quotes"
    } else {
        ""
    };
    text + remedy
}
