//! `extract` under every fault, into a folder and into a bucket.

use std::sync::Arc;

use kindpack::cli::Failure;
use kindpack::extract::{ExtractFormat, extract};
use kindpack::progress::NoProgress;
use kindpack::{Archive, Store};

use super::stage::{ARCHIVE, Place, archive, exported, workers};
use super::{Ended, Scene, every_fault, pairs_of_faults};
use crate::support::faults::Faults;
use crate::support::faults::store::FaultStore;
use crate::support::memory_store::MemoryStore;

/// An extract of the archive.
struct Extract<const IS_BUCKET: bool>(Place);

/// The archive as a bucket or a folder holds it.
pub fn archive_store(is_bucket: bool) -> Arc<dyn Store> {
    let store = match is_bucket {
        true => MemoryStore::bucket(),
        false => MemoryStore::default(),
    };
    store.put(ARCHIVE, archive().clone());
    Arc::new(store)
}

/// Opens the archive behind planned faults.
pub async fn open_archive(is_bucket: bool, faults: &Faults) -> Result<Arc<Archive>, Failure> {
    let store = FaultStore::wrap(archive_store(is_bucket), "archive", faults);
    let object = store.stat(ARCHIVE).await;
    let object = object.map_err(Failure::from_archive_store)?;
    let archive = Archive::open(store, object, ARCHIVE.to_owned()).await;
    Ok(Arc::new(archive?))
}

async fn extract_all(
    is_bucket: bool,
    dest: Arc<dyn Store>,
    faults: &Faults,
) -> Result<(), Failure> {
    let archive = open_archive(is_bucket, faults).await?;
    let dest = FaultStore::wrap(dest, "dest", faults);
    let (form, workers) = (ExtractFormat::Original, workers());
    let extracted = extract(&archive, dest.as_ref(), &[], form, &workers, &NoProgress);
    extracted.await?;
    Ok(())
}

impl<const IS_BUCKET: bool> Scene for Extract<IS_BUCKET> {
    fn new() -> Self {
        // It is packed in a runtime of its own, once.
        archive();
        Extract(Place::new(IS_BUCKET))
    }

    fn copy(&self) -> Self {
        Extract(self.0.copy())
    }

    async fn run(&self, faults: &Faults) -> Ended {
        let extracted = extract_all(IS_BUCKET, self.0.store(), faults);
        Ended::new(faults.run(extracted).await)
    }

    fn flaws(&self, ended: &Ended) -> Vec<String> {
        let found = self.0.objects();
        let whole = exported();
        let other = found
            .iter()
            .filter(|(name, it)| whole.get(*name) != Some(it));
        let mut flaws: Vec<String> = other
            .map(|(name, _)| format!("{name} is not whole"))
            .collect();
        let is_missing = *ended == Ended::Done && found.len() < whole.len();
        flaws.extend(is_missing.then(|| "something is missing".to_owned()));
        let marks = found
            .keys()
            .filter(|name| name.ends_with("overall_export_metadata"));
        let has_all_data = |mark: &str| {
            let folder = mark.rsplit_once('/').map_or("", |(folder, _)| folder);
            let names = whole.keys().filter(|name| name.starts_with(folder));
            names.into_iter().all(|name| found.contains_key(name))
        };
        let early = marks.filter(|mark| !has_all_data(mark));
        flaws.extend(early.map(|mark| format!("{mark} is there before its data")));
        flaws
    }
}

#[test]
fn extract_into_bucket_survives_every_fault() {
    every_fault::<Extract<true>>();
}

#[test]
fn extract_into_folder_survives_every_fault() {
    every_fault::<Extract<false>>();
}

#[test]
fn extract_survives_pairs_of_faults() {
    pairs_of_faults::<Extract<true>>(100);
    pairs_of_faults::<Extract<false>>(40);
}
