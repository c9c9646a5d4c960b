//! The directory of a zip, read strictly: each entry, and the extent that it fills.
//!
//! All readers of an accepted archive see the same entries.

use std::fmt;

use super::end::DirectoryPlace;
use super::extra::ExtraFields;
use super::headers;
use super::name::{check_foreign_name, check_name, check_places, decode};
use super::record::{
    CentralRecord, Descriptor, EXTRA_TIME, EXTRA_ZIP64, FLAG_DESCRIPTOR, FLAG_UTF8, LittleEndian,
    LocalRecord, Record, SENTINEL_32, WideDescriptor, take_slice,
};
use super::rule::{Rule, STORED_DESCRIPTOR, Strictness, Violation};
use crate::model::{Method, Timestamp};

/// Bits 1 and 2 tell the level of deflate, which no reader needs.
const ALLOWED_FLAGS: u16 = 0b110 | FLAG_DESCRIPTOR | FLAG_UTF8;

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
    pub(super) flags: u16,
    pub(super) dos_time: u32,
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

    /// Where the data begin in an archive that [`ZipWriter`](super::ZipWriter) wrote: reading the local
    /// header must come to the same.
    pub fn sealed_data_offset(&self) -> u64 {
        let descriptor = match self.streamed {
            false => 0,
            true if headers::needs_zip64(self.len) => WideDescriptor::LEN,
            true => Descriptor::LEN,
        };
        self.end_offset
            .saturating_sub(descriptor as u64)
            .saturating_sub(self.compressed_len)
    }

    pub(super) fn name_bytes(&self) -> &[u8] {
        self.raw_name.as_deref().unwrap_or(self.name.as_bytes())
    }

    pub(super) fn layout(&self) -> headers::EntryHeaders<'_> {
        headers::EntryHeaders {
            name: &self.name,
            method: self.method,
            modified: self.modified,
            crc32: self.crc32,
            compressed_len: self.compressed_len,
            len: self.len,
            streamed: self.streamed,
        }
    }

    /// Checks that its header is as kindpack writes it.
    fn check_as_sealed(&self, header: &[u8]) -> Result<(), Violation> {
        let mut sealed = Vec::new();
        headers::write_central(&self.layout(), self.header_offset, &mut sealed);
        if header == sealed {
            return Ok(());
        }
        let fault = "its header in the directory is not the one that kindpack writes";
        Err(self.refusal(Rule::AsSealed, fault))
    }

    /// The first place where the entry can end.
    fn least_end(&self) -> u64 {
        let descriptor = match self.streamed {
            true => Descriptor::LEN - 4,
            false => 0,
        };
        let around = (LocalRecord::LEN + self.name_bytes().len() + descriptor) as u64;
        let data_end = self.header_offset.saturating_add(around);
        data_end.saturating_add(self.compressed_len)
    }

    /// Makes the extent end there, if the entry has room in it.
    fn end_at(&mut self, end: u64) -> Result<(), Violation> {
        let least_end = self.least_end();
        if least_end > end {
            let fault = format_args!(
                "it begins at {} and ends at {least_end} or later, but the next one begins at {end}",
                self.header_offset
            );
            return Err(self.refusal(Rule::NoOverlap, fault));
        }
        self.end_offset = end;
        Ok(())
    }

    pub(super) fn refusal(&self, rule: Rule, fault: impl fmt::Display) -> Violation {
        Violation::entry(rule, &self.name, fault)
    }
}

/// Reads the directory's bytes into its entries, in its order, and gives each its extent.
///
/// The extents fill the archive up to the directory; whether each entry fills its extent is seen by
/// [`check_local_header`](super::check_local_header).
pub fn parse_directory(
    directory: &[u8],
    place: &DirectoryPlace,
    profile: Strictness,
) -> Result<Vec<DirectoryEntry>, Violation> {
    if directory.len() as u64 != place.len {
        let fault = format_args!(
            "expected a directory of {} bytes, found {}",
            place.len,
            directory.len()
        );
        return Err(Violation::archive(Rule::DirectoryLen, fault));
    }
    let mut rest = directory;
    let mut entries = Vec::new();
    for number in 1..=place.entries {
        entries.push(take_entry(&mut rest, (number, place.entries), profile)?);
    }
    if !rest.is_empty() {
        let fault = format_args!(
            "its directory goes on for {} bytes after the last of {} headers",
            rest.len(),
            place.entries
        );
        return Err(Violation::archive(Rule::DirectoryHeader, fault));
    }
    check_places(entries.iter().map(|entry| &*entry.name))?;
    sort_entries(&mut entries, place.offset, profile)?;
    Ok(entries)
}

/// Takes the entry of the next header.
fn take_entry(
    rest: &mut &[u8],
    (number, count): (u64, u64),
    profile: Strictness,
) -> Result<DirectoryEntry, Violation> {
    let from = *rest;
    let Some(header) = DirectoryHeader::take(rest) else {
        let fault = format_args!("header {number} of {count} in its directory is missing or cut");
        return Err(Violation::archive(Rule::DirectoryHeader, fault));
    };
    let entry = header.entry(profile)?;
    if profile == Strictness::OwnFormat {
        let (header, _) = from.split_at(from.len() - rest.len());
        entry.check_as_sealed(header)?;
    }
    Ok(entry)
}

/// A header of the directory, cut at its borders.
pub(super) struct DirectoryHeader<'a> {
    pub(super) record: CentralRecord,
    pub(super) name: &'a [u8],
    pub(super) extra: &'a [u8],
}

impl<'a> DirectoryHeader<'a> {
    pub(super) fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let record = CentralRecord::take(bytes)?;
        let name = take_slice(bytes, record.name_len.into())?;
        let extra = take_slice(bytes, record.extra_len.into())?;
        take_slice(bytes, record.comment_len.into())?;
        Some(DirectoryHeader {
            record,
            name,
            extra,
        })
    }

    /// The entry that the header describes, its extent still unknown.
    fn entry(&self, profile: Strictness) -> Result<DirectoryEntry, Violation> {
        let record = &self.record;
        let name = self.name(profile)?;
        if record.flags & !ALLOWED_FLAGS != 0 {
            return Err(Violation::entry(
                Rule::Flags,
                &name,
                format_args!("its flags {:#06x} are not all known", record.flags),
            ));
        }
        let method = self.method(&name)?;
        let extra = ExtraFields::read(self.extra, &name)?;
        extra.check_name(self.name, &name)?;
        let [len, compressed_len, header_offset] = self.numbers(&extra, &name)?;
        let entry = DirectoryEntry {
            raw_name: (name.as_bytes() != self.name).then(|| self.name.into()),
            name,
            method,
            streamed: record.flags & FLAG_DESCRIPTOR != 0,
            modified: modified(record.dos_time, extra.get(EXTRA_TIME)),
            crc32: record.crc32,
            compressed_len,
            len,
            header_offset,
            end_offset: header_offset,
            flags: record.flags,
            dos_time: record.dos_time,
        };
        self.check_storage(&entry)?;
        self.check_file_type(&entry)?;
        Ok(entry)
    }

    fn name(&self, profile: Strictness) -> Result<String, Violation> {
        let Some(name) = decode(self.name, self.record.flags & FLAG_UTF8 != 0) else {
            return Err(Violation::entry(
                Rule::NameUtf8,
                &String::from_utf8_lossy(self.name),
                "its name is marked as UTF-8 and is not",
            ));
        };
        match profile {
            Strictness::OwnFormat => check_name(&name)?,
            Strictness::AnyZip => check_foreign_name(&name)?,
        }
        Ok(name)
    }

    fn method(&self, name: &str) -> Result<Method, Violation> {
        let number = self.record.method;
        [Method::Store, Method::Deflate]
            .into_iter()
            .find(|method| headers::method_number(*method) == number)
            .ok_or_else(|| {
                let fault = format_args!(
                    "compression method {number} is not read, only 0 (stored) and 8 (deflate)"
                );
                Violation::entry(Rule::Method, name, fault)
            })
    }

    /// Length, compressed length and offset.
    fn numbers(&self, extra: &ExtraFields<'_>, name: &str) -> Result<[u64; 3], Violation> {
        wide_numbers(&self.record, extra.get(EXTRA_ZIP64)).ok_or_else(|| {
            Violation::entry(
                Rule::Zip64Field,
                name,
                "its ZIP64 field does not hold exactly the numbers that it should",
            )
        })
    }

    /// Checks that the data are where, and as long as, their method allows.
    fn check_storage(&self, entry: &DirectoryEntry) -> Result<(), Violation> {
        if self.record.disk != 0 {
            let fault = format_args!("it begins on disk {}", self.record.disk);
            return Err(entry.refusal(Rule::OneDisk, fault));
        }
        if entry.method == Method::Deflate {
            return Ok(());
        }
        if entry.streamed {
            return Err(entry.refusal(Rule::DescriptorUse, STORED_DESCRIPTOR));
        }
        if entry.compressed_len != entry.len {
            let fault = format_args!(
                "expected {} bytes stored, found {}",
                entry.len, entry.compressed_len
            );
            return Err(entry.refusal(Rule::StoredLen, fault));
        }
        Ok(())
    }

    /// Checks that the entry is a regular file, or a directory without content.
    fn check_file_type(&self, entry: &DirectoryEntry) -> Result<(), Violation> {
        let attributes = self.record.external_attributes;
        let is_directory = entry.is_directory();
        if !file_type_fits(attributes, is_directory) {
            let expected = if is_directory {
                "a directory"
            } else {
                "a regular file"
            };
            let fault = format_args!("expected {expected}, found attributes {attributes:#010x}");
            return Err(entry.refusal(Rule::FileType, fault));
        }
        if is_directory && entry.len != 0 {
            let fault = format_args!("it is a directory and holds {} bytes", entry.len);
            return Err(entry.refusal(Rule::EmptyDirectory, fault));
        }
        Ok(())
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

/// Gives each entry its extent: up to the next entry, or to the directory.
fn sort_entries(
    entries: &mut [DirectoryEntry],
    directory_offset: u64,
    profile: Strictness,
) -> Result<(), Violation> {
    if profile == Strictness::OwnFormat && !entries.is_sorted_by_key(|entry| entry.header_offset) {
        let fault = "its entries are not in the order of the directory";
        return Err(Violation::archive(Rule::EntryOrder, fault));
    }
    let mut from_last: Vec<&mut DirectoryEntry> = entries.iter_mut().collect();
    from_last.sort_by_key(|entry| std::cmp::Reverse(entry.header_offset));
    let mut end = directory_offset;
    for entry in from_last {
        entry.end_at(end)?;
        end = entry.header_offset;
    }
    if end != 0 {
        let fault = format_args!("{end} bytes come before the first entry");
        return Err(Violation::archive(Rule::NoGap, fault));
    }
    Ok(())
}
