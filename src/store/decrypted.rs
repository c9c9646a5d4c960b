//! One encrypted object of a store, read as if it were not encrypted.
//!
//! Only the chunks that a range needs are read. Everything else is the store's own.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{ObjectInfo, ObjectWriter, Store, StoreError, WriteOptions};
use crate::encryption::{
    ByteRange, DecryptionError, ENCRYPTED_SUFFIX, EncryptedFile, EncryptedHeader, Identities,
    MAX_HEADER_BYTES,
};
use crate::runtime::workers::{WorkerPanicked, Workers};

/// What is read first of an encrypted object: the header of a few recipients.
const FIRST_READ_BYTES: u64 = 4 << 10;

/// A store in which one object is read decrypted.
#[derive(Debug)]
pub struct DecryptedStore {
    inner: Arc<dyn Store>,
    encrypted: ObjectInfo,
    file: Arc<EncryptedFile>,
}

impl DecryptedStore {
    /// Opens an encrypted object. Reads its header and its last chunk.
    ///
    /// # Errors
    /// [`StoreError::NotDecrypted`].
    pub async fn open(
        inner: Arc<dyn Store>,
        encrypted: ObjectInfo,
        identities: &Identities,
    ) -> Result<Self, StoreError> {
        let file = match open_file(inner.as_ref(), &encrypted, identities).await {
            // Bytes may have been damaged on their way.
            Err(error) if error.is_decryption_damage() && inner.is_remote() => {
                open_file(inner.as_ref(), &encrypted, identities).await?
            }
            file => file?,
        };
        Ok(DecryptedStore {
            inner,
            encrypted,
            file: Arc::new(file),
        })
    }

    /// The object as it is once it is decrypted. What its store says of its bytes is not of these.
    pub fn object(&self) -> ObjectInfo {
        ObjectInfo {
            len: self.file.decrypted_len(),
            crc32c: None,
            ..self.encrypted.clone()
        }
    }

    async fn read_decrypted(&self, wanted: ByteRange) -> Result<Bytes, StoreError> {
        let range = self.file.range_for(wanted);
        let encrypted = read_range(self.inner.as_ref(), &self.encrypted, range).await?;
        let file = self.file.clone();
        let decrypted = Workers::run_blocking(move || file.decrypt(wanted, encrypted));
        let decrypted = decrypted
            .await
            .map_err(|lost| lost_worker(&self.encrypted, lost))?;
        decrypted.map_err(|error| self.not_decrypted(error))
    }

    fn not_decrypted(&self, error: DecryptionError) -> StoreError {
        not_decrypted(self.inner.as_ref(), &self.encrypted, error)
    }
}

/// An object as it is read: decrypted where its name says that it is encrypted.
///
/// # Errors
/// [`StoreError::Encrypted`] where there is no identity, [`StoreError::NotDecrypted`].
pub async fn open_object(
    store: Arc<dyn Store>,
    object: ObjectInfo,
    identities: Option<&Identities>,
) -> Result<(Arc<dyn Store>, ObjectInfo), StoreError> {
    if !object.name.ends_with(ENCRYPTED_SUFFIX) {
        return Ok((store, object));
    }
    let Some(identities) = identities else {
        return Err(StoreError::Encrypted {
            name: store.display_name(&object.name),
        });
    };
    let store = DecryptedStore::open(store, object, identities).await?;
    let object = store.object();
    Ok((Arc::new(store), object))
}

async fn open_file(
    store: &dyn Store,
    object: &ObjectInfo,
    identities: &Identities,
) -> Result<EncryptedFile, StoreError> {
    let header = read_header(store, object, identities).await?;
    let file = EncryptedFile::new(header, object.len);
    let last = read_range(store, object, file.last_range()).await?;
    let file = Workers::run_blocking(move || file.with_last_chunk(last));
    let file = file.await.map_err(|lost| lost_worker(object, lost))?;
    file.map_err(|error| not_decrypted(store, object, error))
}

/// Reads as much as the header needs.
async fn read_header(
    store: &dyn Store,
    object: &ObjectInfo,
    identities: &Identities,
) -> Result<EncryptedHeader, StoreError> {
    for len in [FIRST_READ_BYTES, MAX_HEADER_BYTES] {
        let len = len.min(object.len);
        let beginning = read_range(store, object, ByteRange { offset: 0, len }).await?;
        let identities = identities.clone();
        let parsed = Workers::run_blocking(move || EncryptedHeader::parse(&beginning, &identities));
        let parsed = parsed.await.map_err(|lost| lost_worker(object, lost))?;
        let parsed = parsed.map_err(|error| not_decrypted(store, object, error))?;
        if let Some(header) = parsed {
            return Ok(header);
        }
    }
    let cut = DecryptionError::Damaged("its header is too long or cut off".to_owned());
    Err(not_decrypted(store, object, cut))
}

async fn read_range(
    store: &dyn Store,
    object: &ObjectInfo,
    range: ByteRange,
) -> Result<Bytes, StoreError> {
    if range.len == 0 {
        return Ok(Bytes::new());
    }
    let len = usize::try_from(range.len).unwrap_or(usize::MAX);
    store.read(object, range.offset, len).await
}

fn not_decrypted(store: &dyn Store, object: &ObjectInfo, error: DecryptionError) -> StoreError {
    StoreError::NotDecrypted {
        name: store.display_name(&object.name),
        error,
    }
}

fn lost_worker(object: &ObjectInfo, lost: WorkerPanicked) -> StoreError {
    StoreError::Io {
        name: object.name.clone(),
        deed: "decrypting",
        source: std::io::Error::other(lost),
    }
}

#[async_trait]
impl Store for DecryptedStore {
    async fn list(&self) -> Result<Vec<ObjectInfo>, StoreError> {
        self.inner.list().await
    }

    async fn list_folder(&self) -> Result<Vec<ObjectInfo>, StoreError> {
        self.inner.list_folder().await
    }

    async fn stat(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        let found = self.inner.stat(name).await?;
        match found == self.encrypted {
            true => Ok(self.object()),
            false => Ok(found),
        }
    }

    async fn read(
        &self,
        object: &ObjectInfo,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, StoreError> {
        if object.name != self.encrypted.name || len == 0 {
            return self.inner.read(object, offset, len).await;
        }
        let wanted = ByteRange {
            offset,
            len: len as u64,
        };
        match self.read_decrypted(wanted).await {
            // Bytes may have been damaged on their way.
            Err(error) if error.is_decryption_damage() && self.is_remote() => {
                self.read_decrypted(wanted).await
            }
            read => read,
        }
    }

    async fn check_names(&self, names: &[&str]) -> Result<(), StoreError> {
        self.inner.check_names(names).await
    }

    async fn create(
        &self,
        name: &str,
        making: WriteOptions,
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        self.inner.create(name, making).await
    }

    async fn remove(&self, object: &ObjectInfo) -> Result<(), StoreError> {
        self.inner.remove(object).await
    }

    async fn delete_unchanged(&self, object: &ObjectInfo) -> Result<(), StoreError> {
        self.inner.delete_unchanged(object).await
    }

    fn display_name(&self, name: &str) -> String {
        self.inner.display_name(name)
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn stored_form(&self, object: &ObjectInfo) -> Option<(&dyn Store, &ObjectInfo)> {
        (object.name == self.encrypted.name).then_some((self.inner.as_ref(), &self.encrypted))
    }
}
