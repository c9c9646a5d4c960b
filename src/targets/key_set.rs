//! The keys of a step, or a part of them: what stays when all else of a kind is deleted.
//!
//! Holds hashes, so that a part of any size can be chosen to fit in memory. Knows nothing of who
//! reads or deletes.

use std::collections::HashSet;

/// Hashes of keys ([`crate::transform::key_hash`]), of one part of all: those whose remainder by
/// the number of parts is the part's own.
#[derive(Debug, Clone)]
pub struct KeySet {
    part: u64,
    parts: u64,
    hashes: HashSet<u64>,
}

impl KeySet {
    /// An empty set for part number `part` of `parts`, which counts as 1 where it is 0.
    pub fn new(part: u64, parts: u64) -> Self {
        KeySet {
            part,
            parts: parts.max(1),
            hashes: HashSet::new(),
        }
    }

    /// Whether the set is about that key at all.
    pub fn is_asked(&self, hash: u64) -> bool {
        hash % self.parts == self.part
    }

    /// Takes a key, unless it belongs to another part.
    pub fn insert(&mut self, hash: u64) {
        if self.is_asked(hash) {
            self.hashes.insert(hash);
        }
    }

    /// Whether that key stays: it is in the set, or another part's to judge.
    pub fn keeps(&self, hash: u64) -> bool {
        !self.is_asked(hash) || self.hashes.contains(&hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_set_parts_keep_exactly_their_keys() {
        let parts: Vec<KeySet> = (0..3)
            .map(|part| {
                let mut set = KeySet::new(part, 3);
                (0..100).for_each(|hash| set.insert(hash * 7));
                set
            })
            .collect();
        for hash in 0..700 {
            assert_eq!(
                parts.iter().all(|set| set.keeps(hash)),
                hash % 7 == 0,
                "{hash}"
            );
        }
    }
}
