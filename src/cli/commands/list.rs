//! `kindpack list ARCHIVE`: the kinds, or with `--json` the manifest as it stands in the archive.

use crate::cli::args::ArchiveArg;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::open_archive;
use crate::cli::output;
use crate::cli::text::Text;
use crate::model::{ExportFormat, KindCounts, KindInfo, Manifest, Timestamp};

/// The heads of the table of kinds.
const HEADS: [&str; 7] = [
    "NAMESPACE",
    "KIND",
    "ENTITIES",
    "BYTES",
    "FILES",
    "FORMAT",
    "FINISHED (UTC)",
];

pub async fn run(context: &Context, arg: &ArchiveArg) -> CommandResult {
    let archive = open_archive::open(context, arg).await?;
    let manifest = archive.manifest();
    if context.ui.is_json() {
        output::print_document(manifest);
        return Ok(ExitCode::Done);
    }
    context.ui.result_lines(table(context, manifest));
    say_totals(context, manifest);
    context.ui.info(manifest.export_times().to_string());
    say_notes(context, manifest);
    Ok(ExitCode::Done)
}

fn say_totals(context: &Context, manifest: &Manifest) {
    let (ui, totals) = (&context.ui, &manifest.totals);
    ui.say_apart(format!(
        "backup {} of {}",
        manifest.backup.id,
        project_text(&manifest.backup.project),
    ));
    ui.info(format!(
        "{}: {}, {}, {}{}",
        output::exports(&KindCounts::from_manifest(manifest)),
        output::counted(totals.entities, "entity", "entities"),
        output::counted(totals.entries, "file", "files"),
        output::bytes(totals.bytes),
        output::and_companions(manifest.companions.len() as u64)
    ));
}

fn project_text(project: &str) -> String {
    match project {
        "" => "no project".to_owned(),
        project => format!("project {project}"),
    }
}

/// What is not as usual: accepted counts, missing exports, empty ones.
fn say_notes(context: &Context, manifest: &Manifest) {
    let ui = &context.ui;
    for count in manifest.accepted_counts() {
        ui.info(count.to_string());
    }
    for missing in &manifest.missing {
        ui.info(ui.warning(&missing.to_string()));
    }
    say_empty_exports(context, manifest.empty_exports.len() as u64);
}

fn say_empty_exports(context: &Context, exports: u64) {
    if exports > 0 {
        context.ui.info(format!(
            "{} (their kind is not recorded)",
            output::counted(exports, "empty export", "empty exports")
        ));
    }
}

fn table(context: &Context, manifest: &Manifest) -> impl Iterator<Item = Text> {
    let rows = manifest.kinds.iter().map(row);
    context.ui.table(&HEADS, &[2, 3, 4], rows)
}

fn row(kind: &KindInfo) -> Vec<String> {
    let finished = kind.finished.map(Timestamp::to_seconds_text);
    vec![
        kind.namespace.to_string(),
        kind.kind.to_string(),
        output::count(kind.entities),
        output::short_bytes(kind.bytes),
        kind.entries.len().to_string(),
        format_name(kind.format).to_owned(),
        finished.unwrap_or_else(|| "-".to_owned()),
    ]
}

fn format_name(format: ExportFormat) -> &'static str {
    match format {
        ExportFormat::ManagedExport => "managed",
        ExportFormat::LegacyBackup => "legacy",
    }
}
