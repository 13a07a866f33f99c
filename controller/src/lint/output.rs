//! Findings as text, JSON and SARIF.

use std::collections::BTreeMap;
use std::fmt::Write;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json as value};

use super::code::{Code, Severity};
use super::finding::Finding;
use crate::source::{Items, OneLine, Place};

/// So many findings of one code and severity are shown as text.
const SHOWN: usize = 10;

/// For a person: of many alike the first few, and how many more there are.
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    let same = |a: &Finding, b: &Finding| (a.severity, a.code) == (b.severity, b.code);
    for alike in findings.chunk_by(same) {
        for finding in alike.iter().take(SHOWN) {
            line(&mut text, finding);
        }
        if let Some(more) = alike.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            push(
                &mut text,
                format_args!("... and {more} more {}\n", alike[0].code.name()),
            );
        }
    }
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let counts = [
        (count(Severity::Error), "error"),
        (count(Severity::Warning), "warning"),
        (count(Severity::Hint), "hint"),
    ];
    let counts = counts.map(|(count, name)| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {name}{plural}")
    });
    push(&mut text, format_args!("{}\n", counts.join(", ")));
    text
}

fn line(text: &mut String, finding: &Finding) {
    if let Some(place) = &finding.place {
        push(text, format_args!("{place}: "));
    }
    let (severity, code) = (finding.severity, finding.code);
    push(
        text,
        format_args!("{severity} {} {}: ", code.code(), code.name()),
    );
    if let Some(object) = &finding.object {
        let items = finding.place.as_ref().map_or(&[][..], |place| &place.items);
        push(text, format_args!("{object}{}: ", Items(items)));
    }
    if !finding.field.is_empty() {
        push(text, format_args!("{}: ", finding.field));
    }
    let (message, why, remedy) = (OneLine(&finding.message), code.why(), code.remedy());
    push(
        text,
        format_args!("{message}\n    Why: {why}\n    Remedy: {remedy}\n"),
    );
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // A String takes everything.
    let _ = text.write_fmt(arguments);
}

/// A finding for a program, in the order in which its fields are printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FindingLine<'a> {
    /// The code: a new one may come, none changes its meaning.
    #[schemars(regex(pattern = "^P[0-9]{3}$"))]
    pub code: &'a str,
    /// The document in its file, counted from 1; null without a file.
    pub document: Option<usize>,
    /// The field in Kubernetes' notation, `spec.ingress[0].from[1]`; may be empty.
    pub field: &'a str,
    /// The file as it was named, `<stdin>` for `-`; null for what no object says.
    pub file: Option<&'a str>,
    /// The way down to the object if the document is a List, one index for each List; else empty.
    pub items: &'a [usize],
    /// The line on which the object starts, counted from 1; null without a file.
    pub line: Option<usize>,
    /// What is found, with names.
    pub message: &'a str,
    /// The name of the code.
    pub name: &'a str,
    /// The object; null for the input as a whole.
    pub object: Option<FoundObject<'a>>,
    /// What to do.
    pub remedy: &'a str,
    /// How bad it is.
    pub severity: Severity,
    /// Why it matters.
    pub why: &'a str,
}

/// The object of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FoundObject<'a> {
    /// The kind, as in the manifest.
    pub kind: &'a str,
    /// The name; null if it has none.
    pub name: Option<&'a str>,
    /// The namespace; null for cluster-scoped objects.
    pub namespace: Option<&'a str>,
}

/// For a program.
pub fn json(finding: &Finding) -> FindingLine<'_> {
    let place = finding.place.as_ref();
    FindingLine {
        code: finding.code.code(),
        document: place.map(|place| place.document),
        field: &finding.field,
        file: place.map(|place| &*place.file),
        items: place.map_or(&[], |place| &place.items),
        line: place.map(|place| place.line),
        message: &finding.message,
        name: finding.code.name(),
        object: finding.object.as_ref().map(|object| FoundObject {
            kind: &object.kind,
            name: object.name.as_deref(),
            namespace: object.namespace.as_deref(),
        }),
        remedy: finding.code.remedy(),
        severity: finding.severity,
        why: finding.code.why(),
    }
}

/// SARIF 2.1.0 (OASIS), with every rule and each finding as a result.
pub fn sarif(findings: &[Finding]) -> Value {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let results: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let fingerprint = fingerprint(finding);
            let time = times.entry(fingerprint.clone()).or_default();
            *time += 1;
            result(finding, &format!("{fingerprint} {time}"))
        })
        .collect();
    let rules = Code::ALL.map(|code| {
        value!({
            "id": code.code(),
            "name": code.name(),
            "shortDescription": {"text": code.name()},
            "fullDescription": {"text": code.why()},
            "help": {"text": code.remedy()},
            "defaultConfiguration": {"level": level(code.severity())},
        })
    });
    value!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "picket",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Hint => "note",
    }
}

fn object_of(finding: &Finding) -> String {
    let object = finding.object.as_ref();
    object.map(ToString::to_string).unwrap_or_default()
}

/// Neither file nor line: a finding stays the same when its object moves.
fn fingerprint(finding: &Finding) -> String {
    let (code, object) = (finding.code.code(), object_of(finding));
    format!("{code} {object} {}", finding.field)
}

fn result(finding: &Finding, fingerprint: &str) -> Value {
    let code = finding.code;
    let object = object_of(finding);
    let subject = [object.as_str(), &finding.field, &finding.message];
    let subject: Vec<_> = subject
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    let mut location = Map::new();
    if let Some(place) = &finding.place {
        location.insert(
            "physicalLocation".to_owned(),
            value!({
                "artifactLocation": {"uri": uri(place)},
                "region": {"startLine": place.line},
            }),
        );
    }
    if !object.is_empty() {
        location.insert(
            "logicalLocations".to_owned(),
            value!([{
                "fullyQualifiedName": format!("{object}: {}", finding.field),
            }]),
        );
    }
    value!({
        "ruleId": code.code(),
        "ruleIndex": Code::ALL.iter().position(|other| *other == code),
        "level": level(finding.severity),
        "message": {"text": format!("{}. {}", subject.join(": "), code.remedy())},
        "locations": if location.is_empty() { vec![] } else { vec![location] },
        "partialFingerprints": {"picketFinding/v1": fingerprint},
    })
}

/// The file as a URI reference (RFC 3986): relative as it was given, or `file://`.
fn uri(place: &Place) -> String {
    if &*place.file == "<stdin>" {
        return "stdin".to_owned();
    }
    let mut uri = String::new();
    if place.file.starts_with('/') {
        uri.push_str("file://");
    }
    for byte in place.file.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(byte.into());
            }
            _ => push(&mut uri, format_args!("%{byte:02X}")),
        }
    }
    uri
}
