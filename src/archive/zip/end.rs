//! Finds the directory of a zip from its last bytes: end record, and ZIP64 end record where there
//! is one.

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
    let is_own = profile == Strictness::OwnFormat;
    if is_own && end.comment_len != 0 {
        let fault = format_args!("it has a comment of {} bytes", end.comment_len);
        return Err(Violation::archive(Rule::NoComment, fault));
    }
    let tail_offset = archive_len - tail.len() as u64;
    let (place, records_at) = read_place(before, tail_offset, &end)?;
    let (directory, records) = tail.split_at(records_at);
    check_bounds(&place, tail_offset.saturating_add(directory.len() as u64))?;
    if is_own {
        check_as_sealed(&place, records)?;
    }
    Ok(place)
}

/// The place that the end records give, and where in the tail they begin.
fn read_place(
    before: &[u8],
    tail_offset: u64,
    end: &EndRecord,
) -> Result<(DirectoryPlace, usize), Violation> {
    match take_last::<WideEndLocator, { WideEndLocator::LEN }>(before) {
        Some((before, locator)) => {
            let place = zip64_place(before, tail_offset, &locator, end)?;
            Ok((place, before.len() - WideEndRecord::LEN))
        }
        None => Ok((narrow_place(end)?, before.len())),
    }
}

/// A record at the end of bytes, and what comes before it.
fn take_last<R: Record, const LEN: usize>(bytes: &[u8]) -> Option<(&[u8], R)> {
    let (before, record) = bytes.split_last_chunk::<LEN>()?;
    Some((before, R::take(&mut record.as_slice())?))
}

/// Checks that the end records are as kindpack writes them.
fn check_as_sealed(place: &DirectoryPlace, records: &[u8]) -> Result<(), Violation> {
    let mut sealed = Vec::new();
    headers::write_end(place.offset, place.len, place.entries, &mut sealed);
    if records == sealed {
        return Ok(());
    }
    let fault = "its end records are not the ones that kindpack writes";
    Err(Violation::archive(Rule::AsSealed, fault))
}

/// Finds the only end record that fits the end of the archive, and what comes before it.
fn find_end_record(tail: &[u8], archive_len: u64) -> Result<(&[u8], EndRecord), Violation> {
    if tail.len() as u64 != tail_len(archive_len) {
        let fault = format_args!(
            "expected its last {} bytes, found {}",
            tail_len(archive_len),
            tail.len()
        );
        return Err(Violation::archive(Rule::EndRecord, fault));
    }
    let mut fitting = (0..tail.len()).filter_map(|start| fitting_record(tail, start));
    let Some(found) = fitting.next() else {
        let fault = "it does not end with an end record";
        return Err(Violation::archive(Rule::EndRecord, fault));
    };
    if fitting.next().is_some() {
        let fault = "more than one end record fits its end";
        return Err(Violation::archive(Rule::OneEndRecord, fault));
    }
    Ok(found)
}

/// The end record at `start` and what comes before it, where its comment ends with the archive.
fn fitting_record(tail: &[u8], start: usize) -> Option<(&[u8], EndRecord)> {
    let (before, mut rest) = tail.split_at_checked(start)?;
    let end = EndRecord::take(&mut rest)?;
    (rest.len() == usize::from(end.comment_len)).then_some((before, end))
}

/// Checks that a directory ends at `directory_end`, and has room for its entries.
fn check_bounds(place: &DirectoryPlace, directory_end: u64) -> Result<(), Violation> {
    if place.offset.checked_add(place.len) != Some(directory_end) {
        return Err(Violation::archive(
            Rule::DirectoryPlace,
            format_args!(
                "expected a directory that ends at {directory_end}, found offset {} and length {}",
                place.offset, place.len
            ),
        ));
    }
    if place.len > MAX_DIRECTORY_LEN_BYTES {
        return Err(Violation::archive(
            Rule::DirectoryLen,
            format_args!(
                "its directory has {} bytes, more than {MAX_DIRECTORY_LEN_BYTES}",
                place.len
            ),
        ));
    }
    let room = place.len / CentralRecord::LEN as u64;
    if place.entries > room {
        return Err(Violation::archive(
            Rule::DirectoryLen,
            format_args!(
                "expected at most {room} entries in a directory of {} bytes, found {}",
                place.len, place.entries
            ),
        ));
    }
    Ok(())
}

/// What an archive does that is split.
const SEVERAL_DISKS: &str = "it is split over several disks";

/// The place as an end record without ZIP64 says it.
fn narrow_place(end: &EndRecord) -> Result<DirectoryPlace, Violation> {
    if end.entries == SENTINEL_16
        || end.directory_len == SENTINEL_32
        || end.directory_offset == SENTINEL_32
    {
        let fault = "the end record points to a ZIP64 end record, which is missing";
        return Err(Violation::archive(Rule::Zip64End, fault));
    }
    if (end.disk, end.directory_disk) != (0, 0) || end.entries_on_disk != end.entries {
        return Err(Violation::archive(Rule::OneDisk, SEVERAL_DISKS));
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
    let record = take_last::<WideEndRecord, { WideEndRecord::LEN }>(before);
    let Some((before, record)) = record else {
        let fault = "the ZIP64 end record is not right before its locator";
        return Err(Violation::archive(Rule::Zip64End, fault));
    };
    check_locator(locator, tail_offset.saturating_add(before.len() as u64))?;
    check_wide_record(locator, &record)?;
    check_agrees(end, &record)?;
    Ok(DirectoryPlace {
        offset: record.directory_offset,
        len: record.directory_len,
        entries: record.entries,
    })
}

/// Checks that the locator points to the ZIP64 end record.
fn check_locator(locator: &WideEndLocator, offset: u64) -> Result<(), Violation> {
    if locator.offset == offset {
        return Ok(());
    }
    let fault = format_args!(
        "expected a ZIP64 locator that points to {offset}, found {}",
        locator.offset
    );
    Err(Violation::archive(Rule::Zip64End, fault))
}

/// Checks the length of the ZIP64 end record, and that all is on one disk.
fn check_wide_record(locator: &WideEndLocator, record: &WideEndRecord) -> Result<(), Violation> {
    let len = record.len_after_this;
    if len != WIDE_END_LEN_AFTER {
        let fault =
            format_args!("expected a ZIP64 end record of {WIDE_END_LEN_AFTER} bytes, found {len}");
        return Err(Violation::archive(Rule::Zip64End, fault));
    }
    let of_locator = (locator.disk, locator.disks) == (0, 1);
    let of_record = (record.disk, record.directory_disk) == (0, 0);
    if !of_locator || !of_record || record.entries_on_disk != record.entries {
        return Err(Violation::archive(Rule::OneDisk, SEVERAL_DISKS));
    }
    Ok(())
}

/// Checks that each number of the end record is that of the ZIP64 end record, or left to it.
fn check_agrees(end: &EndRecord, record: &WideEndRecord) -> Result<(), Violation> {
    let directory_disk = (end.directory_disk, record.directory_disk.into());
    check_short("disk", (end.disk, record.disk.into()))?;
    check_short("disk of the directory", directory_disk)?;
    let on_disk = (end.entries_on_disk, record.entries_on_disk);
    check_short("count on this disk", on_disk)?;
    check_short("count", (end.entries, record.entries))?;
    check_long("length", (end.directory_len, record.directory_len))?;
    check_long("offset", (end.directory_offset, record.directory_offset))
}

/// Checks a number of 16 bits against that of the ZIP64 end record.
fn check_short(what: &str, (narrow, wide): (u16, u64)) -> Result<(), Violation> {
    match narrow {
        SENTINEL_16 => Ok(()),
        narrow => check_equal(what, narrow.into(), wide),
    }
}

/// Checks a number of 32 bits against that of the ZIP64 end record.
fn check_long(what: &str, (narrow, wide): (u32, u64)) -> Result<(), Violation> {
    match narrow {
        SENTINEL_32 => Ok(()),
        narrow => check_equal(what, narrow, wide),
    }
}

fn check_equal(what: &str, narrow: u32, wide: u64) -> Result<(), Violation> {
    if u64::from(narrow) == wide {
        return Ok(());
    }
    let fault = format_args!("end record: expected {what} {wide} as in ZIP64, found {narrow}");
    Err(Violation::archive(Rule::Zip64End, fault))
}
