//! Every small damage to an archive, one after the other and in process: nothing passes `verify`,
//! and nothing wrong is ever extracted.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kindpack::extract::{ExtractFormat, extract};
use kindpack::pack::ArchiveName;
use kindpack::progress::NoProgress;
use kindpack::runtime::workers::Workers;
use kindpack::store::DirStore;
use kindpack::verify::{VerifyScope, verify};
use kindpack::{Archive, PackRequest, Store, pack};

use crate::support::fixtures::shop;
use crate::support::memory_store::MemoryStore;

/// An export of a few entities, so that all of its damages are tried in seconds.
const EXPORT: &str = "lyon/Category";

const NAME: &str = "set.zip";

/// The archive of one export.
async fn archive() -> Bytes {
    let source: Arc<dyn Store> = Arc::new(DirStore::new(shop().join(EXPORT)));
    let memory = Arc::new(MemoryStore::default());
    let dest: Arc<dyn Store> = memory.clone();
    let name = ArchiveName::Explicit(NAME.to_owned());
    let (request, workers) = (PackRequest::default(), workers());
    let packed = pack(&source, &dest, name, &request, &workers, &NoProgress);
    packed.await.unwrap();
    memory.objects()[NAME].clone()
}

fn workers() -> Workers {
    Workers::new(1, 64 << 20)
}

/// All that `verify` finds wrong.
async fn problems(bytes: Bytes) -> Vec<String> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::with(NAME, bytes));
    let object = store.stat(NAME).await.unwrap();
    let (scope, workers) = (VerifyScope::Full, workers());
    let verified = verify(store, object, NAME.to_owned(), scope, &workers, &NoProgress);
    verified.await.unwrap().problems
}

/// What `extract` writes, where it ends well.
async fn extracted(bytes: Bytes) -> Option<BTreeMap<String, Bytes>> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::with(NAME, bytes));
    let object = store.stat(NAME).await.unwrap();
    let archive = Archive::open(store, object, NAME.to_owned()).await.ok()?;
    let (archive, dest) = (Arc::new(archive), MemoryStore::default());
    let (form, workers) = (ExtractFormat::Original, workers());
    let extracted = extract(&archive, &dest, &[], form, &workers, &NoProgress);
    extracted.await.ok()?;
    Some(dest.objects())
}

/// Looks at what comes of each damaged archive.
async fn assert_found(ways: impl Iterator<Item = (String, Bytes)>) {
    let whole = extracted(archive().await).await.unwrap();
    for (what, damaged) in ways {
        assert_ne!(problems(damaged.clone()).await, [""; 0], "{what}");
        if let Some(objects) = extracted(damaged).await {
            assert!(objects == whole, "{what}: wrong bytes were extracted");
        }
    }
}

#[tokio::test]
async fn every_flipped_bit_is_found() {
    let whole = archive().await;
    assert_eq!(problems(whole.clone()).await, [""; 0]);
    let flip = |bit: usize| {
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        (format!("bit {bit}"), bytes.into())
    };
    assert_found((0..whole.len() * 8).map(flip)).await;
}

#[tokio::test]
async fn every_cut_is_found() {
    let whole = archive().await;
    let cut = |len: usize| (format!("{len} bytes left"), whole.slice(..len));
    assert_found((0..whole.len()).map(cut)).await;
}

#[tokio::test]
async fn every_inserted_byte_is_found() {
    let whole = archive().await;
    let insert = |at: usize| {
        let (before, after) = whole.split_at(at);
        // A byte that repeats its neighbour is the hardest to see.
        let byte = before.last().copied().unwrap_or_default();
        let bytes = [before, &[byte], after].concat();
        (format!("{byte} before byte {at}"), bytes.into())
    };
    assert_found((0..=whole.len()).map(insert)).await;
}

#[tokio::test]
async fn every_deleted_byte_is_found() {
    let whole = archive().await;
    let delete = |at: usize| {
        let bytes = [&whole[..at], &whole[at + 1..]].concat();
        (format!("without byte {at}"), bytes.into())
    };
    assert_found((0..whole.len()).map(delete)).await;
}
