//! What tells a target from what a finished restore left there.

use crate::model::KindRef;

/// A kind that the target does not hold as the finished restore left it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum Difference {
    /// It has another number of entities.
    #[error("{pair}: expected {expected} entities, found {found}")]
    Count {
        /// Which kind, in the target.
        pair: KindRef,
        /// Entities that were restored.
        expected: u64,
        /// Entities that are there.
        found: u64,
    },
    /// Some of its entities are not there, or hold something else.
    #[error("{pair}: {differing} entities are missing or differ")]
    Entities {
        /// Which kind, in the target.
        pair: KindRef,
        /// How many.
        differing: u64,
    },
    /// What is there cannot be read.
    #[error("{error}")]
    Unreadable {
        /// Why not.
        error: String,
    },
}
