//! The schemas, made from the types.

use controller::agent::preflight::Finding;
use controller::agent::server::LiveAnswer;
use controller::agent::status::Status;
use controller::attachments::Document;
use controller::diff::Report;
use controller::flow::{Answer, Question};
use controller::lint::FindingLine;
use controller::matrix::Report as Matrix;
use policy_compiler::ir::NodeIr;
use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

/// Name, title, and how it is made.
pub(crate) type Made = (&'static str, &'static str, fn() -> Schema);

/// Every schema, by name. Another output is another line.
#[rustfmt::skip]
pub(crate) const SCHEMAS: [Made; 11] = [
    ("attachments", "picket dump attachments", output::<Document>),
    ("compile-ir", "picket compile -o ir", output::<NodeIr>),
    ("diff", "picket diff -o json", output::<Report>),
    ("explain", "A line of picket explain -o json", || without_packet(output::<Answer>())),
    ("explain-live", "A line of picket explain --live -o json", || without_packet(output::<LiveAnswer>())),
    ("flow", "A line of a flows file", input::<Question>),
    ("lint", "A line of picket lint -o json", output::<FindingLine<'_>>),
    ("matrix", "picket matrix -o json", output::<Matrix>),
    ("preflight", "A line of picket preflight -o json", output::<Finding>),
    ("status", "picket status -o json", output::<Status>),
    ("verify", "A line of picket verify -o json", || with_packet(output::<Answer>())),
];

/// The schema of a name.
pub(crate) fn made(name: &str) -> Value {
    let mut schemas = SCHEMAS.into_iter();
    let (_, title, make) = schemas.find(|(known, ..)| *known == name).unwrap();
    let mut schema = make();
    schema.insert("title".to_owned(), title.into());
    schema.to_value()
}

fn output<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let generator = settings.with_transform(exact).into_generator();
    generator.into_root_schema_for::<T>()
}

fn input<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    let generator = settings.with_transform(exact).into_generator();
    generator.into_root_schema_for::<T>()
}

/// Refuses other fields than those that are named, and names only formats that JSON Schema has.
/// Descriptions become plain text.
fn exact(schema: &mut Schema) {
    transform_subschemas(&mut exact, schema);
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::String(text)) = fields.get_mut("description") {
        // A link of rustdoc leads nowhere from here.
        *text = text.replace("[`", "`").replace("`]", "`");
    }
    if fields.get("format") == Some(&json!("ip")) {
        fields.remove("format");
        let families = json!([{"format": "ipv4"}, {"format": "ipv6"}]);
        fields.insert("anyOf".to_owned(), families);
    }
    if !fields.contains_key("properties") {
        return;
    }
    match fields.get_mut("anyOf").and_then(Value::as_array_mut) {
        // One object in two places: a field of either is known.
        Some(forms) => {
            for form in forms.iter_mut().filter_map(Value::as_object_mut) {
                form.remove("additionalProperties");
            }
            fields.insert("unevaluatedProperties".to_owned(), false.into());
        }
        None => {
            fields.insert("additionalProperties".to_owned(), false.into());
        }
    }
}

/// What an answer that was evaluated has.
fn evaluated(schema: &mut Schema) -> &mut Value {
    let forms = schema.get_mut("anyOf").and_then(Value::as_array_mut);
    let mut forms = forms.unwrap().iter_mut();
    forms
        .find(|form| !form["properties"]["packet"].is_null())
        .unwrap()
}

/// `explain` sends none.
fn without_packet(mut schema: Schema) -> Schema {
    let fields = evaluated(&mut schema)["properties"].as_object_mut();
    fields.unwrap().remove("packet");
    schema
}

/// `verify` sends one for each flow that can be asked.
fn with_packet(mut schema: Schema) -> Schema {
    let evaluated = evaluated(&mut schema);
    let required = evaluated["required"].as_array_mut().unwrap();
    required.push("packet".into());
    let fields = evaluated["properties"].as_object_mut().unwrap();
    // Optional in the type only.
    let text = "What the packet did: as the verdict says, or the two disagree.";
    fields["packet"] = json!({"$ref": "#/$defs/Verdict", "description": text});
    schema
}
