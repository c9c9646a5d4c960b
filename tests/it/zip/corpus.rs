//! Zips of other projects' test suites, read by the strict rules: what all readers understand alike
//! is accepted, the rest is refused.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use flate2::read::GzDecoder;
use kindpack::progress::NoProgress;
use kindpack::store::{DirStore, Store};
use kindpack::verify::any_zip;

use crate::support::TestDir;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/zip");

/// Three megabytes for a count of entries that a test of the writer reaches as well.
const LEFT_OUT: &str = "libzip/manyfiles-zip.zip";

/// File and expectation of each case.
fn cases() -> Vec<(String, String)> {
    let table = std::fs::read_to_string(Path::new(CORPUS).join("cases.tsv")).unwrap();
    let mut rows = table
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>());
    assert_eq!(
        rows.next().unwrap()[..3],
        ["file", "what it is", "expected"]
    );
    rows.map(|row| (row[0].to_owned(), row[2].to_owned()))
        .filter(|(file, _)| file != LEFT_OUT)
        .collect()
}

/// All that is wrong with a zip below `folder`.
async fn problems(folder: &Path, name: &str) -> Vec<String> {
    let store: Arc<dyn Store> = Arc::new(DirStore::new(folder));
    let object = store.stat(name).await.unwrap();
    any_zip(store, object, name.to_owned(), &NoProgress)
        .await
        .unwrap()
        .problems
}

#[tokio::test]
async fn corpus_is_accepted_or_refused_as_labelled() {
    let mut wrong = Vec::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (file, expected) in cases()
        .into_iter()
        .filter(|(file, _)| file.ends_with(".zip"))
    {
        let problems = problems(Path::new(CORPUS), &file).await;
        let fits = match &*expected {
            "accept" => problems.is_empty(),
            "reject" => !problems.is_empty(),
            "either" => true,
            other => panic!("{file}: no such expectation: {other}"),
        };
        if !fits {
            wrong.push(format!("{file}: expected {expected}, found {problems:?}"));
        }
        *counts.entry(expected).or_default() += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let expected = [("accept", 109), ("either", 88), ("reject", 165)]
        .map(|(word, count)| (word.to_owned(), count));
    assert_eq!(counts, expected.into());
}

#[tokio::test]
async fn fuzzer_inputs_neither_crash_nor_hang() {
    let file = std::fs::File::open(Path::new(CORPUS).join("zip2-fuzz-read-seeds.tar.gz")).unwrap();
    let mut tar = Vec::new();
    GzDecoder::new(file).read_to_end(&mut tar).unwrap();
    let desk = TestDir::new();
    let mut seeds = 0;
    let mut rest = tar.as_slice();
    while let Some((header, behind)) = rest
        .split_at_checked(512)
        .filter(|(header, _)| header[0] != 0)
    {
        let len = std::str::from_utf8(&header[124..135]).unwrap();
        let len = usize::from_str_radix(len, 8).unwrap();
        let is_file = header[156] == b'0';
        if is_file {
            desk.write("seed.zip", &behind[..len]);
            problems(&desk.work(), "seed.zip").await;
            seeds += 1;
        }
        rest = &behind[len.next_multiple_of(512)..];
    }
    assert_eq!(seeds, 951);
}

#[test]
fn the_program_says_the_same_as_the_library() {
    let desk = TestDir::new();
    let of = |wanted: &str| {
        cases()
            .into_iter()
            .find(|(file, expected)| file.ends_with(".zip") && expected == wanted)
            .unwrap()
            .0
    };
    let event = desk.json(
        0,
        &["verify", "--any-zip", &format!("{CORPUS}/{}", of("accept"))],
    );
    assert_eq!(event["problems"], serde_json::json!([]));
    let run = desk.expect(
        4,
        &["verify", "--any-zip", &format!("{CORPUS}/{}", of("reject"))],
    );
    assert!(run.err.contains("kindpack: verify: "), "{}", run.err);
    let run = desk.run(&["verify", "--any-zip", &format!("{CORPUS}/{}", of("either"))]);
    assert!(matches!(run.code, 0 | 4), "{}", run.brief());
}
