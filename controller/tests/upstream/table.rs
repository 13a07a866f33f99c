//! Truth tables, as Kubernetes' own suite prints them: who reaches whom.
//!
//! ```text
//! 80/TCP, 81/TCP
//! from\to  x/abc  y/abc  z/abc
//! x/a       -..    ...    ...      . reaches   X does not   - itself, which is not asked
//! ```

use std::fmt;

use controller::flow::{Port, ProtocolName, parse_port};
use policy_compiler::evaluate::Verdict;

/// The pods, in the order of rows and columns.
pub(super) const PODS: [&str; 9] = [
    "x/a", "x/b", "x/c", "y/a", "y/b", "y/c", "z/a", "z/b", "z/c",
];

/// The first line below the ports.
const COLUMNS: [&str; 4] = ["from\\to", "x/abc", "y/abc", "z/abc"];

/// By row and column, indices of [`PODS`]; nothing where they are the same pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matrix([[Option<Verdict>; PODS.len()]; PODS.len()]);

impl Matrix {
    /// The verdict of each pair of different pods.
    pub(super) fn of(verdict: impl Fn(usize, usize) -> Verdict) -> Self {
        let row = |from| {
            std::array::from_fn(|to| match from == to {
                true => None,
                false => Some(verdict(from, to)),
            })
        };
        Self(std::array::from_fn(row))
    }

    pub(super) fn get(&self, from: usize, to: usize) -> Option<Verdict> {
        self.0[from][to]
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", COLUMNS.join("  "))?;
        for (pod, row) in PODS.iter().zip(&self.0) {
            write!(f, "{pod}   ")?;
            for group in row.chunks(3) {
                let cells: String = group.iter().map(|cell| letter(*cell)).collect();
                write!(f, "    {cells}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn letter(cell: Option<Verdict>) -> char {
    match cell {
        Some(Verdict::Allow) => '.',
        Some(Verdict::Deny) => 'X',
        None => '-',
    }
}

/// What a step expects on some ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(super) ports: Vec<(ProtocolName, u16)>,
    pub(super) expected: Matrix,
}

impl Table {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let ports = lines.next().unwrap_or_default().split(", ");
        let ports = ports.map(port).collect::<Result<_, _>>()?;
        let columns: Vec<_> = lines
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        if columns != COLUMNS {
            return Err(format!("{columns:?} instead of {COLUMNS:?}"));
        }
        let rows: Vec<_> = lines.collect();
        if rows.len() != PODS.len() {
            return Err(format!("{} rows instead of {}", rows.len(), PODS.len()));
        }
        let mut cells = Vec::new();
        for (index, (pod, row)) in PODS.iter().zip(rows).enumerate() {
            cells.push(self::row(index, pod, row).ok_or(format!("{row:?} is no row of {pod}"))?);
        }
        let expected = Matrix::of(|from, to| cells[from][to]);
        Ok(Self { ports, expected })
    }
}

fn port(text: &str) -> Result<(ProtocolName, u16), String> {
    match parse_port(text)? {
        (protocol, Some(Port::Number(number))) => Ok((protocol, number)),
        _ => Err(format!("{text:?} is no port: write 80/TCP")),
    }
}

/// The cells of a row; that of the diagonal means nothing.
fn row(index: usize, pod: &str, text: &str) -> Option<Vec<Verdict>> {
    let (name, cells) = text.split_once(' ')?;
    let cells: String = cells.split_whitespace().collect();
    let cell = |(column, letter)| match letter {
        '-' if column == index => Some(Verdict::Allow),
        '.' if column != index => Some(Verdict::Allow),
        'X' if column != index => Some(Verdict::Deny),
        _ => None,
    };
    let cells: Vec<_> = cells.chars().enumerate().map(cell).collect::<Option<_>>()?;
    (name == pod && cells.len() == PODS.len()).then_some(cells)
}

#[test]
fn a_table_is_read_as_it_is_printed_and_nothing_else_is() {
    let matrix = Matrix::of(|from, to| match (from + 2 * to) % 3 {
        0 => Verdict::Deny,
        _ => Verdict::Allow,
    });
    let text = format!("80/TCP, 81/UDP\n{matrix}");
    let table = Table::parse(&text).unwrap();
    assert_eq!(table.expected, matrix);
    let ports = [(ProtocolName::Tcp, 80), (ProtocolName::Udp, 81)];
    assert_eq!(table.ports, ports);
    for (what, by) in [
        ("80/TCP", "http/TCP"),
        ("80/TCP", "80/TLS"),
        ("z/abc", "z/ab"),
        ("y/b ", "y/a "),
        ("-", "."),
        (".", "?"),
        (".", "-"),
        ("z/c", "#"),
        ("   .", "   "),
    ] {
        let bad = text.replacen(what, by, 1);
        assert!(bad != text && Table::parse(&bad).is_err(), "{bad}");
    }
}
