//! What becomes of archives by a keep policy, in `prune` and after a `backup`.

use serde_json::{Value, json};

use super::output::{self, Ui};
use crate::archive::catalog::NameParts;
use crate::prune::{Decision, PrunePlan, PruneResult, PrunedArchive};
use crate::store::Location;

/// What was removed, and what could not be.
pub fn show_result(ui: &Ui, result: &PruneResult) {
    let removed = sizes(result.removed.len() as u64, result.removed_bytes);
    match result.removed.is_empty() && result.held.is_empty() {
        true => ui.say_apart("Nothing to remove"),
        false => ui.say_apart(format!("Removed {removed}")),
    }
    if !result.held.is_empty() {
        let held = output::counted(result.held.len() as u64, "archive", "archives");
        ui.info(format!("{held} could not be removed; see the warnings"));
    }
}

/// Archives in words, with their bytes.
pub fn sizes(archives: u64, bytes: u64) -> String {
    let archives = output::counted(archives, "archive", "archives");
    format!("{archives} ({})", output::bytes(bytes))
}

/// Which archives stay and which go, and why: a table for people, an event each for machines.
pub fn show_plan(ui: &Ui, dest: &Location, plan: &PrunePlan) {
    if ui.is_json() {
        let events = plan.archives.iter().map(|archive| event(dest, archive));
        events.for_each(|event| ui.json_event(&event));
    } else if plan.archives.is_empty() {
        ui.info(format!("no archive in {dest}"));
    } else {
        show_archives(ui, &plan.archives);
    }
}

fn show_archives(ui: &Ui, archives: &[PrunedArchive]) {
    let shows_ids = !archives.iter().all(is_named_by_id);
    let mut heads = vec!["ARCHIVE"];
    heads.extend(
        shows_ids
            .then_some(["BACKUP", "NAMESPACE"])
            .into_iter()
            .flatten(),
    );
    heads.extend(["BYTES", "ACTION", "REASON"]);
    let numbers = if shows_ids { [3] } else { [1] };
    let rows = archives.iter().map(move |archive| row(archive, shows_ids));
    ui.result_lines(ui.table(&heads, &numbers, rows));
}

/// Whether the name of an archive says its backup's id and namespace, or there is none to say.
fn is_named_by_id(archive: &PrunedArchive) -> bool {
    let named = NameParts::read(&archive.object.name).map(|name| name.id);
    archive.id.is_none() || archive.id.as_deref() == named
}

fn row(archive: &PrunedArchive, shows_id: bool) -> Vec<String> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let mut row = vec![archive.object.name.clone()];
    row.extend(shows_id.then(|| or_none(&archive.id)));
    row.extend(shows_id.then(|| or_none(&archive.label)));
    row.extend([
        output::short_bytes(archive.object.len),
        word(&archive.decision).to_owned(),
        reasons(&archive.decision).join(", "),
    ]);
    row
}

/// What becomes of an archive, in a word.
fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Keep(_) => "keep",
        Decision::Remove => "remove",
        Decision::Leave(_) => "leave",
    }
}

fn reasons(decision: &Decision) -> Vec<String> {
    match decision {
        Decision::Keep(reasons) => reasons.iter().map(ToString::to_string).collect(),
        Decision::Remove => vec!["no rule keeps it".to_owned()],
        Decision::Leave(reason) => vec![reason.to_string()],
    }
}

fn event(dest: &Location, archive: &PrunedArchive) -> Value {
    json!({
        "event": "prune",
        "archive": dest.below(&archive.object.name).to_string(),
        "bytes": archive.object.len,
        "id": archive.id,
        "project": archive.project,
        "namespace": archive.label,
        "decision": word(&archive.decision),
        "reasons": reasons(&archive.decision),
    })
}
