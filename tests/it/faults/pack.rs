//! `pack` under every fault, into a folder and into a bucket, under a free name and over another
//! archive.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use bytes::Bytes;
use kindpack::archive::signed::{SignedArchiveError, check_signature};
use kindpack::encryption::{Identities, Recipients};
use kindpack::pack::ArchiveName;
use kindpack::progress::NoProgress;
use kindpack::signature::{PublicKey, SigningKey};
use kindpack::store::open_object;
use kindpack::verify::{VerifyScope, verify};
use kindpack::{PackRequest, pack};
use minisign::KeyPair;

use super::stage::{
    ARCHIVE, Place, SIDECAR, archive, block_on, other_archive, sidecar_of, source, workers,
};
use super::{Ended, Scene, every_fault, pairs_of_faults, run};
use crate::support::faults::store::FaultStore;
use crate::support::faults::{Call, Deed, Faults, Spot};

const ENCRYPTED_ARCHIVE: &str = "set.zip.age";
const ENCRYPTED_SIDECAR: &str = "set.zip.age.sha256";

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

/// The keys of encrypted packs: the same in all of them.
struct Keys {
    signing: SigningKey,
    public: PublicKey,
    recipients: Recipients,
    identities: Identities,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let secret = pair.sk.to_box(None).unwrap().into_string();
        let public = pair.pk.to_box().unwrap().into_string();
        let identity = Identity::generate();
        Keys {
            signing: SigningKey::parse(&secret, None).unwrap(),
            public: PublicKey::parse(&public).unwrap(),
            recipients: Recipients::new(vec![identity.to_public()]).unwrap(),
            identities: Identities::parse(identity.to_string().expose_secret()).unwrap(),
        }
    })
}

/// A pack that signs and encrypts. Each has other bytes.
struct EncryptedPack<const IS_BUCKET: bool>(Place);

impl<const IS_BUCKET: bool> EncryptedPack<IS_BUCKET> {
    /// What `verify` finds wrong with the archive that is there, and whether its signature is good.
    async fn wrong_contents(&self, is_done: bool) -> Vec<String> {
        let store = self.0.store();
        let object = store.stat(ENCRYPTED_ARCHIVE).await.unwrap();
        let mut flaws = Vec::new();
        let signed = check_signature(store.as_ref(), &object, &keys().public, &NoProgress).await;
        match signed {
            Ok(_) => {}
            Err(SignedArchiveError::Missing { .. }) if !is_done => {}
            Err(error) => flaws.push(format!("the signature: {error}")),
        }
        let (store, object) = open_object(store, object, Some(&keys().identities))
            .await
            .unwrap();
        let (title, scope, workers) = ("set".to_owned(), VerifyScope::Full, workers());
        let report = verify(store, object, title, scope, &workers, &NoProgress).await;
        flaws.extend(report.unwrap().problems);
        flaws
    }
}

impl<const IS_BUCKET: bool> Scene for EncryptedPack<IS_BUCKET> {
    // A signer waits in a thread of its own, and virtual time stands still as long as it does.
    const HAS_VIRTUAL_TIME: bool = false;

    fn new() -> Self {
        EncryptedPack(Place::new(IS_BUCKET))
    }

    fn copy(&self) -> Self {
        EncryptedPack(self.0.copy())
    }

    async fn run(&self, faults: &Faults) -> Ended {
        let source = FaultStore::wrap(source(IS_BUCKET), "source", faults);
        let dest = FaultStore::wrap(self.0.store(), "dest", faults);
        let name = ArchiveName::Explicit(ARCHIVE.to_owned());
        let request = PackRequest {
            signing_key: Some(keys().signing.clone()),
            recipients: Some(keys().recipients.clone()),
            ..PackRequest::default()
        };
        let workers = workers();
        let packed = pack(&source, &dest, name, &request, &workers, &NoProgress);
        Ended::new(faults.run(packed).await)
    }

    fn flaws(&self, ended: &Ended) -> Vec<String> {
        let objects = self.0.objects();
        let is_done = *ended == Ended::Done;
        let sidecar = objects.get(ENCRYPTED_SIDECAR);
        let Some(archive) = objects.get(ENCRYPTED_ARCHIVE) else {
            // A sidecar comes before the archive gets its name in a folder. A pack that is killed, or
            // can do nothing more, leaves it to the next one.
            let missing = is_done.then(|| "there is no archive".to_owned());
            return missing.into_iter().collect();
        };
        let mut flaws = block_on(self.wrong_contents(is_done));
        let line = sidecar_of(archive, ENCRYPTED_ARCHIVE);
        let is_wrong = match sidecar {
            Some(sidecar) => !sidecar.starts_with(line.as_bytes()),
            None => is_done,
        };
        flaws.extend(is_wrong.then(|| "the sidecar belongs to no archive".to_owned()));
        flaws
    }

    fn applies(spot: Spot, _: Deed) -> bool {
        // What is read goes the same way as without encryption.
        spot.place == "dest"
    }
}

#[test]
fn failed_encrypted_pack_leaves_no_sidecar() {
    for deed in [Deed::Fail, Deed::DiskFull, Deed::Deny] {
        let (scene, faults) = (EncryptedPack::<false>::new(), Faults::default());
        let (place, call) = ("dest", Call::Publish);
        // The first is the sidecar, the second the archive.
        faults.plan(Spot { place, call }, 1, deed);
        let ended = run(&scene, &faults);
        assert!(matches!(ended, Ended::Failed(..)), "{ended:?}");
        assert_eq!(scene.0.objects().len(), 0, "{deed:?}");
    }
}

#[test]
fn encrypted_pack_into_folder_survives_every_fault() {
    every_fault::<EncryptedPack<false>>();
}

#[test]
fn encrypted_pack_into_bucket_survives_every_fault() {
    every_fault::<EncryptedPack<true>>();
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
