//! Objects that their store keeps gzip-encoded: they are packed as they are stored, and looked into
//! through here.
//!
//! Knows gzip and nothing else. What is only said to be gzip-encoded, and is not, is taken as it
//! is.

use std::borrow::Cow;
use std::io::{self, Write as _};

use flate2::write::MultiGzDecoder;

use crate::model::PIECE_LEN_BYTES;

/// The content encoding of which this module knows, as Cloud Storage spells it.
pub const GZIP: &str = "gzip";

/// How every gzip stream begins (RFC 1952).
pub const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What is inflated at once: it can become a thousand times as long.
const STEP_BYTES: usize = 4 << 10;

/// A content on its way out of what is stored, in order.
#[derive(Debug, Default)]
pub struct Gunzip {
    state: GunzipState,
}

#[derive(Debug, Default)]
enum GunzipState {
    #[default]
    Begin,
    Plain(Vec<u8>),
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Gunzip {
    /// Takes the next stored bytes, and hands on the content in pieces of [`PIECE_LEN_BYTES`].
    ///
    /// # Errors
    /// What is wrong with the gzip stream.
    pub fn push(&mut self, stored: &[u8], take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        if matches!(self.state, GunzipState::Begin) && !stored.is_empty() {
            self.state = if stored.starts_with(&MAGIC) {
                GunzipState::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))
            } else {
                GunzipState::Plain(Vec::new())
            };
        }
        for step in stored.chunks(STEP_BYTES) {
            match &mut self.state {
                GunzipState::Begin => {}
                GunzipState::Plain(content) => content.extend_from_slice(step),
                GunzipState::Gzip(decoder) => decoder.write_all(step)?,
            }
            hand_on(self.content(), PIECE_LEN_BYTES, take);
        }
        Ok(())
    }

    /// Hands on what is left.
    ///
    /// # Errors
    /// As [`Gunzip::push`]; a stream that was cut shows here.
    pub fn finish(mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        if let GunzipState::Gzip(decoder) = &mut self.state {
            decoder.try_finish()?;
        }
        hand_on(self.content(), 1, take);
        Ok(())
    }

    fn content(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.state {
            GunzipState::Begin => None,
            GunzipState::Plain(content) => Some(content),
            GunzipState::Gzip(decoder) => Some(decoder.get_mut()),
        }
    }
}

/// Hands on whole pieces, as long as at least `least` bytes are there.
fn hand_on(content: Option<&mut Vec<u8>>, least: usize, take: &mut dyn FnMut(&[u8])) {
    let Some(content) = content else { return };
    while content.len() >= least {
        let len = content.len().min(PIECE_LEN_BYTES);
        take(content.split_at(len).0);
        content.drain(..len);
    }
}

/// The whole content of a small object, at most `max` bytes of it; what is stored where it is no
/// gzip stream.
pub fn content_of<'a>(stored: &'a [u8], encoding: Option<&str>, max: u64) -> Cow<'a, [u8]> {
    if encoding != Some(GZIP) || !stored.starts_with(&MAGIC) {
        return Cow::Borrowed(stored);
    }
    let mut content = Vec::new();
    let mut gunzip = Gunzip::default();
    let room = |content: &Vec<u8>| {
        usize::try_from(max)
            .unwrap_or(usize::MAX)
            .saturating_sub(content.len())
    };
    let mut take = |piece: &[u8]| {
        let len = piece.len().min(room(&content));
        content.extend_from_slice(piece.split_at(len).0);
    };
    let read = gunzip
        .push(stored, &mut take)
        .and_then(|()| gunzip.finish(&mut take));
    if read.is_ok() {
        Cow::Owned(content)
    } else {
        Cow::Borrowed(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn read(stored: &[u8], step: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut pieces = Vec::new();
        let mut gunzip = Gunzip::default();
        for step in stored.chunks(step) {
            gunzip.push(step, &mut |piece| pieces.push(piece.to_vec()))?;
        }
        gunzip.finish(&mut |piece| pieces.push(piece.to_vec()))?;
        Ok(pieces)
    }

    #[test]
    fn content_comes_in_whole_pieces() {
        let content: Vec<u8> = (0..PIECE_LEN_BYTES + 100_000)
            .map(|i| (i % 251) as u8)
            .collect();
        let two_members = [gzip(&content[..70_000]), gzip(&content[70_000..])].concat();
        for stored in [gzip(&content), two_members, content.clone()] {
            let pieces = read(&stored, 1_000_003).unwrap();
            assert_eq!(
                pieces.iter().map(Vec::len).collect::<Vec<_>>(),
                [PIECE_LEN_BYTES, 100_000]
            );
            assert_eq!(pieces.concat(), content);
            assert_eq!(content_of(&stored, Some(GZIP), u64::MAX), content);
        }
        assert!(read(&[], 1).unwrap().is_empty());
    }

    #[test]
    fn damaged_stream_is_reported_and_bomb_bounded() {
        let stored = gzip(&vec![7; 100_000]);
        assert!(read(&stored[..stored.len() - 1], 64).is_err());
        let mut damaged = stored.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(read(&damaged, 64).is_err());
        assert_eq!(content_of(&damaged, Some(GZIP), u64::MAX), damaged);
        assert_eq!(content_of(&stored, Some(GZIP), 10), vec![7; 10]);
        assert_eq!(content_of(&stored, None, 10), stored);
    }
}
