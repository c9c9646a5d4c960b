//! The archive's bytes on their way out, hashed as they go.

use async_trait::async_trait;
use bytes::Bytes;
use sha2::Digest as _;

use super::error::PackError;
use crate::model::Sha256;
use crate::runtime::workers::InOrder;
use crate::signature::Signer;
use crate::store::{ObjectMetadata, ObjectWriter, StoreError};

/// What tells an archive's bytes from all others.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutputDigest {
    pub(super) sha256: Sha256,
    pub(super) crc32c: u32,
    pub(super) len: u64,
}

/// An archive that is written and not yet published.
pub(super) struct FinishedOutput {
    pub(super) writer: Box<dyn ObjectWriter>,
    /// The digest of all that was written.
    pub(super) digest: OutputDigest,
    /// Its signature, where a key signs it.
    pub(super) signature: Option<String>,
}

/// The hashes of what was written so far.
#[derive(Default)]
struct Hashes {
    sha256: sha2::Sha256,
    crc32c: u32,
}

impl Hashes {
    fn chain_update(self, bytes: &[u8]) -> Self {
        Hashes {
            crc32c: crc32c::crc32c_append(self.crc32c, bytes),
            sha256: self.sha256.chain_update(bytes),
        }
    }
}

/// The archive's bytes on their way out, hashed as they go.
pub(super) struct ArchiveOutput {
    writer: Box<dyn ObjectWriter>,
    hashes: InOrder<Hashes>,
    signer: Option<Signer>,
    len: u64,
    /// Headers and small entries: each on its own would take longer to hand over than to hash and
    /// to write.
    gathered: Vec<u8>,
}

/// What is gathered before it is handed on.
const GATHERED_BYTES: usize = 1 << 20;

/// What is handed on by itself.
const LARGE_BYTES: usize = 256 << 10;

impl ArchiveOutput {
    pub(super) fn new(writer: Box<dyn ObjectWriter>, signer: Option<Signer>) -> Self {
        ArchiveOutput {
            writer,
            hashes: InOrder::default(),
            signer,
            len: 0,
            gathered: Vec::new(),
        }
    }

    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), PackError> {
        self.len += bytes.len() as u64;
        if bytes.len() >= LARGE_BYTES {
            self.flush().await?;
            return self.hand_on(bytes).await;
        }
        self.gathered.extend_from_slice(&bytes);
        if self.gathered.len() >= GATHERED_BYTES {
            self.flush().await
        } else {
            Ok(())
        }
    }

    async fn flush(&mut self) -> Result<(), PackError> {
        let gathered = std::mem::take(&mut self.gathered);
        if gathered.is_empty() {
            Ok(())
        } else {
            self.hand_on(gathered.into()).await
        }
    }

    /// What is to be published, now that all is written.
    pub(super) async fn finish(mut self) -> Result<FinishedOutput, PackError> {
        self.flush().await?;
        let Hashes { sha256, crc32c } = self.hashes.join().await?;
        let digest = OutputDigest {
            sha256: Sha256(sha256.finalize().into()),
            crc32c,
            len: self.len,
        };
        let signature = match self.signer {
            Some(signer) => signer.finish().await?,
            None => None,
        };
        Ok(FinishedOutput {
            writer: self.writer,
            digest,
            signature,
        })
    }

    async fn hand_on(&mut self, bytes: Bytes) -> Result<(), PackError> {
        let copy = bytes.clone();
        self.hashes
            .enqueue(move |hashes| hashes.chain_update(&copy))
            .await?;
        if let Some(signer) = &self.signer {
            signer.push(bytes.clone()).await;
        }
        self.writer.write(bytes).await.map_err(PackError::Dest)
    }
}

/// An archive that is never made.
#[derive(Debug)]
pub(super) struct NullWriter;

#[async_trait]
impl ObjectWriter for NullWriter {
    async fn write(&mut self, _: Bytes) -> Result<(), StoreError> {
        Ok(())
    }

    async fn publish(self: Box<Self>, _: ObjectMetadata) -> Result<(), StoreError> {
        Ok(())
    }
}
