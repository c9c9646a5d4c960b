//! `kindpack restore PLAN`, and `kindpack restore ARCHIVE --target TARGET` in one go.

use crate::model::{Sha256, TargetSpec};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::cli::args::{CheckArg, RestoreArgs};
use crate::cli::confirm;
use crate::cli::context::{CommandResult, Context};
use crate::cli::failure::Failure;
use crate::cli::kept_plans::journal_of;
use crate::cli::load_plan::{LoadedPlan, load_or_make_plan};
use crate::cli::open_archive::{no_bucket, note_missing_parent};
use crate::cli::output_file::check_report_output;
use crate::cli::plan_options::{environment, redact_key};
use crate::cli::plan_view::show_hooks;
use crate::cli::restore_summary::{self, RestoreSummary};
use crate::datastore::admin::Importer;
use crate::plan::{CheckedPlan, OnExisting, Plan, WriteMethod};
use crate::progress::Observer as _;
use crate::restore::import::{Staging, open_importer};
use crate::restore::journal::Journal;
use crate::restore::journal::file::{JournalFile, JournalFileError};
use crate::restore::lock::TargetLock;
use crate::restore::{
    Check, ImportOptions, RestoreOptions, RestoreRequest, check_journal, restore,
};
use crate::runtime::workers::Workers;
use crate::store::{Location, Store};
use crate::targets::{self, DryRun, Target};
use crate::transform::redact::RedactKey;

pub async fn run(context: &Context, args: RestoreArgs) -> CommandResult {
    let stop = context.stop.token();
    // Until the first step there is nothing to bring to an end.
    let setup = tokio::select! {
        biased;
        setup = prepare(context, &args) => setup,
        () = stop.cancelled() => Err(context.stop.failure()),
    };
    let RestoreSetup {
        loaded,
        checked,
        target,
        import,
        redact_key,
        mut journal,
        options,
        _lease,
    } = setup?;
    if let (Some(path), false) = (loaded.plan.head.choices.target.path(), args.dry_run) {
        note_missing_parent(context, Path::new(path));
    }
    let begun = Instant::now();
    let job = RestoreRequest {
        plan: &loaded.plan,
        checked,
        archive: &loaded.archive,
        archive_ref: &loaded.archive_ref,
        environment: &environment(),
        target,
        import,
        companions: companions(context, &args),
        redact_key: redact_key.as_ref(),
        journal: &mut journal,
        options: &options,
        workers: &context.workers,
    };
    let restored = restore(job, context.ui.as_ref()).await;
    context.ui.finish_phase();
    loaded.discard_unused(&journal);
    let summary = RestoreSummary {
        plan: &loaded.plan,
        manifest: loaded.archive.manifest(),
        journal: journal.journal(),
        options: &options,
        reports: &args.report,
        begun,
        rehearsal: None,
        given_plan: (!args.choices.any()).then_some(loaded.path.as_path()),
        piped_plan: piped_plan(&loaded, &args),
    };
    restore_summary::print(context, &summary, restored)
}

/// Where the companions are copied.
fn companions(context: &Context, args: &RestoreArgs) -> Option<Arc<dyn Store>> {
    let dest = args.companions.as_ref();
    dest.map(|dest| context.stores.folder(dest))
}

/// Where a plan is kept that came through a pipe, which cannot be read twice.
fn piped_plan<'a>(loaded: &'a LoadedPlan, args: &RestoreArgs) -> Option<&'a Path> {
    (loaded.is_kept() && !args.choices.any()).then_some(loaded.path.as_path())
}

/// All that a restore needs.
struct RestoreSetup {
    loaded: LoadedPlan,
    checked: Option<CheckedPlan>,
    target: Arc<dyn Target>,
    import: Option<ImportOptions>,
    redact_key: Option<RedactKey>,
    journal: JournalFile,
    options: RestoreOptions,
    /// Held until the restore has ended.
    _lease: Option<TargetLock>,
}

async fn prepare(context: &Context, args: &RestoreArgs) -> Result<RestoreSetup, Failure> {
    if let Some(path) = &args.journal {
        no_bucket(path)?;
    }
    for path in &args.report {
        check_report_output(path).await?;
    }
    let mut loaded = load_or_make_plan(context, args).await?;
    check_entities_can_be_asked_for(args, &loaded.plan.head.choices.target)?;
    let journal = args.journal.clone();
    let journal = journal.unwrap_or_else(|| journal_of(&loaded.path));
    let (journal, lease) = if args.dry_run {
        (read_journal(&loaded.plan, journal, args.again).await?, None)
    } else {
        let lease = take_target(context, args, &mut loaded, &journal).await?;
        let journal = open_journal(context, &loaded.plan, journal, args.again).await?;
        (journal, Some(lease))
    };
    Ok(RestoreSetup {
        checked: loaded.checked.take(),
        target: open_target(context, args, &loaded.plan)?,
        options: options(context, args, &loaded)?,
        import: import_options(context, &loaded.plan, args)?,
        redact_key: key_of(&loaded.plan)?,
        journal,
        loaded,
        _lease: lease,
    })
}

/// Has the user confirm what is about to happen, and keeps other restores from the target.
async fn take_target(
    context: &Context,
    args: &RestoreArgs,
    loaded: &mut LoadedPlan,
    journal: &Path,
) -> Result<TargetLock, Failure> {
    // Refused plans are refused before anybody is asked to confirm them.
    if loaded.checked.is_none() {
        loaded.checked = Some(loaded.check()?);
    }
    show_new_hooks(context, args, loaded, journal).await?;
    let target = &loaded.plan.head.choices.target;
    confirm::confirm(context, args.confirm.as_deref(), target).await?;
    let lease = confirm::lease(context, target, &loaded.path.display().to_string())?;
    loaded.keep().await?;
    Ok(lease)
}

fn open_target(
    context: &Context,
    args: &RestoreArgs,
    plan: &Plan,
) -> Result<Arc<dyn Target>, Failure> {
    let target = &plan.head.choices.target;
    let target = targets::open(target, context.timeouts)?;
    if args.dry_run {
        return Ok(Arc::new(DryRun(target)));
    }
    Ok(target)
}

/// The key of the user's secret, for a plan that needs one.
fn key_of(plan: &Plan) -> Result<Option<RedactKey>, Failure> {
    match plan.head.choices.redaction.key_id {
        Some(_) => redact_key(),
        None => Ok(None),
    }
}

fn check_entities_can_be_asked_for(args: &RestoreArgs, target: &TargetSpec) -> Result<(), Failure> {
    if args.check == CheckArg::Entities && target.path().is_some() {
        let why = format!("--check entities is not possible in {target}");
        return Err(Failure::usage(why).hint("use --check counts"));
    }
    Ok(())
}

/// Shows the commands that a plan of the user's runs, unless all of it is done.
async fn show_new_hooks(
    context: &Context,
    args: &RestoreArgs,
    loaded: &LoadedPlan,
    journal_path: &Path,
) -> Result<(), Failure> {
    let plan = &loaded.plan;
    if loaded.is_kept() || plan.head.choices.hooks.is_empty() {
        return Ok(());
    }
    let journal = read_journal(plan, journal_path.to_owned(), args.again).await?;
    let has_finished = journal.journal().finished.is_some();
    if !has_finished || args.again || plan.head.choices.on_existing != OnExisting::Fail {
        show_hooks(context, plan);
    }
    Ok(())
}

fn options(
    context: &Context,
    args: &RestoreArgs,
    loaded: &LoadedPlan,
) -> Result<RestoreOptions, Failure> {
    Ok(RestoreOptions {
        keep_going: args.keep_going,
        retry_failed: args.retry_failed,
        max_steps: args.max_steps,
        parallel: NonZeroUsize::from(args.parallel),
        check: check_of(args),
        restart_if_empty: loaded.is_kept(),
        again: args.again,
        tells_place: loaded.is_kept() && !args.dry_run,
        dry_run: args.dry_run,
        hook_timeout: args.hook_timeout,
        lock_owner: lock_owner(context, args, &loaded.plan)?,
        plan_name: loaded.path.display().to_string(),
        stop: context.stop.token(),
    })
}

/// What is asked of the target; a dry run brings nothing that could be counted.
fn check_of(args: &RestoreArgs) -> Check {
    match args.check {
        _ if args.dry_run => Check::None,
        CheckArg::None => Check::None,
        CheckArg::Counts => Check::Counts,
        CheckArg::Entities => Check::Entities,
    }
}

/// What others see of who restores. They see nothing of a restore that writes nothing, or into
/// what nobody shares.
fn lock_owner(context: &Context, args: &RestoreArgs, plan: &Plan) -> Result<String, Failure> {
    if args.dry_run || !plan.head.choices.target.is_real_service() {
        return Ok(String::new());
    }
    confirm::holder(context)
}

/// Opens the journal of a restore. One of another plan is renamed where its restore has finished,
/// or where the user wants to begin anew.
async fn open_journal(
    context: &Context,
    plan: &Plan,
    path: PathBuf,
    again: bool,
) -> Result<JournalFile, Failure> {
    let plan_sha256 = plan.sha256();
    let shown = path.display().to_string();
    let opened = Workers::run_blocking(move || open_own_journal(&path, plan_sha256, again));
    let (journal, aside) = opened.await??;
    if let Some(aside) = aside {
        context.ui.warn(format!(
            "{shown} was the journal of another plan; it is now {}",
            aside.display()
        ));
    }
    Ok(journal)
}

/// Opens the journal at a path. Gives also the new name of another plan's journal that was there.
fn open_own_journal(
    path: &Path,
    plan_sha256: Sha256,
    again: bool,
) -> Result<(JournalFile, Option<PathBuf>), JournalFileError> {
    let journal = JournalFile::open(path)?;
    let other = journal.journal();
    if !other.is_of_other_plan(plan_sha256) || !(again || other.finished.is_some()) {
        return Ok((journal, None));
    }
    let aside = journal.set_aside()?;
    Ok((JournalFile::open(path)?, Some(aside)))
}

/// Reads the journal for a dry run, as [`open_journal`] would find it.
async fn read_journal(plan: &Plan, path: PathBuf, again: bool) -> Result<JournalFile, Failure> {
    let shown = path.display().to_string();
    let journal = Workers::run_blocking(move || JournalFile::read(&path)).await??;
    if journal.is_of_other_plan(plan.sha256()) && (again || journal.finished.is_some()) {
        return Ok(JournalFile::in_memory(Journal::default()));
    }
    check_journal(&journal, plan).map_err(|source| JournalFileError::Content {
        path: shown,
        source,
    })?;
    Ok(JournalFile::in_memory(journal))
}

/// What imports the steps of a plan that says so, and where it finds them.
fn import_options(
    context: &Context,
    plan: &Plan,
    args: &RestoreArgs,
) -> Result<Option<ImportOptions>, Failure> {
    if plan.head.choices.via != WriteMethod::Import {
        return Ok(None);
    }
    let importer = importer_of(context, plan)?;
    let staging = staging_for(context, plan, args, importer.as_ref())?;
    Ok(Some(ImportOptions {
        importer,
        staging,
        operation_timeout: args.operation_timeout,
    }))
}

/// What imports into the plan's target. That a target has no import, the planner says first.
fn importer_of(context: &Context, plan: &Plan) -> Result<Arc<dyn Importer>, Failure> {
    let target = &plan.head.choices.target;
    let importer = open_importer(target, context.timeouts)?;
    importer.ok_or_else(|| {
        Failure::usage(format!(
            "--via import is not possible: {target} has no import"
        ))
    })
}

fn staging_for(
    context: &Context,
    plan: &Plan,
    args: &RestoreArgs,
    importer: &dyn Importer,
) -> Result<Staging, Failure> {
    let chosen = plan.head.choices.staging.as_deref();
    let chosen: Option<Location> = chosen.map(str::parse).transpose()?;
    let state = if args.dry_run {
        context.state.find()
    } else {
        context.state.open(&context.ui)?
    };
    let (own, stores) = (state.join("staging"), &context.stores);
    Ok(Staging::choose(chosen.as_ref(), &own, importer, stores)?)
}
