//! `picket status`, `dump` and `explain --live`, and their socket.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::time::Duration;

use controller::agent::rundir::RunDir;
use controller::agent::snapshot::Snapshot;
use policy_compiler::budget::{Budgets, Resource};
use policy_compiler::model::NamespacedName;
use serde_json::{Value, json};

use super::program::{exits, picket, text};
use super::world::{Agent, index, snapshot, snapshot_of, until, unwell};

fn ask(agent: &Agent, arguments: &[&str]) -> Output {
    until("the socket", || agent.client().ok());
    let run_dir = ["--run-dir", agent.run_dir()];
    picket(&[arguments, &run_dir].concat(), "")
}

/// Sends bytes to the socket, and returns the lines that come back.
fn say(agent: &Agent, bytes: &[u8]) -> Vec<Value> {
    let mut stream = until("the socket", || UnixStream::connect(agent.socket()).ok());
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect()
}

#[test]
fn status_of_a_well_agent_is_short_and_exits_with_0() {
    let agent = Agent::start(snapshot());
    let output = ask(&agent, &["status"]);
    exits(&output, 0);
    let expected = "\
node node-1: ready
  objects     1 policies, 3 pods (2 on this node), 1 namespaces, 2 nodes
  in force    generation 7, last equal to the objects 2023-11-14T22:13:20Z
  drift       0 repairs
  connections 0 cut, 0 allowed again
  version     0.1.0
";
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn status_names_all_that_is_wrong_and_exits_with_1() {
    let agent = Agent::start(unwell());
    let output = ask(&agent, &["status"]);
    exits(&output, 1);
    let said = text(&output.stdout);
    assert!(
        said.starts_with("node node-1: ready, with problems\n"),
        "{said}"
    );
    for line in [
        "! not applied: the kernel refused set p: ENOMEM",
        "! source: a.yaml: a.yaml: NetworkPolicy shop/x: spec: is required",
        "! source: a.yaml: line 7: bad (what was in force of it stays)",
        "! refused: NetworkPolicy shop/db-from-web: set p: ENOMEM (it isolates its pods and allows nothing)",
        "! over budget: Namespace shop: its policies need at least ",
        "! closed: shop/db, shop/web: they send and receive nothing",
        "! preflight: error: br_netfilter is not loaded: frames inside of a bridge are not judged",
        "  note: no plugin tells whose an interface is\n",
        "  drift       3 repairs: somebody changes our tables over and over",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
}

#[test]
fn each_thing_that_is_wrong_is_enough() {
    let agent = Agent::start(snapshot());
    let all = unwell();
    let well = snapshot;
    for wrong in [
        Snapshot {
            ready: false,
            ..well()
        },
        Snapshot {
            preflight: all.preflight.clone(),
            ..well()
        },
        Snapshot {
            refused: all.refused.clone(),
            ..well()
        },
        Snapshot {
            problems: all.problems.clone(),
            ..well()
        },
        Snapshot {
            failure: all.failure.clone(),
            ..well()
        },
        Snapshot {
            exceeded: all.exceeded.clone(),
            ..well()
        },
        Snapshot {
            drift_alarm: true,
            ..well()
        },
    ] {
        agent.publish(wrong);
        let output = ask(&agent, &["status", "-o", "json"]);
        exits(&output, 1);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(status["well"], false);
    }
    // Repairs and notes are news and not wrong.
    agent.publish(Snapshot {
        drift_repairs: 5,
        preflight: vec!["note: worth knowing".to_owned()],
        ..well()
    });
    exits(&ask(&agent, &["status", "-o", "json"]), 0);
}

#[test]
fn an_agent_that_is_not_ready_says_why() {
    let agent = Agent::start(Snapshot {
        ready: false,
        last_success: None,
        ..snapshot()
    });
    let output = ask(&agent, &["status"]);
    exits(&output, 1);
    let said = text(&output.stdout);
    assert!(said.starts_with("node node-1: not ready\n"), "{said}");
    assert!(said.contains("last equal to the objects never"), "{said}");
    let why = "! not ready: nothing was applied since the start: the source has not given a complete state yet";
    assert!(said.contains(why), "{said}");
}

#[test]
fn where_no_agent_answers_the_exit_code_is_2() {
    for arguments in [
        &["status"][..],
        &["dump", "rules"],
        &["explain", "--live", "shop/web", "shop/db", "5432/tcp"],
    ] {
        let output = picket(&[arguments, &["--run-dir", "/nowhere"]].concat(), "");
        exits(&output, 2);
        let said = text(&output.stderr);
        assert!(
            said.starts_with("error: no agent answers at /nowhere/agent.sock: "),
            "{said}"
        );
        assert!(said.contains("--run-dir"), "{said}");
    }
}

#[test]
fn rules_are_dumped_as_nft_text_and_objects_as_the_engine_lists_them() {
    let agent = Agent::start(snapshot());
    let rules = ask(&agent, &["dump", "rules"]);
    exits(&rules, 0);
    let expected = policy_compiler::render::text(&snapshot().ruleset);
    assert_eq!(text(&rules.stdout), expected);
    let objects = ask(&agent, &["dump", "objects"]);
    exits(&objects, 0);
    // The test's own dump: names of policies.
    assert_eq!(text(&objects.stdout), "[\n  \"shop/db-from-web\"\n]\n");
}

#[test]
fn a_live_question_is_answered_by_what_is_in_force() {
    let agent = Agent::start(snapshot());
    let question = ["explain", "--live", "shop/web", "shop/db", "5432/tcp"];
    let output = ask(&agent, &question);
    exits(&output, 0);
    let expected = "\
pod/shop/web -> pod/shop/db TCP 5432 is allowed. Egress: allowed, no policy isolates shop/web for egress. Ingress: \
allowed by shop/db-from-web.
In force on node node-1 (generation 7): allowed.
";
    assert_eq!(text(&output.stdout), expected);

    // Isolated: the objects allow it, and the kernel does not.
    let mut index = index(Budgets::default());
    let policy = NamespacedName::new("shop", "db-from-web");
    index.isolate([policy.clone()].into());
    index.update();
    agent.publish(Snapshot {
        refused: [(policy, "set p: ENOMEM".to_owned())].into(),
        ..snapshot_of(&index)
    });
    let said = ask(&agent, &question);
    let said = text(&said.stdout);
    assert!(said.contains("TCP 5432 is allowed. "), "{said}");
    let ends = "In force on node node-1 (generation 7): denied.\n  note: shop/db-from-web isolates its pods and allows \
nothing, since the kernel refused its rules: set p: ENOMEM\n";
    assert!(said.ends_with(ends), "{said}");

    // Closed: whatever policies say.
    let mut budgets = Budgets::default();
    budgets.set(Resource::Rules, 0);
    agent.publish(snapshot_of(&self::index(budgets)));
    for (from, to, verdict) in [
        ("shop/web", "shop/db", "denied"),
        ("shop/web", "203.0.113.9", "denied"),
        ("203.0.113.9", "shop/web", "denied"),
        ("node/node-1", "shop/web", "allowed"),
        ("shop/web", "node/node-1", "allowed"),
        ("node/node-2", "shop/web", "denied"),
        ("shop/web", "shop/web", "allowed"),
        ("shop/far", "203.0.113.9", "allowed"),
    ] {
        let said = ask(&agent, &["explain", "--live", from, to, "5432/tcp"]);
        let said = text(&said.stdout);
        let line = format!("In force on node node-1 (generation 7): {verdict}.");
        assert!(said.contains(&line), "{from} {to}: {said}");
        let closed = "shop/web is closed: it sends and receives nothing, but for its own node: Namespace shop: its policies need";
        assert_eq!(
            said.contains(closed),
            [from, to].contains(&"shop/web"),
            "{said}"
        );
    }

    agent.publish(Snapshot {
        ready: false,
        ..snapshot()
    });
    let said = ask(&agent, &question);
    assert!(
        text(&said.stdout)
            .contains("(generation 7): not known.\n  note: nothing was applied since")
    );
}

#[test]
fn live_flows_are_answered_in_order_and_what_cannot_be_asked_is_named() {
    let agent = Agent::start(snapshot());
    let flows = format!("{}/flows.jsonl", agent.run_dir());
    fs::write(
        &flows,
        r#"{"id": "a", "from": "pod/shop/web", "to": "pod/shop/db", "protocol": "TCP", "port": 80}
{"id": 1.0, "from": "pod/shop/nobody", "to": "pod/shop/db", "protocol": "TCP", "port": 80}
"#,
    )
    .unwrap();
    let output = ask(
        &agent,
        &["explain", "--live", "--flows", &flows, "-o", "json"],
    );
    exits(&output, 2);
    let lines: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["id"], "a");
    assert_eq!(lines[0]["verdict"], "deny");
    assert_eq!(lines[0]["in_force"]["verdict"], "deny");
    assert!(
        text(&output.stdout)
            .lines()
            .nth(1)
            .unwrap()
            .starts_with(r#"{"id":1.0,"error":"#)
    );
    assert!(lines[1]["error"].as_str().unwrap().contains("shop/nobody"));
    assert_eq!(
        text(&output.stderr),
        "error: 1 of 2 flows cannot be asked\n"
    );
}

#[test]
fn live_and_files_exclude_each_other() {
    for arguments in [
        &["explain", "--live", "-f", "x", "a", "b", "80"][..],
        &[
            "explain",
            "--live",
            "--node-egress",
            "policy",
            "a",
            "b",
            "80",
        ],
        &["explain", "--live", "--context", "c", "a", "b", "80"],
    ] {
        let output = picket(arguments, "");
        exits(&output, 2);
        assert!(
            text(&output.stderr).contains("Usage"),
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn requests_are_checked_before_they_are_answered() {
    let agent = Agent::start(snapshot());
    let error = |line: &str| {
        let answers = say(&agent, format!("{line}\n").as_bytes());
        assert_eq!(answers.len(), 1, "{line}");
        assert_eq!(answers[0]["version"], 1);
        answers[0]["error"]
            .as_str()
            .unwrap_or_else(|| panic!("{line}: {}", answers[0]))
            .to_owned()
    };
    for (line, part) in [
        ("nonsense", "a request is {\"version\": 1"),
        ("[]", "a request is"),
        ("{}", "missing field `version`"),
        (
            r#"{"version": 2, "request": "anything", "new": 1}"#,
            "version 2 is not known",
        ),
        (r#"{"version": 1}"#, "missing field `request`"),
        (
            r#"{"version": 1, "request": "shell"}"#,
            "unknown variant `shell`",
        ),
        (
            r#"{"version": 1, "request": "status", "x": 1}"#,
            "unknown field `x`",
        ),
        (
            r#"{"version": 1, "request": "explain"}"#,
            "flow: is required",
        ),
        (
            r#"{"version": 1, "request": "status", "flow": {}}"#,
            "flow: belongs to explain only",
        ),
        (
            r#"{"version": 1, "request": "explain", "flow": {"from": "x"}}"#,
            "1: from: \"x\" is no end of a flow",
        ),
        (
            r#"{"version": 1, "request": "explain", "flow": 5}"#,
            "a flow is an object",
        ),
    ] {
        let error = error(line);
        assert!(error.contains(part), "{line}: {error}");
    }
    // One connection may ask again, also after an error.
    let both = say(
        &agent,
        b"nonsense\n{\"version\": 1, \"request\": \"status\"}\n",
    );
    assert!(both[0]["error"].is_string());
    assert_eq!(both[1]["answer"]["node"], "node-1");
    // One that is too long ends it.
    let long = format!("{{\"version\": 1, \"x\": \"{}\"}}\n", "a".repeat(1 << 20));
    let refused = say(&agent, long.as_bytes());
    assert_eq!(
        refused,
        [json!({"version": 1, "error": "a request has at most 65536 bytes"})]
    );
}

#[test]
fn connections_that_ask_nothing_keep_nobody_out() {
    let agent = Agent::start(snapshot());
    until("the socket", || agent.client().ok());
    let connect = || UnixStream::connect(agent.socket()).unwrap();
    let mut idle = Vec::new();
    // Twice, as a place in the first round may be that of a client that went away.
    for _ in 0..2 {
        idle.extend((0..50).map(|_| connect()));
        exits(&ask(&agent, &["status"]), 0);
    }
}

#[test]
fn only_root_and_the_agents_user_are_let_in_and_answered() {
    let agent = Agent::start(snapshot());
    until("the socket", || agent.client().ok());
    let mode = |path: &str| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(agent.run_dir()), 0o700);
    assert_eq!(mode(&agent.socket()), 0o600);
    // Even where somebody opened both for all.
    fs::set_permissions(agent.run_dir(), Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(agent.socket(), Permissions::from_mode(0o666)).unwrap();
    // The program, where that user may run it.
    let program = format!("{}/picket", agent.run_dir());
    fs::copy(env!("CARGO_BIN_EXE_picket"), &program).unwrap();
    let mut stranger = Command::new(&program);
    stranger.args(["status", "--run-dir", agent.run_dir()]);
    let output = stranger.uid(65_534).gid(65_534).output().unwrap();
    exits(&output, 2);
    let expected = "error: the agent does not answer: user 65534 may not ask: be root, or user 0\n";
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn a_socket_that_a_killed_agent_left_is_replaced() {
    let folder = super::world::folder();
    let run_dir = RunDir::take(&folder).unwrap();
    // As kill -9 leaves it: the file is there, and nobody listens.
    drop(UnixListener::bind(run_dir.socket()).unwrap());
    assert!(run_dir.socket().exists());
    let agent = Agent::start_in(run_dir, snapshot());
    exits(&ask(&agent, &["status"]), 0);
}

#[test]
fn a_socket_at_which_somebody_listens_is_not_replaced() {
    let folder = super::world::folder();
    let run_dir = RunDir::take(&folder).unwrap();
    let live = UnixListener::bind(run_dir.socket()).unwrap();
    live.set_nonblocking(true).unwrap();
    let inode = fs::metadata(run_dir.socket()).unwrap().ino();
    let agent = Agent::start_in(run_dir, snapshot());
    // It has asked whether somebody is there, twice.
    for _ in 0..2 {
        let (mut asked, _) = until("a question", || live.accept().ok());
        assert_eq!(asked.read(&mut [0; 1]).unwrap(), 0);
    }
    assert_eq!(fs::metadata(agent.socket()).unwrap().ino(), inode);
    // Health does not depend on it.
    assert_ne!(agent.http().port(), 0);
    let socket = agent.socket();
    drop(agent);
    assert_eq!(fs::metadata(&socket).unwrap().ino(), inode);
    fs::remove_file(&socket).unwrap();
    fs::remove_dir(folder).unwrap();
}

#[test]
fn without_a_socket_the_agent_goes_on_and_tries_again() {
    let folder = super::world::folder();
    let run_dir = RunDir::take(&folder).unwrap();
    // Something is in its place that is no socket, and that nobody removes unasked.
    fs::write(run_dir.socket(), "a note").unwrap();
    let agent = Agent::start_in(run_dir, snapshot());
    assert_ne!(agent.http().port(), 0);
    exits(&picket(&["status", "--run-dir", agent.run_dir()], ""), 2);
    assert_eq!(fs::read_to_string(agent.socket()).unwrap(), "a note");
    fs::remove_file(agent.socket()).unwrap();
    exits(&ask(&agent, &["status"]), 0);
}

#[test]
fn the_socket_goes_with_its_agent() {
    let agent = Agent::start(snapshot());
    until("the socket", || agent.client().ok());
    let socket = agent.socket().to_owned();
    drop(agent);
    assert!(!std::path::Path::new(&socket).exists());
}

#[test]
fn connections_that_can_not_be_judged_are_told_of() {
    let agent = Agent::start(snapshot());
    let mut client = until("the socket", || agent.client().ok());
    assert!(agent.status(&mut client).well);
    agent
        .revoked
        .send_replace(controller::agent::revoke::Status {
            revoked: 3,
            failure: Some("no memory".to_owned()),
            ..Default::default()
        });
    let status = agent.status(&mut client);
    assert!(!status.well);
    assert_eq!(status.revocation.revoked, 3);
    assert!(
        status.to_string().contains("! not revoked: no memory"),
        "{status}"
    );
}
