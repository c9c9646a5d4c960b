//! `kindpack rehearse ARCHIVE`: the proof that a backup restores, in an emulator of its own.

use crate::model::TargetSpec;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use crate::archive::Archive;
use crate::cli::args::RehearseArgs;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::load_plan::make_plan;
use crate::cli::open_archive::{ArchiveLocation, find, no_bucket};
use crate::cli::plan_options::environment;
use crate::cli::restore_summary::{self, RestoreSummary};
use crate::datastore::emulator;
use crate::plan::{CheckedPlan, Choices};
use crate::progress::Observer as _;
use crate::restore::journal::Journal;
use crate::restore::journal::file::JournalFile;
use crate::restore::{Check, RestoreOptions, RestoreRequest, restore};
use crate::targets;
use crate::verify::{VerifyScope, verify};

/// The project of a rehearsal whose archive names none, as it holds no entity.
const NO_PROJECT: &str = "rehearsal";

pub async fn run(context: &Context, args: RehearseArgs) -> CommandResult {
    let ui = &context.ui;
    for path in &args.report {
        no_bucket(path)?;
    }
    let installed = emulator::find()?;
    let ArchiveLocation {
        store,
        object,
        title,
    } = find(context, &args.archive).await?;
    // A restore reads entities only. Whatever else is wrong with the archive is found by reading
    // all of it.
    let verified = verify(
        store.clone(),
        object.clone(),
        title.clone(),
        VerifyScope::Full,
        &context.workers,
        ui.as_ref(),
    )
    .await;
    let verified = verified?;
    ui.finish_phase();
    if !verified.problems.is_empty() {
        return Err(Failure::with_reasons(ExitCode::Damaged, verified.problems));
    }
    let archive = Arc::new(Archive::open(store, object, title).await?);
    let running = installed.start().await?;
    let ended = rehearse(context, &args, &archive, running.host()).await;
    running.stop().await;
    ended
}

async fn rehearse(
    context: &Context,
    args: &RehearseArgs,
    archive: &Arc<Archive>,
    host: &str,
) -> CommandResult {
    let choices = Choices::new(emulator_target(archive, host));
    let plan = make_plan(context, archive, &choices).await?;
    let options = RestoreOptions {
        keep_going: true,
        parallel: NonZeroUsize::from(args.parallel),
        check: Check::Entities,
        plan_name: "rehearsal".to_owned(),
        ..RestoreOptions::default()
    };
    let begun = Instant::now();
    let job = RestoreRequest {
        plan: &plan,
        checked: Some(CheckedPlan::from_planner(plan.clone())),
        archive,
        archive_ref: &plan.head.archive,
        environment: &environment(),
        target: targets::open(
            &plan.head.choices.target,
            context.timeouts,
            context.ui.clone(),
        )?,
        companions: None,
        import: None,
        redact_key: None,
        journal: &mut JournalFile::in_memory(Journal::default()),
        options: &options,
        workers: &context.workers,
    };
    let restored = restore(job, context.ui.as_ref()).await;
    context.ui.finish_phase();
    restore_summary::print(
        context,
        &RestoreSummary {
            plan: &plan,
            options: &options,
            reports: &args.report,
            begun,
            rehearsal: true,
            piped_plan: None,
        },
        restored,
    )
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
