//! Buffers of the size of a piece, used again and again: what a long run holds does not grow with what it reads.
//!
//! Knows bytes only. The allocator would hand such buffers from thread to thread and keep some for each of them.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::model::PIECE_LEN_BYTES;

/// Room for a piece, its deflated form at its longest, and the byte by which a piece that is too long shows itself.
const BUFFER_BYTES: usize = PIECE_LEN_BYTES + (PIECE_LEN_BYTES >> 3) + 4096;

/// From this length on a buffer is worth keeping.
const WORTH_KEEPING_BYTES: usize = 256 << 10;

/// More than the pieces in flight of any sensible number of jobs.
const KEPT_MAX: usize = 64;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer that goes back where it came from.
#[derive(Debug, Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// An empty buffer with room for `len` bytes.
    pub fn with_room(len: usize) -> Self {
        if !(WORTH_KEEPING_BYTES..=BUFFER_BYTES).contains(&len) {
            return Buffer(Vec::with_capacity(len));
        }
        let mut buffer = Buffer::kept();
        buffer.0.clear();
        buffer
    }

    fn kept() -> Self {
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer(kept.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES)))
    }

    /// A buffer of `len` bytes that will all be written over. What is in them is of no use to anybody.
    pub fn of_len(len: usize) -> Self {
        if !(WORTH_KEEPING_BYTES..=BUFFER_BYTES).contains(&len) {
            return Buffer(vec![0; len]);
        }
        let mut buffer = Buffer::kept();
        // A buffer that was as long before needs no zeros.
        buffer.0.truncate(len);
        buffer.0.resize(len, 0);
        buffer
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
        if (WORTH_KEEPING_BYTES..=2 * BUFFER_BYTES).contains(&self.0.capacity()) {
            let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < KEPT_MAX {
                kept.push(std::mem::take(&mut self.0));
            }
        }
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
}
