//! What is already at a destination: the same objects are left out, others are refused.
//!
//! Knows stores and digests. Must not know entries, exports or companions.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::digest::{READS_PER_DIGEST, digest_of};
use crate::model::{EntryInfo, PIECE_LEN_BYTES, Sha256};
use crate::runtime::workers::Workers;
use crate::store::{ObjectInfo, Store, StoreError};

/// What an object must be to be the one that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedObject {
    /// Its length.
    pub len: u64,
    /// CRC-32C of its bytes.
    pub crc32c: u32,
    /// SHA-256 of its bytes.
    pub sha256: Sha256,
}

impl From<&EntryInfo> for ExpectedObject {
    fn from(item: &EntryInfo) -> Self {
        ExpectedObject {
            len: item.bytes,
            crc32c: item.crc32c.0,
            sha256: item.sha256,
        }
    }
}

impl ExpectedObject {
    /// Refuses an object that is there and is another one. It is read only where its store has no
    /// checksum of it.
    async fn check(&self, dest: &dyn Store, there: &ObjectInfo) -> Result<(), StoreError> {
        let is_the_same = match there.crc32c {
            _ if there.len != self.len => false,
            Some(crc32c) => crc32c == self.crc32c,
            None => self.is_content_of(dest, there).await?,
        };
        if is_the_same {
            return Ok(());
        }
        Err(StoreError::AlreadyExists {
            name: there.name.clone(),
        })
    }

    async fn is_content_of(
        &self,
        dest: &dyn Store,
        there: &ObjectInfo,
    ) -> Result<bool, StoreError> {
        // Without a checksum of the store only another reading shows whether it was damaged on its
        // way.
        Ok(digest_of(dest, there).await? == self.sha256
            || (dest.is_remote() && digest_of(dest, there).await? == self.sha256))
    }
}

/// Which of the names are free, in their order.
///
/// # Errors
/// [`StoreError::AlreadyExists`] where a name has another object than the one expected.
pub async fn free_names(
    dest: &dyn Store,
    names: &[String],
    expected: impl Iterator<Item = ExpectedObject>,
    workers: &Workers,
) -> Result<Vec<bool>, StoreError> {
    let there = dest.stat_all(names).await?;
    let checks = expected
        .zip(&there)
        .filter_map(|(expected, there)| Some((expected, there.as_ref()?)));
    let checks = checks.map(|(expected, there)| async move { expected.check(dest, there).await });
    let at_once = workers.window(READS_PER_DIGEST * PIECE_LEN_BYTES as u64);
    stream::iter(checks)
        .buffered(at_once)
        .try_collect::<()>()
        .await?;
    Ok(there.iter().map(Option::is_none).collect())
}
