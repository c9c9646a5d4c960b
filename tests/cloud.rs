//! Cloud Storage from outside: the program packs from and to buckets, reads archives where they lie, and comes over what networks do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may fail loudly")]

mod gcs_server;
mod support;

mod cloud {
    mod faults;
    mod kills;
    mod shop;
}
