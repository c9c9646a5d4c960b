//! Cloud Storage from outside: the program packs from and to buckets, reads archives where they
//! lie, and comes over what networks do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod gcs_server;
mod support;

mod cloud {
    mod bad_input;
    mod canary;
    mod faults;
    mod golden;
    mod kills;
    mod limits;
    mod names;
    mod reading;
    mod rights;
    mod selecting;
    mod shop;
    mod waiting;
}
