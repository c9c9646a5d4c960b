//! The digest of the whole archive, compared with its sidecar and with what its object says.

use bytes::Bytes;
use sha2::Digest as _;

use super::error::VerifyError;
use crate::archive::checksums::{self, SHA256_ATTRIBUTE};
use crate::archive::{Archive, Container, RawBytes, digest_of};
use crate::export::discover::MAX_METADATA_BYTES;
use crate::model::Sha256;
use crate::runtime::workers::{InOrder, WorkerPanicked};
use crate::store::{ObjectInfo, Store, StoreError, read_object};

/// SHA-256 of the whole archive, made while its entries are read in order.
#[derive(Default)]
pub(super) struct ArchiveDigest {
    sha256: InOrder<sha2::Sha256>,
    next_offset: u64,
    /// Whether some bytes were not seen.
    has_gap: bool,
}

/// What is hashed sooner than handed to another thread.
const HASHED_AT_ONCE_BYTES: usize = 64 << 10;

impl ArchiveDigest {
    pub(super) async fn push(&mut self, stored: Option<RawBytes>) -> Result<(), WorkerPanicked> {
        match stored {
            Some(stored) if stored.offset == self.next_offset && !self.has_gap => {
                self.add(stored.bytes).await
            }
            _ => {
                self.has_gap = true;
                Ok(())
            }
        }
    }

    async fn add(&mut self, bytes: Bytes) -> Result<(), WorkerPanicked> {
        self.next_offset += bytes.len() as u64;
        let is_long = bytes.len() > HASHED_AT_ONCE_BYTES;
        let add = move |sha256: sha2::Sha256| sha256.chain_update(&bytes);
        if is_long {
            return self.sha256.enqueue(add).await;
        }
        self.sha256 = InOrder::Ready(add(self.sha256.join().await?));
        Ok(())
    }

    /// The digest, the archive's end included; none where anything was not read.
    pub(super) async fn finish(
        mut self,
        container: &Container,
    ) -> Result<Option<Sha256>, VerifyError> {
        let mut sha256 = self.sha256.join().await?;
        if self.has_gap {
            return Ok(None);
        }
        container
            .read_from(self.next_offset, |rest| sha256.update(&rest))
            .await
            .map_err(VerifyError::Store)?;
        Ok(Some(Sha256(sha256.finalize().into())))
    }
}

/// What is said of an archive's bytes beside the archive.
#[derive(Default)]
pub(super) struct ExpectedDigests {
    /// Who says it, and the SHA-256 that the archive should have.
    digests: Vec<(&'static str, Sha256)>,
    problems: Vec<String>,
}

impl ExpectedDigests {
    /// Reads the digest in the object's attributes and the one in the sidecar.
    pub(super) async fn read(archive: &Archive) -> Result<Self, StoreError> {
        let container = archive.container();
        let mut expected = ExpectedDigests::default();
        expected.add_attribute(container);
        if let Some(sidecar) = read_sidecar(container).await? {
            expected.add_sidecar(sidecar, container.title());
        }
        Ok(expected)
    }

    fn add_attribute(&mut self, container: &Container) {
        let Some(attribute) = container.object().attributes.get(SHA256_ATTRIBUTE) else {
            return;
        };
        match attribute.parse() {
            Ok(sha256) => self.digests.push(("its metadata", sha256)),
            Err(_) => self.problems.push(format!(
                "{}: {SHA256_ATTRIBUTE} in its metadata is not a SHA-256",
                container.title()
            )),
        }
    }

    fn add_sidecar(&mut self, sidecar: Result<Sha256, &'static str>, title: &str) {
        match sidecar {
            Ok(sha256) => self.digests.push(("its sidecar", sha256)),
            Err(found) => self.problems.push(format!(
                "{title}.sha256: it {found}, not a line of sha256sum"
            )),
        }
    }

    /// Whether there is no digest to compare with.
    pub(super) fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// The digest of the whole archive, where there is one to compare it with.
    pub(super) async fn find(
        &self,
        container: &Container,
        digest: ArchiveDigest,
    ) -> Result<Option<Sha256>, VerifyError> {
        if self.is_empty() {
            return Ok(None);
        }
        found_digest(&self.digests, container, digest)
            .await
            .map(Some)
    }

    /// Compares the digest that was found with what is said of the archive.
    pub(super) fn check(self, title: &str, found: Option<Sha256>) -> Vec<String> {
        let mut problems = self.problems;
        if let Some(found) = found {
            let wrong = self
                .digests
                .into_iter()
                .filter(|(_, sha256)| *sha256 != found);
            problems.extend(wrong.map(|(who, expected)| {
                format!("{title}: expected sha256 {expected} as in {who}, found {found}")
            }));
        }
        problems
    }
}

/// The digest in the sidecar, or what is there instead; `None` where there is no sidecar.
async fn read_sidecar(
    container: &Container,
) -> Result<Option<Result<Sha256, &'static str>>, StoreError> {
    let store: &dyn Store = container.store().as_ref();
    let name = format!("{}.sha256", container.object().name);
    match store.stat(&name).await {
        Ok(object) if object.len > MAX_METADATA_BYTES => Ok(Some(Err("is a large object"))),
        Ok(object) => read_digest(store, &object).await.map(Some),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn read_digest(
    store: &dyn Store,
    sidecar: &ObjectInfo,
) -> Result<Result<Sha256, &'static str>, StoreError> {
    let bytes = read_object(store, sidecar).await?;
    let first = checksums::parse_first(&String::from_utf8_lossy(&bytes));
    Ok(first
        .map(|(sha256, _)| sha256)
        .ok_or("holds something else"))
}

/// Whether an archive is stored encrypted.
pub(super) fn is_decrypted(container: &Container) -> bool {
    container.store().stored_form(container.object()).is_some()
}

/// The digest of the archive, read anew where what was seen of it does not suffice.
async fn found_digest(
    expected: &[(&'static str, Sha256)],
    container: &Container,
    digest: ArchiveDigest,
) -> Result<Sha256, VerifyError> {
    let is_remote = container.store().is_remote();
    if is_decrypted(container) {
        let digest = digest_of(container.store().as_ref(), container.object());
        return digest.await.map_err(VerifyError::Store);
    }
    let is_wrong = |found| expected.iter().any(|(_, expected)| *expected != found);
    match digest.finish(container).await? {
        // A byte that was damaged on its way may stand where it is compared with nothing else.
        Some(found) if !(is_remote && is_wrong(found)) => Ok(found),
        _ => digest_of(container.store().as_ref(), container.object())
            .await
            .map_err(VerifyError::Store),
    }
}
