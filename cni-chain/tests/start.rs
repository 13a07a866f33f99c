//! The start of a pod, and whatever an agent may do meanwhile.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod support;

use std::time::Duration;

use cni_chain::protocol::{Answer, Request};
use cni_chain::quarantine::{ACTIVE, QUARANTINE};
use support::agent::{Agent, Manner};
use support::{Container, Node, eventually, stdin};

/// A name, an agent, and what is said of it.
type Case = (&'static str, fn(&Node) -> Option<Agent>, &'static str);

/// Whatever makes the agent unavailable.
fn unavailable() -> [Case; 9] {
    [
        ("absent", |_| None, "No such file"),
        (
            "dead",
            |node| {
                Agent::dead(node);
                None
            },
            "refused",
        ),
        (
            "restarting",
            |node| Some(Agent::start(node, Manner::Restarts(u32::MAX))),
            "closed without",
        ),
        (
            "not-ready",
            |node| Some(Agent::start(node, Manner::NotYet(u32::MAX))),
            "its source is not complete",
        ),
        (
            "silent",
            |node| Some(Agent::start(node, Manner::Silent)),
            "the time is over",
        ),
        (
            "dripping",
            |node| Some(Agent::start(node, Manner::Dripping)),
            "the time is over",
        ),
        (
            "endless",
            |node| Some(Agent::start(node, Manner::Endless)),
            "longer than 65536",
        ),
        (
            "garbled",
            |node| Some(Agent::start(node, Manner::Says(b"\xff{]\n".to_vec()))),
            "not of this protocol",
        ),
        (
            "cut",
            |node| {
                Some(Agent::start(
                    node,
                    Manner::Says(b"{\"answer\":\"rea".to_vec()),
                ))
            },
            "within a line",
        ),
    ]
}

fn keys(mode: &str) -> String {
    format!(r#","timeoutSeconds":1,"onAgentUnavailable":"{mode}""#)
}

fn group(node: &Node, pod: &Container) -> u32 {
    node.host_end(pod, "eth0").group
}

#[test]
fn without_an_answer_a_pod_is_blocked_and_told_why() {
    for (name, agent, why) in unavailable() {
        let node = Node::new(name);
        let _agent = agent(&node);
        let (pod, result) = node.pod("web-0", "10.1.0.7");
        // As by default.
        let output = node.picket(
            "ADD",
            &pod,
            &stdin("1.0.0", r#","timeoutSeconds":1"#, &result),
        );
        output.fails(11, why);
        assert!(
            output.took < Duration::from_secs(3),
            "{name}: {:?}",
            output.took
        );
        assert_eq!(group(&node, &pod), QUARANTINE, "{name}");
        assert!(node.record(&pod, "eth0").is_some());
        let output = node.picket("DEL", &pod, &stdin("1.0.0", "", &result));
        assert!(
            output.took < Duration::from_millis(1500),
            "{name}: {:?}",
            output.took
        );
        assert_eq!(output.done(), "");
        assert_eq!(node.record(&pod, "eth0"), None);
    }
}

#[test]
fn without_an_answer_a_pod_starts_in_quarantine_if_that_is_asked_for() {
    for (name, agent, why) in unavailable() {
        let node = Node::new(&format!("q-{name}"));
        let _agent = agent(&node);
        let (pod, result) = node.pod("web-0", "10.1.0.7");
        let output = node.picket("ADD", &pod, &stdin("1.0.0", &keys("quarantine"), &result));
        assert!(
            output.stderr.contains("WARNING") && output.stderr.contains(why),
            "{}",
            output.stderr
        );
        assert_eq!(output.done(), result);
        assert_eq!(group(&node, &pod), QUARANTINE, "{name}");
        assert!(quarantine_stands(&node));
    }
}

#[test]
fn without_an_answer_a_pod_starts_without_policies_if_that_is_asked_for() {
    for (name, agent, why) in unavailable() {
        let node = Node::new(&format!("a-{name}"));
        let _agent = agent(&node);
        let (pod, result) = node.pod("web-0", "10.1.0.7");
        let log = node.state().join("log");
        let more = format!(r#"{},"logFile":"{}""#, keys("allow"), log.display());
        let output = node.picket("ADD", &pod, &stdin("1.0.0", &more, &result));
        for told in [&output.stderr, &std::fs::read_to_string(&log).unwrap()] {
            assert!(
                told.contains("WITHOUT POLICIES") && told.contains(why),
                "{told}"
            );
        }
        assert_eq!(output.done(), result);
        assert_eq!(group(&node, &pod), 0, "{name}");
    }
}

fn quarantine_stands(node: &Node) -> bool {
    let opened = node.network.run(kernel::Nftables::open).unwrap();
    cni_chain::quarantine::is_there(&mut opened.unwrap()).unwrap()
}

#[test]
fn an_agent_that_accepts_nobody_is_not_waited_for_longer() {
    let node = Node::new("full");
    let _full = Agent::full(&node);
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    let output = node.picket("ADD", &pod, &stdin("1.0.0", &keys("block"), &result));
    output.fails(11, "cni.sock");
    assert!(output.took < Duration::from_secs(3), "{:?}", output.took);
    let output = node.picket("DEL", &pod, &stdin("1.0.0", "", &result));
    assert!(
        output.took < Duration::from_millis(1500),
        "{:?}",
        output.took
    );
    assert_eq!(output.done(), "");
}

#[test]
fn an_agent_that_takes_its_time_is_waited_for_in_quarantine() {
    let node = Node::new("slow");
    let (agent, tell) = Agent::slow(&node);
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    std::thread::scope(|scope| {
        let add = scope.spawn(|| node.picket("ADD", &pod, &stdin("1.0.0", "", &result)));
        eventually("asked", || !agent.requests().is_empty());
        assert_eq!(group(&node, &pod), QUARANTINE);
        assert!(quarantine_stands(&node));
        assert!(!add.is_finished());
        tell.send(()).unwrap();
        assert_eq!(add.join().unwrap().done(), result);
    });
    assert_eq!(group(&node, &pod), ACTIVE);
    let [
        Request::Attach {
            id,
            wait_milliseconds,
        },
    ] = &agent.requests()[..]
    else {
        panic!("{:?}", agent.requests());
    };
    assert_eq!((id.container_id(), id.interface()), ("c-web-0", "eth0"));
    assert!(
        (20_000..=30_000).contains(wait_milliseconds),
        "{wait_milliseconds}"
    );
}

#[test]
fn an_agent_that_restarts_or_is_not_ready_yet_is_asked_again() {
    for manner in [Manner::Restarts(3), Manner::NotYet(3)] {
        let node = Node::new("again");
        let agent = Agent::start(&node, manner);
        let (pod, result) = node.pod("web-0", "10.1.0.7");
        assert_eq!(
            node.picket("ADD", &pod, &stdin("1.0.0", "", &result))
                .done(),
            result
        );
        assert_eq!((agent.requests().len(), group(&node, &pod)), (4, ACTIVE));
    }
}

#[test]
fn an_agent_that_comes_up_later_is_found() {
    let node = Node::new("later");
    Agent::dead(&node);
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    std::thread::scope(|scope| {
        let add = scope.spawn(|| node.picket("ADD", &pod, &stdin("1.0.0", "", &result)));
        eventually("in quarantine", || group(&node, &pod) == QUARANTINE);
        let agent = Agent::start(&node, Manner::Healthy);
        assert_eq!(add.join().unwrap().done(), result);
        drop(agent);
    });
    assert_eq!(group(&node, &pod), ACTIVE);
}

#[test]
fn what_the_agent_refuses_is_an_error_of_its_code_whatever_is_configured() {
    for mode in ["block", "quarantine", "allow"] {
        for (code, expected) in [(7, 7), (11, 11), (123, 123), (0, 100)] {
            let node = Node::new("refused");
            let answer = Answer::Refused {
                code,
                message: "the address is taken".into(),
                details: "by web-1".into(),
            };
            let agent = Agent::answers(&node, &answer);
            let (pod, result) = node.pod("web-0", "10.1.0.7");
            let output = node.picket("ADD", &pod, &stdin("1.0.0", &keys(mode), &result));
            output.fails(expected, "the address is taken; by web-1");
            assert_eq!(group(&node, &pod), QUARANTINE);
            drop(agent);
        }
    }
}

#[test]
fn an_answer_to_another_question_counts_for_nothing() {
    let node = Node::new("gone");
    let _agent = Agent::answers(&node, &Answer::Gone);
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    node.picket("ADD", &pod, &stdin("1.0.0", &keys("block"), &result))
        .fails(11, "another question");
}

#[test]
fn add_again_is_as_add_once() {
    let node = Node::new("twice");
    let _agent = Agent::start(&node, Manner::Healthy);
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    let input = stdin("1.0.0", "", &result);
    assert_eq!(node.picket("ADD", &pod, &input).done(), result);
    let record = node.record(&pod, "eth0");
    assert_eq!(node.picket("ADD", &pod, &input).done(), result);
    assert_eq!(
        (node.record(&pod, "eth0"), group(&node, &pod)),
        (record, ACTIVE)
    );
}

#[test]
fn a_group_of_somebody_else_is_left_alone_and_is_no_quarantine() {
    let node = Node::new("foreign");
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    node.network
        .ip(&["link", "set", "h-web-0", "group", "7", "alias", "theirs"])
        .unwrap();
    let add = |mode| node.picket("ADD", &pod, &stdin("1.0.0", &keys(mode), &result));
    let output = add("quarantine");
    output.fails(11, "can not be in quarantine");
    assert!(
        output.stderr.contains("group 7, which is somebody else's"),
        "{}",
        output.stderr
    );
    add("allow").done();
    let agent = Agent::start(&node, Manner::Healthy);
    assert_eq!(add("block").done(), result);
    let host = node.host_end(&pod, "eth0");
    assert_eq!((host.group, host.alias.as_deref()), (7, Some("theirs")));
    drop(agent);
}

#[test]
fn an_alias_of_somebody_else_stays() {
    let node = Node::new("alias");
    let _agent = Agent::start(&node, Manner::Healthy);
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    node.network
        .ip(&["link", "set", "h-web-0", "alias", "theirs"])
        .unwrap();
    node.picket("ADD", &pod, &stdin("1.0.0", "", &result))
        .done();
    assert_eq!(node.host_end(&pod, "eth0").alias.as_deref(), Some("theirs"));
}

#[test]
fn an_address_of_the_node_or_of_another_pod_is_refused_unless_that_one_is_gone() {
    let node = Node::new("taken");
    let _agent = Agent::start(&node, Manner::Healthy);
    node.network
        .ip(&["address", "add", "10.1.0.9/32", "dev", "lo"])
        .unwrap();
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    let add = |pod: &Container, result: &str| node.picket("ADD", pod, &stdin("1.0.0", "", result));
    add(&pod, &result).done();
    let (second, result) = node.pod("web-1", "10.1.0.7");
    add(&second, &result).fails(7, "10.1.0.7 of pod default/web-0");
    drop(pod);
    add(&second, &result).done();
    let (third, result) = node.pod("web-2", "10.1.0.9");
    add(&third, &result).fails(7, "10.1.0.9 of this node");
}

#[test]
fn addresses_are_read_inside_where_nobody_names_them() {
    let node = Node::new("inside");
    let _agent = Agent::start(&node, Manner::Healthy);
    let (pod, _) = node.pod("web-0", "10.1.0.7");
    pod.network
        .ip_batch("address add fd01::7/128 dev eth0\n")
        .unwrap();
    assert_eq!(
        node.picket("ADD", &pod, &stdin("1.0.0", "", "{}")).done(),
        "{}"
    );
    let expected = ["10.1.0.7", "fd01::7"].map(|address| address.parse().unwrap());
    let expected = expected.into_iter().chain(pod.link_local("eth0"));
    let record = node.record(&pod, "eth0").unwrap();
    assert_eq!(record.addresses, expected.collect());
}

#[test]
fn what_is_no_pod_of_kubernetes_or_is_excluded_is_passed_on_untouched() {
    let node = Node::new("passed-on");
    let (mut pod, result) = node.pod("web-0", "10.1.0.7");
    let excluded = stdin(
        "1.0.0",
        r#","excludeNamespaces":["kube-system","default"]"#,
        &result,
    );
    assert_eq!(node.picket("ADD", &pod, &excluded).done(), result);
    for args in ["", "IgnoreUnknown=1;K8S_POD_NAME=web", "nonsense"] {
        pod.args = args.into();
        let input = stdin("0.4.0", "", &result);
        assert_eq!(node.picket("ADD", &pod, &input).done(), result);
        assert_eq!(node.picket("CHECK", &pod, &input).done(), "");
    }
    let host = node.host_end(&pod, "eth0");
    assert_eq!((host.group, host.alias), (0, None));
    assert!(!node.records().folder().exists());
}

#[test]
fn a_namespace_that_is_the_nodes_own_or_none_is_refused() {
    let node = Node::new("own");
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    let input = stdin("1.0.0", "", &result);
    for (netns, words) in [
        ("/proc/thread-self/ns/net", "the node's own"),
        ("/run/netns/gone", "can not be opened"),
        ("/proc/self/status", "is not a network namespace"),
        ("", "CNI_NETNS is missing"),
    ] {
        let mut environment = pod.environment("ADD", "h-web-0");
        environment[2].1 = netns.into();
        node.call("picket-cni", &environment, input.as_bytes())
            .fails(4, words);
    }
    let environment = pod.environment("ADD", "net7");
    node.call("picket-cni", &environment, input.as_bytes())
        .fails(7, "no interface net7");
    assert_eq!(node.host_end(&pod, "eth0").group, 0);
}

#[test]
fn a_peer_that_is_in_no_namespace_of_the_node_is_refused() {
    let node = Node::new("elsewhere");
    let (pod, other) = (Container::new("web-0"), Container::new("web-1"));
    let batch = format!(
        "link add eth0 type veth peer name a netns {}\n",
        other.path()
    );
    pod.network.ip_batch(&batch).unwrap();
    node.picket("ADD", &pod, &stdin("1.0.0", "", "{}"))
        .fails(11, "not in this namespace");
}

#[test]
fn pods_that_start_at_once_on_a_node_without_a_quarantine_all_start() {
    let node = Node::new("at-once");
    let _agent = Agent::start(&node, Manner::Healthy);
    let pods: Vec<_> = (0..8)
        .map(|number| node.pod(&format!("web-{number}"), &format!("10.1.0.{number}")))
        .collect();
    std::thread::scope(|scope| {
        for (pod, result) in &pods {
            let node = &node;
            scope.spawn(move || {
                let added = node.picket("ADD", pod, &stdin("1.0.0", "", result));
                assert_eq!(&added.done(), result);
            });
        }
    });
    assert!(quarantine_stands(&node));
    assert!(pods.iter().all(|(pod, _)| group(&node, pod) == ACTIVE));
}

#[test]
fn a_quarantine_that_somebody_has_flushed_is_made_again_before_a_pod_is_in_it() {
    let node = Node::new("flushed");
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    for _ in 0..2 {
        let added = node.picket("ADD", &pod, &stdin("1.0.0", &keys("quarantine"), &result));
        assert_eq!(added.done(), result);
        assert!(quarantine_stands(&node));
        node.network.nft("flush ruleset").unwrap();
    }
}

#[test]
fn without_a_quarantine_a_pod_does_not_start() {
    let node = Node::new("unmade");
    let _agent = Agent::start(&node, Manner::Healthy);
    let (pod, result) = node.pod("web-0", "10.1.0.7");
    // Another program owns a table of this name, and nobody else may change it.
    let mut owner = node.network.run(|| {
        let table = "add table inet picket-quarantine { flags owner; }\n";
        let nft = std::process::Command::new("/usr/sbin/nft")
            .arg("-i")
            .stdin(std::process::Stdio::piped())
            .spawn();
        let mut nft = nft.unwrap();
        std::io::Write::write_all(nft.stdin.as_mut().unwrap(), table.as_bytes()).unwrap();
        nft
    });
    let owner = owner.as_mut().unwrap();
    eventually("owned", || {
        node.network
            .nft("list ruleset")
            .unwrap()
            .contains("picket-quarantine")
    });
    for mode in ["block", "quarantine"] {
        let output = node.picket("ADD", &pod, &stdin("1.0.0", &keys(mode), &result));
        output.fails(11, "the rules of the quarantine can not be put in force");
        assert_eq!(group(&node, &pod), 0);
    }
    let output = node.picket("ADD", &pod, &stdin("1.0.0", &keys("allow"), &result));
    assert!(
        output.stderr.contains("not in quarantine"),
        "{}",
        output.stderr
    );
    assert_eq!((output.done(), group(&node, &pod)), (result, ACTIVE));
    drop(owner.stdin.take());
    owner.wait().unwrap();
}
