//! `picket matrix`: who reaches whom.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "matrix/large.rs"]
mod large;
#[path = "support/program.rs"]
mod program;

use std::path::Path;
use std::process::Command;

use program::{SHOP, exits, picket, text, with_input};

const TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata");

/// What the program prints in a terminal of that width.
fn printed(arguments: &[&str], columns: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
    command.arg("matrix").args(arguments);
    let output = with_input(command.env("COLUMNS", columns).env_remove("NO_COLOR"), "");
    exits(&output, 0);
    text(&output.stdout).to_owned()
}

/// Compares with a file of `testdata/matrix`; `UPDATE_GOLDEN=1` writes it anew.
#[track_caller]
fn golden(name: &str, printed: &str) {
    let path = Path::new(TESTDATA).join("matrix").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, printed).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        printed == expected,
        "{name} differs, UPDATE_GOLDEN=1 writes it anew:\n{printed}"
    );
}

#[test]
fn the_shop_is_a_table_and_in_a_narrow_terminal_a_list() {
    golden("shop.120.txt", &printed(&["-f", SHOP], "120"));
    golden("shop.80.txt", &printed(&["-f", SHOP], "80"));
    golden("shop.json", &printed(&["-f", SHOP, "-o", "json"], "80"));
}

#[test]
fn a_rendered_chart_and_a_dump_need_no_edits() {
    for name in ["forum", "kubectl-get"] {
        let input = format!("{TESTDATA}/rendered/{name}.yaml");
        golden(&format!("{name}.100.txt"), &printed(&["-f", &input], "100"));
        golden(
            &format!("{name}.json"),
            &printed(&["-f", &input, "-o", "json"], "100"),
        );
    }
}

#[test]
fn one_port_and_some_ends_are_asked_about() {
    let arguments = ["-f", SHOP, "--to", "shop", "--port", "8080"];
    golden("shop.8080.txt", &printed(&arguments, "120"));
}

#[test]
fn what_cannot_be_asked_is_refused_with_what_can() {
    for (arguments, error) in [
        (
            ["--port", "http"],
            "error: --port \"http\": a name has another number on each pod: write the number, for example 80/tcp\n",
        ),
        (
            ["--port", "0"],
            "error: \"0\" is no port: write a number from 1 to 65535 or a name, for example 80/tcp\n",
        ),
        (
            ["--to", "shop/nobody"],
            "error: \"shop/nobody\" is no end of this matrix: there is no such namespace with pods, workload, pod or node\n",
        ),
        (
            ["--from", "192.0.2.1"],
            "error: \"192.0.2.1\" names no ends: write NAMESPACE, NAMESPACE/WORKLOAD, NAMESPACE/POD, node/NAME or outside\n",
        ),
    ] {
        let output = picket(&[&["matrix", "-f", SHOP], &arguments[..]].concat(), "");
        exits(&output, 2);
        assert!(
            text(&output.stderr).ends_with(error),
            "{}",
            text(&output.stderr)
        );
        assert_eq!(text(&output.stdout), "");
    }
    let output = picket(&["matrix", "-f", SHOP, "-o", "yaml"], "");
    exits(&output, 2);
}

#[test]
fn two_hundred_pods_are_a_list_that_can_be_narrowed() {
    let cluster = large::cluster();
    let printed = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
        command.args(["matrix", "-f", "-"]).args(arguments);
        let output = with_input(command.env("COLUMNS", "100"), &cluster);
        exits(&output, 0);
        text(&output.stdout).to_owned()
    };
    golden("large.db.txt", &printed(&["--to", "billing/db"]));
    golden(
        "large.billing.txt",
        &printed(&["--from", "billing", "--to", "billing"]),
    );
    let json = printed(&["-o", "json"]);
    assert_eq!(json, printed(&["-o", "json"]), "the same on every run");
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["ends"].as_array().unwrap().len(), 68);
    assert_eq!(report["cells"].as_array().unwrap().len(), 4605);
}

#[test]
fn a_cell_says_where_ipv4_and_ipv6_differ() {
    let pod = |name: &str, host: u8| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}, \
             status: {{podIPs: [{{ip: 10.244.0.{host}}}, {{ip: \"fd00::{host}\"}}]}}}}\n"
        )
    };
    let policy = "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: db, namespace: shop}, \
                  spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: 10.244.0.0/24}}], \
                  ports: [{port: 5432}]}]}}\n";
    let manifests = [pod("db", 1), pod("web", 2), policy.to_owned()].concat();
    let output = picket(
        &["matrix", "-f", "-", "--from", "shop", "--to", "shop"],
        &manifests,
    );
    exits(&output, 0);
    let table = text(&output.stdout);
    assert!(
        table.contains("shop/web   IPv4: TCP 5432\n           IPv6: -\n"),
        "{table}"
    );
}

#[test]
fn colours_are_for_terminals_and_say_nothing_that_words_do_not() {
    let plain = printed(&["-f", SHOP], "120");
    assert!(!plain.contains('\x1b'));
    let coloured = printed(&["-f", SHOP, "--color", "always"], "120");
    assert!(coloured.contains("\x1b[33mTCP 5432\x1b[0m"), "{coloured:?}");
    assert_eq!(console::strip_ansi_codes(&coloured), plain);
    assert_eq!(printed(&["-f", SHOP, "--color", "never"], "120"), plain);
    let list = printed(&["-f", SHOP, "--color", "always"], "80");
    assert_eq!(
        console::strip_ansi_codes(&list),
        printed(&["-f", SHOP], "80")
    );
}

#[test]
fn nothing_to_show_is_said() {
    let namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}";
    let output = picket(&["matrix", "-f", "-"], namespace);
    exits(&output, 0);
    assert!(text(&output.stdout).starts_with("Nothing to show: no pod has an address.\n"));
}
