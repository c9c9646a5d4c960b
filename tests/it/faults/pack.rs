//! `pack` under every fault, into a folder and into a bucket, under a free name and over another
//! archive.

use std::collections::BTreeMap;

use bytes::Bytes;
use kindpack::pack::ArchiveName;
use kindpack::progress::NoProgress;
use kindpack::{PackRequest, pack};

use super::stage::{ARCHIVE, Place, SIDECAR, archive, other_archive, sidecar_of, source, workers};
use super::{Ended, Scene, every_fault, pairs_of_faults};
use crate::support::faults::store::FaultStore;
use crate::support::faults::{Deed, Faults, Spot};

/// A pack of the exports.
struct Pack<const IS_BUCKET: bool, const OVERWRITES: bool>(Place);

impl<const IS_BUCKET: bool, const OVERWRITES: bool> Scene for Pack<IS_BUCKET, OVERWRITES> {
    fn new() -> Self {
        let dest = Place::new(IS_BUCKET);
        if OVERWRITES {
            let old = other_archive();
            dest.put(ARCHIVE, old.clone());
            dest.put(SIDECAR, sidecar_of(old, ARCHIVE));
        }
        Pack(dest)
    }

    fn copy(&self) -> Self {
        Pack(self.0.copy())
    }

    async fn run(&self, faults: &Faults) -> Ended {
        let source = FaultStore::wrap(source(IS_BUCKET), "source", faults);
        let dest = FaultStore::wrap(self.0.store(), "dest", faults);
        let name = ArchiveName::Explicit(ARCHIVE.to_owned());
        let request = PackRequest {
            overwrite: OVERWRITES,
            ..PackRequest::default()
        };
        let workers = workers();
        let packed = pack(&source, &dest, name, &request, &workers, &NoProgress);
        Ended::new(faults.run(packed).await)
    }

    fn flaws(&self, ended: &Ended) -> Vec<String> {
        let objects = self.0.objects();
        let mut flaws = strays(&objects);
        flaws.extend(wrong_archive(objects.get(ARCHIVE), OVERWRITES, ended));
        flaws.extend(wrong_sidecar(&objects, ended));
        flaws
    }

    fn applies(spot: Spot, deed: Deed) -> bool {
        // A folder keeps no checksum of an object, and metadata have none of their own.
        IS_BUCKET || spot.place != "source" || deed != Deed::FlipBit
    }
}

/// Objects that no pack makes.
fn strays(objects: &BTreeMap<String, Bytes>) -> Vec<String> {
    let names = objects.keys();
    let strays = names.filter(|name| ![ARCHIVE, SIDECAR].contains(&name.as_str()));
    strays.map(|name| format!("{name} is left")).collect()
}

fn wrong_archive(found: Option<&Bytes>, overwrites: bool, ended: &Ended) -> Option<String> {
    let is_right = match found {
        Some(found) if found == archive() => true,
        Some(found) if found == other_archive() => overwrites && *ended != Ended::Done,
        Some(_) => return Some("the archive is not whole".to_owned()),
        None => !overwrites && *ended != Ended::Done,
    };
    let is_there = found.is_some();
    (!is_right).then(|| format!("{ended:?}, and an archive is there: {is_there}"))
}

/// A sidecar that is there must be that of the archive.
fn wrong_sidecar(objects: &BTreeMap<String, Bytes>, ended: &Ended) -> Option<String> {
    let expected = objects.get(ARCHIVE).map(|it| sidecar_of(it, ARCHIVE));
    match objects.get(SIDECAR) {
        None => (*ended == Ended::Done).then(|| "there is no sidecar".to_owned()),
        Some(found) => {
            let is_wrong = expected.as_deref().map(str::as_bytes) != Some(found);
            is_wrong.then(|| "the sidecar belongs to no archive".to_owned())
        }
    }
}

#[test]
fn pack_into_bucket_survives_every_fault() {
    every_fault::<Pack<true, false>>();
}

#[test]
fn pack_into_folder_survives_every_fault() {
    every_fault::<Pack<false, false>>();
}

#[test]
fn overwriting_pack_into_bucket_survives_every_fault() {
    every_fault::<Pack<true, true>>();
}

#[test]
fn overwriting_pack_into_folder_survives_every_fault() {
    every_fault::<Pack<false, true>>();
}

#[test]
fn pack_survives_pairs_of_faults() {
    pairs_of_faults::<Pack<true, false>>(100);
    pairs_of_faults::<Pack<true, true>>(100);
}
