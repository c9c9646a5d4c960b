//! What surrounds the data of one entry: its local header and its descriptor, each held against the
//! directory.

use super::directory::DirectoryEntry;
use super::extra::ExtraFields;
use super::headers;
use super::record::{
    Descriptor, EXTRA_ZIP64, LittleEndian, LocalRecord, Record, SENTINEL_32, WideDescriptor,
    take_slice,
};
use super::rule::{Rule, Strictness, Violation};

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
    profile: Strictness,
) -> Result<LocalHeader, Violation> {
    let local = ParsedHeader::parse(entry, bytes)?;
    local.check_values(entry)?;
    if profile == Strictness::OwnFormat {
        local.check_as_sealed(entry, bytes)?;
    }
    let data_offset = entry.header_offset.saturating_add(local.len as u64);
    let descriptor_len = descriptor_len(entry, data_offset, profile, local.uses_zip64())?;
    Ok(LocalHeader {
        data_offset,
        descriptor_len,
    })
}

/// A local header, cut at its borders.
struct ParsedHeader<'a> {
    record: LocalRecord,
    extra: ExtraFields<'a>,
    /// Its bytes, name and extra field included.
    len: usize,
}

impl<'a> ParsedHeader<'a> {
    /// Parses a header that has the entry's name.
    fn parse(entry: &DirectoryEntry, bytes: &'a [u8]) -> Result<Self, Violation> {
        let mut rest = bytes;
        let Some(record) = LocalRecord::take(&mut rest) else {
            let fault = format_args!("there is no local header at {}", entry.header_offset);
            return Err(entry.refusal(Rule::LocalHeader, fault));
        };
        if take_slice(&mut rest, record.name_len.into()) != Some(entry.name_bytes()) {
            let fault = "its local header has another name than the directory";
            return Err(entry.refusal(Rule::LocalName, fault));
        }
        let Some(extra) = take_slice(&mut rest, record.extra_len.into()) else {
            let fault = format_args!(
                "its local header, with an extra field of {} bytes, reaches into the next entry",
                record.extra_len
            );
            return Err(entry.refusal(Rule::NoOverlap, fault));
        };
        let extra = ExtraFields::read(extra, &entry.name)?;
        extra.check_name(entry.name_bytes(), &entry.name)?;
        Ok(ParsedHeader {
            record,
            extra,
            len: bytes.len() - rest.len(),
        })
    }

    /// Checks that each value is that of the directory; of a streamed entry it may be zero.
    fn check_values(&self, entry: &DirectoryEntry) -> Result<(), Violation> {
        let Some(lengths) = local_lengths(&self.record, self.extra.get(EXTRA_ZIP64)) else {
            return Err(entry.refusal(
                Rule::Zip64Field,
                "the ZIP64 field of its local header does not hold exactly the numbers that it should",
            ));
        };
        let is_unknown = |local| entry.streamed && local == 0;
        let fixed = self.fixed_values(entry).into_iter();
        let fixed = fixed.filter(|(_, directory, local)| local != directory);
        let streamed = self.streamed_values(entry, lengths).into_iter();
        let streamed =
            streamed.filter(|(_, directory, local)| local != directory && !is_unknown(*local));
        match fixed.chain(streamed).next() {
            Some(wrong) => Err(disagreement(entry, wrong)),
            None => Ok(()),
        }
    }

    /// Values that every local header has.
    fn fixed_values(&self, entry: &DirectoryEntry) -> [ComparedValue; 3] {
        let record = &self.record;
        let method = headers::method_number(entry.method);
        [
            ("flags", entry.flags.into(), record.flags.into()),
            ("method", method.into(), record.method.into()),
            ("MS-DOS time", entry.dos_time.into(), record.dos_time.into()),
        ]
    }

    /// Values that a streamed entry may leave to its descriptor.
    fn streamed_values(
        &self,
        entry: &DirectoryEntry,
        (len, compressed_len): (u64, u64),
    ) -> [ComparedValue; 3] {
        [
            ("crc32", entry.crc32.into(), self.record.crc32.into()),
            ("compressed length", entry.compressed_len, compressed_len),
            ("length", entry.len, len),
        ]
    }

    fn uses_zip64(&self) -> bool {
        self.extra.get(EXTRA_ZIP64).is_some()
    }

    /// Checks that the header is as kindpack writes it.
    fn check_as_sealed(&self, entry: &DirectoryEntry, bytes: &[u8]) -> Result<(), Violation> {
        let wide = match entry.streamed {
            true => self.uses_zip64(),
            false => entry.layout().needs_wide_lengths(),
        };
        let mut sealed = Vec::new();
        headers::write_local(&entry.layout(), wide, &mut sealed);
        if bytes.get(..self.len) == Some(&sealed) {
            return Ok(());
        }
        let fault = "its local header is not the one that kindpack writes";
        Err(entry.refusal(Rule::AsSealed, fault))
    }
}

/// The length of the descriptor: what is left of the extent after the data.
fn descriptor_len(
    entry: &DirectoryEntry,
    data_offset: u64,
    profile: Strictness,
    uses_zip64: bool,
) -> Result<u64, Violation> {
    let data_end = data_offset.saturating_add(entry.compressed_len);
    let signed = signed_len(entry, uses_zip64);
    let allowed: &[u64] = match profile {
        _ if !entry.streamed => &[0],
        Strictness::OwnFormat => &[signed],
        // The signature came late to the format: some writers leave it out.
        Strictness::AnyZip => &[signed, signed - 4],
    };
    let least = allowed.iter().min().expect("some length is allowed");
    match entry.end_offset.checked_sub(data_end) {
        Some(descriptor_len) if allowed.contains(&descriptor_len) => Ok(descriptor_len),
        Some(behind) if behind >= *least => Err(gap(entry, allowed, behind)),
        _ => Err(overlap(entry, data_end, *least)),
    }
}

/// The length of the entry's descriptor with its signature.
fn signed_len(entry: &DirectoryEntry, uses_zip64: bool) -> u64 {
    if uses_zip64 || entry.layout().needs_wide_lengths() {
        WideDescriptor::LEN as u64
    } else {
        Descriptor::LEN as u64
    }
}

fn gap(entry: &DirectoryEntry, allowed: &[u64], behind: u64) -> Violation {
    let fault = match allowed {
        [0] => format!(
            "{behind} bytes between its data and {} belong to nothing",
            entry.end_offset
        ),
        _ => format!(
            "expected {allowed:?} bytes between its data and {}, found {behind}",
            entry.end_offset
        ),
    };
    entry.refusal(Rule::NoGap, fault)
}

fn overlap(entry: &DirectoryEntry, data_end: u64, least: u64) -> Violation {
    let fault = format_args!(
        "its data end at {data_end}, with a descriptor of at least {least} bytes, and the next one begins at {}",
        entry.end_offset
    );
    entry.refusal(Rule::NoOverlap, fault)
}

/// The name of a value, what it is in the directory, and what in the local header.
type ComparedValue = (&'static str, u64, u64);

fn disagreement(entry: &DirectoryEntry, (what, directory, local): ComparedValue) -> Violation {
    let fault = format_args!("local header: expected {what} {directory}, found {local}");
    entry.refusal(Rule::LocalAgrees, fault)
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

/// Checks the descriptor of `entry`: the [`LocalHeader::descriptor_len`] bytes after its data,
/// none where it has none.
pub fn check_descriptor(
    entry: &DirectoryEntry,
    bytes: &[u8],
    profile: Strictness,
) -> Result<(), Violation> {
    let wide = bytes.len() > Descriptor::LEN;
    let signed = headers::descriptor(entry.crc32, entry.compressed_len, entry.len, wide);
    let fits = if entry.streamed {
        bytes == signed || (profile == Strictness::AnyZip && signed.get(4..) == Some(bytes))
    } else {
        bytes.is_empty()
    };
    if fits {
        return Ok(());
    }
    let fault = format_args!(
        "its descriptor does not say crc32 {:08x}, lengths {} and {}, as the directory does",
        entry.crc32, entry.compressed_len, entry.len
    );
    Err(entry.refusal(Rule::Descriptor, fault))
}
