//! How plans, and the reasons in them, are shown to people.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;
use unicode_width::UnicodeWidthStr as _;

use crate::cli::context::Context;
use crate::cli::output;
use crate::cli::text::Text;
use crate::model::{KindRef, Sample};
use crate::plan::{
    Choices, Cycle, ExplainedKind, Explanation, Hooks, LaterKind, OnExisting, Plan, Redaction,
    Step, WriteMethod,
};

/// How many kinds that are left out for one reason are named; the document names all.
const LEFT_OUT_SHOWN: usize = 4;

/// How many kinds of a cycle are named.
const CYCLE_SHOWN: usize = 12;

/// How many references that point forward are named.
const FORWARD_SHOWN: usize = 4;

/// How wide the table of steps is, if names are not too long for that.
const LINE_WIDTH: usize = 80;

/// Reasons are not wrapped to less than this.
const NARROWEST_REASON: usize = 24;

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
    let rows = plan.steps.iter().flat_map(|step| columns.rows(step));
    // The heads stand in the first line.
    let alarms = plan.steps.iter().flat_map(|step| {
        let lines = columns.rows(step).len();
        std::iter::repeat_n(step.deletes, lines)
    });
    let lines = ui
        .table(&columns.heads(), columns.right(), rows)
        .zip(std::iter::once(false).chain(alarms));
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
    reason_width: usize,
}

impl StepColumns {
    fn from_plan(plan: &Plan) -> Self {
        let is_moved = |step: &Step| step.namespace != step.to_namespace;
        let mut columns = StepColumns {
            moves: plan.steps.iter().any(is_moved),
            deletes: plan.steps.iter().any(|step| step.deletes),
            about: if is_exact(plan) { "" } else { "~" },
            reason_width: 0,
        };
        let heads = columns.heads();
        let mut widths: Vec<usize> = heads.iter().map(|head| head.width() + 2).collect();
        // The reason is the last one.
        widths.pop();
        for step in &plan.steps {
            for (width, cell) in widths.iter_mut().zip(columns.cells(step)) {
                *width = (*width).max(cell.width() + 2);
            }
        }
        let left = LINE_WIDTH.saturating_sub(widths.iter().sum());
        columns.reason_width = left.max(NARROWEST_REASON);
        columns
    }

    fn heads(&self) -> Vec<&'static str> {
        let mut heads = vec!["STEP", "NAMESPACE"];
        heads.extend(self.moves.then_some("TO"));
        heads.extend(["KIND", "ENTITIES"]);
        heads.extend(self.deletes.then_some("ALSO"));
        heads.push("REASON");
        heads
    }

    /// The columns of numbers.
    fn right(&self) -> &'static [usize] {
        if self.moves { &[0, 4] } else { &[0, 3] }
    }

    /// The rows of a step: more than one where its reason is long.
    fn rows(&self, step: &Step) -> Vec<Vec<String>> {
        let mut cells = self.cells(step);
        let lines = wrapped(&step.reason, self.reason_width).into_iter();
        let row = |reason: String| {
            let blank = vec![String::new(); cells.len()];
            let mut row = std::mem::replace(&mut cells, blank);
            row.push(reason);
            row
        };
        lines.map(row).collect()
    }

    /// All cells but the reason.
    fn cells(&self, step: &Step) -> Vec<String> {
        let mut cells = vec![step.id.to_string(), step.namespace.to_string()];
        cells.extend(self.moves.then(|| step.to_namespace.to_string()));
        let entities = format!("{}{}", self.about, output::count(step.entities));
        cells.extend([step.kind.to_string(), entities]);
        let also = if step.deletes { "DELETES others" } else { "" };
        cells.extend(self.deletes.then(|| also.to_owned()));
        cells
    }
}

/// The lines of a text, each as wide as allowed where its words are short enough; at least one.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().map_or(0, |line| line.width());
        if line > 0 && line + 1 + word.width() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.extend((!line.is_empty()).then_some(' '));
            line.push_str(word);
        }
    }
    lines
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
        show_wrapped(context, "", &format!("left out, {reason}: {kinds}"));
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
    let forward = ForwardReferences::from_plan(plan);
    for (cycle, forward) in plan.cycles.iter().zip(&forward.in_cycles) {
        show_wrapped(context, "", &cycle_line(cycle, forward));
    }
    if !forward.others.is_empty() {
        let names = shortened(&forward.others, FORWARD_SHOWN);
        let line = format!("your order leaves references that point forward: {names}");
        show_wrapped(context, "", &line);
    }
}

/// Shows a text that may be long: what does not fit goes on below, further in.
fn show_wrapped(context: &Context, indent: &str, text: &str) {
    for line in wrapped_lines(indent, text) {
        context.ui.info(line);
    }
}

fn wrapped_lines(indent: &str, text: &str) -> Vec<String> {
    let width = LINE_WIDTH.saturating_sub(indent.len() + 2);
    let lines = wrapped(text, width).into_iter().enumerate();
    let line = |(number, line)| {
        let further = if number > 0 { "  " } else { "" };
        format!("{indent}{further}{line}")
    };
    lines.map(line).collect()
}

/// References of steps that point at kinds that are restored later, such as `Product -> Order`.
struct ForwardReferences {
    /// Those within each cycle of the plan.
    in_cycles: Vec<Vec<String>>,
    others: Vec<String>,
}

impl ForwardReferences {
    fn from_plan(plan: &Plan) -> Self {
        let mut forward = ForwardReferences {
            in_cycles: vec![Vec::new(); plan.cycles.len()],
            others: Vec::new(),
        };
        let cycles = plan.cycles.iter().enumerate();
        let members = cycles.flat_map(|(index, cycle)| {
            let members = cycle.kinds.iter();
            members.map(move |member| (member.pair(), index))
        });
        let cycle_of: HashMap<KindRef, usize> = members.collect();
        for step in &plan.steps {
            forward.add(step, &cycle_of);
        }
        forward
    }

    fn add(&mut self, step: &Step, cycle_of: &HashMap<KindRef, usize>) {
        let pair = step.pair();
        let own = cycle_of.get(&pair);
        for later in step.later.iter().map(LaterKind::pair) {
            let cycle = own.filter(|own| cycle_of.get(&later) == Some(own));
            let cycle = cycle.and_then(|&cycle| self.in_cycles.get_mut(cycle));
            let name = |kind: &KindRef| match kind.namespace == pair.namespace && cycle.is_some() {
                true => kind.kind.to_string(),
                false => kind.to_string(),
            };
            let arrow = format!("{} -> {}", name(&pair), name(&later));
            cycle.unwrap_or(&mut self.others).push(arrow);
        }
    }
}

/// Such as `cycle in acme: Customer, Order; 1 of 41 references points forward (Customer ->
/// Order)`.
fn cycle_line(cycle: &Cycle, forward: &[String]) -> String {
    let mut namespaces = cycle.kinds.iter().map(|member| &member.namespace);
    let first = namespaces.next();
    let shared = first.filter(|first| namespaces.all(|namespace| namespace == *first));
    let place = shared.map(|namespace| format!(" in {namespace}"));
    let names = cycle.kinds.iter().map(|member| match shared {
        Some(_) => member.kind.to_string(),
        None => member.pair().to_string(),
    });
    let names = shortened(&names.collect::<Vec<_>>(), CYCLE_SHOWN);
    let count = cycle.pointing_forward().map(|count| format!("; {count}"));
    let arrows = (!forward.is_empty()).then(|| format!(" ({})", shortened(forward, FORWARD_SHOWN)));
    let [place, count, arrows] = [place, count, arrows].map(Option::unwrap_or_default);
    format!("cycle{place}: {names}{count}{arrows}")
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
        show_wrapped(
            context,
            "",
            &format!("redacted by {}: {properties}", found.rule),
        );
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
        ("after each step", &plan.head.choices.hooks.after_step),
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
    context.ui.say_apart(format!(
        "{}, {}{}, {}; about {}",
        output::counted(totals.steps, "step", "steps"),
        if is_exact(plan) { "" } else { "about " },
        output::counted(totals.entities, "entity", "entities"),
        output::bytes(totals.bytes),
        output::duration(totals.seconds),
    ));
    let profile = choices.selection.profile.as_ref();
    let profile = profile.map(|name| format!(", profile {name}"));
    let profile = profile.unwrap_or_default();
    context.ui.info(format!("into {}{profile}", choices.target));
    context.ui.info(writing_words(choices));
}

/// What becomes of entities that are there already, and how the others are written.
fn writing_words(choices: &Choices) -> String {
    if choices.target.path().is_some() {
        return "writes new files, and overwrites none".to_owned();
    }
    let existing = match choices.on_existing {
        OnExisting::Fail => "refuses kinds that already hold entities",
        OnExisting::Merge => "overwrites entities with the same key, keeps all others",
        OnExisting::Replace => "overwrites entities with the same key",
    };
    let way = match choices.via {
        WriteMethod::Commit => "writes in batches",
        WriteMethod::Import => "writes by an import",
    };
    format!("{existing}; {way}")
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
        ui.info(ui.danger("DELETES entities of these kinds that this plan does not restore"));
    }
    if choices.target.is_real_service() && choices.selection.disaster_recovery {
        ui.info(ui.danger(
            "DISASTER RECOVERY: the target may be the project that the backup was made of",
        ));
    }
}

fn show_warnings(context: &Context, plan: &Plan) {
    for warning in plan.warnings.iter().take(WARNINGS_SHOWN) {
        for line in wrapped_lines("", &format!("warning: {warning}")) {
            context.ui.info(context.ui.warning(&line));
        }
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
    for (number, one) in explained.iter().enumerate() {
        if number > 0 {
            context.ui.info("");
        }
        show_explanation(context, one);
    }
}

fn show_explanation(context: &Context, one: &Explanation) {
    let ui = &context.ui;
    let pair = format!("{}/{}", one.namespace, one.kind);
    let Some(step) = one.step else {
        show_headed(context, "", &pair, &format!(": left out, {}", one.reason));
        return;
    };
    let reason = format!(", {}", one.reason);
    show_headed(context, &format!("step {step}: "), &pair, &reason);
    for word in &one.words {
        ui.info(format!("  your word: {word}"));
    }
    if let Some(cycle) = &one.cycle {
        show_wrapped(context, "  ", &cycle_line(cycle, &[]));
    }
    if one.after.is_empty() {
        ui.info("  comes after nothing");
    }
    show_links(context, "comes after", &one.after);
    show_links(context, "comes before", &one.before);
    show_links(context, "should come after, but cannot", &one.later);
    show_links(context, "should come before, but cannot", &one.earlier);
}

/// Shows a line with a name in it: bold, unless the line has to be wrapped.
fn show_headed(context: &Context, before: &str, name: &str, after: &str) {
    let line = format!("{before}{name}{after}");
    if line.width() > LINE_WIDTH {
        return show_wrapped(context, "", &line);
    }
    let name = context.ui.bold(name);
    context.ui.info(Text::from(before) + name + after);
}

fn show_links(context: &Context, head: &str, links: &[ExplainedKind]) {
    if links.is_empty() {
        return;
    }
    context.ui.info(format!("  {head}"));
    for link in links {
        let indent = "  ".repeat(1 + link.depth as usize);
        let broken = link.broken_by.map(|why| format!(", {why}"));
        let above = if link.is_shown_above {
            " (see above)"
        } else {
            ""
        };
        context.ui.info(format!(
            "{indent}step {}: {}/{} ({}){}{above}",
            link.step,
            link.namespace,
            link.kind,
            link.by,
            broken.unwrap_or_default()
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
