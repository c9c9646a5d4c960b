//! Restoring: a plan carried out step by step, with a journal.
//!
//! Knows plan, archive, target and journal, and what must hold between them. Must not know
//! arguments, progress bars or exit codes.

mod check;
mod companions;
mod delete_stale;
pub mod dependencies;
mod difference;
mod error;
mod finished;
pub mod hooks;
pub mod import;
pub mod journal;
pub mod lock;
mod outcome;
mod position;
pub mod prepare;
pub mod report;
pub mod rule_matches;
mod scheduler;
mod step;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
use crate::entity::rewrite::{DestinationProject, KeyMapping};
use crate::model::{KindRef, Sample, TargetPlace};
use crate::plan::{ArchiveRef, CheckedPlan, Environment, Plan, Step, missing_kinds, named_kinds};
use crate::progress::{Event, Observer};
use crate::runtime::workers::Workers;
use crate::store::Store;
use crate::targets::Target;
use crate::transform::redact::{RedactKey, Redactor};
use crate::transform::sample::Sampler;
pub use difference::Difference;
pub use error::RestoreError;
pub use import::ImportOptions;
use journal::file::JournalFile;
use journal::{JOURNAL_FORMAT, Journal, JournalError, PlannedStep};
pub use outcome::{CompanionStats, StepOutcome};
use scheduler::RestoreRun;

/// What is asked of the target after each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Nothing.
    None,
    /// How many entities it holds.
    Counts,
    /// Every entity.
    Entities,
}

/// How a plan is carried out.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Whether the other steps are run when one fails.
    pub keep_going: bool,
    /// Whether only steps are run that have failed before.
    pub retry_failed: bool,
    /// How many steps are run at most.
    pub max_steps: Option<u32>,
    /// How many steps may run side by side, as far as they do not wait for one another.
    pub parallel: NonZeroUsize,
    /// What is asked of the target after each step.
    pub check: Check,
    /// Whether the restore begins anew where the target is empty again, whatever the journal says.
    pub restart_if_empty: bool,
    /// Whether the restore begins anew in any case.
    pub again: bool,
    /// Whether nothing is written: no hook is run, and the target is not held against others.
    pub dry_run: bool,
    /// How long a command of the user's may take.
    pub hook_timeout: Duration,
    /// What hooks are told the plan is.
    pub plan_name: String,
    /// Whether somebody wants to know where plan and journal are, once the restore has begun.
    pub tells_place: bool,
    /// What others are told who restores.
    pub lock_owner: String,
    /// Asks the restore to stop: what is under way is done, and the journal is written.
    pub stop: CancellationToken,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        RestoreOptions {
            keep_going: false,
            retry_failed: false,
            max_steps: None,
            parallel: NonZeroUsize::MIN,
            check: Check::Counts,
            restart_if_empty: false,
            again: false,
            dry_run: false,
            hook_timeout: Duration::from_secs(600),
            plan_name: String::new(),
            tells_place: false,
            lock_owner: String::new(),
            stop: CancellationToken::new(),
        }
    }
}

/// All that a restore stands between.
#[derive(Debug)]
pub struct RestoreRequest<'a> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// The same as it is to be run, where it was checked already.
    pub checked: Option<CheckedPlan>,
    /// The archive that the plan names.
    pub archive: &'a Arc<Archive>,
    /// The archive as it is now.
    pub archive_ref: &'a ArchiveRef,
    /// What the planner is told of the world.
    pub environment: &'a Environment,
    /// Where to.
    pub target: Arc<dyn Target>,
    /// Who imports, where the plan says so.
    pub import: Option<ImportOptions>,
    /// Where the companions are copied after the last step, where that is wanted.
    pub companions: Option<Arc<dyn Store>>,
    /// The key of the user's secret, where the plan needs one.
    pub redact_key: Option<&'a RedactKey>,
    /// What was done so far.
    pub journal: &'a mut JournalFile,
    /// How.
    pub options: &'a RestoreOptions,
    /// Who works.
    pub workers: &'a Workers,
}

/// How a restore ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreStats {
    /// Steps that are done, those of earlier runs included.
    pub steps: u64,
    /// Entities restored by them.
    pub entities: u64,
    /// Steps that are left.
    pub left: u64,
    /// Whether there was nothing to do.
    pub was_done: bool,
    /// What became of the companions.
    pub companions: CompanionStats,
}

/// How a restore ended, and what became of each step.
#[derive(Debug)]
pub struct RestoreResult {
    /// How it ended. After an error the journal says what is done, and the same call goes on from
    /// there.
    pub outcome: Result<RestoreStats, RestoreError>,
    /// Every step of the plan, in its order.
    pub steps: Vec<StepOutcome>,
}

/// Runs exactly what the plan says, or refuses.
pub async fn restore(job: RestoreRequest<'_>, observer: &dyn Observer) -> RestoreResult {
    let planned: Vec<StepOutcome> = job.plan.steps.iter().map(StepOutcome::planned).collect();
    match prepare(job, observer).await {
        Err(error) => RestoreResult {
            outcome: Err(error),
            steps: planned,
        },
        Ok(mut run) => {
            let outcome = run.run_all().await;
            if let Some(lease) = run.lease.take() {
                lease.release().await;
            }
            RestoreResult {
                outcome,
                steps: run.into_tallies(),
            }
        }
    }
}

/// Checks all that can be checked before the target is asked anything.
async fn prepare<'a>(
    mut job: RestoreRequest<'a>,
    observer: &'a dyn Observer,
) -> Result<RestoreRun<'a>, RestoreError> {
    let checked = job.checked.take();
    let RestoreRequest {
        plan,
        archive,
        archive_ref,
        environment,
        journal,
        ..
    } = &job;
    let checked = checked.map_or_else(
        || CheckedPlan::check(plan, archive.manifest(), archive_ref, environment),
        Ok,
    )?;
    let resolved = checked.into_plan();
    for missing in missing_kinds(archive.manifest(), &resolved.head.choices.selection) {
        let warning = missing.to_string();
        observer.event(Event::Warning { warning });
    }
    let waits = resolved.waits(archive.manifest())?;
    let target_name = resolved.head.choices.target.to_string();
    check_journal(journal.journal(), plan).map_err(|error| journal.content_error(error))?;
    let opened = journal::JournalEvent::Opened {
        format: JOURNAL_FORMAT.to_owned(),
        plan_sha256: plan.sha256(),
        target: target_name,
        steps: resolved.steps.iter().map(|step| step.id).collect(),
        tool: concat!("kindpack ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let brought = EntityTransform {
        rewrite: rewrite_of(&resolved, archive),
        redactor: redactor_of(&resolved, archive, job.redact_key)?,
        pickers: pickers_of(&resolved, archive, job.workers).await?,
    };
    Ok(RestoreRun::new(
        resolved, waits, opened, brought, job, observer,
    ))
}

/// Refuses the journal of another plan, and one that says what cannot be true of this one.
pub fn check_journal(journal: &Journal, plan: &Plan) -> Result<(), JournalError> {
    journal.check(plan.sha256(), &plan.head.choices.target.to_string())?;
    let exact = |step: &Step| plan.head.choices.sample.is_none().then_some(step.entities);
    let planned = plan.steps.iter().map(|step| PlannedStep {
        id: step.id,
        pair: step.pair(),
        entities: exact(step),
    });
    journal.check_steps(&planned.collect::<Vec<_>>())
}

/// What becomes of entities on their way.
struct EntityTransform {
    rewrite: KeyMapping,
    redactor: Option<Arc<Redactor>>,
    pickers: HashMap<KindRef, Arc<Sampler>>,
}

/// The plan's rules, with the key that they were made for and no other: hashes of two keys would
/// not join.
fn redactor_of(
    plan: &Plan,
    archive: &Archive,
    key: Option<&RedactKey>,
) -> Result<Option<Arc<Redactor>>, RestoreError> {
    let redaction = &plan.head.choices.redaction;
    if redaction.rules.is_empty() {
        return Ok(None);
    }
    let key = key.filter(|_| redaction.key_id.is_some());
    if key.map(RedactKey::id) != redaction.key_id {
        return Err(RestoreError::RedactKey {
            fault: if key.is_some() {
                "is not the secret that the plan was made with"
            } else {
                "is not set, and the plan was made with it"
            },
        });
    }
    Ok(Some(Arc::new(Redactor::new(
        &redaction.rules,
        named_kinds(archive.manifest()),
        key,
    )?)))
}

/// Who chooses the entities of each pair, where not all are restored.
async fn pickers_of(
    plan: &Plan,
    archive: &Arc<Archive>,
    workers: &Workers,
) -> Result<HashMap<KindRef, Arc<Sampler>>, RestoreError> {
    let Some(sample) = plan.head.choices.sample else {
        return Ok(HashMap::new());
    };
    let sampled = |pair: KindRef| {
        let sample = if plan.head.choices.selection.is_chosen(&pair) {
            sample
        } else {
            Sample::NONE
        };
        (pair, sample)
    };
    let pairs: Vec<(KindRef, Sample)> =
        plan.steps.iter().map(|step| sampled(step.pair())).collect();
    Ok(dependencies::samplers(
        archive,
        &pairs,
        plan.head.choices.selection.with_dependencies,
        workers,
    )
    .await?)
}

/// References and keys of the source project follow the entities; those of other projects stay.
fn rewrite_of(plan: &Plan, archive: &Archive) -> KeyMapping {
    let destination = |project: &str, database: &str| DestinationProject {
        project: project.to_owned(),
        database: database.to_owned(),
    };
    let to = match plan.head.choices.target.place() {
        TargetPlace::Emulator { project, .. } => Some(destination(project, "")),
        TargetPlace::Service { project, database } => Some(destination(project, database)),
        TargetPlace::Folder { .. } => None,
    };
    let backup = &archive.manifest().backup;
    KeyMapping {
        from_project: backup.project.clone(),
        from_database: backup.database.clone(),
        to,
        namespaces: plan.head.choices.map_namespaces.clone(),
    }
}
