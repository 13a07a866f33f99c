//! Every command line of the README and the guides is tested, or says why it cannot be.
//!
//! [`blocks`] finds the code of a page, [`table::COMMANDS`] says of each command line how it is tested. A line that is not
//! in it, and an entry without a line, is an error; so is a block that is neither commands nor known as something else.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "documents/blocks.rs"]
mod blocks;
#[path = "support/program.rs"]
mod program;
#[path = "documents/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use blocks::{Block, blocks};
use clap::{CommandFactory, Parser};
use controller::cli::Cli;
use program::{exits, picket, text};
use table::{COMMANDS, How, NO_COMMANDS, PROGRAMS};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The pages for who uses, operates and changes picket. The book of `docs/semantics` has tests of its own.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let mut pages = Vec::new();
    for folder in [
        root.to_owned(),
        root.join("docs"),
        root.join("charts/picket"),
    ] {
        let entries = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    pages.sort();
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn all_blocks() -> Vec<(String, Block)> {
    let of = |path: PathBuf| {
        let name = path.strip_prefix(ROOT).unwrap().display().to_string();
        let blocks = blocks(&read(&path)).into_iter();
        blocks.map(move |block| (format!("{name}:{}", block.line), block))
    };
    pages().into_iter().flat_map(of).collect()
}

/// The command of a line, without the prompt and what is said of it after two spaces.
fn command(line: &str) -> Option<&str> {
    let line = line.strip_prefix("$ ").unwrap_or(line);
    let line = line.split("  ").next().unwrap_or(line).trim();
    let first = line.split_whitespace().find(|word| !word.contains('='))?;
    PROGRAMS.contains(&first).then_some(line)
}

/// What of a command line is a call of picket.
fn call(command: &str) -> Option<Vec<String>> {
    let parts = command
        .split(" | ")
        .map(|part| part.split(" > ").next().unwrap());
    let of = |part: &str| {
        let inside = part
            .split_once(" -- /picket ")
            .map(|(_, rest)| format!("picket {rest}"));
        let plugin = part
            .strip_prefix("kubectl picket ")
            .map(|rest| format!("picket {rest}"));
        let own = part.starts_with("picket ").then(|| part.to_owned());
        inside.or(plugin).or(own)
    };
    let call = parts.filter_map(of).next()?;
    Some(call.split_whitespace().map(ToOwned::to_owned).collect())
}

fn how(command: &str) -> Option<&'static How> {
    let mut entries = COMMANDS.iter();
    entries
        .find(|(line, _)| *line == command)
        .map(|(_, how)| how)
}

#[test]
fn every_command_line_says_how_it_is_tested_and_no_entry_is_left_over() {
    let mut unknown = Vec::new();
    let mut seen = BTreeSet::new();
    for (place, block) in all_blocks() {
        let commands: Vec<_> = block
            .lines
            .iter()
            .filter_map(|line| command(line))
            .collect();
        if commands.is_empty() && !NO_COMMANDS.contains(&block.lines[0].as_str()) {
            unknown.push(format!(
                "{place}: neither a command nor in NO_COMMANDS: {}",
                block.lines[0]
            ));
        }
        for command in commands {
            if how(command).is_none() {
                unknown.push(format!("{place}: not in COMMANDS: {command}"));
            }
            seen.insert(command.to_owned());
        }
    }
    let left = COMMANDS.iter().filter(|(line, _)| !seen.contains(*line));
    unknown.extend(left.map(|(line, _)| format!("in COMMANDS, and in no page: {line}")));
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn every_test_that_is_named_is_there() {
    for (line, how) in COMMANDS {
        match how {
            How::Test(file, name) => {
                let code = read(&Path::new(ROOT).join(file));
                assert!(
                    code.contains(&format!("fn {name}(")),
                    "{line}: {file} has no test {name}"
                );
            }
            How::Script(file) => {
                assert!(
                    read(&Path::new(ROOT).join(file)).contains(line),
                    "{file} does not run {line}"
                );
            }
            How::Cannot(reason) => assert!(reason.len() > 15, "{line}"),
            How::Prints | How::Synopsis => {}
        }
    }
}

#[test]
fn picket_takes_every_call_of_it() {
    let mut calls = 0;
    for (line, how) in COMMANDS {
        let Some(call) = call(line) else { continue };
        calls += 1;
        if !matches!(how, How::Synopsis) {
            let parsed = Cli::try_parse_from(&call);
            assert!(parsed.is_ok(), "{line}\n{}", parsed.unwrap_err());
            continue;
        }
        let mut program = Cli::command();
        program.build();
        let mut found = &program;
        for word in &call[1..] {
            match found.find_subcommand(word) {
                Some(below) => found = below,
                None => break,
            }
        }
        assert_ne!(found.get_name(), program.get_name(), "{line}");
        let is_option = |word: &&str| word.starts_with("--") && word.len() > 2;
        let words = line.split(|c: char| c.is_whitespace() || "[]|.".contains(c));
        for option in words.filter(is_option) {
            let mut longs = found.get_arguments().filter_map(clap::Arg::get_long);
            assert!(longs.any(|long| option[2..] == *long), "{line}: {option}");
        }
    }
    assert!(calls > 20, "{calls}");
}

#[test]
fn what_stands_below_a_command_is_what_it_prints() {
    let words = |text: &str| {
        text.split_whitespace()
            .map(ToOwned::to_owned)
            .collect::<Vec<_>>()
    };
    let mut seen = 0;
    for (place, block) in all_blocks() {
        let Some(line) =
            command(&block.lines[0]).filter(|line| matches!(how(line), Some(How::Prints)))
        else {
            continue;
        };
        seen += 1;
        let call = call(line).unwrap();
        let arguments: Vec<_> = call[1..]
            .iter()
            .map(|word| match word.strip_prefix("examples/") {
                Some(rest) => format!("{ROOT}/examples/{rest}"),
                None => word.clone(),
            })
            .collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let output = picket(&arguments, "");
        exits(&output, 0);
        let (printed, shown) = (
            words(text(&output.stdout)),
            words(&block.lines[1..].join("\n")),
        );
        // A page may leave out a legend.
        assert!(
            !shown.is_empty() && printed.starts_with(&shown),
            "{place}\n{printed:?}\n{shown:?}"
        );
    }
    assert!(seen > 1, "{seen}");
}

#[test]
fn files_and_pages_that_are_linked_are_there() {
    for page in pages() {
        let text = read(&page);
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap().join(file)
            };
            assert!(target.exists(), "{}: {link}", page.display());
            if !heading.is_empty() && target.extension().is_some_and(|end| end == "md") {
                let there = blocks::headings(&read(&target));
                assert!(
                    there.contains(heading),
                    "{}: {link}: {there:?}",
                    page.display()
                );
            }
        }
    }
}

#[test]
fn the_version_is_the_same_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    let guide = read(&Path::new(ROOT).join("docs/operating.md"));
    let mut files = 0;
    for rest in guide.split("/picket-").skip(1) {
        if let Some((named, _)) = rest.split_once(".tar") {
            assert_eq!(named, version);
            files += 1;
        }
    }
    assert!(files > 1);
    let changes = read(&Path::new(ROOT).join("CHANGELOG.md"));
    let released = changes.contains(&format!("## [{version}]"));
    assert!(
        released || changes.contains("## [Unreleased]"),
        "CHANGELOG.md lacks {version}"
    );
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    for file in ["README.md", "RELEASING.md", "setup"] {
        assert!(
            read(&Path::new(ROOT).join(file)).contains(oldest),
            "{file} does not name Rust {oldest}"
        );
    }
}
