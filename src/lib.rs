//! kindpack gathers the finished per-kind exports of Datastore into one checksummed zip, and
//! restores them kind by kind.
//!
//! A backup is a set of finished exports. [`set`] finds them in a listing; [`pack`] proves them and
//! seals them into one archive, piece by piece; [`archive_file`] opens an archive where it lies,
//! and [`verify`] reads it to its last byte. [`plan`] puts the set in order for one target, and
//! [`restore`] carries the plan out step by step, with a [`journal`], into a [`target`].
//!
//! A module leans on the floors below it and never hears of those above; `docs/architecture.md`
//! shows them in order.

pub mod archive;
pub mod archive_file;
pub mod archives;
pub mod buffers;
pub mod config;
pub mod emulator;
pub mod entities;
pub mod entity;
pub mod extract;
pub mod google;
pub mod gzipped;
pub mod hooks;
pub mod imports;
pub mod inspect;
pub mod journal;
pub mod journal_file;
pub mod kept_metadata;
pub mod lay;
pub mod lease;
pub mod managed;
pub mod model;
pub mod name_limits;
pub mod needed;
pub mod observe;
pub mod pack;
mod phrases;
pub mod plan;
pub mod properties;
pub mod read_ahead;
pub mod report;
pub mod restore;
pub mod set;
pub mod store;
pub mod sums;
pub mod target;
pub mod verify;
pub mod workers;
pub mod working_file;
