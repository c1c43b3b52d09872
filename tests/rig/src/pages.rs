//! Tables of the project's pages, for tests that hold them equal to the code.

#![allow(
    clippy::expect_used,
    reason = "the rig stops with a sentence where it cannot go on"
)]

/// The rows of the Markdown table with this line as its head: the text of each cell, without backticks.
///
/// # Panics
/// If the page has no such table.
#[must_use]
pub fn table(page: &str, head: &str) -> Vec<Vec<String>> {
    let (_, table) = page.split_once(head).expect("the page has this table");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        let row = row.trim_matches('|').split('|');
        row.map(|cell| cell.replace('`', "").trim().to_owned())
            .collect()
    };
    rows.map(cells).collect()
}
