//! Cases as they are written: Markdown of which the code blocks count. `testdata/upstream/README.md` says how.

use std::fs;

use super::table::Table;

/// The folder of the cases.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/upstream");

/// A file of the folder, without its suffix.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// What upstream calls it.
    pub(crate) title: String,
    pub(crate) steps: Vec<Step>,
}

/// What changes, and what is so afterwards.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) heading: String,
    /// NetworkPolicies to create, or to replace those of their name.
    pub(crate) manifests: Vec<String>,
    /// Commands of kubectl.
    pub(crate) commands: Vec<String>,
    /// What is expected.
    pub(crate) outcomes: Vec<String>,
}

impl Case {
    pub(crate) fn read(name: &str) -> Self {
        let path = format!("{FOLDER}/{name}.md");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        parse(name, &text).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Every case of the folder, by name.
    pub(crate) fn all() -> Vec<Self> {
        let entries = fs::read_dir(FOLDER).unwrap().map(|entry| {
            let name = entry.unwrap().file_name();
            name.into_string().unwrap()
        });
        let mut names: Vec<_> = entries
            .filter(|name| name != "README.md")
            .filter_map(|name| name.strip_suffix(".md").map(str::to_owned))
            .collect();
        names.sort();
        names.iter().map(|name| Self::read(name)).collect()
    }
}

impl Step {
    pub(crate) fn tables(&self) -> Result<Vec<Table>, String> {
        self.outcomes
            .iter()
            .map(|text| Table::parse(text))
            .collect()
    }
}

fn parse(name: &str, text: &str) -> Result<Case, String> {
    let mut case = Case {
        name: name.to_owned(),
        title: String::new(),
        steps: Vec::new(),
    };
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let inside: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            let step = case.steps.last_mut().ok_or("a block before any step")?;
            match language {
                "yaml" => step.manifests.push(inside.join("\n")),
                "sh" => step.commands.extend(inside.into_iter().map(str::to_owned)),
                "" => step.outcomes.push(inside.join("\n")),
                other => return Err(format!("a block of {other:?}: write yaml, sh or nothing")),
            }
        } else if let Some(heading) = line.strip_prefix("## ") {
            let heading = heading.to_owned();
            case.steps.push(Step {
                heading,
                ..Step::default()
            });
        } else if let Some(title) = line.strip_prefix("# ") {
            case.title = title.to_owned();
        }
    }
    let fences = text.lines().filter(|line| line.starts_with("```")).count();
    if fences % 2 == 1 || case.title.is_empty() || case.steps.is_empty() {
        return Err("no title, no step, or a block without an end".into());
    }
    let without = |step: &&Step| {
        step.outcomes.is_empty() || step.manifests.is_empty() && step.commands.is_empty()
    };
    match case.steps.iter().find(without) {
        Some(step) => Err(format!(
            "{:?} changes nothing or expects nothing",
            step.heading
        )),
        None => Ok(case),
    }
}

#[test]
fn a_case_with_a_mistake_in_its_form_is_refused() {
    let good = "# title\n\n## step\n\n```yaml\nkind: X\n```\n\ntext\n\n```\nok\n```\n";
    let case = parse("name", good).unwrap();
    assert_eq!((case.title.as_str(), case.steps.len()), ("title", 1));
    assert_eq!(case.steps[0].manifests, ["kind: X"]);
    assert_eq!(case.steps[0].outcomes, ["ok"]);
    for (what, by) in [
        ("# title", "title"),
        ("## step\n\n", ""),
        ("```yaml\nkind: X\n```\n", ""),
        ("```\nok\n```\n", ""),
        ("```\n\ntext", "text"),
        ("yaml", "yml"),
    ] {
        let bad = good.replacen(what, by, 1);
        assert!(bad != good && parse("name", &bad).is_err(), "{bad}");
    }
}
