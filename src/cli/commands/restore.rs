//! `kindpack restore PLAN`, and `kindpack restore ARCHIVE --target TARGET` in one go.

use crate::model::TargetSpec;
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
use crate::cli::open_archive::no_bucket;
use crate::cli::plan_options::{environment, redact_key};
use crate::cli::plan_view::show_hooks;
use crate::cli::restore_summary::{self, RestoreSummary};
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
        options: &options,
        reports: &args.report,
        begun,
        rehearsal: false,
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
    for path in args.journal.iter().chain(&args.report) {
        no_bucket(path)?;
    }
    let mut loaded = load_or_make_plan(context, args).await?;
    let mut checked = loaded.checked.take();
    check_entities_can_be_asked_for(args, &loaded.plan.head.choices.target)?;
    let journal_path: PathBuf = args
        .journal
        .clone()
        .unwrap_or_else(|| journal_of(&loaded.path));
    let (journal, lease) = if args.dry_run {
        let journal = read_journal(&loaded.plan, journal_path, args.again).await?;
        (journal, None)
    } else {
        // Refused plans are refused before anybody is asked to confirm them.
        if checked.is_none() {
            checked = Some(loaded.check()?);
        }
        show_new_hooks(context, args, &loaded, &journal_path).await?;
        let target = &loaded.plan.head.choices.target;
        confirm::confirm(context, args.confirm.as_deref(), target).await?;
        let lease = confirm::lease(context, target, &loaded.path.display().to_string())?;
        loaded.keep().await?;
        let journal = open_journal(context, &loaded.plan, journal_path, args.again).await?;
        (journal, Some(lease))
    };
    let target = targets::open(
        &loaded.plan.head.choices.target,
        context.timeouts,
        context.ui.clone(),
    )?;
    Ok(RestoreSetup {
        checked,
        target: if args.dry_run {
            Arc::new(DryRun(target))
        } else {
            target
        },
        options: options(context, args, &loaded)?,
        import: import_options(context, &loaded.plan, args)?,
        redact_key: match loaded.plan.head.choices.redaction.key_id {
            Some(_) => redact_key()?,
            None => None,
        },
        journal,
        loaded,
        _lease: lease,
    })
}

fn check_entities_can_be_asked_for(args: &RestoreArgs, target: &TargetSpec) -> Result<(), Failure> {
    if args.check == CheckArg::Entities && target.path().is_some() {
        let why = format!(
            "--check entities: expected a target that can be asked for its entities, found {target}"
        );
        return Err(Failure::usage(why).hint("--check counts counts what was written"));
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
    // Nobody else is told of a restore that writes nothing, or into what nobody shares.
    let is_shared = loaded.plan.head.choices.target.is_real_service();
    Ok(RestoreOptions {
        keep_going: args.keep_going,
        retry_failed: args.retry_failed,
        max_steps: args.max_steps,
        parallel: NonZeroUsize::from(args.parallel),
        check: match args.check {
            // A dry run brings nothing that could be counted.
            _ if args.dry_run => Check::None,
            CheckArg::None => Check::None,
            CheckArg::Counts => Check::Counts,
            CheckArg::Entities => Check::Entities,
        },
        restart_if_empty: loaded.is_kept(),
        again: args.again,
        tells_place: loaded.is_kept() && !args.dry_run,
        dry_run: args.dry_run,
        hook_timeout: args.hook_timeout,
        lock_owner: if is_shared && !args.dry_run {
            confirm::holder(context)?
        } else {
            String::new()
        },
        plan_name: loaded.path.display().to_string(),
        stop: context.stop.token(),
    })
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
    let opened = Workers::run_blocking(move || {
        let journal = JournalFile::open(&path)?;
        let other = journal.journal();
        if other.is_of_other_plan(plan_sha256) && (again || other.finished.is_some()) {
            let aside = journal.set_aside()?;
            return Ok((JournalFile::open(&path)?, Some(aside)));
        }
        Ok::<_, JournalFileError>((journal, None))
    });
    let (journal, aside) = opened.await??;
    if let Some(aside) = aside {
        context.ui.warn(format!(
            "{shown} was the journal of another plan; it is now {}",
            aside.display()
        ));
    }
    Ok(journal)
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
    // The planner says so first.
    let importer = open_importer(
        &plan.head.choices.target,
        context.timeouts,
        context.ui.clone(),
    )?
    .ok_or_else(|| {
        Failure::usage(format!(
            "--via import: expected a Datastore, found {}",
            plan.head.choices.target
        ))
    })?;
    let chosen: Option<Location> = plan
        .head
        .choices
        .staging
        .as_deref()
        .map(str::parse)
        .transpose()?;
    let state = if args.dry_run {
        context.state.find()
    } else {
        context.state.open(&context.ui)?
    };
    let staging = Staging::choose(
        chosen.as_ref(),
        &state.join("staging"),
        importer.as_ref(),
        &context.stores,
    )?;
    Ok(Some(ImportOptions {
        importer,
        staging,
        operation_timeout: args.operation_timeout,
    }))
}
