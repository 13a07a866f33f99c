//! What can be told of an object before its type is known.

use serde_json::{Map, Value};

use super::origin::ObjectRef;

/// Whether a field is as good as absent: null or empty, as Go's zero value.
pub(super) fn is_absent(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(value) => value.as_str() == Some(""),
    }
}

/// As much of an object's name as can be made out.
pub(super) fn reference(map: &Map<String, Value>) -> ObjectRef {
    let text = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let metadata = map.get("metadata");
    let field = |name: &str| text(metadata.and_then(|metadata| metadata.get(name)));
    ObjectRef {
        kind: text(map.get("kind")).unwrap_or_else(|| "document".to_owned()),
        namespace: field("namespace"),
        name: field("name"),
    }
}

/// What a value is called in messages.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
