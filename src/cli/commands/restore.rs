//! `kindpack restore PLAN`, and `kindpack restore ARCHIVE --target TARGET` in one go.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::archive::no_bucket;
use crate::cli::args::{CheckArg, RETRY_TIMEOUT, RestoreArgs};
use crate::cli::failure::Failure;
use crate::cli::load_plan::{Keeper, Planned, journal_of, planned};
use crate::cli::plan_options::{environment, redact_key};
use crate::cli::plan_view::show_hooks;
use crate::cli::restore_summary::{self, Told};
use crate::cli::{Context, Ended, confirm};
use crate::datastore::admin::{EmulatorImporter, Importer, ServiceImporter, ServiceOptions};
use crate::google::{self, Credentials};
use crate::plan::{OnExisting, Plan, TargetSpec, Via};
use crate::progress::Observer as _;
use crate::restore::import::Staging;
use crate::restore::journal::Journal;
use crate::restore::journal::file::{JournalFile, JournalFileError};
use crate::restore::{ByImport, Check, Job, Options, check_journal, restore};
use crate::runtime::workers::Workers;
use crate::store::Location;
use crate::targets::{
    CommitTarget, DirTarget, DryRun, EMULATOR_RETRY_TIMEOUT, NdjsonTarget, ServiceTimes, Target,
};
use crate::transform::redact::RedactKey;

pub const WHAT: &str = "cannot restore";

pub async fn run(context: &Context, args: RestoreArgs) -> Ended {
    let stop = context.stop.token();
    // Until the first step there is nothing to bring to an end.
    let prepared = tokio::select! {
        biased;
        prepared = prepare(context, &args) => prepared,
        () = stop.cancelled() => Err(context.stop.failure()),
    };
    let Prepared {
        planned,
        target,
        import,
        redact_key,
        mut journal,
        options,
        _lease,
    } = prepared?;
    let begun = Instant::now();
    let job = Job {
        plan: &planned.plan,
        archive: &planned.archive,
        archive_ref: &planned.archive_ref,
        environment: &environment(),
        target,
        import,
        redact_key: redact_key.as_ref(),
        journal: &mut journal,
        options: &options,
        workers: &context.workers,
    };
    let restored = restore(job, context.ui.as_ref()).await;
    context.ui.end();
    planned.discard_unused(&journal);
    let told = Told {
        plan: &planned.plan,
        options: &options,
        reports: &args.report,
        begun,
        rehearsal: false,
        piped_plan: piped_plan(&planned, &args),
    };
    restore_summary::tell(context, &told, restored)
}

/// Where a plan is kept that came through a pipe, which cannot be read twice.
fn piped_plan<'a>(planned: &'a Planned, args: &RestoreArgs) -> Option<&'a Path> {
    (planned.keeper != Keeper::User && !args.choices.any()).then_some(planned.path.as_path())
}

/// All that a restore needs.
struct Prepared {
    planned: Planned,
    target: Arc<dyn Target>,
    import: Option<ByImport>,
    redact_key: Option<RedactKey>,
    journal: JournalFile,
    options: Options,
    /// Held until the restore has ended.
    _lease: Option<crate::restore::lock::LocalLease>,
}

async fn prepare(context: &Context, args: &RestoreArgs) -> Result<Prepared, Failure> {
    for path in args.journal.iter().chain(&args.report) {
        no_bucket(WHAT, path)?;
    }
    let planned = planned(context, args).await?;
    let plan = &planned.plan;
    if args.check == CheckArg::Entities
        && matches!(plan.target, TargetSpec::Dir(_) | TargetSpec::Ndjson(_))
    {
        let why = format!(
            "--check entities: expected a target that can be asked for its entities, found {}",
            plan.target
        );
        return Err(Failure::usage(WHAT, why).hint("--check counts counts what was written"));
    }
    let journal_path: PathBuf = args
        .journal
        .clone()
        .unwrap_or_else(|| journal_of(&planned.path));
    let plan_name = planned.path.display().to_string();
    let (journal, lease) = if args.dry_run {
        (read_journal(plan, journal_path, args.again).await?, None)
    } else {
        // Refused plans are refused before anybody is asked to confirm them.
        plan.check_against(
            planned.archive.manifest(),
            &planned.archive_ref,
            &environment(),
        )
        .map_err(|error| Failure::plan(WHAT, &error))?;
        if planned.keeper == Keeper::User && !plan.hooks.is_empty() {
            let has_finished = read_journal(plan, journal_path.clone(), args.again)
                .await?
                .journal()
                .finished
                .is_some();
            if !has_finished || args.again || plan.on_existing != OnExisting::Fail {
                show_hooks(context, plan);
            }
        }
        confirm::confirm(context, args.confirm.as_deref(), &plan.target).await?;
        let lease = confirm::lease(context, &plan.target, &plan_name)?;
        planned.keep().await?;
        (
            open_journal(context, plan, journal_path, args.again).await?,
            Some(lease),
        )
    };
    let target = target_of(context, &plan.target)?;
    let target = if args.dry_run {
        Arc::new(DryRun(target))
    } else {
        target
    };
    let options = Options {
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
        begin_anew: planned.keeper != Keeper::User,
        again: args.again,
        tells_place: planned.keeper != Keeper::User && !args.dry_run,
        dry_run: args.dry_run,
        hook_timeout: args.hook_timeout,
        // Nobody else is told of a restore that writes nothing, or into what nobody shares.
        holder: if !args.dry_run && matches!(plan.target, TargetSpec::Datastore { .. }) {
            confirm::holder(context)?
        } else {
            String::new()
        },
        plan_name,
        stop: context.stop.token(),
    };
    let import = import_of(context, plan, args.dry_run)?;
    let redact_key = if plan.redaction.key_id.is_some() {
        redact_key(WHAT)?
    } else {
        None
    };
    Ok(Prepared {
        planned,
        target,
        import,
        redact_key,
        journal,
        options,
        _lease: lease,
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
    let opened = Workers::aside(move || {
        let journal = JournalFile::open(&path)?;
        let other = journal.journal();
        if other.is_of_other_plan(plan_sha256) && (again || other.finished.is_some()) {
            let aside = journal.set_aside()?;
            return Ok((JournalFile::open(&path)?, Some(aside)));
        }
        Ok((journal, None))
    });
    let (journal, aside) = opened
        .await
        .map_err(|error| Failure::worker(WHAT, &error))?
        .map_err(|error| Failure::journal(WHAT, &error))?;
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
    let journal = Workers::aside(move || JournalFile::look(&path))
        .await
        .map_err(|error| Failure::worker(WHAT, &error))?;
    let journal = journal.map_err(|error| Failure::journal(WHAT, &error))?;
    if journal.is_of_other_plan(plan.sha256()) && (again || journal.finished.is_some()) {
        return Ok(JournalFile::in_memory(Journal::default()));
    }
    check_journal(&journal, plan).map_err(|source| {
        Failure::journal(
            WHAT,
            &JournalFileError::Content {
                path: shown,
                source,
            },
        )
    })?;
    Ok(JournalFile::in_memory(journal))
}

/// What carries the steps out.
pub fn target_of(context: &Context, spec: &TargetSpec) -> Result<Arc<dyn Target>, Failure> {
    Ok(match spec {
        TargetSpec::Emulator { project, host } => {
            let host = host.as_deref().unwrap_or_default();
            Arc::new(
                CommitTarget::emulator(
                    host,
                    project,
                    context.times.retry.unwrap_or(EMULATOR_RETRY_TIMEOUT),
                )
                .map_err(|error| Failure::datastore(WHAT, &error))?,
            )
        }
        TargetSpec::Dir(path) => Arc::new(DirTarget::new(path)),
        TargetSpec::Ndjson(path) => Arc::new(NdjsonTarget::new(path)),
        TargetSpec::Datastore { project, database } => {
            let (database, endpoint) = (
                database.as_deref().unwrap_or_default(),
                google::datastore_endpoint(),
            );
            let retry = context.times.retry.unwrap_or(RETRY_TIMEOUT);
            let times = ServiceTimes {
                retry,
                call: context.times.idle,
                ..ServiceTimes::default()
            };
            let target = CommitTarget::service(project, database, credentials(), &endpoint, times);
            Arc::new(target.map_err(|error| Failure::datastore(WHAT, &error))?)
        }
    })
}

/// What calls to the real service are made with.
fn credentials() -> Arc<Credentials> {
    Arc::new(Credentials::new(google::DATASTORE_SCOPE))
}

/// What imports the steps of a plan that says so, and where it finds them.
fn import_of(context: &Context, plan: &Plan, dry_run: bool) -> Result<Option<ByImport>, Failure> {
    if plan.via != Via::Import {
        return Ok(None);
    }
    let importer: Arc<dyn Importer> = match &plan.target {
        TargetSpec::Emulator { project, host } => {
            let host = host.as_deref().unwrap_or_default();
            Arc::new(
                EmulatorImporter::new(
                    host,
                    project,
                    context.times.retry.unwrap_or(EMULATOR_RETRY_TIMEOUT),
                )
                .map_err(|error| Failure::datastore(WHAT, &error))?,
            )
        }
        TargetSpec::Datastore { project, database } => {
            let (database, endpoint) = (database.as_deref(), google::datastore_endpoint());
            let retry_timeout = context.times.retry.unwrap_or(RETRY_TIMEOUT);
            let options = ServiceOptions {
                retry_timeout,
                call_time: context.times.idle,
                ..ServiceOptions::default()
            };
            let importer =
                ServiceImporter::new(project, database, &endpoint, Some(credentials()), options);
            Arc::new(importer.map_err(|error| Failure::datastore(WHAT, &error))?)
        }
        // The planner says so first.
        target @ (TargetSpec::Dir(_) | TargetSpec::Ndjson(_)) => {
            return Err(Failure::usage(
                WHAT,
                format!("--via import: expected a Datastore, found {target}"),
            ));
        }
    };
    let chosen: Option<Location> = plan
        .staging
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|error| Failure::location(WHAT, &error))?;
    let own_staging = if dry_run {
        context.state.find()
    } else {
        context.state.open(&context.ui, WHAT)?
    }
    .join("staging");
    let staging = Staging::choose(
        chosen.as_ref(),
        &own_staging,
        importer.as_ref(),
        &context.stores,
    );
    let staging = staging.map_err(|error| Failure::import(WHAT, &error))?;
    Ok(Some(ByImport { importer, staging }))
}
