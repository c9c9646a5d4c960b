//! Restores by Google's own import: into the real emulator, and into a stand-in for the service
//! with its operations, quotas and lost answers.

pub mod emulator;
mod fixture;
mod service;
