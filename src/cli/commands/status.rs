//! `kindpack status PLAN`: where a restore stands, by its journal. Nothing is asked of the target.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::kept_plans::{self, journal_of};
use crate::cli::load_plan::load_plan;
use crate::cli::output;
use crate::plan::Step;
use crate::restore::check_journal;
use crate::restore::journal::file::{JournalFile, JournalFileError};
use crate::restore::journal::{Journal, StepState};
use crate::runtime::workers::Workers;

pub async fn run(
    context: &Context,
    plan_path: &Path,
    require_complete: bool,
    journal: Option<PathBuf>,
) -> CommandResult {
    let word = |state| match state {
        StepState::Pending => "pending",
        StepState::Running => "running",
        StepState::Done => "done",
        StepState::Failed => "failed",
    };
    let ui = &context.ui;
    let (plan, place) = load_plan(plan_path).await?;
    let place = place.unwrap_or_else(|| kept_plans::path_of(&context.state.find(), &plan));
    let path = journal.unwrap_or_else(|| journal_of(&place));
    let read = {
        let path = path.clone();
        Workers::aside(move || JournalFile::look(&path)).await?
    };
    let mut journal = read?;
    if journal.is_of_other_plan(plan.sha256()) && journal.finished.is_some() {
        context.ui.warn(format!(
            "{} is the journal of another plan, which has finished; this plan has not begun",
            path.display()
        ));
        journal = Journal::default();
    }
    check_journal(&journal, &plan).map_err(|source| JournalFileError::Content {
        path: path.display().to_string(),
        source,
    })?;

    let mut left = 0;
    let mut entities = 0;
    let status_of = |step: &Step| journal.steps.get(&step.id).cloned().unwrap_or_default();
    for step in &plan.steps {
        let status = status_of(step);
        let owes_hook = plan.hooks.after_step.is_some() && !status.hook_finished;
        left += u64::from(status.state != StepState::Done || owes_hook);
        entities += status.entities;
        ui.json_event(&json!({
            "event": "step", "step": step.id, "namespace": step.to_namespace, "kind": step.kind, "state": word(status.state),
            "entities": status.entities, "of": step.entities, "attempts": status.attempts, "error": status.error,
            "deleted": status.deleted, "started": status.started, "finished": status.finished,
        }));
    }
    let rows = plan.steps.iter().map(|step| {
        let status = status_of(step);
        vec![
            step.id.to_string(),
            step.to_namespace.to_string(),
            step.kind.to_string(),
            word(status.state).to_owned(),
            format!(
                "{} of {}",
                output::count(status.entities),
                output::count(step.entities)
            ),
            status.attempts.to_string(),
            status.deleted.map(output::count).unwrap_or_default(),
            status.started.map(|at| at.to_string()).unwrap_or_default(),
            status.finished.map(|at| at.to_string()).unwrap_or_default(),
            status.error.unwrap_or_default(),
        ]
    });
    let heads = [
        "STEP",
        "NAMESPACE",
        "KIND",
        "STATE",
        "ENTITIES",
        "ATTEMPTS",
        "DELETED",
        "STARTED",
        "FINISHED",
        "ERROR",
    ];
    if !ui.is_json() {
        ui.result_lines(ui.table(&heads, &[0, 4, 5, 6], rows));
    }
    let steps = plan.steps.len() as u64;
    let is_complete = left == 0 && (plan.hooks.after_all.is_none() || journal.hook_finished);
    if require_complete && !is_complete {
        let found = if left > 0 {
            format!("{left} left")
        } else {
            "that --after-all has not succeeded".to_owned()
        };
        let why = format!(
            "{}: expected all {steps} steps done, found {found}",
            plan_path.display()
        );
        return Err(Failure::new(ExitCode::Partial, why)
            .prefix("restore is not complete")
            .hint("kindpack restore PLAN goes on"));
    }
    ui.say_apart(format!(
        "{} of {} done, {} restored into {}",
        steps - left,
        output::counted(steps, "step", "steps"),
        output::counted(entities, "entity", "entities"),
        plan.target
    ));
    ui.done(json!({"steps": steps, "left": left, "entities": entities, "complete": is_complete}));
    Ok(ExitCode::Done)
}
