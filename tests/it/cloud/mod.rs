//! Cloud Storage from outside: the program packs from and to buckets, reads archives where they
//! lie, and comes over what networks do.

mod bad_input;
mod faults;
pub mod fixture;
mod golden;
mod kills;
mod limits;
mod names;
mod reading;
mod rights;
mod secrets;
mod selecting;
mod server_fidelity;
mod test_bench;
mod waiting;
