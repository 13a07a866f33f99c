//! JSON schemas of what is not written as it is held.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::model::{PortRanges, Protocol};
use crate::reach::Allowed;

/// An object with ranges of ports by protocol.
pub(crate) fn ports_by_protocol(generator: &mut SchemaGenerator) -> Schema {
    let properties: serde_json::Map<_, _> = Protocol::ALL
        .iter()
        .map(|protocol| {
            let mut ranges = generator.subschema_for::<PortRanges>();
            ranges.insert(
                "description".to_owned(),
                format!("Ports of {protocol}.").into(),
            );
            (protocol.to_string(), ranges.to_value())
        })
        .collect();
    json_schema!({"type": "object", "properties": properties})
}

impl JsonSchema for Allowed {
    fn schema_name() -> Cow<'static, str> {
        "Allowed".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = ports_by_protocol(generator);
        if let Some(properties) = schema
            .get_mut("properties")
            .and_then(|properties| properties.as_object_mut())
        {
            let icmp = json_schema!({
                "description": "ICMP, and every protocol besides TCP, UDP and SCTP.",
                "const": true,
            });
            properties.insert("ICMP".to_owned(), icmp.to_value());
        }
        schema.insert(
            "description".to_owned(),
            "What may pass between two ends; what is not allowed is absent.".into(),
        );
        schema
    }
}
