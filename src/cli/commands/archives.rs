//! `kindpack archives DEST`: the archives of a folder, the newest last, where a terminal shows it.

use serde_json::json;

use crate::archive::catalog::{ArchiveContents, CatalogEntry, Integrity, NameParts, list};
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::output::{self, Ui};
use crate::cli::text::shell_quote;
use crate::model::Namespace;
use crate::store::Location;

pub async fn run(context: &Context, dest: &Location, of: Option<&str>) -> CommandResult {
    let ui = &context.ui;
    reject_file(dest)?;
    let identities = context.identities.read().await?;
    let listed = list(&context.stores.folder(dest), of, identities).await?;
    if ui.is_json() {
        listed
            .iter()
            .for_each(|listed| ui.json_event(&event(dest, listed)));
    } else if listed.is_empty() {
        let of = of.map(|namespace| format!(" of namespace {namespace}"));
        ui.info(format!("no archive{} in {dest}", of.unwrap_or_default()));
    } else {
        show(ui, &listed);
    }
    ui.done(json!({"archives": listed.len()}));
    Ok(ExitCode::Done)
}

/// Refuses an archive where a folder of archives must be.
fn reject_file(dest: &Location) -> Result<(), Failure> {
    match dest {
        Location::Local(path) if path.is_file() => {
            let quoted = shell_quote(&dest.to_string());
            Err(Failure::usage(format!("{dest} is a file, not a folder"))
                .hint(format!("run `kindpack list {quoted}` to see one archive")))
        }
        _ => Ok(()),
    }
}

fn show(ui: &Ui, listed: &[CatalogEntry]) {
    let shows_ids = !listed.iter().all(is_named_by_id);
    let mut heads = vec!["ARCHIVE"];
    heads.extend(shows_ids.then_some("BACKUP"));
    heads.extend(["NAMESPACE", "KINDS", "ENTITIES", "BYTES", "SEALED"]);
    let numbers = if shows_ids { [3, 4, 5] } else { [2, 3, 4] };
    let rows = listed.iter().map(move |listed| row(listed, shows_ids));
    ui.result_lines(ui.table(&heads, &numbers, rows));
    for CatalogEntry { object, seal, .. } in listed.iter().filter(|one| !is_sealed(one)) {
        ui.info(ui.warning(&format!("{} is not sealed: {seal}", object.name)));
    }
}

fn is_sealed(listed: &CatalogEntry) -> bool {
    listed.seal == Integrity::Complete
}

/// Whether the name of an archive says its backup's id, or there is none to say.
fn is_named_by_id(listed: &CatalogEntry) -> bool {
    let id = listed.holds.as_ref().map(|holds| holds.id.as_str());
    let named = NameParts::read(&listed.object.name).map(|name| name.id);
    id.is_none() || id == named
}

fn row(listed: &CatalogEntry, shows_id: bool) -> Vec<String> {
    let holds = listed.holds.as_ref();
    let cell = |text: fn(&ArchiveContents) -> String| holds.map_or_else(|| "-".to_owned(), text);
    let mut row = vec![listed.object.name.clone()];
    row.extend(shows_id.then(|| cell(|holds| holds.id.clone())));
    row.extend([
        cell(|holds| namespace(&holds.namespaces)),
        cell(|holds| output::count(holds.distinct_kinds)),
        cell(|holds| output::count(holds.entities)),
        output::short_bytes(listed.object.len),
        if is_sealed(listed) { "yes" } else { "no" }.to_owned(),
    ]);
    row
}

/// The only namespace, or how many there are.
fn namespace(all: &[Namespace]) -> String {
    match all {
        [only] => only.to_string(),
        all => output::counted(all.len() as u64, "namespace", "namespaces"),
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
