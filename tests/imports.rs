//! Restores by Google's own import: into the real emulator, and into a stand-in for the service
//! with its operations, quotas and lost answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod gcs_server;
mod support;

#[path = "datastore_server/operations.rs"]
mod operations;

mod imports {
    mod bench;
    mod emulator;
    mod service;
}
