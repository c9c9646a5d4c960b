//! Follows the blocks of a deflate stream (RFC 1951) and tells at which bit its final block begins
//! and at which the stream ends.
//!
//! Looks at the lengths of codes only: gives no byte of the data and checks none. Must not know
//! pieces, nor who made the stream.

/// Where a stream's final block begins and where the stream ends, in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FinalBlock {
    pub(crate) final_block: usize,
    pub(crate) end: usize,
}

/// Codes that are at most this long are looked up, as nearly all are.
const LOOKUP_BITS: u32 = 12;
const SLOTS: usize = 1 << LOOKUP_BITS;

/// The longest code that deflate knows.
const MAX_CODE_BITS: usize = 15;

const END_OF_BLOCK: u16 = 256;

/// How a table's slot is laid out: bits to pass over, extra bits included (none: the slot says
/// nothing); the length of the code alone; what follows.
const PASS: u16 = 0x1f;
const CODE_SHIFT: u32 = 5;
const CODE: u16 = 0xf;
const ENDS_BLOCK: u16 = 1 << 10;
const UNUSED: u16 = 1 << 11;
/// A distance follows: where its slots begin in the table.
const DISTANCE_FOLLOWS: u16 = 1 << LOOKUP_BITS;

/// The longest distance takes as many: 15 and 13 of them extra.
const MAX_PASS: u16 = 28;

/// In which order the lengths of the code for lengths stand.
const LENGTHS_ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// The bits of a stream, from the lowest of each byte on.
struct BitReader<'s> {
    stream: &'s [u8],
    next: usize,
    held: u64,
    count: u32,
}

impl BitReader<'_> {
    /// Holds at least 56 bits, or all that there are.
    #[inline(always)]
    fn refill(&mut self) {
        if let Some(word) = self.stream.get(self.next..).and_then(<[u8]>::first_chunk) {
            // Bits that are held above the count are those that come next: to hold them again
            // changes nothing.
            self.held |= u64::from_le_bytes(*word) << self.count;
            self.next += ((63 - self.count) >> 3) as usize;
            self.count |= 56;
        } else {
            while let (true, Some(byte)) = (self.count < 56, self.stream.get(self.next)) {
                self.held |= u64::from(*byte) << self.count;
                self.next += 1;
                self.count += 8;
            }
        }
    }

    /// Passes over bits that must be there.
    #[inline(always)]
    fn pass(&mut self, bits: u32) -> Option<()> {
        self.count = self.count.checked_sub(bits)?;
        self.held >>= bits;
        Some(())
    }

    /// Up to 32 bits as a number.
    fn take(&mut self, bits: u32) -> Option<usize> {
        if self.count < bits {
            self.refill();
        }
        let number = self.held & ((1 << bits) - 1);
        self.pass(bits)?;
        usize::try_from(number).ok()
    }

    fn position(&self) -> usize {
        8 * self.next - self.count as usize
    }

    /// Goes on at a byte.
    fn go_to(&mut self, byte: usize) {
        (self.next, self.held, self.count) = (byte, 0, 0);
    }
}

/// A canonical Huffman code.
struct HuffmanCode {
    /// How many codes of each length there are.
    counts: [u16; MAX_CODE_BITS + 1],
    /// The symbols in the order of their codes.
    symbols: [u16; 288],
}

impl HuffmanCode {
    /// The code whose symbols have these lengths; none if they are too many. Codes that no symbol
    /// has are found when they are met.
    fn new(lengths: &[u8]) -> Option<Self> {
        let mut code = HuffmanCode {
            counts: [0; MAX_CODE_BITS + 1],
            symbols: [0; 288],
        };
        for length in lengths {
            *code.counts.get_mut(usize::from(*length))? += 1;
        }
        let mut places = [0; MAX_CODE_BITS + 1];
        let (mut place, mut left) = (0, 1_i32);
        for (of_length, count) in places.iter_mut().zip(code.counts).skip(1) {
            left = 2 * left - i32::from(count);
            if left < 0 {
                return None;
            }
            (*of_length, place) = (place, place + usize::from(count));
        }
        for (symbol, length) in (0..).zip(lengths).filter(|(_, length)| **length > 0) {
            let place = places.get_mut(usize::from(*length))?;
            *code.symbols.get_mut(*place)? = symbol;
            *place += 1;
        }
        Some(code)
    }

    /// Reads a symbol bit by bit.
    fn read(&self, bits: &mut BitReader<'_>) -> Option<u16> {
        bits.refill();
        let (mut code, mut first, mut place) = (0_usize, 0_usize, 0_usize);
        for (length, count) in (0..).zip(self.counts).skip(1) {
            code |= usize::try_from(bits.held >> (length - 1) & 1).ok()?;
            let count = usize::from(count);
            if code < first + count {
                bits.pass(length)?;
                return self.symbols.get(place + (code - first)).copied();
            }
            place += count;
            (first, code) = (2 * (first + count), 2 * code);
        }
        None
    }

    /// Fills a table with a slot for each code that fits. `slot_of` tells a symbol's extra bits and
    /// what follows it.
    fn fill(&self, table: &mut [u16], slot_of: impl Fn(u16) -> u16) {
        table.fill(0);
        let (mut code, mut symbols) = (0_u32, self.symbols.iter());
        for (length, count) in (0_u16..).zip(self.counts).skip(1) {
            code <<= 1;
            if 1 << length > table.len() {
                return;
            }
            for symbol in symbols.by_ref().take(usize::from(count)) {
                let slot = match slot_of(*symbol) {
                    UNUSED => 0,
                    slot => slot + (length | length << CODE_SHIFT),
                };
                let first = code.reverse_bits() >> (u32::BITS - u32::from(length));
                table
                    .iter_mut()
                    .skip(first as usize)
                    .step_by(1 << length)
                    .for_each(|place| *place = slot);
                code += 1;
            }
        }
    }
}

fn litlen_slot(symbol: u16) -> u16 {
    match symbol {
        0..END_OF_BLOCK => 0,
        END_OF_BLOCK => ENDS_BLOCK,
        257..=264 | 285 => DISTANCE_FOLLOWS,
        265..=284 => DISTANCE_FOLLOWS | ((symbol - 261) / 4),
        _ => UNUSED,
    }
}

fn distance_slot(symbol: u16) -> u16 {
    match symbol {
        0..=3 => 0,
        4..=29 => symbol / 2 - 1,
        _ => UNUSED,
    }
}

/// Walks streams, one after the other, with a table that is made once.
pub(crate) struct BlockWalker {
    /// The slots of literals and lengths, then those of distances.
    slots: Box<[u16; 2 * SLOTS]>,
}

impl BlockWalker {
    pub(crate) fn new() -> Self {
        BlockWalker {
            slots: Box::new([0; 2 * SLOTS]),
        }
    }

    /// Where the final block of `stream` begins and where the stream ends; none if it is no stream,
    /// or ends in another byte than its last.
    pub(crate) fn walk(&mut self, stream: &[u8]) -> Option<FinalBlock> {
        let mut bits = BitReader {
            stream,
            next: 0,
            held: 0,
            count: 0,
        };
        loop {
            let begin = bits.position();
            let is_final = bits.take(1)? == 1;
            match bits.take(2)? {
                0 => {
                    let lengths = bits.position().div_ceil(8);
                    bits.go_to(lengths);
                    let (len, inverted) = (bits.take(16)?, bits.take(16)?);
                    let end = lengths + 4 + len;
                    if len != !inverted & 0xffff || end > stream.len() {
                        return None;
                    }
                    bits.go_to(end);
                }
                1 => {
                    let mut lengths = [8_u8; 288];
                    lengths.get_mut(144..256)?.fill(9);
                    lengths.get_mut(256..280)?.fill(7);
                    self.walk_block(&mut bits, &lengths, &[5; 32])?;
                }
                2 => {
                    let (litlens, distances) = (bits.take(5)? + 257, bits.take(5)? + 1);
                    let lengths = read_lengths(&mut bits, litlens + distances)?;
                    let (litlens, distances) = lengths
                        .get(..litlens + distances)?
                        .split_at_checked(litlens)?;
                    self.walk_block(&mut bits, litlens, distances)?;
                }
                _ => return None,
            }
            if is_final {
                let end = bits.position();
                return (end.div_ceil(8) == stream.len()).then_some(FinalBlock {
                    final_block: begin,
                    end,
                });
            }
        }
    }

    fn walk_block(
        &mut self,
        bits: &mut BitReader<'_>,
        litlens: &[u8],
        distances: &[u8],
    ) -> Option<()> {
        let (litlen, distance) = (HuffmanCode::new(litlens)?, HuffmanCode::new(distances)?);
        let (of_litlens, of_distances) = self.slots.split_at_mut(SLOTS);
        litlen.fill(of_litlens, litlen_slot);
        distance.fill(of_distances, distance_slot);
        join(of_litlens, of_distances);
        let mut table = 0;
        loop {
            // Enough for two slots, looked up or not.
            bits.refill();
            for _ in 0..2 {
                let mut slot = self
                    .slots
                    .get(bits.held as usize % SLOTS + table)
                    .copied()?;
                if slot == 0 {
                    slot = if table == 0 {
                        litlen_slot(litlen.read(bits)?)
                    } else {
                        distance_slot(distance.read(bits)?)
                    };
                }
                if slot & (ENDS_BLOCK | UNUSED) != 0 {
                    return if slot & UNUSED == 0 {
                        bits.pass(u32::from(slot & PASS))
                    } else {
                        None
                    };
                }
                bits.pass(u32::from(slot & PASS))?;
                table = usize::from(slot & DISTANCE_FOLLOWS);
            }
        }
    }
}

/// Lets a slot take along what comes behind its symbol, as far as that is known from the rest of
/// the slot's number.
fn join(litlens: &mut [u16], distances: &[u16]) {
    // The rest of a number is smaller than the number: downwards it is still a single symbol's.
    for number in (0..SLOTS).rev() {
        let mut slot = litlens.get(number).copied().unwrap_or_default();
        if slot == 0 || slot & ENDS_BLOCK != 0 {
            continue;
        }
        let mut known = LOOKUP_BITS - u32::from(slot & PASS).min(LOOKUP_BITS);
        if slot & DISTANCE_FOLLOWS == 0 {
            let next = litlens
                .get(number >> (slot & PASS))
                .copied()
                .unwrap_or_default();
            if next == 0 || u32::from(next >> CODE_SHIFT & CODE) > known {
                continue;
            }
            slot = (slot & PASS) + (next & (PASS | DISTANCE_FOLLOWS | ENDS_BLOCK));
            known = LOOKUP_BITS - u32::from(slot & PASS).min(LOOKUP_BITS);
        }
        if slot & DISTANCE_FOLLOWS != 0 {
            let next = distances
                .get(number >> (slot & PASS))
                .copied()
                .unwrap_or_default();
            if next != 0
                && u32::from(next >> CODE_SHIFT & CODE) <= known
                && (slot & PASS) + (next & PASS) <= MAX_PASS
            {
                slot = (slot & PASS) + (next & PASS);
            }
        }
        if let Some(place) = litlens.get_mut(number) {
            *place = slot;
        }
    }
}

/// The lengths of a block's codes, `count` of them.
fn read_lengths(bits: &mut BitReader<'_>, count: usize) -> Option<[u8; 320]> {
    let mut of_lengths = [0; 19];
    let given = bits.take(4)? + 4;
    for place in LENGTHS_ORDER.iter().take(given) {
        *of_lengths.get_mut(*place)? = u8::try_from(bits.take(3)?).ok()?;
    }
    let code = HuffmanCode::new(&of_lengths)?;
    let mut lengths = [0_u8; 320];
    let mut filled = 0;
    while filled < count {
        let (length, times) = match code.read(bits)? {
            16 => (*lengths.get(filled.checked_sub(1)?)?, bits.take(2)? + 3),
            17 => (0, bits.take(3)? + 3),
            18 => (0, bits.take(7)? + 11),
            length => (u8::try_from(length).ok()?, 1),
        };
        let end = filled + times;
        if end > count {
            return None;
        }
        lengths.get_mut(filled..end)?.fill(length);
        filled = end;
    }
    Some(lengths)
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
    use proptest::prelude::*;

    use super::*;

    fn walk(stream: &[u8]) -> Option<FinalBlock> {
        BlockWalker::new().walk(stream)
    }

    /// Several flushed parts and an end, as zlib writes them.
    fn stream(level: u32, parts: &[Vec<u8>]) -> Vec<u8> {
        let mut state = Compress::new(Compression::new(level), false);
        let mut out = Vec::with_capacity(parts.iter().map(Vec::len).sum::<usize>() * 2 + 1000);
        for part in parts {
            state
                .compress_vec(part, &mut out, FlushCompress::Sync)
                .unwrap();
        }
        state
            .compress_vec(&[], &mut out, FlushCompress::Finish)
            .unwrap();
        out
    }

    #[test]
    fn final_block_is_found_in_every_block_type() {
        // RFC 1951, 3.2.4: stored blocks; the second one is the final one.
        assert_eq!(
            walk(b"\x00\x01\x00\xfe\xffa\x01\x02\x00\xfd\xffbc"),
            Some(FinalBlock {
                final_block: 48,
                end: 104
            })
        );
        // 3.2.6: fixed codes, an empty block of ten bits.
        assert_eq!(
            walk(b"\x03\x00"),
            Some(FinalBlock {
                final_block: 0,
                end: 10
            })
        );
        // The same behind a block that is not final.
        assert_eq!(
            walk(b"\x02\x0c\x00"),
            Some(FinalBlock {
                final_block: 10,
                end: 20
            })
        );
    }

    #[test]
    fn what_is_no_whole_stream_has_no_end() {
        for (what, stream) in [
            ("nothing", &b""[..]),
            ("no final block", b"\x02\x00"),
            ("an unknown kind of block", b"\x07\x00"),
            ("a cut stored block", b"\x01\x02\x00\xfd\xffb"),
            ("a length that is not inverted", b"\x01\x01\x00\xfd\xffb"),
            ("a byte behind the end", b"\x03\x00\x00"),
            ("a symbol that does not exist", b"\x1b\x03\x00"),
            ("no code but a cut one", b"\x05\xff"),
        ] {
            assert_eq!(walk(stream), None, "{what}");
        }
        let whole = stream(
            6,
            &[b"a stream that carries its own codes, as it is long and uneven enough ".repeat(20)],
        );
        assert!(walk(&whole).is_some());
        assert!((0..whole.len()).all(|cut| walk(&whole[..cut]).is_none()));
    }

    #[test]
    fn codes_that_are_too_many_are_refused() {
        assert!(
            HuffmanCode::new(&[1, 1]).is_some()
                && HuffmanCode::new(&[1]).is_some()
                && HuffmanCode::new(&[]).is_some()
        );
        assert!(
            HuffmanCode::new(&[1, 1, 1]).is_none() && HuffmanCode::new(&[2, 2, 2, 2, 15]).is_none()
        );
    }

    fn raw() -> impl Strategy<Value = Vec<u8>> {
        // Counts that double make the longest codes.
        let uneven = (6..19_u32).prop_map(|kinds| {
            (0..kinds)
                .flat_map(|kind| vec![kind as u8 * 13; 1 << kind])
                .collect::<Vec<_>>()
        });
        let shuffled = (uneven, any::<u64>()).prop_map(|(mut raw, seed)| {
            let mut state = seed | 1;
            for place in (1..raw.len()).rev() {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                raw.swap(place, (state >> 33) as usize % (place + 1));
            }
            raw
        });
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..3_000),
            prop::collection::vec(0..3_u8, 0..3_000),
            shuffled
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn streams_of_other_deflaters_are_walked(parts in prop::collection::vec(raw(), 0..4), level in 0..=9_u32) {
            let mut stream = stream(level, &parts);
            let ends = walk(&stream).unwrap();
            prop_assert_eq!(ends.end.div_ceil(8), stream.len());
            // With its final bit cleared it is whole but for an end.
            stream[ends.final_block / 8] &= !(1 << (ends.final_block % 8));
            let mut plain = vec![0; parts.iter().map(Vec::len).sum::<usize>() + 1];
            let mut state = Decompress::new(false);
            prop_assert_ne!(state.decompress(&stream, &mut plain, FlushDecompress::None).unwrap(), Status::StreamEnd);
            prop_assert_eq!(state.total_out() as usize, plain.len() - 1);
            prop_assert!(plain.starts_with(&parts.concat()));
        }

        #[test]
        fn no_input_crashes_or_hangs_the_walker(
            bytes in prop::collection::vec(any::<u8>(), 0..300), head in 0..8_u8, at in any::<prop::sample::Index>(), byte in any::<u8>()
        ) {
            let begun: Vec<u8> = bytes.iter().enumerate().map(|(place, byte)| if place == 0 { byte & !7 | head } else { *byte }).collect();
            let _ = walk(&begun);
            let mut damaged = stream(6, &[bytes.repeat(4)]);
            let at = at.index(damaged.len());
            damaged[at] = byte;
            let _ = walk(&damaged);
        }
    }
}
