//! The worked example of `docs/archive-format.md`: its bytes are those of the archive that its
//! command makes.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::markdown::{Block, Document};
use super::scene::{accept, is_accepting};
use super::{assert_none, root};
use crate::support::{TestDir, copy_folder};

/// A row: the name of a place, an offset from it, bytes; after ` | ` follows a comment.
struct Row<'a> {
    place: &'a str,
    offset: i64,
    bytes: Vec<u8>,
    /// The number of a comment such as `74 bytes of name`.
    number: Option<usize>,
    line: &'a str,
}

fn row(line: &str) -> Row<'_> {
    let (start, comment) = line.split_once(" | ").unwrap();
    let mut words = start.split_whitespace();
    let (place, offset) = (words.next().unwrap(), words.next().unwrap());
    Row {
        place,
        offset: offset.parse().unwrap(),
        bytes: words
            .map(|word| u8::from_str_radix(word, 16).unwrap())
            .collect(),
        number: comment
            .split_once(" bytes")
            .and_then(|(number, _)| number.parse().ok()),
        line,
    }
}

/// A number of the archive.
fn number(archive: &[u8], at: usize, len: usize) -> usize {
    let bytes = archive[at..at + len].iter().rev();
    bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// Where the places of the example are.
fn places(archive: &[u8]) -> HashMap<&'static str, usize> {
    let end = archive.len() - 22;
    let directory = number(archive, end + 16, 4);
    let extra = 30 + number(archive, 26, 2);
    let data = extra + number(archive, 28, 2);
    let data_end = data + number(archive, 18, 4);
    let mut places = HashMap::from([("output", 0), ("extra", extra), ("data", data)]);
    places.extend([
        ("data-end", data_end),
        ("directory", directory),
        ("end", end),
    ]);
    let mut at = directory;
    while at < end {
        let lens = [28, 30, 32].map(|offset| number(archive, at + offset, 2));
        let local = number(archive, at + 42, 4);
        match &archive[at + 46..at + 46 + lens[0]] {
            b"SHA256SUMS" => places.insert("sums", local),
            b"manifest.json" => places.insert("manifest", local),
            _ => None,
        };
        at += 46 + lens.iter().sum::<usize>();
    }
    places
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x} ").unwrap();
    }
    text.trim_end().to_owned()
}

/// The archive that the command of the page makes.
fn archive() -> Vec<u8> {
    let desk = TestDir::new();
    copy_folder(&root().join("fixtures/shop/exports"), &desk.path("exports"));
    desk.expect(
        0,
        &["pack", "exports", "category.zip", "--only", "lyon/Category"],
    );
    desk.read("category.zip")
}

fn example(document: &Document) -> &Block {
    let mut blocks = document.blocks.iter();
    blocks.find(|block| block.language == "hex").unwrap()
}

#[test]
fn worked_example_has_the_bytes_of_its_archive() {
    let document = Document::read("docs/archive-format.md");
    let block = example(&document);
    let archive = archive();
    let places = places(&archive);
    let (mut text, mut problems) = (String::new(), Vec::new());
    for row in block.text.lines().map(row) {
        let at = places[row.place] as i64 + row.offset;
        let at = usize::try_from(at).unwrap();
        let bytes = &archive[at..at + row.bytes.len()];
        let is_number = row
            .number
            .is_none_or(|value| value == number(bytes, 0, bytes.len()));
        assert!(is_number, "{}: {}", row.line, number(bytes, 0, bytes.len()));
        if bytes != row.bytes {
            problems.push(format!("{}: {}", row.line, hex(bytes)));
        }
        text.push_str(&row.line.replacen(&hex(&row.bytes), &hex(bytes), 1));
        text.push('\n');
    }
    if is_accepting() {
        return accept(&document, vec![(block.range.clone(), text)]);
    }
    assert_none(&problems);
}
