//! Each verb by itself: what it answers, and how it fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use cni_chain::protocol::{Answer, Request, ready_marker};
use cni_chain::quarantine::{ACTIVE, QUARANTINE};
use support::agent::{Agent, Manner};
use support::{Container, Node, Output, stdin};

/// What libcni gives VERSION.
fn dummy() -> Vec<(&'static str, OsString)> {
    [
        ("CNI_COMMAND", "VERSION"),
        ("CNI_NETNS", "dummy"),
        ("CNI_IFNAME", "dummy"),
        ("CNI_PATH", "dummy"),
    ]
    .map(|(name, value)| (name, value.into()))
    .into()
}

#[test]
fn version_is_answered_whatever_is_said() {
    let node = Node::new("version");
    for (stdin, version) in [
        (r#"{"cniVersion":"1.1.0"}"#, "1.1.0"),
        (r#"{"cniVersion":"0.3.0"}"#, "0.3.0"),
        (r#"{"cniVersion":"9.0.0"}"#, "1.0.0"),
        ("", "1.0.0"),
        ("\u{0}", "1.0.0"),
    ] {
        let said = node.call("picket-cni", &dummy(), stdin.as_bytes()).done();
        let supported = r#"["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]"#;
        assert_eq!(
            said,
            format!(r#"{{"cniVersion":"{version}","supportedVersions":{supported}}}"#)
        );
    }
}

#[test]
fn every_error_is_json_with_the_code_of_the_specification() {
    let node = Node::new("errors");
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    let good = stdin("1.1.0", "", &result);
    let long = format!("{}{}", good, " ".repeat(4 << 20));
    let odd = |keys: &str| stdin("1.0.0", keys, &result);
    for (verb, change, input, code, words) in [
        ("ADDED", "", &*good, 4, "CNI_COMMAND"),
        ("", "", &*good, 4, "CNI_COMMAND"),
        ("ADD", "CNI_CONTAINERID=", &*good, 4, "container id"),
        ("ADD", "CNI_CONTAINERID=../x", &*good, 4, "container id"),
        ("ADD", "CNI_IFNAME=", &*good, 4, "interface"),
        ("ADD", "CNI_IFNAME=a/b", &*good, 4, "interface"),
        ("ADD", "CNI_NETNS=", &*good, 4, "CNI_NETNS is missing"),
        ("CHECK", "CNI_NETNS=", &*good, 4, "CNI_NETNS is missing"),
        (
            "ADD",
            "CNI_ARGS=K8S_POD_NAMESPACE=../a;K8S_POD_NAME=b",
            &*good,
            4,
            "K8S_POD_NAMESPACE",
        ),
        ("ADD", "", &*long, 5, "longer than 4194304"),
        ("ADD", "", "", 6, "not JSON"),
        ("ADD", "", "{\"cniVersion\":\"1.0.0\"", 6, "not JSON"),
        ("GC", "", "\u{1}", 6, "not JSON"),
        (
            "ADD",
            "",
            r#"{"cniVersion":"1.0.0","name":"k8s"}"#,
            7,
            "prevResult is missing",
        ),
        ("ADD", "", &*stdin("1.0.0", "", "[]"), 7, "prevResult"),
        (
            "ADD",
            "",
            &*stdin("1.0.0", "", r#"{"ips":[{"address":"x"}]}"#),
            7,
            "prevResult",
        ),
        (
            "ADD",
            "",
            &*odd(r#","onAgentUnavailable":"open""#),
            7,
            "unknown variant",
        ),
        (
            "ADD",
            "",
            &*odd(r#","timeoutSeconds":0"#),
            7,
            "timeoutSeconds",
        ),
        ("ADD", "", &*odd(r#","runDir":"run""#), 7, "runDir"),
        (
            "STATUS",
            "",
            &*stdin("1.1.0", r#","timeoutSeconds":-1"#, "{}"),
            7,
            "invalid value",
        ),
        ("ADD", "", &*stdin("0.2.0", "", &result), 1, "0.2.0"),
        ("ADD", "", &*stdin("2.0.0", "", &result), 1, "2.0.0"),
        ("CHECK", "", &*stdin("0.3.1", "", &result), 1, "0.4.0 on"),
        ("GC", "", &*stdin("1.0.0", "", &result), 1, "1.1.0 on"),
        ("STATUS", "", &*stdin("1.0.0", "", &result), 1, "1.1.0 on"),
    ] {
        let output = node.call("picket-cni", &changed(&pod, verb, change), input.as_bytes());
        output.fails(code, words);
        assert!(output.stderr.contains(words), "{}", output.stderr);
    }
    assert_eq!(node.host_end(&pod, "eth0").group, 0);
    assert!(!node.records().folder().exists());
}

/// The usual environment, but for one variable.
fn changed(pod: &Container, verb: &str, change: &str) -> Vec<(&'static str, OsString)> {
    let mut environment = pod.environment(verb, "eth0");
    if let Some((name, value)) = change.split_once('=') {
        let changed = environment.iter_mut().find(|(of, _)| *of == name);
        changed.unwrap().1 = value.into();
    }
    environment
}

#[test]
fn del_succeeds_whatever_is_said() {
    let node = Node::new("del");
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    let good = stdin("1.0.0", "", &result);
    for (change, input) in [
        ("", &*good),
        ("CNI_NETNS=", &*good),
        ("CNI_NETNS=/run/netns/gone", &*good),
        ("", r#"{"cniVersion":"1.0.0","name":"k8s"}"#),
        ("", r#"{"cniVersion":"0.3.1","name":"k8s"}"#),
        ("", r#"{"cniVersion":"7.0.0","name":"k8s"}"#),
        (
            "",
            r#"{"cniVersion":"1.0.0","timeoutSeconds":"x","logFile":7}"#,
        ),
        ("", "{"),
        ("", ""),
        ("CNI_CONTAINERID=", &*good),
        ("CNI_CONTAINERID=../x", &*good),
        ("CNI_IFNAME=", &*good),
        ("CNI_ARGS=", &*good),
        ("CNI_ARGS=K8S_POD_NAMESPACE=../x;K8S_POD_NAME=y", &*good),
    ] {
        let output = node.call(
            "picket-cni",
            &changed(&pod, "DEL", change),
            input.as_bytes(),
        );
        assert_eq!(output.done(), "", "{change} {input}");
    }
    let only = [("CNI_COMMAND", OsString::from("DEL"))];
    assert_eq!(node.call("picket-cni", &only, b"").done(), "");
}

#[test]
fn del_removes_the_record_also_after_a_reboot_and_with_an_unreadable_configuration() {
    for (name, change, unreadable) in [
        ("reboot", "CNI_NETNS=", None),
        ("unreadable", "", Some("{".to_owned())),
        ("too-long", "", Some(" ".repeat(5 << 20))),
    ] {
        let node = Node::new(name);
        let (pod, result) = node.pod("web-0", "10.1.0.7");
        let agent = Agent::start(&node, Manner::Healthy);
        let good = stdin("1.0.0", "", &result);
        node.picket("ADD", &pod, &good).done();
        assert!(node.record(&pod, "eth0").is_some());
        let input = unreadable.unwrap_or(good);
        for _ in 0..2 {
            let output = node.call(
                "picket-cni",
                &changed(&pod, "DEL", change),
                input.as_bytes(),
            );
            assert_eq!(output.done(), "");
            assert_eq!(node.record(&pod, "eth0"), None);
        }
        // The second had nothing to tell.
        let told = agent
            .requests()
            .into_iter()
            .filter(|request| matches!(request, Request::Detach { .. }));
        assert_eq!(told.count(), 1);
    }
}

#[test]
fn del_removes_a_record_that_is_broken() {
    let node = Node::new("broken");
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    let record = node.records().folder().join("c-web-0-eth0.json");
    fs::create_dir_all(node.records().folder()).unwrap();
    fs::write(&record, "{").unwrap();
    assert_eq!(
        node.picket("DEL", &pod, &stdin("1.0.0", "", &result))
            .done(),
        ""
    );
    assert!(!record.exists());
}

#[test]
fn check_says_what_is_not_as_add_left_it() {
    let node = Node::new("check");
    let agent = Agent::start(&node, Manner::Healthy);
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    let input = stdin("1.0.0", r#","timeoutSeconds":1"#, &result);
    let check = |pod: &Container| -> Output { node.picket("CHECK", pod, &input) };
    check(&pod).fails(101, "nothing is noted down");
    node.picket("ADD", &pod, &input).done();
    assert_eq!(check(&pod).done(), "");
    let (host, mut links) = (node.host_end(&pod, "eth0"), node.links());
    for group in [0, QUARANTINE] {
        links.set_group(&host, group).unwrap();
        check(&pod).fails(101, &format!("in group {group}, not in 770702"));
    }
    links.set_group(&host, ACTIVE).unwrap();
    drop(agent);
    check(&pod).fails(101, "refused");
    let refused = Answer::Refused {
        code: 7,
        message: "unknown".into(),
        details: "to me".into(),
    };
    for (answer, words) in [
        (refused, "unknown; to me"),
        (Answer::Gone, "another question"),
    ] {
        let _agent = Agent::answers(&node, &answer);
        check(&pod).fails(101, words);
    }
    let _agent = Agent::start(&node, Manner::Healthy);
    assert_eq!(check(&pod).done(), "");
    // Another interface has its name.
    pod.network.ip(&["link", "delete", "eth0"]).unwrap();
    let batch = format!(
        "link add h-new type veth peer name eth0 netns {}\n",
        pod.path()
    );
    node.network.ip_batch(&batch).unwrap();
    check(&pod).fails(101, "now is by");
    node.network.ip(&["link", "delete", "h-new"]).unwrap();
    check(&pod).fails(101, "no interface eth0");
}

#[test]
fn status_fails_only_until_the_agent_was_ready_once() {
    let node = Node::new("status");
    let pod = Container::new("none");
    let status = || node.picket("STATUS", &pod, r#"{"cniVersion":"1.1.0","name":"k8s"}"#);
    status().fails(50, "/run/picket/ready");
    let agent = Agent::start(&node, Manner::Silent);
    status().fails(50, "/run/picket/ready");
    fs::write(ready_marker(&node.run_dir()), "").unwrap();
    let output = status();
    assert!(output.took < Duration::from_secs(1), "{:?}", output.took);
    assert_eq!(output.done(), "");
    drop(agent);
    Agent::dead(&node);
    assert_eq!(status().done(), "");
}

#[test]
fn gc_removes_records_of_its_network_that_are_not_listed() {
    let node = Node::new("gc");
    let _agent = Agent::start(&node, Manner::Healthy);
    let pods = [("a", "k8s"), ("b", "k8s"), ("c", "other")].map(|(name, network)| {
        let number = name.as_bytes()[0];
        let (pod, result) = node.pod(name, &format!("10.1.0.{number}"));
        let input = stdin("1.0.0", "", &result).replace("\"k8s\"", &format!("\"{network}\""));
        node.picket("ADD", &pod, &input).done();
        pod
    });
    let broken = node.records().folder().join("d-eth0.json");
    fs::write(&broken, "{").unwrap();
    let gc = |keys: &str| {
        let input = format!(r#"{{"cniVersion":"1.1.0","name":"k8s"{keys}}}"#);
        node.picket("GC", &pods[0], &input)
    };
    let left = || {
        pods.each_ref()
            .map(|pod| node.record(pod, "eth0").is_some())
    };
    let listed = |key: &str, list: &str| format!(r#","cni.dev/{key}":{list}"#);
    assert_eq!(gc("").done(), "");
    assert_eq!(gc(&listed("valid-attachments", "null")).done(), "");
    gc(&listed("attachments", r#"[{"containerID":"c-a"}]"#)).fails(7, "ifname");
    assert_eq!(left(), [true, true, true]);
    let first = r#"[{"containerID":"c-a","ifname":"eth0"},{"containerID":"c-b","ifname":"net1"}]"#;
    assert_eq!(gc(&listed("attachments", first)).done(), "");
    assert_eq!(left(), [true, false, true]);
    let both = listed("attachments", first) + &listed("valid-attachments", first);
    assert_eq!(gc(&both).done(), "");
    assert_eq!(left(), [true, false, true]);
    let output = gc(&listed("valid-attachments", "[]"));
    assert!(output.stderr.contains("d-eth0.json"), "{}", output.stderr);
    assert_eq!(output.done(), "");
    assert_eq!(left(), [false, false, true]);
    assert!(broken.exists());
}

#[test]
fn the_log_has_a_line_for_each_event_and_is_bounded() {
    let node = Node::new("log");
    let _agent = Agent::start(&node, Manner::Healthy);
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    let log = node.state().join("picket-cni.log");
    let input = stdin(
        "1.0.0",
        &format!(r#","logFile":"{}""#, log.display()),
        &result,
    );
    for verb in ["ADD", "DEL", "DEL"] {
        node.picket(verb, &pod, &input).done();
    }
    let text = fs::read_to_string(&log).unwrap();
    let events: Vec<_> = text
        .lines()
        .map(|line| line.split_once("Z ").unwrap().1)
        .collect();
    let subject = |verb: &str| format!("{verb} k8s c-web-0-eth0 default/web-0: ");
    assert!(
        events[0].starts_with(&(subject("ADD") + "policies are in force after ")),
        "{text}"
    );
    assert_eq!(
        events[1..],
        [
            subject("DEL") + "removed",
            subject("DEL") + "nothing is attached"
        ]
    );
    let aside = log.with_extension("log.1");
    for _ in 0..2 {
        fs::write(&log, "x".repeat(1 << 20)).unwrap();
        node.picket("DEL", &pod, &input).done();
        assert_eq!(fs::metadata(&aside).unwrap().len(), 1 << 20);
        assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 1);
    }
}

#[test]
fn a_log_that_can_not_be_written_fails_nothing() {
    let node = Node::new("no-log");
    let _agent = Agent::start(&node, Manner::Healthy);
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    let pipe = node.state().join("pipe");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    for log in [
        pipe,
        node.state(),
        "/nowhere/log".into(),
        "/dev/full".into(),
    ] {
        let input = stdin(
            "1.0.0",
            &format!(r#","logFile":"{}""#, log.display()),
            &result,
        );
        assert_eq!(node.picket("ADD", &pod, &input).done(), result);
        assert_eq!(node.picket("DEL", &pod, &input).done(), "");
    }
}
