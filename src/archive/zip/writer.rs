//! The sealing writer: gives the bytes that stand around the data of the entries, and the directory
//! at the end.
//!
//! Knows offsets and lengths; the data go past it, only counted. A pure function of what it is
//! told: no clock, no place, nothing random. The local part of an entry does not depend on its
//! offset, so parts that were made apart can be joined.

use std::collections::HashSet;

use super::end::MAX_DIRECTORY_LEN_BYTES;
use super::headers::{self, fits_32};
use super::name::check_name;
use super::rule::{DisplayName, NAME_TAKEN, Rule, STORED_DESCRIPTOR, Violation};
use crate::model::{Method, Timestamp};

/// What is said of an entry before its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryHead<'a> {
    /// Its name; see [`check_name`].
    pub name: &'a str,
    /// How its bytes are kept.
    pub method: Method,
    /// Its modification time; `None` becomes 1980-01-01.
    pub modified: Option<Timestamp>,
}

/// Why the writer refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum ZipWriteError {
    /// The archive would break a rule: a name that may not stand in it, or stands in it already, a
    /// stored entry with a descriptor …
    #[error(transparent)]
    Refused(#[from] Violation),
    /// An entry was begun or the archive finished before the entry before was ended.
    #[error("entry {} is still open", DisplayName(.entry))]
    StillOpen {
        /// The entry that is open.
        entry: String,
    },
    /// Data or an end where no entry is open.
    #[error("no entry is open")]
    NoneOpen,
    /// An entry that ends otherwise than its head promised.
    #[error("entry {}: expected {what} {expected}, found {found}", DisplayName(.entry))]
    SizeMismatch {
        /// The entry.
        entry: String,
        /// Which number: `crc32`, `length` or `compressed length`.
        what: &'static str,
        /// As promised.
        expected: u64,
        /// As it came.
        found: u64,
    },
    /// A number that grew past its field: a streamed entry that was said to be short, or an archive
    /// past 2^64 bytes.
    #[error("entry {}: its {what} is {found}, and must be below {limit}", DisplayName(.entry))]
    TooLong {
        /// The entry.
        entry: String,
        /// Which number.
        what: &'static str,
        /// The first number that does not fit.
        limit: u64,
        /// The number.
        found: u64,
    },
}

/// Writes an archive: for each entry the bytes of `begin_…`, its data (told to
/// [`data`](Self::data)), the bytes of [`end`](Self::end); then the bytes of
/// [`finish`](Self::finish).
#[derive(Debug, Default)]
pub struct ZipWriter {
    offset: u64,
    /// The directory's bytes so far: far smaller than the entries as values.
    directory: Vec<u8>,
    entries: u64,
    names: HashSet<Box<str>>,
    open: Option<OpenMember>,
}

#[derive(Debug)]
struct OpenMember {
    name: Box<str>,
    method: Method,
    modified: Option<Timestamp>,
    header_offset: u64,
    /// Bytes of data so far.
    data_len: u64,
    promise: Sizes,
}

#[derive(Debug, Clone, Copy)]
enum Sizes {
    Known {
        crc32: u32,
        len: u64,
        compressed_len: u64,
    },
    InDescriptor {
        wide: bool,
    },
}

impl Sizes {
    /// What the local header says, and whether with 64-bit lengths.
    fn layout<'a>(&self, head: EntryHead<'a>) -> (headers::EntryHeaders<'a>, bool) {
        match *self {
            Sizes::Known {
                crc32,
                len,
                compressed_len,
            } => {
                let entry = head.layout(crc32, compressed_len, len, false);
                (entry, entry.needs_wide_lengths())
            }
            Sizes::InDescriptor { wide } => (head.layout(0, 0, 0, true), wide),
        }
    }
}

impl ZipWriter {
    /// How many bytes the archive has so far, told data included.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Begins an entry whose checksum and lengths are known, and gives its local header.
    pub fn begin_known(
        &mut self,
        head: EntryHead<'_>,
        crc32: u32,
        len: u64,
        compressed_len: u64,
    ) -> Result<Vec<u8>, ZipWriteError> {
        if head.method == Method::Store && len != compressed_len {
            let fault = format_args!("expected {len} bytes stored, found {compressed_len}");
            return Err(Violation::entry(Rule::StoredLen, head.name, fault).into());
        }
        self.begin(
            head,
            Sizes::Known {
                crc32,
                len,
                compressed_len,
            },
        )
    }

    /// Begins a deflated entry whose checksum and lengths come behind its data, and gives its local
    /// header.
    ///
    /// `len_hint` is its length as far as it is known; from about 4 GiB on the lengths get 64 bits.
    pub fn begin_streamed(
        &mut self,
        head: EntryHead<'_>,
        len_hint: u64,
    ) -> Result<Vec<u8>, ZipWriteError> {
        if head.method == Method::Store {
            let refusal = Violation::entry(Rule::DescriptorUse, head.name, STORED_DESCRIPTOR);
            return Err(refusal.into());
        }
        self.begin(
            head,
            Sizes::InDescriptor {
                wide: headers::needs_zip64(len_hint),
            },
        )
    }

    fn begin(&mut self, head: EntryHead<'_>, promise: Sizes) -> Result<Vec<u8>, ZipWriteError> {
        self.check_begin(head)?;
        let (entry, wide) = promise.layout(head);
        let mut header = Vec::new();
        headers::write_local(&entry, wide, &mut header);
        let header_offset = self.offset;
        self.offset = advanced(self.offset, header.len() as u64, head.name)?;
        self.names.insert(head.name.into());
        self.open = Some(OpenMember::new(head, header_offset, promise));
        Ok(header)
    }

    /// Checks that no entry is open, and that the next one has a name of its own.
    fn check_begin(&self, head: EntryHead<'_>) -> Result<(), ZipWriteError> {
        self.check_closed()?;
        check_name(head.name)?;
        if self.names.contains(head.name) {
            let twice = Violation::entry(Rule::NameUnique, head.name, NAME_TAKEN);
            return Err(twice.into());
        }
        Ok(())
    }

    fn check_closed(&self) -> Result<(), ZipWriteError> {
        match &self.open {
            Some(open) => Err(ZipWriteError::StillOpen {
                entry: open.name.to_string(),
            }),
            None => Ok(()),
        }
    }

    /// Tells that `len` bytes of the open entry's data follow.
    pub fn data(&mut self, len: u64) -> Result<(), ZipWriteError> {
        let open = self.open.as_mut().ok_or(ZipWriteError::NoneOpen)?;
        self.offset = advanced(self.offset, len, &open.name)?;
        // Never more than the offset, which was checked.
        open.data_len = open.data_len.saturating_add(len);
        Ok(())
    }

    /// Ends the open entry, whose bytes have this checksum and length, and gives its descriptor: no
    /// bytes where the header says all.
    ///
    /// After an error the entry stays open: the archive can no longer be finished.
    pub fn end(&mut self, crc32: u32, len: u64) -> Result<Vec<u8>, ZipWriteError> {
        let open = self.open.as_ref().ok_or(ZipWriteError::NoneOpen)?;
        let descriptor = open.descriptor(crc32, len)?;
        let offset = advanced(self.offset, descriptor.len() as u64, &open.name)?;
        list_member(&mut self.directory, open, crc32, len)?;
        self.offset = offset;
        self.entries += 1;
        self.open = None;
        Ok(descriptor)
    }

    /// Ends the archive and gives its directory and end records.
    pub fn finish(self) -> Result<Vec<u8>, ZipWriteError> {
        self.check_closed()?;
        let mut out = self.directory;
        let directory_len = out.len() as u64;
        headers::write_end(self.offset, directory_len, self.entries, &mut out);
        Ok(out)
    }
}

impl<'a> EntryHead<'a> {
    fn layout(
        &self,
        crc32: u32,
        compressed_len: u64,
        len: u64,
        streamed: bool,
    ) -> headers::EntryHeaders<'a> {
        headers::EntryHeaders {
            name: self.name,
            method: self.method,
            modified: self.modified,
            crc32,
            compressed_len,
            len,
            streamed,
        }
    }
}

impl OpenMember {
    /// The descriptor, once the numbers are what was promised.
    fn descriptor(&self, crc32: u32, len: u64) -> Result<Vec<u8>, ZipWriteError> {
        match self.promise {
            Sizes::Known {
                crc32: promised_crc32,
                len: promised_len,
                compressed_len,
            } => {
                self.check_kept("crc32", promised_crc32.into(), crc32.into())?;
                self.check_kept("length", promised_len, len)?;
                self.check_kept("compressed length", compressed_len, self.data_len)?;
                Ok(Vec::new())
            }
            Sizes::InDescriptor { wide } => {
                self.check_fits("length", len, wide)?;
                self.check_fits("compressed length", self.data_len, wide)?;
                Ok(headers::descriptor(crc32, self.data_len, len, wide))
            }
        }
    }

    /// Checks a number that was promised.
    fn check_kept(
        &self,
        what: &'static str,
        expected: u64,
        found: u64,
    ) -> Result<(), ZipWriteError> {
        if found == expected {
            return Ok(());
        }
        Err(ZipWriteError::SizeMismatch {
            entry: self.name.to_string(),
            what,
            expected,
            found,
        })
    }

    /// Checks a number that only came with the data.
    fn check_fits(&self, what: &'static str, found: u64, wide: bool) -> Result<(), ZipWriteError> {
        if wide || fits_32(found) {
            return Ok(());
        }
        Err(ZipWriteError::TooLong {
            entry: self.name.to_string(),
            what,
            limit: u32::MAX.into(),
            found,
        })
    }

    fn new(head: EntryHead<'_>, header_offset: u64, promise: Sizes) -> Self {
        OpenMember {
            name: head.name.into(),
            method: head.method,
            modified: head.modified,
            header_offset,
            data_len: 0,
            promise,
        }
    }

    fn head(&self) -> EntryHead<'_> {
        EntryHead {
            name: &self.name,
            method: self.method,
            modified: self.modified,
        }
    }

    /// What the directory says of it, once its checksum and length are known.
    fn layout(&self, crc32: u32, len: u64) -> headers::EntryHeaders<'_> {
        let is_streamed = matches!(self.promise, Sizes::InDescriptor { .. });
        self.head().layout(crc32, self.data_len, len, is_streamed)
    }
}

/// Appends an entry to the directory, unless that gets too long.
fn list_member(
    directory: &mut Vec<u8>,
    open: &OpenMember,
    crc32: u32,
    len: u64,
) -> Result<(), ZipWriteError> {
    let len_before = directory.len();
    headers::write_central(&open.layout(crc32, len), open.header_offset, directory);
    if directory.len() as u64 <= MAX_DIRECTORY_LEN_BYTES {
        return Ok(());
    }
    directory.truncate(len_before);
    let fault = format_args!("with it the directory has more than {MAX_DIRECTORY_LEN_BYTES} bytes");
    Err(Violation::entry(Rule::DirectoryLen, &open.name, fault).into())
}

fn advanced(offset: u64, len: u64, entry: &str) -> Result<u64, ZipWriteError> {
    // Room for the directory's own numbers is left at the top.
    const LIMIT: u64 = 1 << 63;
    match offset.checked_add(len) {
        Some(offset) if offset < LIMIT => Ok(offset),
        _ => Err(ZipWriteError::TooLong {
            entry: entry.to_owned(),
            what: "offset",
            limit: LIMIT,
            found: offset.saturating_add(len),
        }),
    }
}

#[cfg(test)]
mod tests;
