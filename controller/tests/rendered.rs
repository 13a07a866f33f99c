//! Manifests as tools print them, with no edits: a chart's rendered output, and the dump of a cluster.
//!
//! What is expected was worked out by hand from the policies in the files.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "support/program.rs"]
mod program;

use std::collections::BTreeMap;

use program::{exits, picket, text};
use serde_json::{Value, json};

const CHART: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../testdata/rendered/forum.yaml"
);
const DUMP: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../testdata/rendered/kubectl-get.yaml"
);

/// From, to, protocol, port, verdict.
type Expected = (&'static str, &'static str, &'static str, u16, &'static str);

/// Of the chart; pods are in the namespace of the release.
const OF_THE_CHART: &[Expected] = &[
    ("forum-web-0", "forum-postgresql-0", "TCP", 5432, "allow"),
    ("forum-web-0", "forum-postgresql-0", "TCP", 9187, "deny"),
    ("forum-web-0", "forum-redis-master-0", "TCP", 6379, "allow"),
    ("forum-web-0", "forum-worker-0", "TCP", 3000, "deny"),
    ("forum-web-0", "ip/203.0.113.9", "TCP", 443, "deny"),
    ("forum-worker-0", "forum-postgresql-0", "TCP", 5432, "allow"),
    ("forum-digest-0", "forum-postgresql-0", "TCP", 5432, "allow"),
    // It has not the label of a client.
    (
        "forum-migrations-1-0",
        "forum-postgresql-0",
        "TCP",
        5432,
        "deny",
    ),
    ("forum-worker-0", "ip/203.0.113.9", "TCP", 465, "allow"),
    ("forum-worker-0", "ip/203.0.113.9", "TCP", 587, "allow"),
    ("forum-worker-0", "ip/203.0.113.9", "TCP", 443, "deny"),
    ("forum-worker-0", "ip/10.1.2.3", "TCP", 587, "deny"),
    ("forum-worker-0", "ip/169.254.169.254", "TCP", 587, "deny"),
    // Without `from`: everybody.
    ("ip/203.0.113.9", "forum-postgresql-0", "TCP", 9187, "allow"),
    ("ip/203.0.113.9", "forum-postgresql-0", "TCP", 5432, "deny"),
    (
        "ip/203.0.113.9",
        "forum-redis-master-0",
        "TCP",
        6379,
        "allow",
    ),
    (
        "forum-redis-master-0",
        "ip/203.0.113.9",
        "UDP",
        123,
        "allow",
    ),
    ("forum-redis-master-0", "forum-web-0", "TCP", 3000, "deny"),
    // The chart's own test would fail: only the ingress controller reaches the web servers.
    ("forum-test-connection", "forum-web-0", "TCP", 3000, "deny"),
];

const OF_THE_DUMP: &[Expected] = &[
    (
        "pod/forum/forum-web-6c8f7d9b54-7xk2p",
        "pod/forum/forum-db-0",
        "TCP",
        5432,
        "allow",
    ),
    (
        "pod/forum/forum-web-6c8f7d9b54-7xk2p",
        "pod/forum/forum-db-0",
        "TCP",
        5433,
        "deny",
    ),
    // It is being deleted, and still counts.
    (
        "pod/forum/forum-web-6c8f7d9b54-q9wzr",
        "pod/forum/forum-db-0",
        "TCP",
        5432,
        "allow",
    ),
    (
        "pod/forum/forum-db-0",
        "pod/kube-system/coredns-668d6bf9bc-4hdzs",
        "UDP",
        53,
        "allow",
    ),
    ("pod/forum/forum-db-0", "ip/203.0.113.9", "TCP", 443, "deny"),
    // The address was that of a pod which the policy would have let in.
    ("ip/10.244.1.9", "pod/forum/forum-db-0", "TCP", 5432, "deny"),
    (
        "pod/monitoring/prom-scraper-5d4c7b8f96-zt6kj",
        "pod/forum/forum-web-6c8f7d9b54-7xk2p",
        "TCP",
        9394,
        "allow",
    ),
    (
        "pod/monitoring/prom-scraper-5d4c7b8f96-zt6kj",
        "pod/forum/forum-web-6c8f7d9b54-7xk2p",
        "TCP",
        3000,
        "deny",
    ),
    // hostNetwork pods are their node.
    (
        "pod/kube-system/kube-proxy-m2v8n",
        "pod/forum/forum-web-6c8f7d9b54-7xk2p",
        "TCP",
        3000,
        "allow",
    ),
    (
        "pod/kube-system/kube-proxy-m2v8n",
        "pod/forum/forum-web-6c8f7d9b54-q9wzr",
        "TCP",
        3000,
        "deny",
    ),
    (
        "node/kind-worker2",
        "pod/forum/forum-db-0",
        "TCP",
        5432,
        "allow",
    ),
    (
        "node/kind-control-plane",
        "pod/forum/forum-db-0",
        "TCP",
        5432,
        "deny",
    ),
];

fn flows(expected: &[Expected], namespace: &str) -> String {
    let end = |end: &str| match end.contains('/') {
        true => end.to_owned(),
        false => format!("pod/{namespace}/{end}"),
    };
    let lines = expected.iter().map(|(from, to, protocol, port, _)| {
        let flow = json!({"from": end(from), "to": end(to), "protocol": protocol, "port": port});
        flow.to_string() + "\n"
    });
    lines.collect()
}

/// Asks for the flows; returns the answers, and what was said on stderr.
#[track_caller]
fn answers(command: &[&str], expected: &[Expected], namespace: &str) -> (Vec<Value>, String) {
    let mut arguments = command.to_vec();
    arguments.extend(["--flows", "-", "-o", "json"]);
    let output = picket(&arguments, &flows(expected, namespace));
    exits(&output, 0);
    let lines = text(&output.stdout).lines();
    let answers: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), expected.len());
    for (answer, expected) in answers.iter().zip(expected) {
        assert_eq!(answer["verdict"], expected.4, "{expected:?}: {answer}");
    }
    (answers, text(&output.stderr).to_owned())
}

/// The flows as packets, in both networks; they do what is expected.
#[track_caller]
fn packets(arguments: &[&str], expected: &[Expected], namespace: &str) {
    for network in ["routed", "bridge"] {
        let command = [&["verify", "--network", network], arguments].concat();
        for answer in answers(&command, expected, namespace).0 {
            assert_eq!(answer["packet"], answer["verdict"], "{network}: {answer}");
        }
    }
}

/// The sample that `verify` takes by itself agrees, and shows for each policy what it allows and denies.
#[track_caller]
fn sample(arguments: &[&str]) -> BTreeMap<String, [usize; 2]> {
    let output = picket(&[&["verify"], arguments].concat(), "");
    exits(&output, 0);
    let table = text(&output.stdout);
    assert!(table.contains(", 0 disagree\n"), "{table}");
    let policies = table.split("POLICY ").nth(1).unwrap().lines().skip(1);
    let rows = policies.map_while(|line| {
        let mut cells = line.split_whitespace();
        let policy = cells.next()?.to_owned();
        let counts = [cells.next()?, cells.next()?].map(|count| count.parse().unwrap());
        Some((policy, counts))
    });
    rows.collect()
}

#[test]
fn a_rendered_chart_is_explained_and_its_packets_obey() {
    answers(&["explain", "-f", CHART], OF_THE_CHART, "default");
    packets(&["-f", CHART], OF_THE_CHART, "default");
}

#[test]
fn a_rendered_chart_and_a_dump_are_compiled() {
    for (input, node, policies) in [
        (
            CHART,
            "node-1",
            ["default/forum-web", "default/forum-postgresql"],
        ),
        (DUMP, "kind-worker2", ["forum/db", "forum/default-deny"]),
    ] {
        let output = picket(&["compile", "-f", input, "--node", node], "");
        exits(&output, 0);
        let rules = text(&output.stdout);
        assert!(rules.starts_with("table inet picket {"), "{rules}");
        for policy in policies {
            assert!(
                rules.contains(policy),
                "{policy} is not in the rules of {node}"
            );
        }
    }
}

#[test]
fn the_sample_of_a_rendered_chart_shows_every_policy() {
    let policies = sample(&["-f", CHART]);
    let names: Vec<_> = policies.keys().map(String::as_str).collect();
    let expected = [
        "default/forum-postgresql",
        "default/forum-redis",
        "default/forum-web",
        "default/forum-worker",
    ];
    assert_eq!(names, expected);
    for (policy, [allowed, denied]) in policies {
        assert!(allowed > 0 && denied > 0, "{policy}: {allowed}, {denied}");
    }
}

#[test]
fn what_is_assumed_of_a_rendered_chart_fits_on_a_screen() {
    let (_, notes) = answers(&["explain", "-f", CHART], OF_THE_CHART, "default");
    assert!(notes.lines().count() <= 20, "{notes}");
    for part in [
        "note: 20 objects that are no policies are skipped: 1 Board.forum.example, 3 ConfigMap, ",
        ", 2 Secret, and 3 more\n",
        "note: 7 objects have no namespace, taken to be in `default` (-n names another): CronJob default/forum-digest, ",
        "note: Deployment default/forum-web: stood for by forum-web-0\n",
    ] {
        assert!(notes.contains(part), "{part}\n{notes}");
    }
}

/// `helm template -n` puts the namespace into the objects whose template asks for it, and `kubectl apply -n` into the
/// others.
#[test]
fn a_chart_that_is_rendered_for_a_namespace_is_read_into_it() {
    let chart = std::fs::read_to_string(CHART).unwrap();
    let chart = chart.replace("namespace: \"default\"", "namespace: \"community\"");
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/rendered-community.yaml");
    std::fs::write(path, &chart).unwrap();
    let arguments = ["explain", "-f", path, "-n", "community"];
    let (_, notes) = answers(&arguments, OF_THE_CHART, "community");
    assert!(!notes.contains("default"), "{notes}");

    let arguments = ["explain", "-n", "community", "-f", "-", "forum-web-0"];
    let ask = |to: &str| picket(&[&arguments, &[to, "5432/tcp"][..]].concat(), &chart);
    let allowed = ask("forum-postgresql-0");
    exits(&allowed, 0);
    let sentence =
        "pod/community/forum-web-0 -> pod/community/forum-postgresql-0 TCP 5432 is allowed.";
    assert!(text(&allowed.stdout).starts_with(sentence));
    exits(&ask("default/forum-postgresql-0"), 2);

    // As an unset variable of a script would have it.
    let nowhere = picket(&["explain", "-n", "", "-f", CHART, "a", "b", "80"], "");
    exits(&nowhere, 2);
    assert!(text(&nowhere.stderr).contains("--namespace <NAME>"));
}

#[test]
fn who_asks_by_the_name_of_a_workload_is_told_its_pods() {
    let dump = std::fs::read_to_string(DUMP).unwrap();
    let chart = std::fs::read_to_string(CHART).unwrap();
    let refused = |input: &str, from: &str| {
        let output = picket(&["explain", "-f", "-", from, "ip/203.0.113.9", "80"], input);
        exits(&output, 2);
        let error = text(&output.stderr).lines().last().unwrap();
        error
            .strip_prefix("error: cannot be asked: ")
            .unwrap()
            .to_owned()
    };
    for (input, from, error) in [
        (
            &chart,
            "forum-web",
            "there is no pod default/forum-web: is it default/forum-web-0?",
        ),
        (
            &dump,
            "forum/forum-web",
            "there is no pod forum/forum-web: is it forum/forum-web-6c8f7d9b54-7xk2p or \
             forum/forum-web-6c8f7d9b54-q9wzr?",
        ),
        (
            &dump,
            "forum-db-0",
            "there is no pod default/forum-db-0: is it forum/forum-db-0?",
        ),
        (
            &dump,
            "forum-db",
            "there is no pod default/forum-db: is it forum/forum-db-0?",
        ),
        (&dump, "forum/db", "there is no pod forum/db"),
    ] {
        assert_eq!(refused(input, from), error);
    }
}

#[test]
fn a_dump_of_a_cluster_is_explained_and_its_packets_obey() {
    let (_, notes) = answers(&["explain", "-f", DUMP], OF_THE_DUMP, "");
    assert_eq!(notes, "", "nothing has to be assumed");
    packets(&["-f", DUMP], OF_THE_DUMP, "");
}

#[test]
fn a_dump_of_a_cluster_is_read_from_standard_input_too() {
    let dump = std::fs::read_to_string(DUMP).unwrap();
    let from = "forum/forum-web-6c8f7d9b54-7xk2p";
    let output = picket(
        &["explain", "-f", "-", from, "forum/forum-db-0", "sql"],
        &dump,
    );
    exits(&output, 0);
    let sentence =
        "TCP 5432 is allowed. Egress: allowed by forum/web. Ingress: allowed by forum/db.";
    assert!(text(&output.stdout).contains(sentence));
    let ended = "forum/forum-migrate-29627712-bq4lm";
    let output = picket(
        &["explain", "-f", "-", ended, "forum/forum-db-0", "sql"],
        &dump,
    );
    exits(&output, 2);
    assert!(text(&output.stderr).contains("has ended (Succeeded)"));
}

#[test]
fn the_sample_of_a_dump_shows_every_policy() {
    let policies = sample(&["-f", DUMP]);
    let names: Vec<_> = policies.keys().map(String::as_str).collect();
    let expected = ["forum/db", "forum/default-deny", "forum/dns", "forum/web"];
    assert_eq!(names, expected);
    for (policy, [allowed, denied]) in policies {
        // It has no rule.
        let silent = policy == "forum/default-deny";
        assert!(
            (allowed > 0 || silent) && denied > 0,
            "{policy}: {allowed}, {denied}"
        );
    }
}

/// Code, severity, policy and field of each finding.
fn findings(file: &str, code: i32) -> Vec<[String; 4]> {
    let output = picket(&["lint", "-f", file, "-o", "json"], "");
    exits(&output, code);
    let lines = text(&output.stdout).lines();
    let parsed = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    parsed
        .map(|finding| {
            let name = &finding["object"]["name"];
            [
                &finding["code"],
                &finding["severity"],
                name,
                &finding["field"],
            ]
            .map(word)
        })
        .collect()
}

#[test]
fn a_rendered_chart_is_linted_without_a_false_alarm() {
    let expected = [
        // The chart's policy is for read replicas too, which this release does not have.
        [
            "P003",
            "warning",
            "forum-postgresql",
            "spec.egress[1].to[0]",
        ],
        // What other releases deploy is not in the input.
        ["P003", "hint", "forum-web", "spec.egress[0].to[0]"],
        ["P003", "hint", "forum-web", "spec.ingress[0].from[0]"],
        ["P003", "hint", "forum-web", "spec.ingress[1].from[0]"],
        ["P003", "hint", "forum-worker", "spec.egress[0].to[0]"],
    ];
    assert_eq!(findings(CHART, 1), expected);
    assert_eq!(findings(DUMP, 0), Vec::<[String; 4]>::new());
}
