//! The signature beside an archive, checked against the archive's bytes.
//!
//! Knows stores and signatures. The archive is not opened: nothing of it is believed before its
//! signature is good.

use futures_util::{TryStreamExt as _, pin_mut};

use super::digest::read_in_order;
use crate::progress::Observer;
use crate::signature::{
    GoodSignature, MAX_SIGNATURE_BYTES, PublicKey, SIGNATURE_SUFFIX, Signature, SignatureCheck,
    SignatureError, Signer, SigningKey,
};
use crate::store::{ObjectInfo, Store, StoreError, read_exact};

/// Why no good signature by a key is beside an archive.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum SignedArchiveError {
    /// There is none.
    #[error("{signature} is missing")]
    Missing {
        /// The object that should hold it.
        signature: String,
    },
    /// There is another one.
    #[error("{signature}: {error}")]
    Bad {
        /// The object that holds it.
        signature: String,
        /// What is wrong with it.
        error: SignatureError,
    },
    /// It or the archive cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The name of an archive's signature.
pub fn signature_name(archive: &str) -> String {
    format!("{archive}{SIGNATURE_SUFFIX}")
}

/// Reads all of an archive and checks the signature beside it.
///
/// # Errors
/// [`SignedArchiveError`] where there is no good signature by that key.
pub async fn check_signature(
    store: &dyn Store,
    archive: &ObjectInfo,
    key: &PublicKey,
    observer: &dyn Observer,
) -> Result<GoodSignature, SignedArchiveError> {
    let (store, archive) = store.stored_form(archive).unwrap_or((store, archive));
    let name = signature_name(&archive.name);
    let text = read_signature(store, &name).await?;
    let bad = |error| SignedArchiveError::Bad {
        signature: store.display_name(&name),
        error,
    };
    let signature = Signature::parse(&text).map_err(bad)?;
    observer.start_phase("checking the signature", archive.len);
    let checked = check_bytes(store, archive, key, signature.clone(), observer).await?;
    match checked {
        // Bytes may have been damaged on their way.
        Err(SignatureError::Mismatch(_)) if store.is_remote() => {
            let again = check_bytes(store, archive, key, signature, observer).await?;
            again.map_err(bad)
        }
        checked => checked.map_err(bad),
    }
}

/// Reads all of an archive and signs it; none where it cannot be signed.
///
/// # Errors
/// What the store says.
pub async fn sign(
    store: &dyn Store,
    archive: &ObjectInfo,
    key: &SigningKey,
    trusted_comment: String,
) -> Result<Option<String>, StoreError> {
    let signer = Signer::start(key, trusted_comment);
    let reads = read_in_order(store, archive);
    pin_mut!(reads);
    while let Some(bytes) = reads.try_next().await? {
        signer.push(bytes).await;
    }
    Ok(signer.finish().await.unwrap_or_default())
}

async fn check_bytes(
    store: &dyn Store,
    archive: &ObjectInfo,
    key: &PublicKey,
    signature: Signature,
    observer: &dyn Observer,
) -> Result<Result<GoodSignature, SignatureError>, StoreError> {
    let check = match SignatureCheck::start(key, signature) {
        Ok(check) => check,
        Err(error) => return Ok(Err(error)),
    };
    let reads = read_in_order(store, archive);
    pin_mut!(reads);
    while let Some(bytes) = reads.try_next().await? {
        let len = bytes.len() as u64;
        check.push(bytes).await;
        observer.advance(len, 0);
    }
    Ok(check.finish().await)
}

/// The text of a signature. What is too long for one is cut, and so is none.
async fn read_signature(store: &dyn Store, name: &str) -> Result<String, SignedArchiveError> {
    let object = store.stat(name).await.map_err(|error| match error {
        StoreError::NotFound { .. } => SignedArchiveError::Missing {
            signature: store.display_name(name),
        },
        error => SignedArchiveError::Store(error),
    })?;
    let len = object.len.min(MAX_SIGNATURE_BYTES);
    let bytes = read_exact(store, &object, 0, len as usize).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
