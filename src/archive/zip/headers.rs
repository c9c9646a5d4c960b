//! The headers as kindpack writes them: the writer appends them, and the strict reader compares
//! what it finds with them.
//!
//! A pure function of an entry's values, so that no archive has two spellings. Knows neither order
//! nor place of entries.

use jiff::civil::DateTime;

use super::record::{
    CentralRecord, Descriptor, EXTRA_TIME, EXTRA_ZIP64, EndRecord, FLAG_DESCRIPTOR, FLAG_UTF8,
    LocalRecord, Record, SENTINEL_16, SENTINEL_32, WIDE_END_LEN_AFTER, WideDescriptor,
    WideEndLocator, WideEndRecord,
};
use crate::model::{Method, Timestamp};

/// Made on Unix, by a writer of version 4.5 of the format.
const MADE_BY: u16 = (3 << 8) | VERSION_WIDE;
/// Version 2.0 suffices to read deflate.
const VERSION: u16 = 20;
/// Version 4.5 is needed to read ZIP64.
const VERSION_WIDE: u16 = 45;
/// A regular file, mode 0644.
const EXTERNAL_ATTRIBUTES: u32 = 0o100_644 << 16;

/// What the headers of one entry say.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryHeaders<'a> {
    pub(super) name: &'a str,
    pub(super) method: Method,
    pub(super) modified: Option<Timestamp>,
    pub(super) crc32: u32,
    pub(super) compressed_len: u64,
    pub(super) len: u64,
    /// Whether CRC-32 and lengths stand behind the data.
    pub(super) streamed: bool,
}

impl EntryHeaders<'_> {
    fn flags(&self) -> u16 {
        let utf8 = if self.name.is_ascii() { 0 } else { FLAG_UTF8 };
        if self.streamed {
            utf8 | FLAG_DESCRIPTOR
        } else {
            utf8
        }
    }

    /// Whether the local part must have 64-bit lengths. A streamed entry may have them without
    /// need, as it is begun before its length is known.
    pub(super) fn needs_wide_lengths(&self) -> bool {
        !fits_32(self.len) || !fits_32(self.compressed_len)
    }

    /// The length of the name as a header says it; a longer one is refused before it comes here.
    fn name_len(&self) -> u16 {
        u16::try_from(self.name.len()).expect("a name is checked before it is written")
    }
}

/// From this length on a streamed entry gets 64-bit lengths: its data may grow a little when they
/// are deflated, and must not grow past 4 GiB.
const WIDE_HINT: u64 = 0xf000_0000;

/// Whether a streamed entry of that length gets 64-bit lengths.
pub(super) fn needs_zip64(len_hint: u64) -> bool {
    len_hint >= WIDE_HINT
}

/// Whether a number can stand in a 32-bit field, where the highest one means "see ZIP64".
pub(super) fn fits_32(number: u64) -> bool {
    number < u64::from(SENTINEL_32)
}

fn low_or_sentinel(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(SENTINEL_32)
}

/// The method's number in headers.
pub(super) fn method_number(method: Method) -> u16 {
    match method {
        Method::Store => 0,
        Method::Deflate => 8,
    }
}

fn push_extra(out: &mut Vec<u8>, id: u16, data: &[u8]) {
    out.extend_from_slice(&id.to_le_bytes());
    let len = u16::try_from(data.len()).expect("an extra field has a few numbers");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(data);
}

/// The extra field 0x5455: bit 0 says that a modification time follows. Left out where 32 bits
/// cannot hold it.
fn push_time(out: &mut Vec<u8>, modified: Option<Timestamp>) {
    // Some readers take the field as unsigned, so a time before 1970 would move to 2106.
    let Some(seconds) = modified
        .and_then(|time| u32::try_from(time.seconds()).ok())
        .filter(|seconds| *seconds <= i32::MAX as u32)
    else {
        return;
    };
    let [a, b, c, d] = seconds.to_le_bytes();
    push_extra(out, EXTRA_TIME, &[1, a, b, c, d]);
}

/// Appends local header, name and extra field. `wide`: with 64-bit lengths. It does not depend on
/// where the entry lies.
pub(super) fn write_local(entry: &EntryHeaders<'_>, wide: bool, out: &mut Vec<u8>) {
    // While lengths are unknown they are zero, in the ZIP64 field too.
    let (crc32, compressed_len, len) = if entry.streamed {
        (0, 0, 0)
    } else {
        (entry.crc32, entry.compressed_len, entry.len)
    };
    let mut extra = Vec::new();
    if wide {
        push_extra(
            &mut extra,
            EXTRA_ZIP64,
            &[len.to_le_bytes(), compressed_len.to_le_bytes()].concat(),
        );
    }
    push_time(&mut extra, entry.modified);
    let record = LocalRecord {
        version_needed: if wide { VERSION_WIDE } else { VERSION },
        flags: entry.flags(),
        method: method_number(entry.method),
        dos_time: to_dos(entry.modified),
        crc32,
        compressed_len: if wide {
            SENTINEL_32
        } else {
            low_or_sentinel(compressed_len)
        },
        len: if wide {
            SENTINEL_32
        } else {
            low_or_sentinel(len)
        },
        name_len: entry.name_len(),
        extra_len: u16::try_from(extra.len()).expect("an extra field has a few numbers"),
    };
    record.write(out);
    out.extend_from_slice(entry.name.as_bytes());
    out.extend_from_slice(&extra);
}

/// Appends the directory's header, name and extra field.
pub(super) fn write_central(entry: &EntryHeaders<'_>, header_offset: u64, out: &mut Vec<u8>) {
    let mut wide = Vec::new();
    for number in [entry.len, entry.compressed_len, header_offset] {
        if !fits_32(number) {
            wide.extend_from_slice(&number.to_le_bytes());
        }
    }
    let mut extra = Vec::new();
    if !wide.is_empty() {
        push_extra(&mut extra, EXTRA_ZIP64, &wide);
    }
    push_time(&mut extra, entry.modified);
    let record = CentralRecord {
        made_by: MADE_BY,
        version_needed: if wide.is_empty() {
            VERSION
        } else {
            VERSION_WIDE
        },
        flags: entry.flags(),
        method: method_number(entry.method),
        dos_time: to_dos(entry.modified),
        crc32: entry.crc32,
        compressed_len: low_or_sentinel(entry.compressed_len),
        len: low_or_sentinel(entry.len),
        name_len: entry.name_len(),
        extra_len: u16::try_from(extra.len()).expect("an extra field has a few numbers"),
        comment_len: 0,
        disk: 0,
        internal_attributes: 0,
        external_attributes: EXTERNAL_ATTRIBUTES,
        header_offset: low_or_sentinel(header_offset),
    };
    record.write(out);
    out.extend_from_slice(entry.name.as_bytes());
    out.extend_from_slice(&extra);
}

/// The descriptor, with its signature. `wide`: with 64-bit lengths; a number that does not fit the
/// narrow form becomes the sentinel there.
pub(super) fn descriptor(crc32: u32, compressed_len: u64, len: u64, wide: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(WideDescriptor::LEN);
    if wide {
        WideDescriptor {
            crc32,
            compressed_len,
            len,
        }
        .write(&mut out);
    } else {
        Descriptor {
            crc32,
            compressed_len: low_or_sentinel(compressed_len),
            len: low_or_sentinel(len),
        }
        .write(&mut out);
    }
    out
}

/// Appends the end record, and the ZIP64 ones before it where a number needs them.
pub(super) fn write_end(
    directory_offset: u64,
    directory_len: u64,
    entries: u64,
    out: &mut Vec<u8>,
) {
    let narrow_entries = u16::try_from(entries).unwrap_or(SENTINEL_16);
    if narrow_entries == SENTINEL_16 || !fits_32(directory_offset) || !fits_32(directory_len) {
        let wide = WideEndRecord {
            len_after_this: WIDE_END_LEN_AFTER,
            made_by: MADE_BY,
            version_needed: VERSION_WIDE,
            disk: 0,
            directory_disk: 0,
            entries_on_disk: entries,
            entries,
            directory_len,
            directory_offset,
        };
        wide.write(out);
        // Both come from the writer's own counts; the directory's bound keeps the sum far below the
        // limit.
        WideEndLocator {
            disk: 0,
            offset: directory_offset.saturating_add(directory_len),
            disks: 1,
        }
        .write(out);
    }
    let end = EndRecord {
        disk: 0,
        directory_disk: 0,
        entries_on_disk: narrow_entries,
        entries: narrow_entries,
        directory_len: low_or_sentinel(directory_len),
        directory_offset: low_or_sentinel(directory_offset),
        comment_len: 0,
    };
    end.write(out);
}

/// 1980-01-01 00:00:00, the first time that MS-DOS has.
const DOS_MIN: u32 = 0x0021_0000;
/// 2107-12-31 23:59:58, the last one.
const MAX_DOS_TIME: u32 = 0xff9f_bf7d;

/// The MS-DOS date (upper half) and time (lower half) in UTC, cut to its two seconds and its range.
pub(super) fn to_dos(time: Option<Timestamp>) -> u32 {
    let Some(civil) = time.map(Timestamp::civil) else {
        return DOS_MIN;
    };
    if civil.year() < 1980 {
        return DOS_MIN;
    }
    if civil.year() > 2107 {
        return MAX_DOS_TIME;
    }
    // Not negative and within their fields: jiff keeps each in its calendar range, the year was
    // bounded above.
    let field = |number: i8, at: u32| u32::from(number.unsigned_abs()) << at;
    let years = u32::from(civil.year().abs_diff(1980));
    (years << 25)
        | field(civil.month(), 21)
        | field(civil.day(), 16)
        | field(civil.hour(), 11)
        | field(civil.minute(), 5)
        | field(civil.second() / 2, 0)
}

/// The time that an MS-DOS date and time mean in UTC; `None` where the calendar has no such day or
/// hour.
pub(super) fn from_dos(dos: u32) -> Option<Timestamp> {
    let field = |at: u32, bits: u32| i8::try_from((dos >> at) & ((1 << bits) - 1)).ok();
    let year = i16::try_from(1980 + (dos >> 25)).ok()?;
    let civil = DateTime::new(
        year,
        field(21, 4)?,
        field(16, 5)?,
        field(11, 5)?,
        field(5, 6)?,
        field(0, 5)?.checked_mul(2)?,
        0,
    )
    .ok()?;
    let since = civil.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
    Timestamp::from_micros(since.as_secs().checked_mul(1_000_000)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dos_times_are_utc_and_clamped() {
        for (time, dos, back) in [
            ("2013-10-12T06:37:43Z", 0x434c_34b5, "2013-10-12T06:37:42Z"),
            ("1980-01-01T00:00:00Z", DOS_MIN, "1980-01-01T00:00:00Z"),
            ("1969-12-31T23:59:59Z", DOS_MIN, "1980-01-01T00:00:00Z"),
            ("1980-01-02T00:00:00Z", 0x0022_0000, "1980-01-02T00:00:00Z"),
            ("2107-12-31T00:00:00Z", 0xff9f_0000, "2107-12-31T00:00:00Z"),
            (
                "2107-12-31T23:59:59.5Z",
                MAX_DOS_TIME,
                "2107-12-31T23:59:58Z",
            ),
            ("9999-12-31T23:59:59Z", MAX_DOS_TIME, "2107-12-31T23:59:58Z"),
        ] {
            assert_eq!(to_dos(Some(time.parse().unwrap())), dos, "{time}");
            assert_eq!(from_dos(dos).unwrap().to_string(), back);
        }
        assert_eq!(to_dos(None), DOS_MIN);
    }

    #[test]
    fn days_that_no_calendar_has_are_no_time() {
        for dos in [
            0,
            u32::MAX,
            0x0020_0000,
            0x0001_0000,
            0x0021_0000 | (24 << 11),
            0x0021_0000 | 30,
            (34 << 25) | (2 << 21) | (30 << 16),
        ] {
            assert_eq!(from_dos(dos), None, "{dos:08x}");
        }
    }

    #[test]
    fn time_beyond_32_bits_has_no_field() {
        for (time, len) in [
            ("2013-10-12T06:37:42Z", 9),
            ("2038-01-19T03:14:07Z", 9),
            ("2038-01-19T03:14:08Z", 0),
            ("1969-12-31T23:59:59Z", 0),
        ] {
            let mut out = Vec::new();
            push_time(&mut out, Some(time.parse().unwrap()));
            assert_eq!(out.len(), len, "{time}");
        }
    }
}
