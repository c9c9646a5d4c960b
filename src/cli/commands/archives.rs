//! `kindpack archives DEST`: the archives of a folder, the newest last, where a terminal shows it.

use serde_json::json;

use crate::archive::catalog::{CatalogEntry, Integrity, list};
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::output;
use crate::model::Namespace;
use crate::store::Location;

/// How many namespaces of an archive are named.
const NAMESPACES_SHOWN: usize = 3;

pub async fn run(context: &Context, dest: &Location, of: Option<&str>) -> CommandResult {
    let ui = &context.ui;
    let listed = list(&context.stores.folder(dest), of).await?;
    if ui.is_json() {
        listed
            .iter()
            .for_each(|listed| ui.json_event(&event(dest, listed)));
    } else if listed.is_empty() {
        ui.info(format!("no archive in {dest}"));
    } else {
        let heads = [
            "ARCHIVE",
            "BACKUP",
            "NAMESPACE",
            "KINDS",
            "ENTITIES",
            "BYTES",
            "STARTED",
            "SEALED",
        ];
        ui.result_lines(ui.table(&heads, &[3, 4, 5], listed.iter().map(row)));
    }
    ui.done(json!({"archives": listed.len()}));
    Ok(ExitCode::Done)
}

fn row(listed: &CatalogEntry) -> Vec<String> {
    let none = || "-".to_owned();
    let holds = listed.holds.as_ref();
    vec![
        listed.object.name.clone(),
        holds.map_or_else(none, |holds| holds.id.clone()),
        holds.map_or_else(none, |holds| namespaces(&holds.namespaces)),
        holds.map_or_else(none, |holds| output::count(holds.kinds)),
        holds.map_or_else(none, |holds| output::count(holds.entities)),
        output::bytes(listed.object.len),
        holds
            .and_then(|holds| holds.started)
            .map_or_else(none, |started| started.to_string()),
        if listed.seal == Integrity::Complete {
            "yes".to_owned()
        } else {
            format!("no: {}", listed.seal)
        },
    ]
}

fn namespaces(all: &[Namespace]) -> String {
    let shown: Vec<String> = all
        .iter()
        .take(NAMESPACES_SHOWN)
        .map(Namespace::to_string)
        .collect();
    match all.len().saturating_sub(NAMESPACES_SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn event(dest: &Location, listed: &CatalogEntry) -> serde_json::Value {
    let CatalogEntry {
        object,
        seal,
        holds,
    } = listed;
    let holds = holds.as_ref();
    let mut event = json!({
        "event": "archive",
        "archive": dest.below(&object.name).to_string(),
        "bytes": object.len,
        "sealed": *seal == Integrity::Complete,
        "id": holds.map(|holds| &holds.id),
        "project": holds.map(|holds| &holds.project),
        "namespaces": holds.map(|holds| &holds.namespaces),
        "kinds": holds.map(|holds| holds.kinds),
        "entities": holds.map(|holds| holds.entities),
        "started": holds.and_then(|holds| holds.started),
    });
    if let Some(fields) = event
        .as_object_mut()
        .filter(|_| *seal != Integrity::Complete)
    {
        fields.insert("reason".to_owned(), seal.to_string().into());
    }
    event
}
