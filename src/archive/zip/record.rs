//! The fixed records of a zip, field by field, each read and written from one list (APPNOTE.TXT
//! 6.3.10).
//!
//! Knows where each number stands; must not know which numbers are right.

/// A little-endian number at the front of a slice.
pub(super) trait LittleEndian: Sized {
    /// Takes the number off the front, or `None` where too few bytes are left.
    fn take(bytes: &mut &[u8]) -> Option<Self>;
}

macro_rules! number {
    ($($type:ty)*) => {$(
        impl LittleEndian for $type {
            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let (number, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(<$type>::from_le_bytes(*number))
            }
        }
    )*};
}

number!(u16 u32 u64);

/// Takes `len` bytes off the front, or `None` where fewer are left.
pub(super) fn take_slice<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (slice, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(slice)
}

/// A signature and the numbers behind it.
pub(super) trait Record: Sized {
    /// Bytes of the record, the signature included.
    const LEN: usize;

    /// Takes the record off the front, or `None` where its signature does not stand or too few
    /// bytes are left.
    fn take(bytes: &mut &[u8]) -> Option<Self>;

    /// Appends the record.
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! record {
    ($(#[$doc:meta])* $name:ident = $signature:literal { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(super) struct $name {
            $(pub(super) $field: $type,)*
        }

        impl Record for $name {
            const LEN: usize = 4 $(+ size_of::<$type>())*;

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let mut rest = *bytes;
                if u32::take(&mut rest)? != $signature {
                    return None;
                }
                let record = $name { $($field: LittleEndian::take(&mut rest)?,)* };
                *bytes = rest;
                Some(record)
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&u32::to_le_bytes($signature));
                $(out.extend_from_slice(&self.$field.to_le_bytes());)*
            }
        }
    };
}

record! {
    /// What stands before an entry's data; name and extra field follow.
    LocalRecord = 0x0403_4b50 {
        version_needed: u16,
        flags: u16,
        method: u16,
        dos_time: u32,
        crc32: u32,
        compressed_len: u32,
        len: u32,
        name_len: u16,
        extra_len: u16,
    }
}

record! {
    /// What the directory says about an entry; name, extra field and comment follow.
    CentralRecord = 0x0201_4b50 {
        made_by: u16,
        version_needed: u16,
        flags: u16,
        method: u16,
        dos_time: u32,
        crc32: u32,
        compressed_len: u32,
        len: u32,
        name_len: u16,
        extra_len: u16,
        comment_len: u16,
        disk: u16,
        internal_attributes: u16,
        external_attributes: u32,
        header_offset: u32,
    }
}

record! {
    /// What stands behind an entry's data when its header could not say it.
    Descriptor = 0x0807_4b50 {
        crc32: u32,
        compressed_len: u32,
        len: u32,
    }
}

record! {
    /// The same with 64-bit lengths.
    WideDescriptor = 0x0807_4b50 {
        crc32: u32,
        compressed_len: u64,
        len: u64,
    }
}

record! {
    /// The ZIP64 end record.
    WideEndRecord = 0x0606_4b50 {
        len_after_this: u64,
        made_by: u16,
        version_needed: u16,
        disk: u32,
        directory_disk: u32,
        entries_on_disk: u64,
        entries: u64,
        directory_len: u64,
        directory_offset: u64,
    }
}

record! {
    /// Where the ZIP64 end record stands.
    WideEndLocator = 0x0706_4b50 {
        disk: u32,
        offset: u64,
        disks: u32,
    }
}

record! {
    /// The end record; the archive's comment follows.
    EndRecord = 0x0605_4b50 {
        disk: u16,
        directory_disk: u16,
        entries_on_disk: u16,
        entries: u16,
        directory_len: u32,
        directory_offset: u32,
        comment_len: u16,
    }
}

/// What [`WideEndRecord::len_after_this`] says of a record without extra data.
pub(super) const WIDE_END_LEN_AFTER: u64 = (<WideEndRecord as Record>::LEN - 12) as u64;

/// The extra field that carries 64-bit numbers.
pub(super) const EXTRA_ZIP64: u16 = 0x0001;
/// The extra field that carries a Unix time.
pub(super) const EXTRA_TIME: u16 = 0x5455;
/// The extra field that carries the name in UTF-8 beside an older encoding.
pub(super) const EXTRA_UNICODE_PATH: u16 = 0x7075;

/// Flag: sizes and CRC-32 stand in a descriptor behind the data.
pub(super) const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// Flag: the name is UTF-8.
pub(super) const FLAG_UTF8: u16 = 1 << 11;

/// In a 16-bit field: the number stands in the ZIP64 record.
pub(super) const SENTINEL_16: u16 = u16::MAX;
/// In a 32-bit field: the number stands in the ZIP64 field or record.
pub(super) const SENTINEL_32: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_specified_lengths() {
        assert_eq!(
            (LocalRecord::LEN, CentralRecord::LEN, EndRecord::LEN),
            (30, 46, 22)
        );
        assert_eq!((WideEndRecord::LEN, WideEndLocator::LEN), (56, 20));
        assert_eq!((Descriptor::LEN, WideDescriptor::LEN), (16, 24));
    }

    #[test]
    fn record_parses_whole_or_not_at_all() {
        let mut bytes = Vec::new();
        Descriptor {
            crc32: 1,
            compressed_len: 2,
            len: 3,
        }
        .write(&mut bytes);
        bytes.push(9);
        let mut rest = bytes.as_slice();
        let found = Descriptor::take(&mut rest).unwrap();
        assert_eq!(
            (found.crc32, found.compressed_len, found.len, rest),
            (1, 2, 3, [9].as_slice())
        );
        for cut in 0..Descriptor::LEN {
            let mut rest = &bytes[..cut];
            assert!(Descriptor::take(&mut rest).is_none());
            assert_eq!(rest.len(), cut);
        }
    }
}
