//! Whatever the runtime, the plugins before and the agent say: an answer in time, an error as JSON, and no panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use support::agent::{Agent, Manner};
use support::{Node, stdin};

/// How many inputs; `PICKET_CNI_INPUTS` for more.
fn inputs() -> u32 {
    std::env::var("PICKET_CNI_INPUTS").map_or(150, |text| text.parse().unwrap())
}

/// A text with some bytes that are others.
fn damaged(text: String) -> impl Strategy<Value = Vec<u8>> {
    let length = text.len();
    let cut = prop_oneof![3 => Just(length), 1 => 0..length];
    (cut, vec((0..length, any::<u8>()), 0..4)).prop_map(move |(cut, changes)| {
        let mut bytes = text.clone().into_bytes();
        for (place, byte) in changes {
            bytes[place] = byte;
        }
        bytes.truncate(cut);
        bytes
    })
}

fn word(words: &[&'static str]) -> impl Strategy<Value = OsString> + use<> {
    let known = select(words.to_vec()).prop_map(OsString::from);
    let bytes = vec(1..=255u8, 0..12).prop_map(OsString::from_vec);
    prop_oneof![4 => known, 1 => bytes]
}

#[test]
fn whatever_is_said_there_is_an_answer_in_time_and_no_panic() {
    let node = Node::new("random");
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    let texts = vec![
        stdin("1.0.0", r#","timeoutSeconds":1"#, &result),
        stdin(
            "1.1.0",
            r#","timeoutSeconds":1,"onAgentUnavailable":"quarantine","cni.dev/attachments":[{"containerID":"a","ifname":"b"}]"#,
            "{}",
        ),
        stdin(
            "0.4.0",
            r#","timeoutSeconds":1,"onAgentUnavailable":"allow","excludeNamespaces":["a"]"#,
            &result,
        ),
    ];
    let input = prop_oneof![
        6 => select(texts).prop_flat_map(damaged),
        1 => vec(any::<u8>(), 0..64),
    ];
    let answers = [
        r#"{"answer":"ready"}"#,
        r#"{"answer":"gone"}"#,
        r#"{"answer":"notYet","message":"m"}"#,
        r#"{"answer":"refused","code":4294967295,"message":"m\n\"","details":"d"}"#,
    ];
    let answer =
        select(answers.map(|answer| format!("{answer}\n")).to_vec()).prop_flat_map(damaged);
    let args = [
        "K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=default",
        "K8S_POD_NAME=b;;=;K8S_POD_UID",
        "",
    ];
    let own = pod.path();
    let strategy = (
        word(&[
            "ADD", "ADD", "ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION",
        ]),
        word(&["c-web-0"]),
        word(&["eth0", "eth0", "net1", "lo"]),
        word(&[
            "OWN",
            "OWN",
            "OWN",
            "/proc/thread-self/ns/net",
            "/dev/zero",
            "",
        ]),
        word(&args),
        input,
        answer,
    );
    let mut runner = TestRunner::new(Config {
        cases: inputs(),
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(
        &strategy,
        |(verb, container, interface, netns, args, input, answer)| {
            let netns = if netns == "OWN" {
                own.clone().into()
            } else {
                netns
            };
            let agent = Agent::start(&node, Manner::Says(answer));
            let environment = [
                ("CNI_COMMAND", verb.clone()),
                ("CNI_CONTAINERID", container),
                ("CNI_IFNAME", interface),
                ("CNI_NETNS", netns),
                ("CNI_ARGS", args),
            ];
            let output = node.call("picket-cni", &environment, &input);
            drop(agent);
            prop_assert!(!output.stderr.contains("panicked"), "{output:#?}");
            prop_assert!(output.took < Duration::from_secs(20), "{output:#?}");
            match output.code {
                Some(0) => prop_assert!(verb != "DEL" || output.stdout.is_empty()),
                _ => {
                    prop_assert!(verb != "DEL", "{output:#?}");
                    output.failed();
                }
            }
            Ok(())
        },
    );
    outcome.unwrap();
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((".{0,6}", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

#[test]
fn whatever_the_plugins_before_said_leaves_as_it_came() {
    let node = Node::new("as-it-came");
    let _agent = Agent::start(&node, Manner::Healthy);
    let (pod, _) = node.pod("web-0", "10.1.0.7");
    let mut runner = TestRunner::new(Config {
        cases: inputs(),
        failure_persistence: None,
        ..Config::default()
    });
    let strategy = (value(), value(), any::<bool>());
    let outcome = runner.run(&strategy, |(odd, interfaces, spaced)| {
        let result = json!({"odd": odd, "interfaces": interfaces, "dns": {}});
        let text = match spaced {
            true => serde_json::to_string_pretty(&result).unwrap(),
            false => result.to_string(),
        };
        let output = node.picket("ADD", &pod, &stdin("1.0.0", "", &text));
        prop_assert_eq!(output.done(), text);
        Ok(())
    });
    outcome.unwrap();
}
