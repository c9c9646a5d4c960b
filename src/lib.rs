//! kindpack gathers the finished per-kind exports of Datastore into one checksummed zip, and
//! restores them kind by kind.
//!
//! [`pack`] finds the exports in a listing and writes them into one [`archive`]; [`verify`] reads an
//! archive to its last byte, and [`extract`] writes its entries back as objects. [`plan`] puts the
//! kinds in order for one target; [`restore`] carries the plan out step by step, with a journal,
//! into one of the [`targets`].
//!
//! `docs/architecture.md` shows all modules in their layers.

pub mod archive;
#[doc(hidden)]
pub mod cli;
pub mod datastore;
pub mod entity;
pub mod export;
pub mod extract;
pub mod google;
pub mod model;
pub mod pack;
pub mod plan;
pub mod progress;
pub mod restore;
pub mod runtime;
pub mod store;
pub mod targets;
pub mod transform;
pub mod verify;
