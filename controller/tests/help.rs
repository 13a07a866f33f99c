//! `--help`, completion scripts and manual pages name what there is, and their examples are taken.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "support/program.rs"]
mod program;

use std::fs;
use std::path::Path;
use std::process::Command;

use clap::{CommandFactory, Parser};
use controller::cli::Cli;
use program::{exits, picket, text, with_input};

/// The program and its commands, also those below a command, each with the arguments that lead to it.
fn commands() -> Vec<(Vec<String>, clap::Command)> {
    let mut program = Cli::command();
    program.build();
    let mut all = Vec::new();
    add(&mut all, Vec::new(), &program);
    assert!(all.len() >= 8, "{}", all.len());
    all
}

fn add(all: &mut Vec<(Vec<String>, clap::Command)>, name: Vec<String>, command: &clap::Command) {
    let below = command.get_subcommands();
    for command in below.filter(|command| command.get_name() != "help") {
        let name = [name.clone(), vec![command.get_name().to_owned()]].concat();
        add(all, name, command);
    }
    all.push((name, command.clone()));
}

fn long_options() -> Vec<(String, String)> {
    let commands = commands();
    let of = |command: &clap::Command| {
        let longs = command.get_arguments().filter_map(clap::Arg::get_long);
        longs.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    commands
        .iter()
        .flat_map(|(_, command)| {
            let name = command.get_display_name().unwrap_or(command.get_name());
            of(command).into_iter().map(|long| (name.to_owned(), long))
        })
        .collect()
}

/// The lines below `Examples:`, up to the next empty one.
fn examples(help: &str) -> Vec<&str> {
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    lines.take_while(|line| !line.is_empty()).collect()
}

/// The last call of `picket` in an example, without what follows it: a comment after two spaces, and where its output
/// goes.
fn call(example: &str) -> Option<Vec<&str>> {
    let line = example.trim_start().split("  ").next()?;
    let mut parts = line.split('|').map(str::trim).rev();
    let call = parts.find(|part| part.starts_with("picket "))?;
    Some(call.split('>').next()?.split_whitespace().collect())
}

#[test]
fn every_example_of_every_help_is_a_call_that_is_taken() {
    for (name, _) in commands() {
        let arguments: Vec<&str> = name.iter().map(String::as_str).chain(["--help"]).collect();
        let output = picket(&arguments, "");
        exits(&output, 0);
        let help = text(&output.stdout);
        let examples = examples(help);
        assert!(!examples.is_empty(), "{help}");
        for example in examples {
            let call = call(example).unwrap_or_else(|| panic!("{example:?} calls no picket"));
            assert_eq!(call[1..=name.len()], name, "{example}");
            let parsed = Cli::try_parse_from(&call);
            assert!(parsed.is_ok(), "{example}\n{}", parsed.unwrap_err());
        }
    }
}

#[test]
fn explain_shows_how_a_cluster_is_read_from_kubectl() {
    let output = picket(&["explain", "--help"], "");
    let help = text(&output.stdout);
    let mut piped = examples(help).into_iter();
    assert!(
        piped.any(|line| line.contains("kubectl get ") && line.contains("| picket explain -f - ")),
        "{help}"
    );
}

#[test]
fn each_shell_completes_every_command_and_option() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = picket(&["completions", shell], "");
        exits(&output, 0);
        let script = text(&output.stdout);
        for (name, _) in commands() {
            let name = name.last().map_or("picket", String::as_str);
            assert!(script.contains(name), "{shell}: {name}");
        }
        for (command, long) in long_options() {
            let option = if shell == "fish" {
                format!("-l {long}")
            } else {
                format!("--{long}")
            };
            assert!(script.contains(&option), "{shell}: {command} {option}");
        }
    }
}

#[test]
fn bash_takes_its_script_and_completes_with_it() {
    let script = picket(&["completions", "bash"], "");
    let script = text(&script.stdout);
    let checked = with_input(Command::new("bash").arg("-n"), script);
    exits(&checked, 0);
    assert_eq!(text(&checked.stderr), "");
    let typed = "
COMP_WORDS=(picket explain --f); COMP_CWORD=2
_picket picket --f explain
echo \"${COMPREPLY[@]}\"";
    let completed = with_input(&mut Command::new("bash"), &format!("{script}{typed}"));
    exits(&completed, 0);
    assert_eq!(text(&completed.stdout), "--filename --family --flows\n");
}

#[test]
fn every_command_has_a_manual_page_that_renders() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("man/man1");
    let output = picket(&["man", folder.to_str().unwrap()], "");
    exits(&output, 0);
    for (name, command) in commands() {
        let file = [vec!["picket".to_owned()], name].concat().join("-") + ".1";
        let path = folder.join(&file);
        let page = fs::read_to_string(&path).unwrap();
        let sections: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix(".SH "))
            .map(|section| section.trim_matches('"'))
            .collect();
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "EXIT STATUS",
            "EXAMPLES",
        ] {
            assert!(sections.contains(&section), "{file}: {section}");
        }
        let plain = page.replace('\\', "");
        for long in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(plain.contains(&format!("--{long}")), "{file}: {long}");
        }
        let help = command.get_after_help().unwrap().to_string();
        for example in examples(&help) {
            assert!(plain.contains(example.trim()), "{file}: {example}");
        }
        // Whoever has groff hears its warnings; pages are made without it.
        if let Ok(rendered) = Command::new("groff")
            .args(["-man", "-ww", "-z", "-Tutf8"])
            .arg(&path)
            .output()
        {
            exits(&rendered, 0);
            assert_eq!(text(&rendered.stderr), "", "{file}");
        }
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let output = picket(&["man", file], "");
    exits(&output, 2);
    assert!(
        text(&output.stderr).contains("Cargo.toml"),
        "{}",
        text(&output.stderr)
    );
}
