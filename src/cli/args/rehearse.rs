//! `kindpack rehearse`.

use std::num::NonZeroU8;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{ArchiveArg, values};
use crate::datastore::emulator_product::EmulatorProduct;

/// The private emulator of a command.
#[derive(Debug, Args)]
pub struct EmulatorArg {
    /// Start this emulator; without it the Firestore emulator if it is installed, else the
    /// Datastore emulator
    #[arg(long, value_name = "EMULATOR", value_parser = values::emulator())]
    pub emulator: Option<EmulatorProduct>,
}

#[derive(Debug, Args)]
pub struct RehearseArgs {
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// Restore up to N kinds in parallel when they do not depend on each other
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true)]
    pub parallel: NonZeroU8,
    #[command(flatten)]
    pub emulator: EmulatorArg,
    /// Write a report to FILE: HTML or JUnit XML if it ends in .html or .xml, else JSON (repeatable)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub report: Vec<PathBuf>,
}
