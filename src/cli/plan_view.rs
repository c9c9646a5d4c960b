//! How plans, and the reasons in them, are shown to people.

use std::collections::BTreeMap;

use serde_json::json;

use crate::cli::context::Context;
use crate::cli::output;
use crate::cli::text::Text;
use crate::model::Sample;
use crate::plan::{ExplainedKind, Explanation, Hooks, OnExisting, Plan, Redaction, Step};

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
    let columns = StepColumns::from_plan(plan);
    let rows = plan.steps.iter().map(|step| columns.row(step));
    // The heads stand in the first line, and each step in one of its own.
    let alarms = std::iter::once(false).chain(plan.steps.iter().map(|step| step.deletes));
    let lines = ui
        .table(&columns.heads(), columns.right(), rows)
        .zip(alarms);
    ui.say_lines(lines.map(|(line, alarm)| {
        if alarm {
            ui.danger(&line.to_string())
        } else {
            line
        }
    }));
}

/// Which columns the table of steps has, besides those that it always has.
struct StepColumns {
    moves: bool,
    deletes: bool,
    /// What stands in front of a number of entities.
    about: &'static str,
}

impl StepColumns {
    fn from_plan(plan: &Plan) -> Self {
        let is_moved = |step: &Step| step.namespace != step.to_namespace;
        StepColumns {
            moves: plan.steps.iter().any(is_moved),
            deletes: plan.steps.iter().any(|step| step.deletes),
            about: if is_exact(plan) { "" } else { "~" },
        }
    }

    fn heads(&self) -> Vec<&'static str> {
        let mut heads = vec!["STEP", "NAMESPACE"];
        heads.extend(self.moves.then_some("TO"));
        heads.extend(["KIND", "ENTITIES", "BYTES"]);
        heads.extend(self.deletes.then_some("ALSO"));
        heads.push("REASON");
        heads
    }

    /// The columns of numbers.
    fn right(&self) -> &'static [usize] {
        if self.moves { &[0, 4, 5] } else { &[0, 3, 4] }
    }

    fn row(&self, step: &Step) -> Vec<String> {
        let mut row = vec![step.id.to_string(), step.namespace.to_string()];
        row.extend(self.moves.then(|| step.to_namespace.to_string()));
        let entities = format!("{}{}", self.about, output::count(step.entities));
        row.extend([step.kind.to_string(), entities, output::bytes(step.bytes)]);
        let also = if step.deletes { "DELETES others" } else { "" };
        row.extend(self.deletes.then(|| also.to_owned()));
        row.push(step.reason.clone());
        row
    }
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
    for (reason, kinds) in left_out_by_reason(plan) {
        let kinds = shortened(&kinds, LEFT_OUT_SHOWN);
        context.ui.info(format!("left out, {reason}: {kinds}"));
    }
    show_cycles(context, plan);
}

fn left_out_by_reason(plan: &Plan) -> BTreeMap<&str, Vec<String>> {
    let mut left_out: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for skipped in &plan.skipped {
        let kinds = left_out.entry(&skipped.reason).or_default();
        kinds.push(skipped.pair().to_string());
    }
    left_out
}

fn show_cycles(context: &Context, plan: &Plan) {
    for cycle in &plan.cycles {
        let members = cycle.iter().map(|member| member.pair().to_string());
        let members = shortened(&members.collect::<Vec<_>>(), CYCLE_SHOWN);
        let line = format!("in a cycle, so that any order is as good: {members}");
        context.ui.info(line);
    }
}

/// What happens besides the steps: redactions, samples, commands.
fn show_terms(context: &Context, plan: &Plan) {
    show_redactions(context, &plan.head.choices.redaction);
    show_sample(context, plan);
    if let Some(staging) = &plan.head.choices.staging {
        let line = format!("exports are laid down under {staging} meanwhile");
        context.ui.info(line);
    }
    say_hooks(context, plan);
}

/// Shows what each rule matches, or the rules alone where that was not asked.
fn show_redactions(context: &Context, redaction: &Redaction) {
    let matches = redaction.matches.iter();
    for found in matches.filter(|found| !found.properties.is_empty()) {
        let properties = shortened(&found.properties, PROPERTIES_SHOWN);
        let line = format!("redacted by {}: {properties}", found.rule);
        context.ui.info(line);
    }
    if redaction.matches.is_empty() {
        let rules = redaction.rules.iter();
        rules.for_each(|rule| context.ui.info(format!("redacted by {rule}")));
    }
}

fn show_sample(context: &Context, plan: &Plan) {
    let selection = &plan.head.choices.selection;
    let Some(sample) = plan.head.choices.sample else {
        return;
    };
    let of = if selection.only.is_empty() {
        "kind"
    } else {
        "chosen kind"
    };
    let also = if selection.with_dependencies {
        ", and what it needs"
    } else {
        ""
    };
    context
        .ui
        .info(format!("a sample of {sample} of each {of}{also}"));
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
    show_totals(context, plan);
    context.ui.info(plan.head.exports.to_string());
    show_billed_writes(context, plan);
    show_dangers(context, plan);
}

fn show_totals(context: &Context, plan: &Plan) {
    let (totals, choices) = (&plan.totals, &plan.head.choices);
    let profile = choices.selection.profile.as_ref();
    let profile = profile.map(|name| format!(", profile {name}"));
    context.ui.say_apart(format!(
        "{}, {}{}, {} into {} ({}, by {}{}); about {}",
        output::counted(totals.steps, "step", "steps"),
        if is_exact(plan) { "" } else { "about " },
        output::counted(totals.entities, "entity", "entities"),
        output::bytes(totals.bytes),
        choices.target,
        choices.on_existing,
        choices.via,
        profile.unwrap_or_default(),
        output::duration(totals.seconds),
    ));
}

fn show_billed_writes(context: &Context, plan: &Plan) {
    let Some(writes) = plan.totals.billed_writes else {
        return;
    };
    let writes = output::counted(writes, "entity write", "entity writes");
    let deletions = match plan.head.choices.on_existing {
        OnExisting::Replace => " and deletions, of which nobody knows how many,",
        OnExisting::Fail | OnExisting::Merge => "",
    };
    context.ui.info(format!(
        "{writes} that are billed; index writes{deletions} come on top"
    ));
}

fn show_dangers(context: &Context, plan: &Plan) {
    let (ui, choices) = (&context.ui, &plan.head.choices);
    if choices.on_existing == OnExisting::Replace && !plan.steps.is_empty() {
        ui.info(ui.danger("DELETES what the target holds of these kinds and the archive does not"));
    }
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
