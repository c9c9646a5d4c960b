//! The archive's bytes on their way out, hashed as they go.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use sha2::Digest as _;

use super::error::PackError;
use crate::encryption::ArchiveEncryptor;
use crate::model::Sha256;
use crate::runtime::workers::{InOrder, Workers};
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
    /// The digest of the archive before it was encrypted, where it was.
    pub(super) contents: Option<Sha256>,
    /// Its signature, where a key signs it.
    pub(super) signature: Option<String>,
}

/// What is done with an archive's bytes on their way.
#[derive(Default)]
pub(super) struct OutputTransforms {
    /// Encrypts them.
    pub(super) encryptor: Option<ArchiveEncryptor>,
    /// Signs them as they are stored.
    pub(super) signer: Option<Signer>,
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
    transforms: OutputTransforms,
    /// The hash of what is encrypted.
    contents: InOrder<sha2::Sha256>,
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
    pub(super) fn new(writer: Box<dyn ObjectWriter>, transforms: OutputTransforms) -> Self {
        ArchiveOutput {
            writer,
            hashes: InOrder::default(),
            transforms,
            contents: InOrder::default(),
            len: 0,
            gathered: Vec::new(),
        }
    }

    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), PackError> {
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
        let contents = self.finish_encryption().await?;
        let Hashes { sha256, crc32c } = self.hashes.join().await?;
        let digest = OutputDigest {
            sha256: Sha256(sha256.finalize().into()),
            crc32c,
            len: self.len,
        };
        let signature = match self.transforms.signer {
            Some(signer) => signer.finish().await?,
            None => None,
        };
        Ok(FinishedOutput {
            writer: self.writer,
            digest,
            contents,
            signature,
        })
    }

    async fn hand_on(&mut self, bytes: Bytes) -> Result<(), PackError> {
        match self.transforms.encryptor.take() {
            Some(encryptor) => self.encrypt(encryptor, bytes).await,
            None => self.emit(bytes).await,
        }
    }

    async fn encrypt(
        &mut self,
        mut encryptor: ArchiveEncryptor,
        bytes: Bytes,
    ) -> Result<(), PackError> {
        let copy = bytes.clone();
        let add = move |contents: sha2::Sha256| contents.chain_update(&copy);
        self.contents.enqueue(add).await?;
        let work = move || (encryptor.encrypt(&bytes), encryptor);
        let (encrypted, encryptor) = Workers::run_blocking(work).await?;
        self.transforms.encryptor = Some(encryptor);
        self.emit(encrypted.map_err(not_encrypted)?).await
    }

    /// Writes the end of an encryption; gives the digest of what was encrypted.
    async fn finish_encryption(&mut self) -> Result<Option<Sha256>, PackError> {
        let Some(encryptor) = self.transforms.encryptor.take() else {
            return Ok(None);
        };
        let rest = encryptor.finish().map_err(not_encrypted)?;
        self.emit(rest).await?;
        let contents = self.contents.join().await?;
        Ok(Some(Sha256(contents.finalize().into())))
    }

    /// Writes bytes as they are stored.
    async fn emit(&mut self, bytes: Bytes) -> Result<(), PackError> {
        self.len += bytes.len() as u64;
        let copy = bytes.clone();
        self.hashes
            .enqueue(move |hashes| hashes.chain_update(&copy))
            .await?;
        if let Some(signer) = &self.transforms.signer {
            signer.push(bytes.clone()).await;
        }
        self.writer.write(bytes).await.map_err(PackError::Dest)
    }
}

fn not_encrypted(error: io::Error) -> PackError {
    PackError::NotEncrypted(format!("the archive ({error})"))
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
