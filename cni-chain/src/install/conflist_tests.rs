#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;

fn list(text: &str) -> List<'_> {
    match read(Kind::List, text) {
        Ok(Shape::List(list)) => list,
        other => panic!("{other:?}"),
    }
}

fn with(text: &str) -> String {
    let new = list(text).with(&Entry::default()).unwrap();
    new.unwrap_or_else(|| text.to_owned())
}

fn without(text: &str) -> String {
    let new = list(text).without().unwrap();
    new.unwrap_or_else(|| text.to_owned())
}

const OURS: &str = r#"{"type":"picket-cni","runDir":"/run/picket","timeoutSeconds":30,"onAgentUnavailable":"block"}"#;

#[test]
fn our_entry_is_the_last_and_nothing_else_changes() {
    let head = r#"{"cniVersion":"0.3.1","name":"n","vendor":[1.50,1e3,12345678901234567890123],"plugins":["#;
    let tail = r#"],"disableCheck":true}"#;
    let a = r#"{"type":"calico","mtu":1.0}"#;
    let b = r#"{ "type" : "portmap" }"#;
    let old = r#"{"type":"picket-cni","runDir":"/else"}"#;
    let expected = format!("{head}{a}, {b},{OURS}{tail}");
    for (name, plugins) in [
        ("none", format!("{a}, {b}")),
        ("as it is", format!("{a}, {b},{OURS}")),
        ("another of ours", format!("{a}, {b}, {old}")),
        ("the first", format!("{old},{a}, {b}")),
        ("within", format!("{a},{old}, {b}")),
        ("twice", format!("{OURS},{a}, {b},{OURS}")),
    ] {
        let text = format!("{head}{plugins}{tail}");
        assert_eq!(with(&text), expected, "{name}");
        assert_eq!(without(&text), format!("{head}{a}, {b}{tail}"), "{name}");
    }
}

#[test]
fn indentation_is_the_files_own() {
    let before = include_str!("../../tests/install/flannel.conflist");
    let after = include_str!("../../tests/install/flannel.installed.conflist");
    assert_eq!(with(before), after);
    assert_eq!(with(after), after);
    assert_eq!(without(after), before);
    let tabs = before.replace("  ", "\t");
    assert_eq!(without(&with(&tabs)), tabs);
    assert!(
        with(&tabs).contains("\n\t\t\t\"runDir\": \"/run/picket\""),
        "{}",
        with(&tabs)
    );
}

#[test]
fn one_plugin_becomes_a_list() {
    let before = include_str!("../../tests/install/bridge.conf");
    let Ok(Shape::Single(single)) = read(Kind::Single, before) else {
        panic!("it is one");
    };
    let after = single.wrapped(&Entry::default()).unwrap();
    assert_eq!(
        after,
        include_str!("../../tests/install/bridge.installed.conflist")
    );
    let wrapped = list(&after);
    assert_eq!(wrapped.problem(&Entry::default()), None);
    assert_eq!(wrapped.others().next(), single.value().as_ref());
}

#[test]
fn multus_first_delegate_is_what_is_edited() {
    let before = include_str!("../../tests/install/multus.conf");
    let Ok(Shape::List(of_delegate)) = read(Kind::Single, before) else {
        panic!("it is a list");
    };
    let after = of_delegate.with(&Entry::default()).unwrap().unwrap();
    assert_eq!(
        after,
        include_str!("../../tests/install/multus.installed.conf")
    );
    let as_list = format!(
        r#"{{"cniVersion":"0.3.1","name":"n","plugins":[{}]}}"#,
        before.trim()
    );
    let edited = with(&as_list);
    assert_eq!(edited.matches("picket-cni").count(), 1);
    let value: Value = serde_json::from_str(&edited).unwrap();
    assert_eq!(
        value["plugins"][0]["delegates"][0]["plugins"][2]["type"],
        "picket-cni"
    );
}

#[test]
fn what_is_not_understood_is_refused_with_its_field() {
    let of =
        |inner: &str| format!(r#"{{"name":"n","type":"multus","cniVersion":"0.3.1",{inner}}}"#);
    for (kind, text, expected) in [
        (
            Kind::List,
            "",
            "the file: is not JSON: EOF while parsing a value at line 1 column 0",
        ),
        (Kind::List, "[]", "the file: is not an object"),
        (
            Kind::List,
            r#"{"name":"n","plugins":[{"type":"a"}]"#,
            "the file: is not JSON: EOF while parsing an object at line 1 column 36",
        ),
        (
            Kind::List,
            r#"{"plugins":[{"type":"a"}]}"#,
            "name: is not there",
        ),
        (
            Kind::List,
            r#"{"name":1,"plugins":[{"type":"a"}]}"#,
            "name: 1 is not a string",
        ),
        (
            Kind::List,
            r#"{"name":"n"}"#,
            "plugins: are not there: a list of plugins has them",
        ),
        (
            Kind::List,
            r#"{"name":"n","plugins":{}}"#,
            "plugins: are not an array",
        ),
        (
            Kind::List,
            r#"{"name":"n","plugins":[]}"#,
            "plugins: are empty",
        ),
        (
            Kind::List,
            r#"{"name":"n","plugins":[1]}"#,
            "plugins[0]: is not an object",
        ),
        (
            Kind::List,
            r#"{"name":"n","plugins":[{"type":"a"},{}]}"#,
            "plugins[1].type: is no name",
        ),
        (
            Kind::List,
            r#"{"name":"n","plugins":[{"type":"a"}],"plugins":[]}"#,
            "plugins: is there more than once",
        ),
        (
            Kind::Single,
            r#"{"name":"n","plugins":[{"type":"a"}]}"#,
            "type: is not there",
        ),
        (Kind::Single, r#"{"type":"a"}"#, "name: is not there"),
        (
            Kind::Single,
            &of(r#""delegates":[]"#),
            "delegates: are empty: name the file of the network that multus calls with --cni-conf-name, if it is in the same folder",
        ),
        (
            Kind::Single,
            &of(r#""delegates":[{"type":"a"}]"#),
            "delegates[0].plugins: are not there: a list of plugins has them",
        ),
        (
            Kind::Single,
            &of(r#""clusterNetwork":"default"#.to_owned().as_str()).replace("default", "default\""),
            r#"clusterNetwork: "default" is not the path of a file: name the file of the network that multus calls with --cni-conf-name, if it is in the same folder"#,
        ),
    ] {
        let error = read(kind, text).expect_err(text);
        assert_eq!(error.to_string(), expected, "{text}");
    }
    let deep = format!(
        r#"{{"name":"n","x":{}{}}}"#,
        "[".repeat(500),
        "]".repeat(500)
    );
    read(Kind::List, &deep).expect_err("too deep");
}

#[test]
fn versions_that_the_plugin_does_not_speak_are_refused() {
    let check = |versions: &str| {
        let text = format!(r#"{{"name":"n",{versions}"plugins":[{{"type":"a"}}]}}"#);
        list(&text)
            .with(&Entry::default())
            .map(drop)
            .map_err(|fault| fault.to_string())
    };
    for spoken in [
        r#""cniVersion":"0.3.0","#,
        r#""cniVersion":"1.1.0","#,
        r#""cniVersions":["0.2.0","1.0.0"],"#,
        r#""cniVersion":"0.4.0","cniVersions":["0.4.0","1.1.0"],"#,
    ] {
        assert_eq!(check(spoken), Ok(()), "{spoken}");
    }
    for unspoken in [
        "",
        r#""cniVersion":"0.2.0","#,
        r#""cniVersion":"0.1.0","cniVersions":["1.0.0"],"#,
        r#""cniVersion":"1.2.0","#,
        r#""cniVersions":[],"#,
        r#""cniVersions":["1.0.0","1.10.0"],"#,
        r#""cniVersions":[1],"#,
    ] {
        let error = check(unspoken).expect_err(unspoken);
        assert!(error.starts_with("cniVersion"), "{error}");
    }
    // Whatever the version, our entry can be taken out.
    let text = format!(r#"{{"name":"n","plugins":[{{"type":"a"}},{OURS}]}}"#);
    assert!(!without(&text).contains("picket"));
}

#[test]
fn a_list_of_ours_alone_is_refused() {
    let text = format!(r#"{{"cniVersion":"1.0.0","name":"n","plugins":[{OURS}]}}"#);
    list(&text)
        .with(&Entry::default())
        .expect_err("no main plugin");
    list(&text).without().expect_err("it would be empty");
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has no others", |of| of.is_finite())
            .prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,6}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_members() -> impl Strategy<Value = Map<String, Value>> {
    let members = prop::collection::vec(("[a-z\"\\\\ä]{1,6}", any_value()), 0..4);
    members.prop_map(|members| {
        members
            .into_iter()
            .map(|(key, value)| (format!("x{key}"), value))
            .collect()
    })
}

/// A list without ours, in a random order of keys, pretty or not.
fn any_conflist() -> impl Strategy<Value = String> {
    let plugin = ("[a-z]{1,6}", any_members()).prop_map(|(name, mut members)| {
        members.insert("type".to_owned(), json!(name));
        Value::Object(members)
    });
    let plugins = prop::collection::vec(plugin, 1..5);
    (plugins, any_members(), any::<bool>(), any::<bool>()).prop_map(
        |(plugins, others, first, pretty)| {
            let mut object = Map::new();
            if first {
                object.insert("plugins".to_owned(), json!(plugins.clone()));
            }
            object.extend(others);
            object.insert("cniVersion".to_owned(), json!("1.0.0"));
            object.insert("name".to_owned(), json!("n"));
            object.insert("plugins".to_owned(), json!(plugins));
            let value = Value::Object(object);
            if pretty {
                format!("{value:#}\n")
            } else {
                value.to_string()
            }
        },
    )
}

proptest! {
    #[test]
    fn installing_and_uninstalling_a_random_list_leaves_its_bytes(text in any_conflist()) {
        let once = with(&text);
        let value: Value = serde_json::from_str(&once).unwrap();
        let plugins = value["plugins"].as_array().unwrap();
        prop_assert_eq!(plugins.last().unwrap(), &Entry::default().value());
        prop_assert_eq!(&with(&once), &once);
        prop_assert_eq!(without(&once), text.clone());
        let keys = |text: &str| -> Vec<String> {
            Object::read(text).unwrap().keys().map(ToOwned::to_owned).collect()
        };
        prop_assert_eq!(keys(&once), keys(&text));
    }

    #[test]
    fn ours_is_taken_out_wherever_it_stands(text in any_conflist(), at in any::<prop::sample::Index>(), again in any::<prop::sample::Index>()) {
        let mut value: Value = serde_json::from_str(&text).unwrap();
        // As text: a number that is read and written is not always the same.
        let others = value.to_string();
        for at in [at, again] {
            let plugins = value["plugins"].as_array_mut().unwrap();
            plugins.insert(at.index(plugins.len() + 1), json!({"type": "picket-cni", "runDir": "/x"}));
        }
        let text = value.to_string();
        prop_assert_eq!(without(&text), others);
        let edited = with(&text);
        prop_assert_eq!(edited.matches("picket-cni").count(), 1);
        prop_assert_eq!(list(&edited).problem(&Entry::default()), None);
    }

    #[test]
    fn no_text_makes_it_fail_otherwise_than_by_an_error(text in ".{0,60}") {
        for kind in [Kind::List, Kind::Single] {
            drop(read(kind, &text));
        }
    }
}
