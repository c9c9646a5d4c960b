//! What the commands that make archives have in common: the options, the checks of places, and how
//! an incomplete set is reported.

use std::path::{Path, PathBuf};

use super::args::{ArchiveOptions, MethodArg};
use super::context::Context;
use super::failure::Failure;
use super::keys::{read_recipients, read_signing_key};
use crate::backup::BackupRequest;
use crate::encryption::ENCRYPTED_SUFFIX;
use crate::model::Method;
use crate::pack::{ExportFault, PackError, PackRequest, SelectionOptions};
use crate::store::Location;

/// How an archive of that shape is made of everything that is there. Its keys are read.
pub async fn pack_request(
    context: &Context,
    shape: &ArchiveOptions,
) -> Result<PackRequest, Failure> {
    let companions = shape.with.iter().map(|with| context.stores.folder(with));
    let signing_key = match &shape.sign {
        Some(path) => Some(read_signing_key(path).await?),
        None => None,
    };
    Ok(PackRequest {
        wanted: SelectionOptions {
            max_spread: shape.max_spread,
            ..SelectionOptions::default()
        },
        accept_count: shape.accept_count.clone(),
        companions: companions.collect(),
        method: match shape.method {
            MethodArg::Deflate => Method::Deflate,
            MethodArg::Store => Method::Store,
        },
        level: shape.level,
        overwrite: shape.overwrite,
        signing_key,
        recipients: read_recipients(&shape.encrypt_to).await?,
        ..PackRequest::default()
    })
}

/// Refuses the name of an encrypted archive for one that is not.
pub fn check_encrypted_name(archive: &Location, request: &PackRequest) -> Result<(), Failure> {
    let is_encrypted = request.recipients.is_some();
    if is_encrypted || !archive.to_string().ends_with(ENCRYPTED_SUFFIX) {
        return Ok(());
    }
    let why = format!("{archive} would not be encrypted: its name ends in {ENCRYPTED_SUFFIX}");
    Err(Failure::usage(why).hint("pass --encrypt-to RECIPIENT, or choose another name"))
}

/// Refuses to delete the exports of an archive that cannot be read to verify it.
pub fn check_deletion(context: &Context, request: &BackupRequest) -> Result<(), Failure> {
    let is_readable = request.pack.recipients.is_none() || context.identities.are_named();
    if is_readable || !request.delete_exports {
        return Ok(());
    }
    let why = "--delete-exports needs an identity that opens the encrypted archive";
    Err(Failure::usage(why).hint("pass --identity FILE, or leave out --delete-exports"))
}

/// Reports what is wrong with a set as one event each.
pub fn report_problems(context: &Context, error: &PackError) {
    let PackError::IncompleteSet {
        faults,
        duplicates,
        missing,
        stale,
        ..
    } = error
    else {
        return;
    };
    let ui = &context.ui;
    let class = |fault: &ExportFault| fault.fault.class.name();
    for fault in faults {
        ui.json_problem(class(fault), &fault.export, &fault.fault.to_string());
    }
    for twice in duplicates {
        ui.json_problem(class(twice), &twice.export, &twice.fault.reason);
    }
    for missing in missing {
        ui.json_problem(
            "incomplete",
            &missing.selector.to_string(),
            "there is no finished export of it",
        );
    }
    for export in stale {
        ui.json_problem("incomplete", &export.export, &export.to_string());
    }
}

/// Refuses companions that hold the archive, or that share objects with the exports or with one
/// another. The exports have a name and a place.
pub fn check_companions(
    exports: (&'static str, &Location),
    companions: &[Location],
    archive: &Location,
) -> Result<(), Failure> {
    let mut sources = vec![exports];
    for with in companions {
        reject_companion_file(with)?;
        reject_archive_inside("--with", with, archive)?;
        for (name, other) in &sources {
            if is_inside(other, with) || is_inside(with, other) {
                let why = format!("--with {with} and {name} {other} share objects");
                return Err(Failure::usage(why).hint("name folders that share no object"));
            }
        }
        sources.push(("--with", with));
    }
    Ok(())
}

/// Refuses a file where the folder of companions must be.
fn reject_companion_file(with: &Location) -> Result<(), Failure> {
    match with {
        Location::Local(path) if path.is_file() => Err(Failure::usage(format!(
            "--with {with} is a file, not a folder"
        ))
        .hint("name the folder of the companion objects")),
        _ => Ok(()),
    }
}

/// Refuses an archive that is a folder, and a folder that is a file. Notes that a name without an
/// ending may be meant as a folder.
pub fn check_archive_location(context: &Context, archive: &Location) -> Result<(), Failure> {
    let Location::Local(path) = archive else {
        return Ok(());
    };
    // Without the slash at its end, which makes a file look like nothing.
    let path: PathBuf = path.components().collect();
    let is_folder_name = archive.is_folder_name();
    if path.is_dir() && !is_folder_name {
        return Err(Failure::usage(format!("{archive} is a folder"))
            .hint(format!("write {archive}/ to let kindpack choose the name")));
    }
    if path.is_file() && is_folder_name {
        return Err(
            Failure::usage(format!("{} is a file, not a folder", path.display()))
                .hint("name another folder, or move the file away"),
        );
    }
    if !is_folder_name && path.extension().is_none() && !path.exists() {
        context.ui.note(format!(
            "{archive} becomes a file; write {archive}/ to make a folder of archives"
        ));
    }
    Ok(())
}

/// Refuses an archive that the next pack would look at or pack.
pub fn reject_archive_inside(
    name: &str,
    source: &Location,
    archive: &Location,
) -> Result<(), Failure> {
    if !is_inside(source, &folder_of(archive)) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "the archive {archive} would be inside {name} {source}"
    ))
    .hint("write the archive to another folder"))
}

/// The folder that an archive is made in.
fn folder_of(archive: &Location) -> Location {
    match archive {
        Location::Local(path) if path.is_dir() => archive.clone(),
        Location::Bucket { .. } if archive.is_folder_name() => archive.clone(),
        Location::Local(_) | Location::Bucket { .. } => archive.folder(),
    }
}

/// Whether a folder is another one or below it.
fn is_inside(outer: &Location, inner: &Location) -> bool {
    match (outer, inner) {
        (Location::Local(outer), Location::Local(inner)) => {
            let outer = outer.canonicalize();
            outer.is_ok_and(|outer| {
                existing_folder(inner).is_some_and(|inner| inner.starts_with(outer))
            })
        }
        (
            Location::Bucket { bucket, name },
            Location::Bucket {
                bucket: other,
                name: inner,
            },
        ) => bucket == other && as_folder(inner).starts_with(&as_folder(name)),
        (Location::Local(_), Location::Bucket { .. })
        | (Location::Bucket { .. }, Location::Local(_)) => false,
    }
}

/// A path, or as much of it as is there.
fn existing_folder(path: &Path) -> Option<PathBuf> {
    let named = |path: &Path| {
        if path.as_os_str().is_empty() {
            Path::new(".").canonicalize()
        } else {
            path.canonicalize()
        }
    };
    path.ancestors().find_map(|path| named(path).ok())
}

/// The name of a folder in a bucket: empty, or ending in `/`.
fn as_folder(name: &str) -> String {
    if name.is_empty() || name.ends_with('/') {
        name.to_owned()
    } else {
        format!("{name}/")
    }
}
