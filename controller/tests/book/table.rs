//! Tables of flows and what becomes of them.

use serde_json::{Value, json};

const HEAD: [&str; 6] = ["FROM", "TO", "PORT", "VERDICT", "EGRESS", "INGRESS"];

/// Rows, and the options of the commands that they are for.
#[derive(Debug)]
pub(crate) struct Table {
    /// For example `--node-egress policy`.
    pub(crate) options: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

/// A flow, and the expected answer.
#[derive(Debug)]
pub(crate) struct Row {
    from: String,
    to: String,
    /// `80/tcp`, `icmp`, either with ` ipv6` after it.
    port: String,
    answer: Vec<String>,
}

impl Table {
    /// Cells are at least two spaces apart.
    pub(crate) fn parse(options: &str, text: &str) -> Result<Self, String> {
        let cells = |line: &str| {
            let cells = line.split("  ").map(str::trim);
            let cells = cells.filter(|cell| !cell.is_empty());
            cells.map(str::to_owned).collect::<Vec<_>>()
        };
        let mut lines = text.lines();
        if lines.next().map(cells).unwrap_or_default() != HEAD {
            return Err(format!("the first line must be {}", HEAD.join("  ")));
        }
        let rows = lines.map(|line| {
            let mut cells = cells(line).into_iter();
            let mut next = || cells.next().ok_or(format!("{line:?} has too few cells"));
            let row = Row {
                from: next()?,
                to: next()?,
                port: next()?,
                answer: cells.collect(),
            };
            row.flow(0)?;
            row.well_formed()?;
            Ok(row)
        });
        let rows: Vec<_> = rows.collect::<Result<_, String>>()?;
        match rows.is_empty() {
            true => Err("there is no flow in it".into()),
            false => Ok(Self {
                options: options.split_whitespace().map(str::to_owned).collect(),
                rows,
            }),
        }
    }

    /// A flows file.
    pub(crate) fn flows(&self) -> String {
        let flows = self.rows.iter().enumerate();
        let lines = flows.map(|(id, row)| row.flow(id).unwrap_or_default().to_string() + "\n");
        lines.collect()
    }

    /// The same flows with these answers.
    pub(crate) fn answered(&self, answers: &[Value]) -> String {
        let rows = self.rows.iter().zip(answers).map(|(row, answer)| {
            let flow = [&row.from, &row.to, &row.port].map(Clone::clone);
            flow.into_iter().chain(cells(answer)).collect()
        });
        let head = HEAD.map(str::to_owned).to_vec();
        aligned(&[head].into_iter().chain(rows).collect::<Vec<_>>())
    }
}

impl Row {
    /// Whether a packet is expected to pass; none is sent for a flow that cannot be asked.
    pub(crate) fn passes(&self) -> Option<bool> {
        match self.answer.first().map(String::as_str) {
            Some("allow") => Some(true),
            Some("deny") => Some(false),
            _ => None,
        }
    }

    fn well_formed(&self) -> Result<(), String> {
        let verdict = self.answer.first().map_or("", String::as_str);
        let as_expected = match verdict {
            "allow" | "deny" => self.answer.len() == 3,
            other => other.starts_with("cannot be asked: ") && self.answer.len() == 1,
        };
        let row = format!("{} -> {} {}", self.from, self.to, self.port);
        as_expected.then_some(()).ok_or(format!(
            "{row}: write allow or deny, EGRESS and INGRESS, or cannot be asked"
        ))
    }

    fn flow(&self, id: usize) -> Result<Value, String> {
        let (port, family) = match self.port.split_once(' ') {
            Some((port, family)) => (port, Some(family)),
            None => (self.port.as_str(), None),
        };
        let (port, protocol) = match port.split_once('/') {
            Some((port, protocol)) => (Some(port), protocol),
            None if port == "icmp" => (None, port),
            None => return Err(format!("{port:?}: write 80/tcp or icmp")),
        };
        let port = port.map(|port| port.parse::<u16>().map_or(json!(port), |n| json!(n)));
        Ok(json!({
            "id": id, "from": end(&self.from), "to": end(&self.to),
            "protocol": protocol.to_uppercase(), "port": port, "family": family,
        }))
    }
}

/// An end as a flows file has it.
fn end(text: &str) -> String {
    let kind = match text {
        _ if text.starts_with("node/") => "",
        _ if text.contains('/') => "pod/",
        _ => "ip/",
    };
    format!("{kind}{text}")
}

/// An answer of `explain -o json`.
fn cells(answer: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(error) = answer.get("error") {
        return vec![format!("cannot be asked: {}", text(error))];
    }
    let side = |side: &str| {
        let policies = answer[side]["policies"].as_array().into_iter().flatten();
        let policies: Vec<_> = policies.map(text).collect();
        let cell = format!("{} {}", text(&answer[side]["reason"]), policies.join(", "));
        cell.trim_end().to_owned()
    };
    vec![text(&answer["verdict"]), side("egress"), side("ingress")]
}

fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        // What cannot be asked goes over columns.
        let rows = rows
            .iter()
            .filter(|row| row.len() == HEAD.len() || column < 3);
        rows.map(|row| row[column].len()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..HEAD.len()).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:<width$}  "))
            .collect();
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}
