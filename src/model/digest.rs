//! Digests: a checksum that knows its algorithm, spelled in lower-case hex.

use std::fmt;
use std::str::FromStr;

use serde_with::{DeserializeFromStr, SerializeDisplay};

/// A SHA-256, spelled as 64 lower-case hex digits.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr,
)]
pub struct Sha256(pub [u8; 32]);

/// A CRC-32C (Castagnoli), spelled as 8 lower-case hex digits.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr,
)]
pub struct Crc32c(pub u32);

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Crc32c {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl fmt::Debug for Crc32c {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crc32c({self})")
    }
}

/// A text that is not the digest it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not {digits} lower-case hex digits")]
pub struct DigestError {
    digits: usize,
    found: String,
}

impl FromStr for Sha256 {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let wrong = || DigestError {
            digits: 64,
            found: text.chars().take(80).collect(),
        };
        let mut bytes = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64
            || !digits
                .iter()
                .all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(wrong());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Sha256(bytes))
    }
}

impl FromStr for Crc32c {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let wrong = || DigestError {
            digits: 8,
            found: text.chars().take(80).collect(),
        };
        if text.len() != 8 || !text.bytes().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong());
        }
        u32::from_str_radix(text, 16)
            .map(Crc32c)
            .map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_parse_only_what_they_print() {
        let sha = Sha256(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(sha.to_string().parse(), Ok(sha));
        assert_eq!("0000abcd".parse(), Ok(Crc32c(0xabcd)));
        for wrong in ["", "abcd", "0000ABCD", "0000abcdé", "+000abcd"] {
            assert!(wrong.parse::<Crc32c>().is_err(), "{wrong}");
        }
        assert!(sha.to_string().to_uppercase().parse::<Sha256>().is_err());
    }
}
