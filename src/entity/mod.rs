//! Entities: as exports hold them, and as they look to the Datastore v1 API.
//!
//! Knows bytes and values. Must not know stores, zips, plans or clocks, and does no I/O.
//! The formats are told in `docs/formats.md`.

pub(crate) mod api_value;
mod decode;
pub mod encode;
pub mod json;
pub mod message;
pub mod rewrite;
pub mod scan;
#[cfg(test)]
pub(crate) mod testing;
mod types;
pub(crate) mod wire;

pub use decode::{MAX_EMBEDDED_DEPTH, MAX_PARTS, ProtoError, ProtoFault};
pub use rewrite::{DestinationProject, KeyMapping};
pub use scan::{KindStats, Scan, ScanResult};
pub use types::{Entity, Id, Key, PathElement, Property, User, Value};
pub(crate) use types::{MEANING_EMPTY_LIST, MEANING_ENTITY, URI_ZLIB};
pub use wire::{WireError, WireFault, WireType};
