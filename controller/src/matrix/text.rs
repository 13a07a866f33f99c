//! The matrix for a terminal: a table where it fits, else a list by source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use console::{Style as Ink, measure_text_width, pad_str};

use super::report::{Cell, CellVerdict, NodeEgressReport, Report};

/// How text is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether there are colours. They never say more than the words.
    pub color: bool,
    /// Columns of the terminal.
    pub width: usize,
}

/// Widest columns and heads of rows, from comfortable to narrow; longer names and ports are broken over lines.
const WIDEST: [(usize, usize); 4] = [(18, 54), (18, 36), (13, 26), (9, 18)];

/// More ends that nothing reaches than this are only counted.
const LISTED: usize = 2;

/// Most lines of a cell; with more it says how many ports it leaves out.
const TALLEST: usize = 4;

/// A piece of text that is coloured as a whole.
struct Block {
    lines: Vec<String>,
    ink: Ink,
}

impl Block {
    fn width(&self) -> usize {
        let widths = self.lines.iter().map(|line| measure_text_width(line));
        widths.max().unwrap_or(0)
    }
}

/// The matrix as text, with what it leaves out below it.
pub fn text(report: &Report, style: Style) -> String {
    let mut shown = Shown::of(report);
    let mut text = match shown.table(style) {
        _ if report.cells.is_empty() => "Nothing to show: no pod has an address.\n".to_owned(),
        Some(table) => table,
        None => shown.list(style),
    };
    text.push('\n');
    for line in shown.below(style) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// The ends that have cells.
struct Shown<'a> {
    report: &'a Report,
    sources: Vec<usize>,
    destinations: Vec<usize>,
    cells: BTreeMap<(usize, usize), &'a Cell>,
}

impl<'a> Shown<'a> {
    fn of(report: &'a Report) -> Self {
        let cells: BTreeMap<_, _> = report
            .cells
            .iter()
            .map(|cell| (cell.position, cell))
            .collect();
        let distinct = |end: fn(&(usize, usize)) -> usize| {
            let ends: BTreeSet<usize> = cells.keys().map(end).collect();
            ends.into_iter().collect()
        };
        Self {
            report,
            sources: distinct(|position| position.0),
            destinations: distinct(|position| position.1),
            cells,
        }
    }

    fn name(&self, end: usize) -> String {
        self.report.ends[end].name.clone()
    }

    /// None if it is wider than the terminal.
    fn table(&self, style: Style) -> Option<String> {
        WIDEST
            .into_iter()
            .find_map(|(column, head)| self.table_within(column, head, style))
    }

    fn table_within(&self, widest: usize, widest_head: usize, style: Style) -> Option<String> {
        let ink = |ink: Ink| ink.force_styling(style.color);
        let bold = || ink(Ink::new().bold());
        let mut rows: Vec<Vec<Block>> = Vec::with_capacity(self.sources.len() + 1);
        let corner = Block {
            lines: vec!["FROM \\ TO".to_owned()],
            ink: ink(Ink::new().dim()),
        };
        let heads = self.destinations.iter().map(|end| Block {
            lines: wrap(&self.name(*end), widest),
            ink: bold(),
        });
        rows.push([corner].into_iter().chain(heads).collect());
        for from in &self.sources {
            let head = Block {
                lines: wrap(&self.name(*from), widest_head),
                ink: bold(),
            };
            let cells = self.destinations.iter().map(|to| {
                let cell = self.cells.get(&(*from, *to));
                Block {
                    lines: cell.map_or_else(|| vec![String::new()], |cell| self.cell(cell, widest)),
                    ink: ink(cell.map_or_else(Ink::new, |cell| colour(cell.verdict))),
                }
            });
            rows.push([head].into_iter().chain(cells).collect());
        }
        let columns = self.destinations.len() + 1;
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                rows.iter()
                    .map(|row| row[column].width())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        if widths.iter().sum::<usize>() + 2 * (columns - 1) > style.width {
            return None;
        }
        let body = &rows[1..];
        let is_tall = |row: &&Vec<Block>| row.iter().any(|block| block.lines.len() > 1);
        // Where most rows are one line, space between them would only make the table longer.
        let is_spaced = 3 * body.iter().filter(is_tall).count() > body.len();
        let mut table = String::new();
        for (index, row) in rows.iter().enumerate() {
            let height = row.iter().map(|block| block.lines.len()).max().unwrap_or(1);
            for line in 0..height {
                let parts: Vec<String> = row
                    .iter()
                    .zip(&widths)
                    .map(|(block, width)| {
                        let text = block.lines.get(line).map_or("", String::as_str);
                        let padded = pad_str(text, *width, console::Alignment::Left, None);
                        match text {
                            "" => padded.into_owned(),
                            text => block.ink.apply_to(text).to_string() + &padded[text.len()..],
                        }
                    })
                    .collect();
                table.push_str(parts.join("  ").trim_end());
                table.push('\n');
            }
            let is_last = index + 1 == rows.len();
            if (index == 0 || is_spaced) && !is_last {
                table.push('\n');
            }
        }
        Some(table)
    }

    fn list(&self, style: Style) -> String {
        let ink = |ink: Ink| ink.force_styling(style.color);
        let mut text = String::new();
        for from in &self.sources {
            let name = self.name(*from);
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{}", ink(Ink::new().bold()).apply_to(name));
            let mut by_ports: Vec<(CellVerdict, String, Vec<String>)> = Vec::new();
            for to in &self.destinations {
                let Some(cell) = self.cells.get(&(*from, *to)) else {
                    continue;
                };
                let ports = self.words(cell).join(", ");
                let known = by_ports.iter_mut().find(|(_, known, _)| *known == ports);
                match known {
                    Some((_, _, ends)) => ends.push(self.name(*to)),
                    None => by_ports.push((cell.verdict, ports, vec![self.name(*to)])),
                }
            }
            by_ports.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
            let is_only = by_ports.len() == 1;
            for (verdict, ports, ends) in by_ports {
                let ends = match ends.len() {
                    count if verdict != CellVerdict::Deny || count <= LISTED => separated(&ends),
                    count if is_only => vec![format!("all {count}")],
                    count => vec![format!("the other {count}")],
                };
                let head = format!("  {ports} -> ");
                let indent = measure_text_width(&head).min(24);
                let mut lines = fill(&ends, style.width.max(60) - indent).into_iter();
                let first = lines.next().unwrap_or_default();
                let fits = measure_text_width(&head) == indent;
                let ports = ink(colour(verdict)).apply_to(ports);
                let _ = if fits {
                    writeln!(text, "  {ports} -> {first}")
                } else {
                    writeln!(text, "  {ports} ->\n{:indent$}{first}", "")
                };
                for line in lines {
                    let _ = writeln!(text, "{:indent$}{line}", "");
                }
            }
            text.push('\n');
        }
        text.pop();
        text
    }

    /// What a cell says, unbroken.
    fn words(&self, cell: &Cell) -> Vec<String> {
        let one = |way: &super::report::FamilyWay| {
            if way.allowed.is_nothing() {
                "-".to_owned()
            } else if way.allowed.is_everything() {
                "all".to_owned()
            } else if self.report.port.is_some() {
                "yes".to_owned()
            } else {
                way.allowed.to_string()
            }
        };
        match cell.ways.as_slice() {
            [] => vec!["no family".to_owned()],
            [way] => vec![one(way)],
            ways => {
                let named = ways.iter().map(|way| {
                    let families: Vec<_> = way.families.iter().map(ToString::to_string).collect();
                    format!("{}: {}", families.join(" "), one(way))
                });
                named.collect()
            }
        }
    }

    fn cell(&self, cell: &Cell, widest: usize) -> Vec<String> {
        let words = self.words(cell);
        let mut lines: Vec<String> = words.iter().flat_map(|text| wrap(text, widest)).collect();
        if lines.len() > TALLEST {
            lines.truncate(TALLEST - 1);
            lines.push("...".to_owned());
        }
        lines
    }

    fn below(&mut self, style: Style) -> Vec<String> {
        let has = |verdict| self.report.cells.iter().any(|cell| cell.verdict == verdict);
        let node_egress = match self.report.node_egress {
            NodeEgressReport::Allow => "A pod and its own node always reach each other",
            NodeEgressReport::Policy => "A pod's own node always reaches it",
        };
        let mut lines = Vec::new();
        match &self.report.port {
            Some(port) => lines.push(format!("yes: {port} may pass. -: it may not.")),
            None => {
                let some = if has(CellVerdict::Some) {
                    " Ports: those alone; a protocol without ports: all of its ports."
                } else {
                    ""
                };
                lines.push(format!(
                    "all: every protocol and port may pass. -: nothing may.{some}"
                ));
            }
        }
        lines.push(format!(
            "{node_egress}, and a pod always reaches itself. Blank: no pod, or one pod alone."
        ));
        lines.extend(self.report.notes.iter().cloned());
        let dim = Ink::new().dim().force_styling(style.color);
        lines
            .iter()
            .flat_map(|line| fill(&words(line), style.width.max(60)))
            .map(|line| dim.apply_to(line).to_string())
            .collect()
    }
}

/// Told apart in all common kinds of colour blindness.
fn colour(verdict: CellVerdict) -> Ink {
    match verdict {
        CellVerdict::Allow => Ink::new().cyan(),
        CellVerdict::Some => Ink::new().yellow(),
        CellVerdict::Deny | CellVerdict::NoFamily => Ink::new().dim(),
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// The names, each but the last with a semicolon: they hold commas.
fn separated(names: &[String]) -> Vec<String> {
    let mut separated: Vec<String> = names.iter().map(|name| format!("{name};")).collect();
    if let Some(last) = separated.last_mut() {
        last.pop();
    }
    separated
}

/// Items with spaces between them.
fn fill(items: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if measure_text_width(line) + 1 + measure_text_width(item) <= width => {
                line.push(' ');
                line.push_str(item);
            }
            _ => lines.push(item.clone()),
        }
    }
    lines
}

/// Breaks after commas, semicolons and spaces, and between a namespace and a name; a longer piece stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for piece in pieces(text) {
        let line = lines.last().map_or("", String::as_str);
        let is_full = measure_text_width(line) + measure_text_width(piece.trim_end()) > width;
        match lines.last_mut() {
            Some(line) if line.is_empty() || !is_full => line.push_str(piece),
            _ => lines.push(piece.to_owned()),
        }
    }
    lines
        .iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut depth = 0_usize;
    let nexts = text.char_indices().skip(1).map(Some).chain([None]);
    for ((_, c), next) in text.char_indices().zip(nexts) {
        let Some((end, next)) = next else { continue };
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        let breaks = match c {
            _ if depth > 0 => false,
            ' ' | ',' | ';' => next != ' ',
            // Not within a network.
            '/' => next.is_ascii_alphabetic(),
            _ => false,
        };
        if breaks {
            pieces.push(&text[start..end]);
            start = end;
        }
    }
    pieces.push(&text[start..]);
    pieces
}
