//! What an export is made of: log framing, metadata, entities, and how an entity looks to the
//! Datastore v1 API.
//!
//! Knows bytes and values. Must not know stores, zips, plans or clocks, and does no I/O.
//! The formats are told in `docs/formats.md`.

pub mod answer;
pub mod app_engine;
pub mod json;
pub mod limits;
pub mod log;
pub mod metadata;
pub mod pick;
pub mod proto;
pub mod redact;
mod rest;
pub mod rewrite;
pub mod scan;
#[cfg(test)]
pub(crate) mod testing;
pub mod v1;
mod wire;

pub use log::{LogError, LogFault, LogWriter, PieceEnds, Stitch};
pub use metadata::{
    ExportMetadata, KindFiles, LegacyBackup, MetadataError, NamespaceSpec, OverallMetadata,
    Pointer, shard_number,
};
pub use proto::{Entity, Id, Key, PathElement, Property, ProtoError, ProtoFault, User, Value};
pub use rewrite::{Rewrite, ToProject};
pub use scan::{PairScan, Scan, Scanned};
pub use wire::{WireError, WireFault, WireType};
