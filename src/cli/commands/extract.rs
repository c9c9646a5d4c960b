//! `kindpack extract ARCHIVE DEST`.

use std::time::Instant;

use serde_json::json;

use crate::cli::args::{ExtractArgs, FormatArg};
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::open_archive;
use crate::cli::output;
use crate::extract::{ExtractFormat, ExtractStats, extract};
use crate::progress::Observer as _;
use crate::store::Location;

pub async fn run(context: &Context, args: ExtractArgs) -> CommandResult {
    let ui = &context.ui;
    reject_file_as_folder(&args)?;
    let dest = context.stores.folder(&args.dest);
    let archive = open_archive::open(context, &args.archive).await?;
    let form = match args.format {
        FormatArg::Original => ExtractFormat::Original,
        FormatArg::Managed => ExtractFormat::Managed,
    };
    if let Location::Local(path) = &args.dest {
        open_archive::note_missing_parent(context, path);
    }
    let begun = Instant::now();
    let done = extract(
        &archive,
        dest.as_ref(),
        &args.only,
        form,
        &context.workers,
        ui.as_ref(),
    )
    .await;
    let done = done?;
    ui.finish_phase();
    let seconds = begun.elapsed().as_secs_f64();
    show_result(context, &done, &args.dest, seconds);
    ui.done(json!({
        "dest": args.dest.to_string(), "objects": done.objects, "bytes": done.bytes, "already_there": done.already_there,
        "seconds": seconds,
    }));
    Ok(ExitCode::Done)
}

/// Refuses a DEST that is a file, which may be the archive.
fn reject_file_as_folder(args: &ExtractArgs) -> Result<(), Failure> {
    let dest = args.dest.to_string();
    if !args.archive.archive.is_folder_name() {
        open_archive::reject_swapped("extract", &args.archive.archive, &dest)?;
    }
    match &args.dest {
        Location::Local(path) if path.is_file() => {
            Err(Failure::usage(format!("{dest} is a file, not a folder"))
                .hint("name a new or an empty folder for DEST"))
        }
        _ => Ok(()),
    }
}

fn show_result(context: &Context, done: &ExtractStats, dest: &Location, seconds: f64) {
    let ui = &context.ui;
    if done.objects > 0 || done.already_there == 0 {
        ui.info(format!(
            "Extracted {} of {} to {dest} ({seconds:.1} s)",
            output::counted(done.objects, "file", "files"),
            output::bytes(done.bytes),
        ));
    }
    if done.already_there > 0 {
        let files = output::counted(done.already_there, "file is", "files are");
        ui.info(format!("{files} already in {dest} with the same contents"));
    }
}
