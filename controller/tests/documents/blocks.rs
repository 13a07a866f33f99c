//! The code of a page: lines that are indented by four or more after an empty one, and what is between fences.

use std::collections::BTreeSet;

/// Code, without its indentation and without empty lines.
#[derive(Debug, Default)]
pub(crate) struct Block {
    /// The number of its first line.
    pub(crate) line: usize,
    /// At least one.
    pub(crate) lines: Vec<String>,
}

/// All code of a page.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut current = Block::default();
    let mut fenced = false;
    let mut after_empty = true;
    for (number, line) in (1..).zip(page.lines()) {
        let fence = line.trim_start().starts_with("```");
        // A list's own lines may be indented as deep as code is, but follow no empty one.
        let indented = line.starts_with("    ") && (after_empty || !current.lines.is_empty());
        let belongs = !fence && (fenced || indented);
        if belongs && !line.trim().is_empty() {
            if current.lines.is_empty() {
                current.line = number;
            }
            current.lines.push(line.trim().to_owned());
        } else if (fence || !line.trim().is_empty()) && !current.lines.is_empty() {
            blocks.push(std::mem::take(&mut current));
        }
        fenced ^= fence;
        after_empty = line.trim().is_empty();
    }
    if !current.lines.is_empty() {
        blocks.push(current);
    }
    blocks
}

/// What links to its headings end in.
pub(crate) fn headings(page: &str) -> BTreeSet<String> {
    let titles = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    };
    titles.map(anchor).collect()
}

#[test]
fn code_is_found_where_it_stands() {
    let page = "text\n    no code\n\n    picket a\n\n    picket b\ntext\n\n- item\n\n      picket c\n\n```sh\npicket d\n\npicket e\n```\n\n    $ picket f";
    let found: Vec<_> = blocks(page)
        .into_iter()
        .map(|block| (block.line, block.lines.join(";")))
        .collect();
    let expected = [
        (4, "picket a;picket b"),
        (11, "picket c"),
        (14, "picket d;picket e"),
        (19, "$ picket f"),
    ];
    let expected = expected.map(|(line, text)| (line, text.to_owned()));
    assert_eq!(found, expected);
}

#[test]
fn a_heading_is_linked_as_forges_do() {
    let page = "# One, two\n## From kube-router, and k3s\ntext # no";
    let expected = ["one-two", "from-kube-router-and-k3s"];
    assert_eq!(headings(page), BTreeSet::from(expected.map(str::to_owned)));
}
