//! What several commands do first: find the archive that is meant, and open it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::Archive;
use crate::archive::catalog::{self, NameParts};
use crate::cli::args::ArchiveArg;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::file_head::is_plan_file;
use crate::cli::text::shell_quote;
use crate::encryption::ENCRYPTED_SUFFIX;
use crate::store::{Location, ObjectInfo, Store, StoreError, is_bucket_address, open_object};

/// An archive that was found: its store, its name there, and what to call it.
pub struct ArchiveLocation {
    pub store: Arc<dyn Store>,
    pub object: ObjectInfo,
    pub title: String,
}

/// Finds the archive that an argument means; one that ends in `/` is the newest there.
pub async fn find(context: &Context, arg: &ArchiveArg) -> Result<ArchiveLocation, Failure> {
    find_at(context, &arg.archive, arg.namespace.as_deref()).await
}

/// As [`find`], from the parts of the argument.
pub async fn find_at(
    context: &Context,
    location: &Location,
    of: Option<&str>,
) -> Result<ArchiveLocation, Failure> {
    let found = find_stored(context, location, of).await?;
    context.names.set("ARCHIVE", &found.title);
    let identities = context.identities.read().await?;
    let opened = open_object(found.store, found.object, identities).await;
    let (store, object) = opened.map_err(|error| with_title(error, &found.title))?;
    Ok(ArchiveLocation {
        store,
        object,
        title: found.title,
    })
}

/// The failure of an archive that is not opened, by the name that was typed.
pub fn with_title(error: StoreError, title: &str) -> Failure {
    let name = title.to_owned();
    Failure::from_archive_store(match error {
        StoreError::Encrypted { .. } => StoreError::Encrypted { name },
        StoreError::NotDecrypted { error, .. } => StoreError::NotDecrypted { name, error },
        error => error,
    })
}

/// Finds the archive as it is stored.
async fn find_stored(
    context: &Context,
    location: &Location,
    of: Option<&str>,
) -> Result<ArchiveLocation, Failure> {
    if location.is_folder_name() {
        return newest(context, location, of).await;
    }
    if of.is_some() {
        return Err(Failure::usage(format!(
            "--namespace chooses in a folder, and {location} is an archive"
        ))
        .hint("leave out --namespace, or give the folder with a `/` at its end; `plan` and `restore` choose kinds with --only 'NAMESPACE/*'"));
    }
    let (store, name) = context.stores.object(location).ok_or_else(|| {
        Failure::usage(format!("{location} names no archive"))
            .hint(format!("write {location}/ for the newest archive in it"))
    })?;
    reject_plan(location).await?;
    let stated = store.stat(&name).await;
    let object = stated.map_err(|error| no_archive_there(error, location))?;
    Ok(ArchiveLocation {
        store,
        object,
        title: location.to_string(),
    })
}

/// The failure of an archive that is not there under the name that was typed.
fn no_archive_there(error: StoreError, location: &Location) -> Failure {
    let failure = Failure::from(error);
    let Location::Local(path) = location else {
        return failure;
    };
    let encrypted = format!("{location}{ENCRYPTED_SUFFIX}");
    if path.is_dir() {
        failure.hint(format!(
            "write {location}/ for the newest archive in that folder, or run `kindpack pack` first if it holds exports"
        ))
    } else if Path::new(&encrypted).is_file() {
        failure.hint(format!("did you mean {}?", shell_quote(&encrypted)))
    } else {
        failure
    }
}

/// The newest archive of a folder by its name, `{namespace}_backup_{YYYYMMDDHHMMSS}.zip`.
async fn newest(
    context: &Context,
    folder: &Location,
    of: Option<&str>,
) -> Result<ArchiveLocation, Failure> {
    let (ui, store) = (&context.ui, context.stores.folder(folder));
    let objects = store.list_folder().await?;
    let zips: Vec<String> = objects
        .iter()
        .filter(|object| object.name.ends_with(".zip") || object.name.ends_with(".zip.age"))
        .map(|object| object.name.clone())
        .collect();
    let wanted = |name: &str| {
        NameParts::read(name)
            .filter(|named| of.is_none_or(|of| named.is_of(of)))
            .map(|named| named.id.to_owned())
    };
    let newest = objects
        .into_iter()
        .filter_map(|object| Some((wanted(&object.name)?, object)))
        .max_by(|a, b| (&a.0, &a.1.name).cmp(&(&b.0, &b.1.name)));
    let Some((_, object)) = newest else {
        let namespace = of.map_or("NAMESPACE", catalog::name_of);
        return Err(Failure::usage(format!(
            "{folder} holds no archive named {namespace}_backup_YYYYMMDDHHMMSS.zip"
        ))
        .hint(other_name_hint(folder, &zips)));
    };
    let title = folder.below(&object.name).to_string();
    ui.chosen(&title);
    Ok(ArchiveLocation {
        store,
        object,
        title,
    })
}

/// What to type where no archive of a folder has a name that kindpack has chosen.
fn other_name_hint(folder: &Location, zips: &[String]) -> String {
    match zips.first() {
        Some(name) => {
            let path = shell_quote(&folder.below(name).to_string());
            format!("name the archive itself, such as {path}")
        }
        None => "run `kindpack pack SOURCE ARCHIVE` first if the folder holds exports".to_owned(),
    }
}

/// Refuses an archive that was typed after the argument that follows it.
pub fn reject_swapped(command: &str, archive: &Location, next: &str) -> Result<(), Failure> {
    match archive {
        Location::Local(first) if !first.is_file() && Path::new(next).is_file() => {
            let first = archive.to_string();
            let meant = format!("{} {}", shell_quote(next), shell_quote(&first));
            Err(Failure::usage(format!("{first} is not a file"))
                .hint(format!("ARCHIVE comes first: kindpack {command} {meant}")))
        }
        _ => Ok(()),
    }
}

/// Finds and opens an archive.
pub async fn open(context: &Context, arg: &ArchiveArg) -> Result<Arc<Archive>, Failure> {
    let ArchiveLocation {
        store,
        object,
        title,
    } = find(context, arg).await?;
    let archive = Archive::open(store, object, title).await?;
    Ok(Arc::new(archive))
}

/// Refuses a plan where an archive must be. Plans are files of this machine.
pub async fn reject_plan(location: &Location) -> Result<(), Failure> {
    let Location::Local(path) = location else {
        return Ok(());
    };
    if location.is_folder_name() || !is_plan_file(path).await {
        return Ok(());
    }
    let quoted = shell_quote(&location.to_string());
    Err(Failure::usage(format!("{location} is a plan, not an archive")).hint(format!(
        "name an archive; `kindpack status {quoted}` shows this plan, and `kindpack restore {quoted}` runs it"
    )))
}

/// Notes that a folder is missing and will be created: a typing error shows there.
pub fn note_missing_folder(context: &Context, folder: &Path) {
    if !folder.as_os_str().is_empty() && !folder.exists() {
        let folder = folder.display();
        context.ui.note(format!(
            "the folder {folder} does not exist; kindpack creates it"
        ));
    }
}

/// Notes that the folder around a new folder is missing.
pub fn note_missing_parent(context: &Context, folder: &Path) {
    if let Some(parent) = folder.parent() {
        note_missing_folder(context, parent);
    }
}

/// A path that is no address of a bucket.
pub fn no_bucket(path: &Path) -> Result<&Path, Failure> {
    if is_bucket_address(&path.to_string_lossy()) {
        Err(Failure::local_only(&path.display().to_string()))
    } else {
        Ok(path)
    }
}

/// A path as an absolute one, for documents that are read from elsewhere.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
