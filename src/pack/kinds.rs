//! The kinds of exports whose metadata do not declare them, found by reading their data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::error::PackError;
use super::pipeline::PIECE_FOOTPRINT_BYTES;
use super::select::KnownKinds;
use super::source::{PieceBytes, PieceJob, Source, jobs_of};
use crate::export::discover::Export;
use crate::export::inspect::{self, ContentKind, Inspector, PieceSummary};
use crate::model::{EntryRole, KindRef, Method};
use crate::runtime::workers::Workers;
use crate::store::{ObjectInfo, Store};

/// Reads the data of exports that leave kind or namespace open, once.
pub(super) async fn read_kinds(
    source: &Arc<dyn Store>,
    objects: &BTreeMap<String, ObjectInfo>,
    exports: &[&Export],
    workers: &Workers,
    known: &mut KnownKinds,
) -> Result<(), PackError> {
    for export in exports {
        let outputs = export
            .objects()
            .into_iter()
            .filter(|object| object.role == EntryRole::Output);
        let outputs: Vec<ObjectInfo> = outputs
            .filter_map(|object| objects.get(object.name))
            .cloned()
            .collect();
        let mut pairs = pairs_of(source, outputs, workers).await?;
        // A kind of which nothing was exported is there all the same.
        for group in &export.groups {
            if let Some(kind) = group
                .kind
                .as_ref()
                .filter(|kind| !pairs.iter().any(|pair| pair.kind == **kind))
                .cloned()
            {
                // Of which namespace it is, nothing says: the default one stands for it.
                let namespace = group.namespace.clone().unwrap_or_default();
                pairs.insert(KindRef { namespace, kind });
            }
        }
        known.insert(export.title.clone(), pairs);
    }
    Ok(())
}

/// The pairs of the entities in outputs, read for nothing else. What is wrong with them shows when
/// they are packed.
async fn pairs_of(
    store: &Arc<dyn Store>,
    outputs: Vec<ObjectInfo>,
    workers: &Workers,
) -> Result<BTreeSet<KindRef>, PackError> {
    let source = |object| {
        Source::object(
            object,
            None,
            String::new(),
            EntryRole::Output,
            None,
            Method::Deflate,
        )
    };
    let sources: Vec<Source> = outputs.into_iter().map(source).collect();
    let jobs = sources.iter().enumerate().flat_map(|(index, source)| {
        let jobs = jobs_of(index, source.len(), Method::Deflate);
        jobs.map(move |job| (source, job))
    });
    let pieces = jobs.map(|(source, job)| async move {
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

/// Reads a piece and inspects it on a worker; what a service gives damaged is read once more.
async fn inspect_piece(
    store: &dyn Store,
    source: &Source,
    job: PieceJob,
    workers: &Workers,
) -> Result<(PieceSummary, Bytes), PackError> {
    let content = source.content();
    let inspect_once = || async {
        let raw = match source.piece(&job) {
            PieceBytes::InStore(part) => store
                .read(&part.object, part.offset, part.len)
                .await
                .map_err(PackError::reading)?,
            PieceBytes::InMemory(bytes) => bytes,
        };
        let inspected = workers.run(move || (inspect::piece(&raw, job.offset, content), raw));
        Ok::<_, PackError>(inspected.await?)
    };
    let inspected = inspect_once().await?;
    if inspected.0.is_faulty() && store.is_remote() {
        return inspect_once().await;
    }
    Ok(inspected)
}
