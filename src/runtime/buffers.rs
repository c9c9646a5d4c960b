//! Buffers of the size of a piece, used again and again: what a long run holds does not grow with
//! what it reads.
//!
//! Knows bytes only. The allocator would hand such buffers from thread to thread and keep some for
//! each of them.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::model::PIECE_LEN_BYTES;

/// Room for a piece, its deflated form at its longest, and the byte by which a piece that is too
/// long shows itself.
const BUFFER_BYTES: usize = PIECE_LEN_BYTES + (PIECE_LEN_BYTES >> 3) + 4096;

/// From this length on a buffer is worth keeping.
const WORTH_KEEPING_BYTES: usize = 256 << 10;

/// More than the pieces in flight of any sensible number of jobs.
const MAX_POOLED: usize = 64;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer that was used before, if `len` bytes are worth it.
fn take(len: usize) -> Option<Vec<u8>> {
    if !(WORTH_KEEPING_BYTES..=BUFFER_BYTES).contains(&len) {
        return None;
    }
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).pop();
    Some(kept.unwrap_or_else(|| vec![0; BUFFER_BYTES]))
}

fn give_back(buffer: &mut Vec<u8>) {
    if (WORTH_KEEPING_BYTES..=2 * BUFFER_BYTES).contains(&buffer.capacity()) {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MAX_POOLED {
            kept.push(std::mem::take(buffer));
        }
    }
}

/// A buffer that grows, and goes back where it came from.
#[derive(Debug, Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// An empty buffer with room for `len` bytes.
    pub fn with_room(len: usize) -> Self {
        let mut buffer = take(len).unwrap_or_else(|| Vec::with_capacity(len));
        buffer.clear();
        Buffer(buffer)
    }

    /// `len` bytes that will be written over.
    pub fn with_len(len: usize) -> FixedBuffer {
        let mut bytes = take(len).unwrap_or_else(|| vec![0; len]);
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        FixedBuffer { bytes, len }
    }

    /// The bytes, to be shared; the buffer goes back when the last share is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        give_back(&mut self.0);
    }
}

/// Bytes that will be written over, in a buffer that goes back where it came from. What is in them
/// first is of no use to anybody.
///
/// It keeps the rest of its buffer as it is: whoever is next needs no zeros then.
#[derive(Debug)]
pub struct FixedBuffer {
    bytes: Vec<u8>,
    len: usize,
}

impl FixedBuffer {
    /// Leaves nothing but the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The bytes, to be shared; the buffer goes back when the last share is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

/// Why all that is shown of a buffer is there.
const SHORTER: &str = "a buffer is never shorter than what is shown of it";

impl Deref for FixedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).expect(SHORTER)
    }
}

impl DerefMut for FixedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).expect(SHORTER)
    }
}

impl AsRef<[u8]> for FixedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for FixedBuffer {
    fn drop(&mut self) {
        give_back(&mut self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_whatever_it_held() {
        let mut buffer = Buffer::with_room(PIECE_LEN_BYTES);
        buffer.extend_from_slice(b"secret");
        let shared = buffer.freeze();
        assert_eq!(shared.slice(1..3), "ec");
        drop(shared);
        assert!(Buffer::with_room(PIECE_LEN_BYTES).is_empty());
        assert!(Buffer::with_room(10).capacity() < WORTH_KEEPING_BYTES);
    }

    #[test]
    fn fixed_buffer_has_the_requested_length() {
        for len in [
            0,
            10,
            WORTH_KEEPING_BYTES,
            PIECE_LEN_BYTES,
            WORTH_KEEPING_BYTES + 1,
            BUFFER_BYTES,
            BUFFER_BYTES + 1,
        ] {
            let mut room = Buffer::with_len(len);
            assert_eq!(room.len(), len);
            room.fill(7);
            room.truncate(len / 2);
            assert!(room.freeze() == vec![7; len / 2]);
        }
    }
}
