//! `kindpack report ARCHIVE|PLAN`: one page to look at.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::archive::Archive;
use crate::cli::args::{ArchiveArg, ReportArgs};
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::kept_plans::{self, journal_of};
use crate::cli::load_plan::{FoundPlan, find_plan, load_journal, open_planned};
use crate::cli::open_archive;
use crate::cli::output;
use crate::cli::output_file::{check_page_output, write_report};
use crate::plan::Plan;
use crate::report::{self, PlanPageSource, ReportPage, default_order};
use crate::restore::prepare::archive_ref;

pub async fn run(context: &Context, args: ReportArgs) -> CommandResult {
    match &args.output {
        Some(output) => check_page_output(output).await?,
        None => check_standard_output(context)?,
    }
    let page = match find_plan(&args.archive_or_plan).await? {
        Some(found) => plan_page(context, &args, found).await?,
        None => archive_page(context, &args).await?,
    };
    let html = report::to_html(&page);
    let Some(output) = &args.output else {
        output::print_raw(&html);
        return Ok(ExitCode::Done);
    };
    write_report(output, "-o", &html)?;
    show_written(context, output, html.len());
    Ok(ExitCode::Done)
}

/// A page is for a browser: neither a terminal nor a stream of events is a place for it.
fn check_standard_output(context: &Context) -> Result<(), Failure> {
    let why = if context.ui.is_json() {
        "--json prints events, and the page would be among them"
    } else if io::stdout().is_terminal() {
        "the page is HTML, which a terminal does not show"
    } else {
        return Ok(());
    };
    Err(Failure::usage(why).hint("write the page to a file, such as -o report.html"))
}

fn show_written(context: &Context, output: &Path, len_bytes: usize) {
    let (ui, shown) = (&context.ui, output.display().to_string());
    ui.info(format!("Wrote {shown}; open it in a browser"));
    ui.done(json!({"report": shown, "bytes": len_bytes}));
}

/// The page of an archive.
async fn archive_page(context: &Context, args: &ReportArgs) -> Result<ReportPage, Failure> {
    let location = &args.archive_or_plan;
    if args.journal.is_some() {
        let why = format!("--journal belongs to a plan, and {location} is an archive");
        return Err(Failure::usage(why).hint("leave out --journal, or give the plan"));
    }
    let archive_arg = ArchiveArg {
        archive: location.clone(),
        namespace: args.namespace.clone(),
    };
    let archive = open_archive::open(context, &archive_arg).await?;
    let pinned = archive_ref(&archive).await;
    let pinned = pinned.map_err(Failure::from_archive_store)?;
    let order = default_order(archive.manifest(), &pinned)?;
    Ok(ReportPage::from_archive(archive.manifest(), &order))
}

/// The page of a plan, and of its restore if that has begun.
async fn plan_page(
    context: &Context,
    args: &ReportArgs,
    found: FoundPlan,
) -> Result<ReportPage, Failure> {
    let FoundPlan { plan, place } = found;
    if args.namespace.is_some() {
        let plan = &args.archive_or_plan;
        let why = format!("--namespace chooses in a folder of archives, and {plan} is a plan");
        return Err(Failure::usage(why).hint("leave out --namespace"));
    }
    let place = place.unwrap_or_else(|| kept_plans::path_of(&context.state.find(), &plan));
    let journal_path = args.journal.clone().unwrap_or_else(|| journal_of(&place));
    let journal = load_journal(context, &plan, &journal_path).await?;
    let archive = archive_of(context, &plan).await;
    Ok(ReportPage::from_plan(&PlanPageSource {
        plan: &plan,
        manifest: archive.as_ref().map(|archive| archive.manifest()),
        journal: &journal,
        run: None,
    }))
}

/// The archive of a plan. A restore is worth a page when its archive is gone, too.
async fn archive_of(context: &Context, plan: &Plan) -> Option<Arc<Archive>> {
    match open_unchanged(context, plan).await {
        Ok(archive) => Some(archive),
        Err(failure) => {
            let why = failure.sentence();
            context
                .ui
                .warn(format!("{why}; the page shows what the plan says"));
            None
        }
    }
}

async fn open_unchanged(context: &Context, plan: &Plan) -> Result<Arc<Archive>, Failure> {
    let archive = open_planned(context, plan).await?;
    let found = archive_ref(&archive).await;
    let found = found.map_err(Failure::from_archive_store)?.sha256;
    if found == plan.head.archive.sha256 {
        return Ok(archive);
    }
    let location = &plan.head.archive.location;
    Err(Failure::refused(format!(
        "{location} is not the archive of this plan any more"
    )))
}
