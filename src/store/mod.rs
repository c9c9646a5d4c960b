//! Stores: names and bytes, read in ranges and created under free names only.
//!
//! Knows folders and, in time, buckets. Must not know kinds, exports or zips.

mod dir;
mod location;

use std::fmt;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use dir::DirStore;
pub use location::{Location, LocationError};

/// An object as a listing shows it. Reads are pinned to what was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name below the store's root, `/` between segments.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// What changes when the object does: a bucket's generation, a file's time of change.
    pub version: u64,
}

/// What a store can answer instead of bytes. Only the command line adds hints and exit codes.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object or folder.
    #[error("{name}: expected {expected}, found none")]
    NotFound {
        /// What was asked for.
        name: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Another object (or a folder) has the name.
    #[error("{name}: expected a free name, found {found}")]
    Exists {
        /// The name that is taken.
        name: String,
        /// What has it.
        found: &'static str,
    },
    /// The object is no longer what was listed.
    #[error("{name}: expected the object as it was listed, found that it has changed")]
    Changed {
        /// The object.
        name: String,
    },
    /// A name that no archive can carry.
    #[error("{name}: expected a name in UTF-8, found other bytes")]
    BadName {
        /// The name, as far as it can be shown.
        name: String,
    },
    /// Something that is neither a folder nor an object.
    #[error("{name}: expected {expected}, found {found}")]
    NotAnObject {
        /// Its name.
        name: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// Another process is writing under the same name.
    #[error("{name}: expected to be its only writer, found another one at work")]
    Busy {
        /// The name.
        name: String,
    },
    /// The operating system said no.
    #[error("{name}: {deed}: {source}")]
    Io {
        /// The object or folder.
        name: String,
        /// What was tried.
        deed: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where objects come from and go to.
pub trait Store: fmt::Debug + Send + Sync {
    /// Every object of the store, ordered by name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such folder.
    fn list(&self) -> BoxFuture<'_, Result<Vec<ObjectInfo>, StoreError>>;

    /// The object of that name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none.
    fn stat<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<ObjectInfo, StoreError>>;

    /// Exactly `len` bytes of the object from `offset`, of the version that was listed.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when the object is no longer that one.
    fn read<'a>(&'a self, object: &'a ObjectInfo, offset: u64, len: usize) -> BoxFuture<'a, Result<Bytes, StoreError>>;

    /// Begins an object. Nothing stands under `name` before [`ObjectWriter::publish`].
    ///
    /// # Errors
    /// [`StoreError::Busy`] while another writer is at work under the same name.
    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Box<dyn ObjectWriter>, StoreError>>;

    /// Takes an object away; none there is as good.
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// An object that is being written. Dropped before it is published, it leaves nothing.
pub trait ObjectWriter: fmt::Debug + Send {
    /// Appends bytes.
    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Puts the whole object under its name in one act; an object that is there stays unless `overwrite`.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the name is taken.
    fn publish(self: Box<Self>, overwrite: bool) -> BoxFuture<'static, Result<(), StoreError>>;
}

/// Reads a whole small object.
///
/// # Errors
/// As [`Store::read`].
pub async fn read_whole(store: &dyn Store, object: &ObjectInfo) -> Result<Bytes, StoreError> {
    store.read(object, 0, usize::try_from(object.len).unwrap_or(usize::MAX)).await
}

/// Writes a whole small object.
///
/// # Errors
/// As [`Store::create`] and [`ObjectWriter::publish`].
pub async fn write_whole(store: &dyn Store, name: &str, bytes: Bytes, overwrite: bool) -> Result<(), StoreError> {
    let mut writer = store.create(name).await?;
    writer.write(bytes).await?;
    writer.publish(overwrite).await
}

#[cfg(test)]
mod tests;
