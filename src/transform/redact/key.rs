//! The secret that hashes and made-up values depend on.
//!
//! Knows HMAC-SHA-256. Shows the secret to nobody, not even when it is printed.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// The block of SHA-256, to which HMAC brings every key.
const BLOCK_LEN: usize = 64;

/// What the name of a key is made of.
const ID_TEXT: &[u8] = b"kindpack redaction key";

/// A secret of fewer bytes can be found by trying.
const SECRET_MIN_LEN: usize = 16;

/// Ids have 62 bits: positive, and none of the service's own limits is near.
const ID_BITS: u32 = 62;

/// A key for hashes, made of the user's secret.
#[derive(Clone)]
pub struct RedactKey {
    mac: Hmac<Sha256>,
    is_short: bool,
}

impl RedactKey {
    /// The key of a secret. Whoever calls sees to it that there is one: an empty secret hides
    /// nothing.
    pub fn from_secret(secret: &[u8]) -> Self {
        let mut block = [0; BLOCK_LEN];
        let digest;
        let key = if secret.len() > BLOCK_LEN {
            digest = Sha256::digest(secret);
            digest.as_slice()
        } else {
            secret
        };
        block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        RedactKey {
            mac: Hmac::new(&block.into()),
            is_short: secret.len() < SECRET_MIN_LEN,
        }
    }

    /// Whether the secret is so short that somebody who guesses values can find it too.
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// 16 hex digits that tell keys apart and do not tell the key.
    pub fn id(&self) -> String {
        hex(self.mac(ID_TEXT).split_at(8).0)
    }

    /// HMAC-SHA-256 of a value.
    pub(super) fn mac(&self, value: &[u8]) -> [u8; 32] {
        self.mac
            .clone()
            .chain_update(value)
            .finalize()
            .into_bytes()
            .into()
    }

    /// What a text or a blob becomes: 32 hex digits.
    pub(super) fn text(&self, value: &[u8]) -> String {
        hex(self.mac(value).split_at(16).0)
    }

    /// What an integer becomes, an id as well: a positive integer, from the hash of its decimal
    /// digits.
    pub(super) fn integer(&self, value: i64) -> i64 {
        let mac = self.mac(value.to_string().as_bytes());
        let first = mac.first_chunk().expect("32 bytes begin with 8");
        let bits = u64::from_be_bytes(*first);
        // Datastore has no id 0.
        (bits >> (u64::BITS - ID_BITS)).max(1).cast_signed()
    }
}

impl fmt::Debug for RedactKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedactKey").finish_non_exhaustive()
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_that_any_other_tool_makes() {
        // RFC 4231, cases 1, 2 and 6.
        let cases: [(&[u8], &[u8], &str); 3] = [
            (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b"),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c7",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f",
            ),
        ];
        for (secret, value, expected) in cases {
            assert_eq!(RedactKey::from_secret(secret).text(value), expected);
        }
    }

    #[test]
    fn integers_hash_to_positive_integers() {
        let key = RedactKey::from_secret(b"a secret of a test");
        for integer in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert!((1..1 << ID_BITS).contains(&key.integer(integer)));
        }
        assert_ne!(key.integer(1), key.integer(2));
        assert_ne!(key.id(), RedactKey::from_secret(b"another").id());
        assert_eq!(key.id().len(), 16);
        assert!(!format!("{key:?}").contains("secret"));
        assert_eq!(
            [15, 16].map(|len| RedactKey::from_secret(&vec![b'x'; len]).is_short()),
            [true, false]
        );
    }
}
