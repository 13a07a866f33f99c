//! The table of values in the chart's README, made of what `values.yaml` says of each.

use std::fs;

use serde_json::Value;

use crate::helm::CHART;

const BEGIN: &str = "<!-- values -->\n";
const END: &str = "<!-- /values -->\n";

/// A value: its path, and what the comment above it says.
struct Described {
    path: String,
    about: String,
}

/// `# -- ABOUT`, which may go on in more lines, is about the key below it.
fn described(values: &str) -> Vec<Described> {
    let mut path: Vec<(usize, &str)> = Vec::new();
    let mut about: Option<String> = None;
    let mut all = Vec::new();
    for line in values.lines() {
        let text = line.trim_start();
        let depth = line.len() - text.len();
        if let Some(comment) = text.strip_prefix('#') {
            match (comment.strip_prefix(" -- "), &mut about) {
                (Some(first), _) => about = Some(first.to_owned()),
                (None, Some(about)) => {
                    about.push(' ');
                    about.push_str(comment.trim());
                }
                (None, None) => {}
            }
            continue;
        }
        let Some((key, _)) = text.split_once(':').filter(|_| !text.starts_with("- ")) else {
            continue;
        };
        path.retain(|(above, _)| *above < depth);
        path.push((depth, key));
        if let Some(about) = about.take() {
            let names: Vec<_> = path.iter().map(|(_, name)| *name).collect();
            let path = names.join(".");
            all.push(Described { path, about });
        }
    }
    all
}

fn read(file: &str) -> String {
    fs::read_to_string(format!("{CHART}/{file}")).unwrap()
}

fn table(values: &str) -> String {
    let content: Value = serde_saphyr::from_str(values).unwrap();
    let mut table = "| value | default | is |\n|---|---|---|\n".to_owned();
    for Described { path, about } in described(values) {
        let default = &content[path.split('.').next().unwrap()];
        let default = path
            .split('.')
            .skip(1)
            .fold(default, |value, key| &value[key]);
        let about = about.replace('|', "\\|");
        table.push_str(&format!("| `{path}` | `{default}` | {about} |\n"));
    }
    table
}

#[test]
fn the_readme_has_every_value() {
    let readme = read("README.md");
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!(
        "{before}{BEGIN}\n{}\n{END}{after}",
        table(&read("values.yaml"))
    );
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(format!("{CHART}/README.md"), &expected).unwrap();
    }
    assert!(
        read("README.md") == expected,
        "the table of values is not what values.yaml says: UPDATE_GOLDEN=1 writes it anew"
    );
}

#[test]
fn every_value_has_a_comment() {
    let text = read("values.yaml");
    let described = described(&text);
    let is_described = |path: &str| {
        let mut of = described.iter().map(|described| described.path.as_str());
        of.any(|of| path == of || path.starts_with(&format!("{of}.")))
    };
    let mut leaves = Vec::new();
    collect(&serde_saphyr::from_str(&text).unwrap(), "", &mut leaves);
    let bare: Vec<_> = leaves.iter().filter(|path| !is_described(path)).collect();
    assert!(bare.is_empty(), "{bare:?}");
    assert!(leaves.len() > 50, "{leaves:?}");
}

fn collect(value: &Value, path: &str, leaves: &mut Vec<String>) {
    match value.as_object().filter(|map| !map.is_empty()) {
        None => leaves.push(path.to_owned()),
        Some(map) => {
            for (key, value) in map {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                collect(value, &path, leaves);
            }
        }
    }
}
