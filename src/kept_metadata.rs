//! The metadata of a set, kept as it is stored and opened when it is asked for: what nobody asks for takes no more room than it has in its store.
//!
//! Knows names and encodings. What the metadata means is for `set`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use crate::gzipped;
use crate::set::{METADATA_MAX_BYTES, MetadataSource};

/// Metadata that is kept, as much of it as may be in memory.
#[derive(Debug, Default)]
pub struct KeptMetadata {
    stored: BTreeMap<String, Stored>,
    /// What does not fit, the largest first.
    left_out: BTreeSet<String>,
    /// How long what is opened may be.
    content_max_bytes: u64,
    /// The first that was asked for and does not fit.
    lacking: OnceLock<String>,
}

#[derive(Debug)]
struct Stored {
    bytes: Vec<u8>,
    encoding: Option<String>,
}

impl KeptMetadata {
    /// Chooses among objects, by name and stored length, what will be kept: the smaller ones first, for those of real exports are small. Half of the
    /// memory is for what is kept, the other half for the one that is open.
    pub fn new<'a>(objects: impl IntoIterator<Item = (&'a str, u64)>, memory: u64) -> Self {
        let mut objects: Vec<(u64, &str)> = objects.into_iter().map(|(name, len)| (len, name)).collect();
        objects.sort_unstable();
        let mut room = memory / 2;
        let mut fits = |len: u64| room.checked_sub(len).map(|rest| room = rest).is_some();
        let left_out =
            objects.into_iter().filter(|(len, _)| *len > METADATA_MAX_BYTES || !fits(*len)).map(|(_, name)| name.to_owned()).collect();
        KeptMetadata { left_out, content_max_bytes: METADATA_MAX_BYTES.min(memory / 2), ..KeptMetadata::default() }
    }

    /// Whether an object is to be kept.
    pub fn is_wanted(&self, name: &str) -> bool {
        !self.left_out.contains(name)
    }

    /// Keeps an object that is wanted.
    pub fn insert(&mut self, name: &str, bytes: Vec<u8>, encoding: Option<&str>) {
        self.stored.insert(name.to_owned(), Stored { bytes, encoding: encoding.map(str::to_owned) });
    }

    /// Gives back an object as it is stored.
    pub fn remove(&mut self, name: &str) -> Option<Vec<u8>> {
        self.stored.remove(name).map(|stored| stored.bytes)
    }

    /// An object that was asked for and does not fit: what was made of the others says nothing then.
    pub fn lacking(&self) -> Option<&str> {
        self.lacking.get().map(String::as_str)
    }

    fn lacks(&self, name: &str) {
        self.lacking.get_or_init(|| name.to_owned());
    }
}

impl MetadataSource for KeptMetadata {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let Some(Stored { bytes, encoding }) = self.stored.get(name) else {
            if self.left_out.contains(name) {
                self.lacks(name);
            }
            return None;
        };
        let content = gzipped::content_in(bytes, encoding.as_deref(), self.content_max_bytes);
        if self.content_max_bytes < METADATA_MAX_BYTES && content.len() as u64 >= self.content_max_bytes {
            self.lacks(name);
        }
        Some(content)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn smaller_objects_are_kept_and_larger_ones_left_out() {
        let mut kept = KeptMetadata::new([("large", 60), ("a", 20), ("b", 20), ("too large", METADATA_MAX_BYTES + 1)], 100);
        assert!(kept.is_wanted("a") && kept.is_wanted("b") && !kept.is_wanted("large") && !kept.is_wanted("too large"));
        kept.insert("a", vec![7; 20], None);
        assert_eq!(kept.get("a").as_deref(), Some(&[7; 20][..]));
        assert!(kept.get("unknown").is_none() && kept.lacking().is_none(), "what was never there is not lacking");
        assert!(kept.get("large").is_none());
        assert_eq!(kept.lacking(), Some("large"));
    }

    #[test]
    fn gzip_bomb_is_opened_only_when_asked_for_and_bounded() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 4 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        let memory = 1 << 20;
        let mut kept = KeptMetadata::new([("bomb", bomb.len() as u64), ("small", 10)], memory);
        kept.insert("bomb", bomb, Some("gzip"));
        kept.insert("small", vec![1; 10], Some("gzip"));
        assert_eq!(kept.get("small").map(|content| content.len()), Some(10), "not gzip, whatever is said");
        assert!(kept.lacking().is_none());
        assert_eq!(kept.get("bomb").map(|content| content.len() as u64), Some(memory / 2));
        assert_eq!(kept.lacking(), Some("bomb"));
    }
}
