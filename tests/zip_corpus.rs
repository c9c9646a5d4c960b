//! Zips of other projects' test suites, read by the strict rules: what all readers understand alike is accepted, the rest is refused.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test may fail loudly")]

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use kindpack::archive::{
    DataError, DirectoryEntry, EntryCheck, Limits, Profile, Violation, check_descriptor, check_local_header, locate, parse_directory,
    tail_len,
};

/// Three megabytes for a count of entries that a test of the writer reaches as well.
const LEFT_OUT: &str = "fetched/libzip/manyfiles-zip.zip";

/// What the corpus calls too much; its largest sound entry has a few megabytes.
const LIMITS: Limits = Limits { max_entry_len: 1 << 30, max_total_len: 1 << 31 };

#[derive(Debug)]
#[expect(dead_code, reason = "read by people when a case fails")]
enum Refusal {
    Structure(Violation),
    Data(String, DataError),
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Self {
        Refusal::Structure(violation)
    }
}

fn range(archive: &[u8], offset: u64, len: u64) -> &[u8] {
    &archive[offset as usize..][..len as usize]
}

/// The upper floor in small: fetches ranges of an archive in memory and hands them in.
fn read_whole(archive: &[u8]) -> Result<Vec<DirectoryEntry>, Refusal> {
    let archive_len = archive.len() as u64;
    let tail = range(archive, archive_len - tail_len(archive_len), tail_len(archive_len));
    let place = locate(tail, archive_len, Profile::AnyZip)?;
    let directory = range(archive, place.offset, place.len);
    if let Some(in_tail) = place.in_tail(tail, archive_len) {
        assert_eq!(in_tail, directory);
    }
    let entries = parse_directory(directory, &place, Profile::AnyZip, &LIMITS)?;
    for entry in &entries {
        let header = range(archive, entry.header_offset, entry.header_max_len());
        let local = check_local_header(entry, header, Profile::AnyZip)?;
        let mut check = EntryCheck::new(entry);
        let mut given = 0;
        let data = range(archive, local.data_offset, entry.compressed_len);
        let read =
            data.chunks(7_000).try_for_each(|part| check.push(part, |bytes| given += bytes.len() as u64)).and_then(|()| check.finish());
        assert!(given <= entry.len, "{}: more than claimed was given", entry.name);
        read.map_err(|error| Refusal::Data(entry.name.clone(), error))?;
        check_descriptor(entry, range(archive, local.data_offset + entry.compressed_len, local.descriptor_len), Profile::AnyZip)?;
    }
    Ok(entries)
}

fn corpus() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/zip-corpus"))
}

/// File and expectation of each case.
fn cases() -> Vec<(String, String)> {
    let table = std::fs::read_to_string(corpus().join("cases.tsv")).unwrap();
    let mut rows = table.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    assert_eq!(rows.next().unwrap()[..3], ["file", "what it is", "expected"]);
    rows.map(|row| (row[0].to_owned(), row[2].to_owned())).filter(|(file, _)| file != LEFT_OUT).collect()
}

#[test]
fn what_all_readers_understand_alike_is_accepted_and_the_rest_refused() {
    let mut wrong = Vec::new();
    let mut counts = [0; 3];
    for (file, expected) in cases().iter().filter(|(file, _)| file.ends_with(".zip")) {
        let result = read_whole(&std::fs::read(corpus().join(file)).unwrap());
        let fits = match &**expected {
            "accept" => (result.is_ok(), 0),
            "reject" => (result.is_err(), 1),
            "either" => (true, 2),
            other => panic!("{file}: no such expectation: {other}"),
        };
        counts[fits.1] += 1;
        if !fits.0 {
            wrong.push(format!("{file}: expected {expected}, found {result:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(counts, [109, 165, 88]);
}

#[test]
fn no_seed_of_a_fuzzer_makes_the_reader_crash_or_wait() {
    let file = std::fs::File::open(corpus().join("fetched/zip2-fuzz-read-seeds.tar.gz")).unwrap();
    let mut tar = Vec::new();
    GzDecoder::new(file).read_to_end(&mut tar).unwrap();
    let mut seeds = 0;
    let mut rest = tar.as_slice();
    while let Some((header, behind)) = rest.split_at_checked(512).filter(|(header, _)| header[0] != 0) {
        let len = std::str::from_utf8(&header[124..135]).unwrap();
        let len = usize::from_str_radix(len, 8).unwrap();
        let is_file = header[156] == b'0';
        if is_file {
            let _ = read_whole(&behind[..len]);
            seeds += 1;
        }
        rest = &behind[len.next_multiple_of(512)..];
    }
    assert_eq!(seeds, 951);
}
