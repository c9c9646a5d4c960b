//! The real Datastore by commits, against a stand-in that refuses, loses and counts as the service
//! does: every branch of the way in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod datastore_server;
mod support;

mod datastore {
    mod deletes;
    mod leases;
    mod program;
    mod reads;
    mod shop;
    mod trouble;
    mod writes;
}
