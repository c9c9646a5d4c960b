//! Where exports are laid down for an importer: below a folder of this machine, or below a prefix
//! of a bucket.
//!
//! Knows places and names there: `kindpack-PLAN/step-ID/NAME/…`. What an earlier run of the same
//! plan left is used or replaced, and goes with the rest. Must not know what is imported.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::ImportError;
use super::export::StagedExport;
use crate::archive::Archive;
use crate::archive::unpack::{UnpackEvent, UnpackOptions, UnpackPlan, lay};
use crate::datastore::admin::{ExportStorage, Importer, plan_id};
use crate::export::log::end_padding;
use crate::model::{EntryInfo, EntryRole, Sha256};
use crate::progress::Observer;
use crate::runtime::private_files::{create_private_folder, create_private_folders};
use crate::runtime::workers::{WorkerPanicked, Workers};
use crate::store::{Location, ObjectInfo, Store, StoreError, StoreRegistry};

/// Objects that are removed at once.
const REMOVED_AT_ONCE: usize = 16;

/// A place for exports.
#[derive(Debug, Clone)]
pub struct Staging {
    stores: StoreRegistry,
    place: Location,
}

/// The folder of a step, below the place.
pub(super) fn folder(plan: Sha256, step: u32) -> String {
    format!("kindpack-{}/step-{step}", plan_id(plan))
}

impl Staging {
    /// The place for what `importer` is to read: `chosen` by the user, or `own`, a folder for
    /// kindpack's own things, where that will do.
    ///
    /// # Errors
    /// [`ImportError::InvalidStaging`] when the importer could not read there.
    pub fn choose(
        chosen: Option<&Location>,
        own: &Path,
        importer: &dyn Importer,
        stores: &StoreRegistry,
    ) -> Result<Self, ImportError> {
        let no_place = |fault| Err(ImportError::InvalidStaging { fault });
        let place = match (importer.reads(), chosen) {
            (ExportStorage::Bucket, Some(place @ Location::Bucket { .. })) => place.clone(),
            (ExportStorage::Bucket, _) => {
                return no_place("the service imports from gs://BUCKET/NAME only");
            }
            (_, Some(Location::Local(path))) => Location::Local(absolute(path)?),
            (ExportStorage::LocalDir, None) => Location::Local(absolute(own)?),
            (ExportStorage::RemoteDir, None) => {
                return no_place("the emulator is on another machine: name a folder that both see");
            }
            (_, Some(Location::Bucket { .. })) => {
                return no_place("an emulator imports from a folder, not from a bucket");
            }
        };
        Ok(Staging {
            stores: stores.clone(),
            place,
        })
    }

    pub(super) fn is_local(&self) -> bool {
        matches!(self.place, Location::Local(_))
    }

    /// What the importer calls a name below the place.
    pub(super) fn address(&self, name: &str) -> String {
        self.place.below(name).to_string()
    }

    fn store(&self, folder: &str) -> Arc<dyn Store> {
        self.stores.folder(&self.place.below(folder))
    }

    /// Refuses an export with names that cannot be below a folder of the place.
    pub(super) async fn check_names(
        &self,
        folder: &str,
        export: &StagedExport,
    ) -> Result<(), StoreError> {
        self.store(folder).check_names(&export.names()).await
    }

    /// Lays an export down below a folder of the place.
    pub(super) async fn lay(
        &self,
        archive: &Arc<Archive>,
        folder: &str,
        export: &StagedExport,
        workers: &Workers,
        observer: &dyn Observer,
    ) -> Result<(), ImportError> {
        self.check_names(folder, export).await?;
        self.make_folders(folder).await?;
        let store = self.store(folder);
        // What is staged need not outlive a power cut: it would be laid down again.
        let load = UnpackPlan {
            entries: not_there(store.as_ref(), export.entries.clone()).await?,
            made: export.made.clone(),
            ..UnpackPlan::default()
        };
        let mut told = |told: UnpackEvent<'_>| {
            if let UnpackEvent::Bytes(bytes) = told {
                observer.advance(0, bytes);
            }
        };
        let laying = self.unpack_options();
        Ok(lay(archive, store.as_ref(), load, laying, workers, &mut told).await?)
    }

    fn unpack_options(&self) -> UnpackOptions {
        UnpackOptions {
            overwrite: true,
            ending: if self.is_local() { padding } else { no_padding },
        }
    }

    /// Makes the folders on this machine, if the place is there.
    async fn make_folders(&self, folder: &str) -> Result<(), ImportError> {
        let Location::Local(place) = &self.place else {
            return Ok(());
        };
        let step = place.join(folder);
        let made = Workers::run_blocking(move || make_own(&step));
        Ok(made.await??)
    }

    /// Takes away everything below a folder of the place.
    pub(super) async fn remove(&self, folder: &str) -> Result<(), StoreError> {
        match self.place.below(folder) {
            Location::Local(path) => remove_local(path).await,
            Location::Bucket { .. } => remove_objects(self.store(folder).as_ref()).await,
        }
    }
}

/// The entries that no earlier run has laid down, as far as the store itself vouches for their
/// bytes.
async fn not_there(
    store: &dyn Store,
    entries: Vec<(EntryInfo, String)>,
) -> Result<Vec<(EntryInfo, String)>, StoreError> {
    if !store.is_remote() {
        return Ok(entries);
    }
    let names: Vec<String> = entries.iter().map(|(_, name)| name.clone()).collect();
    let there = store.stat_all(&names).await?;
    let entries = entries.into_iter().zip(there);
    let missing = entries.filter(|((item, _), there)| !is_laid_down(item, there.as_ref()));
    Ok(missing.map(|(entry, _)| entry).collect())
}

/// Whether an object has the bytes of an entry, as far as the store says.
fn is_laid_down(item: &EntryInfo, object: Option<&ObjectInfo>) -> bool {
    object.is_some_and(|object| object.len == item.bytes && object.crc32c == Some(item.crc32c.0))
}

/// What an emulator needs behind a log; see [`end_padding`]. What lies in a bucket stays as it is.
fn padding(item: &EntryInfo) -> Bytes {
    if item.role == EntryRole::Output {
        vec![0; end_padding(item.bytes)].into()
    } else {
        Bytes::new()
    }
}

fn no_padding(_: &EntryInfo) -> Bytes {
    Bytes::new()
}

fn absolute(path: &Path) -> Result<PathBuf, StoreError> {
    std::path::absolute(path).map_err(failed(path.display().to_string(), "finding"))
}

fn failed(name: String, deed: &'static str) -> impl FnOnce(std::io::Error) -> StoreError {
    move |source| StoreError::Io { name, deed, source }
}

/// The folders of a plan and of a step. They have names that others can guess, and what is below
/// them is overwritten: so they must be this user's, and no links.
fn make_own(step: &Path) -> Result<(), StoreError> {
    if let Some(place) = step.parent().and_then(Path::parent) {
        let made = create_private_folders(place);
        made.map_err(failed(shown(place), "creating the folder"))?;
    }
    let mut folders = step.parent().into_iter().chain([step]);
    folders.try_for_each(make_own_folder)
}

fn make_own_folder(folder: &Path) -> Result<(), StoreError> {
    match create_private_folder(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made.map_err(failed(shown(folder), "creating the folder"))?,
    }
    check_owner(folder)
}

/// Refuses a link, and what another user made.
fn check_owner(folder: &Path) -> Result<(), StoreError> {
    let meta = std::fs::symlink_metadata(folder);
    let meta = meta.map_err(failed(shown(folder), "reading"))?;
    if meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(StoreError::AlreadyExists {
        name: format!("{} of another user", shown(folder)),
    })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

async fn remove_local(path: PathBuf) -> Result<(), StoreError> {
    let name = shown(&path);
    let lost = move |lost: WorkerPanicked| failed(name, "removing")(std::io::Error::other(lost));
    let removed = Workers::run_blocking(move || remove_folder(&path)).await;
    removed.map_err(lost)?
}

async fn remove_objects(store: &dyn Store) -> Result<(), StoreError> {
    let objects = match store.list().await {
        Err(StoreError::NotFound { .. }) => return Ok(()),
        objects => objects?,
    };
    stream::iter(&objects)
        .map(|object| store.remove(object))
        .buffer_unordered(REMOVED_AT_ONCE)
        .try_collect()
        .await
}

fn remove_folder(folder: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed(folder.display().to_string(), "removing")(error));
        }
        _ => {}
    }
    // The plan's folder goes with its last step. As long as others are in it, it stays.
    if let Some(plan) = folder.parent() {
        std::fs::remove_dir(plan).ok();
    }
    Ok(())
}
