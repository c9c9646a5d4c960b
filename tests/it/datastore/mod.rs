//! The real Datastore by commits, against a stand-in that refuses, loses and counts as the service
//! does: every branch of the way in.

mod admin_fidelity;
mod deletes;
mod exports;
pub mod fixture;
mod kinds;
mod leases;
mod program;
mod reads;
mod server_fidelity;
mod trouble;
mod writes;
