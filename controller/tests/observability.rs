//! The alerts and the dashboard of `charts/picket/files`: Prometheus takes them, they fire when they should, and they
//! ask only for metrics that the agent has, each as what it is.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Metrics of Prometheus itself, and of kube-state-metrics.
const OF_OTHERS: &[&str] = &[
    "up",
    "kube_daemonset_status_number_unavailable",
    "kube_daemonset_status_updated_number_scheduled",
];

fn files() -> PathBuf {
    Path::new(ROOT).join("charts/picket/files")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(ROOT).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Of the package `prometheus`.
fn promtool(arguments: &[&str], file: &Path) -> Output {
    let mut command = Command::new("promtool");
    let output = command.args(arguments).arg(file).output();
    output.unwrap_or_else(|error| panic!("promtool: {error}: ./setup installs it"))
}

#[track_caller]
fn succeeds(output: &Output) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

fn alerts() -> Vec<Value> {
    let rules: Value = serde_saphyr::from_str(&read("charts/picket/files/alerts.yaml")).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let alerts: Vec<_> = rules.cloned().collect();
    assert!(alerts.len() > 10, "{}", alerts.len());
    alerts
}

fn dashboard() -> Value {
    serde_json::from_str(&read("charts/picket/files/dashboard.json")).unwrap()
}

/// What the dashboard's panels ask for, with Grafana's variables as it fills them in.
fn panels() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let targets = |panel: &Value| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().unwrap().clone();
        targets.into_iter().map(move |target| {
            let question = target["expr"].as_str().unwrap();
            let filled = question
                .replace("$__rate_interval", "5m")
                .replace("$instance", ".*");
            (title.clone(), filled)
        })
    };
    let panels = dashboard["panels"].as_array().unwrap();
    panels.iter().flat_map(targets).collect()
}

/// All questions, each with what asks it.
fn questions() -> Vec<(String, String)> {
    let of = |alert: &Value| {
        let text = |key: &str| alert[key].as_str().unwrap().to_owned();
        (text("alert"), text("expr"))
    };
    let alerts = alerts().iter().map(of).collect::<Vec<_>>();
    [alerts, panels()].concat()
}

/// The table of `docs/metrics.md`, which another test holds to what the agent says: types by name.
fn metrics() -> BTreeMap<String, String> {
    let page = read("docs/metrics.md");
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let name = cells.next()?.trim().trim_end_matches('`');
        Some((name.to_owned(), cells.next()?.trim().to_owned()))
    });
    let metrics: BTreeMap<_, _> = rows.collect();
    assert!(metrics.len() > 20, "{}", metrics.len());
    metrics
}

/// The metrics that a question names, and whether each is inside of `rate` or `increase`.
fn named(question: &str) -> Vec<(String, bool)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = question.match_indices(|c: char| is_part(c));
    let mut names = Vec::new();
    let mut end = 0;
    for (start, _) in starts {
        if start < end {
            continue;
        }
        let word: String = question[start..]
            .chars()
            .take_while(|c| is_part(*c))
            .collect();
        end = start + word.len();
        let own = ["picket_", "process_"]
            .iter()
            .any(|prefix| word.starts_with(prefix));
        if own || OF_OTHERS.contains(&word.as_str()) {
            let before = question[..start].trim_end();
            let grows = ["rate(", "increase("]
                .iter()
                .any(|call| before.ends_with(call));
            names.push((word, grows));
        }
    }
    names
}

/// What is wrong with a question, by the types of its metrics.
fn misuse(question: &str, metrics: &BTreeMap<String, String>) -> Option<String> {
    let names = named(question);
    if names.is_empty() {
        return Some("it names no metric".to_owned());
    }
    names.into_iter().find_map(|(name, grows)| {
        let part = ["_bucket", "_sum", "_count"];
        let family = part.iter().find_map(|end| name.strip_suffix(end));
        let whole = family.filter(|family| metrics.contains_key(*family));
        let kind = metrics.get(whole.unwrap_or(&name)).map(String::as_str);
        match (kind, whole.is_some(), grows) {
            (Some("counter"), false, true)
            | (Some("gauge"), false, false)
            | (Some("histogram"), true, true) => None,
            (None, ..) if OF_OTHERS.contains(&name.as_str()) => None,
            (None, ..) => Some(format!("no metric is called {name}")),
            (Some(kind), ..) => Some(format!("{name} is a {kind}, and is not used as one")),
        }
    })
}

#[test]
fn prometheus_takes_the_alerts_and_they_fire_when_they_should() {
    succeeds(&promtool(&["check", "rules"], &files().join("alerts.yaml")));
    succeeds(&promtool(
        &["test", "rules"],
        &files().join("alerts.test.yaml"),
    ));
}

#[test]
fn prometheus_takes_what_the_dashboard_asks() {
    let rule = |(number, (_, question)): (usize, (String, String))| json!({"record": format!("panel:{number}"), "expr": question});
    let rules: Vec<_> = panels().into_iter().enumerate().map(rule).collect();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard-rules.yaml");
    let text = json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string();
    fs::write(&file, text).unwrap();
    succeeds(&promtool(&["check", "rules"], &file));
}

#[test]
fn every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() {
    let tests: Value =
        serde_saphyr::from_str(&read("charts/picket/files/alerts.test.yaml")).unwrap();
    let tests = tests["tests"].as_array().unwrap().iter();
    let asked: Vec<_> = tests
        .flat_map(|test| test["alert_rule_test"].as_array().unwrap())
        .map(|one| {
            let expected = one["exp_alerts"].as_array();
            let name = one["alertname"].as_str().unwrap();
            (name, expected.is_some_and(|alerts| !alerts.is_empty()))
        })
        .collect();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        for fires in [true, false] {
            assert!(asked.contains(&(name, fires)), "{name}: {fires}");
        }
    }
}

#[test]
fn every_metric_that_is_asked_for_is_one_of_the_agents_and_is_used_as_what_it_is() {
    let metrics = metrics();
    for (who, question) in questions() {
        if let Some(wrong) = misuse(&question, &metrics) {
            panic!("{who}: {question}: {wrong}");
        }
    }
    for (question, wrong) in [
        (
            "picket_no_such_metric > 0",
            "no metric is called picket_no_such_metric",
        ),
        (
            "rate(picket_ready[5m])",
            "picket_ready is a gauge, and is not used as one",
        ),
        (
            "picket_drift_repairs_total > 0",
            "picket_drift_repairs_total is a counter, and is not used as one",
        ),
        (
            "rate(picket_compile_duration_seconds[5m])",
            "picket_compile_duration_seconds is a histogram, and is not used as one",
        ),
        ("vector(1)", "it names no metric"),
    ] {
        assert_eq!(misuse(question, &metrics).as_deref(), Some(wrong));
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_where_the_remedy_stands() {
    let guide = read("docs/operating.md");
    let headings: BTreeSet<_> = guide
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || " -".contains(*c));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect();
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap().to_owned();
        assert!(name.starts_with("Picket"), "{name}");
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}"
        );
        for key in ["summary", "description"] {
            assert!(
                alert["annotations"][key].as_str().unwrap().len() > 20,
                "{name}"
            );
        }
        let runbook = alert["annotations"]["runbook"].as_str().unwrap();
        let (page, heading) = runbook.split_once('#').unwrap();
        assert_eq!(page, "docs/operating.md", "{name}");
        assert!(
            headings.contains(heading),
            "{name}: no heading is {heading}"
        );
        assert!(
            guide.contains(&format!("`{name}`")),
            "{name} is not in {page}"
        );
        assert!(names.insert(name.clone()), "{name} is there twice");
    }
}

#[test]
fn every_panel_has_a_title_of_its_own_a_description_and_a_place() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 8);
    let mut taken = BTreeSet::new();
    let mut known = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(known.insert(title), "{title} is there twice");
        assert!(panel["description"].as_str().unwrap().len() > 5, "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{title}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} lies on another");
            }
        }
    }
}
