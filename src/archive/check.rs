//! The data of one entry as a stream, for zips that have no pieces: inflated in a bounded window, counted and held against the directory.
//!
//! Knows one entry and its claims; must not know where its bytes come from or go to.

use flate2::{Decompress, FlushDecompress, Status};

use super::pieces::{DataError, WINDOW_LEN_BYTES};
use super::structure::DirectoryEntry;
use crate::model::Method;

/// Takes in the data of an entry part by part and checks compressed length, length, CRC-32 and the end of the deflate stream.
pub struct EntryCheck {
    crc32: u32,
    compressed_len: u64,
    len: u64,
    hasher: crc32fast::Hasher,
    pushed: u64,
    found: u64,
    inflate: Option<Inflate>,
}

struct Inflate {
    state: Decompress,
    window: Box<[u8]>,
    ended: bool,
}

impl EntryCheck {
    /// A check of the data of `entry`.
    pub fn new(entry: &DirectoryEntry) -> Self {
        let inflate = match entry.method {
            Method::Store => None,
            Method::Deflate => Some(Inflate { state: Decompress::new(false), window: vec![0; WINDOW_LEN_BYTES].into(), ended: false }),
        };
        let (crc32, compressed_len, len) = (entry.crc32, entry.compressed_len, entry.len);
        EntryCheck { crc32, compressed_len, len, hasher: crc32fast::Hasher::new(), pushed: 0, found: 0, inflate }
    }

    /// Takes in the next `compressed` bytes and hands what they inflate to to `sink`, at most 64 KiB at a time.
    ///
    /// Stops at the first byte that is more than the directory claims; `sink` never gets it.
    pub fn push(&mut self, compressed: &[u8], mut sink: impl FnMut(&[u8])) -> Result<(), DataError> {
        self.pushed = self.pushed.saturating_add(compressed.len() as u64);
        if self.pushed > self.compressed_len {
            return Err(DataError::WrongCompressedLen { expected: self.compressed_len, found: self.pushed });
        }
        let EntryCheck { compressed_len, len, hasher, found, inflate, .. } = self;
        let mut give = |bytes: &[u8]| {
            *found = found.saturating_add(bytes.len() as u64);
            if *found > *len {
                return Err(DataError::TooLong { expected: *len });
            }
            hasher.update(bytes);
            sink(bytes);
            Ok(())
        };
        let Some(Inflate { state, window, ended }) = inflate else { return give(compressed) };
        let mut rest = compressed;
        loop {
            let (before_in, before_out) = (state.total_in(), state.total_out());
            if *ended {
                let all = rest.is_empty();
                return if all { Ok(()) } else { Err(DataError::WrongCompressedLen { expected: *compressed_len, found: before_in }) };
            }
            // Room for one byte more than claimed: it is there that a stream that is too long shows itself.
            let room = len.saturating_sub(before_out).saturating_add(1).min(WINDOW_LEN_BYTES as u64) as usize;
            let room = window.get_mut(..room).unwrap_or_default();
            let status = state.decompress(rest, room, FlushDecompress::None);
            let status = status.map_err(|_| DataError::NotDeflate { after: state.total_in() })?;
            let taken = (state.total_in() - before_in) as usize;
            let given = (state.total_out() - before_out) as usize;
            rest = rest.get(taken..).unwrap_or_default();
            give(room.get(..given).unwrap_or_default())?;
            *ended = status == Status::StreamEnd;
            // Without progress the next bytes are needed, or the state is at its end.
            if taken == 0 && given == 0 && !*ended {
                return if rest.is_empty() { Ok(()) } else { Err(DataError::NotDeflate { after: before_in }) };
            }
        }
    }

    /// Says whether the data that were taken in are all that the directory claims.
    pub fn finish(self) -> Result<(), DataError> {
        if self.pushed != self.compressed_len {
            return Err(DataError::WrongCompressedLen { expected: self.compressed_len, found: self.pushed });
        }
        if self.inflate.is_some_and(|inflate| !inflate.ended) {
            return Err(DataError::NoStreamEnd { compressed_len: self.compressed_len });
        }
        if self.found != self.len {
            return Err(DataError::TooShort { expected: self.len, found: self.found });
        }
        match self.hasher.finalize() {
            found if found == self.crc32 => Ok(()),
            found => Err(DataError::WrongCrc32 { expected: self.crc32, found }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::super::testing::{Form, deflated, read_structure, seal};
    use super::super::{Profile, STREAM_END};
    use super::*;

    /// The directory's word on an entry, as a sealed archive has it.
    fn entry(form: Form, raw: &[u8]) -> DirectoryEntry {
        read_structure(&seal(&[("a", form, raw)]).bytes, Profile::Sealed).unwrap().remove(0).0
    }

    fn checked(entry: &DirectoryEntry, data: &[u8], part_len: usize) -> Result<Vec<u8>, DataError> {
        let mut out = Vec::new();
        let mut check = EntryCheck::new(entry);
        data.chunks(part_len).try_for_each(|part| check.push(part, |bytes| out.extend_from_slice(bytes)))?;
        check.finish().map(|()| out)
    }

    #[test]
    fn sound_data_pass_whatever_the_parts_they_come_in() {
        let raw = b"sound sound sound data of an entry, sound data".repeat(9);
        for (form, data) in [(Form::Stored, raw.clone()), (Form::Known, deflated(&raw, 64).0), (Form::Streamed, deflated(&raw, 64).0)] {
            for part_len in [1, 2, 7, 1_000] {
                assert_eq!(checked(&entry(form, &raw), &data, part_len).as_ref(), Ok(&raw), "{form:?} in parts of {part_len}");
            }
        }
        assert_eq!(checked(&entry(Form::Known, b""), &STREAM_END, 1), Ok(Vec::new()));
        assert_eq!(checked(&entry(Form::Stored, b""), b"", 1), Ok(Vec::new()));
    }

    #[test]
    fn a_long_entry_goes_through_the_window() {
        let raw: Vec<u8> = (0..60_000_u32).flat_map(|i| (i / 3).to_le_bytes()).collect();
        let data = deflated(&raw, 64).0;
        let mut parts = Vec::new();
        let mut check = EntryCheck::new(&entry(Form::Known, &raw));
        check.push(&data, |bytes| parts.push(bytes.len())).unwrap();
        check.finish().unwrap();
        assert!(parts.iter().all(|part| *part <= WINDOW_LEN_BYTES) && parts.iter().sum::<usize>() == raw.len());
    }

    #[test]
    fn data_that_are_not_what_is_claimed_are_refused() {
        let raw = b"data data data data";
        let (data, _) = deflated(raw, 64);
        let honest = entry(Form::Known, raw);
        let stored = entry(Form::Stored, raw);
        let mut longer = data.clone();
        longer.push(0);
        let claims = |change: fn(&mut DirectoryEntry)| {
            let mut entry = honest.clone();
            change(&mut entry);
            entry
        };
        let (all, len) = (data.len() as u64, raw.len() as u64);
        for (what, entry, data, error) in [
            ("a cut", honest.clone(), &data[..data.len() - 1], DataError::WrongCompressedLen { expected: all, found: all - 1 }),
            ("a byte more", honest.clone(), &longer, DataError::WrongCompressedLen { expected: all, found: all + 1 }),
            (
                "a byte behind the stream",
                claims(|entry| entry.compressed_len += 1),
                &longer,
                DataError::WrongCompressedLen { expected: all + 1, found: all },
            ),
            (
                "a stream without end",
                claims(|entry| entry.compressed_len -= 2),
                &data[..data.len() - 2],
                DataError::NoStreamEnd { compressed_len: all - 2 },
            ),
            ("too short", claims(|entry| entry.len += 1), &data, DataError::TooShort { expected: len + 1, found: len }),
            ("too long", claims(|entry| entry.len -= 1), &data, DataError::TooLong { expected: len - 1 }),
            ("another checksum", claims(|entry| entry.crc32 = 7), &data, DataError::WrongCrc32 { expected: 7, found: honest.crc32 }),
            (
                "stored, another byte",
                stored.clone(),
                b"data data data dat_",
                DataError::WrongCrc32 { expected: honest.crc32, found: crc32fast::hash(b"data data data dat_") },
            ),
            ("stored, a cut", stored.clone(), b"data", DataError::WrongCompressedLen { expected: len, found: 4 }),
        ] {
            for part_len in [1, 1_000] {
                assert_eq!(checked(&entry, data, part_len).as_ref(), Err(&error), "{what}");
            }
        }
        assert!(matches!(checked(&honest, &vec![7; data.len()], 5), Err(DataError::NotDeflate { .. })));
    }

    #[test]
    fn a_bomb_is_left_at_the_first_byte_too_many() {
        let mut bomb = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&vec![0; 30 << 20]).unwrap();
        let bomb = bomb.finish().unwrap();
        let mut claimed = entry(Form::Known, b"");
        (claimed.compressed_len, claimed.len) = (bomb.len() as u64, 1_000);
        let (mut given, mut check) = (0, EntryCheck::new(&claimed));
        assert_eq!(check.push(&bomb, |bytes| given += bytes.len()), Err(DataError::TooLong { expected: 1_000 }));
        assert_eq!(given, 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_bytes_make_the_check_crash_or_give_more_than_claimed(data in prop::collection::vec(any::<u8>(), 0..300), len in 0..500_u64, part_len in 1..9_usize) {
            let mut claimed = entry(Form::Known, b"");
            (claimed.compressed_len, claimed.len) = (data.len() as u64, len);
            let (mut given, mut check) = (0, EntryCheck::new(&claimed));
            let _ = data.chunks(part_len).try_for_each(|part| check.push(part, |bytes| given += bytes.len() as u64));
            prop_assert!(given <= len);
        }
    }
}
