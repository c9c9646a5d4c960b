//! `kindpack status PLAN`: where a restore stands, by its journal. Nothing is asked of the target.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::kept_plans::{self, journal_of};
use crate::cli::load_plan::{load_journal, load_plan};
use crate::cli::output::{self, Ui};
use crate::cli::text::shell_quote;
use crate::model::Timestamp;
use crate::plan::{Plan, Step};
use crate::restore::journal::{Journal, StepState, StepStatus};

pub async fn run(
    context: &Context,
    plan_path: &Path,
    require_complete: bool,
    journal: Option<PathBuf>,
) -> CommandResult {
    let ui = &context.ui;
    let (plan, place) = load_plan(plan_path).await?;
    let place = place.unwrap_or_else(|| kept_plans::path_of(&context.state.find(), &plan));
    let journal_path = journal.unwrap_or_else(|| journal_of(&place));
    let journal = load_journal(context, &plan, &journal_path).await?;

    let (mut left, mut entities) = (0, 0);
    for step in &plan.steps {
        let status = status_of(&journal, step);
        let owes_hook = plan.head.choices.hooks.after_step.is_some() && !status.hook_finished;
        left += u64::from(status.state != StepState::Done || owes_hook);
        entities += status.entities;
        ui.json_event(&step_event(step, &status));
    }
    if !ui.is_json() {
        show_steps(context, &plan, &journal);
    }
    let steps = plan.steps.len() as u64;
    let has_last_hook = plan.head.choices.hooks.after_all.is_some();
    let is_complete = left == 0 && (!has_last_hook || journal.hook_finished);
    if require_complete && !is_complete {
        return Err(incomplete(plan_path, steps, left));
    }
    ui.say_apart(format!(
        "{} of {} done, {} restored into {}",
        steps - left,
        output::counted(steps, "step", "steps"),
        output::counted(entities, "entity", "entities"),
        plan.head.choices.target
    ));
    ui.done(json!({"steps": steps, "left": left, "entities": entities, "complete": is_complete}));
    Ok(ExitCode::Done)
}

fn incomplete(plan_path: &Path, steps: u64, left: u64) -> Failure {
    let why = if left > 0 {
        format!("{left} of {steps} steps are left")
    } else {
        "the command of --after-all has not succeeded".to_owned()
    };
    let plan = shell_quote(&plan_path.display().to_string());
    Failure::new(ExitCode::Partial, why)
        .prefix("the restore is not complete")
        .hint(format!("continue with `kindpack restore {plan}`"))
}

/// Where a step stands. One that the journal does not name has not begun.
fn status_of(journal: &Journal, step: &Step) -> StepStatus {
    journal.steps.get(&step.id).cloned().unwrap_or_default()
}

fn step_event(step: &Step, status: &StepStatus) -> Value {
    json!({
        "event": "step", "step": step.id, "namespace": step.to_namespace, "kind": step.kind, "state": status.state,
        "entities": status.entities, "of": step.entities, "attempts": status.attempts, "error": status.error,
        "deleted": status.deleted, "started": status.started, "finished": status.finished,
    })
}

fn show_steps(context: &Context, plan: &Plan, journal: &Journal) {
    let ui = &context.ui;
    let deletes = plan.steps.iter().any(|step| step.deletes);
    let mut heads = vec!["STEP", "NAMESPACE", "KIND", "STATE", "ENTITIES"];
    heads.extend(deletes.then_some("DELETED"));
    heads.push("SINCE (UTC)");
    let rows = plan.steps.iter();
    let rows = rows.map(|step| step_row(step, status_of(journal, step), deletes));
    let numbers: &[usize] = if deletes { &[0, 4, 5] } else { &[0, 4] };
    ui.result_lines(ui.table(&heads, numbers, rows));
    for step in &plan.steps {
        show_error(ui, step, &status_of(journal, step));
    }
}

fn step_row(step: &Step, status: StepStatus, deletes: bool) -> Vec<String> {
    let mut row = vec![
        step.id.to_string(),
        step.to_namespace.to_string(),
        step.kind.to_string(),
        status.state.to_string(),
        entities(step, &status),
    ];
    row.extend(deletes.then(|| status.deleted.map(output::count).unwrap_or_default()));
    let since = status.finished.or(status.started);
    row.push(since.map(Timestamp::to_seconds_text).unwrap_or_default());
    row
}

/// How many entities are restored, and of how many where that differs.
fn entities(step: &Step, status: &StepStatus) -> String {
    let (restored, planned) = (output::count(status.entities), output::count(step.entities));
    if restored == planned {
        restored
    } else {
        format!("{restored} of {planned}")
    }
}

/// Why a step has failed.
fn show_error(ui: &Ui, step: &Step, status: &StepStatus) {
    if let Some(error) = &status.error {
        let attempts = output::counted(u64::from(status.attempts), "attempt", "attempts");
        let pair = format!("{}/{}", step.to_namespace, step.kind);
        ui.info(ui.warning(&format!(
            "step {}: {pair} failed after {attempts}: {error}",
            step.id
        )));
    }
}
