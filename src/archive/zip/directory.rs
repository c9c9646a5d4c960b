//! Strict reading of a zip's structure from bytes that the caller fetched; each refusal names its
//! rule.
//!
//! Knows headers and where they must lie, so that all readers of an accepted archive see the same
//! entries. It must not know what the data mean: inflating and checksums stand beside it, pieces
//! and manifest above.

use std::fmt;

use super::headers;
use super::name::{check_foreign_name, check_name, decode};
use super::record::{
    CentralRecord, Descriptor, EXTRA_TIME, EXTRA_UNICODE_PATH, EXTRA_ZIP64, EndRecord,
    FLAG_DESCRIPTOR, FLAG_UTF8, LocalRecord, Number, Record, SENTINEL_16, SENTINEL_32,
    WIDE_END_LEN_AFTER, WideDescriptor, WideEndLocator, WideEndRecord, take_slice,
};
use super::rule::{Rule, Violation};
use crate::model::{Method, Timestamp};

/// The longest directory that is read or written, 1 GiB: it is held in memory.
pub const MAX_DIRECTORY_LEN_BYTES: u64 = 1 << 30;

/// Bits 1 and 2 tell the level of deflate, which no reader needs.
const ALLOWED_FLAGS: u16 = 0b110 | FLAG_DESCRIPTOR | FLAG_UTF8;

/// How much is asked of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// What [`Sealer`](super::Sealer) writes and nothing else: no comment, no directories, entries
    /// in order, every header byte for byte.
    Sealed,
    /// Any zip that all readers understand alike: stored or deflated entries that fill the archive.
    AnyZip,
}

/// Bounds on what the directory may claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one entry, inflated.
    pub max_entry_len: u64,
    /// Bytes of all entries, inflated.
    pub max_total_len: u64,
}

impl Limits {
    /// No bound beyond that of the numbers.
    pub const NONE: Limits = Limits {
        max_entry_len: u64::MAX,
        max_total_len: u64::MAX,
    };
}

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
    profile: Profile,
) -> Result<DirectoryPlace, Violation> {
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
    let Some((before, end)) = fitting.next() else {
        return refuse(
            Rule::EndRecord,
            &"an end record that ends at the end",
            &"none",
        );
    };
    if fitting.next().is_some() {
        return refuse(Rule::OneEndRecord, &"one end record that fits", &"several");
    }
    if profile == Profile::Sealed && end.comment_len != 0 {
        return refuse(
            Rule::NoComment,
            &"no comment",
            &format_args!("one of {} bytes", end.comment_len),
        );
    }

    let tail_offset = archive_len.saturating_sub(tail.len() as u64);
    let locator = before.split_last_chunk::<{ WideEndLocator::LEN }>();
    let locator = locator
        .and_then(|(before, bytes)| Some((before, WideEndLocator::take(&mut bytes.as_slice())?)));
    let (place, records_at) = match locator {
        Some((before, locator)) => (
            wide_place(before, tail_offset, &locator, &end)?,
            before.len().saturating_sub(WideEndRecord::LEN),
        ),
        None => (narrow_place(&end)?, before.len()),
    };

    let (directory, records) = tail.split_at_checked(records_at).unwrap_or_default();
    let directory_end = tail_offset.saturating_add(directory.len() as u64);
    if place.offset.checked_add(place.len) != Some(directory_end) {
        let found = format_args!("offset {} and length {}", place.offset, place.len);
        return refuse(
            Rule::DirectoryPlace,
            &format_args!("a directory that ends at {directory_end}"),
            &found,
        );
    }
    if place.len > MAX_DIRECTORY_LEN_BYTES {
        return refuse(
            Rule::DirectoryLen,
            &format_args!("at most {MAX_DIRECTORY_LEN_BYTES} bytes"),
            &place.len,
        );
    }
    let room = place.len / CentralRecord::LEN as u64;
    if place.entries > room {
        return refuse(
            Rule::DirectoryLen,
            &format_args!("at most {room} entries in {} bytes", place.len),
            &place.entries,
        );
    }
    if profile == Profile::Sealed {
        let mut sealed = Vec::new();
        headers::write_end(place.offset, place.len, place.entries, &mut sealed);
        if records != sealed {
            return refuse(
                Rule::AsSealed,
                &"end records as kindpack writes them",
                &"others",
            );
        }
    }
    Ok(place)
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
fn wide_place(
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
    for (what, narrow, sentinel, wide) in [
        (
            "disk",
            end.disk.into(),
            SENTINEL_16.into(),
            record.disk.into(),
        ),
        (
            "disk of the directory",
            end.directory_disk.into(),
            SENTINEL_16.into(),
            record.directory_disk.into(),
        ),
        (
            "count on this disk",
            end.entries_on_disk.into(),
            SENTINEL_16.into(),
            record.entries,
        ),
        (
            "count",
            end.entries.into(),
            SENTINEL_16.into(),
            record.entries,
        ),
        (
            "length",
            end.directory_len,
            SENTINEL_32,
            record.directory_len,
        ),
        (
            "offset",
            end.directory_offset,
            SENTINEL_32,
            record.directory_offset,
        ),
    ] {
        if narrow != sentinel && u64::from(narrow) != wide {
            return refuse(
                &format_args!("{what} {wide} in the end record, or that it leaves it to ZIP64"),
                &narrow,
            );
        }
    }
    Ok(DirectoryPlace {
        offset: record.directory_offset,
        len: record.directory_len,
        entries: record.entries,
    })
}

/// One entry as the directory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Its name; one that was neither marked as UTF-8 nor is UTF-8 is read as code page 437.
    pub name: String,
    /// The name's bytes, where they are not those of `name`.
    raw_name: Option<Box<[u8]>>,
    /// How its bytes are kept.
    pub method: Method,
    /// Whether CRC-32 and lengths stand in a descriptor behind the data.
    pub streamed: bool,
    /// Its modification time in whole seconds. Where only a civil time is given, it is taken as
    /// UTC.
    pub modified: Option<Timestamp>,
    /// CRC-32 of its bytes.
    pub crc32: u32,
    /// Bytes of its data in the archive.
    pub compressed_len: u64,
    /// Its bytes.
    pub len: u64,
    /// Where its local header begins.
    pub header_offset: u64,
    /// Where its extent ends: header, data and descriptor fill `header_offset..end_offset` and
    /// nothing else lies there.
    pub end_offset: u64,
    flags: u16,
    dos_time: u32,
}

impl DirectoryEntry {
    /// Whether it stands for a directory: its name ends in `/`. Never so in an archive of kindpack.
    pub fn is_directory(&self) -> bool {
        self.name.ends_with('/')
    }

    /// How many bytes from `header_offset` on hold the local header for certain, whatever its extra
    /// field: at most 131,100.
    pub fn header_max_len(&self) -> u64 {
        const LONGEST: usize = LocalRecord::LEN + 2 * u16::MAX as usize;
        self.end_offset
            .saturating_sub(self.header_offset)
            .saturating_sub(self.compressed_len)
            .min(LONGEST as u64)
    }

    /// Where the data begin in an archive that [`Sealer`](super::Sealer) wrote: reading the local
    /// header must come to the same.
    pub fn sealed_data_offset(&self) -> u64 {
        let descriptor = match self.streamed {
            false => 0,
            true if headers::is_wide(self.len) => WideDescriptor::LEN,
            true => Descriptor::LEN,
        };
        self.end_offset
            .saturating_sub(descriptor as u64)
            .saturating_sub(self.compressed_len)
    }

    fn name_bytes(&self) -> &[u8] {
        self.raw_name.as_deref().unwrap_or(self.name.as_bytes())
    }

    fn layout(&self) -> headers::Entry<'_> {
        headers::Entry {
            name: &self.name,
            method: self.method,
            modified: self.modified,
            crc32: self.crc32,
            compressed_len: self.compressed_len,
            len: self.len,
            streamed: self.streamed,
        }
    }

    fn refusal(
        &self,
        rule: Rule,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Violation {
        Violation::entry(rule, &self.name, expected, found)
    }
}

/// Reads the directory's bytes into its entries, in its order, and gives each its extent.
///
/// The extents fill the archive up to the directory; whether each entry fills its extent is seen by
/// [`check_local_header`].
pub fn parse_directory(
    directory: &[u8],
    place: &DirectoryPlace,
    profile: Profile,
    limits: &Limits,
) -> Result<Vec<DirectoryEntry>, Violation> {
    if directory.len() as u64 != place.len {
        return Err(Violation::archive(
            Rule::DirectoryLen,
            format_args!("{} bytes of directory", place.len),
            directory.len(),
        ));
    }
    let mut entries = Vec::new();
    let mut total_len = 0_u64;
    let mut rest = directory;
    for number in 1..=place.entries {
        let from = rest;
        let Some(header) = Header::take(&mut rest) else {
            let expected = format_args!("header {number} of {} in the directory", place.entries);
            return Err(Violation::archive(
                Rule::DirectoryHeader,
                expected,
                "something else, or its end",
            ));
        };
        let entry = header.entry(profile)?;
        if profile == Profile::Sealed {
            let mut sealed = Vec::new();
            headers::write_central(&entry.layout(), entry.header_offset, &mut sealed);
            if !from.starts_with(&sealed) || from.len() - rest.len() != sealed.len() {
                return Err(entry.refusal(
                    Rule::AsSealed,
                    "a directory header as kindpack writes it",
                    "another",
                ));
            }
        }
        if entry.len > limits.max_entry_len {
            return Err(entry.refusal(
                Rule::Limit,
                format_args!("at most {} bytes", limits.max_entry_len),
                entry.len,
            ));
        }
        total_len = total_len.saturating_add(entry.len);
        if total_len > limits.max_total_len {
            return Err(entry.refusal(
                Rule::Limit,
                format_args!("at most {} bytes up to here", limits.max_total_len),
                total_len,
            ));
        }
        entries.push(entry);
    }
    if !rest.is_empty() {
        let expected = format_args!("nothing behind the last of {} headers", place.entries);
        return Err(Violation::archive(
            Rule::DirectoryHeader,
            expected,
            format_args!("{} bytes", rest.len()),
        ));
    }
    check_unique(&entries)?;
    lay_out(&mut entries, place.offset, profile)?;
    Ok(entries)
}

/// A header of the directory, cut at its borders.
struct Header<'a> {
    record: CentralRecord,
    name: &'a [u8],
    extra: &'a [u8],
}

impl<'a> Header<'a> {
    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let record = CentralRecord::take(bytes)?;
        let name = take_slice(bytes, record.name_len.into())?;
        let extra = take_slice(bytes, record.extra_len.into())?;
        take_slice(bytes, record.comment_len.into())?;
        Some(Header {
            record,
            name,
            extra,
        })
    }

    /// The entry that the header tells of, its extent still unknown.
    fn entry(&self, profile: Profile) -> Result<DirectoryEntry, Violation> {
        let record = &self.record;
        let Some(name) = decode(self.name, record.flags & FLAG_UTF8 != 0) else {
            return Err(Violation::entry(
                Rule::NameUtf8,
                &String::from_utf8_lossy(self.name),
                "UTF-8",
                "other bytes",
            ));
        };
        match profile {
            Profile::Sealed => check_name(&name)?,
            Profile::AnyZip => check_foreign_name(&name)?,
        }
        let refuse = |rule, expected: &dyn fmt::Display, found: &dyn fmt::Display| {
            Err(Violation::entry(rule, &name, expected, found))
        };
        if record.flags & !ALLOWED_FLAGS != 0 {
            return refuse(
                Rule::Flags,
                &"flags 1, 2, 3 and 11 at most",
                &format_args!("{:#06x}", record.flags),
            );
        }
        let Some(method) = [Method::Store, Method::Deflate]
            .into_iter()
            .find(|method| headers::method_number(*method) == record.method)
        else {
            return refuse(
                Rule::Method,
                &"method 0 or 8",
                &format_args!("method {}", record.method),
            );
        };
        let extra = ExtraFields::read(self.extra, &name)?;
        if let Some(unicode) = extra.get(EXTRA_UNICODE_PATH)
            && unicode.get(5..) != Some(self.name)
        {
            return refuse(
                Rule::OneName,
                &"the same name in the Unicode path field",
                &"another",
            );
        }
        let Some([len, compressed_len, header_offset]) =
            wide_numbers(record, extra.get(EXTRA_ZIP64))
        else {
            return refuse(
                Rule::Zip64Field,
                &"a ZIP64 field with exactly the numbers that are left to it",
                &"another, or none",
            );
        };
        if record.disk != 0 {
            return refuse(Rule::OneDisk, &"disk 0", &record.disk);
        }
        let streamed = record.flags & FLAG_DESCRIPTOR != 0;
        if method == Method::Store && streamed {
            return refuse(
                Rule::DescriptorUse,
                &"no descriptor behind a stored entry",
                &"one",
            );
        }
        if method == Method::Store && compressed_len != len {
            return refuse(
                Rule::StoredLen,
                &format_args!("{len} bytes stored"),
                &compressed_len,
            );
        }
        let is_directory = name.ends_with('/');
        if !file_type_fits(record.external_attributes, is_directory) {
            let expected = if is_directory {
                "a directory"
            } else {
                "a regular file"
            };
            return refuse(
                Rule::FileType,
                &expected,
                &format_args!("attributes {:#010x}", record.external_attributes),
            );
        }
        if is_directory && len != 0 {
            return refuse(
                Rule::EmptyDirectory,
                &"no content",
                &format_args!("{len} bytes"),
            );
        }
        let raw_name = (name.as_bytes() != self.name).then(|| self.name.into());
        let modified = modified(record.dos_time, extra.get(EXTRA_TIME));
        let (flags, dos_time, crc32) = (record.flags, record.dos_time, record.crc32);
        let end_offset = header_offset;
        Ok(DirectoryEntry {
            name,
            raw_name,
            method,
            streamed,
            modified,
            crc32,
            compressed_len,
            len,
            header_offset,
            end_offset,
            flags,
            dos_time,
        })
    }
}

/// Length, compressed length and offset, each from the ZIP64 field where the record leaves it to
/// that; the field holds nothing else.
fn wide_numbers(record: &CentralRecord, field: Option<&[u8]>) -> Option<[u64; 3]> {
    let mut field = field.unwrap_or_default();
    let mut number = |narrow: u32| {
        if narrow == SENTINEL_32 {
            u64::take(&mut field)
        } else {
            Some(narrow.into())
        }
    };
    let numbers = [
        number(record.len)?,
        number(record.compressed_len)?,
        number(record.header_offset)?,
    ];
    field.is_empty().then_some(numbers)
}

/// Whether the attributes, MS-DOS (lower half) and Unix (upper half), agree with the name: no link,
/// no device.
fn file_type_fits(external_attributes: u32, is_directory: bool) -> bool {
    const DOS_DIRECTORY: u32 = 0x10;
    match external_attributes >> 28 {
        0 => is_directory || external_attributes & DOS_DIRECTORY == 0,
        0o04 => is_directory,
        0o10 => !is_directory && external_attributes & DOS_DIRECTORY == 0,
        _ => false,
    }
}

fn modified(dos_time: u32, field: Option<&[u8]>) -> Option<Timestamp> {
    let seconds = match field {
        Some([flags, a, b, c, d, ..]) if flags & 1 != 0 => {
            Some(i32::from_le_bytes([*a, *b, *c, *d]))
        }
        _ => None,
    };
    match seconds {
        Some(seconds) => Timestamp::from_micros(i64::from(seconds) * 1_000_000),
        // What the writer puts where no time is known.
        None if dos_time == headers::to_dos(None) => None,
        None => headers::from_dos(dos_time),
    }
}

/// The parts of an extra field.
struct ExtraFields<'a>(Vec<(u16, &'a [u8])>);

impl<'a> ExtraFields<'a> {
    fn read(mut bytes: &'a [u8], entry: &str) -> Result<Self, Violation> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let Some(field) = Self::take(&mut bytes) else {
                let found = format_args!("{} bytes that are none", bytes.len());
                return Err(Violation::entry(
                    Rule::ExtraField,
                    entry,
                    "a whole extra field",
                    found,
                ));
            };
            fields.push(field);
        }
        fields.sort_by_key(|(id, _)| *id);
        match fields.windows(2).find_map(|pair| {
            if let [(a, _), (b, _)] = pair {
                (a == b).then_some(*a)
            } else {
                None
            }
        }) {
            Some(id) => Err(Violation::entry(
                Rule::ExtraField,
                entry,
                format_args!("extra field {id:#06x} once"),
                "it twice",
            )),
            None => Ok(ExtraFields(fields)),
        }
    }

    fn take(bytes: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
        let mut rest = *bytes;
        let id = u16::take(&mut rest)?;
        let len = u16::take(&mut rest)?;
        let data = take_slice(&mut rest, len.into())?;
        *bytes = rest;
        Some((id, data))
    }

    fn get(&self, id: u16) -> Option<&'a [u8]> {
        self.0
            .iter()
            .find(|(other, _)| *other == id)
            .map(|(_, data)| *data)
    }
}

/// Checks that no two entries have one name; `a` and `a/` would be one place on a disk.
fn check_unique(entries: &[DirectoryEntry]) -> Result<(), Violation> {
    let mut names: Vec<&str> = entries
        .iter()
        .map(|entry| entry.name.strip_suffix('/').unwrap_or(&entry.name))
        .collect();
    names.sort_unstable();
    match names.windows(2).find_map(|pair| {
        if let [a, b] = pair {
            (a == b).then_some(*a)
        } else {
            None
        }
    }) {
        Some(name) => Err(Violation::entry(
            Rule::NameUnique,
            name,
            "the name once",
            "it twice",
        )),
        None => Ok(()),
    }
}

/// Gives each entry its extent: up to the next entry, or to the directory.
fn lay_out(
    entries: &mut [DirectoryEntry],
    directory_offset: u64,
    profile: Profile,
) -> Result<(), Violation> {
    if profile == Profile::Sealed && !entries.is_sorted_by_key(|entry| entry.header_offset) {
        return Err(Violation::archive(
            Rule::EntryOrder,
            "entries in the order of the directory",
            "another order",
        ));
    }
    let mut from_last: Vec<&mut DirectoryEntry> = entries.iter_mut().collect();
    from_last.sort_by_key(|entry| std::cmp::Reverse(entry.header_offset));
    let mut end = directory_offset;
    for entry in from_last {
        let descriptor = if entry.streamed {
            Descriptor::LEN - 4
        } else {
            0
        };
        let around = (LocalRecord::LEN + entry.name_bytes().len() + descriptor) as u64;
        let least_end = entry
            .header_offset
            .saturating_add(around)
            .saturating_add(entry.compressed_len);
        if least_end > end {
            let expected = format_args!("an entry at {} that ends by {end}", entry.header_offset);
            return Err(entry.refusal(
                Rule::NoOverlap,
                expected,
                format_args!("one that ends at {least_end} or later"),
            ));
        }
        entry.end_offset = end;
        end = entry.header_offset;
    }
    if end != 0 {
        return Err(Violation::archive(
            Rule::NoGap,
            "an entry at offset 0",
            format_args!("{end} bytes before the first"),
        ));
    }
    Ok(())
}

/// What the local header of an entry adds to the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalHeader {
    /// Where the entry's data begin in the archive.
    pub data_offset: u64,
    /// Bytes of the descriptor behind the data: 0 where there is none.
    pub descriptor_len: u64,
}

/// Checks the local header of `entry` against the directory: the same values, and header, data and
/// descriptor fill the extent.
///
/// `bytes` begins at `entry.header_offset` and holds at least [`DirectoryEntry::header_max_len`]
/// bytes; more do no harm.
pub fn check_local_header(
    entry: &DirectoryEntry,
    bytes: &[u8],
    profile: Profile,
) -> Result<LocalHeader, Violation> {
    let mut rest = bytes;
    let Some(local) = LocalRecord::take(&mut rest) else {
        return Err(entry.refusal(
            Rule::LocalHeader,
            format_args!("a local header at {}", entry.header_offset),
            "none",
        ));
    };
    if take_slice(&mut rest, local.name_len.into()) != Some(entry.name_bytes()) {
        return Err(entry.refusal(
            Rule::LocalName,
            "the same name in the local header",
            "another",
        ));
    }
    let Some(extra) = take_slice(&mut rest, local.extra_len.into()) else {
        let found = format_args!("extra field of {} bytes", local.extra_len);
        return Err(entry.refusal(Rule::NoOverlap, "a local header within its extent", found));
    };
    let extra = ExtraFields::read(extra, &entry.name)?;
    if let Some(unicode) = extra.get(EXTRA_UNICODE_PATH)
        && unicode.get(5..) != Some(entry.name_bytes())
    {
        return Err(entry.refusal(
            Rule::OneName,
            "the same name in the Unicode path field",
            "another",
        ));
    }
    let wide_field = extra.get(EXTRA_ZIP64);
    let Some((len, compressed_len)) = local_lengths(&local, wide_field) else {
        return Err(entry.refusal(
            Rule::Zip64Field,
            "a ZIP64 field with the numbers that the local header leaves to it",
            "another, or none",
        ));
    };
    let method = headers::method_number(entry.method);
    for (what, directory, local, may_be_zero) in [
        (
            "flags",
            u64::from(entry.flags),
            u64::from(local.flags),
            false,
        ),
        ("method", method.into(), local.method.into(), false),
        (
            "MS-DOS time",
            entry.dos_time.into(),
            local.dos_time.into(),
            false,
        ),
        (
            "crc32",
            entry.crc32.into(),
            local.crc32.into(),
            entry.streamed,
        ),
        (
            "compressed length",
            entry.compressed_len,
            compressed_len,
            entry.streamed,
        ),
        ("length", entry.len, len, entry.streamed),
    ] {
        if local != directory && !(may_be_zero && local == 0) {
            return Err(entry.refusal(
                Rule::LocalAgrees,
                format_args!("{what} {directory} in the local header"),
                local,
            ));
        }
    }
    let header_len = bytes.len() - rest.len();
    if profile == Profile::Sealed {
        let wide = if entry.streamed {
            wide_field.is_some()
        } else {
            entry.layout().needs_wide_lengths()
        };
        let mut sealed = Vec::new();
        headers::write_local(&entry.layout(), wide, &mut sealed);
        if bytes.get(..header_len) != Some(&sealed) {
            return Err(entry.refusal(
                Rule::AsSealed,
                "a local header as kindpack writes it",
                "another",
            ));
        }
    }

    let data_offset = entry.header_offset.saturating_add(header_len as u64);
    let data_end = data_offset.saturating_add(entry.compressed_len);
    let signed = if wide_field.is_some() || entry.layout().needs_wide_lengths() {
        WideDescriptor::LEN
    } else {
        Descriptor::LEN
    } as u64;
    let allowed: &[u64] = match profile {
        _ if !entry.streamed => &[0],
        Profile::Sealed => &[signed],
        // The signature came late to the format: some writers leave it out.
        Profile::AnyZip => &[signed, signed - 4],
    };
    let least = allowed.iter().min().copied().unwrap_or_default();
    match entry.end_offset.checked_sub(data_end) {
        Some(descriptor_len) if allowed.contains(&descriptor_len) => Ok(LocalHeader {
            data_offset,
            descriptor_len,
        }),
        Some(behind) if behind >= least => {
            let expected = format_args!(
                "one of {allowed:?} bytes between its data and {}",
                entry.end_offset
            );
            Err(entry.refusal(Rule::NoGap, expected, behind))
        }
        _ => {
            let found =
                format_args!("data up to {data_end} and a descriptor of at least {least} bytes");
            Err(entry.refusal(
                Rule::NoOverlap,
                format_args!("an entry that ends at {}", entry.end_offset),
                found,
            ))
        }
    }
}

/// Length and compressed length of a local header. The format wants both in a ZIP64 field; some
/// writers put only those that are needed.
fn local_lengths(local: &LocalRecord, field: Option<&[u8]>) -> Option<(u64, u64)> {
    let mut field = field.unwrap_or_default();
    let has_both = field.len() == 16;
    let mut number = |narrow: u32| match narrow {
        SENTINEL_32 => u64::take(&mut field),
        _ if has_both => u64::take(&mut field).filter(|wide| *wide == u64::from(narrow)),
        _ => Some(narrow.into()),
    };
    let lengths = (number(local.len)?, number(local.compressed_len)?);
    field.is_empty().then_some(lengths)
}

/// Checks the descriptor of `entry`: the [`LocalHeader::descriptor_len`] bytes behind its data,
/// none where it has none.
pub fn check_descriptor(
    entry: &DirectoryEntry,
    bytes: &[u8],
    profile: Profile,
) -> Result<(), Violation> {
    let wide = bytes.len() > Descriptor::LEN;
    let signed = headers::descriptor(entry.crc32, entry.compressed_len, entry.len, wide);
    let fits = if entry.streamed {
        bytes == signed || (profile == Profile::AnyZip && signed.get(4..) == Some(bytes))
    } else {
        bytes.is_empty()
    };
    if fits {
        return Ok(());
    }
    let expected = format_args!(
        "crc32 {:08x}, lengths {} and {}",
        entry.crc32, entry.compressed_len, entry.len
    );
    Err(entry.refusal(Rule::Descriptor, expected, "another descriptor"))
}

#[cfg(test)]
mod tests;
