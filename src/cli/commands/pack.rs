//! `kindpack pack SOURCE ARCHIVE`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cli::args::PackArgs;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, incomplete_set};
use crate::cli::input_file::read_input_file;
use crate::cli::open_archive::note_missing_folder;
use crate::cli::output;
use crate::cli::packing::{
    check_archive_location, check_companions, check_encrypted_name, pack_request,
    reject_archive_inside, report_problems,
};
use crate::cli::text::shell_quote;
use crate::encryption::ENCRYPTED_SUFFIX;
use crate::model::Selector;
use crate::pack::{
    ArchiveName, PackError, PackRequest, PackResult, PackedArchive, SelectionOptions, pack,
};
use crate::progress::Observer as _;
use crate::signature::SIGNATURE_SUFFIX;
use crate::store::{Location, Store, StoreError};

/// Longer lists of selectors are refused: a million kinds with long names fit.
const MAX_EXPECT_BYTES: u64 = 64 << 20;

pub async fn run(context: &Context, args: PackArgs) -> CommandResult {
    let ui = &context.ui;
    context.names.set("SOURCE", &args.source.to_string());
    context.names.set("ARCHIVE", &args.archive.to_string());
    reject_swapped(&args.source, &args.archive)?;
    reject_archive_inside("SOURCE", &args.source, &args.archive)?;
    check_companions(("SOURCE", &args.source), &args.shape.with, &args.archive)?;
    let (folder, dest, name) = destination(context, &args.archive)?;
    if let (Location::Local(path), false) = (&folder, args.dry_run) {
        note_missing_folder(context, path);
    }
    if !args.wait.is_zero() && !args.shape.overwrite {
        note_existing(context, &dest, &name).await?;
    }
    let expect = match &args.expect {
        Some(path) => Some(ExpectFile::read(path).await?),
        None => None,
    };
    let selectors = expect.as_ref().map(ExpectFile::selectors);
    let (source, typed) = (args.source.clone(), args.archive.clone());
    let options = options(context, args, selectors.unwrap_or_default()).await?;
    check_encrypted_name(&typed, &options)?;
    let source = context.stores.folder(&source);
    let begun = Instant::now();
    let packed = pack(
        &source,
        &dest,
        name,
        &options,
        &context.workers,
        ui.as_ref(),
    )
    .await
    .map_err(|error| {
        report_problems(context, &error);
        match (error, &expect) {
            // The store knows the name only; people typed a path.
            (PackError::AlreadyExists(name), _) => {
                PackError::AlreadyExists(display_path(&typed, &folder, &name)).into()
            }
            (error @ PackError::IncompleteSet { .. }, Some(expect)) => {
                incomplete_set(&error, Some(&|selector| expect.place(selector)))
            }
            (error, _) => Failure::from(error),
        }
    })?;
    ui.finish_phase();
    let path = display_path(&typed, &folder, &packed.name);
    print_result(context, &packed, &path, begun);
    Ok(ExitCode::Done)
}

/// Refuses an archive and a folder that were typed in the wrong order.
fn reject_swapped(source: &Location, archive: &Location) -> Result<(), Failure> {
    match (source, archive) {
        (Location::Local(file), Location::Local(folder)) if file.is_file() && folder.is_dir() => {
            let (file, folder) = (source.to_string(), archive.to_string());
            let meant = format!("{} {}", shell_quote(&folder), shell_quote(&file));
            Err(Failure::usage(format!("{file} is a file, not a folder"))
                .hint(format!("SOURCE comes first: kindpack pack {meant}")))
        }
        _ => Ok(()),
    }
}

/// Notes before a long wait that the name is taken: only the same set may have it.
async fn note_existing(
    context: &Context,
    dest: &Arc<dyn Store>,
    name: &ArchiveName,
) -> Result<(), Failure> {
    let ArchiveName::Explicit(name) = name else {
        return Ok(());
    };
    match dest.stat(name).await {
        Ok(_) => context.ui.note(format!(
            "{} already exists; this pack succeeds only if it holds the same set",
            dest.display_name(name)
        )),
        // Who may only write learns of it when the archive is written.
        Err(StoreError::NotFound { .. } | StoreError::Denied { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Where the archive is to be made: the folder, its store, and the name there.
fn destination(
    context: &Context,
    archive: &Location,
) -> Result<(Location, Arc<dyn Store>, ArchiveName), Failure> {
    check_archive_location(context, archive)?;
    if archive.is_folder_name() {
        let store = context.stores.folder(archive);
        return Ok((archive.clone(), store, ArchiveName::Automatic));
    }
    let (store, name) = context.stores.object(archive).ok_or_else(|| {
        Failure::usage(format!("{archive} names no archive"))
            .hint(format!("write {archive}/ to let kindpack choose the name"))
    })?;
    Ok((archive.folder(), store, ArchiveName::Explicit(name)))
}

async fn options(
    context: &Context,
    args: PackArgs,
    expect: Vec<Selector>,
) -> Result<PackRequest, Failure> {
    let shaped = pack_request(context, &args.shape).await?;
    Ok(PackRequest {
        wanted: SelectionOptions {
            only: args.only,
            exclude: args.exclude,
            expect,
            latest: args.latest,
            ..shaped.wanted
        },
        wait: args.wait,
        dry_run: args.dry_run,
        all_faults: args.all_faults,
        ..shaped
    })
}

/// The archive's path: as it was typed, or with the name that was chosen.
fn display_path(typed: &Location, folder: &Location, name: &str) -> String {
    let typed_name = typed.to_string();
    if typed.is_folder_name() {
        folder.below(name).to_string()
    } else if name.ends_with(ENCRYPTED_SUFFIX) && !typed_name.ends_with(ENCRYPTED_SUFFIX) {
        typed_name + ENCRYPTED_SUFFIX
    } else {
        typed_name
    }
}

fn print_result(context: &Context, packed: &PackResult, path: &str, begun: Instant) {
    let what = format!(
        "{}: {}, {}, {}{}",
        output::exports(&packed.counts),
        output::counted(packed.entities, "entity", "entities"),
        output::counted(packed.objects, "file", "files"),
        output::bytes(packed.object_bytes),
        output::and_companions(packed.companions)
    );
    match &packed.sealed {
        None => print_dry_run(context, packed, path, &what),
        Some(sealed) if sealed.already_existed => {
            print_existing(context, sealed, path);
            print_archive(context, packed, sealed, path, begun.elapsed());
        }
        Some(sealed) => {
            let took = begun.elapsed();
            let ui = &context.ui;
            ui.info(format!("Packed {what}"));
            ui.info(format!("  into   {path}, {}", output::bytes(sealed.bytes)));
            ui.info(format!("  sha256 {}", sealed.sha256));
            ui.info(format!("  in     {:.1} s", took.as_secs_f64()));
            print_archive(context, packed, sealed, path, took);
        }
    }
}

fn print_dry_run(context: &Context, packed: &PackResult, path: &str, what: &str) {
    let ui = &context.ui;
    ui.info(format!("Would pack {what}"));
    ui.info(format!("  into   {path}"));
    ui.info("Nothing was written");
    if packed.exists {
        ui.info(format!(
            "{path} already exists; pack compares every byte with it"
        ));
    }
    ui.done(json!({
        "archive": path, "dry_run": true, "kinds": packed.kinds, "entities": packed.entities, "objects": packed.objects,
        "bytes": packed.object_bytes, "companions": packed.companions,
    }));
}

fn print_existing(context: &Context, sealed: &PackedArchive, path: &str) {
    let sidecar = if sealed.sidecar_written {
        "; wrote the missing checksum file"
    } else {
        ""
    };
    context.ui.info(format!(
        "{path} already exists with the same contents{sidecar}"
    ));
}

/// What is said of an archive, be it new or there already.
fn print_archive(
    context: &Context,
    packed: &PackResult,
    sealed: &PackedArchive,
    path: &str,
    took: Duration,
) {
    let ui = &context.ui;
    let accepted_counts = sealed.manifest.accepted_counts();
    for count in &accepted_counts {
        ui.note(count.to_string());
    }
    if let Some(key) = sealed.signed_by {
        ui.info(format!("Signed with key {key}: {path}{SIGNATURE_SUFFIX}"));
    }
    let quoted = shell_quote(path);
    let identity = match path.ends_with(ENCRYPTED_SUFFIX) {
        true => " --identity FILE",
        false => "",
    };
    ui.info(format!("Next: kindpack verify {quoted}{identity}"));
    ui.done(json!({
        "archive": path, "sha256": sealed.sha256, "bytes": sealed.bytes, "kinds": packed.kinds, "entities": packed.entities,
        "objects": packed.objects, "companions": packed.companions, "object_bytes": packed.object_bytes, "seconds": took.as_secs_f64(),
        "was_there": sealed.already_existed, "accepted_counts": accepted_counts,
        "signed_by": sealed.signed_by.map(|key| key.to_string()),
    }));
}

/// An `--expect` file: one selector a line, `#` begins a comment line.
struct ExpectFile {
    path: String,
    /// Each selector, with the number of its line.
    lines: Vec<(usize, Selector)>,
}

impl ExpectFile {
    async fn read(path: &Path) -> Result<Self, Failure> {
        let text = read_input_file(path, MAX_EXPECT_BYTES).await?;
        let path = path.display().to_string();
        let lines = text
            .lines()
            .enumerate()
            .map(|(number, line)| (number + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let lines: Result<Vec<(usize, Selector)>, Failure> = lines
            .map(|(number, line)| match line.parse() {
                Ok(selector) => Ok((number, selector)),
                Err(error) => Err(Failure::usage(format!("{path} line {number}: {error}"))),
            })
            .collect();
        match lines {
            Ok(lines) if lines.is_empty() => {
                Err(Failure::usage(format!("{path} holds no selector"))
                    .hint("write one selector a line, such as Order or acme/Customer"))
            }
            lines => lines.map(|lines| ExpectFile { path, lines }),
        }
    }

    fn selectors(&self) -> Vec<Selector> {
        let lines = self.lines.iter();
        lines.map(|(_, selector)| selector.clone()).collect()
    }

    /// The file and the line that a selector comes from.
    fn place(&self, selector: &Selector) -> String {
        let mut lines = self.lines.iter();
        let line = lines.find(|(_, other)| other == selector);
        line.map_or_else(
            || self.path.clone(),
            |(number, _)| format!("{} line {number}", self.path),
        )
    }
}
