//! Tables for people: columns that line up.

use unicode_width::UnicodeWidthStr as _;

use crate::model::control::escape_control;

/// The lines of a table, the heads first: columns of numbers to the right. The rows are made
/// twice, once to measure them, and never kept.
pub fn lines<R>(heads: &[&str], right: &[usize], rows: R) -> impl Iterator<Item = String> + use<R>
where
    R: Iterator<Item = Vec<String>> + Clone,
{
    let columns = columns(heads, right, rows.clone());
    let heads = line(&columns, heads.iter().map(|head| (*head).to_owned()));
    std::iter::once(heads)
        .chain(rows.map(move |row| line(&columns, row.iter().map(|cell| escape_control(cell)))))
}

/// The width of each column, and whether it holds numbers.
fn columns(
    heads: &[&str],
    right: &[usize],
    rows: impl Iterator<Item = Vec<String>>,
) -> Vec<(usize, bool)> {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(escape_control(&cell).width());
        }
    }
    let widths = widths.into_iter().enumerate();
    widths
        .map(|(at, width)| (width, right.contains(&at)))
        .collect()
}

/// One line of a table: cells as wide as their columns, with two blanks between them.
fn line(columns: &[(usize, bool)], cells: impl Iterator<Item = String>) -> String {
    let mut line = String::new();
    for ((width, is_right), cell) in columns.iter().zip(cells) {
        let blanks = " ".repeat(width.saturating_sub(cell.width()));
        let (before, after) = if *is_right {
            (blanks.as_str(), "")
        } else {
            ("", blanks.as_str())
        };
        line.extend([before, &cell, after, "  "]);
    }
    line.truncate(line.trim_end().len());
    line
}
