//! Stores: names and bytes, read in ranges and created under free names only.
//!
//! Knows folders and buckets. Must not know kinds, exports or zips.

mod decrypted;
mod dir;
pub(crate) mod gcs;
mod location;
pub mod name_limits;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

pub use decrypted::{DecryptedStore, open_object};
pub use dir::DirStore;
pub use gcs::{GcsClient, GcsOptions, GcsStore, UploadOptions};
#[cfg(feature = "test-util")]
pub use location::StoreLayer;
pub use location::{Location, LocationError, StoreRegistry, is_bucket_address};

use crate::encryption::DecryptionError;
use crate::model::{Crc32c, Sha256};
use crate::store::name_limits::NameFault;

/// An object as a listing shows it. Reads are pinned to what was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name below the store's root, `/` between segments.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// What changes when the object does: a bucket's generation, a file's time of change.
    pub version: u64,
    /// The store's own CRC-32C of it, where the store has one.
    pub crc32c: Option<u32>,
    /// How its bytes are encoded, such as `gzip`, where the store says so. Reads give them as they
    /// are stored.
    pub content_encoding: Option<String>,
    /// What its bytes are, such as `image/png`, where the store says so.
    pub content_type: Option<String>,
    /// What was said of it when it was written, where the store keeps such; see
    /// [`ObjectMetadata::attributes`].
    pub attributes: BTreeMap<String, String>,
}

/// How an object is to be made.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Whether an object of that name is replaced.
    pub overwrite: bool,
    /// How long it may become, in bytes, as far as that is known; shapes how it is sent, not what.
    pub expected_len: u64,
    /// How its bytes are encoded, for stores that keep such; see [`ObjectInfo::content_encoding`].
    pub content_encoding: Option<String>,
    /// What its bytes are, for stores that keep such; without it the store guesses by the name.
    pub content_type: Option<String>,
    /// Whether it need not survive a power cut before [`Store::sync`] is called for it.
    pub sync_later: bool,
}

/// A whole small object that is to be made.
#[derive(Debug, Clone)]
pub struct SmallObject {
    /// Its name.
    pub name: String,
    /// All of its bytes.
    pub bytes: Bytes,
    /// How it is to be made.
    pub making: WriteOptions,
}

/// A part of an object that is to be read.
#[derive(Debug, Clone)]
pub struct ReadRange {
    /// The object as it was listed.
    pub object: ObjectInfo,
    /// Where the part begins.
    pub offset: u64,
    /// How many bytes it has.
    pub len: usize,
}

/// What is known of an object when it is whole.
#[derive(Debug, Clone, Default)]
pub struct ObjectMetadata {
    /// SHA-256 of what was written: a store that joins parts holds what it made against it.
    pub sha256: Option<Sha256>,
    /// What a bucket says of the object besides its bytes.
    pub attributes: BTreeMap<String, String>,
}

/// What a store can answer instead of bytes. Only the command line adds hints and exit codes.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum StoreError {
    /// There is no such object or folder.
    #[error("{name}: no such {what}")]
    NotFound {
        /// What was requested.
        name: String,
        /// What it should be, such as `file`.
        what: &'static str,
    },
    /// There is no such bucket.
    #[error("{bucket}: no such bucket")]
    NoBucket {
        /// The bucket as a location.
        bucket: String,
    },
    /// Another object (or a folder) has the name.
    #[error("{name} already exists")]
    AlreadyExists {
        /// The name that is taken.
        name: String,
    },
    /// The object is no longer what was listed.
    #[error("{name} changed while it was read")]
    Changed {
        /// The object.
        name: String,
    },
    /// A name that no archive can carry.
    #[error("{name}: the name is not UTF-8")]
    InvalidName {
        /// The name, as far as it can be shown.
        name: String,
    },
    /// A name that the store cannot hold.
    #[error("{name}: {fault}")]
    UnsupportedName {
        /// The object.
        name: String,
        /// Why not.
        fault: NameFault,
    },
    /// Something that is neither a folder nor an object.
    #[error("{name} {fault}")]
    NotAFile {
        /// Its name.
        name: String,
        /// What it is instead, such as `is a folder, not a file`.
        fault: &'static str,
    },
    /// Another process is writing under the same name.
    #[error("another process is writing {name}")]
    Busy {
        /// The name.
        name: String,
    },
    /// The service does not allow it.
    #[error("{name}: the permission {permission} is missing: {found}")]
    Denied {
        /// The object or prefix.
        name: String,
        /// The permission that the call needs.
        permission: &'static str,
        /// What the service says.
        found: String,
    },
    /// No credentials, or none that are accepted.
    #[error("{call}: {fault}")]
    Unauthorized {
        /// The call.
        call: String,
        /// What is wrong with them.
        fault: &'static str,
    },
    /// A variable that holds no address of a service.
    #[error("{variable}: {found:?} is not an address such as http://localhost:9023")]
    InvalidAddress {
        /// The variable.
        variable: &'static str,
        /// What it holds, without any password.
        found: String,
    },
    /// A bucket whose requester pays, and nobody is named.
    #[error("{name}: the requester pays for this bucket, and no billing project is set")]
    BillingProjectRequired {
        /// The object or prefix.
        name: String,
    },
    /// A service that failed although it was tried again and again.
    #[error("{call} failed after {tries} {} in {seconds} s: {found}", if *.tries == 1 { "try" } else { "tries" })]
    Service {
        /// The call.
        call: String,
        /// How often it was tried.
        tries: u32,
        /// For how long.
        seconds: u64,
        /// What the last try came to.
        found: String,
    },
    /// A service that refuses, or says what cannot be.
    #[error("{name}: the service refuses the request: {found}")]
    Refused {
        /// The object or prefix.
        name: String,
        /// What the service says.
        found: String,
    },
    /// A retention policy or a hold keeps the object as it is.
    #[error("{name}: a retention policy or a hold protects the object: {found}")]
    Held {
        /// The object.
        name: String,
        /// What the service says.
        found: String,
    },
    /// The bytes are not those of which the store has the checksum.
    #[error("{name} is damaged: expected crc32c {}, found {}", Crc32c(*.expected), Crc32c(*.found))]
    Corrupt {
        /// The object.
        name: String,
        /// As the store, or the sender, has it.
        expected: u32,
        /// As it came.
        found: u32,
    },
    /// What was sent is not there any more before it was whole. Another attempt from the beginning
    /// may help.
    #[error("{name}: the service lost the upload: {reason}")]
    UploadLost {
        /// The object.
        name: String,
        /// What became of it.
        reason: String,
    },
    /// What is stored is not what was sent.
    #[error("{name} is damaged: expected sha256 {expected}, found {found}")]
    WrongDigest {
        /// The object.
        name: String,
        /// Of what was sent.
        expected: Sha256,
        /// Of what is stored.
        found: Sha256,
    },
    /// An encrypted object, and no identity.
    #[error("{name} is encrypted, and no identity is given")]
    Encrypted {
        /// The object.
        name: String,
    },
    /// An encrypted object that the identities do not open, or that is damaged.
    #[error("{name}{} {error}", if matches!(.error, DecryptionError::Damaged(_)) { " is damaged:" } else { ":" })]
    NotDecrypted {
        /// The object.
        name: String,
        /// Why not.
        error: DecryptionError,
    },
    /// The operating system said no.
    #[error("{deed} {name} failed: {source}")]
    Io {
        /// The object or folder.
        name: String,
        /// What was tried, such as `reading`.
        deed: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    /// Whether bytes were lost or damaged on their way, so that another attempt from the beginning
    /// may help.
    pub fn is_transfer_error(&self) -> bool {
        matches!(
            self,
            StoreError::Corrupt { .. }
                | StoreError::WrongDigest { .. }
                | StoreError::UploadLost { .. }
        )
    }
}

impl StoreError {
    /// Whether encrypted bytes are not what they must be.
    pub fn is_decryption_damage(&self) -> bool {
        let StoreError::NotDecrypted { error, .. } = self else {
            return false;
        };
        matches!(error, DecryptionError::Damaged(_))
    }

    /// Whether an encrypted object is not opened for want of an identity.
    pub fn needs_identity(&self) -> bool {
        match self {
            StoreError::Encrypted { .. } => true,
            StoreError::NotDecrypted { error, .. } => !matches!(error, DecryptionError::Damaged(_)),
            _ => false,
        }
    }
}

/// Small requests to a service that may be under way at once.
const AT_ONCE: usize = 16;

/// Where objects come from and go to.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Every object of the store, ordered by name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such folder.
    async fn list(&self) -> Result<Vec<ObjectInfo>, StoreError>;

    /// The objects of the store itself, without those in folders below it, ordered by name.
    ///
    /// # Errors
    /// As [`Store::list`].
    async fn list_folder(&self) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut objects = self.list().await?;
        objects.retain(|object| !object.name.contains('/'));
        Ok(objects)
    }

    /// The object of that name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none.
    async fn stat(&self, name: &str) -> Result<ObjectInfo, StoreError>;

    /// Exactly `len` bytes of the object from `offset`, of the version that was listed.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when the object is no longer that one.
    async fn read(&self, object: &ObjectInfo, offset: u64, len: usize)
    -> Result<Bytes, StoreError>;

    /// Refuses names that the store cannot hold, before anything is written.
    ///
    /// # Errors
    /// [`StoreError::UnsupportedName`], of the first one.
    async fn check_names(&self, names: &[&str]) -> Result<(), StoreError>;

    /// Begins an object. Nothing stands under `name` before [`ObjectWriter::publish`].
    ///
    /// # Errors
    /// [`StoreError::Busy`] while another writer is at work under the same name.
    async fn create(
        &self,
        name: &str,
        making: WriteOptions,
    ) -> Result<Box<dyn ObjectWriter>, StoreError>;

    /// What there is of these names, in their order. One by one it would take longer to ask than to
    /// answer.
    ///
    /// # Errors
    /// As [`Store::stat`], but for names that are free.
    async fn stat_all(&self, names: &[String]) -> Result<Vec<Option<ObjectInfo>>, StoreError> {
        stat_each(self, names).await
    }

    /// Reads parts of many objects, in their order. At the first fault no other is begun: in an
    /// outage each of them would be tried for long.
    ///
    /// # Errors
    /// As [`Store::read`].
    async fn read_all(&self, parts: &[ReadRange]) -> Result<Vec<Bytes>, StoreError> {
        let reads = parts
            .iter()
            .map(|part| self.read(&part.object, part.offset, part.len));
        let reads = stream::iter(reads).buffered(AT_ONCE).boxed();
        reads.try_collect().await
    }

    /// Makes small objects, each in one act. At the first fault no other is begun.
    ///
    /// # Errors
    /// As [`Store::create`] and [`ObjectWriter::publish`].
    async fn create_all(&self, objects: Vec<SmallObject>) -> Result<(), StoreError> {
        let creations = objects.into_iter().map(|object| create_small(self, object));
        stream::iter(creations)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Makes objects that were made with [`WriteOptions::sync_later`] survive a power cut, their names
    /// included.
    ///
    /// # Errors
    /// When the store cannot promise it.
    async fn sync(&self, _names: &[String]) -> Result<(), StoreError> {
        Ok(())
    }

    /// Takes away an object as it was listed; none there, or another one by now, is as good.
    async fn remove(&self, object: &ObjectInfo) -> Result<(), StoreError>;

    /// Deletes an object that is still as it was listed. Where a bucket keeps versions it becomes a
    /// noncurrent one, unlike with [`Store::remove`].
    ///
    /// # Errors
    /// [`StoreError::Changed`] when another object has the name by now, [`StoreError::NotFound`]
    /// when none has, [`StoreError::Held`] when the service must keep it.
    async fn delete_unchanged(&self, object: &ObjectInfo) -> Result<(), StoreError>;

    /// A name as messages show it.
    fn display_name(&self, name: &str) -> String;

    /// Takes away whatever earlier attempts at `object` have left besides it, now that it stands.
    /// What cannot be taken away does no harm.
    async fn remove_leftovers(&self, _object: &ObjectInfo) {}

    /// An object as it is stored, where this store shows it in another form: digests and signatures
    /// are of what is stored.
    fn stored_form(&self, _object: &ObjectInfo) -> Option<(&dyn Store, &ObjectInfo)> {
        None
    }

    /// Whether reading everything costs money and time, so that what the store says of an object is
    /// asked first.
    fn is_remote(&self) -> bool;
}

/// An object that is being written. Dropped before it is published, it leaves nothing.
#[async_trait]
pub trait ObjectWriter: fmt::Debug + Send {
    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError>;

    /// Puts the whole object under its name in one act; an object that is there stays unless
    /// [`WriteOptions::overwrite`].
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] when the name is taken.
    async fn publish(self: Box<Self>, about: ObjectMetadata) -> Result<(), StoreError>;
}

/// Asks for each name by itself.
async fn stat_each<S: Store + ?Sized>(
    store: &S,
    names: &[String],
) -> Result<Vec<Option<ObjectInfo>>, StoreError> {
    let lookups = names
        .iter()
        .map(|name| async move { stat_if_there(store.stat(name).await) });
    let lookups = stream::iter(lookups).buffered(AT_ONCE).boxed();
    lookups.try_collect().await
}

/// An object, or that there is none.
fn stat_if_there(there: Result<ObjectInfo, StoreError>) -> Result<Option<ObjectInfo>, StoreError> {
    match there {
        Err(StoreError::NotFound { .. }) => Ok(None),
        there => there.map(Some),
    }
}

/// Makes one of [`Store::create_all`].
async fn create_small<S: Store + ?Sized>(
    store: &S,
    SmallObject {
        name,
        bytes,
        making,
    }: SmallObject,
) -> Result<(), StoreError> {
    let mut writer = store.create(&name, making).await?;
    writer.write(bytes).await?;
    writer.publish(ObjectMetadata::default()).await
}

/// As [`Store::read`], for callers that rely on the length: a store that gives fewer bytes has failed.
///
/// # Errors
/// As [`Store::read`], and [`StoreError::Io`] where bytes are missing.
pub async fn read_exact(
    store: &dyn Store,
    object: &ObjectInfo,
    offset: u64,
    len: usize,
) -> Result<Bytes, StoreError> {
    let bytes = store.read(object, offset, len).await?;
    if bytes.len() == len {
        return Ok(bytes);
    }
    let fault = format!("expected {len} bytes, found {}", bytes.len());
    Err(StoreError::Io {
        name: store.display_name(&object.name),
        deed: "reading",
        source: io::Error::new(io::ErrorKind::UnexpectedEof, fault),
    })
}

/// Reads a whole small object.
///
/// # Errors
/// As [`read_exact`].
pub async fn read_object(store: &dyn Store, object: &ObjectInfo) -> Result<Bytes, StoreError> {
    let len = usize::try_from(object.len).map_err(|_| StoreError::NotAFile {
        name: store.display_name(&object.name),
        fault: "is too large for the memory of this machine",
    })?;
    read_exact(store, object, 0, len).await
}

/// Writes a whole small object.
///
/// # Errors
/// As [`Store::create`] and [`ObjectWriter::publish`].
pub async fn write_object(
    store: &dyn Store,
    name: &str,
    bytes: Bytes,
    overwrite: bool,
) -> Result<(), StoreError> {
    let making = WriteOptions {
        overwrite,
        expected_len: bytes.len() as u64,
        ..WriteOptions::default()
    };
    let mut writer = store.create(name, making).await?;
    writer.write(bytes).await?;
    writer.publish(ObjectMetadata::default()).await
}

#[cfg(test)]
mod tests;
