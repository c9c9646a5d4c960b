//! A store in memory: many small archives are read and extracted in no time.
//!
//! It keeps what a bucket keeps, where it is made to be one: a checksum of its own, what was said
//! of each object, and that it is far away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use kindpack::store::{ObjectInfo, ObjectMetadata, ObjectWriter, Store, StoreError, WriteOptions};

/// An object as it is held.
#[derive(Debug, Clone)]
struct Held {
    bytes: Bytes,
    version: u64,
    attributes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default)]
struct State {
    objects: BTreeMap<String, Held>,
    next_version: u64,
    is_bucket: bool,
}

impl State {
    fn put(&mut self, name: &str, bytes: Bytes, attributes: BTreeMap<String, String>) {
        self.next_version += 1;
        let held = Held {
            bytes,
            version: self.next_version,
            attributes,
        };
        self.objects.insert(name.to_owned(), held);
    }

    fn info(&self, name: &str) -> Option<ObjectInfo> {
        let held = self.objects.get(name)?;
        Some(ObjectInfo {
            name: name.to_owned(),
            len: held.bytes.len() as u64,
            version: held.version,
            crc32c: self.is_bucket.then(|| crc32c::crc32c(&held.bytes)),
            content_encoding: None,
            content_type: None,
            attributes: held.attributes.clone(),
        })
    }

    /// Whether an object is still as it was listed.
    fn is_unchanged(&self, object: &ObjectInfo) -> bool {
        let held = self.objects.get(&object.name);
        held.is_some_and(|held| held.version == object.version)
    }
}

/// A store that holds its objects in memory. Clones are the same store.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<State>>);

impl MemoryStore {
    /// A store that behaves as a bucket does.
    pub fn bucket() -> Self {
        let store = MemoryStore::default();
        store.0.lock().unwrap().is_bucket = true;
        store
    }

    /// A store with one object.
    pub fn with(name: &str, bytes: impl Into<Bytes>) -> Self {
        let store = MemoryStore::default();
        store.put(name, bytes);
        store
    }

    pub fn put(&self, name: &str, bytes: impl Into<Bytes>) {
        let mut state = self.0.lock().unwrap();
        state.put(name, bytes.into(), BTreeMap::new());
    }

    /// Another store with the same objects.
    pub fn copy(&self) -> Self {
        MemoryStore(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }

    /// All objects.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        let state = self.0.lock().unwrap();
        let objects = state.objects.iter();
        objects
            .map(|(name, held)| (name.clone(), held.bytes.clone()))
            .collect()
    }
}

fn not_found(name: &str) -> StoreError {
    StoreError::NotFound {
        name: name.to_owned(),
        what: "object",
    }
}

fn changed(name: &str) -> StoreError {
    StoreError::Changed {
        name: name.to_owned(),
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn list(&self) -> Result<Vec<ObjectInfo>, StoreError> {
        let state = self.0.lock().unwrap();
        let names = state.objects.keys();
        Ok(names.filter_map(|name| state.info(name)).collect())
    }

    async fn stat(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        let state = self.0.lock().unwrap();
        state.info(name).ok_or_else(|| not_found(name))
    }

    async fn read(
        &self,
        object: &ObjectInfo,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, StoreError> {
        let state = self.0.lock().unwrap();
        if !state.is_unchanged(object) {
            return Err(changed(&object.name));
        }
        let offset = usize::try_from(offset).unwrap();
        Ok(state.objects[&object.name]
            .bytes
            .slice(offset..offset + len))
    }

    async fn check_names(&self, _names: &[&str]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn create(
        &self,
        name: &str,
        making: WriteOptions,
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        Ok(Box::new(MemoryWriter {
            store: self.clone(),
            name: name.to_owned(),
            overwrite: making.overwrite,
            bytes: Vec::new(),
        }))
    }

    async fn remove(&self, object: &ObjectInfo) -> Result<(), StoreError> {
        let mut state = self.0.lock().unwrap();
        if state.is_unchanged(object) {
            state.objects.remove(&object.name);
        }
        Ok(())
    }

    async fn delete_unchanged(&self, object: &ObjectInfo) -> Result<(), StoreError> {
        let mut state = self.0.lock().unwrap();
        if !state.objects.contains_key(&object.name) {
            return Err(not_found(&object.name));
        }
        if !state.is_unchanged(object) {
            return Err(changed(&object.name));
        }
        state.objects.remove(&object.name);
        Ok(())
    }

    fn display_name(&self, name: &str) -> String {
        name.to_owned()
    }

    fn is_remote(&self) -> bool {
        self.0.lock().unwrap().is_bucket
    }
}

#[derive(Debug)]
struct MemoryWriter {
    store: MemoryStore,
    name: String,
    overwrite: bool,
    bytes: Vec<u8>,
}

#[async_trait]
impl ObjectWriter for MemoryWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn publish(self: Box<Self>, about: ObjectMetadata) -> Result<(), StoreError> {
        let mut state = self.store.0.lock().unwrap();
        if !self.overwrite && state.objects.contains_key(&self.name) {
            return Err(StoreError::AlreadyExists { name: self.name });
        }
        let attributes = if state.is_bucket {
            about.attributes
        } else {
            BTreeMap::new()
        };
        state.put(&self.name, self.bytes.into(), attributes);
        Ok(())
    }
}
