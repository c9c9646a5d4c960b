//! Signatures in the form of minisign: the owner of a secret key signs bytes, and anybody with
//! the public key checks them.
//!
//! Knows bytes, not archives or stores. Only prehashed signatures are made and accepted: bytes of any
//! length are hashed as they come. Nothing here prints a secret key or asks for a password.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use minisign::{PublicKeyBox, SecretKey, SecretKeyBox, SignatureBox};

use crate::runtime::feed::ByteFeed;
use crate::runtime::workers::WorkerPanicked;

/// What the name of a signature ends in.
pub const SIGNATURE_SUFFIX: &str = ".minisig";

/// Signatures and keys longer than this are none.
pub const MAX_SIGNATURE_BYTES: u64 = 16 << 10;

/// The comment that nobody trusts.
const UNTRUSTED_COMMENT: &str = "signature from kindpack";

/// Lengths of what stands in base64: a signature with its algorithm and key, and a bare one.
const SIGNATURE_LEN_BYTES: usize = 74;
const BARE_SIGNATURE_LEN_BYTES: usize = 64;

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum KeyError {
    /// It is something else.
    #[error("the file is not a minisign secret key")]
    NotASecretKey,
    /// It is something else.
    #[error("the file is not a minisign public key")]
    NotAPublicKey,
    /// No password is given for a key that needs one.
    #[error("a password protects the secret key")]
    PasswordRequired,
    /// The password is that of another key.
    #[error("the password does not open the secret key")]
    WrongPassword,
}

/// Why a signature is not good.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum SignatureError {
    /// It is something else.
    #[error("it is not a minisign signature")]
    Malformed,
    /// It is of the old form, for which everything would have to be in memory at once.
    #[error("it is of the legacy form, which is not prehashed")]
    Legacy,
    /// Another key made it.
    #[error("expected a signature by key {expected}, found one by key {found}")]
    OtherKey {
        /// The key that is trusted.
        expected: KeyId,
        /// The key that signed.
        found: KeyId,
    },
    /// It is one of other bytes, or was changed.
    #[error("it is not a signature of these bytes by key {0}")]
    Mismatch(KeyId),
    /// A fault of kindpack's own.
    #[error(transparent)]
    Worker(#[from] WorkerPanicked),
}

/// The number of a key, as minisign prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId(u64);

impl KeyId {
    fn from_bytes(bytes: &[u8]) -> Self {
        let id = bytes.iter().rev();
        KeyId(id.fold(0, |id, byte| id << 8 | u64::from(*byte)))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

/// A secret key, ready to sign.
#[derive(Clone)]
pub struct SigningKey(Arc<SecretKey>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id())
    }
}

impl SigningKey {
    /// Reads the file of a secret key. A key that a password protects takes some seconds.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str, password: Option<&str>) -> Result<Self, KeyError> {
        let bytes = text.lines().nth(1).map(decode).unwrap_or_default();
        let key = SecretKey::from_bytes(&bytes).map_err(|_| KeyError::NotASecretKey)?;
        let key = match (key.is_encrypted(), password) {
            (true, None) => return Err(KeyError::PasswordRequired),
            (true, Some(password)) => open_key(text, password)?,
            (false, _) => key,
        };
        check_pair(&key)?;
        Ok(SigningKey(Arc::new(key)))
    }

    /// The key's number.
    pub fn id(&self) -> KeyId {
        KeyId::from_bytes(self.0.keynum())
    }

    /// The public key of it.
    ///
    /// # Errors
    /// [`KeyError::NotASecretKey`] where it holds none.
    pub fn public_key(&self) -> Result<PublicKey, KeyError> {
        let key = minisign::PublicKey::from_secret_key(&self.0);
        key.map(PublicKey).map_err(|_| KeyError::NotASecretKey)
    }
}

/// Opens a key that a password protects.
fn open_key(text: &str, password: &str) -> Result<SecretKey, KeyError> {
    let key = SecretKeyBox::from(text.to_owned()).into_secret_key(Some(password.to_owned()));
    key.map_err(|_| KeyError::WrongPassword)
}

/// Signs nothing, and checks that: a key without a password has no checksum that could be trusted.
fn check_pair(key: &SecretKey) -> Result<(), KeyError> {
    let public = minisign::PublicKey::from_secret_key(key);
    let public = public.map_err(|_| KeyError::NotASecretKey)?;
    let signed = minisign::sign(Some(&public), key, std::io::empty(), None, None);
    signed.map(drop).map_err(|_| KeyError::NotASecretKey)
}

/// What a line of base64 holds; nothing where it is none.
fn decode(line: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(line.trim()).unwrap_or_default()
}

/// A public key, with which signatures are checked.
#[derive(Debug, Clone)]
pub struct PublicKey(minisign::PublicKey);

impl PublicKey {
    /// Reads the file of a public key.
    ///
    /// # Errors
    /// [`KeyError::NotAPublicKey`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let key = PublicKeyBox::from(text.to_owned()).into_public_key();
        key.map(PublicKey).map_err(|_| KeyError::NotAPublicKey)
    }

    /// The key's number.
    pub fn id(&self) -> KeyId {
        KeyId::from_bytes(self.0.keynum())
    }
}

/// A signature, as it stands in its file.
#[derive(Clone)]
pub struct Signature(SignatureBox);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", KeyId::from_bytes(self.0.keynum()))
    }
}

impl Signature {
    /// Reads the file of a signature.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`] or [`SignatureError::Legacy`].
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let lens = [1, 3].map(|line| text.lines().nth(line).map(decode).map(|it| it.len()));
        // The crate takes their lengths for granted.
        if lens != [Some(SIGNATURE_LEN_BYTES), Some(BARE_SIGNATURE_LEN_BYTES)] {
            return Err(SignatureError::Malformed);
        }
        let signature = SignatureBox::from_string(text).map_err(|_| SignatureError::Malformed)?;
        match signature.is_prehashed() {
            true => Ok(Signature(signature)),
            false => Err(SignatureError::Legacy),
        }
    }

    /// The comment that is signed, too.
    fn trusted_comment(&self) -> String {
        self.0.trusted_comment().unwrap_or_default()
    }

    fn check_key(&self, key: &PublicKey) -> Result<(), SignatureError> {
        let (expected, found) = (key.id(), KeyId::from_bytes(self.0.keynum()));
        match expected == found {
            true => Ok(()),
            false => Err(SignatureError::OtherKey { expected, found }),
        }
    }
}

/// A good signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoodSignature {
    /// The key that made it.
    pub key: KeyId,
    /// What its maker says of the bytes.
    pub trusted_comment: String,
}

/// Signs bytes as they come.
pub struct Signer(ByteFeed<Option<String>>);

impl Signer {
    /// Begins a signature with a comment that is signed, too.
    pub fn start(key: &SigningKey, trusted_comment: String) -> Self {
        let key = key.clone();
        Signer(ByteFeed::start(move |reader| {
            let comments = (Some(trusted_comment.as_str()), Some(UNTRUSTED_COMMENT));
            let signed = minisign::sign(None, &key.0, reader, comments.0, comments.1);
            signed.ok().map(SignatureBox::into_string)
        }))
    }

    /// Adds bytes.
    pub async fn push(&self, bytes: Bytes) {
        self.0.push(bytes).await;
    }

    /// The file of the signature; none where the system gives no random numbers.
    ///
    /// # Errors
    /// [`WorkerPanicked`], a fault of kindpack's own.
    pub async fn finish(self) -> Result<Option<String>, WorkerPanicked> {
        self.0.finish().await
    }
}

/// Checks a signature against bytes as they come.
pub struct SignatureCheck {
    feed: ByteFeed<bool>,
    good: GoodSignature,
}

impl SignatureCheck {
    /// Begins to check.
    ///
    /// # Errors
    /// [`SignatureError::OtherKey`], before a byte is read.
    pub fn start(key: &PublicKey, signature: Signature) -> Result<Self, SignatureError> {
        signature.check_key(key)?;
        let good = GoodSignature {
            key: key.id(),
            trusted_comment: signature.trusted_comment(),
        };
        let key = key.clone();
        let feed = ByteFeed::start(move |reader| {
            minisign::verify(&key.0, &signature.0, reader, true, false, false).is_ok()
        });
        Ok(SignatureCheck { feed, good })
    }

    /// Adds bytes.
    pub async fn push(&self, bytes: Bytes) {
        self.feed.push(bytes).await;
    }

    /// Who signed the bytes.
    ///
    /// # Errors
    /// [`SignatureError::Mismatch`] where it is no signature of them.
    pub async fn finish(self) -> Result<GoodSignature, SignatureError> {
        match self.feed.finish().await? {
            true => Ok(self.good),
            false => Err(SignatureError::Mismatch(self.good.key)),
        }
    }
}

#[cfg(test)]
mod tests;
