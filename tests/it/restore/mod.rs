//! Restores: into the emulator, again, side by side, by import, and safely.

mod emulator;
mod import;
mod rerun;
mod safety;
mod scheduling;
