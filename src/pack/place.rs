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
use crate::archive::catalog::{self, sidecar_digest, stored_digest};
use crate::archive::signed::{SignedArchiveError, check_signature, sign, signature_name};
use crate::archive::{Archive, ArchiveError, checksums, digest_of};
use crate::model::{EXPORTS_FOLDER, EntryInfo, EntryRole, Manifest, Sha256};
use crate::progress::Observer;
use crate::signature::SigningKey;
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
    /// The signature.
    signature: Option<ObjectInfo>,
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
        let (sidecar, signature) = (sidecar_of(&name), signature_name(&name));
        let (object, sidecar, signature) =
            tokio::join!(dest.stat(&name), dest.stat(&sidecar), dest.stat(&signature));
        let signature = match signature {
            // Nothing can have a name that is one byte too long.
            Err(StoreError::UnsupportedName { .. }) if options.signing_key.is_none() => None,
            signature => as_far_as_allowed(signature)?,
        };
        let mut place = Destination {
            dest: dest.clone(),
            name,
            is_overwritten: options.overwrite,
            object: as_far_as_allowed(object)?,
            manifest: None,
            sidecar: as_far_as_allowed(sidecar)?,
            signature,
        };
        // What an encrypted archive holds is found out when the set is read.
        let readable = place.existing().filter(|_| options.recipients.is_none());
        if let Some(object) = readable {
            place.manifest = Some(place.read_manifest(object, options).await?);
        }
        Ok(place)
    }

    /// The manifest of the archive that is there, packed with the same options.
    async fn read_manifest(
        &self,
        object: &ObjectInfo,
        options: &PackRequest,
    ) -> Result<Manifest, PackError> {
        let opened = Archive::open(self.dest.clone(), object.clone(), self.name.clone()).await;
        match opened.map(|archive| archive.manifest().clone()) {
            Ok(manifest) if manifest.options == options.recorded() => Ok(manifest),
            Err(ArchiveError::Store(error)) => Err(PackError::Dest(error)),
            Err(ArchiveError::Worker(error)) => Err(error.into()),
            Ok(_) | Err(_) => Err(self.taken()),
        }
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
        let items = self.manifest.as_ref().map(Manifest::objects);
        let mut items = items.unwrap_or_default().into_iter();
        self.refuse_unless(items.all(|item| is_listed(item, objects)))
    }

    fn refuse_unless(&self, is_same: bool) -> Result<(), PackError> {
        match is_same {
            true => Ok(()),
            false => Err(self.taken()),
        }
    }

    /// Refuses the name where the archive there cannot be the one that would be made, as far as
    /// names, lengths and checksums tell. `wanted` is each entry to be, with its object.
    pub(super) fn check_same_set(&self, wanted: &[(String, &ObjectInfo)]) -> Result<(), PackError> {
        let Some(manifest) = &self.manifest else {
            return Ok(());
        };
        let items = manifest.objects();
        let by_name = items.iter().map(|item| (item.name.as_str(), *item));
        let by_name: BTreeMap<&str, &EntryInfo> = by_name.collect();
        let is_there = |(name, object): &(String, &ObjectInfo)| {
            let item = by_name.get(name.as_str());
            item.is_some_and(|item| is_of(item, object))
        };
        self.refuse_unless(wanted.len() == items.len() && wanted.iter().all(is_there))
    }

    /// Finds out whether the archive that is there has these bytes.
    ///
    /// # Errors
    /// [`PackError::AlreadyExists`] where it has others, or cannot be looked at.
    pub(super) async fn recognise(&self, digest: &OutputDigest) -> Result<(), PackError> {
        if self.is_overwritten {
            return Err(self.taken());
        }
        let object = self.stat_existing().await?;
        let is_other = |crc32c| crc32c != digest.crc32c;
        if object.len != digest.len || object.crc32c.is_some_and(is_other) {
            return Err(self.taken());
        }
        let stored = self.digest_of_existing(&object).await?;
        self.refuse_unless(stored == digest.sha256)
    }

    /// Finds out whether the encrypted archive that is there holds what these are the contents of;
    /// gives its digest.
    ///
    /// # Errors
    /// [`PackError::AlreadyExists`] where it holds something else, or does not say.
    pub(super) async fn recognise_contents(
        &self,
        contents: Sha256,
    ) -> Result<OutputDigest, PackError> {
        if self.is_overwritten {
            return Err(self.taken());
        }
        let object = self.stat_existing().await?;
        let sha256 = self.digest_of_existing(&object).await?;
        let mark = catalog::contents_mark(self.dest.as_ref(), &object).await;
        self.refuse_unless(mark == Some(checksums::contents_mark(&sha256, &contents)))?;
        Ok(OutputDigest {
            sha256,
            crc32c: object.crc32c.unwrap_or_default(),
            len: object.len,
        })
    }

    async fn stat_existing(&self) -> Result<ObjectInfo, PackError> {
        use StoreError::{Denied, NotAFile, NotFound};
        let object = self.dest.stat(&self.name).await;
        object.map_err(|error| match error {
            NotFound { .. } | Denied { .. } | NotAFile { .. } => self.taken(),
            error => PackError::Dest(error),
        })
    }

    /// The digest of the object that is there. The service's own checksum is of the bytes that it
    /// stores: with it, the digest that stands beside them is enough.
    async fn digest_of_existing(&self, object: &ObjectInfo) -> Result<Sha256, PackError> {
        match object.crc32c.and_then(|_| stored_digest(object)) {
            Some(sha256) => Ok(sha256),
            None => digest_of(self.dest.as_ref(), object)
                .await
                .map_err(PackError::Dest),
        }
    }

    /// Removes the sidecar and the signature of no archive, or of one that other bytes replace: they
    /// must not stand beside the archive that is made, not even for a moment. What another pack has
    /// written meanwhile is true, and stays.
    pub(super) async fn remove_outdated(&self, sha256: Sha256) -> Result<(), PackError> {
        let is_replaced = self.object.is_some();
        if is_replaced && self.has_sidecar(sha256).await {
            return Ok(());
        }
        for old in self.sidecar.iter().chain(&self.signature) {
            let removed = match is_replaced {
                true => remove_replaced(self.dest.as_ref(), old).await,
                false => self.dest.remove(old).await,
            };
            removed.map_err(PackError::Dest)?;
        }
        Ok(())
    }

    /// Whether the sidecar is there and true.
    pub(super) async fn has_sidecar(&self, sha256: Sha256) -> bool {
        sidecar_digest(self.dest.as_ref(), &self.name).await == Some(sha256)
    }

    /// Whether nothing has the name.
    pub(super) fn is_free(&self) -> bool {
        self.object.is_none()
    }

    /// Removes the sidecar of an archive that did not get its name.
    pub(super) async fn remove_sidecar(&self, sha256: Sha256) {
        if !self.has_sidecar(sha256).await {
            return;
        }
        if let Ok(sidecar) = self.dest.stat(&sidecar_of(&self.name)).await {
            // One that stays is removed by the next pack under that name, and by `prune`.
            self.dest.remove(&sidecar).await.ok();
        }
    }

    /// Writes the sidecar, with the mark of what an encrypted archive holds.
    pub(super) async fn write_sidecar(
        &self,
        sha256: Sha256,
        mark: Option<Sha256>,
    ) -> Result<(), PackError> {
        let mark = mark.as_ref().map(checksums::mark_line).unwrap_or_default();
        let text = checksums::line(&sha256, self.base_name()) + &mark;
        self.write(&sidecar_of(&self.name), text).await
    }

    /// Signs the archive that is there.
    pub(super) async fn sign(
        &self,
        key: &SigningKey,
        trusted_comment: String,
    ) -> Result<Option<String>, PackError> {
        let object = self.stat_existing().await?;
        sign(self.dest.as_ref(), &object, key, trusted_comment)
            .await
            .map_err(PackError::Dest)
    }

    /// Whether a good signature by the key is there.
    ///
    /// # Errors
    /// [`PackError::OtherSignature`] where there is another one that must not be replaced.
    pub(super) async fn has_signature(
        &self,
        key: &SigningKey,
        observer: &dyn Observer,
    ) -> Result<bool, PackError> {
        let object = self.stat_existing().await?;
        let Ok(key) = key.public_key() else {
            return Err(PackError::NotSigned(self.name.clone()));
        };
        match check_signature(self.dest.as_ref(), &object, &key, observer).await {
            Ok(_) => Ok(true),
            Err(SignedArchiveError::Missing { .. }) => Ok(false),
            Err(SignedArchiveError::Bad { .. }) if self.is_overwritten => Ok(false),
            Err(SignedArchiveError::Bad { signature, .. }) => {
                Err(PackError::OtherSignature(signature))
            }
            Err(SignedArchiveError::Store(error)) => Err(PackError::Dest(error)),
        }
    }

    /// Writes the signature.
    pub(super) async fn write_signature(&self, signature: String) -> Result<(), PackError> {
        self.write(&signature_name(&self.name), signature).await
    }

    async fn write(&self, name: &str, text: String) -> Result<(), PackError> {
        write_object(self.dest.as_ref(), name, Bytes::from(text), true)
            .await
            .map_err(PackError::Dest)
    }

    /// The archive's name without folders.
    pub(super) fn base_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    fn taken(&self) -> PackError {
        PackError::AlreadyExists(self.name.clone())
    }
}

fn sidecar_of(name: &str) -> String {
    format!("{name}.sha256")
}

/// Removes what stands beside an archive that is replaced. A bucket that keeps versions keeps it.
async fn remove_replaced(dest: &dyn Store, old: &ObjectInfo) -> Result<(), StoreError> {
    match dest.delete_unchanged(old).await {
        Err(StoreError::NotFound { .. } | StoreError::Changed { .. }) => Ok(()),
        removed => removed,
    }
}

/// What there is of a name. Whoever may only create finds out when the archive gets its name: that
/// is create-only, too.
fn as_far_as_allowed(
    stat: Result<ObjectInfo, StoreError>,
) -> Result<Option<ObjectInfo>, PackError> {
    match stat {
        Ok(object) => Ok(Some(object)),
        Err(StoreError::NotFound { .. } | StoreError::Denied { .. }) => Ok(None),
        Err(error) => Err(PackError::Dest(error)),
    }
}

/// Whether an entry is a companion, or may hold one of the objects.
fn is_listed(item: &EntryInfo, objects: &BTreeMap<String, ObjectInfo>) -> bool {
    let name = item.name.strip_prefix(EXPORTS_FOLDER);
    let object = name.and_then(|name| objects.get(name));
    item.role == EntryRole::Companion || object.is_some_and(|object| is_of(item, object))
}

/// Whether an entry can hold an object, as far as its length and the store's own checksum tell.
fn is_of(item: &EntryInfo, object: &ObjectInfo) -> bool {
    item.bytes == object.len && object.crc32c.is_none_or(|crc32c| crc32c == item.crc32c.0)
}
