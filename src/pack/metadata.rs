//! The metadata of a SOURCE: read once, however often SOURCE is looked at.
//!
//! Knows stores and names. What the metadata means is the business of `discover`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::error::PackError;
use crate::archive::zip::{ZipWriteError, check_name};
use crate::export::discover::{self, Discovery, ListedObject};
use crate::export::stored_metadata::MetadataStore;
use crate::store::{ObjectInfo, ReadRange, Store};

/// How many objects one call reads.
const READ_TOGETHER: usize = 16;

/// How many such calls may be in flight: 64 requests where each object takes one.
const CALLS_AT_ONCE: usize = 4;

/// What is kept for packing, so that it is not read again.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// The metadata of a listing, and which version of each object was read.
#[derive(Debug, Default)]
pub(super) struct MetadataCache {
    kept: MetadataStore,
    versions: BTreeMap<String, (u64, u64)>,
}

impl MetadataCache {
    /// Groups the objects of a listing into exports; reads what is new or has changed since it was
    /// asked before.
    pub(super) async fn discover(
        &mut self,
        source: &Arc<dyn Store>,
        objects: &BTreeMap<String, ObjectInfo>,
        memory: u64,
    ) -> Result<Discovery, PackError> {
        let listed = |object: &ObjectInfo| ListedObject {
            name: object.name.clone(),
            len: object.len,
            is_encoded: object.content_encoding.is_some(),
        };
        let listing: Vec<ListedObject> = objects.values().map(listed).collect();
        let wanted: BTreeMap<&str, &ObjectInfo> = discover::metadata_objects(&listing)
            .filter_map(|listed| objects.get_key_value(&listed.name))
            .map(|(name, object)| (name.as_str(), object))
            .collect();
        // Not every service can read what it lists under an odd name; that no zip can carry it is
        // known before.
        for name in wanted.keys() {
            check_name(&format!("exports/{name}")).map_err(ZipWriteError::from)?;
        }
        let mut kept = MetadataStore::new(
            wanted.iter().map(|(name, object)| (*name, object.len)),
            memory,
        );
        self.keep_unchanged(&wanted, &mut kept);
        self.read_new(source, &wanted, &mut kept).await?;
        self.kept = kept;
        let discovery = discover::discover(&listing, &self.kept);
        match self.kept.lacking(&discovery) {
            Some(name) => Err(PackError::MemoryTooSmall {
                name: name.to_owned(),
            }),
            None => Ok(discovery),
        }
    }

    /// Moves what was read before and has not changed.
    fn keep_unchanged(&mut self, wanted: &BTreeMap<&str, &ObjectInfo>, kept: &mut MetadataStore) {
        self.versions.retain(|name, known| {
            let Some(object) = wanted.get(name.as_str()) else {
                return false;
            };
            if version(object) != *known || !kept.is_wanted(name) {
                return false;
            }
            let Some(bytes) = self.kept.remove(name) else {
                return false;
            };
            kept.insert(name, bytes, object.content_encoding.as_deref());
            true
        });
    }

    /// Reads what is new or has changed.
    async fn read_new(
        &mut self,
        source: &Arc<dyn Store>,
        wanted: &BTreeMap<&str, &ObjectInfo>,
        kept: &mut MetadataStore,
    ) -> Result<(), PackError> {
        let is_new = |object: &&&ObjectInfo| {
            kept.is_wanted(&object.name) && !self.versions.contains_key(&object.name)
        };
        let new: Vec<ObjectInfo> = wanted.values().filter(is_new).copied().cloned().collect();
        let calls: Vec<Vec<ObjectInfo>> = new.chunks(READ_TOGETHER).map(<[_]>::to_vec).collect();
        let reads = calls
            .into_iter()
            .map(|objects| read_together(source, objects));
        let mut reads = stream::iter(reads).buffered(CALLS_AT_ONCE);
        while let Some(contents) = reads.try_next().await? {
            for (object, content) in contents {
                self.versions.insert(object.name.clone(), version(&object));
                kept.insert(&object.name, content, object.content_encoding.as_deref());
            }
        }
        Ok(())
    }

    /// The bytes of metadata as they are stored, as far as they are kept.
    pub(super) fn contents_of(
        &mut self,
        objects: &BTreeMap<String, ObjectInfo>,
    ) -> BTreeMap<String, Bytes> {
        let names = std::mem::take(&mut self.versions).into_keys();
        let contents = names
            .filter_map(|name| Some((self.kept.remove(&name)?, name)))
            .map(|(content, name)| (name, content));
        let mut len = 0;
        let is_kept = |(name, content): &(String, Vec<u8>)| {
            len += content.len();
            len <= MAX_KEPT_BYTES && objects.contains_key(name)
        };
        contents
            .filter(is_kept)
            .map(|(name, content)| (name, content.into()))
            .collect()
    }
}

/// What changes when an object does.
fn version(object: &ObjectInfo) -> (u64, u64) {
    (object.version, object.len)
}

async fn read_together(
    source: &Arc<dyn Store>,
    objects: Vec<ObjectInfo>,
) -> Result<Vec<(ObjectInfo, Vec<u8>)>, PackError> {
    let whole = |object: &ObjectInfo| ReadRange {
        offset: 0,
        len: usize::try_from(object.len)
            .expect("metadata is read whole only if it fits into memory"),
        object: object.clone(),
    };
    let parts: Vec<ReadRange> = objects.iter().map(whole).collect();
    let read = source.read_all(&parts).await.map_err(PackError::reading)?;
    Ok(objects
        .into_iter()
        .zip(read)
        .map(|(object, bytes)| (object, bytes.to_vec()))
        .collect())
}
