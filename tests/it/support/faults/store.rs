//! A store at whose calls faults are planned.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use kindpack::store::{ObjectInfo, ObjectMetadata, ObjectWriter, Store, StoreError, WriteOptions};

use super::{Broken, Call, Deed, Faults, Spot};

/// A store behind planned faults.
#[derive(Debug, Clone)]
pub struct FaultStore {
    inner: Arc<dyn Store>,
    /// How plans name it.
    place: &'static str,
    faults: Faults,
}

impl FaultStore {
    /// Puts planned faults before the calls of another one.
    pub fn wrap(inner: Arc<dyn Store>, place: &'static str, faults: &Faults) -> Arc<dyn Store> {
        Arc::new(FaultStore {
            inner,
            place,
            faults: faults.clone(),
        })
    }

    fn spot(&self, call: Call) -> Spot {
        Spot {
            place: self.place,
            call,
        }
    }

    async fn call<T>(
        &self,
        call: Call,
        name: &str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let error = |broken| error(broken, call, name, self.inner.is_remote());
        self.faults.call(self.spot(call), error, work).await
    }
}

/// What a folder or a bucket says.
fn error(broken: Broken, call: Call, name: &str, is_remote: bool) -> StoreError {
    let name = name.to_owned();
    match broken {
        Broken::IsDenied if is_remote => StoreError::Denied {
            name,
            permission: "storage.objects.any",
            found: "planned".to_owned(),
        },
        Broken::Fails if is_remote => StoreError::Service {
            call: format!("{call:?} of {name}"),
            tries: 3,
            seconds: 1,
            found: "planned".to_owned(),
        },
        broken => StoreError::Io {
            name,
            deed: "using",
            source: broken.io(),
        },
    }
}

/// One bit of the bytes is wrong.
fn flipped(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes.into()
}

#[async_trait]
impl Store for FaultStore {
    async fn list(&self) -> Result<Vec<ObjectInfo>, StoreError> {
        self.call(Call::List, "", self.inner.list()).await
    }

    async fn list_folder(&self) -> Result<Vec<ObjectInfo>, StoreError> {
        self.call(Call::List, "", self.inner.list_folder()).await
    }

    async fn stat(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        self.call(Call::Stat, name, self.inner.stat(name)).await
    }

    async fn read(
        &self,
        object: &ObjectInfo,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, StoreError> {
        self.faults.0.longest_read.fetch_max(len, Ordering::Relaxed);
        let deed = self.faults.next(self.spot(Call::Read)).await;
        let read = self.inner.read(object, offset, len);
        let error = |broken| error(broken, Call::Read, &object.name, self.inner.is_remote());
        let read = self.faults.carry_out(deed, error, read).await?;
        Ok(match deed {
            Some(Deed::ShortRead) => read.slice(..read.len() / 2),
            Some(Deed::FlipBit) => flipped(&read),
            _ => read,
        })
    }

    async fn check_names(&self, names: &[&str]) -> Result<(), StoreError> {
        let checked = self.inner.check_names(names);
        self.call(Call::CheckNames, "", checked).await
    }

    async fn create(
        &self,
        name: &str,
        making: WriteOptions,
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        let created = self.inner.create(name, making);
        let inner = self.call(Call::Create, name, created).await?;
        Ok(Box::new(FaultWriter {
            inner,
            store: self.clone(),
            name: name.to_owned(),
        }))
    }

    async fn sync(&self, names: &[String]) -> Result<(), StoreError> {
        self.call(Call::Sync, "", self.inner.sync(names)).await
    }

    async fn remove(&self, object: &ObjectInfo) -> Result<(), StoreError> {
        let removed = self.inner.remove(object);
        self.call(Call::Remove, &object.name, removed).await
    }

    async fn delete_unchanged(&self, object: &ObjectInfo) -> Result<(), StoreError> {
        let deleted = self.inner.delete_unchanged(object);
        self.call(Call::Delete, &object.name, deleted).await
    }

    fn display_name(&self, name: &str) -> String {
        self.inner.display_name(name)
    }

    async fn remove_leftovers(&self, object: &ObjectInfo) {
        self.inner.remove_leftovers(object).await;
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }
}

#[derive(Debug)]
struct FaultWriter {
    inner: Box<dyn ObjectWriter>,
    store: FaultStore,
    name: String,
}

#[async_trait]
impl ObjectWriter for FaultWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let written = self.inner.write(bytes);
        self.store.call(Call::Write, &self.name, written).await
    }

    async fn publish(self: Box<Self>, about: ObjectMetadata) -> Result<(), StoreError> {
        let FaultWriter { inner, store, name } = *self;
        store.call(Call::Publish, &name, inner.publish(about)).await
    }
}
