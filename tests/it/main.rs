//! The program from outside, a module for each command or subject. One crate, so that it links
//! once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod backup;
mod bit_by_bit;
mod cloud;
mod companions;
mod config;
mod datastore;
mod demo;
mod deploy;
mod disks;
mod docs;
mod encryption;
mod environment;
mod faults;
mod files_written;
mod firestore_emulator;
mod fuzz_corpus;
mod golden_path;
mod interrupted;
mod layers;
mod missing_kinds;
mod mistakes;
mod notify;
mod old_archives;
mod pack;
mod plan;
mod prune;
mod redaction;
mod rejects;
mod report;
mod restore;
mod schemas;
mod shell;
mod signatures;
mod snapshots;
mod support;
mod zip;
