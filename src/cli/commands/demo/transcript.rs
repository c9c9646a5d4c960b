//! How the demo shows commands and their output: 80 columns wide, long tables cut.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Columns of a terminal that nobody has made wider.
const WIDTH: usize = 80;

/// Rows of a table that are shown.
const MAX_ROWS: usize = 10;

/// What a line begins with that goes on with the one before it.
const INDENT: &str = "    ";

/// A command as it is shown: it goes on in further lines where it is long.
pub fn command_lines(words: &[String]) -> Vec<String> {
    // An option stays in one line with its value.
    let parts = words.chunk_by(|_, next| !next.starts_with('-'));
    let mut lines = vec!["$".to_owned()];
    for part in parts.map(|part| part.join(" ")) {
        append(&mut lines, &part);
    }
    lines
}

/// Appends a part of a command to its last line, or to a new one.
fn append(lines: &mut Vec<String>, part: &str) {
    const BACKSLASH: &str = " \\";
    let Some(last) = lines.last_mut() else {
        return;
    };
    if last.width() + 1 + part.width() + BACKSLASH.len() <= WIDTH {
        last.push(' ');
        last.push_str(part);
    } else {
        last.push_str(BACKSLASH);
        lines.push(format!("{INDENT}{part}"));
    }
}

/// What a command printed, as it is shown.
pub fn output_lines(printed: &str) -> Vec<String> {
    let lines: Vec<&str> = printed.lines().collect();
    let groups = lines.chunk_by(|one, next| is_row(one) == is_row(next));
    groups.flat_map(group_lines).collect()
}

/// Whether a line is one of a table: its columns are two blanks apart.
fn is_row(line: &str) -> bool {
    line.trim().contains("  ") || is_continued(line)
}

/// Whether a line of a table goes on with the row above it: its first columns are empty.
fn is_continued(line: &str) -> bool {
    line.starts_with("          ")
}

/// Whether a line is the first one of a table: its words are all in capitals.
fn is_head(line: &str) -> bool {
    is_row(line) && !line.chars().any(char::is_lowercase)
}

/// Lines that are all rows of a table, or none of them is.
fn group_lines(lines: &[&str]) -> Vec<String> {
    if lines.first().is_some_and(|line| is_head(line)) {
        table_lines(lines)
    } else {
        lines.iter().flat_map(|line| wrapped(line)).collect()
    }
}

/// The heads of a table and its first rows.
fn table_lines(lines: &[&str]) -> Vec<String> {
    let rows: Vec<&[&str]> = lines.chunk_by(|_, next| is_continued(next)).collect();
    let shown = rows.iter().take(1 + MAX_ROWS).copied().flatten();
    let mut cut: Vec<String> = shown.map(|line| cut_row(line)).collect();
    let hidden = rows.len().saturating_sub(1 + MAX_ROWS);
    if hidden > 0 {
        cut.push(format!("… and {hidden} more"));
    }
    cut
}

/// A row whose end is left out if it is too long.
fn cut_row(row: &str) -> String {
    if row.width() <= WIDTH {
        return row.to_owned();
    }
    let end = fitting_len(row, WIDTH - 1);
    let (shown, _) = row.split_at(end);
    format!("{shown}…")
}

/// A line that is too long, as several.
pub fn wrapped(line: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = line.to_owned();
    while rest.width() > WIDTH {
        let (one, others) = rest.split_at(line_end(&rest));
        let others = format!("{INDENT}{}", others.trim_start());
        lines.push(one.trim_end().to_owned());
        rest = others;
    }
    lines.push(rest);
    lines
}

/// Where a line is broken: after a blank or a comma, within a path, or anywhere.
fn line_end(line: &str) -> usize {
    let (fitting, _) = line.split_at(fitting_len(line, WIDTH));
    let last = |breaks: &[char]| fitting.rfind(breaks).filter(|at| *at >= INDENT.len());
    let found = last(&[' ', ',']).or_else(|| last(&['/']));
    found.map_or(fitting.len(), |at| at + 1)
}

/// How many bytes of a text fit into so many columns.
fn fitting_len(text: &str, columns: usize) -> usize {
    let mut width = 0;
    let fits = |c: &char| {
        width += c.width().unwrap_or(0);
        width <= columns
    };
    text.chars().take_while(fits).map(char::len_utf8).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn long_command_goes_on_at_an_option() {
        assert_eq!(
            command_lines(&words("kindpack list a.zip")),
            ["$ kindpack list a.zip"]
        );
        let long = words(
            "kindpack plan a.zip --target ndjson:b --redact Customer.email=mask -o plan.json",
        );
        assert_eq!(
            command_lines(&long),
            [
                r"$ kindpack plan a.zip --target ndjson:b --redact Customer.email=mask \",
                "    -o plan.json"
            ]
        );
    }

    #[test]
    fn long_table_is_cut_and_other_lines_stay() {
        let rows: Vec<String> = (0..12).map(|n| format!("berlin  Kind{n}")).collect();
        let printed = format!("NAMESPACE  KIND\n{}\n\n12 kinds\n", rows.join("\n"));
        let shown = output_lines(&printed);
        assert_eq!(shown.len(), 14);
        assert_eq!(
            shown[10..],
            ["berlin  Kind9", "… and 2 more", "", "12 kinds"]
        );
        assert_eq!(output_lines("a\n".repeat(30).as_str()).len(), 30);
    }

    #[test]
    fn long_row_is_cut_at_its_end() {
        let row = format!("1  berlin  {}", "reason ".repeat(20));
        let shown = output_lines(&format!("STEP  REASON\n{row}"));
        assert_eq!(shown[1], format!("{}…", &row[..79]));
        assert_eq!(shown[1].width(), WIDTH);
        // No table: nothing is lost.
        assert!(output_lines(&row).len() > 1);
    }

    #[test]
    fn long_line_is_broken_between_words() {
        let line = "word ".repeat(20);
        let shown = wrapped(line.trim_end());
        assert_eq!(
            shown,
            [line[..79].to_owned(), format!("    {}", &line[80..99])]
        );
        let path = format!("entry {}/output-0: damaged", "x".repeat(70));
        assert_eq!(
            wrapped(&path),
            [
                "entry".to_owned(),
                format!("    {}/", "x".repeat(70)),
                "    output-0: damaged".to_owned()
            ]
        );
    }

    #[test]
    fn name_longer_than_a_line_is_broken_anywhere() {
        for name in ["ü".repeat(200), "字".repeat(200)] {
            let shown = wrapped(&name);
            assert!(shown.iter().all(|line| line.width() <= WIDTH), "{shown:?}");
            let joined: String = shown.iter().map(|line| line.trim()).collect();
            assert_eq!(joined, name);
        }
    }
}
