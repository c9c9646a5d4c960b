//! Pieces: an entry is cut, each cut is deflated on its own and closed with a sync flush, and all of them together are one deflate stream.
//!
//! Knows one piece at a time. Where an entry's pieces begin stands in the manifest, which this floor does not know.

use std::cell::RefCell;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::model::PIECE_LEN_BYTES;

/// What stands behind the last piece of an entry: an empty final block, which ends the deflate stream.
pub const STREAM_END: [u8; 2] = [3, 0];

/// What a sync flush ends with: length and inverted length of an empty stored block, at a byte's border.
const SYNC_BORDER: [u8; 4] = [0, 0, 0xff, 0xff];

/// How much is taken from zlib at a time. Always the same, so that deflated bytes never depend on the room in the caller's buffer.
pub(super) const WINDOW_LEN_BYTES: usize = 64 << 10;

/// Data of an entry that are not what they are said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// No deflate stream, or one that refers to bytes before its begin.
    #[error("expected a deflate stream, found damage {after} bytes into it")]
    NotDeflate {
        /// Compressed bytes that were read when the damage showed.
        after: u64,
    },
    /// More bytes than claimed. Inflating stops there.
    #[error("expected {expected} bytes, found more")]
    TooLong {
        /// Bytes as claimed.
        expected: u64,
    },
    /// Fewer bytes than claimed.
    #[error("expected {expected} bytes, found {found}")]
    TooShort {
        /// Bytes as claimed.
        expected: u64,
        /// Bytes that came out.
        found: u64,
    },
    /// A deflate stream that ends before its data do.
    #[error("expected a deflate stream of {compressed_len} bytes, found a shorter one")]
    EndsEarly {
        /// Compressed bytes as claimed.
        compressed_len: u64,
    },
    /// A deflate stream that does not end where its data do.
    #[error("expected a deflate stream that ends after {compressed_len} bytes, found no end")]
    NoStreamEnd {
        /// Compressed bytes as claimed.
        compressed_len: u64,
    },
    /// Bytes with another checksum.
    #[error("expected crc32 {expected:08x}, found {found:08x}")]
    WrongCrc32 {
        /// The checksum as claimed.
        expected: u32,
        /// The checksum of what came out.
        found: u32,
    },
    /// The deflater took no more of its input: a fault of the library, told rather than sealed.
    #[error("expected deflate to take {expected} bytes, found it stopped after {found}")]
    DeflateStopped {
        /// Bytes of the piece.
        expected: u64,
        /// Bytes that it took.
        found: u64,
    },
    /// A piece that is said to be longer than pieces are.
    #[error("expected a piece of at most {max} bytes, found one of {found}")]
    LongPiece {
        /// The longest piece.
        max: usize,
        /// The length that is claimed.
        found: usize,
    },
    /// A piece that does not end with a sync flush.
    #[error("expected a piece that ends with a sync flush, found another end")]
    NoSyncBorder,
    /// A piece that ends the whole stream.
    #[error("expected a piece without a final block, found one")]
    FinalBlock,
}

/// Deflates pieces, one after the other, with a state that is made once.
pub struct Deflater {
    state: Compress,
    window: Box<[u8]>,
}

impl Deflater {
    /// A deflater of `level` 0 (none) to 9 (best); higher ones are taken as 9.
    pub fn new(level: u32) -> Self {
        Deflater { state: Compress::new(Compression::new(level.min(9)), false), window: vec![0; WINDOW_LEN_BYTES].into() }
    }

    /// Appends `raw` to `out`, deflated on its own and closed with a sync flush. On an error `out` is as it was.
    ///
    /// The bytes depend on `raw` and the level only: not on earlier pieces, nor on the room in `out`.
    pub fn piece(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), DataError> {
        let start = out.len();
        self.state.reset();
        loop {
            let taken = usize::try_from(self.state.total_in()).ok();
            let rest = taken.and_then(|taken| raw.get(taken..)).unwrap_or_default();
            let before = self.state.total_out();
            let status = self.state.compress(rest, &mut self.window, FlushCompress::Sync);
            let given = usize::try_from(self.state.total_out() - before).ok().and_then(|given| self.window.get(..given));
            let (Ok(_), Some(given)) = (status, given) else { break };
            out.extend_from_slice(given);
            // Room that is left over means that nothing is held back.
            if given.len() < WINDOW_LEN_BYTES {
                break;
            }
        }
        let found = self.state.total_in();
        if found == raw.len() as u64 && out.ends_with(&SYNC_BORDER) {
            return Ok(());
        }
        out.truncate(start);
        Err(DataError::DeflateStopped { expected: raw.len() as u64, found })
    }
}

/// What is put behind a piece to see that it ends where it must: a final block that nobody can foresee, and what it inflates to.
///
/// The fast inflater does not say how much of its input it used. But whatever stands in a piece, this block comes out of it whole and last only if
/// the inflater reaches it at the border of a block. Foreseen it must not be: else a piece could end in the middle of a block that takes the
/// known bytes for its own.
struct Seal {
    deflated: Vec<u8>,
    plain: Vec<u8>,
}

static SEAL: LazyLock<Seal> = LazyLock::new(|| {
    let random = RandomState::new();
    // Few and uneven symbols, so that the block carries a code of its own.
    let byte = |index: u16| {
        let bits = random.hash_one(index);
        random.hash_one((bits as u8 & 15).min((bits >> 8) as u8 & 15)) as u8
    };
    let plain: Vec<u8> = (0..SEAL_LEN_BYTES).map(byte).collect();
    let mut state = Compress::new(Compression::best(), false);
    let mut deflated = Vec::with_capacity(2 * plain.len());
    // Whatever becomes of it: a seal that is not whole lets no piece pass, and each is looked at in the slow way.
    state.compress_vec(&plain, &mut deflated, FlushCompress::Finish).ok();
    Seal { deflated, plain }
});

/// Long enough that a code of its own pays.
const SEAL_LEN_BYTES: u16 = 600;

/// Room that inflating needs besides the piece itself.
pub const INFLATE_ROOM_BYTES: usize = SEAL_LEN_BYTES as usize;

/// Inflates pieces, one after the other, with states that are made once.
///
/// A sound piece is inflated at once by libdeflate; what does not come out as it should goes through zlib, which can say what is wrong.
pub struct Inflater {
    fast: libdeflater::Decompressor,
    state: Decompress,
    sealed: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Inflater {
    /// An inflater for pieces.
    pub fn new() -> Self {
        Inflater { fast: libdeflater::Decompressor::new(), state: Decompress::new(false), sealed: Vec::new() }
    }

    /// Appends the `expected_len` bytes of the piece `compressed` to `out`. On an error `out` is as it was.
    ///
    /// The piece must stand on its own: refer to nothing before it, use all its bytes and end with a sync flush, not with a final block.
    pub fn piece(&mut self, compressed: &[u8], expected_len: usize, out: &mut Vec<u8>) -> Result<(), DataError> {
        if expected_len > PIECE_LEN_BYTES {
            return Err(DataError::LongPiece { max: PIECE_LEN_BYTES, found: expected_len });
        }
        let start = out.len();
        out.resize(start + expected_len + INFLATE_ROOM_BYTES, 0);
        let result = self.piece_into(compressed, expected_len, out.get_mut(start..).unwrap_or_default());
        out.truncate(if result.is_ok() { start + expected_len } else { start });
        result
    }

    /// As [`Inflater::piece`], into `room` for the piece and [`INFLATE_ROOM_BYTES`] more. What lies behind the piece then is of no use.
    pub fn piece_into(&mut self, compressed: &[u8], expected_len: usize, room: &mut [u8]) -> Result<(), DataError> {
        if expected_len > PIECE_LEN_BYTES {
            return Err(DataError::LongPiece { max: PIECE_LEN_BYTES, found: expected_len });
        }
        if self.inflate_sealed(compressed, expected_len, room) {
            return Ok(());
        }
        // At least one byte more than claimed: a piece that is too long shows itself there, and goes no further.
        self.inflate(compressed, expected_len as u64, room.get_mut(..=expected_len).unwrap_or_default())
    }

    /// Whether the piece is sound and now lies in `room`, with the seal behind it.
    fn inflate_sealed(&mut self, compressed: &[u8], expected_len: usize, room: &mut [u8]) -> bool {
        if !compressed.ends_with(&SYNC_BORDER) {
            return false;
        }
        self.sealed.clear();
        self.sealed.extend_from_slice(compressed);
        self.sealed.extend_from_slice(&SEAL.deflated);
        let whole = self.fast.deflate_decompress(&self.sealed, room).is_ok_and(|len| len == room.len());
        whole && room.get(expected_len..) == Some(&SEAL.plain)
    }

    fn inflate(&mut self, compressed: &[u8], expected: u64, room: &mut [u8]) -> Result<(), DataError> {
        self.state.reset(false);
        let status = self.state.decompress(compressed, room, FlushDecompress::None);
        let (after, found) = (self.state.total_in(), self.state.total_out());
        match status {
            Err(_) => return Err(DataError::NotDeflate { after }),
            Ok(_) if found > expected => return Err(DataError::TooLong { expected }),
            Ok(Status::StreamEnd) => return Err(DataError::FinalBlock),
            Ok(_) if after != compressed.len() as u64 => return Err(DataError::NotDeflate { after }),
            Ok(_) if found < expected => return Err(DataError::TooShort { expected, found }),
            Ok(_) => {}
        }
        // At the border of a block, and only there, an empty final block ends the stream and gives no byte.
        let end = self.state.decompress(&STREAM_END, &mut [0], FlushDecompress::None);
        let ends = matches!(end, Ok(Status::StreamEnd)) && self.state.total_out() == expected;
        if ends && compressed.ends_with(&SYNC_BORDER) { Ok(()) } else { Err(DataError::NoSyncBorder) }
    }
}

thread_local! {
    /// The states of a worker. Pieces of small entries take less time than making a state does.
    static DEFLATER: RefCell<Option<(u32, Deflater)>> = const { RefCell::new(None) };
    static INFLATER: RefCell<Inflater> = RefCell::new(Inflater::new());
}

/// [`Deflater::piece`], with a state that this thread keeps.
///
/// # Errors
/// As there.
pub fn deflate_piece(level: u32, raw: &[u8], out: &mut Vec<u8>) -> Result<(), DataError> {
    DEFLATER.with_borrow_mut(|kept| match kept {
        Some((of, deflater)) if *of == level => deflater.piece(raw, out),
        _ => kept.insert((level, Deflater::new(level))).1.piece(raw, out),
    })
}

/// [`Inflater::piece_into`], with a state that this thread keeps.
///
/// # Errors
/// As there.
pub fn inflate_piece(compressed: &[u8], expected_len: usize, room: &mut [u8]) -> Result<(), DataError> {
    INFLATER.with_borrow_mut(|inflater| inflater.piece_into(compressed, expected_len, room))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::DeflateDecoder;
    use proptest::prelude::*;

    use super::*;

    fn deflated(level: u32, raw: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Deflater::new(level).piece(raw, &mut out).unwrap();
        out
    }

    fn inflated(piece: &[u8], expected_len: usize) -> Result<Vec<u8>, DataError> {
        let mut out = b"before".to_vec();
        let result = Inflater::new().piece(piece, expected_len, &mut out);
        assert!(out.starts_with(b"before"));
        assert_eq!(out.len(), if result.is_ok() { 6 + expected_len } else { 6 }, "an error leaves nothing behind");
        result.map(|()| out.split_off(6))
    }

    /// Deflated otherwise than pieces are: in one state for all parts, each flushed in its way.
    fn flushed(parts: &[(&[u8], FlushCompress)]) -> Vec<u8> {
        let mut state = Compress::new(Compression::new(6), false);
        let mut out = Vec::with_capacity(1 << 16);
        for (part, flush) in parts {
            state.compress_vec(part, &mut out, *flush).unwrap();
        }
        out
    }

    /// Bytes without pattern, the same each time.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn a_piece_depends_on_its_bytes_and_the_level_only() {
        let raw = noise(200_000);
        for level in 0..=9 {
            let fresh = deflated(level, &raw);
            let mut deflater = Deflater::new(level);
            deflater.piece(b"another piece before it, another piece before it", &mut Vec::new()).unwrap();
            for room in [0, 1, 70_000, 1_000_000] {
                let mut out = Vec::with_capacity(room);
                deflater.piece(&raw, &mut out).unwrap();
                assert!(out == fresh, "level {level}, room {room}");
            }
        }
        assert!(deflated(10, &raw) == deflated(9, &raw));
    }

    #[test]
    fn pieces_of_any_length_come_back_where_the_window_is_just_full_too() {
        let raw = noise(3 * WINDOW_LEN_BYTES);
        for level in [0, 1, 6] {
            let (mut deflater, mut inflater) = (Deflater::new(level), Inflater::new());
            let (mut piece, mut back) = (Vec::new(), Vec::new());
            for len in (0..20).chain(WINDOW_LEN_BYTES - 60..=WINDOW_LEN_BYTES).chain(2 * WINDOW_LEN_BYTES - 60..=2 * WINDOW_LEN_BYTES) {
                piece.clear();
                back.clear();
                deflater.piece(&raw[..len], &mut piece).unwrap();
                inflater.piece(&piece, len, &mut back).unwrap();
                assert!(back == raw[..len], "level {level}, {len} bytes");
            }
        }
    }

    #[test]
    fn the_longest_piece_comes_back_and_a_longer_one_is_refused() {
        let raw = vec![b'x'; PIECE_LEN_BYTES];
        let piece = deflated(1, &raw);
        assert!(inflated(&piece, PIECE_LEN_BYTES).unwrap() == raw);
        assert_eq!(inflated(&piece, PIECE_LEN_BYTES + 1), Err(DataError::LongPiece { max: PIECE_LEN_BYTES, found: PIECE_LEN_BYTES + 1 }));
        assert_eq!(inflated(&piece, usize::MAX), Err(DataError::LongPiece { max: PIECE_LEN_BYTES, found: usize::MAX }));
    }

    #[test]
    fn a_bomb_is_left_at_the_first_byte_too_many() {
        let bomb = deflated(9, &vec![0; PIECE_LEN_BYTES]);
        let mut out = Vec::new();
        assert_eq!(Inflater::new().piece(&bomb, 10, &mut out), Err(DataError::TooLong { expected: 10 }));
        assert!(out.is_empty() && out.capacity() < 1000);
    }

    #[test]
    fn what_is_no_piece_is_refused_with_what_it_is_instead() {
        use FlushCompress::{Finish, None as NoFlush, Partial, Sync};
        let piece = deflated(6, b"piece piece piece");
        let mut with_end = piece.clone();
        with_end.extend(STREAM_END);
        let mut with_byte = piece.clone();
        with_byte.push(0);
        let first = flushed(&[(b"piece piece piece", Sync)]);
        let both = flushed(&[(b"piece piece piece", Sync), (b"piece piece piece", Sync)]);
        // A stored block of eight bytes whose last four look like a border, and one that goes on behind them.
        let stored = b"\x00\x08\x00\xf7\xffabcd\x00\x00\xff\xff";
        let stored_on = b"\x00\x0c\x00\xf3\xffabcd\x00\x00\xff\xff";
        for (what, piece, expected_len, error) in [
            ("nothing", &[][..], 0, DataError::NoSyncBorder),
            ("nothing, said to be something", &[], 3, DataError::TooShort { expected: 3, found: 0 }),
            ("one byte less", &piece, 18, DataError::TooShort { expected: 18, found: 17 }),
            ("one byte more", &piece, 16, DataError::TooLong { expected: 16 }),
            ("the end of the stream too", &with_end, 17, DataError::FinalBlock),
            ("a whole stream", &flushed(&[(b"piece piece piece", Finish)]), 17, DataError::FinalBlock),
            ("a cut border", &piece[..piece.len() - 1], 17, DataError::NoSyncBorder),
            ("a byte behind the border", &with_byte, 17, DataError::NoSyncBorder),
            ("another flush", &flushed(&[(b"piece piece piece", Partial), (b"", NoFlush)]), 17, DataError::NoSyncBorder),
            ("no flush", &stored_on[..12], 7, DataError::NoSyncBorder),
            ("a border that is data", stored_on, 8, DataError::NoSyncBorder),
            ("a stored block", b"\x00\x03\x00\xfc\xffabc", 3, DataError::NoSyncBorder),
            ("an unknown block", b"\x06\x00\x00\xff\xff", 0, DataError::NotDeflate { after: 1 }),
        ] {
            assert_eq!(inflated(piece, expected_len), Err(error), "{what}");
        }
        assert!(matches!(inflated(&both[first.len()..], 17), Err(DataError::NotDeflate { .. })), "it refers to the piece before");
        assert_eq!(inflated(&both, 34).unwrap(), b"piece piece piecepiece piece piece");
        // A block's border whose last bytes only look like a flush: it stands on its own all the same.
        assert_eq!(inflated(stored, 8).unwrap(), b"abcd\x00\x00\xff\xff");
    }

    #[test]
    fn every_piece_of_ours_takes_the_fast_way_and_nothing_that_goes_on_behind_its_end_does() {
        let fast = |piece: &[u8], len: usize| Inflater::new().inflate_sealed(piece, len, &mut vec![0; len + SEAL.plain.len()]);
        for raw in [&b""[..], b"piece piece piece", &noise(100_000)] {
            for level in 0..=9 {
                assert!(raw.is_empty() || fast(&deflated(level, raw), raw.len()), "level {level}");
            }
        }
        // A stored block that is not over, final or not: it would take the seal for its data, as far as it is long enough.
        for (last, more) in [(0_u8, 4_usize), (1, 4), (1, SEAL.deflated.len()), (0, SEAL.deflated.len()), (1, SEAL.deflated.len() - 1)] {
            let data = b"data\x00\x00\xff\xff";
            let len = u16::try_from(data.len() + more).unwrap();
            let piece = [&[last][..], &len.to_le_bytes(), &(!len).to_le_bytes(), data].concat();
            for claimed in data.len()..=data.len() + more {
                assert!(!fast(&piece, claimed), "{last} {more} {claimed}");
            }
        }
        // A block of the fixed code that is not over.
        for claimed in 0..20 {
            assert!(!fast(b"\x2b\x2a\x2e\x01\x00\x00\xff\xff", claimed));
        }
    }

    #[test]
    fn an_inflater_forgets_a_refused_piece() {
        let piece = deflated(6, b"piece piece piece");
        let (mut inflater, mut out) = (Inflater::new(), Vec::new());
        for cut in 0..piece.len() {
            assert!(inflater.piece(&piece[..cut], 17, &mut out).is_err(), "cut after {cut}");
            inflater.piece(&piece, 17, &mut out).unwrap();
        }
        assert_eq!(out, b"piece piece piece".repeat(piece.len()));
    }

    fn raw() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![prop::collection::vec(any::<u8>(), 0..3_000), prop::collection::vec(0..3_u8, 0..3_000)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn pieces_come_back_one_by_one_and_as_one_plain_stream(raw in raw(), level in 0..=9_u32, piece_len in 1..1_000_usize) {
            let (mut deflater, mut inflater) = (Deflater::new(level), Inflater::new());
            let (mut stream, mut back) = (Vec::new(), Vec::new());
            for part in raw.chunks(piece_len) {
                let start = stream.len();
                deflater.piece(part, &mut stream).unwrap();
                inflater.piece(&stream[start..], part.len(), &mut back).unwrap();
            }
            prop_assert_eq!(&back, &raw);
            stream.extend(STREAM_END);
            let mut plain = Vec::new();
            let mut decoder = DeflateDecoder::new(stream.as_slice());
            decoder.read_to_end(&mut plain).unwrap();
            prop_assert_eq!(&plain, &raw);
            prop_assert_eq!(decoder.total_in(), stream.len() as u64);
        }

        #[test]
        fn no_bytes_make_the_inflater_crash_or_overrun(bytes in prop::collection::vec(any::<u8>(), 0..300), expected_len in 0..2_000_usize) {
            let _ = inflated(&bytes, expected_len);
        }

        #[test]
        fn a_damaged_piece_is_refused_or_gives_as_many_bytes(raw in raw(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut piece = deflated(6, &raw);
            let at = at.index(piece.len());
            piece[at] = byte;
            let _ = inflated(&piece, raw.len());
        }
    }
}
