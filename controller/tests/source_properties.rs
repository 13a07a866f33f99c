//! What holds for any input.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot be set up fails"
)]

mod support;
#[path = "support/tokens.rs"]
mod tokens;

use controller::source::load_bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokens::TOKENS;

const MANIFEST: &str = include_str!("source_properties.yaml");

/// Loads it; a panic fails the test, and so does an error that does not say where.
fn load(name: &str, bytes: &[u8]) -> Result<(), TestCaseError> {
    match load_bytes([(name, bytes)]) {
        Ok(loaded) => {
            let again = load_bytes([(name, bytes)]);
            prop_assert_eq!(Some(loaded), again.ok());
        }
        Err(errors) => {
            prop_assert!(!errors.problems().is_empty());
            let text = errors.to_string();
            prop_assert_eq!(text.lines().count(), errors.problems().len(), "{}", text);
            for line in text.lines() {
                prop_assert!(line.starts_with(&format!("{name}:")), "{}", line);
            }
        }
    }
    Ok(())
}

/// A piece that means something, or any character.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![4 => prop::sample::select(TOKENS).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), json in any::<bool>()) {
        load(if json { "x.json" } else { "x.yaml" }, &bytes)?;
    }

    #[test]
    fn no_sequence_of_tokens_makes_it_panic(pieces in prop::collection::vec(piece(), 0..60), json in any::<bool>()) {
        load(if json { "x.json" } else { "x.yaml" }, pieces.concat().as_bytes())?;
    }

    #[test]
    fn no_change_to_a_manifest_makes_it_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, piece()), 1..6)
    ) {
        let mut text = MANIFEST.to_owned();
        for (at, cut, piece) in edits {
            let mut from = at.index(text.len());
            let mut to = (from + cut).min(text.len());
            while !text.is_char_boundary(from) { from -= 1; }
            while !text.is_char_boundary(to) { to += 1; }
            text.replace_range(from..to, &piece);
        }
        load("x.yaml", text.as_bytes())?;
    }
}

#[test]
fn the_manifest_that_is_changed_is_good_itself() {
    load_bytes([("x.yaml", MANIFEST.as_bytes())]).unwrap();
}

/// The places of strings, numbers and booleans, each with its field in Kubernetes notation.
fn leaves(value: &Value, pointer: &str, field: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            // What is a key of the user's stands in brackets.
            let is_users = field.ends_with("abels");
            for (key, value) in map {
                let field = match field {
                    "" => key.clone(),
                    _ if is_users => format!("{field}[{key}]"),
                    _ => format!("{field}.{key}"),
                };
                let key = key.replace('~', "~0").replace('/', "~1");
                leaves(value, &format!("{pointer}/{key}"), &field, found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                let field = format!("{field}[{index}]");
                leaves(value, &format!("{pointer}/{index}"), &field, found);
            }
        }
        Value::Null => {}
        _ => found.push((pointer.to_owned(), field.to_owned())),
    }
}

#[test]
fn a_value_of_another_type_is_named_by_file_object_and_field() {
    let mut tried = 0;
    for case in support::cases() {
        let manifests = case.read("cluster.yaml");
        let loaded = load_bytes([("x.yaml", manifests.as_bytes())]).unwrap();
        for sourced in &loaded.objects {
            let object = &sourced.object;
            let mut value = serde_json::to_value(object).unwrap();
            let version = match object.kind() {
                "NetworkPolicy" => "networking.k8s.io/v1",
                _ => "v1",
            };
            value["apiVersion"] = version.into();
            let metadata = object.metadata();
            let name = metadata.name.as_deref().unwrap();
            let name = match metadata.namespace.as_deref() {
                Some(namespace) => format!("{} {namespace}/{name}", object.kind()),
                None => format!("{} {name}", object.kind()),
            };
            let mut places = Vec::new();
            leaves(&value, "", "", &mut places);
            // What the object is called and what it is cannot name it.
            let identity = ["apiVersion", "kind", "metadata.name", "metadata.namespace"];
            places.retain(|(_, field)| !identity.contains(&field.as_str()));
            for (pointer, field) in places {
                let mut wrong = value.clone();
                *wrong.pointer_mut(&pointer).unwrap() = json!({"wrong": []});
                let errors = load_bytes([("x.json", wrong.to_string().as_bytes())]).unwrap_err();
                let text = errors.to_string();
                let expected = format!("x.json:1: {name}: {field}: ");
                assert!(text.starts_with(&expected), "{text}\nexpected {expected}");
                tried += 1;
            }
        }
    }
    assert!(tried > 1000, "{tried}");
}
