//! Restores: into the emulator, again, side by side, by import, and safely.

pub mod emulator;
pub mod import;
mod rerun;
mod safety;
mod scheduling;
