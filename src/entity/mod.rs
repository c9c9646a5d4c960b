//! Entities: as exports hold them, and as they look to the Datastore v1 API.
//!
//! Knows bytes and values. Must not know stores, zips, plans or clocks, and does no I/O.
//! The formats are told in `docs/formats.md`.

pub(crate) mod api_value;
pub mod json;
pub mod message;
pub mod proto;
pub mod rewrite;
pub mod scan;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod wire;

pub use proto::{Entity, Id, Key, PathElement, Property, ProtoError, ProtoFault, User, Value};
pub use rewrite::{Rewrite, ToProject};
pub use scan::{PairScan, Scan, Scanned};
pub use wire::{WireError, WireFault, WireType};
