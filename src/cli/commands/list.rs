//! `kindpack list ARCHIVE`: the kinds, or with `--json` the manifest as it stands in the archive.

use crate::cli::args::ArchiveArg;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::open_archive;
use crate::cli::output;
use crate::cli::text::Text;
use crate::model::{ExportFormat, Manifest};

pub async fn run(context: &Context, arg: &ArchiveArg) -> CommandResult {
    let archive = open_archive::open(context, arg).await?;
    let manifest = archive.manifest();
    if context.ui.is_json() {
        output::print_document(manifest);
        return Ok(ExitCode::Done);
    }
    context.ui.result_lines(table(context, manifest));
    let totals = &manifest.totals;
    let project = if manifest.backup.project.is_empty() {
        "no project".to_owned()
    } else {
        format!("project {}", manifest.backup.project)
    };
    context.ui.say_apart(format!(
        "backup {} of {project}: {}, {}, {} of {}{}",
        manifest.backup.id,
        output::counted(totals.kinds, "kind", "kinds"),
        output::counted(totals.entities, "entity", "entities"),
        output::counted(totals.entries, "file", "files"),
        output::bytes(totals.bytes),
        output::and_companions(manifest.companions.len() as u64)
    ));
    context.ui.info(manifest.export_times().to_string());
    for count in manifest.accepted_counts() {
        context.ui.info(count.to_string());
    }
    for missing in &manifest.missing {
        context.ui.info(context.ui.warning(&missing.to_string()));
    }
    if !manifest.empty_exports.is_empty() {
        context.ui.info(format!(
            "{} without entities, of kinds that are written nowhere",
            output::counted(manifest.empty_exports.len() as u64, "export", "exports")
        ));
    }
    Ok(ExitCode::Done)
}

fn table(context: &Context, manifest: &Manifest) -> impl Iterator<Item = Text> {
    let rows = manifest.kinds.iter().map(|kind| {
        let format = match kind.format {
            ExportFormat::ManagedExport => "managed export",
            ExportFormat::LegacyBackup => "legacy backup",
        };
        let finished = kind
            .finished
            .map_or_else(|| "-".to_owned(), |finished| finished.to_string());
        vec![
            kind.namespace.to_string(),
            kind.kind.to_string(),
            output::count(kind.entities),
            output::bytes(kind.bytes),
            kind.entries.len().to_string(),
            format.to_owned(),
            finished,
        ]
    });
    context.ui.table(
        &[
            "NAMESPACE",
            "KIND",
            "ENTITIES",
            "BYTES",
            "FILES",
            "FORMAT",
            "FINISHED",
        ],
        &[2, 3, 4],
        rows,
    )
}
