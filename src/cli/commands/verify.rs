//! `kindpack verify ARCHIVE`.

use std::time::Instant;

use serde_json::json;

use crate::cli::args::VerifyArgs;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::open_archive::{self, ArchiveLocation};
use crate::cli::output::{self, Ui};
use crate::cli::text::shell_quote;
use crate::progress::Observer as _;
use crate::verify::{VerifyReport, VerifyScope, any_zip, verify};

pub async fn run(context: &Context, args: VerifyArgs) -> CommandResult {
    let location = open_archive::find(context, &args.archive).await?;
    let (title, bytes) = (location.title.clone(), location.object.len);
    let begun = Instant::now();
    let report = read_all(context, &args, location).await?;
    context.ui.finish_phase();
    if !report.problems.is_empty() {
        return Err(damaged(report, &title));
    }
    print_result(context, &args, &report, (&title, bytes), begun);
    Ok(ExitCode::Done)
}

async fn read_all(
    context: &Context,
    args: &VerifyArgs,
    location: ArchiveLocation,
) -> Result<VerifyReport, Failure> {
    let ui = context.ui.as_ref();
    let ArchiveLocation {
        store,
        object,
        title,
    } = location;
    if args.any_zip {
        return Ok(any_zip(store, object, title, ui).await?);
    }
    let scope = match (args.quick, args.only.is_empty()) {
        (true, _) => VerifyScope::Quick,
        (false, true) => VerifyScope::Full,
        (false, false) => VerifyScope::Only(args.only.clone()),
    };
    Ok(verify(store, object, title, scope, &context.workers, ui).await?)
}

fn damaged(report: VerifyReport, title: &str) -> Failure {
    let mut failure = Failure::with_reasons(ExitCode::Damaged, report.problems);
    failure.hint = report.is_foreign.then(|| {
        format!(
            "check zips of other tools with `kindpack verify --any-zip {}`",
            shell_quote(title)
        )
    });
    open_archive::hint_at_plan(failure, title).prefix("verify")
}

fn print_result(
    context: &Context,
    args: &VerifyArgs,
    report: &VerifyReport,
    (title, bytes): (&str, u64),
    begun: Instant,
) {
    let ui = &context.ui;
    let seconds = begun.elapsed().as_secs_f64();
    ui.info(format!(
        "OK: {title}: {}, {} ({seconds:.1} s)",
        seen(args, report),
        output::bytes(bytes)
    ));
    show_set(ui, report);
    ui.done(json!({
        "archive": title, "entries": report.entries, "entities": report.entities, "companions": report.companions, "problems": [], "seconds": seconds,
        "accepted_counts": report.accepted_counts, "missing": report.missing, "snapshot_time": report.snapshot_time,
    }));
}

/// What was read.
fn seen(args: &VerifyArgs, report: &VerifyReport) -> String {
    let entries = output::counted(report.entries, "entry", "entries");
    let entries = entries + &output::and_companions(report.companions);
    let entities = output::counted(report.entities, "entity", "entities");
    match (args.any_zip, args.quick) {
        (true, false) => entries,
        (true, true) => format!("structure and manifest of {entries}"),
        (false, true) => format!("structure and manifest of {entries}, {entities}"),
        (false, false) => format!("{entries}, {entities}"),
    }
}

/// Says what a good archive does not show by being good.
fn show_set(ui: &Ui, report: &VerifyReport) {
    if let Some(instant) = report.snapshot_time {
        ui.info(format!("all exports show the data of {instant}"));
    }
    for count in &report.accepted_counts {
        ui.info(count.to_string());
    }
    for missing in &report.missing {
        ui.info(ui.warning(&missing.to_string()));
    }
}
