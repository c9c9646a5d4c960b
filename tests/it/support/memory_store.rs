//! A store in memory: many small archives are read and extracted in no time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use kindpack::store::{ObjectInfo, ObjectMetadata, ObjectWriter, Store, StoreError, WriteOptions};

/// Objects by name.
type Objects = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// A store that holds its objects in memory.
#[derive(Debug, Default)]
pub struct MemoryStore(Objects);

impl MemoryStore {
    /// A store with one object.
    pub fn with(name: &str, bytes: impl Into<Bytes>) -> Self {
        let store = MemoryStore::default();
        store.put(name, bytes.into());
        store
    }

    fn put(&self, name: &str, bytes: Bytes) {
        self.0.lock().unwrap().insert(name.to_owned(), bytes);
    }

    /// All objects.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.0.lock().unwrap().clone()
    }
}

fn info(name: &str, bytes: &Bytes) -> ObjectInfo {
    ObjectInfo {
        name: name.to_owned(),
        len: bytes.len() as u64,
        version: 1,
        crc32c: None,
        content_encoding: None,
        content_type: None,
        attributes: BTreeMap::new(),
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn list(&self) -> Result<Vec<ObjectInfo>, StoreError> {
        let objects = self.objects();
        Ok(objects
            .iter()
            .map(|(name, bytes)| info(name, bytes))
            .collect())
    }

    async fn stat(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        let objects = self.0.lock().unwrap();
        match objects.get(name) {
            Some(bytes) => Ok(info(name, bytes)),
            None => Err(StoreError::NotFound {
                name: name.to_owned(),
                what: "object",
            }),
        }
    }

    async fn read(
        &self,
        object: &ObjectInfo,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, StoreError> {
        let offset = usize::try_from(offset).unwrap();
        Ok(self.0.lock().unwrap()[&object.name].slice(offset..offset + len))
    }

    async fn check_names(&self, _names: &[&str]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn create(
        &self,
        name: &str,
        _making: WriteOptions,
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        Ok(Box::new(MemoryWriter {
            objects: self.0.clone(),
            name: name.to_owned(),
            bytes: Vec::new(),
        }))
    }

    async fn remove(&self, object: &ObjectInfo) -> Result<(), StoreError> {
        self.0.lock().unwrap().remove(&object.name);
        Ok(())
    }

    async fn delete_unchanged(&self, object: &ObjectInfo) -> Result<(), StoreError> {
        self.remove(object).await
    }

    fn display_name(&self, name: &str) -> String {
        name.to_owned()
    }

    fn is_remote(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct MemoryWriter {
    objects: Objects,
    name: String,
    bytes: Vec<u8>,
}

#[async_trait]
impl ObjectWriter for MemoryWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn publish(self: Box<Self>, _about: ObjectMetadata) -> Result<(), StoreError> {
        let mut objects = self.objects.lock().unwrap();
        objects.insert(self.name, self.bytes.into());
        Ok(())
    }
}
