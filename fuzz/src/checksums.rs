//! Checksums that fit: otherwise nearly every change would end at one.

use kindpack::archive::Container;
use kindpack::archive::zip::{DirectoryEntry, Strictness, locate, tail_len};

use super::archives::open_container;
use super::run;

const BLOCK_BYTES: usize = 32 << 10;
const FRAGMENT_HEADER_BYTES: usize = 7;

/// What the masked checksum of a fragment is more than the rotated one.
const MASK_DELTA: u32 = 0xa282_ead8;

/// Where things are in a local header, in a header of the directory, and how long the latter is.
const LOCAL_CRC_AT: usize = 14;
const CENTRAL_CRC_AT: usize = 16;
const CENTRAL_LENS_AT: usize = 28;
const CENTRAL_HEADER_BYTES: usize = 46;

/// A log whose fragments have the checksums of their bytes, up to the first that is cut.
pub fn log_with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut log = bytes.to_vec();
    for block in log.chunks_mut(BLOCK_BYTES) {
        let mut rest = block;
        while let Some((fragment, others)) = split_fragment(rest) {
            repair_fragment(fragment);
            rest = others;
        }
    }
    log
}

/// The next fragment of a block; none at its end, and where only zeros follow.
fn split_fragment(rest: &mut [u8]) -> Option<(&mut [u8], &mut [u8])> {
    let header = rest.get(..FRAGMENT_HEADER_BYTES)?;
    let len = usize::from(u16::from_le_bytes([header[4], header[5]]));
    if header.iter().all(|byte| *byte == 0) {
        return None;
    }
    rest.split_at_mut_checked(FRAGMENT_HEADER_BYTES + len)
}

fn repair_fragment(fragment: &mut [u8]) {
    let (checksum, covered) = fragment.split_at_mut(4);
    // The length between the two is not covered.
    let crc = crc32c::crc32c(&covered[2..]);
    let masked = crc.rotate_right(15).wrapping_add(MASK_DELTA);
    checksum.copy_from_slice(&masked.to_le_bytes());
}

/// A zip whose entries have the checksums of their bytes; none where its structure is broken.
pub fn zip_with_checksums(bytes: &[u8]) -> Option<Vec<u8>> {
    let container = run(open_container(bytes, Strictness::AnyZip))?;
    let mut at = directory_offset(bytes)?;
    let mut repaired = bytes.to_vec();
    for entry in container.entries() {
        if !entry.streamed {
            let crc32 = run(crc32_of(&container, entry)).to_le_bytes();
            put(&mut repaired, at + CENTRAL_CRC_AT, crc32)?;
            let local = usize::try_from(entry.header_offset).ok()?;
            put(&mut repaired, local + LOCAL_CRC_AT, crc32)?;
        }
        at += central_header_len(bytes, at)?;
    }
    Some(repaired)
}

fn directory_offset(bytes: &[u8]) -> Option<usize> {
    let len = bytes.len() as u64;
    let tail_at = usize::try_from(len - tail_len(len)).ok()?;
    let place = locate(&bytes[tail_at..], len, Strictness::AnyZip).ok()?;
    usize::try_from(place.offset).ok()
}

fn central_header_len(bytes: &[u8], at: usize) -> Option<usize> {
    let lens = bytes.get(at + CENTRAL_LENS_AT..at + CENTRAL_LENS_AT + 6)?;
    let lens = lens
        .chunks(2)
        .map(|len| u16::from_le_bytes([len[0], len[1]]));
    Some(CENTRAL_HEADER_BYTES + lens.map(usize::from).sum::<usize>())
}

/// The checksum of the bytes that an entry has, whatever it should be.
async fn crc32_of(container: &Container, entry: &DirectoryEntry) -> u32 {
    let mut crc32 = crc32fast::Hasher::new();
    let mut sink = |piece: &[u8]| crc32.update(piece);
    container.read_entry(entry, &mut sink).await.ok();
    crc32.finalize()
}

fn put(bytes: &mut [u8], at: usize, crc32: [u8; 4]) -> Option<()> {
    bytes.get_mut(at..at + 4)?.copy_from_slice(&crc32);
    Some(())
}
