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

use serde_json::{Map, Value};

use super::error::{Cause, Problem};
use super::origin::Place;
use super::path::{Step, notation};
use super::untyped::reference;

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
    /// The lines of the `items` of a List, as far as they are known.
    pub(super) item_lines: Vec<usize>,
}

/// A syntax error and its line.
#[derive(Debug)]
struct Fault {
    line: usize,
    cause: Cause,
    within: Option<Box<Within>>,
}

impl Fault {
    fn new(line: usize, cause: Cause) -> Self {
        Self {
            line,
            cause,
            within: None,
        }
    }

    /// Takes the fault one collection up. `enclose` puts what was built so far into that collection.
    fn up(mut self, step: Step, enclose: impl FnOnce(Value) -> Value) -> Self {
        if let Some(within) = &mut self.within {
            within.up(step, enclose);
        }
        self
    }
}

/// Where in a document a key is there twice.
#[derive(Debug)]
struct Within {
    /// From the key up to the root.
    steps: Vec<Step>,
    /// What was built until then, which may tell the object's name.
    built: Value,
}

impl Within {
    fn new(key: String, built: Map<String, Value>) -> Self {
        Self {
            steps: vec![Step::Key(key)],
            built: built.into(),
        }
    }

    fn up(&mut self, step: Step, enclose: impl FnOnce(Value) -> Value) {
        self.steps.push(step);
        self.built = enclose(self.built.take());
    }

    /// The problem with the object that the key is in, and the field in that object.
    fn problem(mut self, file: &Arc<str>, document: usize, line: usize, cause: Cause) -> Problem {
        let mut place = Place {
            file: file.clone(),
            document,
            line,
            items: Vec::new(),
        };
        let mut object = self.built;
        while let [.., Step::Index(index), Step::Key(key)] = self.steps.as_slice()
            && key == "items"
        {
            place.items.push(*index);
            let item = object
                .get_mut("items")
                .and_then(|items| items.get_mut(*index));
            object = item.map(Value::take).unwrap_or_default();
            self.steps.truncate(self.steps.len() - 2);
        }
        self.steps.reverse();
        let reference = reference(object.as_object().unwrap_or(&Map::new()));
        let field = Some(notation(&self.steps));
        Problem::of_object(&place, &reference, field, cause)
    }
}

/// What a list is with one item more.
fn in_list(mut list: Vec<Value>, item: Value) -> Value {
    list.push(item);
    list.into()
}

/// What a mapping is with one pair more.
fn in_map(mut map: Map<String, Value>, key: String, value: Value) -> Value {
    map.insert(key, value);
    map.into()
}

/// Collects the documents of one file; a fault ends the file, what came before it stays.
struct Sink<'a> {
    file: &'a Arc<str>,
    found: Vec<Document>,
    count: usize,
}

impl Sink<'_> {
    fn push(&mut self, line: usize, value: Value, item_lines: Vec<usize>) {
        self.count += 1;
        if !value.is_null() {
            let place = Place {
                file: self.file.clone(),
                document: self.count,
                line,
                items: Vec::new(),
            };
            self.found.push(Document {
                place,
                value,
                item_lines,
            });
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
    let document = sink.count + 1;
    let problem = fault.map(|fault| match fault.within {
        Some(within) => within.problem(file, document, fault.line, fault.cause),
        None => Problem::of_line(file, fault.line, fault.cause),
    });
    (sink.found, problem)
}

/// The text of a file that holds something else than documents.
pub(super) fn decoded<'a>(file: &Arc<str>, bytes: &'a [u8]) -> Result<&'a str, Box<Problem>> {
    text(bytes).map_err(|fault| Box::new(Problem::of_line(file, fault.line, fault.cause)))
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
    let fault = |at: usize, cause| Fault::new(line_of(bytes, at), cause);
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
