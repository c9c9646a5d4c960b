//! The SHA-256 of a whole object, such as an archive.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, pin_mut, stream};
use sha2::Digest as _;

use crate::model::{PIECE_LEN_BYTES, Sha256};
use crate::runtime::workers::Workers;
use crate::store::{ObjectInfo, Store, StoreError, read_exact};

/// Pieces of an object that are read at once for its digest.
pub const READS_PER_DIGEST: u64 = 2;

/// SHA-256 of a whole object as it is stored, read piece by piece. What differs from the store's own checksum is
/// read once more.
///
/// # Errors
/// What the store says; [`StoreError::Corrupt`] where its checksum still differs.
pub async fn digest_of(store: &dyn Store, object: &ObjectInfo) -> Result<Sha256, StoreError> {
    let (store, object) = store.stored_form(object).unwrap_or((store, object));
    let (sha256, found) = digests_of(store, object).await?;
    let Some(expected) = object.crc32c.filter(|expected| *expected != found) else {
        return Ok(sha256);
    };
    match digests_of(store, object).await? {
        (sha256, found) if found == expected => Ok(sha256),
        (_, found) => Err(StoreError::Corrupt {
            name: store.display_name(&object.name),
            expected,
            found,
        }),
    }
}

/// SHA-256 and CRC-32C of a whole object.
async fn digests_of(store: &dyn Store, object: &ObjectInfo) -> Result<(Sha256, u32), StoreError> {
    let (mut sha256, mut crc32c) = (sha2::Sha256::new(), 0);
    let reads = read_in_order(store, object);
    pin_mut!(reads);
    while let Some(bytes) = reads.try_next().await? {
        let hashed = Workers::run_blocking(move || {
            (
                sha256.chain_update(&bytes),
                crc32c::crc32c_append(crc32c, &bytes),
            )
        });
        (sha256, crc32c) = hashed.await.map_err(|lost| StoreError::Io {
            name: object.name.clone(),
            deed: "hashing",
            source: io::Error::other(lost),
        })?;
    }
    Ok((Sha256(sha256.finalize().into()), crc32c))
}

/// All bytes of an object, piece by piece, a few of them ahead.
pub(super) fn read_in_order<'a>(
    store: &'a dyn Store,
    object: &'a ObjectInfo,
) -> impl Stream<Item = Result<Bytes, StoreError>> + 'a {
    let reads = (0..object.len.div_ceil(PIECE_LEN_BYTES as u64)).map(move |number| {
        let offset = number * PIECE_LEN_BYTES as u64;
        let len = (object.len - offset).min(PIECE_LEN_BYTES as u64);
        read_exact(store, object, offset, len as usize)
    });
    stream::iter(reads).buffered(READS_PER_DIGEST as usize)
}
