//! Finds the directory of a zip from its last bytes: end record, and ZIP64 end record where there
//! is one.

use std::fmt;

use super::headers;
use super::record::{
    CentralRecord, EndRecord, Record, SENTINEL_16, SENTINEL_32, WIDE_END_LEN_AFTER, WideEndLocator,
    WideEndRecord,
};
use super::rule::{Rule, Strictness, Violation};

/// The longest directory that is read or written, 1 GiB: it is held in memory.
pub const MAX_DIRECTORY_LEN_BYTES: u64 = 1 << 30;

/// Where the directory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryPlace {
    /// Its first byte in the archive; all entries lie before it.
    pub offset: u64,
    /// Its bytes, at most [`MAX_DIRECTORY_LEN_BYTES`].
    pub len: u64,
    /// How many entries it lists.
    pub entries: u64,
}

impl DirectoryPlace {
    /// The directory's bytes, where they lie wholly within the `tail` of an archive of
    /// `archive_len` bytes.
    pub fn in_tail<'t>(&self, tail: &'t [u8], archive_len: u64) -> Option<&'t [u8]> {
        let tail_offset = archive_len.checked_sub(tail.len() as u64)?;
        let start = usize::try_from(self.offset.checked_sub(tail_offset)?).ok()?;
        tail.get(start..)?.get(..usize::try_from(self.len).ok()?)
    }
}

/// How many bytes of the end [`locate`] needs of an archive of `archive_len` bytes: room for end
/// record, longest comment and ZIP64 records.
pub fn tail_len(archive_len: u64) -> u64 {
    const LONGEST: usize =
        WideEndRecord::LEN + WideEndLocator::LEN + EndRecord::LEN + u16::MAX as usize;
    archive_len.min(LONGEST as u64)
}

/// Finds the directory from the last [`tail_len`] bytes of an archive of `archive_len` bytes.
pub fn locate(
    tail: &[u8],
    archive_len: u64,
    profile: Strictness,
) -> Result<DirectoryPlace, Violation> {
    let (before, end) = find_end_record(tail, archive_len)?;
    if profile == Strictness::OwnFormat && end.comment_len != 0 {
        return Err(Violation::archive(
            Rule::NoComment,
            "no comment",
            format_args!("one of {} bytes", end.comment_len),
        ));
    }
    let tail_offset = archive_len - tail.len() as u64;
    let locator = before.split_last_chunk::<{ WideEndLocator::LEN }>();
    let locator = locator
        .and_then(|(before, bytes)| Some((before, WideEndLocator::take(&mut bytes.as_slice())?)));
    let (place, records_at) = match locator {
        Some((before, locator)) => (
            zip64_place(before, tail_offset, &locator, &end)?,
            before.len() - WideEndRecord::LEN,
        ),
        None => (narrow_place(&end)?, before.len()),
    };
    let (directory, records) = tail.split_at(records_at);
    check_bounds(&place, tail_offset.saturating_add(directory.len() as u64))?;
    if profile == Strictness::OwnFormat {
        let mut sealed = Vec::new();
        headers::write_end(place.offset, place.len, place.entries, &mut sealed);
        if records != sealed {
            return Err(Violation::archive(
                Rule::AsSealed,
                "end records as kindpack writes them",
                "others",
            ));
        }
    }
    Ok(place)
}

/// Finds the only end record that fits the end of the archive, and what comes before it.
fn find_end_record(tail: &[u8], archive_len: u64) -> Result<(&[u8], EndRecord), Violation> {
    let refuse = |rule, expected: &dyn fmt::Display, found: &dyn fmt::Display| {
        Err(Violation::archive(rule, expected, found))
    };
    if tail.len() as u64 != tail_len(archive_len) {
        return refuse(
            Rule::EndRecord,
            &format_args!("the last {} bytes", tail_len(archive_len)),
            &tail.len(),
        );
    }
    let mut fitting = (0..tail.len()).filter_map(|start| {
        let (before, mut rest) = tail.split_at_checked(start)?;
        let end = EndRecord::take(&mut rest)?;
        (rest.len() == usize::from(end.comment_len)).then_some((before, end))
    });
    let Some(found) = fitting.next() else {
        return refuse(
            Rule::EndRecord,
            &"an end record that ends at the end",
            &"none",
        );
    };
    if fitting.next().is_some() {
        return refuse(Rule::OneEndRecord, &"one end record that fits", &"several");
    }
    Ok(found)
}

/// Checks that a directory ends at `directory_end`, and has room for its entries.
fn check_bounds(place: &DirectoryPlace, directory_end: u64) -> Result<(), Violation> {
    if place.offset.checked_add(place.len) != Some(directory_end) {
        return Err(Violation::archive(
            Rule::DirectoryPlace,
            format_args!("a directory that ends at {directory_end}"),
            format_args!("offset {} and length {}", place.offset, place.len),
        ));
    }
    if place.len > MAX_DIRECTORY_LEN_BYTES {
        return Err(Violation::archive(
            Rule::DirectoryLen,
            format_args!("at most {MAX_DIRECTORY_LEN_BYTES} bytes"),
            place.len,
        ));
    }
    let room = place.len / CentralRecord::LEN as u64;
    if place.entries > room {
        return Err(Violation::archive(
            Rule::DirectoryLen,
            format_args!("at most {room} entries in {} bytes", place.len),
            place.entries,
        ));
    }
    Ok(())
}

/// The place as an end record without ZIP64 says it.
fn narrow_place(end: &EndRecord) -> Result<DirectoryPlace, Violation> {
    if end.entries == SENTINEL_16
        || end.directory_len == SENTINEL_32
        || end.directory_offset == SENTINEL_32
    {
        return Err(Violation::archive(
            Rule::Zip64End,
            "a ZIP64 end record for what does not fit the end record",
            "none",
        ));
    }
    if (end.disk, end.directory_disk) != (0, 0) || end.entries_on_disk != end.entries {
        return Err(Violation::archive(Rule::OneDisk, "one disk", "several"));
    }
    Ok(DirectoryPlace {
        offset: end.directory_offset.into(),
        len: end.directory_len.into(),
        entries: end.entries.into(),
    })
}

/// The place as the ZIP64 end record says it, which ends `before` the locator.
fn zip64_place(
    before: &[u8],
    tail_offset: u64,
    locator: &WideEndLocator,
    end: &EndRecord,
) -> Result<DirectoryPlace, Violation> {
    let refuse = |expected: &dyn fmt::Display, found: &dyn fmt::Display| {
        Err(Violation::archive(Rule::Zip64End, expected, found))
    };
    let record = before.split_last_chunk::<{ WideEndRecord::LEN }>();
    let record = record
        .and_then(|(before, bytes)| Some((before, WideEndRecord::take(&mut bytes.as_slice())?)));
    let Some((before, record)) = record else {
        return refuse(&"a ZIP64 end record right before its locator", &"none");
    };
    let offset = tail_offset.saturating_add(before.len() as u64);
    if locator.offset != offset {
        return refuse(
            &format_args!("a locator that points to {offset}"),
            &locator.offset,
        );
    }
    if record.len_after_this != WIDE_END_LEN_AFTER {
        return refuse(
            &format_args!("{WIDE_END_LEN_AFTER} bytes in the ZIP64 end record"),
            &record.len_after_this,
        );
    }
    if (
        locator.disk,
        locator.disks,
        record.disk,
        record.directory_disk,
    ) != (0, 1, 0, 0)
        || record.entries_on_disk != record.entries
    {
        return Err(Violation::archive(Rule::OneDisk, "one disk", "several"));
    }
    check_agrees(end, &record)?;
    Ok(DirectoryPlace {
        offset: record.directory_offset,
        len: record.directory_len,
        entries: record.entries,
    })
}

/// Checks that each number of the end record is that of the ZIP64 end record, or left to it.
fn check_agrees(end: &EndRecord, record: &WideEndRecord) -> Result<(), Violation> {
    let refuse = |what: &str, narrow: u32, wide: u64| {
        let expected =
            format_args!("{what} {wide} in the end record, or that it leaves it to ZIP64");
        Err(Violation::archive(Rule::Zip64End, expected, narrow))
    };
    for (what, narrow, wide) in [
        ("disk", end.disk, record.disk.into()),
        (
            "disk of the directory",
            end.directory_disk,
            record.directory_disk.into(),
        ),
        (
            "count on this disk",
            end.entries_on_disk,
            record.entries_on_disk,
        ),
        ("count", end.entries, record.entries),
    ] {
        if narrow != SENTINEL_16 && u64::from(narrow) != wide {
            return refuse(what, narrow.into(), wide);
        }
    }
    for (what, narrow, wide) in [
        ("length", end.directory_len, record.directory_len),
        ("offset", end.directory_offset, record.directory_offset),
    ] {
        if narrow != SENTINEL_32 && u64::from(narrow) != wide {
            return refuse(what, narrow, wide);
        }
    }
    Ok(())
}
