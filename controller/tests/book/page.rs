//! Pages as they are written: Markdown of which headings, links and code blocks count.
//! `docs/semantics/README.md` says how to read one.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::table::Table;

/// The folder of the book.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/semantics");

/// A Markdown file.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) headings: Vec<Heading>,
    pub(crate) links: Vec<Link>,
    pub(crate) examples: Vec<Example>,
}

/// A heading of any level.
#[derive(Debug)]
pub(crate) struct Heading {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) level: usize,
    pub(crate) text: String,
}

/// `[text](target)`
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) line: usize,
    pub(crate) target: String,
}

/// Objects, and what is expected of them.
#[derive(Debug)]
pub(crate) struct Example {
    /// Of its first line.
    pub(crate) line: usize,
    /// Those of the page, which stand before its first section, and its own.
    pub(crate) manifests: String,
    pub(crate) outcomes: Vec<Outcome>,
}

/// A block that says what is expected.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) line: usize,
    /// The lines between the fences, counted from 0.
    pub(crate) lines: Range<usize>,
    pub(crate) text: String,
    pub(crate) expects: Expects,
}

/// What a block expects.
#[derive(Debug)]
pub(crate) enum Expects {
    /// `flows`: verdicts, and packets that obey them.
    Flows(Table),
    /// `console`: commands and what they print.
    Console,
}

impl Page {
    /// Reads a page by its path.
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(path, text).unwrap_or_else(|error| panic!("{}:{error}", path.display()))
    }

    /// Every page of the book, in order.
    pub(crate) fn all() -> Vec<Self> {
        let entries = fs::read_dir(FOLDER).expect("the book is there");
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// Headings and links of any Markdown, whatever its blocks.
    pub(crate) fn outline(path: &Path) -> Self {
        let text = fs::read_to_string(path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut in_block = false;
        let prose = text.lines().map(|line| {
            let fence = line.starts_with("```");
            in_block ^= fence;
            if fence || in_block { "" } else { line }
        });
        let prose: Vec<_> = prose.collect();
        let page = Self::parse(path, prose.join("\n"));
        page.unwrap_or_else(|error| panic!("{}:{error}", path.display()))
    }

    pub(crate) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    pub(crate) fn parse(path: &Path, text: String) -> Result<Self, String> {
        let mut page = Self {
            path: path.to_owned(),
            text: String::new(),
            headings: Vec::new(),
            links: Vec::new(),
            examples: Vec::new(),
        };
        let mut of_the_page = Vec::new();
        let mut lines = text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            if let Some(info) = line.strip_prefix("```") {
                let inside: Vec<_> = lines
                    .by_ref()
                    .map(|(_, line)| line)
                    .take_while(|line| *line != "```")
                    .collect();
                let block = Block {
                    index,
                    info,
                    inside,
                };
                let in_section = page.headings.iter().any(|heading| heading.level > 1);
                match info {
                    "yaml" if !in_section => of_the_page.push(block.inside.join("\n")),
                    _ => page.block(&block, &of_the_page)?,
                }
            } else if line.starts_with('#') {
                let text = line.trim_start_matches('#');
                page.headings.push(Heading {
                    line: index + 1,
                    level: line.len() - text.len(),
                    text: text.trim().to_owned(),
                });
            } else {
                page.links.extend(links(line).map(|target| Link {
                    line: index + 1,
                    target: target.to_owned(),
                }));
            }
        }
        if text.lines().filter(|line| line.starts_with("```")).count() % 2 == 1 {
            return Err("1: a block has no end".into());
        }
        if page.headings.first().map(|heading| heading.level) != Some(1) {
            return Err("1: there is no title".into());
        }
        if let Some(example) = page.examples.iter().find(|one| one.outcomes.is_empty()) {
            return Err(format!("{}: nothing is expected of it", example.line));
        }
        page.text = text;
        Ok(page)
    }

    fn block(&mut self, block: &Block<'_>, of_the_page: &[String]) -> Result<(), String> {
        let text = block.inside.join("\n");
        let first = block.index + 1;
        let example = |own: Option<String>| {
            let manifests: Vec<_> = of_the_page.iter().cloned().chain(own).collect();
            Example {
                line: first,
                manifests: manifests.join("\n---\n") + "\n",
                outcomes: Vec::new(),
            }
        };
        let expects = match block.info.split_once(' ').unwrap_or((block.info, "")) {
            ("yaml", "") => {
                self.examples.push(example(Some(text)));
                return Ok(());
            }
            ("flows", options) => {
                let table = Table::parse(options, &text);
                Expects::Flows(table.map_err(|error| format!("{first}: {error}"))?)
            }
            ("console", "") if text.starts_with("$ ") => Expects::Console,
            ("console", "") => return Err(format!("{first}: a block starts with a command")),
            _ => {
                return Err(format!(
                    "{first}: a block of {:?}: write yaml, flows or console",
                    block.info
                ));
            }
        };
        // Without objects of its own a section is about those of the page.
        let heading = self.headings.last().map_or(0, |heading| heading.line);
        if self.examples.last().is_none_or(|last| last.line < heading) {
            self.examples.push(example(None));
        }
        if let Some(last) = self.examples.last_mut() {
            last.outcomes.push(Outcome {
                line: first,
                lines: first..first + block.inside.len(),
                text,
                expects,
            });
        }
        Ok(())
    }

    /// The sections: each heading below the title, and the lines up to the next.
    pub(crate) fn sections(&self) -> impl Iterator<Item = (&Heading, Range<usize>)> {
        let ends = self.headings.iter().skip(1).map(|heading| heading.line);
        let ends = ends.chain([usize::MAX]);
        let sections = self.headings.iter().zip(ends).skip(1);
        sections.map(|(heading, end)| (heading, heading.line..end))
    }
}

impl Heading {
    /// The name by which GitHub links to it.
    pub(crate) fn anchor(&self) -> String {
        let lower = self.text.to_lowercase();
        let kept = lower
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    }
}

struct Block<'a> {
    /// Of the opening fence, counted from 0.
    index: usize,
    info: &'a str,
    inside: Vec<&'a str>,
}

/// The targets of a line's links, without those in code.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let prose = line.split('`').step_by(2);
    prose.flat_map(|prose| {
        let starts = prose.split("](").skip(1);
        starts.filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
    })
}

#[test]
fn a_page_with_a_mistake_in_its_form_is_refused() {
    let good = "# title\n\n```yaml\na: 1\n```\n\n## Rule\n\nA [link](x.md#y), `no [link](z)`.\n\n```yaml\nb: 1\n```\n\n\
                ```flows\nFROM  TO  PORT  VERDICT  EGRESS  INGRESS\nx/a  x/b  80/tcp  allow  self  self\n```\n\n\
                ```console\n$ picket explain\nit is so\n```\n";
    let parse = |text: &str| Page::parse(Path::new("x.md"), text.to_owned());
    let page = parse(good).unwrap();
    assert_eq!(page.examples.len(), 1);
    assert_eq!(page.examples[0].manifests, "a: 1\n---\nb: 1\n");
    assert_eq!(page.examples[0].outcomes.len(), 2);
    assert_eq!(page.links.len(), 1);
    for (what, by) in [
        ("# title", "title"),
        ("```flows", "```"),
        ("```flows", "```text"),
        ("```flows", "```yaml"),
        ("```console", "```sh"),
        ("$ picket explain\n", ""),
        ("it is so\n```\n", ""),
        ("INGRESS", "INGRES"),
        ("80/tcp", "80"),
        ("  allow", "  maybe"),
        ("  self  self", "  self"),
    ] {
        let bad = good.replacen(what, by, 1);
        assert!(bad != good && parse(&bad).is_err(), "{bad}");
    }
}
