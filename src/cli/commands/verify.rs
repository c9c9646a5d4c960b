//! `kindpack verify ARCHIVE`.

use std::time::Instant;

use serde_json::json;

use crate::cli::args::VerifyArgs;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::open_archive::{self, ArchiveLocation};
use crate::cli::output;
use crate::cli::text::shell_quote;
use crate::progress::Observer as _;
use crate::verify::{VerifyScope, any_zip, verify};

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
        "OK: {title}: {seen}{}{entities}, {} ({seconds:.1} s)",
        output::counted(report.entries, "entry", "entries"),
        output::bytes(bytes)
    ));
    report
        .accepted_counts
        .iter()
        .for_each(|count| ui.info(count.to_string()));
    ui.done(json!({
        "archive": title, "entries": report.entries, "entities": report.entities, "problems": [], "seconds": seconds,
        "accepted_counts": report.accepted_counts,
    }));
    Ok(ExitCode::Done)
}
