//! What is stored, compared with what was sent.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sha2::Digest as _;

use super::{GcsStore, ObjectResource};
use crate::model::Sha256;
use crate::store::{ObjectInfo, Store as _, StoreError};

/// Reads that are under way at once while an object is read back, and how long each is.
const READ_BACK: (usize, u64) = (4, 4 << 20);

/// The bytes of an object, as their sender knows them.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentBytes {
    pub(super) len: u64,
    pub(super) crc32c: u32,
    pub(super) sha256: Option<Sha256>,
}

impl SentBytes {
    /// Whether length and CRC-32C are those that the service has.
    fn fits(&self, resource: &ObjectResource) -> bool {
        resource.len() == Some(self.len) && resource.crc32c() == Some(self.crc32c)
    }
}

impl GcsStore {
    /// Whether the object that has a name holds these bytes. Then an earlier request made it: of
    /// this run, or of another one of the same set.
    pub(super) async fn holds(
        &self,
        there: &ObjectResource,
        sent: SentBytes,
    ) -> Result<bool, StoreError> {
        match sent.sha256 {
            _ if !sent.fits(there) => Ok(false),
            None => Ok(true),
            Some(expected) => match self.wrong_digest(there, expected).await {
                Ok(wrong) => Ok(wrong.is_none()),
                // It is gone again.
                Err(StoreError::Changed { .. }) => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    /// Holds what is stored under `name` against what was sent; an object that differs is deleted
    /// again.
    pub(super) async fn confirm(
        &self,
        name: &str,
        told: &ObjectResource,
        sent: SentBytes,
    ) -> Result<(), StoreError> {
        if sent.fits(told) {
            return Ok(());
        }
        // Before it is deleted, the object itself is asked: what answers an upload may be short of
        // words.
        let there = self.resource(name).await?;
        if sent.fits(&there) {
            return Ok(());
        }
        // What somebody else has put there meanwhile is not ours to delete.
        if told
            .generation()
            .is_none_or(|generation| there.generation() == Some(generation))
        {
            self.delete(name, there.generation()).await?;
        }
        Err(self.differs(name, sent, &there))
    }

    /// That what is stored is not what was sent.
    fn differs(&self, name: &str, sent: SentBytes, there: &ObjectResource) -> StoreError {
        let name = self.display_name(name);
        match there.crc32c() {
            Some(found) => StoreError::Corrupt {
                name,
                expected: sent.crc32c,
                found,
            },
            None => StoreError::UploadLost {
                name,
                reason: "the object has no checksum".to_owned(),
            },
        }
    }

    /// The SHA-256 of what is stored, where it is another than expected. Whoever may not read it
    /// relies on the CRC-32C.
    pub(super) async fn wrong_digest(
        &self,
        resource: &ObjectResource,
        expected: Sha256,
    ) -> Result<Option<Sha256>, StoreError> {
        let mut found = self.digest_of(resource).await?;
        if found.is_some_and(|found| found != expected) {
            // It may be the reading that went wrong.
            found = self.digest_of(resource).await?;
        }
        Ok(found.filter(|found| *found != expected))
    }

    /// SHA-256 of what is stored; none for whoever may not read it.
    async fn digest_of(&self, resource: &ObjectResource) -> Result<Option<Sha256>, StoreError> {
        let object: ObjectInfo = self
            .info(resource.clone())
            .map_err(|_| StoreError::Changed {
                name: self.display_name(""),
            })?;
        let (at_once, step) = READ_BACK;
        let reads = (0..object.len.div_ceil(step)).map(|number| {
            let offset = number * step;
            self.read(&object, offset, (object.len - offset).min(step) as usize)
        });
        let mut reads = stream::iter(reads).buffered(at_once);
        let mut sha256 = sha2::Sha256::new();
        loop {
            match reads.try_next().await {
                Ok(Some(bytes)) => sha256.update(&bytes),
                Ok(None) => break,
                Err(StoreError::Denied { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
            tokio::task::yield_now().await;
        }
        Ok(Some(Sha256(sha256.finalize().into())))
    }
}
