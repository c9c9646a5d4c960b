//! `kindpack rehearse ARCHIVE`: the proof that a backup restores, in an emulator of its own.

use crate::model::{Sha256, TargetSpec};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use crate::archive::Archive;
use crate::cli::args::RehearseArgs;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::load_plan::{make_plan, make_plan_of};
use crate::cli::open_archive::{ArchiveLocation, find};
use crate::cli::output_file::check_report_output;
use crate::cli::plan_options::environment;
use crate::cli::restore_summary::{self, RestoreSummary};
use crate::datastore::emulator::{self, RunningEmulator};
use crate::plan::{CheckedPlan, Choices, Plan};
use crate::progress::Observer as _;
use crate::restore::journal::Journal;
use crate::restore::journal::file::JournalFile;
use crate::restore::prepare::archive_ref_of;
use crate::restore::{Check, RestoreOptions, RestoreRequest, RestoreResult, restore};
use crate::targets;
use crate::verify::{VerifyScope, verify};

/// The project of a rehearsal whose archive names none, as it holds no entity.
const NO_PROJECT: &str = "rehearsal";

pub async fn run(context: &Context, args: RehearseArgs) -> CommandResult {
    for path in &args.report {
        check_report_output(path).await?;
    }
    let installed = emulator::find(args.emulator.emulator)?;
    let found = find(context, &args.archive).await?;
    let sha256 = check_archive(context, &found).await?;
    let archive = Archive::open(found.store, found.object, found.title).await?;
    let running = installed.start().await?;
    let ended = rehearse(context, &args, &Arc::new(archive), sha256, &running).await;
    running.stop().await;
    ended
}

/// Reads all of the archive, and gives its digest where a sidecar or the object named one. A
/// restore reads entities only: whatever else is wrong is found here.
async fn check_archive(
    context: &Context,
    found: &ArchiveLocation,
) -> Result<Option<Sha256>, Failure> {
    let verified = verify(
        found.store.clone(),
        found.object.clone(),
        found.title.clone(),
        VerifyScope::Full,
        &context.workers,
        context.ui.as_ref(),
    );
    let report = verified.await?;
    context.ui.finish_phase();
    if report.problems.is_empty() {
        return Ok(report.sha256);
    }
    Err(Failure::with_reasons(ExitCode::Damaged, report.problems))
}

async fn rehearse(
    context: &Context,
    args: &RehearseArgs,
    archive: &Arc<Archive>,
    sha256: Option<Sha256>,
    running: &RunningEmulator,
) -> CommandResult {
    let choices = Choices::new(emulator_target(archive, running.host()));
    let plan = match sha256.map(|sha256| archive_ref_of(archive, sha256)) {
        Some(archive_ref) => make_plan_of(context, archive, &archive_ref, &choices).await?,
        None => make_plan(context, archive, &choices).await?,
    };
    let options = rehearsal_options(args);
    let begun = Instant::now();
    let mut journal = JournalFile::in_memory(Journal::default());
    let restored = restore_in_memory(context, archive, &plan, &options, &mut journal).await?;
    let summary = RestoreSummary {
        plan: &plan,
        manifest: archive.manifest(),
        journal: journal.journal(),
        options: &options,
        reports: &args.report,
        begun,
        rehearsal: Some(running.product()),
        given_plan: None,
        piped_plan: None,
    };
    restore_summary::print(context, &summary, restored)
}

fn rehearsal_options(args: &RehearseArgs) -> RestoreOptions {
    RestoreOptions {
        keep_going: true,
        parallel: NonZeroUsize::from(args.parallel),
        check: Check::Entities,
        plan_name: "rehearsal".to_owned(),
        ..RestoreOptions::default()
    }
}

/// Restores with a journal that is kept in memory only: what is rehearsed is never gone on with.
async fn restore_in_memory(
    context: &Context,
    archive: &Arc<Archive>,
    plan: &Plan,
    options: &RestoreOptions,
    journal: &mut JournalFile,
) -> Result<RestoreResult, Failure> {
    let target = &plan.head.choices.target;
    let job = RestoreRequest {
        plan,
        checked: Some(CheckedPlan::from_planner(plan.clone())),
        archive,
        archive_ref: &plan.head.archive,
        environment: &environment(),
        target: targets::open(target, context.timeouts)?,
        companions: None,
        import: None,
        redact_key: None,
        journal,
        options,
        workers: &context.workers,
    };
    let restored = restore(job, context.ui.as_ref()).await;
    context.ui.finish_phase();
    Ok(restored)
}

/// The project of the archive in the emulator at `host`.
fn emulator_target(archive: &Archive, host: &str) -> TargetSpec {
    let source = archive.manifest().backup.project.as_str();
    let project = Some(source).filter(|source| !source.is_empty());
    TargetSpec::Emulator {
        project: project.unwrap_or(NO_PROJECT).to_owned(),
        host: Some(host.to_owned()),
    }
}
