//! `kindpack plan ARCHIVE --target TARGET`: the plan as a table, or as a document with `-o`.

use std::path::Path;

use serde::Serialize;
use serde_json::json;

use crate::archive::Archive;
use crate::cli::args::PlanArgs;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::kept_plans::journal_of;
use crate::cli::load_plan::make_plan;
use crate::cli::open_archive::{self, note_missing_parent};
use crate::cli::output_file::check_plan_output;
use crate::cli::plan_options::choices;
use crate::cli::plan_view::{show, show_explained};
use crate::cli::text::shell_quote;
use crate::model::Selector;
use crate::plan::{Choices, Plan, explain};
use crate::restore::journal::file::JournalFile;
use crate::runtime::workers::Workers;
use crate::store::{DirStore, Location, write_object};

/// The event that shows a plan.
#[derive(Serialize)]
struct PlanEvent<'a> {
    event: &'static str,
    plan: &'a Plan,
}

pub async fn run(context: &Context, args: PlanArgs) -> CommandResult {
    let ui = &context.ui;
    if let Some(output) = &args.output {
        check_plan_output(output).await?;
        note_missing_parent(context, output);
    }
    open_archive::reject_plan(&args.archive.archive).await?;
    let choices = choices(args.choices).await?;
    let archive = open_archive::open(context, &args.archive).await?;
    let plan = make_plan(context, &archive, &choices).await?;
    let mut begins_anew = false;
    if let Some(output) = &args.output {
        begins_anew = warn_of_unfinished(context, &plan, output).await?;
        write_plan(&plan, output).await?;
    }
    match &args.explain {
        None => show(context, &plan),
        Some(selector) => explain_kinds(context, &archive, &choices, selector)?,
    }
    if let Some(output) = &args.output {
        let output = output.display().to_string();
        ui.info(format!("Wrote {output}"));
        let again = if begins_anew { " --again" } else { "" };
        ui.info(format!(
            "Next: kindpack restore {}{again}",
            shell_quote(&output)
        ));
    } else if args.explain.is_none() {
        ui.info("Next: save this plan with -o plan.json; kindpack restore plan.json runs it");
    }
    if args.explain.is_none() {
        // Not as a `Value`, which takes many times the memory of the plan.
        ui.json_event(&PlanEvent {
            event: "plan",
            plan: &plan,
        });
    }
    ui.done(
        json!({"steps": plan.steps.len(), "skipped": plan.skipped.len(), "entities": plan.totals.entities, "bytes": plan.totals.bytes}),
    );
    Ok(if args.detailed_exitcode && !plan.steps.is_empty() {
        ExitCode::ChangesPending
    } else {
        ExitCode::Done
    })
}

/// Warns where the file holds the plan of a restore that has begun and not finished: it cannot go on
/// without that plan. Gives whether it does.
async fn warn_of_unfinished(
    context: &Context,
    plan: &Plan,
    output: &Path,
) -> Result<bool, Failure> {
    let path = journal_of(output);
    let Ok(journal) = Workers::run_blocking(move || JournalFile::read(&path)).await? else {
        // What is no journal stops no plan: the restore says what is wrong with it.
        return Ok(false);
    };
    if !journal.is_of_other_plan(plan.sha256()) || journal.finished.is_some() {
        return Ok(false);
    }
    let (done, all) = (journal.done(), journal.steps.len());
    context.ui.warn(format!(
        "{}: the restore of the plan before has not finished, and cannot continue with this one: {done} of {all} steps are done",
        output.display()
    ));
    Ok(true)
}

/// Writes a plan. It may be made again; what is replaced is whole before and after.
async fn write_plan(plan: &Plan, output: &Path) -> Result<(), Failure> {
    let (folder, name) = Location::split_local(output)
        .ok_or_else(|| Failure::usage(format!("--output {} names no file", output.display())))?;
    let json = plan.to_json().into_bytes().into();
    write_object(&DirStore::new(folder), &name, json, true).await?;
    Ok(())
}

/// Shows why kinds stand where they stand.
fn explain_kinds(
    context: &Context,
    archive: &Archive,
    choices: &Choices,
    selector: &Selector,
) -> Result<(), Failure> {
    let explained = explain(archive.manifest(), choices, selector)?;
    show_explained(context, &explained);
    context
        .ui
        .json_event(&json!({"event": "explained", "kinds": explained}));
    Ok(())
}
