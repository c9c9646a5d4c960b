//! Where the archive is to be: what stands under its name before, and whether that is the same
//! archive.
//!
//! Knows stores, archives and sidecars. Reads nothing of SOURCE.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::error::PackError;
use super::options::PackRequest;
use super::output::OutputDigest;
use crate::archive::catalog::{sidecar_digest, stored_digest};
use crate::archive::{Archive, ArchiveError, checksums, digest_of};
use crate::model::{EXPORTS_FOLDER, EntryInfo, EntryRole, Manifest, Sha256};
use crate::store::{ObjectInfo, Store, StoreError, write_object};

/// The name of an archive to be, and what stands there.
pub(super) struct Destination {
    dest: Arc<dyn Store>,
    pub(super) name: String,
    is_overwritten: bool,
    /// The object of that name, as far as one may look.
    object: Option<ObjectInfo>,
    /// The manifest of that object, where it is not overwritten.
    manifest: Option<Manifest>,
    /// The sidecar.
    sidecar: Option<ObjectInfo>,
}

impl Destination {
    /// Looks at what stands under a name.
    ///
    /// # Errors
    /// [`PackError::AlreadyExists`] where it must not be replaced and is no archive, or one that was packed with other options.
    pub(super) async fn find(
        dest: &Arc<dyn Store>,
        name: String,
        options: &PackRequest,
    ) -> Result<Self, PackError> {
        let is_overwritten = options.overwrite;
        let sidecar_name = sidecar_of(&name);
        let (object, sidecar) = tokio::join!(dest.stat(&name), dest.stat(&sidecar_name));
        // Whoever may only create finds out when the archive gets its name: that is create-only,
        // too.
        let allowed = |stat| match stat {
            Ok(object) => Ok(Some(object)),
            Err(StoreError::NotFound { .. } | StoreError::Denied { .. }) => Ok(None),
            Err(error) => Err(PackError::Dest(error)),
        };
        let (object, sidecar) = (allowed(object)?, allowed(sidecar)?);
        let mut manifest = None;
        if let Some(object) = object.as_ref().filter(|_| !is_overwritten) {
            manifest = match Archive::open(dest.clone(), object.clone(), name.clone()).await {
                Ok(archive) if archive.manifest().options == options.recorded() => {
                    Some(archive.manifest().clone())
                }
                Err(ArchiveError::Store(error)) => return Err(PackError::Dest(error)),
                Err(ArchiveError::Worker(error)) => return Err(error.into()),
                Ok(_) | Err(_) => return Err(PackError::AlreadyExists(name)),
            };
        }
        Ok(Destination {
            dest: dest.clone(),
            name,
            is_overwritten,
            object,
            manifest,
            sidecar,
        })
    }

    /// The archive that is there and stays.
    pub(super) fn existing(&self) -> Option<&ObjectInfo> {
        self.object.as_ref().filter(|_| !self.is_overwritten)
    }

    /// Refuses the name where the archive there holds an object that SOURCE does not hold.
    pub(super) fn check_foreign(
        &self,
        objects: &BTreeMap<String, ObjectInfo>,
    ) -> Result<(), PackError> {
        let Some(manifest) = &self.manifest else {
            return Ok(());
        };
        let is_listed = |item: &&EntryInfo| {
            let object = item
                .name
                .strip_prefix(EXPORTS_FOLDER)
                .and_then(|name| objects.get(name));
            item.role == EntryRole::Companion || object.is_some_and(|object| is_of(item, object))
        };
        if manifest.objects().iter().all(is_listed) {
            Ok(())
        } else {
            Err(self.taken())
        }
    }

    /// Refuses the name where the archive there cannot be the one that would be made, as far as
    /// names, lengths and checksums tell. `wanted` is each entry to be, with its object.
    pub(super) fn check_same_set(&self, wanted: &[(String, &ObjectInfo)]) -> Result<(), PackError> {
        let Some(manifest) = &self.manifest else {
            return Ok(());
        };
        let items = manifest.objects();
        let by_name: BTreeMap<&str, &EntryInfo> = items
            .iter()
            .map(|item| (item.name.as_str(), *item))
            .collect();
        let is_there = |(name, object): &(String, &ObjectInfo)| {
            let item = by_name.get(name.as_str());
            item.is_some_and(|item| is_of(item, object))
        };
        if wanted.len() == items.len() && wanted.iter().all(is_there) {
            Ok(())
        } else {
            Err(self.taken())
        }
    }

    /// Finds out whether the archive that is there has these bytes.
    ///
    /// # Errors
    /// [`PackError::AlreadyExists`] where it has others, or cannot be looked at.
    pub(super) async fn recognise(&self, digest: &OutputDigest) -> Result<(), PackError> {
        if self.is_overwritten {
            return Err(self.taken());
        }
        let object = match self.dest.stat(&self.name).await {
            Ok(object) => object,
            Err(
                StoreError::NotFound { .. }
                | StoreError::Denied { .. }
                | StoreError::NotAFile { .. },
            ) => return Err(self.taken()),
            Err(error) => return Err(PackError::Dest(error)),
        };
        if object.len != digest.len || object.crc32c.is_some_and(|crc32c| crc32c != digest.crc32c) {
            return Err(self.taken());
        }
        // The service's own checksum is of the bytes that it stores. With it, the digest that
        // stands beside them is enough.
        let told = object.crc32c.and_then(|_| stored_digest(&object));
        let stored = match told {
            Some(sha256) => sha256,
            None => digest_of(self.dest.as_ref(), &object)
                .await
                .map_err(PackError::Dest)?,
        };
        if stored == digest.sha256 {
            Ok(())
        } else {
            Err(self.taken())
        }
    }

    /// Removes a sidecar that has no archive: it must not stand beside the one that is made, not
    /// even for a moment. One that another pack has written meanwhile is true, and stays.
    pub(super) async fn remove_orphan(&self) -> Result<(), PackError> {
        match &self.sidecar {
            Some(orphan) if self.object.is_none() => {
                self.dest.remove(orphan).await.map_err(PackError::Dest)
            }
            _ => Ok(()),
        }
    }

    /// Whether the sidecar is there and true.
    pub(super) async fn has_sidecar(&self, sha256: Sha256) -> bool {
        sidecar_digest(self.dest.as_ref(), &self.name).await == Some(sha256)
    }

    /// Writes the sidecar.
    pub(super) async fn write_sidecar(&self, sha256: Sha256) -> Result<(), PackError> {
        let base = self.name.rsplit('/').next().unwrap_or(&self.name);
        let line = Bytes::from(checksums::line(&sha256, base));
        write_object(self.dest.as_ref(), &sidecar_of(&self.name), line, true)
            .await
            .map_err(PackError::Dest)
    }

    fn taken(&self) -> PackError {
        PackError::AlreadyExists(self.name.clone())
    }
}

fn sidecar_of(name: &str) -> String {
    format!("{name}.sha256")
}

/// Whether an entry can hold an object, as far as its length and the store's own checksum tell.
fn is_of(item: &EntryInfo, object: &ObjectInfo) -> bool {
    item.bytes == object.len && object.crc32c.is_none_or(|crc32c| crc32c == item.crc32c.0)
}
