//! What becomes of an entity between an archive and a target: sampled, redacted, encoded.

mod encoder;
pub mod redact;
pub mod sample;

pub use encoder::{Encoded, Encoder, Encoding, key_hash};
