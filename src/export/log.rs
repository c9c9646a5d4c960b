//! The framing of entities in an output and of records in a metadata log: `LevelDB`'s log format
//! (docs/formats.md, section 3).
//!
//! Knows blocks, fragments and their checksums. Must not know what a record holds. A log is read in
//! pieces that know nothing of each other, so that all cores can read one output; a [`RecordJoiner`]
//! joins them.

use crate::model::Crc32c;

/// Bytes in a block. No fragment crosses a block's border.
pub const BLOCK_LEN_BYTES: usize = 32 * 1024;

/// The longest record of an output. The service's entities end at 1 MiB, the emulator's at the 4
/// MiB of a request, and both take a little more as records; the bound keeps a hostile log from
/// filling the memory.
pub const MAX_RECORD_BYTES: usize = 8 << 20;

/// Checksum (4 bytes), length (2) and type (1) stand before each fragment's data.
const HEADER_LEN_BYTES: usize = 7;
/// Where the checksummed part begins: the type byte, with the data right after it.
const CHECKED_FROM: usize = 6;
const MASK_DELTA: u32 = 0xa282_ead8;

/// A log that is not what a log must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log at byte {offset}: {reason}")]
pub struct LogError {
    /// Where the fault stands, in bytes from the log's start.
    pub offset: u64,
    /// What is wrong there.
    pub reason: LogFault,
}

/// Every way in which a log can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum LogFault {
    /// The bytes of a fragment are not those that were written.
    #[error("expected checksum {expected}, found {found}")]
    BadChecksum {
        /// The checksum in the fragment's header.
        expected: Crc32c,
        /// The checksum of the bytes that stand there.
        found: Crc32c,
    },
    /// A fragment claims to reach over its block.
    #[error("a fragment of {found} bytes reaches past its block, which has {room} bytes left")]
    LengthPastBlock {
        /// Bytes left in the block after the header.
        room: usize,
        /// The length in the header.
        found: usize,
    },
    /// A fragment of a type that does not exist, with a checksum that fits.
    #[error("fragment type {found} is unknown")]
    UnknownType {
        /// The type byte.
        found: u8,
    },
    /// Where only zeros may stand there is something else.
    #[error("the padding at the end of a block is not zeros")]
    NonZeroPadding,
    /// A record goes on that did not begin, or one begins inside another.
    #[error("expected {expected} fragment, found {found}")]
    FragmentOrder {
        /// The types that may stand here.
        expected: &'static str,
        /// The type that stands here, or the lack of one.
        found: &'static str,
    },
    /// The log ends inside a fragment.
    #[error("the log ends within a fragment: {found} of {expected} bytes are there")]
    Truncated {
        /// Bytes that must stand here.
        expected: usize,
        /// Bytes that do.
        found: usize,
    },
    /// The log ends after a record's first fragments.
    #[error("the log ends within a record")]
    UnfinishedRecord,
    /// The fragments of a record add up to more than any record may have.
    #[error("a record has more than {MAX_RECORD_BYTES} bytes")]
    RecordTooLarge,
    /// A piece does not begin where the one before it ended, or follows one that was not whole
    /// blocks.
    #[error("a piece does not begin at byte {expected}, where the one before it ends")]
    PieceOutOfPlace {
        /// Where the pieces so far end.
        expected: u64,
    },
}

const OPENING: &str = "a FULL or FIRST";
const FOLLOWING: &str = "a MIDDLE or LAST";

/// What of a record that began in an earlier piece stands at a piece's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PieceHead {
    /// Nothing: the piece begins with a record of its own.
    NoRecord,
    /// The record's end.
    EndsRecord(Vec<u8>),
    /// The record goes through the whole piece, which holds nothing else. Empty for a piece of
    /// padding.
    WholePiece(Vec<u8>),
}

/// A record that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRecord {
    /// Where its first fragment stands, in bytes from the log's start.
    pub offset: u64,
    /// Its bytes so far.
    pub bytes: Vec<u8>,
}

/// What is left open at both ends of a piece; for a [`RecordJoiner`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceBoundary {
    /// Where the piece begins, in bytes from the log's start.
    pub offset: u64,
    /// Bytes in the piece.
    pub len_bytes: u64,
    /// Where the piece's first fragment stands; none in a piece of padding.
    pub first_fragment: Option<u64>,
    /// The end of a record that began earlier.
    pub head: PieceHead,
    /// The start of a record that ends later.
    pub tail: Option<OpenRecord>,
}

/// Reads one piece of an output, which begins at `offset`, and hands out each record that begins
/// and ends within it.
///
/// Checks every fragment's checksum. Pieces may be read in any order, or at once; their ends go to
/// a [`RecordJoiner`] in order. Every piece but the last must be whole blocks, which the stitch checks.
/// The first error ends the reading, the caller's own included.
pub fn read_piece<E: From<LogError>>(
    piece: &[u8],
    offset: u64,
    on_record: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<PieceBoundary, E> {
    read_fragments(piece, offset, MAX_RECORD_BYTES, on_record)
}

fn read_fragments<E: From<LogError>>(
    piece: &[u8],
    offset: u64,
    record_max_bytes: usize,
    mut on_record: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<PieceBoundary, E> {
    let mut ends = PieceBoundary::new(piece, offset);
    let mut record = Vec::new();
    let mut at = ReaderState::Start;
    let fragments = Fragments {
        piece,
        position: 0,
        offset,
    };
    for fragment in fragments {
        let fragment = fragment?;
        ends.first_fragment.get_or_insert(fragment.offset);
        if fragment.part == FragmentType::First {
            record.clear();
        }
        let next = at.after(&fragment)?;
        if fragment.part == FragmentType::Full {
            on_record(fragment.data)?;
        } else {
            append(
                &mut record,
                fragment.data,
                record_max_bytes,
                fragment.offset,
            )?;
        }
        if fragment.part == FragmentType::Last {
            match at {
                ReaderState::InRecord(_) => on_record(&record)?,
                _ => ends.head = PieceHead::EndsRecord(std::mem::take(&mut record)),
            }
        }
        at = next;
    }
    Ok(ends.with_open(at, record))
}

impl PieceBoundary {
    /// A piece of which nothing has been read.
    fn new(piece: &[u8], offset: u64) -> Self {
        PieceBoundary {
            offset,
            len_bytes: piece.len() as u64,
            first_fragment: None,
            head: PieceHead::NoRecord,
            tail: None,
        }
    }

    /// With what is read of a record where the piece ends.
    fn with_open(mut self, at: ReaderState, bytes: Vec<u8>) -> Self {
        match at {
            ReaderState::Start | ReaderState::InEarlierRecord => {
                self.head = PieceHead::WholePiece(bytes);
            }
            ReaderState::BetweenRecords => {}
            ReaderState::InRecord(offset) => self.tail = Some(OpenRecord { offset, bytes }),
        }
        self
    }
}

/// Where the reading of a piece is.
#[derive(Clone, Copy)]
enum ReaderState {
    /// Before its first fragment.
    Start,
    /// In a record that began in an earlier piece.
    InEarlierRecord,
    /// Between two records.
    BetweenRecords,
    /// In a record that began here.
    InRecord(u64),
}

impl ReaderState {
    /// Where the reading is after a fragment, which must be of a type that may come here.
    fn after(self, fragment: &Fragment<'_>) -> Result<ReaderState, LogError> {
        let (part, offset) = (fragment.part, fragment.offset);
        match (self, part) {
            (ReaderState::Start | ReaderState::BetweenRecords, FragmentType::Full) => {
                Ok(ReaderState::BetweenRecords)
            }
            (ReaderState::Start | ReaderState::BetweenRecords, FragmentType::First) => {
                Ok(ReaderState::InRecord(offset))
            }
            (ReaderState::Start | ReaderState::InEarlierRecord, FragmentType::Middle) => {
                Ok(ReaderState::InEarlierRecord)
            }
            (ReaderState::InRecord(start), FragmentType::Middle) => {
                Ok(ReaderState::InRecord(start))
            }
            (
                ReaderState::Start | ReaderState::InEarlierRecord | ReaderState::InRecord(_),
                FragmentType::Last,
            ) => Ok(ReaderState::BetweenRecords),
            (ReaderState::BetweenRecords, FragmentType::Middle | FragmentType::Last) => {
                Err(out_of_order(OPENING, part.name(), offset))
            }
            (
                ReaderState::InEarlierRecord | ReaderState::InRecord(_),
                FragmentType::Full | FragmentType::First,
            ) => Err(out_of_order(FOLLOWING, part.name(), offset)),
        }
    }
}

/// Reads a whole log in one go, such as one of metadata. Its records may be as long as the log:
/// that of an export of very many kinds is.
pub fn read_log<E: From<LogError>>(
    log: &[u8],
    on_record: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let ends = read_fragments(log, 0, usize::MAX, on_record)?;
    let mut stitch = RecordJoiner::default();
    // Nothing stands before the first piece, so no record can end in its head.
    stitch.push(ends)?;
    Ok(stitch.finish()?)
}

/// Reads all records of a small log, such as a metadata log.
pub fn read_all(log: &[u8]) -> Result<Vec<Vec<u8>>, LogError> {
    let mut records = Vec::new();
    read_log(log, |record| {
        records.push(record.to_vec());
        Ok::<(), LogError>(())
    })?;
    Ok(records)
}

/// Joins the ends of pieces, which come in order, and so proves the order of fragments over the
/// whole log.
#[derive(Debug, Default)]
pub struct RecordJoiner {
    end: u64,
    open: Option<OpenRecord>,
    /// What was open before the first piece is not known.
    resumed: bool,
}

impl RecordJoiner {
    /// A stitch that begins within the log, at the piece at `offset`: the end of a record that
    /// began before it is passed over.
    pub fn resumed(offset: u64) -> Self {
        RecordJoiner {
            end: offset,
            open: None,
            resumed: offset > 0,
        }
    }

    /// Takes the ends of the next piece. Returns the record that began earlier and ended in it, if
    /// there is one: in the log's order it stands before the piece's own records.
    pub fn push(&mut self, mut ends: PieceBoundary) -> Result<Option<Vec<u8>>, LogError> {
        if ends.offset != self.end || !self.end.is_multiple_of(BLOCK_LEN_BYTES as u64) {
            return Err(LogError {
                offset: ends.offset,
                reason: LogFault::PieceOutOfPlace { expected: self.end },
            });
        }
        self.end = self.end.saturating_add(ends.len_bytes);
        if std::mem::take(&mut self.resumed) && matches!(ends.head, PieceHead::EndsRecord(_)) {
            ends.head = PieceHead::NoRecord;
        }
        let first = ends.first_fragment.unwrap_or(ends.offset);
        match (&mut self.open, &ends.head) {
            (None, PieceHead::NoRecord) => {}
            (None, PieceHead::WholePiece(_)) if ends.first_fragment.is_none() => {}
            (None, PieceHead::EndsRecord(_) | PieceHead::WholePiece(_)) => {
                return Err(out_of_order(OPENING, FOLLOWING, first));
            }
            (Some(_), PieceHead::NoRecord) => return Err(out_of_order(FOLLOWING, OPENING, first)),
            (Some(open), PieceHead::EndsRecord(bytes) | PieceHead::WholePiece(bytes)) => {
                append(&mut open.bytes, bytes, MAX_RECORD_BYTES, first)?
            }
        }
        let completed = match ends.head {
            PieceHead::EndsRecord(_) => self.open.take().map(|record| record.bytes),
            PieceHead::NoRecord | PieceHead::WholePiece(_) => None,
        };
        if ends.tail.is_some() {
            self.open = ends.tail;
        }
        Ok(completed)
    }

    /// Ends the log; fails if a record is still open.
    pub fn finish(self) -> Result<(), LogError> {
        match self.open {
            None => Ok(()),
            Some(open) => Err(LogError {
                offset: open.offset,
                reason: LogFault::UnfinishedRecord,
            }),
        }
    }
}

fn append(
    record: &mut Vec<u8>,
    data: &[u8],
    record_max_bytes: usize,
    offset: u64,
) -> Result<(), LogError> {
    if record.len() + data.len() > record_max_bytes {
        return Err(LogError {
            offset,
            reason: LogFault::RecordTooLarge,
        });
    }
    record.extend_from_slice(data);
    Ok(())
}

fn out_of_order(expected: &'static str, found: &'static str, offset: u64) -> LogError {
    LogError {
        offset,
        reason: LogFault::FragmentOrder { expected, found },
    }
}

/// Which part of a record a fragment is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FragmentType {
    Full,
    First,
    Middle,
    Last,
}

impl FragmentType {
    fn from_byte(type_byte: u8) -> Option<Self> {
        Some(match type_byte {
            1 => FragmentType::Full,
            2 => FragmentType::First,
            3 => FragmentType::Middle,
            4 => FragmentType::Last,
            _ => return None,
        })
    }

    fn type_byte(self) -> u8 {
        match self {
            FragmentType::Full => 1,
            FragmentType::First => 2,
            FragmentType::Middle => 3,
            FragmentType::Last => 4,
        }
    }

    fn name(self) -> &'static str {
        match self {
            FragmentType::Full => "a FULL",
            FragmentType::First => "a FIRST",
            FragmentType::Middle => "a MIDDLE",
            FragmentType::Last => "a LAST",
        }
    }
}

struct Fragment<'a> {
    offset: u64,
    part: FragmentType,
    data: &'a [u8],
}

/// The fragments of a piece, each with a checksum that holds. Ends after the first error.
struct Fragments<'a> {
    piece: &'a [u8],
    position: usize,
    offset: u64,
}

impl<'a> Iterator for Fragments<'a> {
    type Item = Result<Fragment<'a>, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let fragment = self.fragment().transpose()?;
        Some(fragment.map_err(|reason| {
            let offset = self.offset + self.position as u64;
            self.piece = &[];
            LogError { offset, reason }
        }))
    }
}

impl<'a> Fragments<'a> {
    fn fragment(&mut self) -> Result<Option<Fragment<'a>>, LogFault> {
        loop {
            let Some(rest @ [_, ..]) = self.piece.get(self.position..) else {
                return Ok(None);
            };
            let left = BLOCK_LEN_BYTES - self.position % BLOCK_LEN_BYTES;
            let block = rest.get(..left).unwrap_or(rest);
            let (header, body) = match block.split_first_chunk::<HEADER_LEN_BYTES>() {
                Some(parts) => parts,
                None if left < HEADER_LEN_BYTES => {
                    self.skip_padding(block)?;
                    continue;
                }
                None => {
                    return Err(LogFault::Truncated {
                        expected: HEADER_LEN_BYTES,
                        found: block.len(),
                    });
                }
            };
            if *header == [0; HEADER_LEN_BYTES] {
                self.skip_padding(block)?;
                continue;
            }
            let [c0, c1, c2, c3, l0, l1, type_byte] = *header;
            let len = usize::from(u16::from_le_bytes([l0, l1]));
            let framed = HEADER_LEN_BYTES + len;
            if framed > left {
                return Err(LogFault::LengthPastBlock {
                    room: left - HEADER_LEN_BYTES,
                    found: len,
                });
            }
            let (Some(data), Some(checked)) = (body.get(..len), block.get(CHECKED_FROM..framed))
            else {
                return Err(LogFault::Truncated {
                    expected: framed,
                    found: block.len(),
                });
            };
            let expected = unmask(u32::from_le_bytes([c0, c1, c2, c3]));
            let found = crc32c::crc32c(checked);
            if expected != found {
                return Err(LogFault::BadChecksum {
                    expected: Crc32c(expected),
                    found: Crc32c(found),
                });
            }
            let part = FragmentType::from_byte(type_byte)
                .ok_or(LogFault::UnknownType { found: type_byte })?;
            let offset = self.offset + self.position as u64;
            self.position += framed;
            return Ok(Some(Fragment { offset, part, data }));
        }
    }

    fn skip_padding(&mut self, padding: &[u8]) -> Result<(), LogFault> {
        if padding.iter().any(|byte| *byte != 0) {
            return Err(LogFault::NonZeroPadding);
        }
        self.position += padding.len();
        Ok(())
    }
}

/// A checksum over bytes that hold checksums themselves is weak, so logs keep theirs masked.
fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(MASK_DELTA)
}

fn unmask(masked: u32) -> u32 {
    masked.wrapping_sub(MASK_DELTA).rotate_left(15)
}

/// From 1 to [`BLOCK_LEN_BYTES`].
fn left_in_block(len: u64) -> usize {
    BLOCK_LEN_BYTES - (len % BLOCK_LEN_BYTES as u64) as usize
}

/// How many zeros are to stand behind a log of `len` bytes before the emulator's importer gets it.
///
/// Where 1 to 6 bytes are left in the last block the importer never returns (docs/formats.md,
/// section 9); zeros there mean nothing in a log.
pub fn end_padding(len: u64) -> usize {
    let left = left_in_block(len);
    if left < HEADER_LEN_BYTES { left } else { 0 }
}

/// Frames records as a log. The bytes go to a buffer of the caller's, which may be drained between
/// any two calls.
#[derive(Debug, Default)]
pub struct LogWriter {
    len: u64,
}

impl LogWriter {
    /// Appends one record to `out`.
    pub fn record(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let mut rest = data;
        let mut begun = false;
        loop {
            let mut left = self.left_in_block();
            if left < HEADER_LEN_BYTES {
                self.pad(left, out);
                left = BLOCK_LEN_BYTES;
            }
            // With 7 bytes left a fragment without data stands there, as in the logs of the
            // service.
            let room = left - HEADER_LEN_BYTES;
            let (now, later) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            let part = match (begun, later.is_empty()) {
                (false, true) => FragmentType::Full,
                (false, false) => FragmentType::First,
                (true, false) => FragmentType::Middle,
                (true, true) => FragmentType::Last,
            };
            self.fragment(part, now, out);
            if later.is_empty() {
                return;
            }
            (rest, begun) = (later, true);
        }
    }

    /// Ends the log, with [`end_padding`].
    ///
    /// Returns the bytes of the whole log.
    pub fn finish(mut self, out: &mut Vec<u8>) -> u64 {
        self.pad(end_padding(self.len), out);
        self.len
    }

    fn left_in_block(&self) -> usize {
        left_in_block(self.len)
    }

    fn pad(&mut self, zeros: usize, out: &mut Vec<u8>) {
        out.resize(out.len() + zeros, 0);
        self.len += zeros as u64;
    }

    fn fragment(&mut self, part: FragmentType, data: &[u8], out: &mut Vec<u8>) {
        let type_byte = [part.type_byte()];
        let crc = crc32c::crc32c_append(crc32c::crc32c(&type_byte), data);
        out.extend_from_slice(&mask(crc).to_le_bytes());
        // A block holds less than 64 KiB, so the length fits its two bytes.
        out.extend_from_slice(&(data.len() as u16).to_le_bytes());
        out.extend_from_slice(&type_byte);
        out.extend_from_slice(data);
        self.len += (HEADER_LEN_BYTES + data.len()) as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entity::testing::objects;

    const BLOCK: usize = BLOCK_LEN_BYTES;

    fn log_of(records: &[Vec<u8>]) -> Vec<u8> {
        let (mut log, mut out) = (LogWriter::default(), Vec::new());
        records
            .iter()
            .for_each(|record| log.record(record, &mut out));
        assert_eq!(log.len, out.len() as u64);
        out
    }

    fn fragment(type_byte: u8, data: &[u8]) -> Vec<u8> {
        let mut out = mask(crc32c::crc32c(&[&[type_byte], data].concat()))
            .to_le_bytes()
            .to_vec();
        out.extend((data.len() as u16).to_le_bytes());
        out.push(type_byte);
        out.extend(data);
        out
    }

    fn read_in_pieces(log: &[u8], piece_len: usize) -> Result<Vec<Vec<u8>>, LogError> {
        let mut all = Vec::new();
        let mut stitch = RecordJoiner::default();
        for (index, piece) in log.chunks(piece_len).enumerate() {
            let mut own = Vec::new();
            let ends = read_piece(piece, (index * piece_len) as u64, |record| {
                own.push(record.to_vec());
                Ok::<(), LogError>(())
            })?;
            all.extend(stitch.push(ends)?);
            all.extend(own);
        }
        stitch.finish()?;
        Ok(all)
    }

    #[test]
    fn empty_log_matches_the_emulator() {
        let log = log_of(&[b"3".to_vec(), vec![]]);
        assert_eq!(
            log,
            [
                0xb8, 0x6d, 0x44, 0x4e, 1, 0, 1, 0x33, 0x05, 0x2b, 0x28, 0x43, 0, 0, 1
            ]
        );
        assert_eq!(read_all(&log), Ok(vec![b"3".to_vec(), vec![]]));
    }

    #[test]
    fn emulator_logs_read_back() {
        for (name, log) in objects("managed", |path| {
            path.ends_with("output-0") || path.ends_with(".overall_export_metadata")
        }) {
            assert!(log_of(&read_all(&log).unwrap()) == log, "{name}");
        }
    }

    #[test]
    fn records_near_block_borders_read_back() {
        for len in BLOCK - 30..BLOCK + 30 {
            let records = vec![vec![1; len], vec![], vec![2; 3 * BLOCK], vec![3; 5]];
            assert_eq!(read_all(&log_of(&records)), Ok(records), "{len}");
        }
    }

    #[test]
    fn empty_fragment_ends_a_block() {
        let records = vec![vec![1; BLOCK - 14], vec![2; 3]];
        let log = log_of(&records);
        assert_eq!(&log[BLOCK - 3..BLOCK], [0, 0, 2], "length 0, FIRST");
        assert_eq!(read_all(&log), Ok(records));
    }

    #[test]
    fn end_is_padded_only_for_importer_bug() {
        for left in 0..20 {
            let (mut log, mut out) = (LogWriter::default(), Vec::new());
            log.record(&vec![1; BLOCK - 7 - left], &mut out);
            log.finish(&mut out);
            assert_eq!(
                out.len(),
                if left < 7 { BLOCK } else { BLOCK - left },
                "{left}"
            );
            assert_eq!(read_all(&out).unwrap().len(), 1);
        }
        let mut out = Vec::new();
        LogWriter::default().finish(&mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn no_flipped_bit_goes_unseen() {
        let log = log_of(&[
            vec![],
            b"short".to_vec(),
            vec![7; 50],
            vec![9; BLOCK - 89],
            b"in the next block".to_vec(),
        ]);
        assert!(
            log[BLOCK - 6..BLOCK].iter().all(|byte| *byte == 0),
            "a trailer of zeros stands in the middle"
        );
        for at in (0..200)
            .chain((200..BLOCK - 50).step_by(61))
            .chain(BLOCK - 50..log.len())
        {
            for bit in 0..8 {
                let mut damaged = log.clone();
                damaged[at] ^= 1 << bit;
                assert!(read_all(&damaged).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn cut_log_fails_or_gives_clean_prefix() {
        let records = vec![vec![1; 100], vec![], vec![2; BLOCK + 300], vec![3; 40]];
        let log = log_of(&records);
        let mut borders = 0;
        for cut in 0..log.len() {
            if let Ok(found) = read_all(&log[..cut]) {
                assert_eq!(found, records[..found.len()], "cut at {cut}");
                borders += 1;
            }
        }
        assert_eq!(
            borders,
            records.len(),
            "a cut at a record border is only visible in the counts"
        );
    }

    #[test]
    fn each_fault_is_told_with_its_place() {
        let full = fragment(1, b"a");
        let padded = |mut log: Vec<u8>| {
            log.resize(BLOCK, 0);
            log
        };
        let mut wrong_sum = full.clone();
        wrong_sum[0] ^= 1;
        let mut dirty = padded(full.clone());
        dirty[100] = 1;
        let mut dirty_end = log_of(&[vec![1; BLOCK - 10]]);
        dirty_end.extend([0, 0, 1]);
        let long = [&full[..], &[1, 2, 3, 4, 0xff, 0xff, 1]].concat();
        let order = |expected, found| LogFault::FragmentOrder { expected, found };
        let table = [
            (
                long,
                8,
                LogFault::LengthPastBlock {
                    room: BLOCK - 15,
                    found: 0xffff,
                },
            ),
            (
                [&full[..], &fragment(5, b"")].concat(),
                8,
                LogFault::UnknownType { found: 5 },
            ),
            (dirty, 8, LogFault::NonZeroPadding),
            (dirty_end, BLOCK as u64 - 3, LogFault::NonZeroPadding),
            (
                [&full[..], &fragment(4, b"b")].concat(),
                8,
                order("a FULL or FIRST", "a LAST"),
            ),
            (
                [&full[..], &fragment(3, b"b")].concat(),
                8,
                order("a FULL or FIRST", "a MIDDLE"),
            ),
            (
                fragment(4, b"b"),
                0,
                order("a FULL or FIRST", "a MIDDLE or LAST"),
            ),
            (
                fragment(3, b""),
                0,
                order("a FULL or FIRST", "a MIDDLE or LAST"),
            ),
            (
                [fragment(2, b"a"), full.clone()].concat(),
                8,
                order("a MIDDLE or LAST", "a FULL"),
            ),
            (
                [fragment(2, b"a"), fragment(2, b"a")].concat(),
                8,
                order("a MIDDLE or LAST", "a FIRST"),
            ),
            (
                full[..5].to_vec(),
                0,
                LogFault::Truncated {
                    expected: 7,
                    found: 5,
                },
            ),
            (
                full[..7].to_vec(),
                0,
                LogFault::Truncated {
                    expected: 8,
                    found: 7,
                },
            ),
            (fragment(2, b"a"), 0, LogFault::UnfinishedRecord),
            (
                padded([full.clone(), fragment(2, b"a")].concat()),
                8,
                LogFault::UnfinishedRecord,
            ),
        ];
        for (log, offset, reason) in table {
            assert_eq!(read_all(&log), Err(LogError { offset, reason }));
        }
        let fault = read_all(&wrong_sum).unwrap_err();
        assert!(
            matches!(fault.reason, LogFault::BadChecksum { expected, found } if expected != found)
        );
        assert!(
            fault
                .to_string()
                .starts_with("log at byte 0: expected checksum "),
            "{fault}"
        );
    }

    #[test]
    fn oversized_record_is_refused_in_any_pieces() {
        let fits = log_of(&[vec![1; MAX_RECORD_BYTES]]);
        let over = log_of(&[vec![1; MAX_RECORD_BYTES + 1]]);
        for piece_len in [fits.len() + BLOCK, 64 * BLOCK] {
            assert!(read_in_pieces(&fits, piece_len).is_ok());
            assert_eq!(
                read_in_pieces(&over, piece_len).unwrap_err().reason,
                LogFault::RecordTooLarge
            );
        }
        assert!(
            read_all(&over).is_ok(),
            "metadata of many kinds is longer than any entity"
        );
    }

    #[test]
    fn disconnected_pieces_are_refused() {
        let log = log_of(&[vec![1; 10], vec![2; 3 * BLOCK]]);
        let ends = |from: usize, to: usize| {
            read_piece::<LogError>(&log[from..to], from as u64, |_| Ok(())).unwrap()
        };
        let mut stitch = RecordJoiner::default();
        stitch.push(ends(0, BLOCK)).unwrap();
        assert_eq!(
            stitch.push(ends(2 * BLOCK, 3 * BLOCK)),
            Err(LogError {
                offset: 2 * BLOCK as u64,
                reason: LogFault::PieceOutOfPlace {
                    expected: BLOCK as u64
                }
            })
        );
        // A piece that is not whole blocks can only be the last: here it ends with a whole record.
        let mut stitch = RecordJoiner::default();
        stitch.push(ends(0, 17)).unwrap();
        let next = read_piece::<LogError>(&fragment(1, b"x"), 17, |_| Ok(())).unwrap();
        assert_eq!(
            stitch.push(next).unwrap_err().reason,
            LogFault::PieceOutOfPlace { expected: 17 }
        );
    }

    #[test]
    fn open_record_must_continue() {
        let log = log_of(&[vec![2; 3 * BLOCK]]);
        let ends =
            |piece: &[u8], at: usize| read_piece::<LogError>(piece, at as u64, |_| Ok(())).unwrap();
        for (next, found) in [
            (fragment(1, b"new"), "a FULL or FIRST"),
            (fragment(2, b"new"), "a FULL or FIRST"),
        ] {
            let mut stitch = RecordJoiner::default();
            stitch.push(ends(&log[..BLOCK], 0)).unwrap();
            let reason = LogFault::FragmentOrder {
                expected: "a MIDDLE or LAST",
                found,
            };
            assert_eq!(
                stitch.push(ends(&next, BLOCK)),
                Err(LogError {
                    offset: BLOCK as u64,
                    reason
                })
            );
        }
        // A piece of padding may stand in between.
        let mut stitch = RecordJoiner::default();
        let pieces = [&log[..BLOCK], &[0; BLOCK], &fragment(4, b"end")];
        let found: Vec<_> = pieces
            .iter()
            .enumerate()
            .map(|(index, piece)| stitch.push(ends(piece, index * BLOCK)).unwrap())
            .collect();
        assert_eq!(
            found,
            [None, None, Some([&vec![2; BLOCK - 7][..], b"end"].concat())]
        );
        assert_eq!(stitch.finish(), Ok(()));
    }

    #[test]
    fn the_callers_error_ends_the_reading() {
        let mut seen = 0;
        let result = read_log(&log_of(&vec![vec![]; 5]), |_| {
            seen += 1;
            if seen == 2 {
                Err(LogError {
                    offset: 99,
                    reason: LogFault::UnfinishedRecord,
                })
            } else {
                Ok(())
            }
        });
        assert_eq!((seen, result.unwrap_err().offset), (2, 99));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn pieces_of_any_size_hold_same_records(
            records in prop::collection::vec((prop_oneof![0..50_usize, 0..100_000_usize], any::<u8>(), prop::bool::weighted(0.3)), 0..12),
            piece_blocks in 1..5_usize,
        ) {
            let (mut log, mut out) = (LogWriter::default(), Vec::new());
            let mut expected = Vec::new();
            for (len, byte, then_pad) in records {
                let record: Vec<u8> = (0..len).map(|i| (i % 251) as u8 ^ byte).collect();
                log.record(&record, &mut out);
                expected.push(record);
                if then_pad {
                    log.pad(log.left_in_block(), &mut out);
                }
            }
            prop_assert!(read_all(&out).as_ref() == Ok(&expected));
            prop_assert!(read_in_pieces(&out, piece_blocks * BLOCK) == Ok(expected));
        }

        #[test]
        fn damaged_log_fails_alike_in_pieces(at in any::<prop::sample::Index>(), len in 1..40_usize, byte in any::<u8>()) {
            let records = vec![vec![1; 70_000], vec![2; 10], vec![3; 50_000]];
            let mut log = log_of(&records);
            let at = at.index(log.len());
            let end = log.len().min(at + len);
            log[at..end].fill(byte);
            for result in [read_all(&log), read_in_pieces(&log, BLOCK)] {
                prop_assert!(result.is_err() || result == Ok(records.clone()));
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(prop_oneof![Just(0), 0..6_u8, any::<u8>()], 0..600)) {
            let _ = read_all(&bytes);
        }
    }
}
