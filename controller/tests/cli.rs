//! The program as a person or a CI job calls it.

#![allow(clippy::unwrap_used)]

#[path = "support/program.rs"]
mod program;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use program::{SHOP, exits, picket, text, with_input};

#[test]
fn a_denied_flow_is_an_answer_and_not_a_failure() {
    let output = picket(
        &["explain", "-f", SHOP, "shop/web-0", "shop/db-0", "5432/tcp"],
        "",
    );
    exits(&output, 0);
    assert!(
        text(&output.stdout).contains("is denied"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn flows_are_answered_in_order_with_their_ids() {
    let flows = r#"{"id": "b", "from": "pod/shop/web-0", "to": "pod/shop/orders-0", "protocol": "TCP", "port": "http"}
{"id": 1, "from": "node/node-1", "to": "pod/shop/db-0", "protocol": "ICMP"}
"#;
    let output = picket(
        &["explain", "-f", SHOP, "--flows", "-", "-o", "json"],
        flows,
    );
    exits(&output, 0);
    let lines: Vec<serde_json::Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((&lines[0]["id"], &lines[1]["id"]), (&"b".into(), &1.into()));
    assert_eq!(lines[0]["verdict"], "allow");
    assert_eq!(lines[0]["ingress"]["policies"][0], "shop/orders-from-web");
    assert_eq!(lines[1]["ingress"]["reason"], "no-rule-matches");
}

#[test]
fn a_flow_that_cannot_be_asked_is_answered_with_its_error_and_exit_code_2() {
    let flows = r#"{"id": 1, "from": "pod/shop/nobody", "to": "pod/shop/db-0", "protocol": "TCP", "port": 1}
{"id": 2, "from": "pod/shop/web-0", "to": "pod/shop/db-0", "protocol": "TCP", "port": "http"}
{"id": 3, "from": "pod/shop/web-0", "to": "pod/shop/db-0", "protocol": "TCP", "port": "sql"}
"#;
    let output = picket(
        &["explain", "-f", SHOP, "--flows", "-", "-o", "json"],
        flows,
    );
    exits(&output, 2);
    let lines: Vec<_> = text(&output.stdout).lines().collect();
    assert_eq!(
        lines[0],
        r#"{"id":1,"error":"there is no pod shop/nobody"}"#
    );
    assert!(
        lines[1].contains("has no TCP port named http"),
        "{}",
        lines[1]
    );
    assert!(lines[2].contains("\"verdict\":\"deny\""), "{}", lines[2]);
}

#[test]
fn bad_input_names_file_line_object_and_field() {
    let policy = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec:
  podSelector: {}
  ingress:
  - from: [{ipBlock: {cidr: 10.0.0.5/8}}]
    ports: [{port: 0}]
";
    let output = picket(&["explain", "-f", "-", "a", "b", "80"], policy);
    exits(&output, 2);
    let errors = text(&output.stderr);
    let object = "<stdin>:1: NetworkPolicy x/p: ";
    for field in [
        "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.5/8\": must not have bits set",
        "spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
    ] {
        let found = errors
            .lines()
            .any(|line| line.contains("NetworkPolicy x/p: ") && line.contains(field));
        assert!(found, "{object}{field}\nis not in\n{errors}");
    }
    assert!(output.stdout.is_empty());
    let lenient = policy.replace("port: 0", "port: 1");
    exits(
        &picket(
            &["compile", "-f", "-", "--node", "node-1", "--lenient-cidr"],
            &lenient,
        ),
        0,
    );
}

#[test]
fn bad_usage_is_exit_code_2() {
    for arguments in [
        &[] as &[&str],
        &["explain", "-f", SHOP],
        &["explain", "-f", SHOP, "a", "b", "99999"],
        &["explain", "-f", SHOP, "a", "b", "80", "--flows", "-"],
        &["explain", "-f", "-", "--flows", "-"],
        &["compile", "-f", SHOP, "--node", "nowhere"],
        &[
            "compile",
            "-f",
            SHOP,
            "--node",
            "node-1",
            "--bridge",
            "not an interface",
        ],
        &["compile", "-f", "/nonexistent", "--node", "node-1"],
        &["verify", "-f", SHOP, "--full", "--flows", "-"],
    ] {
        let output = picket(arguments, "");
        exits(&output, 2);
        assert!(!output.stderr.is_empty(), "{arguments:?} says nothing");
    }
}

#[test]
fn every_command_has_help_with_examples() {
    for command in ["compile", "explain", "verify"] {
        let output = picket(&[command, "--help"], "");
        exits(&output, 0);
        assert!(text(&output.stdout).contains("Examples:"), "{command}");
    }
}

#[test]
fn compiled_rules_are_the_same_bytes_each_time() {
    for form in ["nft", "json", "ir"] {
        let arguments = ["compile", "-f", SHOP, "--node", "node-2", "-o", form];
        let (once, again) = (picket(&arguments, ""), picket(&arguments, ""));
        exits(&once, 0);
        assert!(!once.stdout.is_empty());
        assert_eq!(once.stdout, again.stdout, "{form}");
    }
}

#[test]
fn the_bundled_example_is_verified() {
    let output = picket(&["verify", "-f", SHOP], "");
    exits(&output, 0);
    let table = text(&output.stdout);
    assert!(
        table.lines().last().unwrap().ends_with(", 0 disagree"),
        "{table}"
    );
    for policy in [
        "default-deny",
        "web-from-outside",
        "orders-from-web",
        "db-with-orders",
        "metrics-from-operations",
    ] {
        assert!(
            table.contains(&format!("shop/{policy} ")),
            "{policy} is not in\n{table}"
        );
    }
}

#[test]
fn verify_needs_no_root() {
    // The program where anyone can run it, as a user without any right.
    let folder = std::env::temp_dir().join(format!("picket-cli-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.join("picket");
    std::fs::copy(env!("CARGO_BIN_EXE_picket"), &program).unwrap();
    let workloads = std::fs::read_to_string(format!("{SHOP}/workloads.yaml")).unwrap();
    let policies = std::fs::read_to_string(format!("{SHOP}/policies.yaml")).unwrap();

    let mut command = Command::new(&program);
    command
        .args(["verify", "-f", "-", "-o", "text"])
        .current_dir("/");
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if is_root {
        command.uid(65534).gid(65534);
    }
    let output = with_input(&mut command, &format!("{workloads}---\n{policies}"));
    std::fs::remove_dir_all(&folder).unwrap();
    exits(&output, 0);
    assert!(
        text(&output.stdout).trim_end().ends_with(", 0 disagree"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn verify_answers_named_flows_with_what_the_packet_did() {
    let flows = r#"{"id": 1, "from": "pod/shop/orders-0", "to": "pod/shop/db-0", "protocol": "TCP", "port": "sql"}
{"id": 2, "from": "pod/shop/web-0", "to": "pod/shop/db-0", "protocol": "TCP", "port": "sql", "family": "ipv6"}
{"id": 3, "from": "ip/198.51.100.7", "to": "pod/shop/web-0", "protocol": "TCP", "port": "http"}
{"id": 4, "from": "ip/203.0.113.7", "to": "pod/shop/web-0", "protocol": "TCP", "port": "http"}
"#;
    for network in ["routed", "bridge"] {
        let arguments = [
            "verify",
            "-f",
            SHOP,
            "--flows",
            "-",
            "-o",
            "json",
            "--network",
            network,
        ];
        let output = picket(&arguments, flows);
        exits(&output, 0);
        let packets: Vec<_> = text(&output.stdout)
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["packet"].clone())
            .collect();
        assert_eq!(packets, ["allow", "deny", "deny", "allow"], "{network}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let script = Command::new(env!("CARGO_BIN_EXE_picket"))
        .args(["compile", "-f", SHOP, "--node", "node-1", "-o", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = script.unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        !text(&output.stderr).contains("error"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_verification_of_nothing_fails() {
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                  metadata: {name: p, namespace: x}\nspec: {}\n";
    let output = picket(&["verify", "-f", "-"], policy);
    exits(&output, 2);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("there is nothing to verify"), "{stderr}");
}

#[test]
fn flows_are_objects_of_a_file_of_limited_size() {
    let output = picket(
        &["explain", "-f", SHOP, "--flows", "-"],
        "\u{feff}[1, \"pod/shop/web-0\", \"pod/shop/db-0\", \"TCP\", 80, null]\n",
    );
    exits(&output, 2);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("<stdin>:1: a flow is an object"),
        "{stderr}"
    );
    let output = picket(&["explain", "-f", SHOP, "--flows", "/dev/zero"], "");
    exits(&output, 2);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("/dev/zero: is larger than 64 MiB"),
        "{stderr}"
    );
}
