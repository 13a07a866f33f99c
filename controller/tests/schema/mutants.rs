//! Values that no output is.

use serde_json::{Map, Value};

/// May be absent.
fn is_optional(schema: &str, field: &str) -> bool {
    let optional: &[&str] = match schema {
        "compile-ir" => &["TCP", "UDP", "SCTP"],
        "diff" => &["family", "TCP", "UDP", "SCTP", "ICMP"],
        "matrix" => &[
            "port",
            "namespace",
            "workloads",
            "TCP",
            "UDP",
            "SCTP",
            "ICMP",
        ],
        "explain" | "verify" => &["id"],
        // Without an answer there is nothing in force.
        "explain-live" => &["id", "in_force"],
        "flow" => &["id", "port", "family"],
        "attachments" => &["object"],
        _ => &[],
    };
    optional.contains(&field)
}

/// Objects whose keys are names.
const MAPS: [&str; 4] = ["pods", "classes", "peers", "named_ports"];

/// The value with one field lost, one misspelt, or one of another type: every such value, and what was done.
pub(crate) fn mutants(schema: &str, value: &Value) -> Vec<(String, Value)> {
    of(schema, "", value)
}

/// Mutants of the value of a field.
fn of(schema: &str, field: &str, value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(fields) => of_fields(schema, MAPS.contains(&field), fields),
        Value::Array(items) => {
            let with = |index: usize, item: Value| {
                let mut items = items.clone();
                items[index] = item;
                Value::Array(items)
            };
            let items = items.iter().enumerate();
            items
                .flat_map(|(index, item)| {
                    let mutants = of(schema, "", item).into_iter();
                    mutants.map(move |(what, item)| (format!("{index}: {what}"), with(index, item)))
                })
                .collect()
        }
        _ => vec![("another type".to_owned(), Value::Object(Map::new()))],
    }
}

fn of_fields(schema: &str, is_map: bool, fields: &Map<String, Value>) -> Vec<(String, Value)> {
    let mut mutants = Vec::new();
    for (name, value) in fields {
        let mut without = fields.clone();
        without.remove(name);
        if !is_map {
            let mut misspelt = without.clone();
            misspelt.insert(format!("{name}s"), value.clone());
            mutants.push((format!("{name} misspelt"), misspelt.into()));
        }
        if !is_map && !is_optional(schema, name) {
            mutants.push((format!("{name} lost"), without.into()));
        }
        // An id is whatever the asker gave, and an object is Kubernetes' own.
        if name == "id" || name == "object" {
            continue;
        }
        for (what, mutant) in of(schema, name, value) {
            let mut fields = fields.clone();
            fields.insert(name.clone(), mutant);
            mutants.push((format!("{name}: {what}"), fields.into()));
        }
    }
    mutants
}
