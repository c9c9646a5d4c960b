//! How a restore ended: the table, the last event, the reports, and what to do next.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::confirm::now;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::{CANNOT_REHEARSE, CANNOT_RESTORE, Failure, RUN_AGAIN};
use crate::cli::output;
use crate::cli::output_file::write_report;
use crate::cli::text::{Text, shell_quote};
use crate::datastore::emulator_product::EmulatorProduct;
use crate::datastore::error::DatastoreError;
use crate::model::{Manifest, Timestamp};
use crate::plan::{Choices, OnExisting, Plan};
use crate::report::{self, FinishedRun, PlanPageSource, ReportPage};
use crate::restore::journal::{Journal, StepState};
use crate::restore::report::{ReportTotals, RestoreReport, RunInfo};
use crate::restore::{
    CompanionStats, Difference, RestoreError, RestoreOptions, RestoreResult, RestoreStats,
    StepOutcome,
};
use crate::targets::TargetError;

/// What is told of.
pub struct RestoreSummary<'a> {
    pub plan: &'a Plan,
    pub manifest: &'a Manifest,
    pub journal: &'a Journal,
    pub options: &'a RestoreOptions,
    /// Where the report goes: a page or JUnit XML by names that end so, else JSON.
    pub reports: &'a [PathBuf],
    pub begun: Instant,
    /// The emulator of a rehearsal, which has ended by the time of the report.
    pub rehearsal: Option<EmulatorProduct>,
    /// The plan that was given, which refuses other choices.
    pub given_plan: Option<&'a Path>,
    /// Where a plan is kept that came through a pipe.
    pub piped_plan: Option<&'a Path>,
}

/// Tells how a restore ended.
pub fn print(
    context: &Context,
    told: &RestoreSummary<'_>,
    restored: RestoreResult,
) -> CommandResult {
    let RestoreResult { outcome, steps } = restored;
    let was_done = matches!(outcome, Ok(RestoreStats { was_done: true, .. }));
    let companions = outcome.as_ref().ok().map(|stats| stats.companions);
    let lost_data = outcome.as_ref().is_err_and(is_about_earlier_run);
    if steps.iter().any(|step| step.end != StepState::Pending) && !was_done && !lost_data {
        context.ui.say_lines(table(context, told, &steps));
        context.ui.info("");
    }
    let ended = match outcome {
        Ok(outcome) => finished(context, told, outcome, &steps),
        Err(error) => Err(failed(context, told, error, &steps)),
    };
    // Whoever repeats a command wants to see it.
    let ended = ended.map_err(|failure| with_command(told, failure));
    let prefix = if told.rehearsal.is_some() {
        CANNOT_REHEARSE
    } else {
        CANNOT_RESTORE
    };
    let reported = write_reports(told, &steps, companions, &ended)
        .map_err(|failure| failure.or_prefix(prefix));
    match (ended, reported) {
        (Ok((_, event)), Ok(())) => {
            context.ui.done(event);
            Ok(ExitCode::Done)
        }
        (Ok(_), Err(failure)) => Err(failure),
        (Err(failure), reported) => {
            if let Err(unreported) = reported {
                context.ui.note(unreported.sentence());
            }
            Err(failure)
        }
    }
}

fn failed(
    context: &Context,
    told: &RestoreSummary<'_>,
    error: RestoreError,
    steps: &[StepOutcome],
) -> Failure {
    match error {
        RestoreError::Stopped { done, steps } => context
            .stop
            .failure_of(&format!("stopped after {done} of {steps} steps")),
        RestoreError::StepsFailed { first, .. } if told.rehearsal.is_some() => {
            let mut failure = Failure::from(*first).prefix(CANNOT_REHEARSE);
            failure.why = steps.iter().filter_map(|step| step.error.clone()).collect();
            failure
        }
        error if is_target_empty(&error, steps) => target_emptied(told),
        error => {
            let hint = hint_for(told, &error);
            let failure = Failure::from(error);
            let is_untouched = steps.iter().all(|step| step.restored == 0);
            if failure.code == ExitCode::Damaged && is_untouched {
                context.ui.note("nothing was written");
            }
            match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
    }
}

/// The failure of a target that lost all that was restored.
fn target_emptied(told: &RestoreSummary<'_>) -> Failure {
    let target = &told.plan.head.choices.target;
    let why = "holds none of the restored entities any more: it was restarted or emptied";
    Failure::refused(format!("{target} {why}")).hint("run the same command with --again")
}

/// Whether a target differs from what an earlier run left: what the journal says of the steps is
/// not true then.
fn is_about_earlier_run(error: &RestoreError) -> bool {
    matches!(
        error,
        RestoreError::TargetChanged { .. } | RestoreError::TargetLostData { .. }
    )
}

/// What helps with this plan and this target, where the usual hint does not.
fn hint_for(told: &RestoreSummary<'_>, error: &RestoreError) -> Option<String> {
    let is_folder = told.plan.head.choices.target.path().is_some();
    match error {
        RestoreError::NotEmpty { .. } if is_folder => Some("choose a new folder".to_owned()),
        RestoreError::NotEmpty { .. } => {
            let new_plan = new_plan(told, OnExisting::Merge)?;
            Some(format!(
                "empty the target, or make a plan that overwrites the same keys and leaves other entities: {new_plan}"
            ))
        }
        error if has_doubtful_project(told, error) => Some(
            "try another project id: Google's emulator takes lower-case letters, digits and -"
                .to_owned(),
        ),
        RestoreError::TargetChanged { .. } if !is_folder => {
            let new_plan = new_plan(told, OnExisting::Replace)?;
            Some(format!(
                "empty the target and add --again, or make a plan that overwrites what has changed: {new_plan}"
            ))
        }
        _ => None,
    }
}

/// Whether an emulator refused a request, and the project's id is one that Google's emulator does
/// not take. Other emulators may.
fn has_doubtful_project(told: &RestoreSummary<'_>, error: &RestoreError) -> bool {
    let target = &told.plan.head.choices.target;
    let is_usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_doubtful = target.emulator_host().is_some()
        && target.project().is_some_and(|id| !id.chars().all(is_usual));
    let mut error = error;
    while let RestoreError::Step { error: inner, .. } = error {
        error = inner;
    }
    is_doubtful
        && matches!(
            error,
            RestoreError::Target(TargetError::Datastore(DatastoreError::Refused { .. }))
        )
}

/// Whether nothing is there of what an earlier run left: each kind that it restored is gone.
fn is_target_empty(error: &RestoreError, steps: &[StepOutcome]) -> bool {
    let is_gone =
        |difference: &&Difference| matches!(difference, Difference::Count { found: 0, .. });
    let gone = match error {
        RestoreError::TargetChanged {
            target,
            differences,
        } if target.path().is_none() => differences.iter().filter(is_gone).count(),
        RestoreError::TargetLostData { found, .. } => {
            found.iter().filter(|(_, count)| *count == 0).count()
        }
        _ => return false,
    };
    let restored = steps.iter().filter(|step| step.already_there > 0).count();
    gone > 0 && gone == restored
}

/// The command that makes a plan like the given one with another choice; in words where the plan
/// has choices of its own, which the command would lose.
fn new_plan(told: &RestoreSummary<'_>, on_existing: OnExisting) -> Option<String> {
    let plan = told.given_plan?.display().to_string();
    let choices = &told.plan.head.choices;
    let (archive, target) = (&told.plan.head.archive.location, &choices.target);
    if *choices != Choices::new(target.clone()) {
        return Some(format!("the same options and --on-existing {on_existing}"));
    }
    Some(format!(
        "kindpack plan {} --target {} --on-existing {on_existing} -o {}",
        shell_quote(archive),
        shell_quote(&target.to_string()),
        shell_quote(&plan)
    ))
}

/// With the command that goes on, where one does.
fn with_command(told: &RestoreSummary<'_>, failure: Failure) -> Failure {
    match failure.code {
        ExitCode::Partial | ExitCode::Interrupted | ExitCode::Terminated
            if told.rehearsal.is_none() =>
        {
            let hint = failure.hint.clone();
            let hint = hint.unwrap_or_else(|| RUN_AGAIN.to_owned());
            failure.hint(format!("{hint}: {}", same_command(told.piped_plan)))
        }
        _ => failure,
    }
}

/// The command as it was typed, so that it can be typed again. Instead of a plan that came through
/// a pipe it names the one that is kept.
fn same_command(piped_plan: Option<&Path>) -> String {
    if let Some(plan) = piped_plan {
        return format!(
            "kindpack restore {}",
            shell_quote(&plan.display().to_string())
        );
    }
    let words = std::env::args_os().skip(1);
    let words = words.map(|word| word.to_string_lossy().into_owned());
    let words = continuing(words);
    let words: Vec<String> = words.iter().map(|word| shell_quote(word)).collect();
    format!("kindpack {}", words.join(" "))
}

/// The words of a command without the options that leave steps out or begin anew.
fn continuing(mut words: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        let is_dropped = matches!(word.as_str(), "--retry-failed" | "--again");
        if word == "--max-steps" {
            words.next();
        } else if !is_dropped && !word.starts_with("--max-steps=") {
            kept.push(word);
        }
    }
    kept
}

fn finished(
    context: &Context,
    told: &RestoreSummary<'_>,
    outcome: RestoreStats,
    tallies: &[StepOutcome],
) -> Result<(ExitCode, Value), Failure> {
    let RestoreStats {
        steps,
        entities,
        left,
        was_done,
        companions,
    } = outcome;
    if left > 0 {
        return Err(stopped_early(told.options, steps, left));
    }
    let seconds = told.begun.elapsed().as_secs_f64();
    let what = format!(
        "{} with {}",
        output::counted(steps, "step", "steps"),
        output::counted(entities, "entity", "entities")
    );
    let totals = ReportTotals::from_outcomes(tallies);
    let this_run = (totals.already_there > 0).then_some(totals.restored);
    show_end(context, told, was_done, (&what, this_run), seconds);
    show_companions(context, told, companions);
    let event = json!({
        "steps": steps, "entities": entities, "seconds": seconds, "target": told.plan.head.choices.target, "already_done": was_done,
        "dry_run": told.options.dry_run, "restored": totals.restored, "already_there": totals.already_there, "deleted": totals.deleted,
        "differing": totals.differing, "companions_copied": companions.copied, "companions_already_there": companions.already_there,
    });
    Ok((ExitCode::Done, event))
}

fn show_end(
    context: &Context,
    told: &RestoreSummary<'_>,
    was_done: bool,
    (what, this_run): (&str, Option<u64>),
    seconds: f64,
) {
    let ui = &context.ui;
    let target = &told.plan.head.choices.target;
    if let Some(emulator) = told.rehearsal {
        ui.info(format!(
            "OK: rehearsed {what} in the {emulator}; all equal the archive ({seconds:.1} s)"
        ));
    } else if was_done {
        ui.info(format!(
            "Everything is already restored: {what} in {target}"
        ));
    } else if told.options.dry_run {
        ui.info(format!(
            "Would restore {what} into {target}; nothing was written"
        ));
    } else {
        let this_run = this_run.map(|count| output::counted(count, "entity", "entities"));
        let this_run = this_run.map_or_else(String::new, |count| format!("; this run: {count}"));
        ui.info(format!(
            "Restored {what} into {target}{this_run} in {seconds:.1} s"
        ));
        show_next_step(context, told.plan);
    }
}

/// What became of the companions; nothing where there are none or none were wanted.
fn show_companions(context: &Context, told: &RestoreSummary<'_>, companions: CompanionStats) {
    let CompanionStats {
        copied,
        already_there,
        bytes,
    } = companions;
    if copied + already_there == 0 {
        return;
    }
    let deed = if told.options.dry_run {
        "Would copy"
    } else {
        "Copied"
    };
    context.ui.info(format!(
        "{deed} {}, {}; {} already there",
        output::counted(copied, "companion", "companions"),
        output::bytes(bytes),
        output::count(already_there)
    ));
}

/// A restore that left steps out, as it was asked to.
fn stopped_early(options: &RestoreOptions, steps: u64, left: u64) -> Failure {
    let all = steps + left;
    let rest = output::counted(left, "step is", "steps are");
    let (why, hint) = if options.retry_failed {
        (
            format!("{steps} of {all} steps are done, and --retry-failed leaves the others alone"),
            format!("{rest} left; run it without --retry-failed to finish"),
        )
    } else {
        (
            format!("stopped after {steps} of {all} steps, as --max-steps says"),
            format!("{rest} left; run it without --max-steps to finish"),
        )
    };
    Failure::new(ExitCode::Partial, why)
        .prefix("the restore is not complete")
        .hint(hint)
}

/// How an application finds the emulator that was restored into.
fn show_next_step(context: &Context, plan: &Plan) {
    let target = &plan.head.choices.target;
    if let (Some(host), Some(project)) = (target.emulator_host(), target.project()) {
        let ui = &context.ui;
        ui.info("Next: start the application with these variables:");
        ui.info(format!("  export DATASTORE_EMULATOR_HOST={host}"));
        ui.info(format!(
            "  export DATASTORE_PROJECT_ID={project} GOOGLE_CLOUD_PROJECT={project}"
        ));
    }
}

/// What became of each kind.
fn table(
    context: &Context,
    told: &RestoreSummary<'_>,
    steps: &[StepOutcome],
) -> impl Iterator<Item = Text> {
    let is_dry = told.options.dry_run;
    let mut heads = vec!["NAMESPACE", "KIND"];
    heads.extend((!is_dry).then_some("STATE"));
    heads.push(if is_dry { "WOULD RESTORE" } else { "RESTORED" });
    heads.push("ALREADY THERE");
    let numbers: &[usize] = if is_dry { &[2, 3, 4, 5] } else { &[3, 4, 5, 6] };
    let deletes = told.plan.head.choices.on_existing == OnExisting::Replace;
    let compares = steps.iter().any(|step| step.differing.is_some());
    heads.extend(deletes.then_some("DELETED"));
    heads.extend(compares.then_some("DIFFERING"));
    let rows = steps.iter().map(move |step| {
        let mut row = vec![step.to_namespace.to_string(), step.kind.to_string()];
        row.extend((!is_dry).then(|| step.end.to_string()));
        row.extend([
            output::count(step.restored),
            output::count(step.already_there),
        ]);
        row.extend(deletes.then(|| output::count(step.deleted)));
        let differing = step.differing.map(output::count);
        row.extend(compares.then(|| differing.unwrap_or_else(|| "not compared".to_owned())));
        row
    });
    context.ui.table(&heads, numbers, rows)
}

/// Writes the reports, whatever came of the restore.
fn write_reports(
    told: &RestoreSummary<'_>,
    steps: &[StepOutcome],
    companions: Option<CompanionStats>,
    ended: &Result<(ExitCode, Value), Failure>,
) -> Result<(), Failure> {
    if told.reports.is_empty() {
        return Ok(());
    }
    let took = told.begun.elapsed();
    let started = i64::try_from(took.as_micros())
        .ok()
        .and_then(|took| Timestamp::from_micros(now().micros() - took));
    let (code, error) = match ended {
        Ok((code, _)) => (*code, None),
        Err(failure) => (failure.code, Some(failure.sentence())),
    };
    let frame = RunInfo {
        check: told.options.check,
        dry_run: told.options.dry_run,
        started: started.unwrap_or_else(now),
        took,
        code: code as u8,
        error,
        companions,
    };
    for path in told.reports {
        let text = report_text(told, steps, &frame, path)?;
        write_report(path, "--report", &text)?;
    }
    Ok(())
}

/// A report as the end of its name says: a page, JUnit XML, else JSON.
fn report_text(
    told: &RestoreSummary<'_>,
    steps: &[StepOutcome],
    run: &RunInfo,
    path: &Path,
) -> Result<String, Failure> {
    let end = path.extension().map(OsStr::to_ascii_lowercase);
    match end.as_deref().and_then(OsStr::to_str) {
        Some("html" | "htm") => Ok(page_text(told, steps, run)),
        Some("xml") => RestoreReport::new(told.plan, steps, run.clone())
            .to_junit()
            .map_err(|error| Failure::internal(format!("--report {}: {error}", path.display()))),
        _ => Ok(RestoreReport::new(told.plan, steps, run.clone()).to_json()),
    }
}

/// The page of a restore.
fn page_text(told: &RestoreSummary<'_>, steps: &[StepOutcome], info: &RunInfo) -> String {
    report::to_html(&ReportPage::from_plan(&PlanPageSource {
        plan: told.plan,
        manifest: Some(told.manifest),
        journal: told.journal,
        run: Some(FinishedRun { steps, info }),
    }))
}
