//! How plans, and the reasons in them, are shown to people.

use std::collections::BTreeMap;

use serde_json::json;

use crate::cli::context::Context;
use crate::cli::output;
use crate::cli::text::Text;
use crate::model::Sample;
use crate::plan::{ExplainedKind, Explanation, Hooks, OnExisting, Plan};

/// How many kinds that are left out for one reason are named; the document names all.
const LEFT_OUT_SHOWN: usize = 4;

/// How many kinds of a cycle are named.
const CYCLE_SHOWN: usize = 12;

/// How many warnings are shown; the document holds all.
const WARNINGS_SHOWN: usize = 12;

/// How many properties of a rule are named.
const PROPERTIES_SHOWN: usize = 6;

/// Shows a plan as a table.
pub fn show(context: &Context, plan: &Plan) {
    show_steps(context, plan);
    show_left_out(context, plan);
    show_terms(context, plan);
    show_sums(context, plan);
    show_warnings(context, plan);
}

fn show_steps(context: &Context, plan: &Plan) {
    let ui = &context.ui;
    let moves = plan
        .steps
        .iter()
        .any(|step| step.namespace != step.to_namespace);
    let deletes = plan.steps.iter().any(|step| step.deletes);
    let mut heads = vec!["STEP", "NAMESPACE", "KIND", "ENTITIES", "BYTES"];
    if deletes {
        heads.push("ALSO");
    }
    heads.push("REASON");
    if moves {
        heads.insert(2, "TO");
    }
    let right: Vec<usize> = if moves { vec![0, 4, 5] } else { vec![0, 3, 4] };
    let about = if !is_exact(plan) { "~" } else { "" };
    let rows = plan.steps.iter().map(|step| {
        let entities = format!("{about}{}", output::count(step.entities));
        let mut row = vec![
            step.id.to_string(),
            step.namespace.to_string(),
            step.kind.to_string(),
            entities,
            output::bytes(step.bytes),
        ];
        if deletes {
            row.push(if step.deletes { "DELETES others" } else { "" }.to_owned());
        }
        row.push(step.reason.clone());
        if moves {
            row.insert(2, step.to_namespace.to_string());
        }
        row
    });
    // The heads stand in the first line, and each step in one of its own.
    let alarms = std::iter::once(false).chain(plan.steps.iter().map(|step| step.deletes));
    let lines = ui.table(&heads, &right, rows).zip(alarms);
    ui.say_lines(lines.map(|(line, alarm)| {
        if alarm {
            ui.danger(&line.to_string())
        } else {
            line
        }
    }));
}

/// Whether the plan knows how many entities it restores: a share is met about, and how many others
/// are needed only the data say.
fn is_exact(plan: &Plan) -> bool {
    match plan.head.choices.sample {
        None => true,
        Some(Sample::Limit(_)) => !plan.head.choices.selection.with_dependencies,
        Some(Sample::Share(_)) => false,
    }
}

fn show_left_out(context: &Context, plan: &Plan) {
    let mut left_out: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for skipped in &plan.skipped {
        left_out
            .entry(&skipped.reason)
            .or_default()
            .push(skipped.pair().to_string());
    }
    for (reason, kinds) in left_out {
        context.ui.info(format!(
            "left out, {reason}: {}",
            shortened(&kinds, LEFT_OUT_SHOWN)
        ));
    }
    for cycle in &plan.cycles {
        let members: Vec<String> = cycle
            .iter()
            .map(|member| member.pair().to_string())
            .collect();
        context.ui.info(format!(
            "in a cycle, so that any order is as good: {}",
            shortened(&members, CYCLE_SHOWN)
        ));
    }
}

/// What happens besides the steps: redactions, samples, commands.
fn show_terms(context: &Context, plan: &Plan) {
    let ui = &context.ui;
    for found in plan
        .head
        .choices
        .redaction
        .matches
        .iter()
        .filter(|found| !found.properties.is_empty())
    {
        ui.info(format!(
            "redacted by {}: {}",
            found.rule,
            shortened(&found.properties, PROPERTIES_SHOWN)
        ));
    }
    if plan.head.choices.redaction.matches.is_empty() {
        plan.head
            .choices
            .redaction
            .rules
            .iter()
            .for_each(|rule| ui.info(format!("redacted by {rule}")));
    }
    if let Some(sample) = plan.head.choices.sample {
        let of = if plan.head.choices.selection.only.is_empty() {
            "kind"
        } else {
            "chosen kind"
        };
        ui.info(format!(
            "a sample of {sample} of each {of}{}",
            if plan.head.choices.selection.with_dependencies {
                ", and what it needs"
            } else {
                ""
            }
        ));
    }
    if let Some(staging) = &plan.head.choices.staging {
        ui.info(format!("exports are laid down under {staging} meanwhile"));
    }
    say_hooks(context, plan);
}

/// Shows the commands that a plan of the user's runs, before it does.
pub fn show_hooks(context: &Context, plan: &Plan) {
    say_hooks(context, plan);
    if !plan.head.choices.hooks.is_empty() {
        let Hooks {
            before_step,
            after_step,
            after_all,
        } = &plan.head.choices.hooks;
        context.ui.json_event(&json!({"event": "hooks", "before_step": before_step, "after_step": after_step, "after_all": after_all}));
    }
}

fn say_hooks(context: &Context, plan: &Plan) {
    let ui = &context.ui;
    let hooks = [
        ("before each step", &plan.head.choices.hooks.before_step),
        ("behind each step", &plan.head.choices.hooks.after_step),
        ("at the end", &plan.head.choices.hooks.after_all),
    ];
    for (when, command) in hooks {
        if let Some(command) = command {
            ui.info(format!("run {when}: {}", command));
        }
    }
}

fn show_sums(context: &Context, plan: &Plan) {
    let ui = &context.ui;
    let totals = &plan.totals;
    let profile = plan
        .head
        .choices
        .selection
        .profile
        .as_ref()
        .map(|name| format!(", profile {name}"))
        .unwrap_or_default();
    ui.say_apart(format!(
        "{}, {}{}, {} into {} ({}, by {}{profile}); about {}",
        output::counted(totals.steps, "step", "steps"),
        if is_exact(plan) { "" } else { "about " },
        output::counted(totals.entities, "entity", "entities"),
        output::bytes(totals.bytes),
        plan.head.choices.target,
        plan.head.choices.on_existing,
        plan.head.choices.via,
        output::duration(totals.seconds),
    ));
    ui.info(plan.head.exports.to_string());
    if let Some(writes) = totals.billed_writes {
        let deletions = if plan.head.choices.on_existing == OnExisting::Replace {
            " and deletions, of which nobody knows how many,"
        } else {
            ""
        };
        ui.info(format!(
            "{} that are billed; index writes{deletions} come on top",
            output::counted(writes, "entity write", "entity writes")
        ));
    }
    if plan.head.choices.on_existing == OnExisting::Replace && !plan.steps.is_empty() {
        ui.info(ui.danger("DELETES what the target holds of these kinds and the archive does not"));
    }
    let choices = &plan.head.choices;
    if choices.target.is_real_service() && choices.selection.disaster_recovery {
        ui.info(ui.danger(
            "DISASTER RECOVERY: the target may be the project that the backup was made of",
        ));
    }
}

fn show_warnings(context: &Context, plan: &Plan) {
    for warning in plan.warnings.iter().take(WARNINGS_SHOWN) {
        context
            .ui
            .info(context.ui.warning(&format!("warning: {}", warning)));
    }
    let more = plan.warnings.len().saturating_sub(WARNINGS_SHOWN);
    if more > 0 {
        context.ui.info(format!(
            "and {} more, which -o and --json show",
            output::counted(more as u64, "warning", "warnings")
        ));
    }
}

/// Shows why kinds stand where they stand.
pub fn show_explained(context: &Context, explained: &[Explanation]) {
    let ui = &context.ui;
    for (number, one) in explained.iter().enumerate() {
        if number > 0 {
            ui.info("");
        }
        let pair = format!("{}/{}", one.namespace, one.kind);
        let Some(step) = one.step else {
            ui.info(ui.bold(&pair) + format!(": left out, {}", one.reason));
            continue;
        };
        ui.info(
            Text::from(format!("step {step}: ")) + ui.bold(&pair) + format!(", {}", one.reason),
        );
        for word in &one.words {
            ui.info(format!("  your word: {word}"));
        }
        if !one.cycle.is_empty() {
            let others: Vec<String> = one
                .cycle
                .iter()
                .map(|member| member.pair().to_string())
                .collect();
            ui.info(format!("  in a cycle with {}", others.join(", ")));
        }
        show_links(
            context,
            "stands behind",
            "nothing: it could be the first",
            &one.behind,
        );
        show_links(context, "is waited for by", "nobody", &one.before);
    }
}

fn show_links(context: &Context, head: &str, nothing: &str, links: &[ExplainedKind]) {
    let ui = &context.ui;
    if links.is_empty() {
        ui.info(format!("  {head} {nothing}"));
        return;
    }
    ui.info(format!("  {head}"));
    for link in links {
        let indent = "  ".repeat(1 + link.depth as usize);
        let void = link
            .void
            .map(|void| format!(", but {void}"))
            .unwrap_or_default();
        let told = if link.told {
            " (what that stands behind is told elsewhere here)"
        } else {
            ""
        };
        ui.info(format!(
            "{indent}step {}: {}/{} ({}{void}){told}",
            link.step, link.namespace, link.kind, link.by
        ));
    }
}

fn shortened(names: &[String], most: usize) -> String {
    let shown: Vec<&str> = names.iter().take(most).map(String::as_str).collect();
    match names.len().saturating_sub(most) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
