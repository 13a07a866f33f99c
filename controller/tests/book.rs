//! The book of `docs/semantics`: every example is run.
//!
//! `explain` has to say what the tables of flows say, packets have to do it, and commands have to print what stands
//! below them. `UPDATE_GOLDEN=1 cargo test -p controller --test book` writes the answers anew; the difference is the
//! review.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod book {
    pub(super) mod page;
    pub(super) mod run;
    mod table;
}
#[path = "support/program.rs"]
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use book::page::{Example, Expects, Page};
use book::run::{Failure, Stage};
use policy_compiler::evaluate::Reason;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The page that lists every rule.
const RULES: &str = "14-rules.md";
/// The page that says where upstream's cases are explained.
const UPSTREAM: &str = "15-upstream.md";
/// The table of contents.
const CONTENTS: &str = "README.md";

/// The book as it was when the tests began: one of them may write it anew.
fn pages() -> &'static [Page] {
    static PAGES: OnceLock<Vec<Page>> = OnceLock::new();
    PAGES.get_or_init(Page::all)
}

/// The pages that explain rules.
fn chapters() -> impl Iterator<Item = &'static Page> {
    let others = [RULES, UPSTREAM, CONTENTS];
    pages()
        .iter()
        .filter(move |page| !others.contains(&page.name().as_str()))
}

/// Runs the check on every example, some at once, and returns what failed, by page and line.
fn each_example(check: impl Fn(&Page, &Example) -> Result<(), Failure> + Sync) -> Vec<Failure> {
    /// Most of an example is waiting for packets that do not come.
    const AT_ONCE: usize = 4;
    let examples: Vec<_> = pages()
        .iter()
        .flat_map(|page| page.examples.iter().map(move |example| (page, example)))
        .collect();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((page, example)) = examples.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    if let Err(error) = check(page, example) {
                        let place = (page.name(), example.line);
                        failures.lock().unwrap().insert(place, error);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap().into_iter();
    let failures = failures.map(|((page, line), error)| format!("{page}:{line}: {error}"));
    failures.collect()
}

#[test]
fn picket_prints_what_the_book_says() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    // By page and line; from the last on, so that lines before stay where they are.
    let printed = Mutex::new(BTreeMap::new());
    let failures = each_example(|page, example| {
        let stage = Stage::new("explain", page, example);
        for outcome in &example.outcomes {
            let text = stage.printed(outcome)?;
            if update {
                let place = (page.path.clone(), outcome.lines.start);
                let change = (outcome.lines.clone(), text);
                printed.lock().unwrap().insert(place, change);
            } else if text != outcome.text {
                return Err(format!("line {} says otherwise than\n{text}", outcome.line));
            }
        }
        Ok(())
    });
    for ((path, _), (lines, text)) in printed.into_inner().unwrap().into_iter().rev() {
        let old = fs::read_to_string(&path).unwrap();
        let mut new: Vec<_> = old.lines().collect();
        new.splice(lines, text.lines());
        fs::write(&path, new.join("\n") + "\n").unwrap();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn packets_do_what_the_book_says_when_pods_are_routed() {
    packets("routed");
}

#[test]
fn packets_do_what_the_book_says_when_pods_are_on_a_bridge() {
    packets("bridge");
}

fn packets(network: &str) {
    let failures = each_example(|page, example| {
        let stage = Stage::new(network, page, example);
        for outcome in &example.outcomes {
            if let Expects::Flows(table) = &outcome.expects {
                stage.packets(table, network)?;
            }
        }
        Ok(())
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_section_is_shown_by_an_example_or_names_the_test_that_shows_it() {
    let mut examples = 0;
    for page in chapters() {
        assert!(!page.examples.is_empty(), "{} shows nothing", page.name());
        for (heading, lines) in page.sections() {
            let shown = page
                .examples
                .iter()
                .filter(|one| lines.contains(&one.line))
                .count();
            let mut links = page.links.iter().filter(|link| lines.contains(&link.line));
            let tested = links.any(|link| link.target.contains("/tests/"));
            assert!(shown > 0 || tested, "{}: {}", page.name(), heading.text);
            examples += shown;
        }
    }
    assert!(examples > 70, "only {examples} examples were found");
}

#[test]
fn every_reason_is_shown() {
    let tables: String = chapters()
        .flat_map(|page| &page.examples)
        .flat_map(|example| &example.outcomes)
        .filter(|outcome| matches!(outcome.expects, Expects::Flows(_)))
        .map(|outcome| outcome.text.clone() + "\n")
        .collect();
    let words: BTreeSet<_> = tables.split_whitespace().collect();
    for reason in Reason::ALL {
        assert!(
            words.contains(reason.name()),
            "{} is not shown",
            reason.name()
        );
    }
}

#[test]
fn the_list_of_rules_names_every_section() {
    let rules = pages().iter().find(|page| page.name() == RULES).unwrap();
    let listed: Vec<_> = rules.links.iter().map(|link| link.target.clone()).collect();
    let listed: Vec<_> = listed
        .into_iter()
        .filter(|target| target.contains('#'))
        .collect();
    let written: Vec<_> = chapters()
        .flat_map(|page| {
            let sections = page.sections();
            sections.map(|(heading, _)| format!("{}#{}", page.name(), heading.anchor()))
        })
        .collect();
    assert_eq!(listed, written);
}

#[test]
fn every_case_of_upstream_is_explained_somewhere() {
    let upstream = pages().iter().find(|page| page.name() == UPSTREAM).unwrap();
    let folder = Path::new(ROOT).join("testdata/upstream");
    let cases = fs::read_dir(folder).unwrap().map(|entry| {
        let name = entry.unwrap().file_name();
        format!("../../testdata/upstream/{}", name.to_string_lossy())
    });
    let mut cases: Vec<_> = cases
        .filter(|case| case.ends_with(".md") && !case.ends_with("README.md"))
        .collect();
    cases.sort();
    // Each in a row with a section of the book.
    let targets: Vec<_> = upstream.links.iter().map(|link| &link.target).collect();
    let (listed, explained): (Vec<_>, Vec<_>) = targets
        .chunks(2)
        .map(|row| (row[0].clone(), row[1].contains('#')))
        .unzip();
    assert_eq!(listed, cases);
    assert!(explained.into_iter().all(|explained| explained));
}

#[test]
fn the_table_of_contents_names_every_page_in_order() {
    let contents = pages().iter().find(|page| page.name() == CONTENTS).unwrap();
    let listed = contents.links.iter().map(|link| link.target.clone());
    let listed: Vec<_> = listed
        .filter(|target| !target.contains(['/', '#']))
        .collect();
    let written = pages().iter().map(Page::name);
    let written: Vec<_> = written.filter(|name| name != CONTENTS).collect();
    assert_eq!(listed, written);
}

#[test]
fn every_link_leads_somewhere() {
    let others = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];
    let others = others.map(|name| Page::outline(&Path::new(ROOT).join(name)));
    let mut followed = 0;
    for page in pages().iter().chain(&others) {
        for link in &page.links {
            if let Err(error) = follow(page, &link.target) {
                panic!("{}:{}: {}: {error}", page.name(), link.line, link.target);
            }
            followed += 1;
        }
        let anchors: BTreeSet<_> = page
            .headings
            .iter()
            .map(|heading| heading.anchor())
            .collect();
        assert_eq!(
            anchors.len(),
            page.headings.len(),
            "{}: a heading twice",
            page.name()
        );
    }
    assert!(followed > 100, "only {followed} links were found");
}

fn follow(page: &Page, target: &str) -> Result<(), String> {
    if target.starts_with("https://") {
        return Ok(());
    }
    let (file, anchor) = match target.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (target, None),
    };
    let path: PathBuf = match file {
        "" => page.path.clone(),
        file => page.path.with_file_name("").join(file),
    };
    if !path.exists() {
        return Err("there is no such file".into());
    }
    let Some(anchor) = anchor else { return Ok(()) };
    let page = Page::outline(&path);
    let mut anchors = page.headings.iter().map(|heading| heading.anchor());
    anchors
        .any(|one| one == anchor)
        .then_some(())
        .ok_or("there is no such heading".into())
}

#[test]
fn a_wrong_answer_and_a_dead_link_are_noticed() {
    let read = |text: &str| Page::parse(&Path::new(ROOT).join("docs/x.md"), text.into()).unwrap();
    let page = read(
        "# title\n\n```yaml\napiVersion: v1\nkind: PodList\nitems:\n- metadata: {namespace: x, name: a}\n\
         - metadata: {namespace: x, name: b}\n```\n\n## Rule\n\n```flows\nFROM  TO  PORT  VERDICT  EGRESS  INGRESS\n\
         x/a   x/b  80/tcp  deny  not-isolated  not-isolated\n```\n",
    );
    let example = &page.examples[0];
    let stage = Stage::new("wrong", &page, example);
    let printed = stage.printed(&example.outcomes[0]).unwrap();
    let right = "FROM  TO   PORT    VERDICT  EGRESS        INGRESS\n\
                 x/a   x/b  80/tcp  allow    not-isolated  not-isolated";
    assert_eq!(printed, right);
    let Expects::Flows(table) = &example.outcomes[0].expects else {
        panic!("a table was read as a session");
    };
    let error = stage.packets(table, "routed").unwrap_err();
    assert!(error.contains("the packet says otherwise"), "{error}");
    assert!(follow(&page, "semantics/no-such-page.md").is_err());
    assert!(follow(&page, "#no-such-heading").is_err());
    assert!(follow(&page, "semantics/README.md#no-such-heading").is_err());
    assert_eq!(
        follow(&page, "semantics/README.md#how-to-read-an-example"),
        Ok(())
    );
}
