//! Bytes to documents.
//!
//! ```text
//! bytes -> text (UTF-8, no control characters, BOM dropped) -> JSON values | YAML events -> serde_json::Value
//! ```
//!
//! Everything here is bounded before it is built: the size of a file, the depth of nesting, the number of values,
//! and what aliases add.

pub(super) mod files;
mod json;
mod scalar;
mod yaml;

use std::sync::Arc;

use serde_json::Value;

use super::error::{Cause, Problem};
use super::origin::Place;

/// The largest file that is read, in bytes.
pub const MAX_BYTES: u64 = 64 << 20;

/// The deepest nesting of collections. The API's own types stay below 30.
pub const MAX_DEPTH: usize = 64;

/// The most values (keys, scalars, collections) in one file; a dump of 64 MiB has half of it. At about 100 bytes
/// each, more in the worst case, this is what bounds memory.
pub const MAX_NODES: usize = 4_000_000;

/// The most characters between two YAML events: a scalar, or a flow collection, all of which the scanner holds
/// before its first event since it could be a key. etcd takes no object above 1.5 MiB.
pub const MAX_STRETCH: usize = 4 << 20;

/// The most bytes that anchors and aliases may copy in one file.
const MAX_COPIED: usize = 32 << 20;

/// One document that is not empty.
#[derive(Debug)]
pub(super) struct Document {
    /// Where it starts.
    pub(super) place: Place,
    /// What it holds, as the Kubernetes tools would turn it into JSON.
    pub(super) value: Value,
}

/// A syntax error and its line.
#[derive(Debug)]
struct Fault {
    line: usize,
    cause: Cause,
}

/// Collects the documents of one file; a fault ends the file, what came before it stays.
struct Sink<'a> {
    file: &'a Arc<str>,
    found: Vec<Document>,
    count: usize,
}

impl Sink<'_> {
    fn push(&mut self, line: usize, value: Value) {
        self.count += 1;
        if !value.is_null() {
            let place = Place {
                file: self.file.clone(),
                document: self.count,
                line,
                items: Vec::new(),
            };
            self.found.push(Document { place, value });
        }
    }
}

/// The documents of a file, and what is wrong with it.
pub(super) fn documents(file: &Arc<str>, bytes: &[u8]) -> (Vec<Document>, Option<Problem>) {
    let mut sink = Sink {
        file,
        found: Vec::new(),
        count: 0,
    };
    let fault = match text(bytes) {
        Ok(text) => parse(text, file.ends_with(".json"), &mut sink).err(),
        Err(fault) => Some(fault),
    };
    (
        sink.found,
        fault.map(|fault| Problem::of_line(file, fault.line, fault.cause)),
    )
}

/// JSON by its name or because it starts like an object, as kubectl decides; and as there, what starts like one
/// and is not may still be YAML: a flow mapping, or JSON objects with `---` between them.
fn parse(text: &str, named_json: bool, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let starts_like_json = text.trim_start().starts_with('{');
    // JSON has no line that starts so: a string cannot hold a line break.
    let separated = text.lines().any(|line| line.starts_with("---"));
    if separated || !(named_json || starts_like_json) {
        return yaml::documents(text, sink);
    }
    match json::documents(text, sink) {
        Err(Fault {
            cause: Cause::Syntax(_),
            ..
        }) if !named_json && sink.found.is_empty() => yaml::documents(text, sink),
        result => result,
    }
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    let fault = |at: usize, cause| Fault {
        line: line_of(bytes, at),
        cause,
    };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        fault(
            at,
            Cause::NotUtf8(bytes.get(at).copied().unwrap_or_default()),
        )
    })?;
    let control = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
    if let Some(at) = bytes.iter().position(control) {
        return Err(fault(at, Cause::ControlCharacter(bytes[at])));
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The line of a byte, counted from 1.
fn line_of(bytes: &[u8], at: usize) -> usize {
    1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count()
}

/// A float without a fraction is an integer to every Kubernetes tool, since Go writes 80.0 to JSON as 80.
fn number(float: f64) -> Option<Value> {
    let integral = float.fract() == 0.0 && float.abs() < 9.2e18;
    if integral {
        Some((float as i64).into())
    } else {
        serde_json::Number::from_f64(float).map(Value::Number)
    }
}

/// Counts the values of a file.
#[derive(Default)]
struct Budget(std::cell::Cell<usize>);

impl Budget {
    fn take(&self) -> Result<(), Cause> {
        self.0.set(self.0.get() + 1);
        if self.0.get() > MAX_NODES {
            Err(Cause::TooManyNodes)
        } else {
            Ok(())
        }
    }
}
