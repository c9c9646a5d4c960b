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
    let ui = &context.ui;
    let ArchiveLocation {
        store,
        object,
        title,
    } = open_archive::find(context, &args.archive).await?;
    let bytes = object.len;
    let begun = Instant::now();
    let report = if args.any_zip {
        any_zip(store, object, title.clone(), ui.as_ref()).await
    } else {
        let depth = match (args.quick, args.only.is_empty()) {
            (true, _) => VerifyScope::Quick,
            (false, true) => VerifyScope::Full,
            (false, false) => VerifyScope::Only(args.only),
        };
        verify(
            store,
            object,
            title.clone(),
            depth,
            &context.workers,
            ui.as_ref(),
        )
        .await
    };
    let report = report?;
    ui.finish_phase();
    if !report.problems.is_empty() {
        let hint = report.is_foreign.then(|| {
            format!(
                "`kindpack verify --any-zip {}` checks zips that kindpack did not make",
                shell_quote(&title)
            )
        });
        let mut failure = Failure::with_reasons(ExitCode::Damaged, report.problems);
        failure.hint = hint;
        return Err(failure.prefix("verify"));
    }
    let seen = if args.quick {
        "structure and manifest of "
    } else {
        ""
    };
    let entities = if args.any_zip {
        String::new()
    } else {
        format!(
            ", {}",
            output::counted(report.entities, "entity", "entities")
        )
    };
    let seconds = begun.elapsed().as_secs_f64();
    ui.info(format!(
        "OK: {title}: {seen}{}{}{entities}, {} ({seconds:.1} s)",
        output::counted(report.entries, "entry", "entries"),
        output::and_companions(report.companions),
        output::bytes(bytes)
    ));
    show_set(ui, &report);
    ui.done(json!({
        "archive": title, "entries": report.entries, "entities": report.entities, "companions": report.companions, "problems": [], "seconds": seconds,
        "accepted_counts": report.accepted_counts, "missing": report.missing, "snapshot_time": report.snapshot_time,
    }));
    Ok(ExitCode::Done)
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
