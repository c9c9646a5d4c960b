//! Pieces: an entry is cut, each cut is deflated on its own and closed with a sync flush, and all
//! of them together are one deflate stream.
//!
//! Knows one piece at a time. Where an entry's pieces begin stands in the manifest, which
//! this module does not know.

use std::cell::RefCell;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{LazyLock, Mutex, PoisonError};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::block_walker::{BlockWalker, FinalBlock};
use crate::model::PIECE_LEN_BYTES;

/// What follows the last piece of an entry: an empty final block, which ends the deflate
/// stream.
pub const STREAM_END: [u8; 2] = [3, 0];

/// What a sync flush ends with: length and inverted length of an empty stored block, at a byte's
/// border.
const SYNC_BORDER: [u8; 4] = [0, 0, 0xff, 0xff];

/// Data of an entry that are not what they are said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum DataError {
    /// No deflate stream, or one that refers to bytes before its begin.
    #[error("the deflate stream is damaged after {after} bytes")]
    NotDeflate {
        /// Compressed bytes that were read when the damage showed.
        after: u64,
    },
    /// More bytes than claimed. Inflating stops there.
    #[error("its data unpacks to more than {expected} bytes")]
    TooLong {
        /// Bytes as claimed.
        expected: u64,
    },
    /// Fewer bytes than claimed.
    #[error("its data unpacks to {found} bytes instead of {expected}")]
    TooShort {
        /// Bytes as claimed.
        expected: u64,
        /// Bytes that came out.
        found: u64,
    },
    /// A deflate stream that ends before its data do.
    #[error("the deflate stream ends before its {compressed_len} bytes do")]
    EndsEarly {
        /// Compressed bytes as claimed.
        compressed_len: u64,
    },
    /// A deflate stream that does not end where its data do.
    #[error("the deflate stream does not end after {compressed_len} bytes")]
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
    #[error("the deflater stopped after {found} of {expected} bytes")]
    DeflateStopped {
        /// Bytes of the piece.
        expected: u64,
        /// Bytes that it took.
        found: u64,
    },
    /// A piece that is said to be longer than pieces are.
    #[error("a piece has {found} bytes, more than {max}")]
    LongPiece {
        /// The longest piece.
        max: usize,
        /// The length that is claimed.
        found: usize,
    },
    /// A piece that does not end with a sync flush.
    #[error("a piece does not end with a sync flush")]
    NoSyncBorder,
    /// A piece that ends the whole stream.
    #[error("a piece ends the deflate stream too early")]
    FinalBlock,
}

/// How pieces are deflated at a level of ours: by these levels of libdeflate.
///
/// Between two of its levels lie better ones than it has: they are made of both.
struct Level {
    most: i32,
    /// For the last one of each `one_in` pieces of an entry. A piece that has others before it pays
    /// most for being cut off from them.
    some: i32,
    one_in: u64,
}

/// By level. None gives an archive that is larger than zip's at that level by more than 0.5 %; the
/// rest is speed (docs/performance.md).
const LEVELS: [Level; 10] = [
    Level {
        most: 0,
        some: 0,
        one_in: 1,
    },
    Level {
        most: 1,
        some: 1,
        one_in: 1,
    },
    Level {
        most: 1,
        some: 2,
        one_in: 2,
    },
    Level {
        most: 2,
        some: 2,
        one_in: 1,
    },
    Level {
        most: 2,
        some: 3,
        one_in: 2,
    },
    Level {
        most: 3,
        some: 3,
        one_in: 1,
    },
    Level {
        most: 5,
        some: 6,
        one_in: 4,
    },
    Level {
        most: 6,
        some: 6,
        one_in: 1,
    },
    Level {
        most: 7,
        some: 7,
        one_in: 1,
    },
    Level {
        most: 9,
        some: 9,
        one_in: 1,
    },
];

/// Room that a piece of `len` bytes needs when it is deflated. What cannot be deflated becomes
/// longer, by an eighth at the most.
pub fn deflate_room(len: usize) -> usize {
    len + (len >> 3) + 64
}

/// Deflates pieces, one after the other, with states that are made once.
///
/// libdeflate makes whole streams only. So the final block of a stream becomes one like the others,
/// and a flush is put behind it. zlib does what cannot be followed to its end.
pub struct Deflater {
    level: u32,
    states: Vec<(i32, libdeflater::Compressor)>,
    walker: BlockWalker,
}

impl Deflater {
    /// A deflater of `level` 0 (none) to 9 (best); higher ones are taken as 9.
    pub fn new(level: u32) -> Self {
        Deflater {
            level: level.min(9),
            states: Vec::new(),
            walker: BlockWalker::new(),
        }
    }

    /// Deflates `raw` on its own into a `room` of [`deflate_room`], closed with a sync flush. Gives
    /// the deflated length.
    ///
    /// `number` is that of the piece in its entry. The bytes depend on it, on `raw` and on the
    /// level only: not on earlier pieces, nor on the size of `room`.
    pub fn piece_into(
        &mut self,
        number: u64,
        raw: &[u8],
        room: &mut [u8],
    ) -> Result<usize, DataError> {
        match self
            .deflate_whole(number, raw, room)
            .and_then(|len| self.open_end(len, room))
        {
            Some(len) => Ok(len),
            None => deflate_by_zlib(self.level, raw, room),
        }
    }

    /// Deflates to a stream that ends.
    fn deflate_whole(&mut self, number: u64, raw: &[u8], room: &mut [u8]) -> Option<usize> {
        let Level { most, some, one_in } = LEVELS.get(self.level as usize)?;
        let level = if (number + 1).is_multiple_of(*one_in) {
            *some
        } else {
            *most
        };
        let place = match self.states.iter().position(|(of, _)| *of == level) {
            Some(place) => place,
            None => {
                self.states.push((
                    level,
                    libdeflater::Compressor::new(libdeflater::CompressionLvl::new(level).ok()?),
                ));
                self.states.len() - 1
            }
        };
        // More room than it asks for would change nothing.
        self.states
            .get_mut(place)?
            .1
            .deflate_compress(raw, room)
            .ok()
    }

    /// Lets the stream of `len` bytes go on, and flushes it.
    fn open_end(&mut self, len: usize, room: &mut [u8]) -> Option<usize> {
        let FinalBlock { final_block, end } = self.walker.walk(room.get(..len)?)?;
        *room.get_mut(final_block / 8)? &= !(1 << (final_block % 8));
        // An empty stored block: three bits of 0, 0 up to the next byte, its length and that
        // inverted. After the end there are only zeros.
        let border = (end + 3).div_ceil(8);
        room.get_mut(len..border)?.fill(0);
        room.get_mut(border..border + SYNC_BORDER.len())?
            .copy_from_slice(&SYNC_BORDER);
        Some(border + SYNC_BORDER.len())
    }
}

/// Deflates and flushes at once.
fn deflate_by_zlib(level: u32, raw: &[u8], room: &mut [u8]) -> Result<usize, DataError> {
    let mut state = Compress::new(Compression::new(level), false);
    let status = state.compress(raw, room, FlushCompress::Sync);
    let (found, len) = (
        state.total_in(),
        usize::try_from(state.total_out()).unwrap_or(usize::MAX),
    );
    // Room that is left over means that nothing is held back.
    let is_whole = status.is_ok() && found == raw.len() as u64 && len < room.len();
    if is_whole
        && room
            .get(..len)
            .is_some_and(|piece| piece.ends_with(&SYNC_BORDER))
    {
        return Ok(len);
    }
    Err(DataError::DeflateStopped {
        expected: raw.len() as u64,
        found,
    })
}

/// What is put after a piece to see that it ends where it must: a final block that nobody can
/// foresee, and what it inflates to.
///
/// The fast inflater does not say how much of its input it used. But whatever stands in a piece,
/// this block comes out of it whole and last only if the inflater reaches it at the border of a
/// block. Foreseen it must not be: else a piece could end in the middle of a block that takes the
/// known bytes for its own.
struct Sentinel {
    deflated: Vec<u8>,
    plain: Vec<u8>,
}

static SENTINEL: LazyLock<Sentinel> = LazyLock::new(|| {
    let random = RandomState::new();
    // Few and uneven symbols, so that the block carries a code of its own.
    let byte = |index: u16| {
        let bits = random.hash_one(index);
        random.hash_one((bits as u8 & 15).min((bits >> 8) as u8 & 15)) as u8
    };
    let plain: Vec<u8> = (0..SEAL_LEN_BYTES).map(byte).collect();
    let mut state = Compress::new(Compression::best(), false);
    let mut deflated = Vec::with_capacity(2 * plain.len());
    // Whatever becomes of it: a seal that is not whole lets no piece pass, and each is looked at in
    // the slow way.
    state
        .compress_vec(&plain, &mut deflated, FlushCompress::Finish)
        .ok();
    Sentinel { deflated, plain }
});

/// Long enough that a code of its own pays.
const SEAL_LEN_BYTES: u16 = 600;

/// Room that inflating needs besides the piece itself.
pub const INFLATE_ROOM_BYTES: usize = SEAL_LEN_BYTES as usize;

/// Inflates pieces, one after the other, with states that are made once.
///
/// A sound piece is inflated at once by libdeflate; what does not come out as it should goes
/// through zlib, which can say what is wrong.
pub struct Inflater {
    fast: libdeflater::Decompressor,
    state: Decompress,
    sealed: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Inflater {
            fast: libdeflater::Decompressor::new(),
            state: Decompress::new(false),
            sealed: Vec::new(),
        }
    }
}

impl Inflater {
    /// Inflates the piece `compressed` of `expected_len` bytes into `room` for it and
    /// [`INFLATE_ROOM_BYTES`] more. What stands after the piece then is of no use.
    ///
    /// The piece must stand on its own: refer to nothing before it, use all its bytes and end with
    /// a sync flush, not with a final block.
    pub fn piece_into(
        &mut self,
        compressed: &[u8],
        expected_len: usize,
        room: &mut [u8],
    ) -> Result<(), DataError> {
        if expected_len > PIECE_LEN_BYTES {
            return Err(DataError::LongPiece {
                max: PIECE_LEN_BYTES,
                found: expected_len,
            });
        }
        if self.inflate_sealed(compressed, expected_len, room) {
            return Ok(());
        }
        // At least one byte more than claimed: a piece that is too long shows itself there, and
        // goes no further.
        self.inflate(
            compressed,
            expected_len as u64,
            room.get_mut(..=expected_len).unwrap_or_default(),
        )
    }

    /// Whether the piece is sound and now lies in `room`, with the seal behind it.
    fn inflate_sealed(&mut self, compressed: &[u8], expected_len: usize, room: &mut [u8]) -> bool {
        if !compressed.ends_with(&SYNC_BORDER) {
            return false;
        }
        self.sealed.clear();
        self.sealed.extend_from_slice(compressed);
        self.sealed.extend_from_slice(&SENTINEL.deflated);
        let whole = self
            .fast
            .deflate_decompress(&self.sealed, room)
            .is_ok_and(|len| len == room.len());
        whole && room.get(expected_len..) == Some(&SENTINEL.plain)
    }

    fn inflate(
        &mut self,
        compressed: &[u8],
        expected: u64,
        room: &mut [u8],
    ) -> Result<(), DataError> {
        self.state.reset(false);
        let status = self
            .state
            .decompress(compressed, room, FlushDecompress::None);
        let (after, found) = (self.state.total_in(), self.state.total_out());
        match status {
            Err(_) => return Err(DataError::NotDeflate { after }),
            Ok(_) if found > expected => return Err(DataError::TooLong { expected }),
            Ok(Status::StreamEnd) => return Err(DataError::FinalBlock),
            Ok(_) if after != compressed.len() as u64 => {
                return Err(DataError::NotDeflate { after });
            }
            Ok(_) if found < expected => return Err(DataError::TooShort { expected, found }),
            Ok(_) => {}
        }
        // At the border of a block, and only there, an empty final block ends the stream and gives
        // no byte.
        let end = self
            .state
            .decompress(&STREAM_END, &mut [0], FlushDecompress::None);
        let ends = matches!(end, Ok(Status::StreamEnd)) && self.state.total_out() == expected;
        if ends && compressed.ends_with(&SYNC_BORDER) {
            Ok(())
        } else {
            Err(DataError::NoSyncBorder)
        }
    }
}

thread_local! {
    /// The state of a worker. Pieces of small entries take less time than making a state does.
    static INFLATER: RefCell<Inflater> = RefCell::new(Inflater::default());
}

/// States that no worker has at the moment, all of one level: they are large, and there are more
/// threads than workers.
static DEFLATERS: Mutex<Vec<Deflater>> = Mutex::new(Vec::new());

/// [`Deflater::piece_into`], with a state that is kept.
///
/// # Errors
/// As there.
pub fn deflate_piece(
    level: u32,
    number: u64,
    raw: &[u8],
    room: &mut [u8],
) -> Result<usize, DataError> {
    let kept = || DEFLATERS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut deflater = kept()
        .pop()
        .filter(|kept| kept.level == level)
        .unwrap_or_else(|| Deflater::new(level));
    let deflated = deflater.piece_into(number, raw, room);
    kept().push(deflater);
    deflated
}

/// [`Inflater::piece_into`], with a state that this thread keeps.
///
/// # Errors
/// As there.
pub fn inflate_piece(
    compressed: &[u8],
    expected_len: usize,
    room: &mut [u8],
) -> Result<(), DataError> {
    INFLATER.with_borrow_mut(|inflater| inflater.piece_into(compressed, expected_len, room))
}

/// Pieces one after the other in one buffer, as tests look at them.
#[cfg(test)]
mod appending {
    use super::{DataError, Deflater, INFLATE_ROOM_BYTES, Inflater, deflate_room};
    use crate::model::PIECE_LEN_BYTES;

    impl Deflater {
        /// As [`Deflater::piece_into`], but appends to `out`. On an error `out` is as it was.
        pub fn append(
            &mut self,
            number: u64,
            raw: &[u8],
            out: &mut Vec<u8>,
        ) -> Result<(), DataError> {
            let start = out.len();
            out.resize(start + deflate_room(raw.len()), 0);
            let result = self.piece_into(number, raw, &mut out[start..]);
            out.truncate(start + *result.as_ref().unwrap_or(&0));
            result.map(drop)
        }
    }

    impl Inflater {
        /// As [`Inflater::piece_into`], but appends to `out`. On an error `out` is as it was.
        pub fn append(
            &mut self,
            compressed: &[u8],
            expected_len: usize,
            out: &mut Vec<u8>,
        ) -> Result<(), DataError> {
            let start = out.len();
            let room = expected_len.min(PIECE_LEN_BYTES) + INFLATE_ROOM_BYTES;
            out.resize(start + room, 0);
            let result = self.piece_into(compressed, expected_len, &mut out[start..]);
            out.truncate(start + result.as_ref().map_or(0, |()| expected_len));
            result
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::DeflateDecoder;
    use proptest::prelude::*;

    use super::*;

    fn deflated(level: u32, raw: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Deflater::new(level).append(0, raw, &mut out).unwrap();
        out
    }

    fn inflated(piece: &[u8], expected_len: usize) -> Result<Vec<u8>, DataError> {
        let mut out = b"before".to_vec();
        let result = Inflater::default().append(piece, expected_len, &mut out);
        assert!(out.starts_with(b"before"));
        assert_eq!(
            out.len(),
            if result.is_ok() { 6 + expected_len } else { 6 },
            "an error leaves nothing behind"
        );
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
    fn piece_depends_on_bytes_number_and_level() {
        let raw = noise(200_000);
        for (level, number) in (0..=9).flat_map(|level| [(level, 0), (level, 1)]) {
            let mut fresh = Vec::new();
            Deflater::new(level)
                .append(number, &raw, &mut fresh)
                .unwrap();
            let mut deflater = Deflater::new(level);
            deflater
                .append(
                    number,
                    b"another piece before it, another piece before it",
                    &mut Vec::new(),
                )
                .unwrap();
            for room in [0, 1, 1_000_000] {
                let mut out = vec![7; deflate_room(raw.len()) + room];
                let len = deflater.piece_into(number, &raw, &mut out).unwrap();
                assert!(out[..len] == fresh, "level {level}, room {room}");
            }
        }
        assert!(deflated(10, &raw) == deflated(9, &raw));
    }

    #[test]
    fn pieces_of_any_length_and_level_round_trip() {
        let raws = [noise(200_000), b"entities of a kind, ".repeat(10_000)];
        for level in 0..=9 {
            let (mut deflater, mut inflater) = (Deflater::new(level), Inflater::default());
            let (mut piece, mut back) = (Vec::new(), Vec::new());
            // Around where libdeflate begins to deflate, and where a stored block is full.
            for (len, raw) in (0..80)
                .chain(65_500..65_560)
                .chain([131_070, 200_000])
                .flat_map(|len| raws.each_ref().map(|raw| (len, raw)))
            {
                piece.clear();
                back.clear();
                deflater.append(1, &raw[..len], &mut piece).unwrap();
                inflater.append(&piece, len, &mut back).unwrap();
                assert!(back == raw[..len], "level {level}, {len} bytes");
            }
        }
    }

    #[test]
    fn what_cannot_be_followed_is_deflated_by_zlib() {
        for (level, raw) in [
            (1, noise(100_000)),
            (6, b"piece".repeat(50_000)),
            (9, noise(1)),
            (0, noise(70_000)),
        ] {
            let mut room = vec![7; deflate_room(raw.len())];
            let len = deflate_by_zlib(level, &raw, &mut room).unwrap();
            assert!(
                inflated(&room[..len], raw.len()).unwrap() == raw,
                "level {level}"
            );
        }
        assert_eq!(
            deflate_by_zlib(6, &noise(1000), &mut [0; 900]),
            Err(DataError::DeflateStopped {
                expected: 1000,
                found: 1000
            })
        );
    }

    #[test]
    fn stream_continues_after_any_end_bit() {
        let mut ends = [false; 8];
        let mut deflater = Deflater::new(6);
        for len in 0..400 {
            let raw: Vec<u8> = noise(len).into_iter().map(|byte| byte & 31).collect();
            let mut room = vec![7; deflate_room(len)];
            let whole = deflater.deflate_whole(0, &raw, &mut room).unwrap();
            ends[BlockWalker::new().walk(&room[..whole]).unwrap().end % 8] = true;
            let piece = deflater.open_end(whole, &mut room).unwrap();
            assert!(inflated(&room[..piece], len).unwrap() == raw, "{len} bytes");
        }
        assert_eq!(ends, [true; 8]);
    }

    #[test]
    fn longest_piece_round_trips_and_longer_is_refused() {
        let raw = vec![b'x'; PIECE_LEN_BYTES];
        let piece = deflated(1, &raw);
        assert!(inflated(&piece, PIECE_LEN_BYTES).unwrap() == raw);
        assert_eq!(
            inflated(&piece, PIECE_LEN_BYTES + 1),
            Err(DataError::LongPiece {
                max: PIECE_LEN_BYTES,
                found: PIECE_LEN_BYTES + 1
            })
        );
        assert_eq!(
            inflated(&piece, usize::MAX),
            Err(DataError::LongPiece {
                max: PIECE_LEN_BYTES,
                found: usize::MAX
            })
        );
    }

    #[test]
    fn bomb_stops_at_first_excess_byte() {
        let bomb = deflated(9, &vec![0; PIECE_LEN_BYTES]);
        let mut out = Vec::new();
        assert_eq!(
            Inflater::default().append(&bomb, 10, &mut out),
            Err(DataError::TooLong { expected: 10 })
        );
        assert!(out.is_empty() && out.capacity() < 1000);
    }

    #[test]
    fn invalid_pieces_are_refused_with_reason() {
        use FlushCompress::{Finish, None as NoFlush, Partial, Sync};
        let piece = deflated(6, b"piece piece piece");
        let mut with_end = piece.clone();
        with_end.extend(STREAM_END);
        let mut with_byte = piece.clone();
        with_byte.push(0);
        let first = flushed(&[(b"piece piece piece", Sync)]);
        let both = flushed(&[(b"piece piece piece", Sync), (b"piece piece piece", Sync)]);
        // A stored block of eight bytes whose last four look like a border, and one that goes on
        // behind them.
        let stored = b"\x00\x08\x00\xf7\xffabcd\x00\x00\xff\xff";
        let stored_on = b"\x00\x0c\x00\xf3\xffabcd\x00\x00\xff\xff";
        for (what, piece, expected_len, error) in [
            ("nothing", &[][..], 0, DataError::NoSyncBorder),
            (
                "nothing, said to be something",
                &[],
                3,
                DataError::TooShort {
                    expected: 3,
                    found: 0,
                },
            ),
            (
                "one byte less",
                &piece,
                18,
                DataError::TooShort {
                    expected: 18,
                    found: 17,
                },
            ),
            (
                "one byte more",
                &piece,
                16,
                DataError::TooLong { expected: 16 },
            ),
            (
                "the end of the stream too",
                &with_end,
                17,
                DataError::FinalBlock,
            ),
            (
                "a whole stream",
                &flushed(&[(b"piece piece piece", Finish)]),
                17,
                DataError::FinalBlock,
            ),
            (
                "a cut border",
                &piece[..piece.len() - 1],
                17,
                DataError::NoSyncBorder,
            ),
            (
                "a byte behind the border",
                &with_byte,
                17,
                DataError::NoSyncBorder,
            ),
            (
                "another flush",
                &flushed(&[(b"piece piece piece", Partial), (b"", NoFlush)]),
                17,
                DataError::NoSyncBorder,
            ),
            ("no flush", &stored_on[..12], 7, DataError::NoSyncBorder),
            (
                "a border that is data",
                stored_on,
                8,
                DataError::NoSyncBorder,
            ),
            (
                "a stored block",
                b"\x00\x03\x00\xfc\xffabc",
                3,
                DataError::NoSyncBorder,
            ),
            (
                "an unknown block",
                b"\x06\x00\x00\xff\xff",
                0,
                DataError::NotDeflate { after: 1 },
            ),
        ] {
            assert_eq!(inflated(piece, expected_len), Err(error), "{what}");
        }
        assert!(
            matches!(
                inflated(&both[first.len()..], 17),
                Err(DataError::NotDeflate { .. })
            ),
            "it refers to the piece before"
        );
        assert_eq!(
            inflated(&both, 34).unwrap(),
            b"piece piece piecepiece piece piece"
        );
        // A block's border whose last bytes only look like a flush: it stands on its own all the
        // same.
        assert_eq!(inflated(stored, 8).unwrap(), b"abcd\x00\x00\xff\xff");
    }

    #[test]
    fn own_pieces_take_the_fast_path() {
        let fast = |piece: &[u8], len: usize| {
            Inflater::default().inflate_sealed(piece, len, &mut vec![0; len + SENTINEL.plain.len()])
        };
        for raw in [&b""[..], b"piece piece piece", &noise(100_000)] {
            for level in 0..=9 {
                assert!(
                    raw.is_empty() || fast(&deflated(level, raw), raw.len()),
                    "level {level}"
                );
            }
        }
        // A stored block that is not over, final or not: it would take the seal for its data, as
        // far as it is long enough.
        for (last, more) in [
            (0_u8, 4_usize),
            (1, 4),
            (1, SENTINEL.deflated.len()),
            (0, SENTINEL.deflated.len()),
            (1, SENTINEL.deflated.len() - 1),
        ] {
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
        let (mut inflater, mut out) = (Inflater::default(), Vec::new());
        for cut in 0..piece.len() {
            assert!(
                inflater.append(&piece[..cut], 17, &mut out).is_err(),
                "cut after {cut}"
            );
            inflater.append(&piece, 17, &mut out).unwrap();
        }
        assert_eq!(out, b"piece piece piece".repeat(piece.len()));
    }

    fn raw() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..3_000),
            prop::collection::vec(0..3_u8, 0..3_000)
        ]
    }

    /// Longer than any block: runs, noise, few symbols, texts that come again, and deflate streams
    /// as data.
    fn long() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            (any::<u8>(), 1..100_000_usize).prop_map(|(byte, len)| vec![byte; len]),
            (1..100_000_usize).prop_map(noise),
            (1..100_000_usize, 1..9_u8).prop_map(|(len, bits)| noise(len)
                .into_iter()
                .map(|byte| byte >> (bits % 8))
                .collect()),
            (raw(), 1..100_usize).prop_map(|(text, times)| text.repeat(times)),
            (raw(), 0..=9_u32).prop_map(|(raw, level)| flushed_at(level, &raw).repeat(3)),
        ];
        prop::collection::vec(part, 1..12).prop_map(|parts| parts.concat())
    }

    /// A whole stream, final block and all.
    fn flushed_at(level: u32, raw: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(deflate_room(raw.len()));
        Compress::new(Compression::new(level), false)
            .compress_vec(raw, &mut out, FlushCompress::Finish)
            .unwrap();
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn long_pieces_take_the_fast_path(raw in long(), level in 0..=9_u32, number in 0..9_u64) {
            let (mut deflater, mut room) = (Deflater::new(level), vec![0; deflate_room(raw.len())]);
            let whole = deflater.deflate_whole(number, &raw, &mut room).unwrap();
            let len = deflater.open_end(whole, &mut room).expect("it can be followed");
            let piece = &room[..len];
            prop_assert!(Inflater::default().inflate_sealed(piece, raw.len(), &mut vec![0; raw.len() + INFLATE_ROOM_BYTES]));
            let mut plain = Vec::new();
            DeflateDecoder::new([piece, piece, &STREAM_END].concat().as_slice()).read_to_end(&mut plain).unwrap();
            prop_assert!(plain == raw.repeat(2));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn pieces_inflate_singly_and_as_one_stream(raw in raw(), level in 0..=9_u32, piece_len in 1..1_000_usize) {
            let (mut deflater, mut inflater) = (Deflater::new(level), Inflater::default());
            let (mut stream, mut back) = (Vec::new(), Vec::new());
            for (number, part) in (0..).zip(raw.chunks(piece_len)) {
                let start = stream.len();
                deflater.append(number, part, &mut stream).unwrap();
                inflater.append(&stream[start..], part.len(), &mut back).unwrap();
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
        fn damaged_piece_is_refused_or_keeps_its_length(raw in raw(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut piece = deflated(6, &raw);
            let at = at.index(piece.len());
            piece[at] = byte;
            let _ = inflated(&piece, raw.len());
        }
    }
}
