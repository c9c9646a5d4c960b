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
    let uses_zip64 = local.extra.get(EXTRA_ZIP64).is_some();
    if profile == Strictness::OwnFormat {
        let wide = if entry.streamed {
            uses_zip64
        } else {
            entry.layout().needs_wide_lengths()
        };
        let mut sealed = Vec::new();
        headers::write_local(&entry.layout(), wide, &mut sealed);
        if bytes.get(..local.len) != Some(&sealed) {
            return Err(entry.refusal(
                Rule::AsSealed,
                "a local header as kindpack writes it",
                "another",
            ));
        }
    }
    let data_offset = entry.header_offset.saturating_add(local.len as u64);
    let descriptor_len = descriptor_len(entry, data_offset, profile, uses_zip64)?;
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
            let expected = format_args!("a local header at {}", entry.header_offset);
            return Err(entry.refusal(Rule::LocalHeader, expected, "none"));
        };
        if take_slice(&mut rest, record.name_len.into()) != Some(entry.name_bytes()) {
            return Err(entry.refusal(
                Rule::LocalName,
                "the same name in the local header",
                "another",
            ));
        }
        let Some(extra) = take_slice(&mut rest, record.extra_len.into()) else {
            let found = format_args!("extra field of {} bytes", record.extra_len);
            return Err(entry.refusal(Rule::NoOverlap, "a local header within its extent", found));
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
        let Some((len, compressed_len)) = local_lengths(&self.record, self.extra.get(EXTRA_ZIP64))
        else {
            return Err(entry.refusal(
                Rule::Zip64Field,
                "a ZIP64 field with the numbers that the local header leaves to it",
                "another, or none",
            ));
        };
        let record = &self.record;
        let method = headers::method_number(entry.method);
        let fixed = [
            ("flags", u64::from(entry.flags), u64::from(record.flags)),
            ("method", method.into(), record.method.into()),
            ("MS-DOS time", entry.dos_time.into(), record.dos_time.into()),
        ];
        let streamed = [
            ("crc32", u64::from(entry.crc32), u64::from(record.crc32)),
            ("compressed length", entry.compressed_len, compressed_len),
            ("length", entry.len, len),
        ];
        let differs = |(_, directory, local): &(&str, u64, u64)| local != directory;
        let is_unknown = |(_, _, local): &(&str, u64, u64)| entry.streamed && *local == 0;
        let wrong = fixed.into_iter().find(differs).or_else(|| {
            streamed
                .into_iter()
                .find(|value| differs(value) && !is_unknown(value))
        });
        match wrong {
            Some((what, directory, local)) => Err(entry.refusal(
                Rule::LocalAgrees,
                format_args!("{what} {directory} in the local header"),
                local,
            )),
            None => Ok(()),
        }
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
    let signed = if uses_zip64 || entry.layout().needs_wide_lengths() {
        WideDescriptor::LEN
    } else {
        Descriptor::LEN
    } as u64;
    let allowed: &[u64] = match profile {
        _ if !entry.streamed => &[0],
        Strictness::OwnFormat => &[signed],
        // The signature came late to the format: some writers leave it out.
        Strictness::AnyZip => &[signed, signed - 4],
    };
    let least = allowed.iter().min().expect("some length is allowed");
    match entry.end_offset.checked_sub(data_end) {
        Some(descriptor_len) if allowed.contains(&descriptor_len) => Ok(descriptor_len),
        Some(behind) if behind >= *least => {
            let expected = format_args!(
                "one of {allowed:?} bytes between its data and {}",
                entry.end_offset
            );
            Err(entry.refusal(Rule::NoGap, expected, behind))
        }
        _ => Err(entry.refusal(
            Rule::NoOverlap,
            format_args!("an entry that ends at {}", entry.end_offset),
            format_args!("data up to {data_end} and a descriptor of at least {least} bytes"),
        )),
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
    let expected = format_args!(
        "crc32 {:08x}, lengths {} and {}",
        entry.crc32, entry.compressed_len, entry.len
    );
    Err(entry.refusal(Rule::Descriptor, expected, "another descriptor"))
}
