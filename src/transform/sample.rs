//! Which entities of a pair are restored when not all are: a share, or the first ones, and those
//! that others need.
//!
//! Knows keys as the archive has them. The choice depends on nothing else: not on run, machine or
//! target, and on no secret.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use crate::entity::{Id, Key, PathElement};
use crate::model::Sample;

/// What stands for a key: equal for equal keys of an archive, whatever its project is called.
///
/// Half of a SHA-256 over namespace and path: among 64 million keys two the same are not to be
/// expected.
pub fn digest(namespace: &str, path: &[PathElement<'_>]) -> u128 {
    let mut sha256 = Sha256::new();
    // With their lengths, so that no two keys give the same bytes.
    let mut text = |tag: u8, text: &str| {
        sha256.update([tag]);
        sha256.update((text.len() as u64).to_be_bytes());
        sha256.update(text);
    };
    text(b'n', namespace);
    for element in path {
        text(b'k', element.kind);
        match element.id {
            Id::None => {}
            Id::Number(number) => text(b'i', &number.to_string()),
            Id::Name(name) => text(b's', name),
        }
    }
    sha256
        .finalize()
        .first_chunk()
        .map_or(0, |half| u128::from_be_bytes(*half))
}

/// Chooses entities of one pair.
#[derive(Debug, Clone)]
pub struct Sampler {
    sample: Sample,
    needed: HashSet<u128>,
}

/// What becomes of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is restored.
    Take,
    /// It is not.
    Skip,
    /// It is restored if it is one of the first.
    TakeIfWithinLimit,
}

impl Sampler {
    /// Chooses by a sample, and besides what `needed` holds: [`digest`]s of keys.
    pub fn new(sample: Sample, needed: HashSet<u128>) -> Self {
        Sampler { sample, needed }
    }

    /// How many of the first entities are restored, whatever else is.
    pub fn limit(&self) -> Option<u64> {
        match self.sample {
            Sample::Share(_) => None,
            Sample::Limit(limit) => Some(limit),
        }
    }

    /// Whether all that are restored are among the first ones.
    pub fn ends_at_limit(&self) -> bool {
        self.needed.is_empty()
    }

    /// What becomes of the entity of that key.
    pub fn pick(&self, key: &Key<'_>) -> Decision {
        let digest = digest(key.namespace, &key.path);
        match is_sampled(self.sample, digest) {
            _ if self.needed.contains(&digest) => Decision::Take,
            Some(true) => Decision::Take,
            Some(false) => Decision::Skip,
            None => Decision::TakeIfWithinLimit,
        }
    }
}

/// Whether a sample takes the entity of that key; `None` where its place tells, and not its key.
pub fn is_sampled(sample: Sample, digest: u128) -> Option<bool> {
    const WHOLE: u128 = 1_000_000;
    match sample {
        // The upper 64 bits are drawn evenly: as many of them as the share says are below its
        // bound.
        Sample::Share(millionths) => Some((digest >> 64) * WHOLE < u128::from(millionths) << 64),
        Sample::Limit(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::testing::key;

    #[test]
    fn keys_differ_regardless_of_project() {
        let of = |key: Key<'_>| digest(key.namespace, &key.path);
        let keys = [
            key("p", "", "K", Id::Number(1)),
            key("p", "", "K", Id::Name("1")),
            key("p", "n", "K", Id::Number(1)),
            key("p", "", "nK", Id::Number(1)),
            key("p", "", "K1", Id::None),
        ];
        let digests: HashSet<u128> = keys.iter().cloned().map(of).collect();
        assert_eq!(digests.len(), keys.len());
        assert_eq!(
            of(key("s~other", "", "K", Id::Number(1))),
            of(keys[0].clone())
        );
        // Other versions must choose the same entities.
        assert_eq!(of(keys[0].clone()), 0x464ecd4f4c8a292d28cc155a3fbb4262);
    }

    #[test]
    fn larger_share_includes_the_smaller_one() {
        let taken = |sample: &str| -> HashSet<i64> {
            let picker = Sampler::new(sample.parse().unwrap(), HashSet::new());
            (1..=10_000)
                .filter(|id| picker.pick(&key("p", "", "K", Id::Number(*id))) == Decision::Take)
                .collect()
        };
        let (five, ten) = (taken("5%"), taken("10%"));
        assert!((400..600).contains(&five.len()), "{}", five.len());
        assert!(five.is_subset(&ten));
        assert_eq!(taken("100%").len(), 10_000);
    }

    #[test]
    fn required_entities_bypass_the_sample() {
        let needed = key("p", "", "K", Id::Number(7));
        let needing =
            |sample: &str| Sampler::new(sample.parse().unwrap(), [digest("", &needed.path)].into());
        assert_eq!(needing("0.0001%").pick(&needed), Decision::Take);
        assert_eq!(needing("1").pick(&needed), Decision::Take);
        assert_eq!(
            needing("1").pick(&key("p", "", "K", Id::Number(8))),
            Decision::TakeIfWithinLimit
        );
        assert!(!needing("1").ends_at_limit());
    }
}
