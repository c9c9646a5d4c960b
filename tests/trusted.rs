//! Restores that can be trusted, seen from outside: killed at any moment, pointed at the wrong
//! target, redacted, rehearsed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

mod trusted {
    mod gate;
    mod kills;
    mod redacted;
    mod rehearsal;
    mod wrong_target;
}
