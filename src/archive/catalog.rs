//! The archives of a folder: which there are, what each holds, and whether it is sealed.
//!
//! Knows stores, manifests and sidecars. Reads the end of each archive and no entity; must not know
//! how any of it is shown.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::archive::checksums::{self, CONTENTS_ATTRIBUTE, SHA256_ATTRIBUTE};
use crate::archive::{Archive, ArchiveError};
use crate::encryption::{ENCRYPTED_SUFFIX, Identities};
use crate::model::{KindCounts, Manifest, Namespace, Sha256, Timestamp};
use crate::store::{ObjectInfo, Store, StoreError, open_object, read_object};

/// How many archives are opened at once.
const AT_ONCE: usize = 8;

/// Sidecars longer than this are none.
const MAX_SIDECAR_BYTES: u64 = 64 << 10;

/// The word for the default namespace in names of archives.
const DEFAULT_WORD: &str = "default";

/// What the name of an archive says: `{namespace}_backup_{YYYYMMDDHHMMSS}.zip`, or that with `.age`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameParts<'a> {
    /// The namespace, `default` for the default one, `all` where there are several.
    pub namespace: &'a str,
    /// The start of the newest export.
    pub id: &'a str,
}

impl<'a> NameParts<'a> {
    /// Reads a name; `None` where it is of another form, or that of something deeper than the
    /// folder.
    pub fn read(name: &'a str) -> Option<Self> {
        let (namespace, id) = in_folder(name)?
            .trim_end_matches(ENCRYPTED_SUFFIX)
            .strip_suffix(".zip")?
            .rsplit_once("_backup_")?;
        let fits = id.len() == 14 && id.bytes().all(|digit| digit.is_ascii_digit());
        fits.then_some(NameParts { namespace, id })
    }

    /// Whether the archive is one of that namespace, as `--namespace` spells it.
    pub fn is_of(&self, of: &str) -> bool {
        self.namespace == name_of(of)
    }
}

/// How a namespace, as `--namespace` spells it, stands in names of archives.
pub fn name_of(of: &str) -> &str {
    if Namespace::parse_display(of).is_default() {
        DEFAULT_WORD
    } else {
        of
    }
}

/// Only what lies in the folder itself: what lies deeper is somebody else's.
fn in_folder(name: &str) -> Option<&str> {
    (!name.contains('/')).then_some(name)
}

/// Whether an archive is sealed: manifest and sidecar there, and made for one another as far as can
/// be told without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// It is.
    Complete,
    /// It is not a zip, or its end is cut off.
    NotAZip,
    /// The zip is none of kindpack, or not whole.
    NotAnArchive,
    /// There is no sidecar, as after a crash between the two; `pack` makes it good.
    MissingSidecar,
    /// It is encrypted, and no identity that is given opens it.
    Encrypted,
    /// The sidecar names another archive, or another digest than the store.
    WrongSidecar,
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Integrity::Complete => "sealed",
            Integrity::NotAZip => "not a zip, or cut off",
            Integrity::NotAnArchive => "not a kindpack archive",
            Integrity::Encrypted => "encrypted, and no --identity opens it",
            Integrity::MissingSidecar => "no sidecar",
            Integrity::WrongSidecar => "sidecar of another archive",
        })
    }
}

/// One zip of a folder.
#[derive(Debug, Clone)]
pub struct CatalogEntry {
    /// The object.
    pub object: ObjectInfo,
    /// Whether it is sealed.
    pub seal: Integrity,
    /// What its manifest says, where it has one.
    pub holds: Option<ArchiveContents>,
}

impl CatalogEntry {
    fn new(object: ObjectInfo, seal: Integrity, holds: Option<ArchiveContents>) -> Self {
        CatalogEntry {
            object,
            seal,
            holds,
        }
    }

    /// Whether it is one of that namespace: by its name, which was asked before, or by what it holds.
    fn is_of(&self, of: Option<&str>) -> bool {
        let Some(of) = of else { return true };
        match (NameParts::read(&self.object.name), &self.holds) {
            (Some(_), _) => true,
            (None, Some(holds)) => holds.namespaces == [Namespace::parse_display(of)],
            (None, None) => false,
        }
    }

    /// What entries are sorted by.
    fn order(&self) -> (Option<&String>, &String) {
        let id = self.holds.as_ref().map(|holds| &holds.id);
        (id, &self.object.name)
    }
}

/// What a manifest says of its archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveContents {
    /// The backup's id.
    pub id: String,
    /// The project that the backup was made of.
    pub project: String,
    /// Its database; empty for the default one.
    pub database: String,
    /// The namespaces, in order.
    pub namespaces: Vec<Namespace>,
    /// Pairs of namespace and kind.
    pub kinds: u64,
    /// Kinds, where one that is in several namespaces counts once.
    pub distinct_kinds: u64,
    /// Entities of all of them.
    pub entities: u64,
    /// Start of the first export.
    pub started: Option<Timestamp>,
}

impl ArchiveContents {
    fn from_manifest(manifest: &Manifest) -> Self {
        let namespaces: BTreeSet<&Namespace> =
            manifest.kinds.iter().map(|item| &item.namespace).collect();
        ArchiveContents {
            id: manifest.backup.id.clone(),
            project: manifest.backup.project.clone(),
            database: manifest.backup.database.clone(),
            namespaces: namespaces.into_iter().cloned().collect(),
            kinds: manifest.totals.kinds,
            distinct_kinds: KindCounts::from_manifest(manifest).kinds,
            entities: manifest.totals.entities,
            started: manifest.backup.started,
        }
    }
}

/// Every zip in a folder, the newest last; those that are no archive of kindpack stand first. `of`
/// keeps those of one namespace, by their names, or by what they hold where their names say
/// nothing. The identities open encrypted archives.
///
/// # Errors
/// When the store fails; a zip that cannot be read as an archive is listed as such.
pub async fn list(
    store: &Arc<dyn Store>,
    of: Option<&str>,
    identities: Option<&Identities>,
) -> Result<Vec<CatalogEntry>, StoreError> {
    let objects = store.list_folder().await?;
    let zips = objects.iter().filter(|object| is_wanted_zip(object, of));
    let look = |object: &ObjectInfo| {
        let sidecar = sidecar_of(object, &objects).cloned();
        inspect(store.clone(), object.clone(), sidecar, identities)
    };
    let looks = stream::iter(zips.map(look)).buffered(AT_ONCE);
    let listed: Vec<Option<CatalogEntry>> = looks.try_collect().await?;
    let listed = listed.into_iter().flatten();
    let mut listed: Vec<CatalogEntry> = listed.filter(|entry| entry.is_of(of)).collect();
    listed.sort_by(|a, b| a.order().cmp(&b.order()));
    Ok(listed)
}

/// Whether an object of a folder is a zip that is listed, as far as its name tells.
fn is_wanted_zip(object: &ObjectInfo, of: Option<&str>) -> bool {
    let is_of = |of| NameParts::read(&object.name).is_none_or(|named| named.is_of(of));
    let is_zip = in_folder(&object.name).is_some_and(|name| {
        let name = name.strip_suffix(ENCRYPTED_SUFFIX).unwrap_or(name);
        name.ends_with(".zip")
    });
    is_zip && of.is_none_or(is_of)
}

fn sidecar_of<'a>(archive: &ObjectInfo, objects: &'a [ObjectInfo]) -> Option<&'a ObjectInfo> {
    let mut objects = objects.iter();
    objects.find(|other| other.name.strip_suffix(".sha256") == Some(&archive.name))
}

/// Looks into one zip; `None` where it is gone meanwhile.
async fn inspect(
    store: Arc<dyn Store>,
    object: ObjectInfo,
    sidecar: Option<ObjectInfo>,
    identities: Option<&Identities>,
) -> Result<Option<CatalogEntry>, StoreError> {
    let unsealed = |seal| Ok(Some(CatalogEntry::new(object.clone(), seal, None)));
    match open(store.clone(), object.clone(), identities).await {
        Ok(archive) => {
            let seal = seal_of(store.as_ref(), &object, sidecar).await?;
            let holds = ArchiveContents::from_manifest(archive.manifest());
            Ok(Some(CatalogEntry::new(object, seal, Some(holds))))
        }
        Err(ArchiveError::Store(StoreError::NotFound { .. } | StoreError::Changed { .. })) => {
            Ok(None)
        }
        Err(ArchiveError::Store(error)) if error.needs_identity() => unsealed(Integrity::Encrypted),
        Err(ArchiveError::Store(error)) if !error.is_decryption_damage() => Err(error),
        Err(
            ArchiveError::NotAZip { .. }
            | ArchiveError::Empty { .. }
            | ArchiveError::NoZipEnd { .. },
        ) => unsealed(Integrity::NotAZip),
        Err(_) => unsealed(Integrity::NotAnArchive),
    }
}

/// Opens an archive, also an encrypted one.
async fn open(
    store: Arc<dyn Store>,
    object: ObjectInfo,
    identities: Option<&Identities>,
) -> Result<Archive, ArchiveError> {
    let title = store.display_name(&object.name);
    let (store, object) = open_object(store, object, identities).await?;
    Archive::open(store, object, title).await
}

/// Whether the sidecar of an archive is there, and is that of the archive.
async fn seal_of(
    store: &dyn Store,
    archive: &ObjectInfo,
    sidecar: Option<ObjectInfo>,
) -> Result<Integrity, StoreError> {
    let Some(sidecar) = sidecar else {
        return Ok(Integrity::MissingSidecar);
    };
    let is_stored = |sha256| stored_digest(archive).is_none_or(|told| told == sha256);
    match read_sidecar(store, &archive.name, &sidecar).await {
        Ok(Some(sha256)) if is_stored(sha256) => Ok(Integrity::Complete),
        Ok(_) => Ok(Integrity::WrongSidecar),
        Err(StoreError::NotFound { .. }) => Ok(Integrity::MissingSidecar),
        Err(error) => Err(error),
    }
}

/// The digest that an archive's object in a bucket says it has.
pub fn stored_digest(archive: &ObjectInfo) -> Option<Sha256> {
    archive
        .attributes
        .get(SHA256_ATTRIBUTE)
        .and_then(|digest| digest.parse().ok())
}

/// The mark of what an encrypted archive holds, in its attributes or else in its sidecar.
pub async fn contents_mark(store: &dyn Store, archive: &ObjectInfo) -> Option<Sha256> {
    if let Some(mark) = archive.attributes.get(CONTENTS_ATTRIBUTE) {
        return mark.parse().ok();
    }
    let sidecar = store.stat(&format!("{}.sha256", archive.name)).await.ok()?;
    if sidecar.len > MAX_SIDECAR_BYTES {
        return None;
    }
    let text = read_object(store, &sidecar).await.ok()?;
    checksums::parse_mark(std::str::from_utf8(&text).ok()?)
}

/// What the sidecar of the archive of that name says, if there is one for it.
pub async fn sidecar_digest(store: &dyn Store, archive: &str) -> Option<Sha256> {
    let sidecar = store.stat(&format!("{archive}.sha256")).await.ok()?;
    read_sidecar(store, archive, &sidecar).await.ok()?
}

/// The digest that a sidecar holds for the archive of that name; none where it holds something
/// else.
///
/// # Errors
/// What the store says.
pub async fn read_sidecar(
    store: &dyn Store,
    archive: &str,
    sidecar: &ObjectInfo,
) -> Result<Option<Sha256>, StoreError> {
    if sidecar.len > MAX_SIDECAR_BYTES {
        return Ok(None);
    }
    let bytes = read_object(store, sidecar).await?;
    let parsed = std::str::from_utf8(&bytes).ok();
    let parsed = parsed.and_then(checksums::parse_first);
    let of_archive = parsed.filter(|(_, name)| archive.rsplit('/').next() == Some(name));
    Ok(of_archive.map(|(sha256, _)| sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_name_gives_namespace_and_time() {
        let named = NameParts::read("a_backup_b_backup_20131012063742.zip").unwrap();
        assert_eq!(
            (named.namespace, named.id),
            ("a_backup_b", "20131012063742")
        );
        for other in [
            "x.zip",
            "acme_backup_2013.zip",
            "acme_backup_20131012063742",
            "d/acme_backup_20131012063742.zip",
            "a_backup_2013101206374x.zip",
        ] {
            assert_eq!(NameParts::read(other), None, "{other}");
        }
        let named = NameParts::read("default_backup_20131012063742.zip").unwrap();
        assert!(named.is_of("(default)") && !named.is_of("acme"));
    }
}
