//! The kinds of exports whose metadata do not declare them, found by reading their data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::error::PackError;
use super::pipeline::PIECE_FOOTPRINT_BYTES;
use super::select::KnownKinds;
use super::source::{PieceBytes, PieceJob, Source, jobs_of};
use crate::export::discover::{Export, ExportPart};
use crate::export::inspect::{self, ContentKind, Inspector, PieceSummary};
use crate::model::{EntryRole, Kind, KindRef, Method};
use crate::runtime::workers::Workers;
use crate::store::{ObjectInfo, Store, read_exact};

/// Reads the data of exports that leave kind or namespace open, once.
pub(super) async fn read_kinds(
    source: &Arc<dyn Store>,
    objects: &BTreeMap<String, ObjectInfo>,
    exports: &[&Export],
    workers: &Workers,
    known: &mut KnownKinds,
) -> Result<(), PackError> {
    for export in exports {
        let outputs = outputs_of(export, objects);
        let mut pairs = pairs_of(source, outputs, workers).await?;
        for group in &export.groups {
            add_empty_kind(group, &mut pairs);
        }
        known.insert(export.title.clone(), pairs);
    }
    Ok(())
}

fn outputs_of(export: &Export, objects: &BTreeMap<String, ObjectInfo>) -> Vec<ObjectInfo> {
    let listed = export.objects().into_iter();
    let outputs = listed.filter(|object| object.role == EntryRole::Output);
    let outputs = outputs.filter_map(|object| objects.get(object.name));
    outputs.cloned().collect()
}

/// Adds the kind of a group of which nothing was exported: it is there all the same.
fn add_empty_kind(group: &ExportPart, pairs: &mut BTreeSet<KindRef>) {
    let is_found = |kind: &Kind| pairs.iter().any(|pair| pair.kind == *kind);
    if let Some(kind) = group.kind.clone().filter(|kind| !is_found(kind)) {
        // Of which namespace it is, nothing says: the default one stands for it.
        let namespace = group.namespace.clone().unwrap_or_default();
        pairs.insert(KindRef { namespace, kind });
    }
}

/// The pairs of the entities in outputs, read for nothing else. What is wrong with them shows when
/// they are packed.
async fn pairs_of(
    store: &Arc<dyn Store>,
    outputs: Vec<ObjectInfo>,
    workers: &Workers,
) -> Result<BTreeSet<KindRef>, PackError> {
    let sources: Vec<Source> = outputs.into_iter().map(Source::output).collect();
    let pieces = jobs_of_all(&sources).map(|(source, job)| async move {
        let (report, raw) = inspect_piece(store.as_ref(), source, job, workers).await?;
        Ok::<_, PackError>((job.last, source.content(), report, raw))
    });
    let mut pieces = stream::iter(pieces).buffered(workers.window(PIECE_FOOTPRINT_BYTES));
    let mut pairs = BTreeSet::new();
    let mut inspection = Inspector::default();
    while let Some((is_last, content, report, raw)) = pieces.try_next().await? {
        let add = move || inspection.update_without_digest(&raw, content, report);
        inspection = if content == ContentKind::GzippedEntities {
            Workers::run_blocking(add).await?
        } else {
            add()
        };
        if is_last {
            let found = std::mem::take(&mut inspection).finish();
            pairs.extend(found.scan.pairs.into_keys());
        }
    }
    Ok(pairs)
}

fn jobs_of_all(sources: &[Source]) -> impl Iterator<Item = (&Source, PieceJob)> {
    let sources = sources.iter().enumerate();
    sources.flat_map(|(index, source)| {
        let jobs = jobs_of(index, source.len(), Method::Deflate);
        jobs.map(move |job| (source, job))
    })
}

/// Reads a piece and inspects it on a worker; what a service gives damaged is read once more.
async fn inspect_piece(
    store: &dyn Store,
    source: &Source,
    job: PieceJob,
    workers: &Workers,
) -> Result<(PieceSummary, Bytes), PackError> {
    let inspected = inspect_once(store, source, job, workers).await?;
    if inspected.0.is_faulty() && store.is_remote() {
        return inspect_once(store, source, job, workers).await;
    }
    Ok(inspected)
}

async fn inspect_once(
    store: &dyn Store,
    source: &Source,
    job: PieceJob,
    workers: &Workers,
) -> Result<(PieceSummary, Bytes), PackError> {
    let content = source.content();
    let raw = read_piece(store, source.piece(&job)).await?;
    let inspected = workers.run(move || (inspect::piece(&raw, job.offset, content), raw));
    Ok(inspected.await?)
}

async fn read_piece(store: &dyn Store, piece: PieceBytes) -> Result<Bytes, PackError> {
    match piece {
        PieceBytes::InStore(part) => {
            let read = read_exact(store, &part.object, part.offset, part.len).await;
            read.map_err(PackError::reading)
        }
        PieceBytes::InMemory(bytes) => Ok(bytes),
    }
}
