//! `prune` under every fault.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use kindpack::cli::Failure;
use kindpack::model::KindRef;
use kindpack::pack::ArchiveName;
use kindpack::progress::NoProgress;
use kindpack::prune::{KeepPolicy, PrunePlan};
use kindpack::store::DirStore;
use kindpack::{PackRequest, Store, pack};

use super::stage::{Place, block_on, workers};
use super::{Ended, Scene, every_fault, pairs_of_faults};
use crate::support::data::{Made, STARTED_MICROS, made, write_export};
use crate::support::faults::Faults;
use crate::support::faults::store::FaultStore;
use crate::support::memory_store::MemoryStore;

const DAY_MICROS: i64 = 86_400_000_000;

/// Archives; the last one stays.
const NIGHTS: i64 = 3;

/// A file that is no archive's.
const STRANGER: &str = "notes.txt";

/// A prune of a few nights.
struct Prune<const IS_BUCKET: bool>(Place);

/// The archives of some nights with sidecars and signatures.
fn vault() -> &'static BTreeMap<String, Bytes> {
    static VAULT: OnceLock<BTreeMap<String, Bytes>> = OnceLock::new();
    VAULT.get_or_init(|| {
        let memory = MemoryStore::default();
        (0..NIGHTS).for_each(|night| pack_night(&memory, night));
        let mut objects = memory.objects();
        let archives: Vec<String> = objects.keys().filter(is_archive).cloned().collect();
        for name in archives {
            objects.insert(format!("{name}.minisig"), "signature".into());
        }
        objects.insert(STRANGER.to_owned(), "notes".into());
        objects
    })
}

fn is_archive(name: &&String) -> bool {
    name.ends_with(".zip")
}

fn pack_night(memory: &MemoryStore, night: i64) {
    let folder = tempfile::tempdir().unwrap();
    let records: Vec<Vec<u8>> = made("shop", "acme", "User", 1, 10)
        .iter()
        .map(Made::record)
        .collect();
    let started = STARTED_MICROS + night * DAY_MICROS;
    let pair = KindRef::new("acme", "User");
    write_export(folder.path(), &pair, started, &records, 1);
    let source: Arc<dyn Store> = Arc::new(DirStore::new(folder.path()));
    let dest: Arc<dyn Store> = Arc::new(memory.clone());
    let (request, workers) = (PackRequest::default(), workers());
    let name = ArchiveName::Automatic;
    let packed = pack(&source, &dest, name, &request, &workers, &NoProgress);
    block_on(packed).unwrap();
}

/// The names that stay.
fn kept() -> BTreeSet<&'static String> {
    let newest = vault().keys().rfind(is_archive).unwrap();
    let stays = |name: &&String| *name == STRANGER || name.starts_with(newest.as_str());
    vault().keys().filter(stays).collect()
}

async fn prune(store: Arc<dyn Store>) -> Result<(), Failure> {
    let policy = KeepPolicy {
        last: Some(NonZeroU32::MIN),
        ..KeepPolicy::default()
    };
    let plan = PrunePlan::new(&store, &policy, None, None).await?;
    let verified = plan.verify_kept(&workers(), &NoProgress).await?;
    verified.remove(&NoProgress).await?;
    Ok(())
}

impl<const IS_BUCKET: bool> Scene for Prune<IS_BUCKET> {
    fn new() -> Self {
        let place = Place::new(IS_BUCKET);
        for (name, bytes) in vault() {
            place.put(name, bytes.clone());
        }
        Prune(place)
    }

    fn copy(&self) -> Self {
        Prune(self.0.copy())
    }

    async fn run(&self, faults: &Faults) -> Ended {
        let pruned = prune(FaultStore::wrap(self.0.store(), "vault", faults));
        Ended::new(faults.run(pruned).await)
    }

    fn flaws(&self, _: &Ended) -> Vec<String> {
        let found = self.0.objects();
        let mut flaws = Vec::new();
        let lost = kept().into_iter().filter(|name| !found.contains_key(*name));
        flaws.extend(lost.map(|name| format!("{name} is gone")));
        let changed = found
            .iter()
            .filter(|(name, it)| vault().get(*name) != Some(it));
        flaws.extend(changed.map(|(name, _)| format!("{name} has other bytes")));
        flaws
    }

    fn unfinished(&self) -> Vec<String> {
        let found = self.0.objects();
        let left = found.keys().filter(|name| !kept().contains(name));
        left.map(|name| format!("{name} is left")).collect()
    }
}

#[test]
fn prune_of_bucket_survives_every_fault() {
    every_fault::<Prune<true>>();
}

#[test]
fn prune_of_folder_survives_every_fault() {
    every_fault::<Prune<false>>();
}

#[test]
fn prune_survives_pairs_of_faults() {
    pairs_of_faults::<Prune<true>>(100);
}
