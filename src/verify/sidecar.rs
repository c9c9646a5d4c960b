//! The digest of the whole archive, compared with its sidecar and with what its object says.

use sha2::Digest as _;

use super::error::VerifyError;
use crate::archive::checksums::{self, SHA256_ATTRIBUTE};
use crate::archive::{Archive, Container, RawBytes, digest_of};
use crate::export::discover::METADATA_MAX_BYTES;
use crate::model::Sha256;
use crate::runtime::workers::{InOrder, WorkerPanicked};
use crate::store::{Store, StoreError, read_object};

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
        let Some(stored) =
            stored.filter(|stored| stored.offset == self.next_offset && !self.has_gap)
        else {
            self.has_gap = true;
            return Ok(());
        };
        self.next_offset += stored.bytes.len() as u64;
        if stored.bytes.len() > HASHED_AT_ONCE_BYTES {
            return self
                .sha256
                .enqueue(move |sha256| sha256.chain_update(&stored.bytes))
                .await;
        }
        self.sha256 = InOrder::Ready(self.sha256.join().await?.chain_update(&stored.bytes));
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
        if let Some(attribute) = container.object().attributes.get(SHA256_ATTRIBUTE) {
            match attribute.parse() {
                Ok(sha256) => expected.digests.push(("its metadata", sha256)),
                Err(_) => expected.problems.push(format!(
                    "{}: {SHA256_ATTRIBUTE} in its metadata is not a SHA-256",
                    container.title()
                )),
            }
        }
        match read_sidecar(container).await? {
            Some(Ok(sha256)) => expected.digests.push(("its sidecar", sha256)),
            Some(Err(found)) => expected.problems.push(format!(
                "{}.sha256: expected one line of sha256sum, found {found}",
                container.title()
            )),
            None => {}
        }
        Ok(expected)
    }

    /// Whether there is no digest to compare with.
    pub(super) fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Compares the whole archive with what is said of it.
    pub(super) async fn check(
        self,
        archive: &Archive,
        digest: ArchiveDigest,
    ) -> Result<Vec<String>, VerifyError> {
        let ExpectedDigests {
            digests,
            mut problems,
        } = self;
        if digests.is_empty() {
            return Ok(problems);
        }
        let container = archive.container();
        let read = || async {
            digest_of(container.store().as_ref(), container.object())
                .await
                .map_err(VerifyError::Store)
        };
        let found = match digest.finish(container).await? {
            // A byte that was damaged on its way may stand where it is compared with nothing else.
            Some(found)
                if container.store().is_remote()
                    && digests.iter().any(|(_, expected)| *expected != found) =>
            {
                read().await?
            }
            Some(found) => found,
            None => read().await?,
        };
        let wrong = digests
            .into_iter()
            .filter(|(_, expected)| *expected != found);
        problems.extend(wrong.map(|(who, expected)| {
            format!(
                "{}: expected sha256 {expected}, as {who} says, found {found}",
                container.title()
            )
        }));
        Ok(problems)
    }
}

/// The digest in the sidecar, or what is there instead; `None` where there is no sidecar.
async fn read_sidecar(
    container: &Container,
) -> Result<Option<Result<Sha256, &'static str>>, StoreError> {
    let store: &dyn Store = container.store().as_ref();
    let name = format!("{}.sha256", container.object().name);
    let object = match store.stat(&name).await {
        Ok(object) => object,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if object.len > METADATA_MAX_BYTES {
        return Ok(Some(Err("a large object")));
    }
    let bytes = read_object(store, &object).await?;
    let first = checksums::parse_first(&String::from_utf8_lossy(&bytes));
    Ok(Some(match first {
        Some((sha256, _)) => Ok(sha256),
        None => Err("something else"),
    }))
}
