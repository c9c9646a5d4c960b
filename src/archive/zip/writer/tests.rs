use std::io::{self, Cursor, Read, Seek, SeekFrom};

use super::super::testing::*;
use super::super::*;
use super::*;
use crate::archive::deflate::Inflater;

const GIB: u64 = 1 << 30;

#[test]
fn written_archive_reads_back_in_both_readers() {
    let long_name = format!("exports/{}", "n".repeat(4_087));
    let long_bytes: Vec<u8> = (0..50_000_u32)
        .flat_map(|i| (i * i).to_le_bytes())
        .collect();
    let entries: [(&str, Form, &[u8]); 9] = [
        (
            "exports/default/kind_Order/output-0",
            Form::Known,
            b"order order order order order order order order order order order order order",
        ),
        ("exports/Größe価格表", Form::Streamed, &long_bytes),
        (r"exports/C:\a\..\b", Form::Stored, b"stored"),
        ("exports/100%/*?\"<>|", Form::Known, &long_bytes[..1_000]),
        (&long_name, Form::Streamed, b"long name"),
        ("empty", Form::Known, b""),
        ("empty, streamed", Form::Streamed, b""),
        ("empty, stored", Form::Stored, b""),
        ("manifest.json", Form::Known, b"{}\n"),
    ];
    let sealed = seal(&entries);

    let read = read_sealed(&sealed.bytes, &sealed.pieces, &mut Inflater::default()).unwrap();
    assert_eq!(read.len(), entries.len());
    for ((name, _, bytes), (read_name, read_bytes)) in entries.iter().zip(&read) {
        assert!(name == read_name && bytes == read_bytes, "{name:.40}");
    }

    let mut other = zip::ZipArchive::new(Cursor::new(&sealed.bytes)).unwrap();
    assert_eq!(other.len(), entries.len());
    for (index, (name, form, bytes)) in entries.iter().enumerate() {
        let mut entry = other.by_index(index).unwrap();
        let mut read = Vec::new();
        entry.read_to_end(&mut read).unwrap();
        assert!(
            entry.name().unwrap() == *name && read == *bytes,
            "{name:.40}"
        );
        assert_eq!(
            entry.compression() == zip::CompressionMethod::Stored,
            *form == Form::Stored
        );
        assert_eq!(entry.unix_mode(), Some(0o100_644));
        assert_eq!(
            entry.last_modified().unwrap().to_string(),
            "2013-10-12 06:37:42"
        );
        let extended = entry.extra_data_fields().find_map(|field| match field {
            zip::extra_fields::ExtraField::ExtendedTimestamp(time) => time.mod_time(),
            _ => None,
        });
        assert_eq!(extended.map(i64::from), Some(time(MODIFIED).seconds()));
    }
}

#[test]
fn times_round_trip_within_format_limits() {
    for (modified, back) in [
        (None, None),
        (Some("2013-10-12T06:37:43.5Z"), Some("2013-10-12T06:37:43Z")),
        (Some("1970-01-01T00:00:00Z"), Some("1970-01-01T00:00:00Z")),
        (Some("1969-12-31T23:59:59Z"), None),
        (Some("2050-06-01T12:00:01Z"), Some("2050-06-01T12:00:00Z")),
        (Some("9999-01-01T00:00:00Z"), Some("2107-12-31T23:59:58Z")),
    ] {
        let mut sealer = ZipWriter::default();
        let mut archive = sealer
            .begin_known(
                EntryHead {
                    name: "a",
                    method: Method::Store,
                    modified: modified.map(time),
                },
                0,
                0,
                0,
            )
            .unwrap();
        archive.extend(sealer.end(0, 0).unwrap());
        archive.extend(sealer.finish().unwrap());
        let read = read_structure(&archive, Strictness::OwnFormat).unwrap();
        assert_eq!(read[0].0.modified, back.map(time), "{modified:?}");
        zip::ZipArchive::new(Cursor::new(&archive)).unwrap();
    }
}

#[test]
fn an_empty_archive_is_an_end_record() {
    let archive = ZipWriter::default().finish().unwrap();
    assert_eq!(archive.len(), 22);
    assert_eq!(
        read_structure(&archive, Strictness::OwnFormat),
        Ok(Vec::new())
    );
}

fn of_empty_entries(count: u32) -> Vec<u8> {
    let (mut sealer, mut archive) = (ZipWriter::default(), Vec::new());
    for number in 0..count {
        archive.extend(
            sealer
                .begin_known(head(&number.to_string(), Method::Store), 0, 0, 0)
                .unwrap(),
        );
        archive.extend(sealer.end(0, 0).unwrap());
    }
    archive.extend(sealer.finish().unwrap());
    archive
}

#[test]
fn the_count_needs_zip64_from_its_sentinel_on() {
    for (count, end_len) in [(65_534, 22), (65_535, 98)] {
        let archive = of_empty_entries(count);
        let len = archive.len() as u64;
        let tail = range(&archive, len - tail_len(len), tail_len(len));
        let place = locate(tail, len, Strictness::OwnFormat).unwrap();
        assert_eq!(
            (place.entries, len - place.offset - place.len),
            (count.into(), end_len)
        );
        assert_eq!(place.in_tail(tail, len), None);
    }
}

#[test]
fn seventy_thousand_entries_read_back() {
    let archive = of_empty_entries(70_000);
    let read = read_structure(&archive, Strictness::OwnFormat).unwrap();
    assert_eq!(read.len(), 70_000);
    assert!(
        read.iter()
            .enumerate()
            .all(|(number, (entry, _))| entry.name == number.to_string())
    );
    assert_eq!(
        zip::ZipArchive::new(Cursor::new(&archive)).unwrap().len(),
        70_000
    );
}

/// An archive whose data are not there: what the sealer gave, each at its offset, and zeros
/// between.
#[derive(Default)]
struct Sparse {
    parts: Vec<(u64, Vec<u8>)>,
    len: u64,
    position: u64,
}

impl Sparse {
    fn push(&mut self, bytes: Vec<u8>) {
        let offset = self.len;
        self.len += bytes.len() as u64;
        self.parts.push((offset, bytes));
    }

    fn range(&mut self, offset: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        self.position = offset;
        self.read_exact(&mut bytes).unwrap();
        bytes
    }
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.len.min(self.position + buffer.len() as u64);
        let len = end.saturating_sub(self.position) as usize;
        buffer[..len].fill(0);
        for (offset, bytes) in &self.parts {
            let from = self.position.max(*offset);
            let to = end.min(offset + bytes.len() as u64);
            if from < to {
                let part = &bytes[(from - offset) as usize..(to - offset) as usize];
                buffer[(from - self.position) as usize..][..part.len()].copy_from_slice(part);
            }
        }
        self.position += len as u64;
        Ok(len)
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::End(back) => self.len.checked_add_signed(back).unwrap(),
            SeekFrom::Current(on) => self.position.checked_add_signed(on).unwrap(),
        };
        Ok(self.position)
    }
}

#[test]
fn entries_past_four_gib_read_back() {
    const NARROW: u64 = u32::MAX as u64 - 1;
    // Name, length, compressed length, streamed, length of the descriptor.
    let entries = [
        ("known, just below", NARROW, NARROW, false, 0),
        ("known, one more", NARROW + 1, 7, false, 0),
        ("known, both", 5 * GIB, 5 * GIB, false, 0),
        ("streamed, narrow", 3, 5, true, 16),
        ("streamed, wide", 6 * GIB, 5 * GIB, true, 24),
        ("streamed, only said to be wide", 5 * GIB, 1, true, 24),
    ];
    let (mut sealer, mut archive) = (ZipWriter::default(), Sparse::default());
    for (number, (name, len, compressed_len, streamed, _)) in (1_u32..).zip(entries) {
        archive.push(if streamed {
            sealer
                .begin_streamed(head(name, Method::Deflate), len)
                .unwrap()
        } else {
            sealer
                .begin_known(head(name, Method::Deflate), number, len, compressed_len)
                .unwrap()
        });
        sealer.data(compressed_len).unwrap();
        archive.len += compressed_len;
        // The hint was wrong in the last one: it turned out to be short.
        let len = if number == 6 { 9 } else { len };
        archive.push(sealer.end(number, len).unwrap());
    }
    archive.push(sealer.finish().unwrap());

    let tail = archive.range(archive.len - tail_len(archive.len), tail_len(archive.len));
    let place = locate(&tail, archive.len, Strictness::OwnFormat).unwrap();
    let directory = place.in_tail(&tail, archive.len).unwrap();
    let read = parse_directory(directory, &place, Strictness::OwnFormat).unwrap();
    assert_eq!(read.len(), entries.len());
    for ((name, len, compressed_len, streamed, descriptor_len), entry) in entries.iter().zip(&read)
    {
        let len = if *name == "streamed, only said to be wide" {
            9
        } else {
            *len
        };
        assert_eq!(
            (
                &*entry.name,
                entry.len,
                entry.compressed_len,
                entry.streamed
            ),
            (*name, len, *compressed_len, *streamed)
        );
        let header = archive.range(entry.header_offset, entry.header_max_len());
        let local = check_local_header(entry, &header, Strictness::OwnFormat).unwrap();
        assert_eq!(local.descriptor_len, *descriptor_len, "{name}");
        let descriptor = archive.range(
            local.data_offset + entry.compressed_len,
            local.descriptor_len,
        );
        check_descriptor(entry, &descriptor, Strictness::OwnFormat).unwrap();
        check_local_header(entry, &header, Strictness::AnyZip).unwrap();
    }

    let mut other = zip::ZipArchive::new(archive).unwrap();
    for (index, entry) in read.iter().enumerate() {
        let theirs = other.by_index_raw(index).unwrap();
        assert_eq!(
            (
                &*theirs.name().unwrap(),
                theirs.size(),
                theirs.compressed_size()
            ),
            (&*entry.name, entry.len, entry.compressed_len)
        );
        assert_eq!(
            (theirs.header_start(), theirs.crc32()),
            (entry.header_offset, entry.crc32)
        );
    }
}

#[test]
fn local_part_is_independent_of_position() {
    let entry: (&str, Form, &[u8]) = ("exports/b", Form::Streamed, b"bytes bytes bytes");
    let alone = seal(&[entry]).bytes;
    let behind = seal(&[("exports/a", Form::Known, b"something before it"), entry]).bytes;
    let read = read_structure(&behind, Strictness::OwnFormat).unwrap();
    let (second, _) = &read[1];
    let len = second.end_offset - second.header_offset;
    assert_eq!(
        range(&behind, second.header_offset, len),
        range(&alone, 0, len)
    );
}

#[test]
fn headers_leave_nothing_to_guess() {
    let mut sealer = ZipWriter::default();
    let known = sealer
        .begin_known(head("a", Method::Deflate), 0x0a0b_0c0d, 3, 5)
        .unwrap();
    assert_eq!(known[6..8], [0, 0], "no flag");
    assert_eq!(
        known[14..26],
        [0x0d, 0x0c, 0x0b, 0x0a, 5, 0, 0, 0, 3, 0, 0, 0]
    );
    sealer.data(5).unwrap();
    assert_eq!(sealer.end(0x0a0b_0c0d, 3), Ok(Vec::new()));
    let streamed = sealer
        .begin_streamed(head("ä", Method::Deflate), 3)
        .unwrap();
    assert_eq!(streamed[6..8], [0b1000, 0b1000], "descriptor and UTF-8");
    assert_eq!(streamed[14..26], [0; 12]);
}

fn rule_of<T>(result: Result<T, ZipWriteError>) -> Option<Rule> {
    match result {
        Err(ZipWriteError::Refused(violation)) => Some(violation.rule),
        _ => None,
    }
}

#[test]
fn what_the_reader_would_refuse_is_not_begun() {
    let mut sealer = ZipWriter::default();
    sealer
        .begin_known(head("a", Method::Store), 0, 0, 0)
        .unwrap();
    sealer.end(0, 0).unwrap();
    for (name, rule) in [
        ("a", Rule::NameUnique),
        ("../a", Rule::NameSegment),
        ("/a", Rule::NameRelative),
        ("a\tb", Rule::NameControl),
        ("", Rule::NameLen),
    ] {
        assert_eq!(
            rule_of(sealer.begin_known(head(name, Method::Deflate), 0, 0, 2)),
            Some(rule),
            "{name}"
        );
        assert_eq!(
            rule_of(sealer.begin_streamed(head(name, Method::Deflate), 0)),
            Some(rule),
            "{name}"
        );
    }
    assert_eq!(
        rule_of(sealer.begin_streamed(head("b", Method::Store), 0)),
        Some(Rule::DescriptorUse)
    );
    assert_eq!(
        rule_of(sealer.begin_known(head("b", Method::Store), 0, 3, 4)),
        Some(Rule::StoredLen)
    );
    // A refusal changes nothing: the archive goes on as if it had not been asked.
    let mut archive = seal(&[("a", Form::Stored, b"")]).bytes;
    archive.truncate(sealer.offset() as usize);
    archive.extend(sealer.finish().unwrap());
    assert_eq!(archive, seal(&[("a", Form::Stored, b"")]).bytes);
}

#[test]
fn entry_with_wrong_size_is_refused() {
    let promised = |data_len, crc32, len| {
        let mut sealer = ZipWriter::default();
        sealer
            .begin_known(head("a", Method::Deflate), 7, 3, 5)
            .unwrap();
        sealer.data(data_len).unwrap();
        let error = sealer.end(crc32, len).unwrap_err();
        assert_eq!(
            sealer.finish().unwrap_err(),
            ZipWriteError::StillOpen {
                entry: "a".to_owned()
            }
        );
        error.to_string()
    };
    assert_eq!(promised(5, 8, 3), "entry a: expected crc32 7, found 8");
    assert_eq!(promised(5, 7, 4), "entry a: expected length 3, found 4");
    assert_eq!(
        promised(4, 7, 3),
        "entry a: expected compressed length 5, found 4"
    );
}

#[test]
fn streamed_entry_beyond_32_bits_is_refused() {
    for (data_len, len) in [(1, u64::from(u32::MAX)), (u64::from(u32::MAX), 1)] {
        let mut sealer = ZipWriter::default();
        sealer
            .begin_streamed(head("a", Method::Deflate), 0)
            .unwrap();
        sealer.data(data_len).unwrap();
        assert!(matches!(
            sealer.end(0, len),
            Err(ZipWriteError::TooLong {
                found: 0xffff_ffff,
                ..
            })
        ));
    }
}

#[test]
fn misordered_calls_and_endless_archives_fail() {
    let mut sealer = ZipWriter::default();
    assert_eq!(sealer.data(1), Err(ZipWriteError::NoneOpen));
    assert_eq!(sealer.end(0, 0), Err(ZipWriteError::NoneOpen));
    sealer
        .begin_streamed(head("a", Method::Deflate), u64::MAX)
        .unwrap();
    assert_eq!(
        sealer.begin_streamed(head("b", Method::Deflate), 0),
        Err(ZipWriteError::StillOpen {
            entry: "a".to_owned()
        })
    );
    sealer.data(u64::MAX / 2 - 100).unwrap();
    assert!(matches!(
        sealer.data(u64::MAX / 2),
        Err(ZipWriteError::TooLong { .. })
    ));
    assert!(matches!(
        sealer.data(100),
        Err(ZipWriteError::TooLong { .. })
    ));
}
