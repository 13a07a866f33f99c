//! The matrix as a page: one HTML file with everything in it.
//!
//! The script gets the matrix as JSON in which equal cells and sides are one, so that 300 ends stay a few megabytes.
//! Names are the input's and could be anything: the script writes them as text only, and in the file no `<` of theirs
//! is left.

use std::collections::BTreeMap;

use policy_compiler::reach::{Allowed, Grant, Side};
use serde::Serialize;

use super::report::{CellVerdict, End, NodeEgressReport, Report};

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// What the script is given.
#[derive(Serialize)]
struct Data<'a> {
    node_egress: NodeEgressReport,
    port: &'a Option<String>,
    ends: &'a [End],
    /// Different cells.
    cells: Vec<Cell>,
    /// Different sides.
    sides: Vec<SideData>,
    /// By source, then destination: the index in `cells`, or -1 where there is none.
    rows: Vec<Vec<i64>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct Cell {
    verdict: CellVerdict,
    ways: Vec<Way>,
}

#[derive(Serialize)]
struct Way {
    families: Vec<String>,
    allowed: Allowed,
    text: String,
    /// Indexes in [`Data::sides`].
    egress: usize,
    ingress: usize,
}

#[derive(Serialize)]
struct SideData {
    reason: &'static str,
    isolated_by: Vec<String>,
    /// Policy, and what it allows.
    grants: Vec<(String, String)>,
}

/// One HTML file.
///
/// # Errors
/// Never in practice: the data is plain.
pub fn page(report: &Report) -> Result<String, serde_json::Error> {
    // An HTML parser ends a script at `</script` whatever it holds, and `<!--` begins more of the kind.
    let data = serde_json::to_string(&data(report))?.replace('<', "\\u003c");
    let mut page = String::with_capacity(data.len() + TEMPLATE.len() + STYLE.len() + SCRIPT.len());
    let mut rest = TEMPLATE;
    for (mark, part) in [
        ("/*STYLE*/", STYLE),
        ("/*DATA*/", data.as_str()),
        ("/*SCRIPT*/", SCRIPT),
    ] {
        // In order, so that a mark within the data is not taken for one.
        if let Some((before, after)) = rest.split_once(mark) {
            page.push_str(before);
            page.push_str(part);
            rest = after;
        }
    }
    page.push_str(rest);
    Ok(page)
}

fn data(report: &Report) -> Data<'_> {
    let mut sides = Numbers::default();
    let mut cells = Numbers::default();
    let count = report.ends.len();
    let mut rows = vec![vec![-1; count]; count];
    for cell in &report.cells {
        let ways: Vec<_> = cell
            .ways
            .iter()
            .map(|way| {
                let egress = sides.of(&way.egress);
                let families: Vec<String> = way.families.iter().map(ToString::to_string).collect();
                (families, &way.allowed, egress, sides.of(&way.ingress))
            })
            .collect();
        let number = cells.of((cell.verdict, ways));
        rows[cell.position.0][cell.position.1] = i64::try_from(number).unwrap_or(-1);
    }
    let cells = cells.in_order().into_iter().map(|(verdict, ways)| Cell {
        verdict,
        ways: ways
            .into_iter()
            .map(|(families, allowed, egress, ingress)| Way {
                families,
                allowed: allowed.clone(),
                text: allowed.to_string(),
                egress,
                ingress,
            })
            .collect(),
    });
    Data {
        node_egress: report.node_egress,
        port: &report.port,
        ends: &report.ends,
        cells: cells.collect(),
        sides: sides.in_order().into_iter().map(side).collect(),
        rows,
        notes: &report.notes,
    }
}

fn side(side: &Side) -> SideData {
    let grant = |grant: &Grant| (grant.policy.to_string(), grant.allowed.to_string());
    SideData {
        reason: side.reason.name(),
        isolated_by: side.isolated_by.iter().map(ToString::to_string).collect(),
        grants: side.grants.iter().map(grant).collect(),
    }
}

/// Gives equal values one number.
struct Numbers<T>(BTreeMap<T, usize>);

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Numbers<T> {
    fn of(&mut self, value: T) -> usize {
        let next = self.0.len();
        *self.0.entry(value).or_insert(next)
    }

    fn in_order(self) -> Vec<T> {
        let mut values: Vec<_> = self.0.into_iter().collect();
        values.sort_by_key(|(_, number)| *number);
        values.into_iter().map(|(value, _)| value).collect()
    }
}
