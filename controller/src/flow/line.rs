//! Flows files: a JSON object a line.

use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::{FamilyName, Id, Port, Question};
use crate::source::OneLine;

/// The first line of a flows file that is no flow: `LINE: flow ID: field: what is wrong`, as much as is known.
#[derive(Debug, thiserror::Error)]
pub struct LineError {
    /// Counted from 1.
    pub line: usize,
    /// The flow's id, if it has one.
    pub id: Option<Id>,
    /// What is wrong with the line, and what would be right.
    pub fault: Fault,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if let Some(id) = &self.id {
            write!(f, "flow {id}: ")?;
        }
        write!(f, "{}", self.fault)
    }
}

/// What can be wrong with a line of a flows file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No JSON.
    #[error("invalid JSON: {message} (column {column})")]
    Syntax {
        /// What the JSON reader says.
        message: String,
        /// Counted from 1.
        column: usize,
    },
    /// JSON, but no object.
    #[error(
        "a flow is an object, as {{\"from\": \"pod/x/a\", \"to\": \"pod/y/b\", \"protocol\": \"TCP\", \"port\": 80}}"
    )]
    NotAnObject,
    /// A field is wrong.
    #[error("{}: {message}", OneLine(.field))]
    Field {
        /// Its name.
        field: String,
        /// What is wrong with its value, and what would be right.
        message: String,
    },
}

/// Reads a flows file: one JSON object a line, empty lines skipped.
///
/// # Errors
/// The first line that is no flow.
pub fn read_lines(text: &str) -> Result<Vec<Question>, LineError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().zip(1..);
    let lines = lines.filter(|(line, _)| !line.trim().is_empty());
    lines.map(|(text, line)| read_line(text, line)).collect()
}

/// Writes a line that [`read_lines`] reads as the same question.
///
/// # Errors
/// None of ours: an id is JSON already.
pub fn write_line(question: &Question) -> Result<Box<RawValue>, serde_json::Error> {
    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: &'a Option<Id>,
        from: String,
        to: String,
        protocol: String,
        port: Option<Value>,
        family: Option<&'static str>,
    }
    to_raw_value(&Line {
        id: &question.id,
        from: question.from.to_string(),
        to: question.to.to_string(),
        protocol: question.protocol.to_string(),
        port: question.port.as_ref().map(|port| match port {
            Port::Number(number) => (*number).into(),
            Port::Name(name) => name.as_str().into(),
        }),
        family: question.family.map(|family| match family {
            FamilyName::Ipv4 => "ipv4",
            FamilyName::Ipv6 => "ipv6",
        }),
    })
}

fn read_line(text: &str, line: usize) -> Result<Question, LineError> {
    let Fields(fields) = serde_json::from_str(text).map_err(|error| LineError {
        line,
        id: None,
        fault: shape(&error),
    })?;
    let id = fields.iter().find(|(name, _)| name == "id");
    let id = id.map(|(_, value)| Id::from(&**value));
    question(&fields, line, id.clone()).map_err(|(field, message)| LineError {
        line,
        id,
        fault: Fault::Field { field, message },
    })
}

/// Nothing inside of the object is looked at before [`question`], so that data of another shape is no object.
fn shape(error: &serde_json::Error) -> Fault {
    if error.is_data() {
        return Fault::NotAnObject;
    }
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    Fault::Syntax {
        message: message.to_owned(),
        column: error.column(),
    }
}

/// The pairs of an object as they are written.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(pair) = entries.next_entry()? {
                    fields.push(pair);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

/// A field's name, and what is wrong with it.
type Wrong = (String, String);

fn question(
    fields: &[(String, Box<RawValue>)],
    line: usize,
    id: Option<Id>,
) -> Result<Question, Wrong> {
    const KNOWN: [&str; 6] = ["id", "from", "to", "protocol", "port", "family"];
    for (index, (name, _)) in fields.iter().enumerate() {
        if !KNOWN.contains(&name.as_str()) {
            let message = format!("unknown field: a flow has {}", KNOWN.join(", "));
            return Err((name.clone(), message));
        }
        if fields.iter().take(index).any(|(other, _)| other == name) {
            return Err((name.clone(), "is there twice".to_owned()));
        }
    }
    Ok(Question {
        id,
        line: Some(line),
        from: required(fields, "from", |value| quoted(value)?.parse())?,
        to: required(fields, "to", |value| quoted(value)?.parse())?,
        protocol: required(fields, "protocol", |value| match quoted(value)?.as_str() {
            // One spelling, as in a NetworkPolicy.
            name if name == name.to_uppercase() => name.parse(),
            name => Err(format!("write it in capitals, {:?}", name.to_uppercase())),
        })?,
        port: optional(fields, "port", port)?,
        family: optional(fields, "family", |value| match quoted(value)?.as_str() {
            "ipv4" => Ok(FamilyName::Ipv4),
            "ipv6" => Ok(FamilyName::Ipv6),
            _ => Err(format!(
                "{} is no family: write \"ipv4\" or \"ipv6\"",
                shown(value)
            )),
        })?,
    })
}

/// The field, or `None` if it is absent or null.
fn optional<T>(
    fields: &[(String, Box<RawValue>)],
    name: &str,
    read: impl FnOnce(&RawValue) -> Result<T, String>,
) -> Result<Option<T>, Wrong> {
    let field = fields.iter().find(|(known, _)| known == name);
    let value = field.map(|(_, value)| &**value);
    let value = value.filter(|value| value.get() != "null");
    value
        .map(read)
        .transpose()
        .map_err(|message| (name.to_owned(), message))
}

fn required<T>(
    fields: &[(String, Box<RawValue>)],
    name: &str,
    read: impl FnOnce(&RawValue) -> Result<T, String>,
) -> Result<T, Wrong> {
    optional(fields, name, read)?.ok_or_else(|| (name.to_owned(), "is required".to_owned()))
}

/// A number, or the name of a port. A float that happens to be whole is none.
fn port(value: &RawValue) -> Result<Port, String> {
    if let Ok(number) = value.get().parse() {
        return Ok(Port::Number(number));
    }
    let remedy = "write a number from 1 to 65535, or the name of a port in quotes";
    match serde_json::from_str::<String>(value.get()) {
        Ok(name) if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(format!("{} is no name: remove the quotes", shown(value)))
        }
        Ok(name) if !name.is_empty() => Ok(Port::Name(name)),
        _ => Err(format!("{} is no port: {remedy}", shown(value))),
    }
}

fn quoted(value: &RawValue) -> Result<String, String> {
    serde_json::from_str(value.get()).map_err(|_| format!("{} is no string", shown(value)))
}

fn shown(value: &RawValue) -> OneLine<'_> {
    OneLine(value.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        r#"{"id": 1, "from": "pod/x/a", "to": "ip/::1", "protocol": "TCP", "port": 80}"#;

    #[track_caller]
    fn refused(line: &str, expected: &str) {
        let error = read_lines(&format!("{GOOD}\n\n{line}\n")).map_err(|error| error.to_string());
        assert_eq!(error.err().as_deref(), Some(expected), "{line}");
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_id_and_field() {
        assert_eq!(read_lines(GOOD).ok().map(|lines| lines.len()), Some(1));
        let with = |port: &str| {
            GOOD.replace("80", port)
                .replace("\"id\": 1", "\"id\": \"x\"")
        };
        let remedy = "write a number from 1 to 65535, or the name of a port in quotes";
        for port in ["65536", "-1", "8e1", "80.0", "true", "\"\"", "[80]"] {
            refused(
                &with(port),
                &format!("3: flow \"x\": port: {port} is no port: {remedy}"),
            );
        }
        refused(
            &with("\"80\""),
            "3: flow \"x\": port: \"80\" is no name: remove the quotes",
        );
        refused(r#"{"from": "pod/x/a"}"#, "3: to: is required");
        refused(
            r#"{"from": "pod/x/a", "to": "ip/::1", "protocol": "TCP", "prot": 80}"#,
            "3: prot: unknown field: a flow has id, from, to, protocol, port, family",
        );
        refused(
            r#"{"id": 7, "from": "x/a", "to": "ip/::1", "protocol": "TCP"}"#,
            "3: flow 7: from: \"x/a\" is no end of a flow: write pod/NAMESPACE/NAME, node/NAME or ip/ADDRESS",
        );
        refused(
            r#"{"from": "pod/x/a", "to": 5, "protocol": "TCP"}"#,
            "3: to: 5 is no string",
        );
        refused(
            r#"{"from": "pod/x/a", "to": "ip/::1", "protocol": "tcp"}"#,
            "3: protocol: write it in capitals, \"TCP\"",
        );
        refused(
            r#"{"from": "pod/x/a", "from": "pod/x/a", "to": "ip/::1", "protocol": "TCP"}"#,
            "3: from: is there twice",
        );
        refused(
            r#"{"id": 1, "from": "pod/x/a", "to": "ip/::1", "protocol": "TCP", "port": 80, "family": "IPv4"}"#,
            "3: flow 1: family: \"IPv4\" is no family: write \"ipv4\" or \"ipv6\"",
        );
    }

    #[test]
    fn only_objects_are_flows() {
        let shape = "3: a flow is an object, as {\"from\": \"pod/x/a\", \"to\": \"pod/y/b\", \"protocol\": \"TCP\", \"port\": 80}";
        for line in [
            "[]",
            r#"[1, "pod/x/a", "ip/::1", "TCP", 80, null]"#,
            "5",
            "null",
            "\"x\"",
        ] {
            refused(line, shape);
        }
        refused("nonsense", "3: invalid JSON: expected ident (column 2)");
        refused(
            &format!("{GOOD} {GOOD}"),
            &format!(
                "3: invalid JSON: trailing characters (column {})",
                GOOD.len() + 2
            ),
        );
    }

    #[test]
    fn what_is_written_is_read_as_the_same_question() {
        for line in [
            GOOD,
            r#"{"id": 1e400, "from": "node/n", "to": "pod/y/b", "protocol": "UDP", "port": "dns", "family": "ipv6"}"#,
            r#"{"from": "ip/10.0.0.1", "to": "pod/y/b", "protocol": "ICMP"}"#,
        ] {
            let read = |text: &str| read_lines(text).map_err(|error| error.to_string());
            let question = read(line).expect("a flow").remove(0);
            let written = write_line(&question).expect("written");
            assert!(!written.get().contains('\n'));
            assert_eq!(read(written.get()), Ok(vec![question]));
        }
    }

    #[test]
    fn a_byte_order_mark_is_dropped() {
        let lines = read_lines(&format!("\u{feff}{GOOD}\r\n")).map_err(|error| error.to_string());
        assert_eq!(lines.map(|lines| lines.len()), Ok(1));
    }

    #[test]
    fn an_id_is_kept_as_it_was_written() {
        for id in [
            "null",
            "1.0",
            "1e400",
            "12345678901234567890123",
            r#""\u0041""#,
            r#"{"b": 1,  "a": [2]}"#,
        ] {
            let line = GOOD.replace("\"id\": 1", &format!("\"id\":  {id}"));
            let questions = read_lines(&line).unwrap_or_default();
            let text = questions.first().and_then(|question| question.id.as_ref());
            let text = text.map(|id| serde_json::to_string(id).unwrap_or_default());
            assert_eq!(text.as_deref(), Some(id));
        }
    }
}
