//! `picket man`

use std::fs;
use std::io;

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::roff::{Roff, roman};

use super::Outcome;
use crate::cli::{Cli, EXIT_CODES, Man};

pub(super) fn run(arguments: &Man) -> anyhow::Result<Outcome> {
    let directory = &arguments.directory;
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    for command in all(&program) {
        let page = clap_mangen::Man::new(command.clone())
            .source(concat!("picket ", env!("CARGO_PKG_VERSION")))
            .manual("picket");
        let path = directory.join(page.get_filename());
        let text = render(&page, command)?;
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(Outcome::Done)
}

/// A command and those below it. Nobody looks for a page of `help`.
fn all(command: &clap::Command) -> Vec<&clap::Command> {
    let below = command.get_subcommands();
    let below = below.filter(|command| command.get_name() != "help");
    let below = below.flat_map(all);
    [command].into_iter().chain(below).collect()
}

/// The sections in the order of man-pages(7).
fn render(page: &clap_mangen::Man, command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    let mut rest = Roff::new();
    rest.control("SH", ["EXIT STATUS"]);
    rest.text([roman(EXIT_CODES)]);
    examples(&mut rest, command);
    rest.to_writer(&mut text)?;
    Ok(text)
}

/// What `--help` ends with.
fn examples(roff: &mut Roff, command: &clap::Command) {
    let help = command.get_after_help().map(ToString::to_string);
    let help = help.unwrap_or_default();
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    roff.control("SH", ["EXAMPLES"]);
    for line in lines {
        match line.strip_prefix("  ") {
            // Never broken at the margin: a line is for copying.
            Some(example) => {
                roff.control("nf", []);
                roff.text([roman(example)]);
                roff.control("fi", []);
            }
            None if line.is_empty() => {
                roff.control("PP", []);
            }
            None => {
                roff.text([roman(line)]);
            }
        }
    }
}
