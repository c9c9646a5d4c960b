//! Where the exports of all runs are: a folder of this machine, or a prefix of a bucket.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::export::layout::OVERALL_SUFFIX;
use crate::model::{KindRef, pair_names};
use crate::store::{
    Location, ObjectInfo, ObjectWriter, Store, StoreError, StoreRegistry, WriteOptions,
};

/// Objects that are deleted at the same time.
const DELETED_AT_ONCE: usize = 16;

/// The folder of all exports.
#[derive(Debug, Clone)]
pub(super) struct ExportsFolder {
    stores: StoreRegistry,
    location: Location,
}

impl ExportsFolder {
    /// The folder at a location; a local path is absolute.
    pub(super) fn new(stores: StoreRegistry, location: Location) -> Self {
        ExportsFolder { stores, location }
    }

    /// How people call it.
    pub(super) fn name(&self) -> String {
        self.location.to_string()
    }

    /// The folder itself.
    pub(super) fn root(&self) -> Arc<dyn Store> {
        self.stores.folder(&self.location)
    }

    /// The segments of a run's journal.
    pub(super) fn journal(&self, id: &str) -> Arc<dyn Store> {
        self.folder(&format!("{id}.journal/"))
    }

    /// The exports of a run.
    pub(super) fn run(&self, id: &str) -> Arc<dyn Store> {
        self.folder(&format!("{id}/"))
    }

    /// What an exporter calls a folder of a run.
    pub(super) fn output_prefix(&self, id: &str, folder: &str) -> String {
        self.location.below(&format!("{id}/{folder}")).to_string()
    }

    /// Whether an export below a folder of a run is finished.
    pub(super) async fn is_finished(&self, id: &str, folder: &str) -> Result<bool, StoreError> {
        let listed = self.folder(&format!("{id}/{folder}/")).list().await;
        match listed {
            Err(StoreError::NotFound { .. }) => Ok(false),
            listed => Ok(listed?
                .iter()
                .any(|object| object.name.ends_with(OVERALL_SUFFIX))),
        }
    }

    /// Deletes the exports of a run, and what failed attempts have left.
    pub(super) async fn delete_run(&self, id: &str) -> Result<(), StoreError> {
        let store = self.run(id);
        let objects = match store.list().await {
            Err(StoreError::NotFound { .. }) => return Ok(()),
            listed => listed?,
        };
        stream::iter(&objects)
            .map(|object| store.remove(object))
            .buffer_unordered(DELETED_AT_ONCE)
            .try_collect::<()>()
            .await?;
        if let Location::Local(path) = self.location.below(id) {
            // What is left are empty folders; one that is not empty stays.
            tokio::task::spawn_blocking(move || remove_empty_folders(&path))
                .await
                .ok();
        }
        Ok(())
    }

    fn folder(&self, name: &str) -> Arc<dyn Store> {
        self.stores.folder(&self.location.below(name))
    }
}

fn remove_empty_folders(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty_folders(&entry.path());
        }
    }
    fs::remove_dir(path).ok();
}

/// The folder of one attempt at an export, below that of its run.
pub(super) fn attempt_folder(pair: &KindRef, attempt: u32) -> String {
    let (namespace, kind) = pair_names(pair);
    match attempt {
        1 => format!("{namespace}/{kind}"),
        // Several attempts may leave something, and none is written over another. A namespace has
        // no `~` of its own.
        _ => format!("{namespace}~{attempt}/{kind}"),
    }
}

/// The exports of a run without what failed attempts have left.
#[derive(Debug)]
pub(super) struct FinishedExports {
    run: Arc<dyn Store>,
    folders: BTreeSet<String>,
}

impl FinishedExports {
    /// The objects of `run` below these folders.
    pub(super) fn new(run: Arc<dyn Store>, folders: BTreeSet<String>) -> Self {
        FinishedExports { run, folders }
    }

    fn holds(&self, name: &str) -> bool {
        name.match_indices('/').any(|(slash, _)| {
            name.get(..slash)
                .is_some_and(|it| self.folders.contains(it))
        })
    }
}

#[async_trait]
impl Store for FinishedExports {
    async fn list(&self) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut objects = self.run.list().await?;
        objects.retain(|object| self.holds(&object.name));
        Ok(objects)
    }

    async fn stat(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        self.run.stat(name).await
    }

    async fn read(
        &self,
        object: &ObjectInfo,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, StoreError> {
        self.run.read(object, offset, len).await
    }

    async fn check_names(&self, names: &[&str]) -> Result<(), StoreError> {
        self.run.check_names(names).await
    }

    async fn create(
        &self,
        name: &str,
        making: WriteOptions,
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        self.run.create(name, making).await
    }

    async fn remove(&self, object: &ObjectInfo) -> Result<(), StoreError> {
        self.run.remove(object).await
    }

    async fn delete_unchanged(&self, object: &ObjectInfo) -> Result<(), StoreError> {
        self.run.delete_unchanged(object).await
    }

    fn display_name(&self, name: &str) -> String {
        self.run.display_name(name)
    }

    fn is_remote(&self) -> bool {
        self.run.is_remote()
    }
}
