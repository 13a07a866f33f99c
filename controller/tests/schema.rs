//! The schemas of `docs/schema` are those of the types that are printed, and what the program prints keeps to them.
//!
//! `UPDATE_GOLDEN=1 cargo test -p controller --test schema` writes the files anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "schema/made.rs"]
mod made;
#[path = "schema/mutants.rs"]
mod mutants;
#[path = "support/program.rs"]
mod program;
#[path = "agent_serve/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use controller::agent::snapshot::Snapshot;
use controller::flow::read_lines;
use jsonschema::Validator;
use made::{SCHEMAS, made};
use mutants::mutants;
use program::{SHOP, picket, text};
use serde_json::Value;
use world::{Agent, until};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn validator(name: &str) -> Validator {
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    options.build(&made(name)).unwrap()
}

/// The folders in a folder of `testdata`, by name.
fn folders(kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("{ROOT}/testdata/{kind}")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = paths.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty(), "{kind}");
    folders
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What the program prints with these arguments, an object a line or one document. Every exit code has its output.
fn printed(arguments: &[&str]) -> Vec<Value> {
    let output = picket(arguments, "");
    let stdout = text(&output.stdout);
    let values = match serde_json::from_str(stdout) {
        Ok(document) => vec![document],
        Err(_) => lines(stdout),
    };
    let stderr = text(&output.stderr);
    let answered = arguments[0] == "lint" || !values.is_empty();
    assert!(answered, "{arguments:?}: {stderr}");
    values
}

/// What agents say that are well, that have everything wrong with them, and that have not started yet.
fn of_agents(outputs: &mut BTreeMap<&'static str, Vec<Value>>) {
    let unready = Snapshot {
        ready: false,
        last_success: None,
        ..world::snapshot()
    };
    for snapshot in [world::snapshot(), world::unwell(), unready] {
        let agent = Agent::start(world::attached(snapshot));
        until("the socket", || agent.client().ok());
        let run_dir = agent.run_dir();
        let status = printed(&["status", "-o", "json", "--run-dir", run_dir]);
        outputs.entry("status").or_default().extend(status);
        let interfaces = printed(&["dump", "attachments", "--run-dir", run_dir]);
        outputs.entry("attachments").or_default().extend(interfaces);
        let flows = format!("{run_dir}/flows.jsonl");
        let flow = |to| {
            format!(
                "{{\"id\": 1, \"from\": \"pod/shop/web\", \"to\": \"pod/shop/{to}\", \"protocol\": \"TCP\", \"port\": 5432}}\n"
            )
        };
        fs::write(&flows, flow("db") + &flow("far") + &flow("nobody")).unwrap();
        let live = ["explain", "--live", "--run-dir", run_dir];
        let live = printed(&[&live[..], &["--flows", &flows, "-o", "json"]].concat());
        outputs.entry("explain-live").or_default().extend(live);
    }
}

/// Real outputs, by schema.
fn outputs() -> BTreeMap<&'static str, Vec<Value>> {
    let mut outputs: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for case in folders("cases") {
        let cluster = case.join("cluster.yaml");
        let flows = case.join("flows.jsonl");
        let (cluster, flows) = (path(&cluster), path(&flows));
        let asked = lines(&fs::read_to_string(flows).unwrap());
        outputs.entry("flow").or_default().extend(asked);
        let answered = printed(&["explain", "-f", cluster, "--flows", flows, "-o", "json"]);
        outputs.entry("explain").or_default().extend(answered);
        for entry in fs::read_dir(&case).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let Some(node) = file.strip_suffix(".ir.json") else {
                continue;
            };
            let rules = printed(&["compile", "-f", cluster, "--node", node, "-o", "ir"]);
            outputs.entry("compile-ir").or_default().extend(rules);
        }
        let found = printed(&["lint", "-f", cluster, "-o", "json"]);
        outputs.entry("lint").or_default().extend(found);
    }
    for code in folders("lint") {
        let found = printed(&["lint", "-f", path(&code.join("bad.yaml")), "-o", "json"]);
        assert!(!found.is_empty(), "{}", code.display());
        outputs.entry("lint").or_default().extend(found);
    }
    for change in folders("diff") {
        let [old, new, both] =
            ["old.yaml", "new.yaml", "cluster.yaml"].map(|file| change.join(file));
        let (old, new, both) = (path(&old), path(&new), path(&both));
        let report = printed(&["diff", old, new, "-f", both, "-o", "json"]);
        outputs.entry("diff").or_default().extend(report);
    }
    for (file, node) in [("forum", "node-1"), ("kubectl-get", "kind-worker")] {
        let file = format!("{ROOT}/testdata/rendered/{file}.yaml");
        let found = printed(&["lint", "-f", &file, "-o", "json"]);
        outputs.entry("lint").or_default().extend(found);
        let rules = printed(&["compile", "-f", &file, "--node", node, "-o", "ir"]);
        outputs.entry("compile-ir").or_default().extend(rules);
        let matrix = printed(&["matrix", "-f", &file, "-o", "json"]);
        outputs.entry("matrix").or_default().extend(matrix);
        let of_a_port = printed(&["matrix", "-f", &file, "--port", "53/udp", "-o", "json"]);
        outputs.entry("matrix").or_default().extend(of_a_port);
    }
    // One question of those cannot be asked.
    let case = format!("{ROOT}/testdata/cases/pods-questions-that-cannot-be-asked");
    let (cluster, flows) = (
        format!("{case}/cluster.yaml"),
        format!("{case}/flows.jsonl"),
    );
    for arguments in [
        vec!["verify", "-f", SHOP, "-o", "json"],
        vec!["verify", "-f", &cluster, "--flows", &flows, "-o", "json"],
    ] {
        let sent = printed(&arguments);
        outputs.entry("verify").or_default().extend(sent);
    }
    let namespace = testbed::Namespace::new().expect("these tests need root");
    let arguments = ["preflight", "--bridge", "none", "-o", "json"];
    let found = namespace.run(|| printed(&arguments));
    outputs
        .entry("preflight")
        .or_default()
        .extend(found.unwrap());
    of_agents(&mut outputs);
    outputs
}

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    for (name, ..) in SCHEMAS {
        let file = format!("{ROOT}/docs/schema/{name}.schema.json");
        let text = format!("{:#}\n", made(name));
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&file, &text).unwrap();
        }
        let there = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            there == text,
            "{file} differs: UPDATE_GOLDEN=1 writes it anew"
        );
    }
    let files = fs::read_dir(format!("{ROOT}/docs/schema")).unwrap().count();
    assert_eq!(files, SCHEMAS.len(), "a file belongs to no schema");
}

#[test]
fn every_schema_is_one_of_draft_2020_12_and_describes_every_field() {
    for (name, ..) in SCHEMAS {
        let schema = made(name);
        jsonschema::draft202012::meta::validate(&schema).unwrap();
        let mut undescribed = Vec::new();
        describe(&schema, &schema["$defs"], &mut undescribed);
        assert!(undescribed.is_empty(), "{name}: {undescribed:?}");
        assert!(schema["description"].is_string(), "{name}");
    }
}

/// Adds the fields without a description of their own, of their type, or, where it is the only one, of its object.
fn describe(schema: &Value, types: &Value, undescribed: &mut Vec<String>) {
    let is_described = |schema: &Value| schema["description"].is_string();
    let properties = schema["properties"].as_object();
    for (name, field) in properties.into_iter().flatten() {
        let type_name = field["$ref"].as_str().unwrap_or_default();
        let type_name = type_name.trim_start_matches("#/$defs/");
        let only = properties.is_some_and(|all| all.len() == 1);
        if !(is_described(field) || is_described(&types[type_name]) || only && is_described(schema))
        {
            undescribed.push(name.clone());
        }
    }
    let below: Vec<&Value> = match schema {
        Value::Object(fields) => fields.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    };
    for schema in below {
        describe(schema, types, undescribed);
    }
}

/// What is printed is valid, and stops being so when a field is lost, misspelt, or of another type.
#[test]
fn what_is_printed_is_valid_and_nothing_like_it_is() {
    let outputs = outputs();
    assert_eq!(outputs.len(), SCHEMAS.len(), "a schema without an output");
    for (name, values) in &outputs {
        assert!(!values.is_empty(), "{name}");
        let validator = validator(name);
        for value in values {
            if let Err(error) = validator.validate(value) {
                panic!("{name}: {error} at {}\n{value:#}", error.instance_path());
            }
        }
        // The largest have everything that there is.
        let mut largest: Vec<_> = values.iter().collect();
        largest.sort_by_key(|value| std::cmp::Reverse(value.to_string().len()));
        let mut tried = 0;
        for value in largest.into_iter().take(20) {
            for (what, mutant) in mutants(name, value) {
                assert!(
                    !validator.is_valid(&mutant),
                    "{name}: {what} is not noticed\n{mutant:#}"
                );
                tried += 1;
            }
        }
        assert!(tried > 20, "{name}: {tried}");
    }
}

#[test]
fn a_flow_is_valid_if_it_is_read() {
    let validator = validator("flow");
    let good = r#"{"id": 1, "from": "pod/x/a", "to": "ip/::1", "protocol": "TCP", "port": 80}"#;
    for (part, other) in [
        ("1,", "null,"),
        ("1,", r#"{"a": [1]},"#),
        ("pod/x/a", "x/a"),
        ("pod/x/a", "node/n"),
        ("pod/x/a", "pod/x/a/b"),
        ("pod/x/a", "ip/"),
        ("TCP", "tcp"),
        ("TCP", "ICMP"),
        ("TCP", "GRE"),
        ("80", "0"),
        ("80", "65535"),
        ("80", "65536"),
        ("80", "-1"),
        ("80", "1.5"),
        ("80", "null"),
        ("80", "true"),
        ("80", r#""http""#),
        ("80", r#""80""#),
        ("80", r#""""#),
        ("80", r#"80, "family": "ipv6""#),
        ("80", r#"80, "family": "IPv6""#),
        ("80", r#"80, "family": null"#),
        ("80", r#"80, "sctp": true"#),
        (r#", "port": 80"#, ""),
        (r#""to": "ip/::1", "#, ""),
    ] {
        let line = good.replacen(part, other, 1);
        assert_ne!(line, good);
        let value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            validator.is_valid(&value),
            read_lines(&line).is_ok(),
            "{line}"
        );
    }
}
